"""The card of a trained model: what it was made from, how, and what that does and does not show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.settings import NEEDS, plain
from training.table import Facts


def model_card(settings: Any, facts: Facts, told: dict[str, Any]) -> str:
    """Return the card as the model hub reads it."""
    from importlib.metadata import version

    base = settings.model.name
    is_name = not base.startswith((".", "/", "~")) and not Path(base).exists()
    how = f"LoRA of rank {settings.lora.rank}" if settings.lora else "all weights"
    versions = ", ".join(f"{name} {version(name)}" for name in NEEDS)
    lines = [
        "---",
        *([f"base_model: {base}"] if is_name else []),
        "tags: [terminal, agents, terminal-gym]",
        f"library_name: {'peft' if settings.lora else 'transformers'}",
        "---",
        "",
        f"# {base.rstrip('/').rpartition('/')[2]}, fine-tuned on terminal trajectories",
        "",
        f"- **Made from** {base}, {how}, {told['steps']} steps.",
        f"- **Learned from** {facts.rows['train']} contexts, {facts.learned['train']:,} tokens that a policy said; "
        f"sources: {', '.join(facts.sources)}.",
        f"- **Loss** {_number(told['first_loss'])} at first, {_number(told['last_loss'])} at last, "
        f"{_number(told['eval_loss'])} on repositories held out.",
        f"- **Form**: the template `{facts.template}`; contexts of up to {settings.context_tokens} tokens.",
        f"- **Software**: {versions}.",
        "",
        "A loss says how well trajectories are imitated, not how many tasks are solved: measure that with",
        "`tgym rollout`, on tasks whose repositories are not in the table.",
        "",
        "```json",
        json.dumps(plain(settings), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
