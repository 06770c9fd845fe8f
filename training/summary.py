"""What a training table holds, in numbers: by domain and split, what was left out and why; as text and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting
from training.table import Facts

Told = Sequence[
    Mapping[str, Any]
]  # of each row: task, domain, repository, source, split, turns, tokens, learned
HEADINGS = ("domain", "rows", "tasks", "turns", "tokens", "learned", "share")
_DOMAINS_DRAWN = 12


def by_domain(told: Told) -> list[list[str]]:
    """Return one line of cells for each domain, the largest first, and one for all; numbers a row are medians."""
    domains: dict[str, list[Mapping[str, Any]]] = {}
    for row in told:
        domains.setdefault(row["domain"], []).append(row)
    ordered = sorted(domains.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [_cells(name, rows) for name, rows in [*ordered, ("all", list(told))]]


def _cells(name: str, rows: Told) -> list[str]:
    tokens, learned = (sum(row[key] for row in rows) for key in ("tokens", "learned"))
    return [
        name,
        str(len(rows)),
        str(len({row["task"] for row in rows})),
        f"{statistics.median(row['turns'] for row in rows):g}",
        f"{statistics.median(row['tokens'] for row in rows):g}",
        f"{statistics.median(row['learned'] for row in rows):g}",
        f"{learned / tokens:.2f}",
    ]


def card(facts: Facts, told: Told) -> str:
    """Return the table's card."""
    splits = ", ".join(
        f"{split}: {facts.rows[split]} rows, {facts.tokens[split]:,} tokens, {facts.learned[split]:,} learned"
        for split in facts.rows
        if facts.rows[split]
    )
    alone = sum(row["repository"] == row["task"] for row in told)
    unknown = f"; of {alone} rows it is not known, and the task stands for it" if alone else ""
    sources = {name: sum(row["source"] == name for row in told) for name in ("sampled", "text")}
    lines = [
        "---",
        "tags: [terminal, agents, terminal-gym]",
        "---",
        "",
        "# Training table",
        "",
        f"- **Splits**, no repository on both sides{unknown}: {splits}.",
        f"- **Tokenizer**: {facts.tokenizer}, fingerprint {facts.fingerprint}; template `{facts.template}`.",
        f"- **Ids**: {sources['sampled']} rows as sampled, {sources['text']} tokenised from text.",
        f"- **Cut** to {facts.max_tokens} tokens: {sum(row['shortened'] for row in told)} rows without their middle.",
        f"- **Left out**: {', '.join(f'{n} {why}' for why, n in facts.dropped.items()) or 'none'}.",
        "",
        "Numbers in a line are medians of a row.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(cells)} |" for cells in by_domain(told)),
        "",
        "Texts come from programs and models; nothing in them is an instruction to whoever reads or trains on them.",
        "",
    ]
    return "\n".join(lines)


def check_plot(path: Path) -> None:
    """Raise BadSetting where nothing can be drawn into that file: matplotlib is missing, or its folder or format."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise BadSetting("A plot needs the package matplotlib. pip install matplotlib") from error
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix and path.suffix.removeprefix(".").lower() not in known:
        raise BadSetting(f"{path} is no picture. Give it one of the endings {', '.join(known)}.")
    above = next(one for one in path.absolute().parents if one.exists())
    if not above.is_dir():
        raise BadSetting(f"{path} cannot be drawn: {above} is no folder.")


def draw(told: Told, facts: Facts, path: Path) -> None:
    """Draw turns, tokens, domains and what was left out into a file that `check_plot` takes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    turns, tokens, domains, left_out = figure.subplots(2, 2).flat
    turns.hist([row["turns"] for row in told], bins=30)
    turns.set(title="turns that are learned", xlabel="of a row", ylabel="rows")
    tokens.hist([[row["tokens"] for row in told], [row["learned"] for row in told]], bins=30)
    tokens.legend(["all", "learned"])
    tokens.set(title="tokens", xlabel="of a row", ylabel="rows")
    largest = by_domain(told)[:-1][:_DOMAINS_DRAWN]
    domains.barh([cells[0] for cells in largest][::-1], [int(cells[1]) for cells in largest][::-1])
    domains.set(title="domains", xlabel="rows")
    reasons = sorted(facts.dropped.items(), key=lambda pair: -pair[1])[:_DOMAINS_DRAWN]
    left_out.barh([why[:40] for why, _ in reasons][::-1], [count for _, count in reasons][::-1])
    left_out.set(title="left out", xlabel="attempts")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
