"""What was said: messages, and each call of a model with the token ids that it saw and sampled. Frozen data.

A conversation is stored once. Each turn holds what was added since the turn before it, in text and in token ids, so
that a trajectory grows with its length and not with its square; `prompts` puts the whole prompts together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
Purpose = Literal["act", "summary"]
Finish = Literal["stop", "length", "tool_calls", "refusal"]


@dataclass(frozen=True)
class ToolCall:
    """A native call of a tool."""

    id: str
    name: str
    arguments: str  # JSON as the model wrote it, perhaps malformed


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""  # of a "tool" message: the call it answers


@dataclass(frozen=True)
class Usage:
    """What a call used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens
    cost_usd: float | None = None  # None: the price is not known


@dataclass(frozen=True)
class Turn:
    """One call of the model: what was new to it, and what it said."""

    messages: tuple[Message, ...]  # added to the conversation before the reply
    reply: Message
    fresh: bool = False  # `messages` begin a new conversation
    purpose: Purpose = "act"
    reasoning: str = ""
    finish: Finish = "stop"
    kept_ids: int = 0  # leading ids of the last turn's prompt and output that this prompt begins with
    prompt_ids: tuple[int, ...] = ()  # the rest of this prompt; () where the server does not tell
    output_ids: tuple[int, ...] = ()  # as sampled
    logprobs: tuple[float, ...] = ()  # of `output_ids`, natural logarithm
    usage: Usage = Usage()
    seconds: float = 0.0  # wall clock, retries included


@dataclass(frozen=True)
class Prompt:
    """What a model was given in one turn, whole."""

    turn: Turn
    messages: tuple[Message, ...]
    ids: tuple[int, ...]  # () where the server does not tell


def prompts(turns: Iterable[Turn]) -> Iterator[Prompt]:
    """Yield each turn's whole prompt; messages and ids include the replies before it."""
    messages: tuple[Message, ...] = ()
    ids: tuple[int, ...] = ()
    for turn in turns:
        messages = turn.messages if turn.fresh else (*messages, *turn.messages)
        whole = (*ids[: turn.kept_ids], *turn.prompt_ids)
        yield Prompt(turn, messages, whole)
        messages = (*messages, turn.reply)
        ids = (*whole, *turn.output_ids)


def common_prefix(known: tuple[int, ...], ids: tuple[int, ...]) -> int:
    """Return how many leading ids the two share."""
    if ids[: len(known)] == known:
        return len(known)
    return next(at for at, (a, b) in enumerate(zip(known, (*ids, -1), strict=False)) if a != b)
