"""One trajectory as the page shows it: steps with what the model said, typed and saw, on the recording's clock.

All text in it may come from an agent. It is handed over as JSON text and shown as text, never as markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from terminal_gym.trajectory.dialogue import Turn
from terminal_gym.trajectory.record import Frame, Step, Trajectory

LONGEST_TEXT = 100_000  # characters of one text; the middle of a longer one is left out


def shown(played: Trajectory) -> dict[str, Any]:
    """Return an episode without its recording, as JSON values."""
    outcome, usage = played.outcome, played.usage
    later_s = lead_s(played)
    return {
        "task": played.task,
        "attempt": played.attempt,
        "agent": played.agent,
        "model": played.model,
        "runtime": played.runtime,
        "image_digest": played.image_digest,
        "task_hash": played.task_hash,
        "seed": played.seed,
        "began_at": played.began_at,
        "instruction": cut(played.instruction),
        "status": outcome.status,
        "reward": outcome.reward,
        "reason": cut(outcome.reason),
        "limit": played.limit,
        "checks": [
            {"id": check.id, "outcome": check.outcome, "detail": cut(check.detail)}
            for check in outcome.checks
        ],
        "integrity": list(outcome.integrity),
        "failures": [cut(text) for text in played.failures],
        "versions": dict(played.versions),
        "seconds": _finite(played.seconds),
        "tokens": {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens},
        "cost_usd": usage.cost_usd,
        "rows": played.rows,
        "cols": played.cols,
        "recorded": any(frame.direction == "out" for frame in played.frames),
        "steps": [_step(step, later_s, screen=not played.frames) for step in played.steps],
    }


def lead_s(played: Trajectory) -> float:
    """Return how many seconds the recording had run when the steps' clock began.

    A recording begins with its terminal, which may have waited for its episode. The first typed bytes are in both, and
    tie the two clocks; where nothing was typed, their ends do.
    """
    typed = [frame for frame in played.frames if frame.direction == "in"]
    for step in played.steps:
        first = _first_typed(step)
        if first:
            found = next((frame for frame in typed if first[:40] in frame.data), None)
            if found is not None:
                return max(0.0, found.at_s - step.began_s)
    if not played.frames or not played.steps:
        return 0.0
    return max(0.0, _last(played.frames) - played.steps[-1].ended_s)


def _first_typed(step: Step) -> bytes:
    if step.action.command is not None:
        return step.action.command.strip().partition("\n")[0].encode(errors="replace")
    return next((keys for keys in step.action.keys if keys), b"")


def _last(frames: tuple[Frame, ...]) -> float:
    return max((frame.at_s for frame in frames if math.isfinite(frame.at_s)), default=0.0)


def _step(step: Step, later_s: float, *, screen: bool) -> dict[str, Any]:
    action, seen = step.action, step.observation
    return {
        "at_s": _number(step.began_s + later_s),
        "began_s": _number(step.began_s),
        "ended_s": _number(step.ended_s),
        "said": cut(action.text),
        "turns": [_turn(turn) for turn in action.turns],
        "keys": [cut(readable(keys)) for keys in action.keys],
        "waits_s": [_number(wait) for wait in action.waits_s],
        "command": None if action.command is None else cut(action.command),
        "submit": action.submit,
        "output": cut(seen.output),
        "screen": cut(seen.screen) if screen else None,
        "exit_code": seen.exit_code,
        "settled_by": seen.settled_by,
        "complaint": cut(seen.complaint),
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "purpose": turn.purpose,
        "fresh": turn.fresh,
        "messages": [
            {"role": message.role, "content": cut(message.content)} for message in turn.messages[-20:]
        ],
        "earlier": max(0, len(turn.messages) - 20),
        "reasoning": cut(turn.reasoning),
        "reply": cut(turn.reply.content),
        "tool_calls": [
            {"name": call.name, "arguments": cut(call.arguments)} for call in turn.reply.tool_calls
        ],
        "finish": turn.finish,
        "prompt_tokens": turn.usage.prompt_tokens,
        "completion_tokens": turn.usage.completion_tokens,
        "seconds": _number(turn.seconds),
    }


def readable(keys: bytes) -> str:
    r"""Return typed bytes as text in which every control character can be seen; a line feed or Enter also ends a line.

    >>> readable(b"ls\n:wq\r\x1b[A\x03")
    'ls⏎\n:wq⏎\n␛[A␃'
    """
    text = keys.decode("utf-8", "replace")
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char in "\r\n":
        return "⏎\n"
    if char < " ":
        return chr(0x2400 + ord(char))
    return "␡" if char == "\x7f" else char


def cut(text: str) -> str:
    """Return `text`, its middle left out where it is longer than LONGEST_TEXT."""
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}
