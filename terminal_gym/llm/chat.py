"""ChatModel: messages in, one completion out; and the one place where models have names.

A model is asked from many threads at once. It retries what may pass (429, 5xx, time-outs) by itself, with back-off.
"""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, cast

from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.trajectory.dialogue import Finish, Message, Usage


@dataclass(frozen=True)
class Tool:
    """A function that the model may call natively."""

    name: str
    description: str
    parameters: Mapping[str, object]  # JSON schema of the arguments


@dataclass(frozen=True)
class Sampling:
    """How a reply is sampled; None: the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None  # of one reply
    seed: int | None = None


def merged(own: Sampling, given: Sampling | None) -> Sampling:
    """Return `own` with what `given` says instead, field by field."""
    if given is None:
        return own
    told = {field.name: getattr(given, field.name) for field in fields(given)}
    return replace(own, **{name: value for name, value in told.items() if value is not None})


@dataclass(frozen=True)
class Completion:
    """One reply, with all that the provider told of it."""

    message: Message
    finish: Finish = "stop"
    reasoning: str = ""
    prompt_ids: tuple[int, ...] = ()  # the whole prompt; () where the provider does not tell
    output_ids: tuple[int, ...] = ()  # as sampled, the end-of-turn token included where it was sampled
    logprobs: tuple[float, ...] = ()  # of `output_ids`
    usage: Usage = field(default_factory=Usage)


class ChatModel(Protocol):
    """Answers a conversation; safe to use from many threads."""

    @property
    def name(self) -> str:
        """What the trajectory calls it."""
        ...

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and reply may have together."""
        ...

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        """Return the model's next message.

        Args:
            messages: The whole conversation.
            sampling: Overrides the model's own, field by field.
            tools: What it may call natively.
            session: Names the conversation, so that what was computed for it before can be used again.

        Raises:
            ContextFull: The conversation is too long.
            ModelRefused: The provider will not answer this one.
            ProviderDown: No answer, however often it was asked.
            AccessDenied: The key, the model's name or the request is wrong; nothing was retried.
        """
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many tokens these messages have, estimated where the provider does not tell."""
        ...

    def close(self) -> None:
        """Free what it holds. Safe to call again."""
        ...


class Seeded:
    """A model whose calls are seeded, each with a seed of its own derived from one: for one episode.

    So attempts at one task differ, and an attempt can be repeated as far as the provider honours seeds.
    """

    def __init__(self, model: ChatModel, seed: int):
        self._model, self._seed, self._calls = model, seed, 0
        self.name = model.name

    @property
    def context_tokens(self) -> int:
        return self._model.context_tokens

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        """Return the model's next message; a seed in `sampling` counts before ours."""
        text = f"{self._seed} {self._calls}".encode()
        self._calls += 1
        own = Sampling(seed=int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1)
        return self._model.complete(messages, sampling=merged(own, sampling), tools=tools, session=session)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return self._model.count_tokens(messages)

    def close(self) -> None:
        """Nothing: the model is closed by who opened it."""


MODELS = {
    "openai": "terminal_gym.llm.endpoint:Endpoint",
    "local": "terminal_gym.llm.local:LocalModel",
}


def open_model(name: str, **settings: object) -> ChatModel:
    """Return the model called `<kind>/<model>`, e.g. "openai/qwen2.5-coder" or "local/Qwen/Qwen2.5-Coder-7B".

    Args:
        name: A key of MODELS, a slash, and the model's name there.
        settings: What that kind is made with, e.g. `base_url`.

    Raises:
        UnknownName: No kind of model has this name.
        BadSetting: The settings are not those of this kind.
    """
    kind, _, model = name.partition("/")
    if kind not in MODELS:
        raise UnknownName(
            "kind of model", kind, known=MODELS, advice="Write <kind>/<model>, e.g. openai/gpt-4.1."
        )
    if not model:
        raise BadSetting(f"{name!r} names no model. Write {kind}/<model>.")
    maker = pkgutil.resolve_name(MODELS[kind])
    try:
        return cast(ChatModel, maker(model, **settings))
    except TypeError as error:
        raise BadSetting(f"Model {name!r} cannot be made with {sorted(settings)}: {error}.") from error
