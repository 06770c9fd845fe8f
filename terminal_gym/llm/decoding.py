"""Many replies at once from one transformers model: rows join and leave one padded batch at any token.

Each row keeps its own temperature, seed and limit. Keys and values of a conversation are kept from turn to turn, and
used again for the ids with which its next prompt begins: sound by construction, and exact up to the rounding that a
batch of another shape brings. Only models whose every layer attends to all that came before can be decoded so.

Padding is on the left, and may lie between what was kept and what is new; the mask leaves it out, and positions count
real tokens only.
"""

from __future__ import annotations

import contextlib
import inspect
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from terminal_gym.trajectory.dialogue import common_prefix

Tensor = Any  # torch.Tensor; torch is read as Any by the type checker
Kept = list[tuple[Tensor, Tensor]]  # for each layer: keys and values, (heads, tokens, width)


@dataclass(frozen=True)
class Sampled:
    """One reply."""

    ids: tuple[int, ...]  # the stop token included, where it was sampled
    logprobs: tuple[float, ...]  # of `ids` in the model's own distribution, whatever the temperature
    stopped: bool  # by a stop token; else by the limit
    reused: int  # leading ids of the prompt whose keys and values were kept from a turn before


@dataclass(eq=False)
class Row:
    """A reply under way."""

    prompt: tuple[int, ...]
    limit: int  # tokens, ≥ 1
    temperature: float = 0.0  # 0: the likeliest token each time
    top_p: float = 1.0
    seed: int | None = None
    session: str = ""
    future: Future[Sampled] = field(default_factory=Future)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    generator: Tensor = None
    reused: int = 0


class Decoder:
    """Decodes on a thread of its own; `submit` from any.

    Args:
        model: A causal language model, in eval mode.
        stops: Ids that end a reply.
        rows: The most in one batch; more wait.
        kept_tokens: Tokens whose keys and values are kept between turns, the least recently used dropped first.
    """

    def __init__(self, model: Any, *, stops: frozenset[int], rows: int = 16, kept_tokens: int = 65_536):
        self._model, self._stops, self._rows, self._kept_tokens = model, stops, rows, kept_tokens
        self._kept: OrderedDict[str, tuple[tuple[int, ...], Kept]] = OrderedDict()
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._closed = False
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        known = inspect.signature(plain.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # renamed in transformers 5.24
        self.most_rows = 0  # in one batch so far
        self._thread = threading.Thread(target=self._work, name="tgym-decode", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> Future[Sampled]:
        """Begin a reply."""
        self._waiting.put(row)
        return row.future

    def close(self) -> None:
        """End the thread; replies under way end in an error. Safe to call again."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join(30)
        self._kept.clear()

    # ── the thread ──────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        batch = _Batch([], [], None)
        while not self._closed:
            new = self._admitted(len(batch.rows))
            try:
                with torch.inference_mode():
                    batch = self._token(batch, new)
            except Exception as error:
                _fail([*batch.rows, *new], error)
                self._kept.clear()  # most likely there is no room; and what was half-made is not kept
                batch = _Batch([], [], None)
        _fail([*batch.rows, *self._admitted(1)], RuntimeError("the model was closed"))

    def _admitted(self, running: int) -> list[Row]:
        """Return rows that may join; waits for one where none is running."""
        new: list[Row] = []
        with contextlib.suppress(queue.Empty):
            while running + len(new) < self._rows:
                row = self._waiting.get(block=not (running or new))
                if row is None:
                    break
                new.append(row)
        return new

    def _token(self, batch: _Batch, new: Sequence[Row]) -> _Batch:
        """Take new rows in, sample one token for each row, let go of those that are done, and advance the rest."""
        if new:
            batch = _joined([batch, self._begun(new)])
            self.most_rows = max(self.most_rows, len(batch.rows))
        if not batch.rows:
            return batch
        _sample(batch)
        done = [row for row in batch.rows if row.ids[-1] in self._stops or len(row.ids) >= row.limit]
        for row in done:
            self._end(row, batch)
        if done:
            batch = _joined([batch.only([row for row in batch.rows if row not in done])])
        if batch.rows:
            batch.logits = self._forward(batch, [row.ids[-1:] for row in batch.rows])
        return batch

    def _begun(self, rows: Sequence[Row]) -> _Batch:
        """Return a batch of rows whose prompts have been read."""
        for row in rows:
            row.generator = torch.Generator(device=self._model.device)
            row.generator.manual_seed(torch.seed() if row.seed is None else row.seed)
        batch = _joined([_Batch(list(rows), [self._taken(row) for row in rows], None)])
        batch.logits = self._forward(batch, [list(row.prompt[row.reused :]) for row in rows])
        return batch

    def _taken(self, row: Row) -> Kept:
        """Take what was kept of the row's conversation, as far as its prompt begins with the same ids."""
        ids, kept = self._kept.pop(row.session, ((), []))
        row.reused = min(common_prefix(ids, row.prompt), len(row.prompt) - 1) if kept else 0
        return (
            [(keys[:, : row.reused], values[:, : row.reused]) for keys, values in kept] if row.reused else []
        )

    def _end(self, row: Row, batch: _Batch) -> None:
        if row.session and self._kept_tokens:
            known = (*row.prompt, *row.ids[:-1])  # the last id was sampled and never read
            self._kept[row.session] = (known, batch.kept_of(row))
            while self._kept and sum(len(ids) for ids, _ in self._kept.values()) > self._kept_tokens:
                self._kept.popitem(last=False)
        stopped = row.ids[-1] in self._stops
        row.future.set_result(Sampled(tuple(row.ids), tuple(row.logprobs), stopped, row.reused))

    def _forward(self, batch: _Batch, blocks: Sequence[Sequence[int]]) -> Tensor:
        """Let each row read its block; returns the logits after it, (rows, vocabulary)."""
        device, width = self._model.device, max(map(len, blocks))
        ids = torch.zeros((len(blocks), width), dtype=torch.long)
        fresh = torch.zeros((len(blocks), width), dtype=torch.bool)
        for at, block in enumerate(blocks):
            ids[at, width - len(block) :] = torch.tensor(block)
            fresh[at, width - len(block) :] = True
        batch.seen = torch.cat([batch.seen, fresh.to(device)], dim=1)
        positions = (batch.seen.long().cumsum(1) - 1).clamp(min=0)[:, -width:]
        told = self._model(
            input_ids=ids.to(device),
            attention_mask=batch.seen.long(),
            position_ids=positions,
            **{self._cache_name: batch.cache},
            use_cache=True,
            logits_to_keep=1,
        )
        return told.logits[:, -1].float()


class _Batch:
    """Rows that advance together. `kept` holds each row's keys and values until `_joined` has padded them."""

    def __init__(self, rows: list[Row], kept: list[Kept], logits: Tensor):
        self.rows, self.kept, self.logits = rows, kept, logits
        self.cache: Any = None
        self.seen: Tensor = None  # (rows, tokens): what is no padding

    def kept_of(self, row: Row) -> Kept:
        at = self.rows.index(row)
        real = self.seen[at]
        return [(layer.keys[at][:, real], layer.values[at][:, real]) for layer in self.cache.layers]

    def only(self, rows: list[Row]) -> _Batch:
        at = [self.rows.index(row) for row in rows]
        return _Batch(rows, [self.kept_of(row) for row in rows], self.logits[at])


def _joined(batches: Sequence[_Batch]) -> _Batch:
    """Return one batch of all rows, padded on the left to the longest."""
    batches = [batch for batch in batches if batch.rows]
    rows = [row for batch in batches for row in batch.rows]
    kept = [
        batch.kept_of(row) if batch.cache is not None else batch.kept[at]
        for batch in batches
        for at, row in enumerate(batch.rows)
    ]
    logits = [batch.logits for batch in batches if batch.logits is not None]
    joined = _Batch(rows, kept, torch.cat(logits) if logits else None)
    lengths = [one[0][0].shape[1] if one else 0 for one in kept]
    longest = max(lengths, default=0)
    joined.seen = torch.zeros((len(rows), longest), dtype=torch.bool)
    for at, length in enumerate(lengths):
        joined.seen[at, longest - length :] = True
    like = next((one for one in kept if one), [])
    layers = [
        tuple(
            _padded([one[layer][side] if one else None for one in kept], longest, like[layer][side])
            for side in (0, 1)
        )
        for layer in range(len(like))
    ]
    joined.cache = DynamicCache(ddp_cache_data=layers) if layers else DynamicCache()
    if like:
        joined.seen = joined.seen.to(like[0][0].device)
    elif logits:
        joined.seen = joined.seen.to(logits[0].device)
    return joined


def _padded(parts: Sequence[Tensor], longest: int, like: Tensor) -> Tensor:
    """Return the rows' keys or values as one tensor, (rows, heads, longest, width)."""
    heads, _, width = like.shape
    whole = like.new_zeros((len(parts), heads, longest, width))
    for at, part in enumerate(parts):
        if part is not None:
            whole[at, :, longest - part.shape[1] :] = part
    return whole


def _sample(batch: _Batch) -> None:
    """Append one token to each row."""
    logprobs = torch.log_softmax(batch.logits, dim=-1)
    for at, row in enumerate(batch.rows):
        chosen = _chosen(batch.logits[at], row)
        row.ids.append(chosen)
        row.logprobs.append(float(logprobs[at, chosen]))


def _chosen(logits: Tensor, row: Row) -> int:
    if row.temperature <= 0:
        return int(logits.argmax())
    chances = torch.softmax(logits / row.temperature, dim=-1)
    if row.top_p < 1.0:
        ordered, places = chances.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered >= row.top_p] = 0.0  # the first is always left
        chances = torch.zeros_like(chances).scatter(0, places, ordered)
    return int(torch.multinomial(chances, 1, generator=row.generator))


def _fail(rows: Sequence[Row], error: Exception) -> None:
    for row in rows:
        if not row.future.done():
            row.future.set_exception(error)
