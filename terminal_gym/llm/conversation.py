"""A conversation with a model: it grows by what is asked and answered, and each call is recorded as a turn."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from terminal_gym.errors import ContextFull, ModelRefused
from terminal_gym.llm.chat import ChatModel, Completion, Sampling, Tool
from terminal_gym.trajectory.dialogue import Message, Purpose, Turn, common_prefix


class Conversation:
    """The messages so far, and the calls since `take_turns` was last called.

    A call that raises leaves the conversation as it was.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.model = model
        self._sampling, self._tools, self._clock = sampling, tuple(tools), clock
        self._session = uuid.uuid4().hex
        self._messages: list[Message] = []
        self._recorded = 0  # messages that the last turn's record already covers
        self._ids: tuple[int, ...] = ()
        self._turns: list[Turn] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    def rewrite(self, messages: Sequence[Message]) -> None:
        """Go on from other messages; the next turn is recorded as fresh."""
        self._messages, self._recorded = list(messages), 0

    def ask(self, *new: Message, purpose: Purpose = "act", sampling: Sampling | None = None) -> Completion:
        """Add `new` and the model's answer; returns the answer. Raises what `ChatModel.complete` raises."""
        began, asked = self._clock(), (*self._messages, *new)
        said = self.model.complete(
            asked, sampling=sampling or self._sampling, tools=self._tools, session=self._session
        )
        kept = common_prefix(self._ids, said.prompt_ids)
        self._turns.append(
            Turn(
                messages=asked[self._recorded :],
                reply=said.message,
                fresh=self._recorded == 0,
                purpose=purpose,
                reasoning=said.reasoning,
                finish=said.finish,
                kept_ids=kept,
                prompt_ids=said.prompt_ids[kept:],
                output_ids=said.output_ids,
                logprobs=said.logprobs,
                usage=said.usage,
                seconds=self._clock() - began,
            )
        )
        self._messages = [*asked, said.message]
        self._recorded, self._ids = len(self._messages), (*said.prompt_ids, *said.output_ids)
        return said

    def aside(self, *messages: Message, sampling: Sampling | None = None) -> Completion:
        """Ask in a conversation of its own, for a summary; it is recorded, and this one does not grow."""
        aside = Conversation(self.model, sampling=sampling or self._sampling, clock=self._clock)
        said = aside.ask(*messages, purpose="summary")
        self._turns += aside.take_turns()
        # The next turn's record cannot lean on the one before it: that was of another conversation.
        self._recorded, self._ids = 0, ()
        return said

    @contextmanager
    def giving_up(self) -> Iterator[None]:
        """Hand the calls so far to what is raised, where the model will not go on: they led to no action."""
        try:
            yield
        except (ContextFull, ModelRefused) as error:
            error.turns = self.take_turns()
            raise

    def take_turns(self) -> tuple[Turn, ...]:
        """Return the calls since the last time this was called."""
        turns, self._turns = tuple(self._turns), []
        return turns
