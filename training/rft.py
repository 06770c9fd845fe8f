"""Rejection sampling: roll out, keep what passed, fine-tune on exactly the sampled ids, repeat. `tgym train rft`.

    OUT/settings.yaml   what was asked for
    OUT/round-N/run/    K attempts at each task by the policy of this round, a run folder
    OUT/round-N/table/  what passed, a training table; the lessons too, where there are some
    OUT/round-N/sft/    the fine-tuning; its model is the next round's policy
    OUT/rounds.json     how often each round's policy passed

A round that was cut off goes on where it was: a run plays what is left, a table appears whole, a tuning is resumed.

Source: Zelikman et al. 2022 (STaR); Singh et al. 2023 (ReST-EM).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from terminal_gym.errors import BadSetting
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.trajectory.metrics import tally
from terminal_gym.trajectory.store import Run
from training import chat_format, sft
from training.examples import Choice, make_table
from training.folder import SETTINGS, begin, check_folder, held
from training.rollout_bridge import Live
from training.settings import Lora, Model, check_attention, check_context, check_device, check_versions, plain
from training.sft import Sft
from training.table import check_fits
from training.tokenizers import open_tokenizer


@dataclass(frozen=True)
class Rft:
    """Rounds of rejection sampling."""

    model: Model
    manifest: str
    """Tasks to learn from: a manifest, or a task."""
    out: str
    rounds: int = 3
    attempts: int = 8
    """At each task, in each round."""
    per_task: int | None = 4
    """At most so many passed attempts at one task enter a round's table."""
    lessons: str | None = None
    """A training table whose rows enter each round's table too, so that what was taught is not forgotten."""
    context_tokens: int = 32_768
    reply_tokens: int = 1_024
    """Of one reply."""
    temperature: float = 1.0
    seed: int = 0
    start: Literal["last", "first"] = "last"
    """What each round fine-tunes: the last round's model, or the first one again (ReST-EM)."""
    live: Live = field(default_factory=Live)
    lora: Lora | None = None
    packing: bool = False
    needs_gpu: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Fields of trl.SFTConfig."""


def prepare(settings: Rft, *, where: str = "the configuration") -> None:
    """Check everything that can be checked before the first episode.

    Raises:
        UsageError: Something does not fit; says what.
        TaskError: A task cannot be read.
    """
    check_versions()
    check_device(needs_gpu=settings.needs_gpu, where=where)
    check_attention(settings.model.attention)
    check_context(settings.model.name, settings.context_tokens)
    counts = (settings.rounds, settings.attempts, settings.reply_tokens, settings.context_tokens)
    if min(counts) < 1 or settings.temperature < 0:
        raise BadSetting(
            "rounds, attempts, reply_tokens and context_tokens must be 1 or more, temperature 0 or more."
        )
    if settings.lora is not None and settings.start == "last" and settings.rounds > 1:
        raise BadSetting("Adapters do not stack: with lora, set start to first, or rounds to 1.")
    settings.live.check()
    name, tokenizer = settings.model.name, open_tokenizer(settings.model.name)
    template = chat_format.matching(tokenizer, name=settings.model.template)
    arguments = sft.check_arguments(_tuning(settings, 0, settings.model.name), where=where)
    if settings.lessons is not None:
        lessons, room = Path(settings.lessons), settings.context_tokens
        facts = check_fits(lessons, tokenizer, model=name, template=template, max_tokens=room)
        if arguments.eval_strategy != "no":
            sft.check_eval(lessons, facts)
    elif arguments.eval_strategy != "no":
        advice = "Set it to no, or name lessons that hold something out."
        raise BadSetting(
            f"{where}: trainer.eval_strategy asks for an eval loss; a round holds nothing out. {advice}"
        )
    _choice(settings)
    _refs(settings)


def train(
    settings: Rft,
    *,
    resume: bool = False,
    say: Callable[[str], None] = lambda text: None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Run the rounds; returns how often each one's policy passed, and where the last model is.

    Args:
        settings: Checked with `prepare`.
        resume: Go on with the folder.
        say: Told of progress.
        runtime: Where sandboxes come from, closed by the caller; None: the one that the settings name.

    Raises:
        BadSetting: The folder is in the way; or a round's policy passed nothing.
        SandboxError: The runtime cannot be used.
    """
    out = Path(settings.out)
    check_folder(out, plain(settings), resume=resume)
    told: list[dict[str, Any]] = []
    policy = settings.model.name
    maker = runtime or open_runtime(settings.live.runtime)
    try:
        maker.check()
        maker.reap()
        begin(out, plain(settings), resume=resume)
        with held(out):
            for number in range(settings.rounds):
                folder = out / f"round-{number}"
                told.append(
                    {"round": number, "policy": policy, **_rolled_out(settings, folder, policy, maker)}
                )
                (out / "rounds.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
                say(f"round {number}: {told[-1]['passed']} of {told[-1]['judged']} passed")
                policy = _learned(settings, number, folder, policy, say)
    finally:
        if runtime is None:
            maker.close()
    return {"rounds": told, "model": policy}


def _refs(settings: Rft) -> tuple[str, ...]:
    manifest = Path(settings.manifest)
    opened = open_manifest(manifest if manifest.is_file() else [settings.manifest])
    opened.tasks()
    return opened.refs


def _rolled_out(settings: Rft, folder: Path, policy: str, runtime: Runtime) -> dict[str, Any]:
    """Play what is left of a round; returns how it ended."""
    how: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.reply_tokens}
    how |= {"context_tokens": settings.context_tokens}
    how |= {"batch": settings.live.episodes}
    tokenizer = open_tokenizer(policy)
    if not tokenizer.chat_template:  # a base model, asked in the form in which it will learn
        file = Path(settings.out) / "chat_template.jinja"
        name = chat_format.matching(tokenizer, name=settings.model.template)
        file.write_text(chat_format.plain_template(name), "utf-8")
        how["chat_template"] = str(file.absolute())
    job = Job.of(
        _refs(settings),
        agent=settings.live.agent,
        agent_settings=settings.live.agent_settings(),
        attempts=settings.attempts,
        model=f"local/{policy}",
        model_settings=how,
        seed=settings.seed,
        max_steps=settings.live.max_steps,
    )
    bounds = Bounds(settings.live.episodes, settings.live.starts, max_steps=settings.live.max_steps)
    with open_rollout(job, folder / "run", runtime, bounds=bounds) as rollout:
        rollout.run()
    gc.collect()  # the policy that played makes room for the one that learns
    counts = tally(Run(folder / "run").standing.values())
    return {"passed": counts.passed, "judged": counts.judged, "broken": counts.broken}


def _learned(settings: Rft, number: int, folder: Path, policy: str, say: Callable[[str], None]) -> str:
    """Fine-tune on what passed; returns the next policy."""
    tuning = _tuning(settings, number, policy)
    done = Path(tuning.out) / "history.json"  # written last
    place = Path(tuning.out) / ("adapter" if settings.lora else "model")
    if done.is_file():
        return str(place)
    if not (folder / "table").exists():
        tokenizer = open_tokenizer(policy)
        make_table(
            [folder / "run"],
            folder / "table",
            tokenizer,
            tokenizer_name=policy,
            choice=_choice(settings),
            beside=None if settings.lessons is None else Path(settings.lessons),
        )
    ready = sft.prepare(tuning, where=f"round {number}")
    return str(sft.train(ready, resume=(Path(tuning.out) / SETTINGS).is_file(), say=say)["model"])


def _choice(settings: Rft) -> Choice:
    return Choice(
        max_tokens=settings.context_tokens,
        words="sampled",
        template=settings.model.template,
        per_task=settings.per_task,
        seed=settings.seed,
    )


def _tuning(settings: Rft, number: int, policy: str) -> Sft:
    folder = Path(settings.out) / f"round-{number}"
    start = policy if settings.start == "last" else settings.model.name
    return Sft(
        model=Model(start, settings.model.dtype, settings.model.attention, settings.model.template),
        table=str(folder / "table"),
        out=str(folder / "sft"),
        context_tokens=settings.context_tokens,
        packing=settings.packing,
        lora=settings.lora,
        needs_gpu=settings.needs_gpu,
        trainer=settings.trainer,
    )
