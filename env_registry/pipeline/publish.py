"""Accepted instances → a catalogue folder that is also a data set: task folders, indexes, Parquet, manifest, funnel.

OUT/tasks/<id>/          task folders
OUT/index.jsonl          and index.sqlite: so that the folder is a catalogue
OUT/manifest.jsonl       every task, pinned to its repository's image where that is its own
OUT/instances.parquet    one row an instance, for `datasets.load_dataset(OUT)`
OUT/images.jsonl         one row an image: its repository, the archive it was made of, the Dockerfile that makes it
OUT/funnel.json          how many came and went at each stage
OUT/README.md            the card, which names the Parquet file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from env_registry.difficulty import measured, solved
from env_registry.pipeline.run import funnel
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Row, Table
from env_registry.pipeline.swap import swapped
from env_registry.store import write_big_index
from terminal_gym.errors import BadSetting, StoreError
from terminal_gym.tasks.catalogue import read_folder

_CARD = """---
configs:
- config_name: default
  data_files: instances.parquet
---

# {count} instances from {repositories} repositories

Made by `tgym pipeline`. Each row of `instances.parquet` is a task folder in `tasks/`; `images.jsonl` holds, for each
repository, its licence and the Dockerfile that makes its image. Splits are by repository.
"""


def publish(settings: Settings, out: Path, *, grounded: bool = False, runs: Sequence[Path] = ()) -> int:
    """Write what was accepted into a new folder; returns the number of instances.

    Args:
        grounded: Leave out the instances of families that would be solved over another repository as well, and those
            of which the swap says that they were, or that they did not pass on their own image.
        runs: Run folders in which agents played these instances: their solve rates tell the difficulty.

    Raises:
        BadSetting: The folder is not empty, nothing was accepted, or a run folder is none.
        StoreError: It cannot be written.
    """
    if out.exists() and any(out.iterdir()):
        raise BadSetting(f"{out} is not empty. Name a new folder.")
    sources = {row.key: row for row in Table(settings.work, "collect").kept}
    licences = {key: str(row.cells["licence"]) for key, row in sources.items()}
    every = Table(settings.work, "accept").kept
    accepted = _grounded(settings.work, every) if grounded else every
    if not accepted:
        raise BadSetting(f"{settings.work} holds no accepted instance. Run the pipeline first.")
    played = solved(runs)
    try:
        rows = [measured(_published(settings, row, licences, out), played) for row in accepted]
        _lines(out / "index.jsonl", rows)
        write_big_index(out, rows)
        _lines(out / "manifest.jsonl", (_pinned(out, row, settings) for row in rows))
        _lines(out / "images.jsonl", _images(settings, sources, {str(row["repository"]) for row in rows}))
        (out / "funnel.json").write_text(json.dumps(funnel(settings), indent=1) + "\n", "utf-8")
        repositories = len({row["repository"] for row in rows})
        (out / "README.md").write_text(_CARD.format(count=len(rows), repositories=repositories), "utf-8")
        _parquet(out, rows)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}.") from error
    return len(rows)


def _grounded(work: Path, every: Sequence[Row]) -> list[Row]:
    not_its_own = {one.key for one in swapped(work) if one.elsewhere or (one.tried and not one.own)}
    return [row for row in every if row.cells["grounded"] and row.key not in not_its_own]


def _published(settings: Settings, row: Row, licences: Mapping[str, str], out: Path) -> dict[str, Any]:
    folder = out / "tasks" / row.key
    shutil.copytree(settings.work / str(row.cells["path"]), folder)
    task = read_folder(folder)
    return {
        "id": row.key,
        "path": f"tasks/{row.key}",
        "domain": task.metadata.get("domain", ""),
        "difficulty": task.metadata.get("difficulty", "unknown"),
        "mode": task.validator.mode,
        "hash": task.content_hash(),
        "licence": _licence(
            licences[str(row.cells["repository"])], str(row.cells.get("context_licence", ""))
        ),
        "context": row.cells.get("context"),
        "valid": "reference" if task.solution is not None else "weak",
        **{
            name: row.cells[name]
            for name in ("repository", "language", "family", "split", "image", "digest", "score")
        },
    }


def _licence(repository: str, context: str) -> str:
    """Of all that is in an instance's image."""
    return repository if context in ("", repository) else f"{repository} AND {context}"


def _pinned(out: Path, row: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A line of the manifest. Where files are laid over the image, the task has one of its own, made by its recipe.

    An image that may be dropped and made again is not pinned: it then has another digest.
    """
    if settings.build.images_mb or (out / str(row["path"]) / "files").exists():
        return {"path": row["path"]}
    return {"path": row["path"], "image": row["digest"]}


def _images(settings: Settings, sources: Mapping[str, Row], wanted: set[str]) -> Iterable[dict[str, Any]]:
    for row in Table(settings.work, "build").kept:
        if row.key in wanted:
            cells = {
                name: row.cells[name]
                for name in ("image", "digest", "bytes", "system", "language", "dockerfile")
            }
            told = sources[row.key].cells
            source = {name: told[name] for name in ("licence", "version", "archive_sha256")}
            yield {"repository": row.key, **source, **cells}


def _lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _parquet(out: Path, rows: list[dict[str, Any]]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadSetting("A data set needs pyarrow: pip install 'terminal-gym[data]'.") from error
    told = [
        {
            **row,
            "instruction": (task := read_folder(out / str(row["path"]))).instruction,
            "tests": (task.validator.tests / "test_outputs.py").read_text("utf-8"),
            "solution": task.solution.script if task.solution is not None else None,
        }
        for row in rows
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(told), out / "instances.parquet")
