"""The released TerminalTraj trajectories: rows of Terminus-2 messages, written and read.

A row is `{"messages": [{"role", "content"}, …]}`; the assistant's turns are Terminus-2's JSON. A row says neither which
task it belongs to nor how it was judged, so that what is read has no verdict: its outcome is broken, "not judged".

Source: m-a-p/TerminalTraj, revision 5c1823f4.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from terminal_gym.errors import BadSetting, SchemaMismatch
from terminal_gym.export.rows import chats
from terminal_gym.llm import reply
from terminal_gym.trajectory.dialogue import Message, Role, Turn
from terminal_gym.trajectory.record import Action, Observation, Outcome, Step, Trajectory
from terminal_gym.trajectory.store import RunWriter

NOT_JUDGED = "not judged: imported without a verdict"


def to_rows(played: Trajectory) -> Iterator[dict[str, Any]]:
    """Yield rows with the one column that the released set has."""
    for row in chats(played):
        yield {"messages": row["messages"]}


def from_row(row: Mapping[str, Any], *, number: int) -> Trajectory:
    """Return a row as a trajectory; it goes by the hash of its first message, and `number` is its attempt.

    Raises:
        SchemaMismatch: The row is no chat; says where.
    """
    messages = [_message(cells, number, at) for at, cells in enumerate(_list(row, number))]
    begin = next((at for at, message in enumerate(messages) if message.role == "assistant"), len(messages))
    if not 0 < begin < len(messages):
        raise SchemaMismatch(f"row {number}: it has no reply of an assistant after a first message.")
    steps: list[Step] = []
    heard: list[Message] = []
    for at, message in enumerate(messages):
        if message.role != "assistant":
            heard.append(message)
            continue
        answer = messages[at + 1].content if at + 1 < len(messages) else ""
        turn = Turn(tuple(heard), message, fresh=not steps)
        steps.append(Step(_action(message.content, turn), Observation("", answer, (0, 0)), 0.0, 0.0))
        heard = []
    said = "\n".join(message.content for message in messages[:begin])
    name = hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
    return Trajectory(
        task=f"TerminalTraj/imported-{name}",
        task_hash="",
        agent="terminus",
        runtime="",
        image_digest="",
        attempt=number,
        seed=None,
        steps=tuple(steps),
        outcome=Outcome("broken", None, NOT_JUDGED),
        instruction=said,
    )


def import_rows(source: Path, folder: Path) -> int:
    """Read a Parquet or JSON-lines file of released rows into a new run folder; returns how many there were.

    Raises:
        SchemaMismatch: A row is no chat; the rows before it are kept, and importing again goes on after them.
        BadSetting: The file is neither; or the folder holds another run.
        StoreError: The folder cannot be written.
    """
    settings = {"imported": hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else ""}
    count = 0
    with RunWriter(folder, settings) as run:
        known = {k for _, k in run.standing}
        for count, row in enumerate(read_rows(source), 1):
            if count - 1 not in known:
                run.append(from_row(row, number=count - 1))
    return count


def read_rows(source: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a Parquet or JSON-lines file, one at a time.

    Raises:
        SchemaMismatch: A line is not JSON, or the file no Parquet; names it.
        BadSetting: Parquet, and pyarrow is missing.
    """
    if source.suffix in (".jsonl", ".json"):
        with source.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise SchemaMismatch(f"{source}, row {number}: not JSON: {error}") from error
                yield row if isinstance(row, dict) else {}
        return
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise BadSetting("Parquet needs the package pyarrow. pip install 'terminal-gym[data]'") from error
    try:
        for batch in pq.ParquetFile(source).iter_batches(64):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SchemaMismatch(f"{source} cannot be read as Parquet: {error}") from error


def _action(text: str, turn: Turn) -> Action:
    action = reply.terminus(text).action or Action(text=text)
    return Action(action.keys, waits_s=action.waits_s, submit=action.submit, text=text, turns=(turn,))


def _list(row: Mapping[str, Any], number: int) -> list[Any]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise SchemaMismatch(f"row {number}: 'messages' is {messages!r:.80}, not a list of messages.")
    return messages


def _message(cells: Any, number: int, at: int) -> Message:
    role = cells.get("role") if isinstance(cells, Mapping) else None
    content = cells.get("content") if isinstance(cells, Mapping) else None
    if role not in ("system", "user", "assistant", "tool") or not isinstance(content, str):
        raise SchemaMismatch(f"row {number}, message {at}: {cells!r:.80} is no message.")
    return Message(cast(Role, role), content)
