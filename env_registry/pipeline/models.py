"""The models that write parts of the pipeline, each with a meter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from env_registry.pipeline.spent import Spent
from env_registry.pipeline.stage import Rejected
from terminal_gym.llm.chat import ChatModel, Completion, Sampling, Tool, open_model
from terminal_gym.trajectory.dialogue import Message

Item = TypeVar("Item")


class Asks(Protocol):
    """A block of the settings that names a model."""

    @property
    def model(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    @property
    def prices(self) -> Mapping[str, float]: ...


class Metered:
    """A model that adds up what its calls use, for each thread apart: one item is one thread's."""

    def __init__(self, model: ChatModel):
        self._model, self._here = model, threading.local()
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
        """Return the model's next message, and count it."""
        said = self._model.complete(messages, sampling=sampling, tools=tools, session=session)
        self._here.spent = getattr(self._here, "spent", Spent()) + Spent.of(said.usage)
        return said

    def taken(self) -> Spent:
        """Return what this thread's calls used since it was last asked."""
        spent: Spent = getattr(self._here, "spent", Spent())
        self._here.spent = Spent()
        return spent

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return self._model.count_tokens(messages)

    def close(self) -> None:
        self._model.close()


@contextmanager
def opened_model(wanted: Asks) -> Iterator[Metered | None]:
    """Lend the model that a block of the settings names, None where it names none.

    Raises:
        UnknownName, BadSetting: As `open_model` does.
    """
    if not wanted.model:
        yield None
        return
    settings: dict[str, Any] = {"base_url": wanted.base_url} if wanted.base_url else {}
    if wanted.prices:
        settings["prices"] = dict(wanted.prices)
    model = Metered(open_model(wanted.model, **settings))
    try:
        yield model
    finally:
        model.close()


def metered(
    work: Callable[[Item], Mapping[str, Any]], model: Metered | None
) -> Callable[[Item], Mapping[str, Any]]:
    """Return the same work, whose rows, rejected ones too, say what the model's part cost."""
    if model is None:
        return work

    def counted(item: Item) -> Mapping[str, Any]:
        model.taken()
        try:
            cells = work(item)
        except Rejected as no:
            no.cells |= model.taken().cells()
            raise
        return {**cells, **model.taken().cells()}

    return counted
