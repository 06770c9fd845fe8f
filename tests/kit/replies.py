"""What a model might say of real projects: a script for the local server, one reply for each project by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from kit.chat_server import Fault, Request, Said

REPLIES = Path(__file__).parents[1] / "env_registry" / "pipeline" / "replies.yaml"


def replies() -> list[dict[str, Any]]:
    """Return every reply: `project`, what is said, and the stage and reason with which it must end ("": kept)."""
    found: list[dict[str, Any]] = yaml.safe_load(REPLIES.read_text("utf-8"))
    return found


def script(request: Request) -> Said | Fault:
    """Answer for the project that the prompt names."""
    asked = re.search(r"^--- repository ([^,]+),", request["messages"][-1]["content"], re.M)
    assert asked, "the prompt names no repository"
    known = {one["project"]: one for one in replies()}
    one = known.get(asked[1])
    if one is None or one.get("refuses"):
        return Said("", finish="content_filter")
    return Said(one["text"] if "text" in one else json.dumps(one["reply"]))
