"""pass@1 while a model is tuned: its attempts at tasks that nothing is learned from, in live sandboxes.

Every so many steps each held-out task is played with the weights as they are, decoded by transformers in the trainer's
own processes, all of them together. Tasks are shared out among the processes; verdicts are counted over all of them,
and broken attempts count neither way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import RunWriter
from training.chat_format import END
from training.rollout_bridge import Generate, Ids, Live, Rollouts, agreement
from training.table import read_rows


@dataclass(frozen=True)
class HeldOut:
    """Live rollouts on tasks that nothing is learned from."""

    manifest: str
    """A manifest, or a task."""
    every: int = 500
    """Steps between two of them; they are also made at the end."""
    attempts: int = 1
    """At each task."""
    temperature: float = 0.0
    """0: the likeliest token each time."""
    reply_tokens: int = 1_024
    """Of one reply."""
    live: Live = field(default_factory=Live)


def open_tasks(settings: HeldOut, table: Path, *, context_tokens: int) -> Mapping[str, Task]:
    """Return the held-out tasks, by ref.

    Raises:
        BadSetting: One of them is learned from; or an episode has no room in the context.
        UsageError: The manifest or a task cannot be found.
        TaskError: A task cannot be read.
    """
    if settings.every < 1 or settings.attempts < 1:
        raise BadSetting(
            f"held_out.every is {settings.every} and held_out.attempts {settings.attempts}; both are 1 or more."
        )
    if settings.reply_tokens < 1 or settings.temperature < 0:
        found = f"held_out.reply_tokens is {settings.reply_tokens} and held_out.temperature {settings.temperature}"
        raise BadSetting(f"{found}; they are 1 or more, and 0 or more.")
    if settings.live.completion_tokens >= context_tokens:
        found = f"held_out.live.completion_tokens is {settings.live.completion_tokens}"
        raise BadSetting(f"{found}, context_tokens {context_tokens}: the task has no room. Lower it.")
    settings.live.check()
    manifest = Path(settings.manifest)
    opened = open_manifest(manifest if manifest.is_file() else [settings.manifest]).tasks()
    tasks = {str(task.ref): task for task in opened}
    learned = {str(row.get("task")) for row in read_rows(table)}
    if both := sorted(learned & set(tasks)):
        raise BadSetting(f"{both[0]} is held out, and {table} learns from it. Take it out of one of the two.")
    return tasks


@contextlib.contextmanager
def measuring(
    settings: HeldOut | None,
    tasks: Mapping[str, Task],
    tokenizer: Any,
    *,
    template: str,
    context_tokens: int,
    folder: Path,
) -> Iterator[Callable[[Any], None]]:
    """Lend what has a trainer measure pass@1; no sandbox outlives the block.

    Args:
        settings: None: nothing is measured.
        tasks: Of `open_tasks`.
        tokenizer: Of the model.
        template: A key of `chat_format.SYSTEMS`.
        context_tokens: That the model has.
        folder: A run folder below it keeps the attempts of each process.

    Raises:
        SandboxError: The runtime cannot be used.
    """
    if settings is None:
        yield lambda trainer: None
        return
    with contextlib.ExitStack() as stack:
        maker: Runtime = open_runtime(settings.live.runtime)
        stack.callback(maker.close)
        maker.check()
        maker.reap()
        for task in tasks.values():
            maker.build(task.image)
        record = _Record(folder)
        stack.callback(record.close)
        rollouts = Rollouts(
            tasks,
            maker,
            tokenizer,
            template=template,
            context_tokens=context_tokens,
            live=settings.live,
            keep=record.append,
        )
        stack.callback(rollouts.close)
        yield lambda trainer: trainer.add_callback(_callback(Measure(settings, rollouts, trainer), record))


class _Record:
    """The run folder of this process, made once training has begun: until then the folder around it is being made.

    Args:
        around: A training that goes on keeps what is there, and makes another.
    """

    def __init__(self, around: Path):
        self._around = around
        self._writer: RunWriter | None = None

    def open(self) -> None:
        rank = int(os.environ.get("RANK", "0"))
        number = len(list(self._around.glob(f"held-out-{rank}-*")))
        self._writer = RunWriter(self._around / f"held-out-{rank}-{number}", {"training": "sft", "tasks": {}})

    def append(self, played: Trajectory) -> None:
        assert self._writer is not None
        self._writer.append(played)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Measure:
    """Plays the held-out tasks with a trainer's model, and has the trainer log what came of it.

    Args:
        settings: How often, and how.
        rollouts: Plays; closed by the caller.
        trainer: Holds the weights.
    """

    def __init__(self, settings: HeldOut, rollouts: Rollouts, trainer: Any):
        self.settings, self._rollouts, self._trainer = settings, rollouts, trainer
        self._last = -1

    def at(self, step: int, *, ends: bool) -> None:
        """Measure, where it is time."""
        if step != self._last and (ends or step % self.settings.every == 0):
            self._last = step
            self._trainer.log(self.measured())

    def measured(self) -> dict[str, float]:
        """Return pass@1 over all processes, where any attempt was judged; and how many were judged, and broken."""
        import torch

        accelerator = self._trainer.accelerator
        wanted = [task for task in sorted(self._rollouts.tasks) for _ in range(self.settings.attempts)]
        mine = wanted[accelerator.process_index :: accelerator.num_processes]
        played = self._rollouts.play(mine, self._generate(), agree=agreement(self._trainer))
        ended = [episode.played.outcome.status for episode in played]
        counts = torch.tensor(
            [[ended.count("passed"), ended.count("failed"), ended.count("broken")]], device=accelerator.device
        )
        passed, failed, broken = (float(one) for one in accelerator.gather(counts).sum(dim=0))
        told = {"held_out/judged": passed + failed, "held_out/broken": broken}
        return {"pass@1": passed / (passed + failed), **told} if passed + failed else told

    def _generate(self) -> Generate:
        import torch
        from trl.models.utils import disable_gradient_checkpointing, unwrap_model_for_generation

        trainer, tokenizer, settings = self._trainer, self._trainer.processing_class, self.settings
        end = int(tokenizer(END, add_special_tokens=False)["input_ids"][0])
        chance = {"do_sample": True, "temperature": settings.temperature} if settings.temperature else {}

        def generate(prompts: Sequence[Ids]) -> tuple[list[Ids], None]:
            longest = max(map(len, prompts))
            ids = torch.full((len(prompts), longest), end)
            seen = torch.zeros_like(ids)
            for row, prompt in enumerate(prompts):
                ids[row, longest - len(prompt) :] = torch.tensor(prompt)
                seen[row, longest - len(prompt) :] = 1
            device = trainer.accelerator.device
            with (
                unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model,
                disable_gradient_checkpointing(model, trainer.args.gradient_checkpointing_kwargs),
                _evaluating(model),
                torch.no_grad(),
            ):
                made = model.generate(
                    input_ids=ids.to(device),
                    attention_mask=seen.to(device),
                    max_new_tokens=settings.reply_tokens,
                    eos_token_id=end,
                    pad_token_id=end,
                    **({"do_sample": False} | chance),
                )
            return [_until(end, row) for row in made[:, longest:].tolist()], None

        return generate


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Turn off what only training does, such as dropout."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _until(end: int, ids: Ids) -> Ids:
    """Return a reply with its end token, without the padding behind it."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def _callback(measure: Measure, record: _Record) -> Any:
    from transformers import TrainerCallback

    def on_train_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        record.open()

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        measure.at(state.global_step, ends=False)

    def on_train_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        measure.at(state.global_step, ends=True)

    hooks = {"on_train_begin": on_train_begin, "on_step_end": on_step_end, "on_train_end": on_train_end}
    # Made here: its base is imported only when something is trained.
    return type("HeldOutRollouts", (TrainerCallback,), hooks)()
