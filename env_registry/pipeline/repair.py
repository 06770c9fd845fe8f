"""A model that reads the log of a failed build and writes the next script: bounded, and never trusted with more.

Its script runs where the first one ran, as the same user within the same bounds. Packages it asks for are names of the
distribution's and nothing else.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from env_registry.pipeline import prompts
from env_registry.pipeline.build import Repair
from env_registry.pipeline.plan import SYSTEMS, Plan
from terminal_gym.errors import ContextFull, ModelRefused
from terminal_gym.llm.chat import ChatModel
from terminal_gym.trajectory.dialogue import Message

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_SCRIPT = 20_000  # characters


def model_repair(model: ChatModel | None) -> Repair | None:
    """Return what repairs builds, None where there is no model for it."""
    return None if model is None else lambda plan, log: repaired(model, plan, log)


def repaired(model: ChatModel, plan: Plan, log: str) -> Plan | None:
    """Return the plan to try next; None where the model has none.

    Raises:
        ProviderDown, AccessDenied: As the model does.
    """
    packages = ", ".join((*SYSTEMS[plan.system].packages, *plan.packages))
    asked = prompts.filled("repair-1", system=plan.system, packages=packages, script=plan.script, log=log)
    try:
        said = model.complete([Message("user", asked)]).message.content
        body = json.loads(said[said.find("{") : said.rfind("}") + 1])
    except (ContextFull, ModelRefused, ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    script, apt = body.get("script"), body.get("apt", [])
    if (
        not isinstance(script, str)
        or not script.strip()
        or len(script) > _SCRIPT
        or not isinstance(apt, list)
    ):
        return None
    if not all(isinstance(name, str) and _PACKAGE.fullmatch(name) for name in apt):
        return None
    return replace(plan, script=script, packages=(*plan.packages, *apt))
