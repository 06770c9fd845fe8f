"""Opens tokenizers by name or folder; transformers is imported when one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting


def open_tokenizer(name: str) -> Any:
    """Return the tokenizer of that name or in that folder.

    Raises:
        BadSetting: It cannot be loaded, or transformers is missing.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        advice = "In a checkout: pip install -e '.[train]'."
        raise BadSetting(f"A tokenizer needs the package {error.name}. {advice}") from error
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise BadSetting(f"There is no folder {name}. Name a checkpoint, or a model of the hub.")
    try:
        return AutoTokenizer.from_pretrained(str(Path(name).expanduser()) if name.startswith("~") else name)
    except (OSError, ValueError) as error:
        raise BadSetting(f"The tokenizer {name} cannot be loaded: {str(error)[:400]}") from error
