"""The builds that a pipeline tried, as its tables tell them: features of each repository, and whether it built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.chain import read_lines

_NO_LABEL = ("network", "no-build-system")
Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True)
class Attempts:
    """Repositories that were tried."""

    names: tuple[str, ...]
    built: Array  # (repositories,) bool
    features: tuple[Array, ...]  # of each, (files, features)
    paths: tuple[tuple[str, ...], ...]  # of each, relative to its folder
    folders: tuple[Path, ...]


def read_attempts(work: Path) -> Attempts:
    """Return the repositories that were scored and whose build was tried: not those without a build system, and not
    those that the network failed.

    Raises:
        BadSetting: There are fewer than ten of either outcome.
        ForgedRecord: A table is not what was written.
    """
    tries = [row for row in read_lines(work / "build.jsonl").rows if row["reason"] not in _NO_LABEL]
    labels = {row["key"]: bool(row["kept"]) for row in tries}
    rows = [
        row for row in read_lines(work / "score.jsonl").rows if row["key"] in labels and row.get("features")
    ]
    built = numpy.array([labels[row["key"]] for row in rows], dtype=bool)
    if min(int(built.sum()), int((~built).sum())) < 10:
        found = f"{int(built.sum())} that built and {int((~built).sum())} that did not"
        raise BadSetting(f"{work} holds {found}; ten of each are needed. Try more repositories.")
    return Attempts(
        tuple(row["key"] for row in rows),
        built,
        tuple(numpy.array(row["features"], dtype=float) for row in rows),
        tuple(tuple(row["paths"]) for row in rows),
        tuple(work / row["folder"] for row in rows),
    )
