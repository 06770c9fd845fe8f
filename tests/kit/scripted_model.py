"""A model in memory that says what it was told to: the second implementation of `ChatModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from terminal_gym.errors import ContextFull
from terminal_gym.llm.chat import Completion, Sampling, Tool
from terminal_gym.trajectory.dialogue import Message, Usage


class ScriptedModel:
    """Says its replies one after the other, the last for ever; a token is four characters.

    A reply is text, a Completion, or a function of the messages that gives one of these.
    """

    name = "scripted"

    def __init__(
        self,
        *replies: str | Completion | Callable[[Sequence[Message]], str | Completion],
        context_tokens: int = 100_000,
    ):
        self._replies, self.context_tokens = list(replies), context_tokens
        self.asked: list[tuple[Message, ...]] = []
        self.tools: list[tuple[Tool, ...]] = []

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        if self.count_tokens(messages) > self.context_tokens:
            raise ContextFull(f"{self.count_tokens(messages)} tokens of {self.context_tokens}")
        self.asked.append(tuple(messages))
        self.tools.append(tuple(tools))
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        said = reply(messages) if callable(reply) else reply
        if isinstance(said, Completion):
            return said
        usage = Usage(self.count_tokens(messages), len(said) // 4)
        return Completion(Message("assistant", said), usage=usage)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content) // 4 + 4 for message in messages)

    def close(self) -> None:
        """Nothing to free."""

    @property
    def told(self) -> list[str]:
        """What was said to it last in each call."""
        return [messages[-1].content for messages in self.asked]
