"""The XML reply of Terminus-2 → an Action, or a complaint in words a model can act on. Pure functions.

Keystrokes are taken as they stand: entities are not decoded, for most shell text would suffer.

Source: Terminal-Bench 1.0 and Harbor, Terminus-2's XML parser.
"""

from __future__ import annotations

import re

from terminal_gym.errors import BadAction
from terminal_gym.llm.reply import LONGEST_WAIT_S, Reply
from terminal_gym.terminal.keys import encode, key_bytes
from terminal_gym.trajectory.record import Action

_ENTRY = re.compile(r"<keystrokes([^>]*)>(.*?)</keystrokes>", re.DOTALL)
_DURATION = re.compile(r"""duration\s*=\s*["']([^"']*)["']""")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos);")
_UNFIT = "Please fix these issues and provide a proper response."


def terminus_xml(text: str) -> Reply:
    """Return the batch of a Terminus-2 XML reply. A duration bounds its wait from above; 60 s at most."""
    begin = text.find("<response>")
    if begin < 0:
        return _complaint(["No <response> tag found"], [])
    body, _, after = text[begin + len("<response>") :].partition("</response>")
    warnings = _warnings(text[:begin], body, after)
    complete = _inner(body, "task_complete").strip().lower() in ("true", "1", "yes")
    if "<commands>" not in body:
        if not complete:
            return _complaint(["Missing <commands> section"], warnings)
        entries: list[tuple[str, str]] = []
    else:
        entries = _ENTRY.findall(_inner(body, "commands"))
        if not entries and not complete:
            warnings.append("The <commands> section is empty")
    keys, waits, errors = _batch(entries, warnings)
    if errors and not complete:
        return _complaint(errors, warnings)
    if errors:
        keys, waits, warnings = [], [], warnings + errors
    said = "\n".join(["Previous response had warnings:", *(f"WARNINGS: {warning}" for warning in warnings)])
    action = Action(keys=tuple(keys), waits_s=tuple(waits), submit=complete, text=text)
    return Reply(action, said if warnings else "")


def usable_part(text: str) -> str:
    """Return what can be used of a reply that was cut off: up to the end of its only whole response, "" without one."""
    end = text.find("</response>")
    whole = text[: end + len("</response>")] if "</commands>" in text[: max(end, 0)] else ""
    sound = whole.count("<response>") == 1 and whole.count("<commands>") == 1
    return whole if sound and terminus_xml(whole).action is not None else ""


def _warnings(before: str, body: str, after: str) -> list[str]:
    warnings = [f"Extra text detected {where} <response>" for where, text in
                (("before", before), ("after", after)) if text.strip()]  # fmt: skip
    if "<response>" in after:
        warnings.append("Only the first <response> was used")
    if body.count("<commands>") > 1:
        warnings.append("Only the first <commands> section was used")
    for name in ("analysis", "plan"):
        if not _inner(body, name).strip():
            warnings.append(f"Missing <{name}> section")
    if _ENTITY.search(_inner(body, "commands")):
        warnings.append("XML entities are not decoded: write characters as they are")
    return warnings


def _batch(entries: list[tuple[str, str]], warnings: list[str]) -> tuple[list[bytes], list[float], list[str]]:
    """(keys, seconds, errors), one of the first two per entry."""
    keys, waits, errors = list[bytes](), list[float](), list[str]()
    for number, (attributes, strokes) in enumerate(entries, 1):
        try:
            keys.append(encode(strokes))
        except BadAction as error:
            errors.append(f"Command {number}: {error}")
            continue
        waits.append(_seconds(attributes, number, warnings))
        is_text = strokes and key_bytes(strokes) is None
        if number < len(entries) and is_text and not strokes.endswith("\n"):
            warnings.append(f"Command {number} should end with newline: it runs together with the next one")
    return keys, waits, errors


def _seconds(attributes: str, number: int, warnings: list[str]) -> float:
    found = _DURATION.search(attributes)
    try:
        seconds = float(found[1]) if found else -1.0
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # also where it is not a number
        warnings.append(f"Command {number}: missing or invalid duration, 1.0 s is used")
        return 1.0
    return min(seconds, LONGEST_WAIT_S)


def _inner(body: str, tag: str) -> str:
    """Return what stands in the first such element, to the end where it is not closed."""
    return body.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]


def _complaint(errors: list[str], warnings: list[str]) -> Reply:
    parts = ["Previous response had parsing errors:", *(f"ERROR: {error}" for error in errors)]
    parts += [f"WARNINGS: {warning}" for warning in warnings]
    return Reply(None, "\n".join([*parts, "", _UNFIT]))
