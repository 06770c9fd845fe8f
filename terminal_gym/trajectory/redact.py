"""Secrets that are known are taken out of a trajectory before it is stored.

Found are a secret as it is, in base64 at any of its three alignments, with escape sequences between its characters, and
split over chunks of the terminal. What is found is replaced by as many asterisks. It does not promise to find a secret
in any other disguise: the promise that counts is that no secret is in a sandbox in the first place.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from terminal_gym.trajectory.record import Frame, Step, Trajectory

T = TypeVar("T")
_NAMES = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSWORD)$", re.I)
SHORTEST = 8  # characters; shorter ones would be found everywhere
# ECMA-48 control sequences, OSC strings, other escapes, and what a terminal puts between when it wraps a line.
_BETWEEN = rb"(?:\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\r\n\x08])*"


class Redactor:
    """Takes `secrets` out; those that are too short to be told from other text are left."""

    def __init__(self, secrets: Iterable[str]):
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        forms = [form for secret in known for form in _forms(secret.encode())]
        self._pattern = re.compile(b"|".join(map(_spread, forms))) if forms else None

    def trajectory(self, played: Trajectory) -> Trajectory:
        """Return the trajectory without secrets; the same object where there is none.

        Where a model saw or said one, no token ids stay either: they spell it.
        """
        if self._pattern is None:
            return played
        frames, plain = self._frames(played.frames), replace(played, frames=())
        rest = self._value(plain)
        if rest.turns != plain.turns:
            rest = replace(rest, steps=tuple(_without_ids(step) for step in rest.steps))
        return played if frames == played.frames and rest is plain else replace(rest, frames=frames)

    def bytes(self, data: bytes) -> bytes:
        """Return `data` without secrets, as long as before."""
        return self._pattern.sub(lambda found: b"*" * len(found[0]), data) if self._pattern else data

    def _frames(self, frames: Sequence[Frame]) -> tuple[Frame, ...]:
        """Each direction is one stream, however it was cut."""
        cleaned = list(frames)
        for direction in ("in", "out"):
            at = [number for number, frame in enumerate(frames) if frame.direction == direction]
            data, start = self.bytes(b"".join(frames[number].data for number in at)), 0
            for number in at:
                end = start + len(frames[number].data)
                cleaned[number] = replace(frames[number], data=data[start:end])
                start = end
        return tuple(cleaned)

    def _value(self, value: T) -> T:
        """Return a value without secrets in any of its texts and bytes, however deep."""
        cleaned: Any = value
        if isinstance(value, str):
            cleaned = self.bytes(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
        elif isinstance(value, bytes):
            cleaned = self.bytes(value)
        elif is_dataclass(value) and not isinstance(value, type):
            cells = {field.name: getattr(value, field.name) for field in fields(value)}
            new = {name: self._value(cell) for name, cell in cells.items()}
            changed = {name: cell for name, cell in new.items() if cell is not cells[name]}
            cleaned = replace(value, **changed) if changed else value
        elif isinstance(value, tuple) and not (value and isinstance(value[0], int | float)):
            parts = tuple(self._value(part) for part in value)
            cleaned = parts if any(a is not b for a, b in zip(parts, value, strict=True)) else value
        elif isinstance(value, dict):
            cleaned = {key: self._value(cell) for key, cell in value.items()}
        return value if cleaned == value else cleaned


def _without_ids(step: Step) -> Step:
    turns = tuple(
        replace(turn, kept_ids=0, prompt_ids=(), output_ids=(), logprobs=()) for turn in step.action.turns
    )
    return replace(step, action=replace(step.action, turns=turns))


def known_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the variables whose names say that they hold a secret."""
    return tuple(value for name, value in environment.items() if _NAMES.search(name))


def _forms(secret: bytes) -> list[bytes]:
    """The secret, and what it always is in base64: at each alignment, the characters that no neighbour changes."""
    forms = [secret]
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + secret)
        first = -(-8 * before // 6)  # characters that hold bits of what stands before
        last = (before + len(secret)) * 8 // 6
        forms += [coded[first:last], base64.urlsafe_b64encode(b"\0" * before + secret)[first:last]]
    return list(dict.fromkeys(forms))


def _spread(form: bytes) -> bytes:
    return _BETWEEN.join(re.escape(form[at : at + 1]) for at in range(len(form)))
