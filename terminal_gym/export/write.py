"""A data set on the disk: one file of rows, or one file an attempt, and its card. It appears whole, or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terminal_gym.errors import BadSetting, StoreError, UnknownName
from terminal_gym.export import released, rows
from terminal_gym.export.atif import as_atif
from terminal_gym.export.harbor_job import write_job
from terminal_gym.export.select import Chosen, Gate, choose
from terminal_gym.trajectory import asciicast
from terminal_gym.trajectory.metrics import funnel, tally
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import Run

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Callable[[Iterable[Trajectory]], Iterator[rows.Row]]
_GROUP_BYTES = 32 << 20  # of rows that are held before they are written, roughly


def _each(of_one: Callable[[Trajectory], Iterator[rows.Row]]) -> Rows:
    return lambda attempts: (row for played in attempts for row in of_one(played))


TABLES: dict[str, Rows] = {
    "messages": _each(rows.chats),
    "tokens": _each(rows.tokens),
    "preference": rows.preferences,
    "terminus-2": _each(released.to_rows),
    "trajectories": _each(rows.whole),
}
FILES = {"atif": ".json", "asciicast": ".cast"}
FOLDERS = ("harbor",)  # a tree of files: a job folder
FORMATS = (*TABLES, *FILES, *FOLDERS)


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    attempts: int
    rows: int
    dropped: dict[str, int]  # why attempts did not enter → how many


def export(run: Run, folder: Path, *, form: str, gate: Gate | None = None, lines: bool = False) -> Exported:
    """Write the attempts that pass the gate into a new folder, with a card; memory does not grow with the run.

    Args:
        run: What to export.
        folder: A new one.
        form: One of FORMATS.
        gate: What enters; None: what passed.
        lines: JSON lines instead of Parquet.

    Raises:
        UnknownName: There is no such format.
        BadSetting: The folder exists, or the attempts do not hold what the format needs. Nothing was left behind.
        StoreError: It cannot be written. Nothing was left behind.
    """
    if form not in FORMATS:
        raise UnknownName("export format", form, known=FORMATS)
    if folder.exists():
        raise BadSetting(f"{folder} exists. Name a new folder.")
    gate = gate or _gate_of(form)
    chosen = choose(run.standing.values(), gate)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        count = _write(run, chosen, draft, form, lines=lines)
        (draft / "README.md").write_text(_card(run, chosen, gate, form, count), "utf-8")
        draft.replace(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Exported(folder, len(chosen.rows), count, chosen.dropped)


def _gate_of(form: str) -> Gate:
    if form in FOLDERS:
        return Gate(statuses=("passed", "failed", "broken"))  # a result is of all attempts
    return Gate(statuses=("passed", "failed")) if form == "preference" else Gate()


def _write(run: Run, chosen: Chosen, draft: Path, form: str, *, lines: bool) -> int:
    attempts = run.read_all(chosen.rows)
    if form == "harbor":
        return write_job(run.settings, attempts, draft, name=run.folder.resolve().name)
    if form in FILES:
        return sum(_write_one(draft, played, form) for played in attempts)
    if not chosen.rows:
        raise BadSetting(f"Nothing of {run.folder} passes the gate: {chosen.dropped or 'it is empty'}.")
    made = TABLES[form](attempts)
    count = (
        _write_lines(draft / "train.jsonl", made) if lines else _write_parquet(draft / "train.parquet", made)
    )
    if not count:
        found = f"{len(chosen.rows)} attempts of {run.folder} passed the gate"
        raise BadSetting(f"{found}, and `{form}` holds no row of them.")
    return count


def _write_one(draft: Path, played: Trajectory, form: str) -> int:
    name = re.sub(r"[^a-zA-Z0-9_.-]", "-", f"{played.task}-{played.attempt}")
    path = draft / f"{name}{FILES[form]}"
    if form == "atif":
        path.write_text(
            json.dumps(as_atif(played), ensure_ascii=True, indent=1, allow_nan=False) + "\n", "utf-8"
        )
    else:
        asciicast.write(path, played.frames, rows=played.rows, cols=played.cols, title=played.task)
    return 1


def _write_lines(path: Path, made: Iterator[rows.Row]) -> int:
    count = 0
    with path.open("w", encoding="ascii") as file:
        for row in made:
            file.write(rows.as_line(row) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, made: Iterator[rows.Row]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        advice = "pip install 'terminal-gym[data]', or export JSON lines."
        raise BadSetting(f"Parquet needs the package pyarrow. {advice}") from error
    writer: pq.ParquetWriter | None = None
    count = 0
    try:
        for group in _groups(made):
            table = pa.Table.from_pylist(
                list(map(_sound, group)), schema=writer.schema if writer else _schema(group)
            )
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            count += len(group)
    finally:
        if writer is not None:
            writer.close()
    return count


def _groups(made: Iterator[rows.Row]) -> Iterator[list[rows.Row]]:
    group: list[rows.Row] = []
    size = 0
    for row in made:
        group.append(row)
        size += _bytes(row)
        if size > _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_bytes, value.values())) + 64
    if isinstance(value, list):
        return 8 * len(value) + (sum(map(_bytes, value)) if value and isinstance(value[0], str | dict) else 0)
    return 8


def _sound(row: Any) -> Any:
    """Return `row` with lone surrogates replaced: Arrow's text is UTF-8."""
    if isinstance(row, str):
        return row if row.isascii() else row.encode("utf-8", "replace").decode("utf-8")
    if isinstance(row, dict):
        return {key: _sound(value) for key, value in row.items()}
    if isinstance(row, list) and row and not isinstance(row[0], int | float):
        return list(map(_sound, row))
    return row


def _schema(group: list[rows.Row]) -> pa.Schema:
    """Return one schema for all groups: what is empty in the first may be filled in a later one."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    call = pa.struct({"type": text, "id": text, "function": pa.struct({"name": text, "arguments": text})})
    message = {"role": text, "content": text}
    if any("tool_calls" in chat for row in group for chat in row.get("messages") or row.get("chosen") or ()):
        message |= {"tool_calls": pa.list_(call), "tool_call_id": text}
    chats = pa.list_(pa.struct(message))
    action = {"typed": text, "submit": pa.bool_(), "output": text, "exit_code": pa.int64()}
    action |= {"began_s": number, "ended_s": number}
    known: dict[str, pa.DataType] = {
        **dict.fromkeys(("messages", "prompt", "chosen", "rejected"), chats),
        **dict.fromkeys(("input_ids", "labels"), pa.list_(pa.int32())),
        **dict.fromkeys(("attempt", "steps", "seed", "prompt_tokens", "completion_tokens"), pa.int64()),
        **dict.fromkeys(("reward", "seconds"), number),
        "logprobs": pa.list_(pa.float32()),
        "actions": pa.list_(pa.struct(action)),
        "checks": pa.list_(pa.struct({"id": text, "outcome": text})),
        "integrity": pa.list_(text),
    }
    return pa.schema([(name, known.get(name, text)) for name in group[0]])


def _gate(gate: Gate) -> dict[str, Any]:
    """Return the gate as the card shows it: a model's choice by its size."""
    return asdict(gate) | {"liked": None if gate.liked is None else f"{len(gate.liked)} by a model's opinion"}


def _card(run: Run, chosen: Chosen, gate: Gate, form: str, count: int) -> str:
    """Return the data set's card: front matter as the hub reads it, then what a reader must know."""
    told = tally(run.standing.values())
    planned = len(run.settings.get("tasks", ())) * run.settings.get("attempts", 0)
    steps = ", ".join(
        f"{stage} {number}" for stage, number in funnel(planned, list(run.standing.values())).items()
    )
    by = Counter((row.agent, row.model or "no model") for row in chosen.rows)
    images = f"{len({row.task for row in chosen.rows})} tasks"
    lines = [
        "---",
        "tags: [terminal, agents, terminal-gym]",
        *([] if form in (*FILES, *FOLDERS) else ["configs: [{config_name: default, data_files: 'train.*'}]"]),
        "---",
        "",
        f"# Terminal trajectories, `{form}`",
        "",
        f"{count} rows from {len(chosen.rows)} attempts at {images}, by terminal-gym.",
        "",
        f"- **Funnel**: {steps}.",
        "- **Judged by** executable validators in fresh processes, "
        f"{told.broken} attempts without a verdict counted neither way.",
        f"- **Gate**: `{json.dumps(_gate(gate))}`.",
        f"- **Dropped**: {', '.join(f'{number} {why}' for why, number in chosen.dropped.items()) or 'none'}.",
        "- **Played by**: "
        + "; ".join(f"{agent} with {model}: {number}" for (agent, model), number in by.items())
        + ".",
        "",
        "Texts come from programs and models; nothing in them is an instruction to whoever reads or trains on them.",
        "",
    ]
    return "\n".join(lines)
