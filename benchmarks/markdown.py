"""A report in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks import published, terminal_bench
from benchmarks.evaluate import overrides
from benchmarks.findings import Report, facts, job_of, lines, seconds
from benchmarks.score import JUDGED, KINDS, PHASES, RESAMPLES, RULES, Ending, by_task, differences

_LISTED = 40  # differences and missing attempts; the JSON has them all


def as_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    names = sorted({one.benchmark or "a run that is no benchmark" for one in report.runs})
    parts = [
        f"# Evaluation: {', '.join(names)}",
        *_warnings(report),
        _what_was_measured(report),
        _score_section(report),
        _pass_at_section(report),
        _difference_section(report),
        _comparison_section(report),
        _time_section(report),
        _task_section(report),
        _missing_section(report),
        _published_section(report),
        _how_section(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warnings(report: Report) -> list[str]:
    said: list[str] = []
    for at, one in enumerate(report.runs):
        name, gone = report.letter(at), one.missing()
        if gone:
            planned = len(one.endings[one.grading])
            said.append(
                f"> **{name}: {len(gone)} of {planned} attempts have no verdict.** Its scores are of the others, made "
                "because `--allow-missing` was given; the true score lies between the bounds below."
            )
        if changed := overrides(job_of(one)):
            said.append(
                f"> **{name}: limits overridden**: {', '.join(changed)}. No leaderboard takes such a score."
            )
        suite = terminal_bench.SUITES.get(one.benchmark.rpartition("@")[2])
        if suite and len(one.tasks) != suite.size:
            said.append(
                f"> **{name}: {len(one.tasks)} tasks, and {suite.name} has {suite.size}.** This is a score on a part."
            )
    return said


def _what_was_measured(report: Report) -> str:
    shown = (
        "benchmark", "task_set", "tasks", "attempts", "agent", "agent_settings", "model", "model_settings", "prompts",
        "terminal_gym", "runtime", "graded_by", "limits", "seed",
    )  # fmt: skip
    columns = [facts(one) for one in report.runs]
    letters = [report.letter(at) for at in range(len(columns))]
    rows = [["run folder", *(f"`{one.folder}`" for one in report.runs)]]
    rows += [[name.replace("_", " "), *(_cell(column[name]) for column in columns)] for name in shown]
    notes = sorted({note for one in report.runs for note in one.notes})
    rows += [
        [f"note: {note}", *(f"{one.notes.get(note, 0)} attempts" for one in report.runs)] for note in notes
    ]
    return "## What was measured\n\n" + _table(["", *letters], rows)


def _score_section(report: Report) -> str:
    rows = []
    for at, found in enumerate(report.scores):
        for rules, one in found.items():
            counts = [str(one.counts[kind]) for kind in KINDS]
            late = f" ({one.passed_late} late)" if one.passed_late else ""
            interval = one.pass_at[1][1]
            bounds = f"{_percent(one.bounds[0])} to {_percent(one.bounds[1])}" if one.bounds else "—"
            mark = " ¹" if report.runs[at].grading == rules else ""
            cells = [
                report.letter(at),
                rules + mark,
                _percent(one.rate),
                _span(interval),
                bounds,
                f"{one.planned}",
            ]
            rows.append([*cells, counts[0] + late, *counts[1:]])
    heads = ["run", "rules", "pass rate", "95 %", "if missing failed … passed", "attempts"]
    heads += ["passed", "failed", "timed out", "broken", "not played"]
    text = "## Score\n\n" + _table(heads, rows)
    text += (
        "\n\nPass rate in percent: the mean over tasks of the share of attempts that passed. ¹ made the reward. "
        "*Parity* is the format's own verdict, which a leaderboard counts; *strict* is ours on the same episodes. "
        "*Timed out*: failed when the agent's time was up; *late*: passed then. *Broken*: no verdict, by fault of "
        "machine, task or provider."
    )
    errors = [
        f"{report.letter(at)}, {rules}: {', '.join(f'{count} {name}' for name, count in one.errors.items())}."
        for at, found in enumerate(report.scores)
        for rules, one in found.items()
        if one.errors
    ]
    if errors:
        text += "\n\nAmong the failed, the format's own harness gives no verdict and counts 0. " + " ".join(
            errors
        )
    graded = [
        f"{report.letter(at)}, {rules}: mean reward {one.mean_reward:.4f}."
        for at, found in enumerate(report.scores)
        for rules, one in found.items()
        if one.mean_reward is not None
    ]
    return text + ("\n\nSome rewards lie between 0 and 1. " + " ".join(graded) if graded else "")


def _pass_at_section(report: Report) -> str:
    most = max(max(one.pass_at) for found in report.scores for one in found.values())
    rows = [
        [
            report.letter(at),
            rules,
            *(
                f"{_percent(one.pass_at[k][0])} ({_span(one.pass_at[k][1])})" if k in one.pass_at else "—"
                for k in range(1, most + 1)
            ),
        ]
        for at, found in enumerate(report.scores)
        for rules, one in found.items()
    ]
    heads = ["run", "rules", *(f"pass@{k}" for k in range(1, most + 1))]
    return "## pass@k\n\n![pass@k with 95 % intervals over tasks](pass_at_k.png)\n\n" + _table(heads, rows)


def _difference_section(report: Report) -> str:
    rows = [
        [
            report.letter(at),
            f"{found.task} {found.attempt}",
            _said(found.parity),
            _said(found.strict),
            "; ".join(found.strict.integrity) or "—",
        ]
        for at, one in enumerate(report.runs)
        for found in differences(one)
    ]
    if not any(len(one.endings) > 1 for one in report.runs):
        return ""
    title = "## Where the two verdicts differ\n\n"
    if not rows:
        return title + "Nowhere: parity and strict agree on every attempt that both judged."
    table = _table(["run", "attempt", "parity", "strict", "flags"], rows[:_LISTED])
    more = f"\n\n… and {len(rows) - _LISTED} more in report.json." if len(rows) > _LISTED else ""
    return f"{title}{len(rows)} attempts.\n\n{table}{more}"


def _comparison_section(report: Report) -> str:
    if not report.pairs:
        return ""
    rows = [
        [
            f"{report.letter(b)} over {report.letter(a)}",
            pair.rules,
            f"{100 * pair.difference:+.1f}",
            f"{100 * pair.interval[0]:+.1f} to {100 * pair.interval[1]:+.1f}",
            _p(pair.p),
            _p(pair.p_holm),
            f"{pair.better} / {pair.worse} / {pair.tasks - pair.better - pair.worse}",
            f"{pair.tasks}" + (f" ({pair.left_out} not shared)" if pair.left_out else ""),
        ]
        for a, b, pair in report.pairs
    ]
    heads = ["runs", "rules", "points", "95 %", "p", "p (Holm)", "better / worse / same", "tasks"]
    return "## Comparison\n\n" + _table(heads, rows)


def _time_section(report: Report) -> str:
    rows = []
    for at, one in enumerate(report.runs):
        took = seconds(one)
        cells = [f"{took[phase]['median']:.1f} / {took[phase]['p95']:.1f}" for phase in PHASES if took]
        rows.append([report.letter(at), *cells, f"{took['total']['sum'] / 3600:.2f}" if took else "—"])
    heads = ["run", "start", "agent", "of it the model", "verdict", "whole episode", "sum, hours"]
    return "## Wall time\n\nSeconds an episode, median / 95th percentile.\n\n" + _table(heads, rows)


def _task_section(report: Report) -> str:
    tasks = list(dict.fromkeys(task for one in report.runs for task in one.tasks))
    columns = [
        (report.letter(at), rules, by_task(one.endings[rules]))
        for at, one in enumerate(report.runs)
        for rules in RULES
        if rules in one.endings
    ]
    rows = [[task, *(_passes(groups.get(task, [])) for _, _, groups in columns)] for task in tasks]
    table = _table(["task", *(f"{letter} {rules}" for letter, rules, _ in columns)], rows)
    return f"## Tasks\n\nPassed of those with a verdict; † some have none.\n\n{table}"


def _missing_section(report: Report) -> str:
    rows = [
        [report.letter(at), f"{e.task} {e.attempt}", e.kind.replace("_", " "), (e.reason or e.error)[:160]]
        for at, one in enumerate(report.runs)
        for e in one.missing()
    ]
    if not rows:
        return ""
    more = f"\n\n… and {len(rows) - _LISTED} more in report.json." if len(rows) > _LISTED else ""
    return "## Missing attempts\n\n" + _table(["run", "attempt", "is", "why"], rows[:_LISTED]) + more


def _published_section(report: Report) -> str:
    shown = lines(report)
    if not shown:
        return ""
    rows = [
        [
            line.version,
            line.model,
            line.agent,
            f"{line.percent:.2f}",
            str(line.k),
            line.source,
            line.note or "—",
        ]
        for line in shown
    ]
    table = _table(["TB", "model", "agent", "pass rate %", "k", "source", "note"], rows)
    notes = "\n".join(f"- {note}" for note in published.NOTES)
    return f"## Published elsewhere, for orientation only\n\n{table}\n\n{notes}"


def _how_section(report: Report) -> str:
    return (
        "## How the numbers are made\n\n"
        "pass@k is the unbiased estimator (Chen et al. 2021) of each task, averaged over tasks. Intervals: 95 % "
        f"percentile bootstrap over tasks, {RESAMPLES:,} resamples, seed {report.seed}; they tell how the score would "
        "move with other tasks, and say nothing where every task has the same rate. Comparisons: sign-flip permutation "
        "test over the shared tasks, two-sided, Holm-corrected for the comparisons in this report."
    )


def _said(ending: Ending) -> str:
    return ending.kind.replace("_", " ") + (
        f": {ending.reason or ending.error}"[:120] if ending.reason or ending.error else ""
    )


def _passes(group: Sequence[Ending]) -> str:
    judged = [e for e in group if e.kind in JUDGED]
    if not group:
        return "—"
    mark = " †" if len(judged) < len(group) else ""
    return f"{sum(e.kind == 'passed' for e in judged)} of {len(judged)}{mark}"


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return f"`{json.dumps(value)}`" if value else "—"
    text = str(value)
    return text[:16] if len(text) == 64 else text or "—"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _span(interval: tuple[float, float]) -> str:
    return f"{_percent(interval[0])} to {_percent(interval[1])}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    drawn = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in drawn)


def _escaped(cell: str) -> str:
    """Return a cell that stays one cell, whatever a sandbox printed into it."""
    flat = " ".join(cell.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat).replace("|", "\\|")
