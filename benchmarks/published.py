"""Numbers that others published: reference lines beside a measured score, never mixed with one.

Their harness, machines, attempts and sometimes task counts differ from ours, and nothing here was measured by us.

Source: TerminalTraj, arXiv 2602.01244v3, Table 2 and the pass@k figure; the TB 2.1 line from
Terminal-Universe (arXiv 2609.04148).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One published pass rate."""

    model: str
    agent: str
    version: str  # of Terminal-Bench
    percent: float
    k: int = 1  # of pass@k; 1: the pass rate
    note: str = ""
    source: str = "TerminalTraj, Table 2"


_DAGGER = "marked † in the paper, which does not say why"
_ROWS: tuple[tuple[str, str, float, float, str], ...] = (
    ("Qwen3-Coder-30B-A3B-Instruct", "Terminus-2", 23.80, 14.60, ""),
    ("Qwen3-30B-A3B-Nex-N1", "OpenHands", 25.00, 8.30, _DAGGER),
    ("Qwen3-32B", "OpenHands", 11.25, 3.40, ""),
    ("Qwen3-32B-Nex-N1", "OpenHands", 28.75, 16.70, _DAGGER),
    ("Qwen2.5-Coder-7B-Instruct", "Terminus-2", 6.25, 0.00, ""),
    ("Qwen2.5-Coder-14B-Instruct", "Terminus-2", 6.25, 1.18, "fits 1 of 85 and no count of 89 tasks"),
    ("Qwen2.5-Coder-32B-Instruct", "Terminus-2", 5.00, 4.49, ""),
    ("TerminalTraj-7B", "Terminus-2", 23.01, 10.10, ""),
    ("TerminalTraj-14B", "Terminus-2", 28.91, 19.10, ""),
    ("TerminalTraj-32B", "Terminus-2", 35.30, 22.00, "22.00 fits no count of 89 tasks"),
)
LINES: tuple[Line, ...] = (
    *(Line(model, agent, "1.0", tb1) for model, agent, tb1, _, _ in _ROWS),
    Line(
        "TerminalTraj-32B",
        "Terminus-2",
        "1.0",
        63.75,
        k=16,
        note="51 of 80",
        source="TerminalTraj, pass@k figure",
    ),
    *(Line(model, agent, "2.0", tb2, note=note) for model, agent, _, tb2, note in _ROWS),
    Line(
        "TerminalTraj-32B", "not stated", "2.1", 28.5, note="measured by others", source="Terminal-Universe"
    ),
)
NOTES = (
    "Published by others, on other machines with other harnesses: not measured here, in no mean and in no test.",
    "How many runs stand behind the paper's TB 1.0 means cannot be recovered; its TB 2.0 denominators are not uniform.",
    'The paper\'s "+20 / +10" is not this table: it gives +16.8/+10.1 (7B), +22.7/+17.9 (14B), +30.3/+17.5 (32B).',
)


def lines(version: str) -> tuple[Line, ...]:
    """Return what was published for one version of Terminal-Bench; nothing for an unknown one."""
    return tuple(line for line in LINES if line.version == version)
