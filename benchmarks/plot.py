"""The plot of a report: pass@k as measured, and in a panel of their own the numbers that others published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import published
from benchmarks.findings import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
)  # Okabe and Ito, 2008
_STYLE = {"parity": "-", "strict": "--"}


def pass_at_k(report: Report, path: Path) -> None:
    """Draw pass@k with 95 % intervals over tasks as a PNG."""
    version = report.runs[0].benchmark.rpartition("@")[2]
    lines = published.lines(version) if len({one.benchmark for one in report.runs}) == 1 else ()
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 5.4), dpi=150, layout="constrained")
        if lines:
            measured, beside = figure.subplots(1, 2, sharey=True, width_ratios=[2.6, 1])
            _draw_published(beside, lines)
        else:
            measured = figure.subplots()
        _draw_measured(measured, report)
        figure.savefig(path)


def _draw_measured(axes: Axes, report: Report) -> None:
    most = 1
    curves = [(at, rules, one) for at, found in enumerate(report.scores) for rules, one in found.items()]
    for number, (at, rules, one) in enumerate(curves):
        ks = list(one.pass_at)
        values = [100 * one.pass_at[k][0] for k in ks]
        low = [100 * one.pass_at[k][1][0] for k in ks]
        high = [100 * one.pass_at[k][1][1] for k in ks]
        most = max(most, *ks)
        colour = _COLOURS[at % len(_COLOURS)]
        label = f"{report.letter(at)}  {report.runs[at].played_by}, {rules}"
        marker = "o" if rules == "parity" else "s"
        axes.plot(ks, values, _STYLE[rules], color=colour, marker=marker, markersize=5, label=label, zorder=3)
        if len(ks) == 1:
            shift = 0.06 * (number - (len(curves) - 1) / 2)
            axes.errorbar(
                [1 + shift],
                values,
                yerr=[[values[0] - low[0]], [high[0] - values[0]]],
                color=colour,
                capsize=3,
            )
        elif rules == report.runs[at].grading:  # the other rules' band would hide it, and is in the table
            axes.fill_between(ks, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel="k (attempts at a task)", ylabel="pass@k, %", ylim=(-2, 102), xlim=(0.7, most + 0.3))
    axes.set_xticks(range(1, most + 1))
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.legend(loc="best", frameon=False, fontsize=9)
    tasks = " / ".join(sorted({str(len(one.tasks)) for one in report.runs}))
    names = ", ".join(sorted({one.benchmark or "no benchmark" for one in report.runs}))
    axes.set_title(f"{names}: measured, {tasks} tasks; bands: 95 % over tasks", fontsize=10, loc="left")
    if report.missing:
        said = f"{report.missing} attempts without a verdict are left out"
        axes.text(
            0.5,
            0.02,
            said,
            transform=axes.transAxes,
            color="#b00020",
            fontsize=10,
            weight="bold",
            ha="center",
        )


def _draw_published(axes: Axes, lines: tuple[published.Line, ...]) -> None:
    """Draw what others published, hollow and grey, names apart where values are close."""
    ordered = sorted(lines, key=lambda line: line.percent)
    for line, at in zip(ordered, _apart([line.percent for line in ordered], 4.2), strict=True):
        axes.plot([0], [line.percent], "D", markerfacecolor="white", markeredgecolor="#777777", markersize=5)
        axes.plot([0.04, 0.16], [line.percent, at], color="#bbbbbb", linewidth=0.8)
        k = f" (pass@{line.k})" if line.k > 1 else ""
        axes.text(0.18, at, f"{line.model}{k}  {line.percent:g}", fontsize=7, va="center", color="#444444")
    axes.set(xlim=(-0.1, 1.6))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("published by others,\nnot measured here", fontsize=9, loc="left", color="#444444")


def _apart(values: list[float], gap: float) -> list[float]:
    """Return places near `values`, ascending, at least `gap` from one another and not below the axis."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    shift = min(sum(places) / len(places) - sum(values) / len(values), places[0])
    return [place - shift for place in places]
