"""The plots of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.learning.report import (
    BLIND_AT_MOST,
    KS,
    MODELS,
    SOURCES,
    family_of,
    interval,
    only,
    pass_at_k,
    rate,
    sizes,
    whole,
)
from terminal_gym.trajectory.metrics import pass_at

COLOURS = {
    "base": "#7f7f7f",
    "blind": "#9467bd",
    "sft": "#1f77b4",
    "more": "#17becf",
    "faster": "#2ca02c",
    "rft": "#d62728",
}


def _by_size(results: Mapping[str, Any], source: str) -> dict[int, tuple[float, float, float]]:
    return {
        rows: interval(seeds, rate)
        for size, rows in sizes(results).items()
        if (seeds := whole(results, f"{source}-{size}"))
    }


def draw(results: Mapping[str, Any], file: Path) -> None:
    """Draw pass@k, pass@1 by model, and pass@1 by family, side by side, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {model: seeds for model in MODELS if (seeds := whole(results, model))}
    chosen = {source: _by_size(results, source) for source in SOURCES}
    has_sources = any(chosen.values())
    figure, (curves, bars, families, *more) = pyplot.subplots(
        1,
        3 + has_sources,
        figsize=(16 + 5 * has_sources, 5),
        gridspec_kw={"width_ratios": [1, 0.8, 1.6, *[1] * has_sources]},
    )
    for panel in more:
        for source, points in chosen.items():
            if points:
                xs = list(points)
                panel.errorbar(
                    xs,
                    [points[x][0] for x in xs],
                    yerr=[
                        [max(0.0, points[x][0] - points[x][1]) for x in xs],
                        [max(0.0, points[x][2] - points[x][0]) for x in xs],
                    ],
                    marker="o",
                    capsize=3,
                    label=source,
                )
        panel.set(xlabel="rows, whoever chose them", ylim=(0, 1.05), title="pass@1 by who chose the data")
        panel.legend(fontsize=8)
    for model, seeds in found.items():
        ks = [k for k in KS if all(pass_at(k, tasks) is not None for tasks in seeds.values())]
        told = [interval(seeds, pass_at_k(k)) for k in ks]
        curves.plot(
            ks,
            [t[0] for t in told],
            "o-",
            color=COLOURS[model],
            label=f"{model} ({len(seeds)} seed{'s' * (len(seeds) > 1)})",
        )
        curves.fill_between(ks, [t[1] for t in told], [t[2] for t in told], color=COLOURS[model], alpha=0.15)
    curves.set_xscale("log", base=2)
    curves.set_xticks(KS, [str(k) for k in KS])
    curves.set(
        xlabel="k", ylabel="pass@k on held-out tasks", ylim=(-0.02, 1.02), title="pass@k, 95 % intervals"
    )
    curves.legend(loc="center right", fontsize=8)
    for at, (model, seeds) in enumerate(found.items()):
        mean, low, high = interval(seeds, rate)
        bars.bar(
            at, mean, color=COLOURS[model], yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], capsize=4
        )
        bars.text(at, min(high, 1.0) + 0.02, f"{mean:.2f}", ha="center")
        bars.plot([at] * len(seeds), [rate(tasks) for tasks in seeds.values()], "k.", markersize=4)
    bars.axhline(BLIND_AT_MOST, color="black", linestyle=":", linewidth=1)
    bars.set_xticks(range(len(found)), list(found))
    bars.set(ylim=(0, 1.12), title="pass@1 (dots: seeds; dotted: bound for blind)")
    names = list(dict.fromkeys(family_of(task) for tasks in found.get("sft", {}).values() for task in tasks))
    shown = [model for model in ("blind", "sft", "rft") if model in found]
    for at, model in enumerate(shown):
        rates = [
            sum(rate(tasks) for tasks in kept.values()) / len(kept)
            for kept in (only(found[model], {key: {name} for key in found[model]}) for name in names)
        ]
        places = [place + (at - (len(shown) - 1) / 2) * 0.27 for place in range(len(names))]
        families.bar(places, rates, width=0.26, color=COLOURS[model], label=model)
    families.set_xticks(range(len(names)), names, rotation=45, ha="right")
    families.set(ylim=(0, 1.05), title="pass@1 by family")
    if shown:
        families.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
