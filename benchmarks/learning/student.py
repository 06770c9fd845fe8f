"""The student: a checkpoint that answers many conversations at once, in batches, with a key-value cache.

Conversations that wait together are generated together. What was sampled is kept as token ids, and a conversation that
goes on is continued from those ids, never from text that was made tokens again.
"""

from __future__ import annotations

import inspect
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.learning.server import Said, TooLong
from benchmarks.learning.tiny import load_tokenizer

_GATHER_S = 0.01  # how long a batch waits for company
_REMEMBERED = 4096  # conversations whose ids are known
HIDDEN = "?"  # what a blind student sees in place of any observation


@dataclass
class _Wish:
    prompt: list[int]
    temperature: float
    max_tokens: int
    done: threading.Event = field(default_factory=threading.Event)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    error: Exception | None = None


class Student:
    """Speaks as a checkpoint does.

    Args:
        checkpoint: Folder of a transformers model and tokenizer with a chat template.
        blind: See nothing but the task: what came after it is hidden from the model.
        seed: Of its sampling.
        batch: Conversations generated together.
    """

    def __init__(self, checkpoint: Path, *, blind: bool = False, seed: int = 0, batch: int = 32):
        import torch
        from transformers import AutoModelForCausalLM

        self._tokenizer = load_tokenizer(checkpoint)
        self._model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        named = inspect.signature(self._model.forward).parameters
        self._cache_is = (
            "cache" if "cache" in named else "past_key_values"
        )  # its name until transformers 5.23
        self._chance = torch.Generator().manual_seed(seed)
        self.context_tokens: int = self._model.config.max_position_embeddings
        self._blind, self._batch = blind, batch
        self._known: OrderedDict[tuple[str, ...], list[int]] = OrderedDict()
        self._wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, messages: Sequence[dict[str, str]], *, temperature: float, max_tokens: int) -> Said:
        """Return a sampled reply, greedy where `temperature` is 0; see `Speaker`."""
        wish = _Wish(self._prompt(messages), temperature, max_tokens)
        if len(wish.prompt) + max_tokens > self.context_tokens:
            raise TooLong(f"{len(wish.prompt)} tokens and {max_tokens} more, of {self.context_tokens}")
        self._wishes.put(wish)
        wish.done.wait()
        if wish.error is not None:
            raise wish.error
        ended = bool(wish.ids) and wish.ids[-1] == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(wish.ids[:-1] if ended else wish.ids)
        with self._mutex:
            self._known[_key([*messages, {"role": "assistant", "content": text}])] = [*wish.prompt, *wish.ids]
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return Said(text, "stop" if ended else "length", wish.prompt, wish.ids, wish.logprobs)

    def close(self) -> None:
        """Stop generating. Safe to call again."""
        self._wishes.put(None)
        self._thread.join()

    def _prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Return the conversation as ids: those sampled so far, and what was said to the model since."""
        last = max((at for at, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
        with self._mutex:
            known = self._known.get(_key(messages[: last + 1]))
        if last < 0 or known is None or known[-1] != self._tokenizer.eos_token_id:
            return self._templated(self._shown(messages))
        return [
            *known,
            *self._tokenizer("\n")["input_ids"],
            *self._templated(self._shown(messages)[last + 1 :]),
        ]

    def _shown(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        return hidden(messages) if self._blind else list(messages)

    def _templated(self, messages: Sequence[dict[str, str]]) -> list[int]:
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer(text)["input_ids"])

    def _serve(self) -> None:
        while (first := self._wishes.get()) is not None:
            wishes = [first]
            while len(wishes) < self._batch:
                try:
                    another = self._wishes.get(timeout=_GATHER_S)
                except queue.Empty:
                    break
                if another is None:
                    self._wishes.put(None)
                    break
                wishes.append(another)
            try:
                self._generate(wishes)
            except Exception as error:  # told to whoever asked: a thread that ends would leave them waiting
                for wish in wishes:
                    wish.error = error
            for wish in wishes:
                wish.done.set()

    def _generate(self, wishes: Sequence[_Wish]) -> None:
        import torch

        longest = max(len(wish.prompt) for wish in wishes)
        pads = [longest - len(wish.prompt) for wish in wishes]
        ids = torch.tensor(
            [[self._tokenizer.pad_token_id] * pad + w.prompt for pad, w in zip(pads, wishes, strict=True)]
        )
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
        heat = torch.tensor([wish.temperature for wish in wishes])
        open_ = torch.ones(len(wishes), dtype=torch.bool)
        cache: Any = None
        with torch.inference_mode():
            for length in range(1, max(wish.max_tokens for wish in wishes) + 1):
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
                out = self._model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, **{self._cache_is: cache},
                    use_cache=True, logits_to_keep=1,
                )  # fmt: skip
                cache, scores = out.past_key_values, out.logits[:, -1].float()
                cold = scores / heat.clamp(min=1e-4)[:, None]
                drawn = torch.multinomial(cold.softmax(-1), 1, generator=self._chance)[:, 0]
                chosen = torch.where(heat > 0, drawn, scores.argmax(-1))
                logprobs = scores.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
                for at, wish in enumerate(wishes):
                    if open_[at]:
                        wish.ids.append(int(chosen[at]))
                        wish.logprobs.append(float(logprobs[at]))
                        if wish.ids[-1] == self._tokenizer.eos_token_id or length >= wish.max_tokens:
                            open_[at] = False
                if not open_.any():
                    return
                ids = chosen[:, None]
                mask = torch.cat([mask, torch.ones_like(chosen)[:, None]], 1)


def hidden(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the conversation as a blind student sees it: the task, what was said, and nothing that was shown."""
    return [
        {**message, "content": HIDDEN} if message["role"] != "assistant" and at else dict(message)
        for at, message in enumerate(messages)
    ]


def _key(messages: Sequence[dict[str, str]]) -> tuple[str, ...]:
    return tuple(message["content"] for message in messages)
