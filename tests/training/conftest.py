"""A tiny tokenizer and model for the session; one thread, so that tests side by side do not wait for one another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kit import talk

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("trl", reason="training needs the extra [train]")

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


@pytest.fixture(scope="session")
def tokens(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)
