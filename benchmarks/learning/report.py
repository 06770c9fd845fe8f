"""What the experiment found: numbers with intervals, three plots, and a page in words. Reads the folder only.

Intervals are 95 % bootstrap intervals over tasks and seeds: seeds are drawn with replacement, then tasks within each.
Source: pass@k as in `terminal_gym.trajectory.metrics`; Efron and Tibshirani 1993, chapter 13: the percentile interval.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from terminal_gym.rollout.judge import judgements
from terminal_gym.trajectory.metrics import Tally, by_task, pass_at
from terminal_gym.trajectory.store import Run

KS = (1, 2, 4, 8, 16)
MODELS = ("base", "blind", "sft", "more", "faster", "rft")
CONTROLS = {"more": "its control", "faster": "its second control, at three times the rate"}  # of rft
SOURCES = ("verified", "unverified", "judged")  # of (c), see `experiment.py`
RESAMPLES = 2000
HALF = (0.2, 0.8)  # solve rates in practice between which a family counts as half solved
BLIND_AT_MOST = 0.10
Tasks = Mapping[str, Tally]


def collect(folder: Path) -> dict[str, Any]:
    """Return the raw results of an experiment's folder, as far as it got: counts, losses, settings."""
    seeds: dict[str, Any] = {}
    for place in sorted(folder.glob("seed-*")):
        runs = {run.name: _counts(run) for run in sorted(place.iterdir()) if (run / "run.json").exists()}
        if (place / "rft" / "round-0" / "run" / "run.json").exists():
            runs["practice"] = _counts(place / "rft" / "round-0" / "run")
        seeds[place.name.removeprefix("seed-")] = {
            "runs": runs,
            "fits": {
                str(file.parent.relative_to(place)): _losses(file)
                for file in sorted(place.glob("**/history.json"))
            },
            "rounds": _rounds(place / "rft" / "rounds.json"),
        }
    taught = [_counts(run) for run in sorted(folder.glob("teacher-*")) if (run / "run.json").exists()]
    tables = sorted(file.parent for file in (folder / "tables").glob("*/table.json"))
    return {
        "settings": json.loads((folder / "settings.json").read_text("utf-8")),
        "teacher": {"tasks": {task: counts for run in taught for task, counts in run["tasks"].items()}},
        "domains": _domains(folder),
        "tables": {table.name: rows_in(table) for table in tables},
        "judge": _judge(folder),
        "seeds": seeds,
    }


def rows_in(table: Path) -> int:
    """Return how many rows a training table has."""
    return int(json.loads((table / "table.json").read_text("utf-8"))["rows"]["train"])


def _domains(folder: Path) -> dict[str, str]:
    """Return family → domain."""
    index = folder / "tasks" / "train" / "index.jsonl"
    rows = map(json.loads, index.read_text("utf-8").splitlines() if index.exists() else ())
    return {family_of(row["id"]): row["domain"] for row in rows}


def _judge(folder: Path) -> dict[str, int]:
    """Return how code and judge agreed about the teacher that errs."""
    told = {"both_passed": 0, "both_failed": 0, "only_code_passed": 0, "only_model_passed": 0}
    run = folder / "noisy"
    if not (run / "run.json").exists():
        return told
    opinions = judgements(run, model="openai/judge")
    for row in Run(run).standing.values():
        if (one := opinions.get(row.sha256)) is not None and one.solved is not None:
            code = row.status == "passed"
            side = "both" if code == one.solved else "only_code" if code else "only_model"
            told[f"{side}_{'passed' if code or one.solved else 'failed'}"] += 1
    return told


def _rounds(file: Path) -> list[dict[str, Any]]:
    """Return how each round of practice ended, without the paths of the machine it was on."""
    told = json.loads(file.read_text("utf-8")) if file.exists() else []
    return [{name: value for name, value in one.items() if name != "policy"} for one in told]


def _losses(file: Path) -> list[float]:
    return [round(entry["loss"], 4) for entry in json.loads(file.read_text("utf-8")) if "loss" in entry]


def _counts(run: Path) -> dict[str, Any]:
    rows = list(Run(run).standing.values())
    tasks = {
        task.partition("/")[2]: {"passed": one.passed, "failed": one.failed, "broken": one.broken}
        for task, one in sorted(by_task(rows).items())
    }
    return {"tasks": tasks, "episode_seconds": round(sum(row.seconds for row in rows), 1)}


def tallies(results: Mapping[str, Any], seed: str, run: str) -> dict[str, Tally]:
    """Return task → tally of one run, {} where it was not made."""
    told = results["seeds"][seed]["runs"].get(run, {"tasks": {}})
    return {task: Tally(attempts=sum(counts.values()), **counts) for task, counts in told["tasks"].items()}


def whole(results: Mapping[str, Any], model: str) -> dict[str, Tasks]:
    """Return seed → tallies on the held-out tasks, for the seeds in which every planned attempt was judged."""
    settings = results["settings"]
    asked = {
        "base": "base_attempts",
        "blind": "blind_attempts",
        **dict.fromkeys(CONTROLS, "control_attempts"),
    }.get(model, "attempts" if model in MODELS else "side_attempts")
    families = len({task.partition("-")[0] for task in results["teacher"]["tasks"]})
    planned = settings["test"] * families
    found: dict[str, Tasks] = {}
    for seed in results["seeds"]:
        told = tallies(results, seed, f"on-{model}")
        if len(told) == planned and all(one.judged == settings[asked] for one in told.values()):
            found[seed] = told
    return found


def rate(tasks: Tasks) -> float:
    """Return pass@1."""
    return pass_at(1, tasks) or 0.0


def pass_at_k(k: int) -> Callable[[Tasks], float]:
    """Return the function that gives pass@k of tasks with at least k judged attempts each."""
    return lambda tasks: pass_at(k, tasks) or 0.0


def interval(seeds: Mapping[str, Tasks], value: Callable[[Tasks], float]) -> tuple[float, float, float]:
    """Return (mean over seeds, low, high) of `value`."""
    rng = random.Random(0)
    listed = [list(tasks.values()) for tasks in seeds.values()]
    drawn = sorted(_mean([value(_again(rng.choice(listed), rng)) for _ in listed]) for _ in range(RESAMPLES))
    return _mean([value(tasks) for tasks in seeds.values()]), *_middle(drawn)


def difference(first: Mapping[str, Tasks], then: Mapping[str, Tasks]) -> tuple[float, float, float]:
    """Return (mean, low, high) of how much pass@1 rose, task by task, in the seeds that have both."""
    rises = [list(_rises(first[seed], then[seed]).values()) for seed in first if seed in then]
    return _bootstrapped([(rise,) for rise in rises], lambda rise: _mean(rise))


def contrast(
    first: Mapping[str, Tasks], then: Mapping[str, Tasks], families: Collection[str]
) -> tuple[float, float, float]:
    """Return (mean, low, high) of how much more pass@1 rose on the tasks of these families than on the others."""
    parts = []
    for seed in (seed for seed in first if seed in then):
        rises = _rises(first[seed], then[seed])
        inside = [rise for task, rise in rises.items() if family_of(task) in families]
        outside = [rise for task, rise in rises.items() if family_of(task) not in families]
        parts.append((inside, outside))
    return _bootstrapped(parts, lambda inside, outside: _mean(inside) - _mean(outside))


def _rises(first: Tasks, then: Tasks) -> dict[str, float]:
    return {task: (then[task].solve_rate or 0.0) - (one.solve_rate or 0.0) for task, one in first.items()}


def _bootstrapped(
    seeds: Sequence[tuple[Sequence[float], ...]], value: Callable[..., float]
) -> tuple[float, float, float]:
    """Return (mean, low, high) of a value of each seed's lists: seeds are drawn, then within each list."""
    rng = random.Random(0)
    drawn = sorted(
        _mean(
            [
                value(*(rng.choices(one, k=len(one)) for one in lists))
                for lists in rng.choices(seeds, k=len(seeds))
            ]
        )
        for _ in range(RESAMPLES)
    )
    return _mean([value(*lists) for lists in seeds]), *_middle(drawn)


def _middle(drawn: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of 95 % of sorted values."""
    return drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES) - 1]


def half_solved(results: Mapping[str, Any], seed: str) -> set[str]:
    """Return the families that the supervised student solved neither rarely nor mostly in practice (training tasks)."""
    families: dict[str, list[Tally]] = {}
    for task, one in tallies(results, seed, "practice").items():
        families.setdefault(family_of(task), []).append(one)
    rates = {
        name: sum(o.passed for o in ones) / max(1, sum(o.judged for o in ones))
        for name, ones in families.items()
    }
    return {name for name, value in rates.items() if HALF[0] <= value <= HALF[1]}


def only(seeds: Mapping[str, Tasks], families: Mapping[str, set[str]]) -> dict[str, Tasks]:
    """Return the tasks of the given families, which may differ by seed."""
    kept = {
        seed: {task: one for task, one in tasks.items() if family_of(task) in families[seed]}
        for seed, tasks in seeds.items()
    }
    return {seed: tasks for seed, tasks in kept.items() if tasks}


def family_of(task: str) -> str:
    """Return the family of a generated task's name."""
    return task.partition("-")[0]


def _again(tasks: Sequence[Tally], rng: random.Random) -> Tasks:
    return {str(at): one for at, one in enumerate(rng.choices(tasks, k=len(tasks)))}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# ── in words ────────────────────────────────────────────────────────────────────────────────────


def page(results: Mapping[str, Any]) -> str:
    """Return the report in Markdown; what was not run is said, and no number stands for it."""
    found = {model: seeds for model in MODELS if (seeds := whole(results, model))}
    parts = [_head(results, found), _table(found)]
    if "sft" in found:
        parts += [_families(found), _findings(results, found)]
    parts += [_sources(results), _left_out(results)]
    return "\n\n".join(parts) + "\n"


def _head(results: Mapping[str, Any], found: Mapping[str, Mapping[str, Tasks]]) -> str:
    settings, seeds = results["settings"], sorted({seed for each in found.values() for seed in each})
    passed = sum(one["passed"] for one in results["teacher"]["tasks"].values())
    unfinished = sorted(
        f"seed {seed}: {run}"
        for seed, told in results["seeds"].items()
        for run in told["runs"]
        if run.startswith("on-") and seed not in whole(results, run.removeprefix("on-"))
    )
    held = settings["test"] * len({family_of(task) for task in results["teacher"]["tasks"]})
    lines = [
        "# The closed loop, small",
        "",
        f"{passed} verified trajectories of the teacher; {held} held-out tasks, {settings['attempts']} attempts at "
        f"each; seeds with a whole result: {', '.join(seeds) or 'none'}. Written by `tgym bench learning`; see "
        "docs/learning.md.",
    ]
    if unfinished:
        lines.append(f"Begun and not finished, so not counted: {'; '.join(unfinished)}.")
    return "\n".join(lines)


def _table(found: Mapping[str, Mapping[str, Tasks]]) -> str:
    lines = [
        f"| model | seeds | {' | '.join(f'pass@{k}' for k in KS)} | broken |",
        f"|---|---|{'---|' * (len(KS) + 1)}",
    ]
    for model, seeds in found.items():
        cells = []
        for k in KS:
            if all((pass_at(k, tasks) is not None) for tasks in seeds.values()):
                cells.append("{:.3f} ({:.3f} to {:.3f})".format(*interval(seeds, pass_at_k(k))))
            else:
                cells.append("")
        broken = sum(one.broken for tasks in seeds.values() for one in tasks.values())
        lines.append(f"| {model} | {len(seeds)} | {' | '.join(cells)} | {broken} |")
    by_seed = [
        f"{model} {', '.join(f'{rate(tasks):.3f} (seed {seed})' for seed, tasks in seeds.items())}"
        for model, seeds in found.items()
    ]
    lines += ["", f"pass@1 by seed: {'; '.join(by_seed)}. Rows of different seeds are not to be compared."]
    return "\n".join(lines)


def _families(found: Mapping[str, Mapping[str, Tasks]]) -> str:
    models = [model for model in MODELS if model in found]
    names = list(dict.fromkeys(family_of(task) for tasks in found["sft"].values() for task in tasks))
    lines = [f"| pass@1 by family | {' | '.join(models)} |", f"|---|{'---|' * len(models)}"]
    for name in names:
        cells = [
            f"{_mean([rate(t) for t in only(found[m], {key: {name} for key in found[m]}).values()]):.2f}"
            for m in models
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _findings(results: Mapping[str, Any], found: Mapping[str, Mapping[str, Tasks]]) -> str:
    lines = ["## Findings", ""]
    sft = interval(found["sft"], rate)
    if "base" in found:
        base = interval(found["base"], rate)
        shown = base[2] < 0.05 and sft[1] > 0.5
        lines.append(
            f"- (a) SFT on verified trajectories lifts held-out pass@1 from {_said(base)} to {_said(sft)}: "
            f"{'a clear majority' if shown else 'NOT from about 0 to a clear majority'}."
        )
    if "blind" in found:
        blind = interval(found["blind"], rate)
        word = (
            "so the tasks cannot be guessed"
            if blind[0] <= BLIND_AT_MOST
            else "MORE THAN 10 %: the tasks prove nothing"
        )
        lines.append(f"- The blind student solves {_said(blind)}: {word}.")
    most = KS[-1]
    for model, when in (("sft", "before practice"), ("rft", "after practice")):
        seeds = found.get(model, {})
        if seeds and all(pass_at(most, tasks) is not None for tasks in seeds.values()):
            risen = interval(seeds, lambda tasks: pass_at_k(most)(tasks) - rate(tasks))
            lines.append(f"- (b) {when} ({model}), pass@{most} is {_said(risen)} above pass@1.")
    if "rft" in found:
        rise = difference(found["sft"], found["rft"])
        lines.append(
            f"- (d) RFT in live sandboxes: pass@1 changes by {_compared(rise)}; paired by seed and task."
        )
        half = {seed: half_solved(results, seed) for seed in results["seeds"]}
        first, then = only(found["sft"], half), only(found["rft"], half)
        if set(first) & set(then):
            named = "; ".join(
                f"seed {seed}: {', '.join(sorted(names))}" for seed, names in half.items() if names
            )
            lines.append(
                f"  On the families that it half solved in practice ({named}) by {_compared(difference(first, then))}."
            )
        practised = "; ".join(
            f"seed {seed}: {told['passed']} of {told['judged']}"
            for seed, each in results["seeds"].items()
            for told in each.get("rounds", ())
            if seed in found["rft"]
        )
        if practised:
            lines.append(f"  Passed in practice: {practised}.")
    for control, name in CONTROLS.items():
        if control not in found:
            continue
        gained = _compared(difference(found["sft"], found[control]))
        lines.append(
            f"- `{control}`, {name}, as many further steps without new data, changes it by {gained}."
        )
        if set(found.get("rft", {})) & set(found[control]):
            over = _compared(difference(found[control], found["rft"]))
            lines.append(f"  RFT over `{control}`: {over}.")
    missing = [name for name in MODELS if name not in found]
    if missing:
        lines.append(f"- Not measured here: {', '.join(missing)}.")
    return "\n".join(lines)


def sizes(results: Mapping[str, Any]) -> dict[int, int]:
    """Return the data sizes of (c): rows of each domain → rows."""
    domains = len(set(results["domains"].values()))
    return {size: size * domains for size in results["settings"]["sizes"]}


def _sources(results: Mapping[str, Any]) -> str:
    title = "## (c) Who chooses the data"
    lines = [
        f"A teacher that errs in {results['settings']['errs']:.0%} of its episodes, and tables of as many rows whoever "
        "chose them; pass@1 on the held-out tasks.",
        "",
        "| rows | chosen by | seeds | pass@1 |",
        "|---|---|---|---|",
    ]
    for size, rows in sizes(results).items():
        for source in SOURCES:
            if seeds := whole(results, f"{source}-{size}"):
                lines.append(f"| {rows} | {source} | {len(seeds)} | {_said(interval(seeds, rate))} |")
    if len(lines) == 4:
        return f"{title}\n\nNot measured here: `--parts sources`."
    for size, rows in sizes(results).items():
        best = whole(results, f"verified-{size}")
        for source in SOURCES[1:]:
            other = whole(results, f"{source}-{size}")
            if set(best) & set(other):
                rise = _compared(difference(other, best))
                lines += ["", f"- At {rows} rows: verified over {source} by {rise}."]
    told = results["judge"]
    lines += [
        "",
        f"Code and judge: {told['both_passed']} attempts passed with both, {told['both_failed']} failed with both, "
        f"{told['only_model_passed']} with the judge alone, {told['only_code_passed']} with the code alone.",
    ]
    return "\n".join([title, "", *lines])


def _left_out(results: Mapping[str, Any]) -> str:
    title = "## (e) Without a domain"
    domains = sorted(set(results["domains"].values()))
    rows = {"nothing": whole(results, "sft")} | {
        domain: seeds for domain in domains if (seeds := whole(results, f"without-{domain}"))
    }
    if len(rows) == 1:
        return f"{title}\n\nNot measured here: `--parts left_out`."
    lines = [f"| left out | seeds | {' | '.join(domains)} |", f"|---|---|{'---|' * len(domains)}"]
    for name, seeds in rows.items():
        cells = []
        for domain in domains:
            families = {family for family, of in results["domains"].items() if of == domain}
            kept = only(seeds, dict.fromkeys(seeds, families))
            cells.append(f"{_mean([rate(tasks) for tasks in kept.values()]):.2f}" if kept else "")
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    lines += ["", "pass@1 by domain of the held-out tasks; the diagonal is the domain that was left out."]
    for name in [name for name in rows if name != "nothing" and set(rows[name]) & set(rows["nothing"])]:
        families = {family for family, of in results["domains"].items() if of == name}
        own, rest = (
            difference(*(_where(rows[row], families, inside=inside) for row in ("nothing", name)))
            for inside in (True, False)
        )
        more = contrast(rows["nothing"], rows[name], families)
        lines += [
            "",
            f"- Without {name}: {name} changes by {_said(own)}, the other domains by {_said(rest)}; "
            f"{name} more than they by {_compared(more)}.",
        ]
    return "\n".join([title, "", *lines])


def _where(seeds: Mapping[str, Tasks], families: set[str], *, inside: bool) -> dict[str, Tasks]:
    """Return the tasks of these families, or of all others."""
    return {
        seed: {task: one for task, one in tasks.items() if (family_of(task) in families) == inside}
        for seed, tasks in seeds.items()
    }


def _compared(rise: tuple[float, float, float]) -> str:
    clear = rise[1] > 0 or rise[2] < 0
    return _said(rise) + ("" if clear else ", NOT clear of zero")


def _said(told: tuple[float, float, float]) -> str:
    return f"{told[0]:.3f} ({told[1]:.3f} to {told[2]:.3f})"
