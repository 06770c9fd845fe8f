"""A model's opinion on stored trajectories, kept beside the verdict of the code and never mixed with it.

It answers one question: what would a data set look like if a model had chosen it, and not a validator? Opinions are
lines of `judgements.jsonl` in the run folder, chained as its index is; one process at a time appends to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from terminal_gym.agents import prompts
from terminal_gym.errors import ContextFull, ModelRefused, SchemaMismatch
from terminal_gym.llm.chat import ChatModel
from terminal_gym.trajectory.chain import Appender, read_lines, sealed
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import Row, Run, locked, put_aside

FILE, LOCK = "judgements.jsonl", "judgements.lock"
_SHOWN = 60_000  # characters of a transcript, the middle left out
_STEP = 3_000  # of one step's output


@dataclass(frozen=True)
class Judgement:
    """What a model thought of one trajectory."""

    task: str
    attempt: int
    sha256: str  # of the record that was judged
    model: str
    prompts: str  # version of the texts
    solved: bool | None  # None: it did not say, or would not
    reason: str


def judgements(folder: Path, *, model: str = "") -> dict[str, Judgement]:
    """Return record hash → opinion, the last one where there are many; of one model where `model` is given.

    Raises:
        ForgedRecord: A line is not what was written.
        SchemaMismatch: A line is of another version.
    """
    try:
        told = [Judgement(**cells) for cells in read_lines(folder / FILE).rows]
    except TypeError as error:
        raise SchemaMismatch(f"{folder / FILE} has lines of another version: {error}") from error
    return {one.sha256: one for one in told if model in ("", one.model)}


def judge(
    run: Run, model: ChatModel, *, concurrency: int = 4, told: Callable[[Judgement], None] = lambda one: None
) -> int:
    """Ask about each standing, judged trajectory that this model has not judged yet; returns how many that were.

    Raises:
        ProviderDown, AccessDenied: As the model does; what was judged until then is kept.
        RunBusy: Another process judges this run.
    """
    with locked(run.folder, name=LOCK):
        return _judge(run, model, concurrency, told)


def _judge(run: Run, model: ChatModel, concurrency: int, told: Callable[[Judgement], None]) -> int:
    known = judgements(run.folder, model=model.name)
    rows = [row for row in run.standing.values() if row.status != "broken" and row.sha256 not in known]
    lines = read_lines(run.folder / FILE)
    size, chain = lines.upto(len(lines.rows))
    put_aside(run.folder, FILE, after=size)
    file = Appender(run.folder / FILE, size=size)
    try:
        with ThreadPoolExecutor(concurrency, thread_name_prefix="tgym-judge") as pool:
            for one in pool.map(lambda row: opinion(run.read(row), row, model), rows):
                line, chain = sealed(asdict(one), after=chain)
                file.append(line)
                told(one)
    finally:
        file.close()
    return len(rows)


def opinion(played: Trajectory, row: Row, model: ChatModel) -> Judgement:
    """Return what the model thinks of one trajectory; raises as the model does, but for a refusal."""
    cells = {"instruction": played.instruction, "transcript": transcript(played)}
    asked = Message("user", prompts.filled("judge", **cells))
    try:
        solved, reason = _read(model.complete([asked]).message.content)
    except (ContextFull, ModelRefused) as error:
        solved, reason = None, f"{type(error).__name__}: {error}"
    return Judgement(row.task, row.attempt, row.sha256, model.name, prompts.version(), solved, reason[:1_000])


def transcript(played: Trajectory) -> str:
    """Return what was typed and shown, step by step, the middle left out where it is long."""
    parts = []
    for number, step in enumerate(played.steps, 1):
        typed = step.action.command
        if typed is None:
            typed = b"".join(step.action.keys).decode("utf-8", "replace")
        shown = step.observation.output or step.observation.screen
        parts.append(f"[{number}] typed: {typed!r}\n{_clipped(shown, _STEP)}")
    return _clipped("\n".join(parts), _SHOWN)


def _clipped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[… {len(text) - limit} characters left out …]\n{text[-(limit // 2) :]}"


def _read(text: str) -> tuple[bool | None, str]:
    begin, end = text.find("{"), text.rfind("}")
    try:
        said = json.loads(text[begin : end + 1])
    except (ValueError, RecursionError):
        return None, f"no JSON: {text[:200]!r}"
    if not isinstance(said, dict) or not isinstance(said.get("solved"), bool):
        return None, f"no answer: {text[:200]!r}"
    return said["solved"], str(said.get("reason", ""))


def agreement(run: Run, told: Mapping[str, Judgement]) -> dict[str, object]:
    """Return how often model and code agree, and Cohen's kappa (None where it has no meaning)."""
    pairs = list(_pairs(run, told))
    count = {(a, b): sum(pair == (a, b) for pair in pairs) for a in (True, False) for b in (True, False)}
    return {
        "judged": len(pairs),
        "both_passed": count[True, True],
        "both_failed": count[False, False],
        "only_code_passed": count[True, False],
        "only_model_passed": count[False, True],
        "no_opinion": sum(one.solved is None for one in told.values()),
        "agreement": (count[True, True] + count[False, False]) / len(pairs) if pairs else None,
        "kappa": _kappa(count, len(pairs)),
    }


def _pairs(run: Run, told: Mapping[str, Judgement]) -> Iterator[tuple[bool, bool]]:
    for row in run.standing.values():
        one = told.get(row.sha256)
        if one is not None and one.solved is not None and row.status != "broken":
            yield row.status == "passed", one.solved


def _kappa(count: Mapping[tuple[bool, bool], int], total: int) -> float | None:
    if not total:
        return None
    agreed = (count[True, True] + count[False, False]) / total
    code, model = (
        (count[True, True] + count[True, False]) / total,
        (count[True, True] + count[False, True]) / total,
    )
    chance = code * model + (1 - code) * (1 - model)
    return None if chance == 1.0 else (agreed - chance) / (1 - chance)
