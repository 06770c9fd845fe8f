"""The stages in order, each from the table before; what was decided before is not decided again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from env_registry.pipeline.cluster import crew
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.spent import Spent
from env_registry.pipeline.stage import STAGES, Row, Table, Told, run_stage
from env_registry.pipeline.workers import WORKERS, acceptor, builder
from terminal_gym.trajectory.store import locked

Progress = Callable[[str, Row], None]


def run(
    settings: Settings,
    stages: Sequence[str] = STAGES,
    *,
    cluster: str = "",
    progress: Progress = lambda stage, row: None,
    told: Callable[[str], None] = lambda text: None,
) -> list[Told]:
    """Run these stages in the pipeline's order; returns what each did.

    Args:
        settings: Of the pipeline.
        stages: Some of STAGES.
        cluster: A Ray cluster that builds and proves (see cluster.py); "": this machine does.
        progress: Told of each row once it is on the disk.
        told: Told of nodes that are gone.

    Raises:
        RunBusy: Another process works on the same folder.
        StoreError: A table cannot be read or written.
        RuntimeUnavailable: A stage needs sandboxes, and there are none; or there is no such cluster.
    """
    with locked(settings.work):
        done = []
        for stage in STAGES:
            if stage not in stages:
                continue

            def tell(row: Row, stage: str = stage) -> None:
                progress(stage, row)

            if stage == "collect" and settings.context:
                done.append(_context(settings, lambda row: progress("context", row)))
            if cluster and stage in WORKERS:
                done.append(_on_cluster(settings, stage, cluster, tell, told))
            else:
                done.append(_STAGES[stage](settings, tell))
        return done


def _on_cluster(
    settings: Settings,
    stage: str,
    address: str,
    progress: Callable[[Row], None],
    told: Callable[[str], None],
) -> Told:
    table, items = Table(settings.work, stage), _kept(settings, STAGES[STAGES.index(stage) - 1])
    with crew(address, settings, stage, told=told) as (work, parallel):
        return run_stage(table, items, work, parallel=parallel, progress=progress)


def _collect(settings: Settings, progress: Callable[[Row], None]) -> Told:
    from env_registry.pipeline.collect import Collector

    table = Table(settings.work, "collect")
    work = Collector(settings, table)
    return run_stage(
        table, [(one, one) for one in settings.sources], work, parallel=settings.parallel, progress=progress
    )


def _context(settings: Settings, progress: Callable[[Row], None]) -> Told:
    from env_registry.pipeline.context import ContextCollector

    table, items = Table(settings.work, "context"), [(name, name) for name in settings.context]
    return run_stage(table, items, ContextCollector(settings), parallel=settings.parallel, progress=progress)


def _score(settings: Settings, progress: Callable[[Row], None]) -> Told:
    from env_registry.pipeline.score import Scorer

    return run_stage(
        Table(settings.work, "score"), _kept(settings, "collect"), Scorer(settings), progress=progress
    )


def _build(settings: Settings, progress: Callable[[Row], None]) -> Told:
    table = Table(settings.work, "build")
    with builder(settings) as work:
        return run_stage(table, _kept(settings, "score"), work, parallel=settings.parallel, progress=progress)


def _generate(settings: Settings, progress: Callable[[Row], None]) -> Told:
    from env_registry.pipeline.generate import Generator
    from env_registry.pipeline.models import metered, opened_model

    table = Table(settings.work, "generate")
    with opened_model(settings.generate) as model:
        work = Generator(settings, table, model)
        items = work.items(Table(settings.work, "build").kept)
        return run_stage(table, items, metered(work, model), progress=progress)


def _accept(settings: Settings, progress: Callable[[Row], None]) -> Told:
    table = Table(settings.work, "accept")
    with acceptor(settings) as work:
        items = _kept(settings, "generate")
        return run_stage(table, items, work, parallel=settings.parallel, progress=progress)


_STAGES = {"collect": _collect, "score": _score, "build": _build, "generate": _generate, "accept": _accept}


def _kept(settings: Settings, stage: str) -> list[tuple[str, Row]]:
    return [(row.key, row) for row in Table(settings.work, stage).kept]


def funnel(settings: Settings) -> dict[str, Any]:
    """Return how many came and went at each stage, by reason, and the languages of what was kept (Table 1)."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        rows = list(Table(settings.work, stage).rows.values())
        kept = [row for row in rows if row.kept]
        languages = Counter(str(row.cells.get("language", "")) for row in kept)
        found[stage] = {
            "in": len(rows),
            "kept": len(kept),
            "rejected": dict(Counter(row.reason for row in rows if not row.kept).most_common()),
            "languages": dict(sorted(languages.items())),
            "seconds": round(sum(row.seconds for row in rows), 1),
            **Spent.in_rows(row.cells for row in rows).cells(),
        }
    return found


def shown(told: Told) -> str:
    """Return one line about what a stage did."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(told.rejected.items()))
    parts = [f"{told.kept} kept", *([f"rejected: {reasons}"] if reasons else [])]
    parts += [f"{told.broken} broken, tried again next time"] if told.broken else []
    parts += [str(told.spent)] if told.spent.calls else []
    return f"{told.stage}: {'; '.join(parts)} ({told.known} known before, {told.seconds:.1f} s)"


def as_json(settings: Settings) -> str:
    """Return the funnel as JSON."""
    return json.dumps(funnel(settings), indent=1)
