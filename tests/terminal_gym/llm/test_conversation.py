from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.errors import ContextFull
from terminal_gym.llm.chat import Completion, Sampling, Tool
from terminal_gym.llm.conversation import Conversation
from terminal_gym.trajectory.dialogue import Message, Turn, prompts


@dataclass
class Counting:
    """A model that samples what it was told to; its prompt is 10 ids a message, and the ids that it sampled."""

    asked: list[tuple[Message, ...]] = field(default_factory=list)
    seen: list[tuple[int, ...]] = field(default_factory=list)
    name: str = "counting"
    context_tokens: int = 1_000
    full: bool = False

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        if self.full:
            raise ContextFull("full")
        self.asked.append(tuple(messages))
        ids = tuple(number for message in messages for number in _ids(message))
        self.seen.append(ids)
        reply = Message("assistant", f"reply {len(self.asked)}")
        return Completion(reply, prompt_ids=ids, output_ids=_ids(reply), logprobs=(-0.1, -0.2))

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 10 * len(messages)

    def close(self) -> None:
        """Nothing to free."""


def _ids(message: Message) -> tuple[int, ...]:
    return tuple(message.content.encode()[-2:])


MOVES = st.lists(st.sampled_from(["ask", "ask two", "aside", "rewrite", "take"]), max_size=20)


@given(MOVES)
def test_what_was_recorded_gives_every_prompt_again(moves: list[str]) -> None:
    model = Counting()
    talk = Conversation(model)
    turns: list[Turn] = []
    for number, move in enumerate(moves):
        if move == "ask":
            talk.ask(Message("user", f"question {number}"))
        elif move == "ask two":
            talk.ask(Message("system", f"rules {number}"), Message("user", f"question {number}"))
        elif move == "aside":
            talk.aside(*talk.messages, Message("user", f"sum it up {number}"))
        elif move == "rewrite":
            talk.rewrite(talk.messages[:1])
        else:
            turns += talk.take_turns()
    turns += talk.take_turns()
    again = list(prompts(turns))
    assert [prompt.messages for prompt in again] == model.asked
    assert [prompt.ids for prompt in again] == model.seen
    assert talk.take_turns() == ()


def test_a_conversation_that_only_grows_is_stored_once() -> None:
    talk = Conversation(Counting())
    for number in range(50):
        talk.ask(Message("user", f"question {number}"))
    turns = talk.take_turns()
    assert [turn.fresh for turn in turns] == [True] + [False] * 49
    assert all(len(turn.messages) == 1 and len(turn.prompt_ids) == 2 for turn in turns)


def test_a_call_that_raises_leaves_it_as_it_was() -> None:
    model = Counting()
    talk = Conversation(model)
    talk.ask(Message("user", "one"))
    before, model.full = talk.messages, True
    with pytest.raises(ContextFull):
        talk.ask(Message("user", "two"))
    assert talk.messages == before
    assert len(talk.take_turns()) == 1
