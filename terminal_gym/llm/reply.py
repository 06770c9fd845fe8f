"""Codecs: what a policy said → an Action, or a complaint in words a model can act on. Pure functions.

`keys`      text typed as it is, or the name of one key ("C-c", "Enter", "Up")
`bash`      one command, of one line or many, whose output and exit code come back; or a control key ("C-c")
`terminus`  the JSON reply of Terminus-2: a batch of keystrokes and whether the task is done

In each, `<submit>` alone ends the episode. Source for `terminus`: Terminal-Bench 1.0 and Harbor, Terminus-2's parser.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from terminal_gym.errors import BadAction
from terminal_gym.terminal.keys import encode, key_bytes
from terminal_gym.trajectory.record import Action

ActionMode = Literal["keys", "bash", "terminus"]
MODES: tuple[ActionMode, ...] = ("keys", "bash", "terminus")
SUBMIT = "<submit>"
_COMMANDS = ("ls", "pwd", "id", "date", "ls -la /", "echo hello", "uname -a", "cat /etc/os-release")
SAMPLES: dict[ActionMode, tuple[str, ...]] = {  # harmless actions, for `action_space.sample()`
    "keys": tuple(f"{command}\n" for command in _COMMANDS),
    "bash": _COMMANDS,
    "terminus": tuple(
        json.dumps(
            {"analysis": "", "plan": "", "commands": [{"keystrokes": f"{command}\n", "duration": 1.0}]}
        )
        for command in _COMMANDS
    ),
}
LONGEST_WAIT_S = 60.0  # of one entry of a Terminus-2 batch
_FIELDS = ("analysis", "plan", "commands")
_PREVIEW = 100


@dataclass(frozen=True)
class Reply:
    """An action, or the reason why there is none; warnings go with an action."""

    action: Action | None
    complaint: str = ""

    def __post_init__(self) -> None:
        # It quotes the reply, in which JSON may have escaped half a character; it is sent, and stored.
        object.__setattr__(self, "complaint", self.complaint.encode("utf-8", "backslashreplace").decode())


def read(text: str, mode: ActionMode) -> Reply:
    """Return what `text` asks for in `mode`."""
    if text.strip() == SUBMIT:
        return Reply(Action(submit=True, text=text))
    if mode == "keys":
        return Reply(Action(keys=(encode(text),) if text else (), text=text))
    if mode == "bash":
        return Reply(bash(text))
    return terminus(text)


def bash(text: str) -> Action:
    """Return the command; blank text only looks again, and a control key's name is that key."""
    name = text.strip()
    if not name:
        return Action(text=text)
    key = key_bytes(name) if name.startswith("C-") else None
    return Action(command=text, text=text) if key is None else Action(keys=(key,), text=text)


def terminus(text: str) -> Reply:
    """Return the batch of a Terminus-2 JSON reply. A duration bounds its wait from above; 60 s at most."""
    errors, warnings, parsed = _parsed(text)
    if parsed is None and (fixed := _auto_fixed(text)) is not None:
        name, parsed = fixed
        warnings.append(f"AUTO-CORRECTED: {name} - please fix this in future responses")
        errors = []
    if parsed is None:
        return Reply(None, _errors_text(errors, warnings))
    complete = _is_true(parsed.get("task_complete", False))
    keys, waits, wrong = _batch(parsed["commands"], warnings)
    if wrong and complete:
        warnings += wrong
        keys, waits = [], []
    elif wrong:
        return Reply(None, _errors_text(wrong, warnings))
    action = Action(keys=tuple(keys), waits_s=tuple(waits), submit=complete, text=text)
    return Reply(action, _warnings_text(warnings))


def _parsed(text: str) -> tuple[list[str], list[str], dict[str, Any] | None]:
    """(errors, warnings, object): the object is None where there are errors."""
    warnings: list[str] = []
    span = _first_object(text)
    if span is None:
        return ["No valid JSON found in response"], warnings, None
    before, body, after = text[: span[0]], text[span[0] : span[1]], text[span[1] :]
    if before.strip():
        warnings.append("Extra text detected before JSON object")
    if after.strip():
        warnings.append("Extra text detected after JSON object")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        shown = body if len(body) < 2 * _PREVIEW else body[:_PREVIEW] + "..."
        return [f"Invalid JSON: {error} | Content: {shown!r}"], warnings, None
    if not isinstance(parsed, dict):
        return ["Response must be a JSON object"], warnings, None
    missing = [name for name in _FIELDS if name not in parsed]
    if missing:
        return [f"Missing required fields: {', '.join(missing)}"], warnings, None
    if not isinstance(parsed["commands"], list):
        return ["Field 'commands' must be an array"], warnings, None
    for name in ("analysis", "plan"):
        if not isinstance(parsed[name], str):
            warnings.append(f"Field '{name}' should be a string")
    if [name for name in parsed if name in _FIELDS] != list(_FIELDS):
        warnings.append(f"Fields appear in wrong order. Expected: {', '.join(_FIELDS)}")
    return [], warnings, parsed


def _batch(entries: list[Any], warnings: list[str]) -> tuple[list[bytes], list[float], list[str]]:
    """(keys, seconds, errors), one of the first two per entry."""
    keys, waits, errors = list[bytes](), list[float](), list[str]()
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            errors.append(f"Command {number} must be an object")
            continue
        strokes = entry.get("keystrokes")
        if not isinstance(strokes, str):
            what = (
                "is missing required 'keystrokes' field"
                if strokes is None
                else "'keystrokes' must be a string"
            )
            errors.append(f"Command {number} {what}")
            continue
        try:
            keys.append(encode(strokes))
        except BadAction as error:
            errors.append(f"Command {number}: {error}")
            continue
        duration = entry.get("duration")
        if isinstance(duration, bool) or not isinstance(duration, int | float) or not duration >= 0:
            found = "missing" if duration is None else "invalid"
            warnings.append(f"Command {number}: {found} duration, 1.0 s is used")
            duration = 1.0
        if unknown := sorted(set(entry) - {"keystrokes", "duration"}):
            warnings.append(f"Command {number}: unknown fields {', '.join(unknown)}")
        is_text = strokes and key_bytes(strokes) is None
        if number < len(entries) and is_text and not strokes.endswith("\n"):
            warnings.append(f"Command {number} should end with newline: it runs together with the next one")
        waits.append(float(min(duration, LONGEST_WAIT_S)))
    return keys, waits, errors


def _auto_fixed(text: str) -> tuple[str, dict[str, Any]] | None:
    """Missing closing braces, then the first object of at most two levels that parses."""
    closing = text.count("{") - text.count("}")
    if closing > 0:
        parsed = _parsed(text + "}" * closing)[2]
        if parsed is not None and not _batch(parsed["commands"], [])[2]:
            return "Fixed incomplete JSON by adding missing closing brace", parsed
    for found in re.finditer(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", text):
        parsed = _parsed(found[0])[2]
        if parsed is not None and not _batch(parsed["commands"], [])[2]:
            return "Extracted JSON from mixed content", parsed
    return None


def _first_object(text: str) -> tuple[int, int] | None:
    """Span of the first balanced `{…}`; braces within strings do not count."""
    begin = text.find("{")
    depth, in_string, escaped = 0, False, False
    for at in range(begin, len(text)) if begin >= 0 else ():
        char = text[at]
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return begin, at + 1
    return None


def _is_true(value: object) -> bool:
    return value.lower() in ("true", "1", "yes") if isinstance(value, str) else value is True


def _errors_text(errors: list[str], warnings: list[str]) -> str:
    parts = ["Previous response had parsing errors:", *(f"ERROR: {error}" for error in errors)]
    parts += [f"WARNINGS: {warning}" for warning in warnings]
    return "\n".join([*parts, "", "Please fix these issues and provide a proper JSON response."])


def _warnings_text(warnings: list[str]) -> str:
    if not warnings:
        return ""
    return "\n".join(["Previous response had warnings:", *(f"WARNINGS: {warning}" for warning in warnings)])
