"""Training tables on the disk: `train.parquet`, `eval.parquet`, what they are in `table.json`, and a card.

A row is one context: `input_ids` and `labels`, (T,) each, a label being its id where the policy spoke and is to learn
from it, else -100; `logprobs`, (T,), 0 where nothing was sampled; and the facts that selections are made by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from terminal_gym.errors import BadSetting, SchemaMismatch
from training.chat_format import IGNORED, Tokens

VERSION = 1
FACTS = "table.json"
_GROUP_TOKENS = 4_000_000  # of rows that are held before they are written
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        *((name, pa.string()) for name in ("task", "status", "source", "domain", "repository", "model")),
        ("attempt", pa.int64()),
        ("reward", pa.float64()),
        ("turns", pa.int64()),
        ("learned", pa.int64()),
        ("shortened", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Example:
    """One row."""

    tokens: Tokens
    task: str
    attempt: int
    status: str  # of the verdict; "released": its publisher's
    source: str  # "sampled": the ids are the policy's own; "text": tokenised anew
    domain: str
    repository: str
    model: str
    reward: float | None
    turns: int  # replies that are learned
    shortened: bool  # the middle was left out

    def cells(self) -> dict[str, Any]:
        """Return the row as it is stored."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "tokens"}
        ids, labels, logprobs = self.tokens.ids, self.tokens.labels, self.tokens.logprobs
        learned = int(self.tokens.spoken.sum())
        return {"input_ids": ids, "labels": labels, "logprobs": logprobs, "learned": learned, **plain}


@dataclass(frozen=True)
class Facts:
    """What a table is."""

    tokenizer: str  # name or folder, as it was given
    fingerprint: str  # of the tokenizer, see `fingerprint`
    template: str  # key of `chat_format.SYSTEMS`
    max_tokens: int
    sources: tuple[str, ...]  # run folders and files
    settings: Mapping[str, Any]
    rows: Mapping[str, int]  # by split
    tokens: Mapping[str, int]
    learned: Mapping[str, int]
    dropped: Mapping[str, int]  # why attempts did not enter → how many
    version: int = VERSION


@dataclass
class Writer:
    """Writes one split; the file is made at the first row."""

    path: Path
    rows: int = 0
    tokens: int = 0
    learned: int = 0
    _held: list[dict[str, Any]] = field(default_factory=list)
    _held_tokens: int = 0
    _file: Any = None

    def add(self, cells: dict[str, Any]) -> None:
        """Add a row, as `Example.cells` or `read_rows` gives it."""
        tokens = len(cells["input_ids"])
        self.rows += 1
        self.tokens += tokens
        self.learned += cells["learned"]
        self._held.append(cells)
        self._held_tokens += tokens
        if self._held_tokens > _GROUP_TOKENS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._file = self._file or pq.ParquetWriter(self.path, SCHEMA, compression="zstd")
            self._file.write_table(pa.Table.from_pylist(self._held, schema=SCHEMA))
        self._held, self._held_tokens = [], 0

    def close(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def write_facts(folder: Path, facts: Facts) -> None:
    """Write what the table in `folder` is."""
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1, allow_nan=False) + "\n", "utf-8")


def read_facts(folder: Path) -> Facts:
    """Return what the table in `folder` is.

    Raises:
        BadSetting: There is no table.
        SchemaMismatch: It was written by another version.
    """
    try:
        cells = json.loads((folder / FACTS).read_text("utf-8"))
    except OSError as error:
        advice = "Make one: tgym train examples RUN --out TABLE --tokenizer MODEL."
        raise BadSetting(f"{folder} is no training table: {error.strerror}. {advice}") from error
    except ValueError as error:
        raise SchemaMismatch(f"{folder / FACTS} is not JSON: {error}. Make the table again.") from error
    if not isinstance(cells, dict) or cells.get("version") != VERSION:
        found = cells.get("version") if isinstance(cells, dict) else None
        raise SchemaMismatch(f"{folder} is a table of version {found}; this reads {VERSION}. Make it again.")
    try:
        return Facts(**cells)
    except TypeError as error:
        raise SchemaMismatch(f"{folder / FACTS}: {error}. Make the table again.") from error


def check_fits(folder: Path, tokenizer: Any, *, model: str, template: str, max_tokens: int) -> Facts:
    """Return what the table in `folder` is, which a model may learn from.

    Args:
        folder: The table's.
        tokenizer: Of the model.
        model: Its name.
        template: Of its chats, as `chat_format.matching` names it.
        max_tokens: Of one row.

    Raises:
        BadSetting: There is no table, or it was made for another tokenizer or template, or for longer rows.
        SchemaMismatch: It was written by another version.
    """
    facts = read_facts(folder)
    if facts.max_tokens > max_tokens:
        found = f"{folder} has rows of up to {facts.max_tokens} tokens"
        raise BadSetting(f"{found}, context_tokens is {max_tokens}. Make it with fewer.")
    if fingerprint(tokenizer) != facts.fingerprint:
        found = f"{folder} was made with the tokenizer of {facts.tokenizer}"
        raise BadSetting(f"{found}, which is not that of {model}. Make it with that one.")
    if template != facts.template:
        raise BadSetting(f"{folder} has the template {facts.template}, the model {template}.")
    return facts


def read_rows(folder: Path, split: str = "train") -> Iterator[dict[str, Any]]:
    """Yield the rows of a split, none where it is empty.

    Raises:
        SchemaMismatch: The file is no such table.
    """
    path = folder / f"{split}.parquet"
    if not path.is_file():
        return
    for batch in _batches(path, 64):
        yield from batch.to_pylist()


def _batches(path: Path, size: int, columns: list[str] | None = None) -> Iterator[Any]:
    try:
        file = pq.ParquetFile(path)
        if missing := {"input_ids", "labels"} - set(file.schema_arrow.names):
            raise SchemaMismatch(f"{path} has no column {sorted(missing)[0]!r}. Make the table again.")
        yield from file.iter_batches(size, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise SchemaMismatch(f"{path} is no Parquet file: {error}. Make the table again.") from error


def check_table(folder: Path, split: str = "train") -> int:
    """Return how many tokens of a split are learned.

    Raises:
        BadSetting: None is; or a row's ids and labels do not belong together.
        SchemaMismatch: The file is no such table.
    """
    path, learned, number = folder / f"{split}.parquet", 0, 0
    if not path.is_file():
        raise BadSetting(f"{path} is missing. Make the table again.")
    for batch in _batches(path, 256, ["input_ids", "labels"]):
        ids, labels = (batch.column(name) for name in ("input_ids", "labels"))
        same = ids.offsets.to_numpy() == labels.offsets.to_numpy()
        a, b = (column.flatten().to_numpy(zero_copy_only=False) for column in (ids, labels))
        if not same.all() or ((b != a) & (b != IGNORED)).any():
            advice = "Make the table again."
            raise BadSetting(f"{path}, rows from {number}: labels are not their ids, or -100. {advice}")
        learned += int((b != IGNORED).sum())
        number += len(batch)
    if not learned:
        advice = "Look at how its runs were made: what the policy said is missing."
        raise BadSetting(f"{path} has no token that is learned. {advice}")
    return learned


def fingerprint(tokenizer: Any) -> str:
    """Return sixteen hex digits over a tokenizer's vocabulary: two tables with the same may be mixed."""
    known = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
