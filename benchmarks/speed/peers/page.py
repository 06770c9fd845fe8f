"""What was found, as Markdown and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed.peers.compare import WORKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NONE = "-"
OURS = "terminal-gym docker"  # what a peer's ratio is taken to
_HEADINGS = {
    "reset": "cold reset",
    "step": "step of `echo hi`",
    "terminus": "Terminus-2 step",
    "verify": "verify (2 tests)",
}


def as_markdown(raw: Mapping[str, Any]) -> str:
    """Return the page for what `compare.as_json` wrote."""
    contenders: Mapping[str, Any] = raw["contenders"]
    parts = [
        "# The same work: us, the bare floors, and the peers",
        _facts(raw),
        *_one_at_a_time(contenders),
        "## Whole episodes, many at once",
        f"Reset, {raw['plan']['steps_an_episode']} steps, verify, end without grace. CPU: everything that the machine "
        "did meanwhile, the Engine and its shims included, from `/proc/stat`; it means something on an otherwise quiet "
        "machine. Ours starts and judges two at a time, as `tgym rollout` does. Step: its median under this load. "
        "Memory: growth of the contender's own process for each environment that waits at its prompt.",
        _table(
            ["", "at once", "episodes/min", "failed", "CPU s/episode", "step, ms", "MiB/environment"],
            [row for name, one in contenders.items() for row in _throughput(name, one)],
        ),
    ]
    reasons = [
        f"- {name}, {what}: {_plain(why)}"
        for name, one in contenders.items()
        for what, why in one["reasons"].items()
    ]
    parts += ["## What did not work here", "\n".join(reasons)] if reasons else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(raw: Mapping[str, Any]) -> str:
    machine, repeats = raw["machine"], raw["plan"]["repeats"]
    told = [
        f"{machine['cpus']} processors, kernel {machine['kernel']}, Python {machine['python']}, commit "
        f"{machine['commit']}, load {machine['load_1min']} when this was written."
    ]
    if repeats:
        told.append(f"Contenders took turns (A B A B …), {repeats} turns each after one that does not count.")
    if peers := [f"{name} {raw['versions'][name]}" for name in raw["contenders"] if name in raw["versions"]]:
        told.append(f"Peers: {', '.join(peers)}.")
    return " ".join(told)


def _one_at_a_time(contenders: Mapping[str, Any]) -> list[str]:
    heads = ["", *(_HEADINGS.get(work, work) for work in WORKS)]
    measured = {name: one for name, one in contenders.items() if one["turns"]}
    if not measured:
        return []
    parts = [
        "## One at a time, milliseconds: median (p95)",
        _table(heads, [_times(name, one) for name, one in measured.items()]),
    ]
    if OURS in measured:
        others = {name: one for name, one in measured.items() if name != OURS}
        parts += [
            f"## How many times as long as {OURS}",
            "The median over turns of the ratio of neighbouring turns; above 1: it takes longer than we do.",
            _table(heads, [_ratios(name, one, measured[OURS]) for name, one in others.items()]),
        ]
    return parts


def as_plot(raw: Mapping[str, Any], path: Path) -> None:
    """Draw a PNG: the medians, on one logarithmic axis for each work; without them, the curve over many at once."""
    import matplotlib as mpl  # not above: the tables need no plots

    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        measured = {name: one for name, one in raw["contenders"].items() if one["turns"]}
        figure = _bars(measured) if measured else _curves(raw["contenders"])
        figure.savefig(path)


def _bars(measured: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    shown = ("reset", "step", "10 MB", "verify", "close")
    names = list(measured)[::-1]
    figure = Figure(figsize=(13, 0.34 * len(names) + 1.2), dpi=130, layout="constrained")
    for axes, work in zip(figure.subplots(1, len(shown), sharey=True), shown, strict=True):
        for at, name in enumerate(names):
            values = _flat(measured[name], work)
            if values:
                median = statistics.median(values)
                axes.barh(at, median, color=_colour(name))
                axes.text(median, at, f" {_short(median)}", va="center", fontsize=8)
        axes.set(xscale="log", title=f"{work}, ms", yticks=range(len(names)))
        axes.set_yticklabels(names)
        axes.margins(x=0.35)
        axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _curves(contenders: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(9, 3.6), dpi=130, layout="constrained")
    pace, cost = figure.subplots(1, 2)
    for name, one in contenders.items():
        turns = [turn for turn in one["episodes"] if turn["passed"]]
        ats = [turn["at_once"] for turn in turns]
        pace.plot(ats, [60 * turn["passed"] / turn["seconds"] for turn in turns], "o-", label=name)
        cost.plot(ats, [turn["machine_cpu_s"] / turn["passed"] for turn in turns], "o-", label=name)
    ticks = sorted({turn["at_once"] for one in contenders.values() for turn in one["episodes"]})
    for axes, title in ((pace, "episodes a minute"), (cost, "CPU seconds an episode")):
        axes.set(xscale="log", xlabel="at once", title=title, xticks=ticks)
        axes.set_xticklabels(map(str, ticks))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
    pace.legend(frameon=False)
    return figure


def _colour(name: str) -> str:
    return (
        "#0072b2" if name.startswith("terminal-gym") else "#999999" if name.startswith("floor") else "#d55e00"
    )


def _times(name: str, one: Mapping[str, Any]) -> list[str]:
    return [name, *(_median_p95(_flat(one, work), work in one["reasons"]) for work in WORKS)]


def _median_p95(values: Sequence[float], failed: bool) -> str:
    if not values:
        return "failed" if failed else _NONE
    p95 = sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]
    return f"{_short(statistics.median(values))} ({_short(p95)})"


def _ratios(name: str, one: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    row = [name]
    for work in WORKS:
        pairs = list(zip(one["turns"].get(work, []), ours["turns"].get(work, []), strict=False))
        ratios = [statistics.median(theirs) / statistics.median(own) for theirs, own in pairs]
        row.append(_short(statistics.median(ratios)) if ratios else _NONE)
    return row


def _throughput(name: str, one: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for at_once in sorted({turn["at_once"] for turn in one["episodes"]}):
        turns = [turn for turn in one["episodes"] if turn["at_once"] == at_once]
        passed = sum(turn["passed"] for turn in turns)
        failed, count = sum(turn["failed"] for turn in turns), sum(turn["count"] for turn in turns)
        cpu = _short(sum(turn["machine_cpu_s"] for turn in turns) / passed) if passed else _NONE
        a_minute = _short(statistics.median(60 * turn["passed"] / turn["seconds"] for turn in turns))
        steps = [turn["step_ms_median"] for turn in turns if turn["step_ms_median"] is not None]
        memory = _NONE if one["memory_mib"] is None else f"{one['memory_mib']:.2f}"
        rows.append(
            [
                name,
                str(at_once),
                a_minute,
                f"{failed} of {count}",
                cpu,
                _short(statistics.median(steps)) if steps else _NONE,
                memory,
            ]
        )
    return rows


def _flat(one: Mapping[str, Any], work: str) -> list[float]:
    return [value for turn in one["turns"].get(work, []) for value in turn]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:300]
