"""Catalogue rows → gymnasium ids `TerminalTraj/<id>`, and `TerminalTraj/Any` for one environment over many tasks.

Specs are put into gymnasium's registry directly: `gymnasium.register` compares each id with all others, which takes
90 s for 32,000 of them. Every spec is strings only, so it survives `EnvSpec.to_json` and names nothing that is
imported before `gymnasium.make`.

Source: gymnasium 1.4, `envs/registration.py`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from gymnasium.envs.registration import EnvSpec, registry

from terminal_gym.errors import BadSetting, TerminalGymError, UnknownName
from terminal_gym.tasks.catalogue import NAMESPACE, find_row, installed, is_task_folder, open_catalogue
from terminal_gym.tasks.task import NAME

EAGER_ROWS = 50_000  # a larger catalogue registers an id when `register` asks for it
ANY = f"{NAMESPACE}/Any"


def register(path_or_id: str | Path, namespace: str = NAMESPACE) -> list[str]:
    """Make tasks known to `gymnasium.make`; returns their ids.

    Args:
        path_or_id: A task folder of any known format, a catalogue (a folder with an index.jsonl, a folder of task
            folders, or a tarball of one), or the id of an installed task whose catalogue is too large to be
            registered at import.
        namespace: What stands before the `/` in the ids of tasks given by path.

    Raises:
        UnknownName: It is neither a folder nor a known id.
        BadSetting: One of the ids stands for another task already.
        BadTaskFormat: The catalogue's index cannot be read.
    """
    found = None if isinstance(path_or_id, Path) else find_row(path_or_id)
    if found is not None:
        return [_insert(str(found[1].ref), str(found[1].ref))]
    folder = Path(path_or_id).expanduser().absolute()
    if is_task_folder(folder):
        folder = folder if NAME.fullmatch(folder.name) else folder.resolve()
        return [_insert(f"{namespace}/{folder.name}", str(folder))]
    if folder.exists() and (large := open_catalogue(folder, namespace=namespace)).is_longer_than(EAGER_ROWS):
        one = folder / next(iter(large.rows.values())).path
        raise BadSetting(
            f"{folder} holds more than {EAGER_ROWS} tasks. Register the folder of one, such as {one}."
        )
    if folder.exists() and (rows := (catalogue := open_catalogue(folder, namespace=namespace)).rows):
        return [_insert(id, f"{catalogue.folder}/{row.path}") for id, row in rows.items()]
    known = [id for catalogue in installed() for id in catalogue.near(str(path_or_id))]
    raise UnknownName("task, task folder or catalogue", str(path_or_id), known=known)


def register_installed() -> None:
    """Register the installed catalogues that are not too large; a broken one is a warning, not an error."""
    registry.setdefault(ANY, _spec(ANY, {}))
    for catalogue in installed():
        try:
            rows = {} if catalogue.is_longer_than(EAGER_ROWS) else catalogue.rows
        except (TerminalGymError, OSError) as error:
            warnings.warn(f"A task catalogue is left out: {error}", RuntimeWarning, stacklevel=2)
        else:
            registry.update({id: _spec(id, {"task": id}) for id in rows if id not in registry})


def _insert(id: str, task: str) -> str:
    kwargs: dict[str, object] = {"task": task}
    if task != id and (namespace := id.rpartition("/")[0]) != NAMESPACE:
        kwargs["namespace"] = namespace
    spec = _spec(id, kwargs)
    known = registry.setdefault(id, spec)
    if known.kwargs != spec.kwargs:
        found = f"{id} already stands for {known.kwargs.get('task', 'any task')!r}, not {task!r}."
        raise BadSetting(f"{found} Give `register` another namespace.")
    return id


def _spec(id: str, kwargs: dict[str, object]) -> EnvSpec:
    return EnvSpec(
        id,
        entry_point="terminal_gym.env:TerminalEnv",
        vector_entry_point="terminal_gym.vector_env:ThreadVectorEnv",
        kwargs=kwargs,
        nondeterministic=True,  # a real machine: two episodes differ in times and process ids
        order_enforce=False,  # TerminalEnv raises EpisodeNotRunning itself
        disable_env_checker=True,  # it warns of a NaN reward, which is how a broken episode is told from a failed
    )
