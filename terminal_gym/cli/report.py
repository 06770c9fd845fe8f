"""What the commands print: results on stdout, words about progress on stderr, nothing raw from a sandbox."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from terminal_gym.sandbox.base import Image
from terminal_gym.trajectory.record import Status, Trajectory

PASSED, FAILED, USAGE, BROKEN = 0, 1, 2, 3
EXIT: dict[Status, int] = {"passed": PASSED, "failed": FAILED, "broken": BROKEN}
COLOUR = {
    "passed": "green",
    "failed": "red",
    "broken": "yellow",
    "error": "red",
    "warning": "yellow",
    "note": "dim",
}

_out, _err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)


def printable(text: str) -> str:
    """Return `text` with everything escaped that could act on a terminal; line feeds stay.

    >>> printable("ok\\x1b[2Jgone")
    'ok\\\\x1b[2Jgone'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Tell the person about progress, on stderr."""
    _err.print(Text(printable(text), style="dim"))


def complain(text: str) -> None:
    """Tell the person what went wrong, on stderr."""
    _err.print(Text(printable(text), style="red"))


def show(text: str, *, style: str = "") -> None:
    """Print a line of the result, on stdout."""
    _out.print(Text(printable(text), style=style))


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; a cell that is a status or severity gets its colour. Tab-separated where no person looks."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(printable(cell).replace("\n", " ").replace("\t", " ") for cell in row))
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), style=COLOUR.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def show_json(value: object) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(value, ensure_ascii=True, allow_nan=False))


def as_object(played: Trajectory, image: Image | None) -> dict[str, object]:
    """Return what `tgym run --json` prints of an episode."""
    outcome = played.outcome
    return {
        "task": played.task,
        "task_hash": played.task_hash,
        "agent": played.agent,
        "runtime": played.runtime,
        "image": image.name if image else None,
        "image_digest": played.image_digest or None,
        "substituted": image.substituted if image else "",
        "seed": played.seed,
        "status": outcome.status,
        "reward": outcome.reward,
        "reason": outcome.reason,
        "checks": [{"id": check.id, "outcome": check.outcome} for check in outcome.checks],
        "integrity": list(outcome.integrity),
        "grading": outcome.grading,
        "beside": None
        if outcome.beside is None
        else {"status": outcome.beside.status, "reward": outcome.beside.reward},
        "notes": list(outcome.notes),
        "steps": len(played.steps),
        "seconds": {phase: round(value, 4) for phase, value in played.seconds.items()},
    }


def show_episode(played: Trajectory) -> None:
    """Print an episode's verdict for a person."""
    outcome = played.outcome
    for check in outcome.checks:
        show(f"  {check.outcome:8}{check.id}", style=COLOUR.get(check.outcome, ""))
        if check.outcome != "passed" and check.detail:
            show("".join(f"          {line}\n" for line in check.detail.strip().splitlines()[-6:]).rstrip())
    reward = "none" if outcome.reward is None else f"{outcome.reward:.1f}"
    reason = f" ({outcome.reason})" if outcome.reason else ""
    phases = ", ".join(f"{phase} {value:.2f} s" for phase, value in played.seconds.items())
    show(f"{outcome.status}{reason}: {played.task}", style=COLOUR[outcome.status])
    show(
        f"  agent {played.agent}, runtime {played.runtime}, reward {reward}, {len(played.steps)} steps; {phases}"
    )
    if outcome.beside is not None:
        other, rules = outcome.beside, "parity" if outcome.grading == "strict" else "strict"
        why = f" ({other.error or other.reason})" if other.error or other.reason else ""
        show(f"  by {rules} rules: {other.status}{why}", style=COLOUR[other.status])
    for note in outcome.notes:
        show(f"  note: {note}", style="dim")
    for flag in outcome.integrity:
        show(f"  flag: {flag}", style="yellow")
