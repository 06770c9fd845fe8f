"""Trains a tiny model on exported rows: what the policy said is learned, all else is only read.

The model is small and learns from nothing: its matrices are trained with Muon, the rest with AdamW. Rows are `messages`
or `tokens`, as `tgym export` writes them.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning.student import hidden
from benchmarks.learning.tiny import load_tokenizer
from terminal_gym.errors import BadSetting

_IGNORED = -100


@dataclass(frozen=True)
class Example:
    """One conversation, (T,) each."""

    ids: Sequence[int]
    labels: Sequence[int]  # the id where the policy spoke, else -100


@dataclass(frozen=True)
class Plan:
    """How a fit is made."""

    steps: int
    batch: int = 16  # conversations a step
    matrix_rate: float = 0.02  # of Muon
    rate: float = 3e-3  # of AdamW, for embeddings and norms
    seed: int = 0


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of an export with `--lines`."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def examples(rows: Sequence[dict[str, Any]], tokenizer: Any, *, blind: bool = False) -> list[Example]:
    """Return what is learned from `rows`; `blind`: without what was shown.

    Raises:
        BadSetting: There is no row, or one with nothing to learn.
    """
    made = [_example(row, tokenizer, blind=blind) for row in rows]
    if not made:
        raise BadSetting("There is nothing to learn from: no row passed. Look at the rollout before it.")
    for row, example in zip(rows, made, strict=True):
        if all(label == _IGNORED for label in example.labels):
            raise BadSetting(f"{row.get('task')} attempt {row.get('attempt')} has no token that is learned.")
    return made


def _example(row: dict[str, Any], tokenizer: Any, *, blind: bool) -> Example:
    if "input_ids" in row:
        return Example(row["input_ids"], row["labels"])
    told = tokenizer.apply_chat_template(
        hidden(row["messages"]) if blind else row["messages"],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids, spoken = told["input_ids"], told["assistant_masks"]
    return Example(ids, [token if said else _IGNORED for token, said in zip(ids, spoken, strict=True)])


def fit(
    start: Path,
    rows: Sequence[Example],
    out: Path,
    plan: Plan,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train the checkpoint `start` on `rows` into the checkpoint `out`, which is there whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(plan.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    tokenizer = load_tokenizer(start)
    began = time.monotonic()
    losses = _trained(model, rows, plan, pad=tokenizer.pad_token_id, say=say)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    facts = {
        "start": start.name,
        "plan": vars(plan),
        "conversations": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "learned_tokens": sum(label != _IGNORED for row in rows for label in row.labels),
        "loss": [round(loss, 4) for loss in losses],
        "seconds": time.monotonic() - began,
    }
    (draft / "fit.json").write_text(json.dumps(facts), "utf-8")
    draft.rename(out)


def _trained(
    model: Any, rows: Sequence[Example], plan: Plan, *, pad: int, say: Callable[[str], None]
) -> list[float]:
    import torch

    from benchmarks.learning.muon import Muon

    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimisers: list[Any] = [
        Muon(matrices, lr=plan.matrix_rate),
        torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda at: warmth(at, plan.steps)) for each in optimisers
    ]
    chosen = _batches(len(rows), plan)
    losses: list[float] = []
    model.train()
    for step in range(plan.steps):
        ids, labels = padded([rows[at] for at in next(chosen)], pad=pad)
        loss = model(input_ids=torch.tensor(ids), labels=torch.tensor(labels), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*optimisers, *schedules):
            each.step()
        model.zero_grad()
        losses.append(loss.item())
        if step % 50 == 49:
            say(f"step {step + 1} of {plan.steps}: loss {sum(losses[-50:]) / 50:.4f}")
    return losses


def warmth(step: int, steps: int) -> float:
    """Return the share of the full rate: up over 20 steps, level to the middle, then down to a fiftieth."""
    return min(1.0, (step + 1) / 20) * (1.0 if step < steps / 2 else max(0.02, 2.0 * (1 - step / steps)))


def _batches(count: int, plan: Plan) -> Any:
    """Yield batches of indices, each row as often as any other, shuffled anew each time round."""
    rng = random.Random(plan.seed)
    waiting: list[int] = []
    while True:
        while len(waiting) < plan.batch:
            order = list(range(count))
            rng.shuffle(order)
            waiting += order
        yield waiting[: plan.batch]
        del waiting[: plan.batch]


def padded(rows: Sequence[Example], *, pad: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return ids and labels, (batch, longest) each, padded on the right; causal attention never sees the padding."""
    longest = max(len(row.ids) for row in rows)
    ids = [[*row.ids, *[pad] * (longest - len(row.ids))] for row in rows]
    return ids, [[*row.labels, *[_IGNORED] * (longest - len(row.labels))] for row in rows]
