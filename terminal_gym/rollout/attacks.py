"""Attacks as data: what is typed instead of solving, on which tasks, and what must come of it.

    <suite>/*.yaml         one file a family, a list of attacks
    <suite>/payloads/      shell text that several attacks bring along
    <suite>/targets/       the small tasks that are attacked, one folder each

An attack has `id`, `row` (of the acceptance table; X: beyond it), `mechanism` (one line), `script` (run as one command)
or `typed` (entries as in a script file, see `agents/scripted.py`), and optionally

    brings    payloads, run first
    targets   names of targets; default: files and service
    control   the modes in which an honest solution, attacked, must still be paid; true: all, false: none; default:
              restart and live, for with artifacts nothing crosses that the attack left elsewhere
    open      mode → kinds of integrity flags: there it may be paid, if the verdict carries one of them
    generic   true: it knows nothing of the task, and is played on users' tasks too
    fast      true: played in every run of the tests

In scripts @SOLVE@ stands for the target's own solution, @ARTIFACTS@ for the paths it is judged by, quoted.
A script that ends with status 77 says that the machine cannot carry the attack out.
"""

from __future__ import annotations

import functools
import pkgutil
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path

from terminal_gym.agents.scripted import action_of
from terminal_gym.errors import UnknownName
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.marked_yaml import Block, read_mappings, read_text
from terminal_gym.tasks.task import MODES, Mode, Task
from terminal_gym.trajectory.record import Action

GROUP = "terminal_gym.attacks"  # entry points: name → "module:folder"
IMPOSSIBLE = 77  # exit status of a script that finds it cannot be carried out, as in Automake's tests
SCRIPT_S = 20.0  # wall-clock seconds that a script is given
_KEYS = (
    *("id", "row", "mechanism", "script", "typed", "brings"),
    *("targets", "control", "open", "generic", "fast"),
)
_LONG = "x" * 10_000


@dataclass(frozen=True)
class Attack:
    """One way to be paid for nothing."""

    id: str
    row: str  # of the acceptance table, such as "C7"; "X": beyond it
    mechanism: str
    family: str
    moves: tuple[Action, ...]  # with the placeholders still in them
    on: tuple[str, ...]
    control: tuple[Mode, ...]  # where honest work, attacked, must still be paid
    open: Mapping[Mode, tuple[str, ...]]  # where it may be paid, and which flags must then be there
    generic: bool = False
    fast: bool = False

    @property
    def needs_solution(self) -> bool:
        return any("@SOLVE@" in (move.command or "") for move in self.moves)

    def moves_on(self, task: Task) -> tuple[Action, ...]:
        """Return what is typed on `task`."""
        return tuple(_filled(move, task) for move in self.moves)


NOTHING = Attack("nothing", "-", "nothing is done", "controls", (), (), MODES, {}, generic=True, fast=True)


@dataclass(frozen=True)
class Case:
    """One episode: an attack on a target, in a mode, alone or (control) after honest work."""

    attack: Attack
    target: str
    task: Task
    control: bool

    @property
    def mode(self) -> Mode:
        return self.task.validator.mode


@dataclass(frozen=True)
class Suite:
    """A folder of attacks and the tasks that they attack."""

    folder: Path
    attacks: tuple[Attack, ...]
    targets: Mapping[str, Task]

    def cases(self, *, fast: bool = False, ids: Sequence[str] = ()) -> list[Case]:
        """Return every episode of the suite, cheats and controls.

        Args:
            fast: Only the slice for every run of the tests.
            ids: Only attacks with these ids or rows, or of these families.

        Raises:
            UnknownName: No attack has such an id, row or family.
        """
        _check_ids(self.attacks, ids)
        return [
            case
            for attack in (NOTHING, *self.attacks)
            if (attack.fast or not fast) and (not ids or {attack.id, attack.row, attack.family} & set(ids))
            for case in self._of(attack, fast=fast)
        ]

    def _of(self, attack: Attack, *, fast: bool) -> Iterator[Case]:
        """Fast: one target, and there the mode in which an attack has most to work with."""
        names = attack.on or tuple(self.targets)
        for name in names[:1] if fast else names:
            own = self.targets[name].validator
            modes: tuple[Mode, ...] = ("live",) if own.mode == "live" else ("artifacts", "restart")
            for mode in modes[-1:] if fast else modes:
                task = replace(self.targets[name], validator=replace(own, mode=mode))
                yield Case(attack, name, task, control=False)
                if mode in attack.control:
                    yield Case(attack, name, task, control=True)


def generic_cases(task: Task, attacks: Sequence[Attack], *, ids: Sequence[str] = ()) -> list[Case]:
    """Return the episodes that need no knowledge of `task`: attacks alone, and its solution where it has one."""
    _check_ids(attacks, ids)
    solved = solution_of(task) is not None
    chosen = [
        attack
        for attack in attacks
        if attack.generic
        and (solved or not attack.needs_solution)
        and (not ids or {attack.id, attack.row, attack.family} & set(ids))
    ]
    honest = [Case(NOTHING, str(task.ref), task, control=True)] if task.has_solution else []
    return [
        Case(NOTHING, str(task.ref), task, control=False),
        *honest,
        *(Case(attack, str(task.ref), task, control=False) for attack in chosen),
    ]


def installed_suite() -> Suite:
    """Return the suite that came with an installed package.

    Raises:
        UnknownName: No package brings one.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if not points:
        raise UnknownName("suite of attacks", GROUP, known=(), advice="Reinstall the package.")
    return read_suite(Path(pkgutil.resolve_name(points[0].value)))


@functools.cache
def read_suite(folder: Path) -> Suite:
    """Return the suite in `folder`.

    Raises:
        BadTaskFormat: A file of it cannot be read, or an attack names what is not there; names file and line.
    """
    targets = {
        path.name: find_task(path, namespace="attacks")
        for path in sorted((folder / "targets").iterdir())
        if (path / "task.yaml").is_file()
    }
    attacks = tuple(
        _attack(entry, folder, targets)
        for path in sorted(folder.glob("*.yaml"))
        for entry in read_mappings(path)
    )
    return Suite(folder, attacks, targets)


def solution_of(task: Task) -> str | None:
    """Return the task's solution as shell text, None where it has none or is one of keystrokes."""
    return task.solution.script if task.solution is not None else None


def judged_paths(task: Task) -> tuple[str, ...]:
    """Return the paths that a task is judged by: its artifacts, else the absolute ones that its instruction names."""
    named = re.findall(r"(?<![\w.~/])/(?:[\w.-]+/)+[\w.-]*\w", task.instruction)
    return task.validator.artifacts or tuple(dict.fromkeys(named))


def _filled(move: Action, task: Task) -> Action:
    paths = " ".join(map(shlex.quote, judged_paths(task)))
    text = (move.command or "").replace("@SOLVE@", (solution_of(task) or "exit 77").rstrip("\n"))
    return replace(move, command=text.replace("@ARTIFACTS@", paths) or None)


def _check_ids(attacks: Sequence[Attack], ids: Sequence[str]) -> None:
    known = {name for attack in (NOTHING, *attacks) for name in (attack.id, attack.row, attack.family)}
    for name in ids:
        if name not in known:
            raise UnknownName("attack", name, known=sorted(known))


def _attack(entry: Block, folder: Path, targets: Mapping[str, Task]) -> Attack:
    entry.refuse_unknown(_KEYS)
    if ("script" in entry.values) == ("typed" in entry.values):
        raise entry.wrong("script", "not exactly one of script and typed", "Write one of them.")
    on = entry.texts("targets") or ("files", "service")
    for name in on:
        if name not in targets:
            raise entry.wrong("targets", f"no target is named {name!r}", f"Known: {', '.join(targets)}.")
    brought = [read_text(folder / "payloads" / name) for name in entry.texts("brings")]
    scripts = [*brought, *([entry.text("script")] if "script" in entry.values else [])]
    return Attack(
        entry.text("id"),
        entry.text("row"),
        entry.text("mechanism"),
        entry.path.stem,
        (*(Action(command=script, wait_s=SCRIPT_S) for script in scripts), *_typed(entry)),
        on,
        _control(entry),
        _open(entry),
        entry.flag("generic", False),
        entry.flag("fast", False),
    )


def _typed(entry: Block) -> Iterator[Action]:
    values = entry.values.get("typed", [])
    if not isinstance(values, list):
        raise entry.wrong("typed", "'typed' is not a list", "Write [one, two].")
    for value in values:
        if isinstance(value, str):
            yield Action(keys=(value.replace("@LONG@", _LONG).encode(),), wait_s=2.0)
        elif isinstance(value, dict):
            action = action_of(replace(entry, values=value, prefix=f"{entry.prefix}typed."))
            yield replace(action, keys=tuple(keys.replace(b"@LONG@", _LONG.encode()) for keys in action.keys))
        else:
            raise entry.wrong("typed", f"{value!r} cannot be typed", "Write text or a mapping.")


def _control(entry: Block) -> tuple[Mode, ...]:
    if "control" not in entry.values:
        return ("restart", "live")
    value = entry.values["control"]
    if isinstance(value, bool):
        return MODES if value else ()
    return tuple(_mode(entry, "control", name) for name in entry.texts("control"))


def _open(entry: Block) -> dict[Mode, tuple[str, ...]]:
    block = entry.block("open")
    if block is None:
        return {}
    return {_mode(entry, "open", name): block.texts(name) for name in block.values}


def _mode(entry: Block, key: str, name: str) -> Mode:
    if name not in MODES:
        raise entry.wrong(key, f"{name!r} is no mode", f"Known: {', '.join(MODES)}.")
    return name
