"""The blind student: a checkpoint that is told the task and what it said itself, and never what the terminal showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.learning.server import Said, TooLong
from terminal_gym.errors import ContextFull
from terminal_gym.llm.chat import Sampling
from terminal_gym.llm.local import LocalModel
from terminal_gym.trajectory.dialogue import Message

HIDDEN = "?"  # what it sees in place of any observation


class BlindModel:
    """Speaks as a checkpoint does that sees nothing but the task.

    Args:
        checkpoint: Folder of a transformers model and tokenizer.
        seed: Of its sampling.
        threads: Of torch in this process; more than there are free cores are slower than one.
    """

    def __init__(self, checkpoint: Path, *, seed: int, threads: int = 1):
        import torch

        torch.set_num_threads(threads)
        self._model = LocalModel(str(checkpoint))
        self._seed = seed
        self._asked = 0
        self.context_tokens: int = self._model.context_tokens

    def say(self, messages: Sequence[Mapping[str, str]], *, temperature: float, max_tokens: int) -> Said:
        """Return a sampled reply; see `Speaker`."""
        self._asked += 1  # attempts at one task see the same, and must not all say the same
        how = Sampling(
            temperature=temperature, max_tokens=max_tokens, seed=1_000_000 * self._seed + self._asked
        )
        shown = [
            Message("user" if m["role"] != "assistant" else "assistant", m["content"]) for m in hide(messages)
        ]
        try:
            told = self._model.complete(shown, sampling=how)
        except ContextFull as error:
            raise TooLong(str(error)) from error
        return Said(told.message.content, told.finish)

    def close(self) -> None:
        """Stop decoding."""
        self._model.close()


def hide(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the conversation as a blind student sees it: the task, what was said, and nothing that was shown."""
    return [
        {**message, "content": HIDDEN} if message["role"] != "assistant" and at else dict(message)
        for at, message in enumerate(messages)
    ]
