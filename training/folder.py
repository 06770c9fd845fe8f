"""The folder that a training leaves: free or gone on with, and one training's at a time.

OUT/settings.yaml   what was asked for, of all kinds of training
OUT/lock            held while a training writes there
OUT/checkpoints/    of the trainer, to be resumed from
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from terminal_gym.errors import BadSetting, StoreError
from terminal_gym.trajectory.store import locked

SETTINGS = "settings.yaml"


def check_folder(out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Raise BadSetting where the folder is in the way; or has other settings; or holds nothing to go on with."""
    file = out / SETTINGS
    if not resume:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise BadSetting(f"{out} exists. Go on with it (--resume), or name a new folder.")
        above = next(path for path in out.absolute().parents if path.exists())
        if not above.is_dir():
            raise BadSetting(f"{out} cannot be made: {above} is no folder. Name another.")
        return
    if not file.is_file():
        raise BadSetting(f"{out} holds no training to go on with: {file} is missing.")
    before = yaml.safe_load(file.read_text("utf-8"))
    if not isinstance(before, dict):
        raise BadSetting(f"{out} holds no training to go on with: {file} is not whole. Remove the folder.")
    if changed := [key for key in settings if before.get(key) != _as_stored(settings[key])]:
        raise BadSetting(
            f"{out} was begun with another {changed[0]}: {before.get(changed[0])!r}. Restore it."
        )


def begin(out: Path, settings: dict[str, Any], *, resume: bool) -> Path | None:
    """Make the folder, or find the checkpoint to go on from. One process does, of those that train together.

    Raises:
        BadSetting: As `check_folder`, in all of them.
        StoreError: The folder cannot be made.
    """
    import torch.distributed

    check_folder(out, settings, resume=resume)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # none makes the folder before all have looked
    if resume:
        return last_checkpoint(out / "checkpoints")
    if is_first_process():
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / SETTINGS).write_text(yaml.safe_dump(_as_stored(settings), sort_keys=False), "utf-8")
        except OSError as error:
            raise StoreError(f"{out} cannot be made: {error.strerror or error}.") from error
    return None


def is_first_process() -> bool:
    """Say whether this is the process that speaks for all that train together."""
    return os.environ.get("RANK", "0") == "0"


def held(out: Path) -> AbstractContextManager[None]:
    """Keep others from writing in the folder meanwhile: after a killed launcher its processes may still go on.

    Raises:
        RunBusy: Another writes there.
    """
    return locked(out) if is_first_process() else contextlib.nullcontext()


@contextlib.contextmanager
def gone_unless_begun(out: Path, *, resume: bool) -> Iterator[None]:
    """Remove the folder of a training whose trainer cannot be made: it would be in the way of the next try.

    Raises:
        BadSetting: The model or the trainer does not accept what the settings say.
    """
    try:
        yield
    except BaseException as error:
        if not resume and is_first_process():
            shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, OSError | ValueError | ImportError):
            raise BadSetting(f"The trainer cannot be made: {error}") from error
        raise


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


def last_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that was written to its end, None where there is none: then it begins anew."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
