"""A tiny tokenizer and model for the session; one thread, so that tests side by side do not wait for one another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import talk

from terminal_gym.errors import SandboxError
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.catalogue import read_folder

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("trl", reason="training needs the extra [train]")

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Qwen2 of about 0.1 million parameters, with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    return talk.model(folder, talk.tokenizer(folder))


def opened() -> Iterator[Runtime]:
    made = open_runtime("namespace")
    try:
        made.check()
        made.build(read_folder(HELLO).image)
    except SandboxError as error:
        made.close()
        pytest.skip(f"namespace: {error}")
    yield made
    made.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The embedded runtime, the image of the kit's task `hello` made; a trainer may close it."""
    yield from opened()


@pytest.fixture(scope="module")
def shared_runtime() -> Iterator[Runtime]:
    """Likewise, for what a module makes once."""
    yield from opened()


@pytest.fixture(scope="session")
def tokens(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)
