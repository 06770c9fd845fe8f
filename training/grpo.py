"""Group-relative policy optimisation on live terminals: `tgym train grpo`.

    OUT/settings.yaml      what was asked for
    OUT/rollouts-R/        every trajectory that process R played, a run folder
    OUT/checkpoints/       of the trainer
    OUT/model/ or adapter/ what was learned

Source: Shao et al. 2024 (GRPO); Yu et al. 2025 (DAPO); Liu et al. 2025 (Dr. GRPO); Zheng et al. 2025 (GSPO).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.store import Run, RunWriter
from training import chat_format
from training.folder import begin, check_folder, held
from training.rewards import Curriculum, Reward, teaches
from training.rollout_bridge import Episode, Ids, Live, Rollouts, agreement, check_tasks
from training.settings import (
    Lora,
    Model,
    check_attention,
    check_context,
    check_device,
    check_versions,
    plain,
    trainer_arguments,
)
from training.sft import lora_config, save_tokenizer, tell
from training.tokenizers import open_tokenizer

Preset = Literal["dapo", "dr_grpo", "gspo", "grpo"]
PRESETS: dict[str, dict[str, Any]] = {  # what the papers differ in, as the trainer names it
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28, "scale_rewards": "none", "beta": 0.0},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0},
    "gspo": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
        "beta": 0.0,
    },
    "grpo": {"loss_type": "grpo", "scale_rewards": "group"},
}

CHOICES = {  # what the trainer itself looks at only once a group has been played
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
}


@dataclass(frozen=True)
class Vllm:
    """Replies by vLLM, on the same GPUs or on a server of its own."""

    mode: Literal["colocate", "server"] = "colocate"
    base_url: str | None = None
    """Of the server."""
    memory: float = 0.3
    """Share of each GPU's memory, where it is colocated."""
    tensor_parallel: int = 1
    """GPUs that share one, where it is colocated."""

    def __post_init__(self) -> None:
        if self.base_url is not None and self.mode != "server":
            raise BadSetting(f"vllm.base_url is of a server, and vllm.mode is {self.mode}. Leave one out.")


@dataclass(frozen=True)
class Difficulty:
    """Which tasks are tried."""

    run: str | None = None
    """A run folder that says how often the policy solves each task."""
    low: float = 0.0
    high: float = 1.0
    """Tasks solved less or more often than this in that run are left out."""
    again: int = 0
    """A group whose attempts all ended alike is replaced by one at another task, so many times."""

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise BadSetting(f"difficulty.low is {self.low}, more than difficulty.high, {self.high}.")
        if self.again < 0:
            raise BadSetting(f"difficulty.again is {self.again}; it must be 0 or more.")


@dataclass(frozen=True)
class Grpo:
    """Learning on live terminals."""

    model: Model
    manifest: str
    """Tasks to learn from: a manifest, or a task."""
    out: str
    context_tokens: int = 32_768
    reply_tokens: int = 1_024
    """Of one reply."""
    preset: Preset = "dapo"
    live: Live = field(default_factory=Live)
    reward: Reward = field(default_factory=Reward)
    difficulty: Difficulty = field(default_factory=Difficulty)
    groups: int = 1_000
    """That are drawn, of `trainer.num_generations` attempts each."""
    vllm: Vllm | None = None
    """None: transformers generates."""
    lora: Lora | None = None
    needs_gpu: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Fields of trl.GRPOConfig."""


@dataclass(frozen=True)
class Ready:
    """What has been checked, and is needed to train."""

    settings: Grpo
    tasks: Mapping[str, Task]
    curriculum: Curriculum
    tokenizer: Any
    template: str
    arguments: Any  # trl.GRPOConfig


def prepare(settings: Grpo, *, where: str = "the configuration") -> Ready:
    """Check everything that can be checked without loading the model or starting a sandbox.

    Raises:
        UsageError: Something does not fit; says what.
        TaskError: A task cannot be read.
    """
    check_versions()
    has_gpu = check_device(needs_gpu=settings.needs_gpu, where=where)
    check_attention(settings.model.attention)
    check_context(settings.model.name, settings.context_tokens)
    if settings.vllm is not None:
        check_versions({"vllm": ">=0.22,<=0.31.0"})  # what trl 1.16 was made for
    if not 0 < settings.reply_tokens < settings.context_tokens:
        found = f"reply_tokens is {settings.reply_tokens}, context_tokens {settings.context_tokens}"
        raise BadSetting(f"{found}: it must be more than 0 and less than that.")
    if settings.live.completion_tokens >= settings.context_tokens:
        found = f"live.completion_tokens is {settings.live.completion_tokens}"
        raise BadSetting(
            f"{found}, context_tokens {settings.context_tokens}: the task has no room. Lower it."
        )
    settings.live.check()
    tokenizer = open_tokenizer(settings.model.name)
    template = chat_format.matching(tokenizer, name=settings.model.template)
    _check_end(settings.model.name, tokenizer)
    arguments = _arguments(settings, has_gpu=has_gpu, where=where)
    _check_batches(settings, arguments)
    here = arguments.generation_batch_size // max(1, arguments.world_size)  # episodes in each process
    if settings.difficulty.again and here % arguments.num_generations:
        advice = "Make steps_per_generation larger, or difficulty.again 0."
        raise BadSetting(f"difficulty.again needs whole groups in each process. {advice}")
    manifest = Path(settings.manifest)
    opened = open_manifest(manifest if manifest.is_file() else [settings.manifest]).tasks()
    tasks = {str(task.ref): task for task in opened}
    check_tasks(tasks.values())
    return Ready(settings, tasks, _curriculum(settings, list(tasks)), tokenizer, template, arguments)


def _check_end(name: str, tokenizer: Any) -> None:
    """Raise BadSetting where decoding would not stop at the end of a turn; the trainer would take all for cut off."""
    from transformers import AutoConfig, GenerationConfig

    try:
        told = GenerationConfig.from_pretrained(name).eos_token_id
    except OSError:  # it has no such file
        told = AutoConfig.from_pretrained(name).eos_token_id
    stops = {tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])}
    if tokenizer(chat_format.END, add_special_tokens=False)["input_ids"][0] not in stops:
        found = (
            f"{name} ends what it says with {tokenizer.eos_token!r}, and a turn ends with {chat_format.END!r}"
        )
        advice = f"Fine-tune it first with trainer.eos_token: {chat_format.END!r}, or begin with an Instruct model."
        raise BadSetting(f"{found}: no reply would end, and nothing would be learned. {advice}")


def _check_batches(settings: Grpo, arguments: Any) -> None:
    """Raise BadSetting where the trainer would end before it begins, or ask for what there is not."""
    together = arguments.generation_batch_size // arguments.num_generations
    if settings.groups < together:
        raise BadSetting(f"groups is {settings.groups}, and {together} are played together. Draw more.")
    if arguments.eval_strategy != "no":
        advice = "Leave trainer.eval_strategy out."
        raise BadSetting(f"There is no table to evaluate on. {advice}")
    vllm, processes = settings.vllm, max(1, arguments.world_size)
    if vllm and vllm.mode == "colocate" and (vllm.tensor_parallel < 1 or processes % vllm.tensor_parallel):
        found = f"vllm.tensor_parallel is {vllm.tensor_parallel}, and there are {processes} processes"
        raise BadSetting(f"{found}: they must divide into such groups.")
    for name, known in CHOICES.items():
        if getattr(arguments, name) not in known:
            raise UnknownName(f"trainer.{name}", str(getattr(arguments, name)), known=known)


def _curriculum(settings: Grpo, tasks: Sequence[str]) -> Curriculum:
    difficulty, seed = settings.difficulty, int(settings.trainer.get("seed", 42))
    made = Curriculum(tasks, seed)
    if difficulty.run is None:
        return made
    rows = list(Run(difficulty.run).standing.values())
    made.learn(rows)
    left = made.within(difficulty.low, difficulty.high)
    if not left:
        found = f"no task of {settings.manifest} is solved between {difficulty.low} and {difficulty.high}"
        raise BadSetting(f"{found} in {difficulty.run}. Widen the bounds.")
    made = Curriculum(left, seed)
    made.learn(rows)
    return made


def _arguments(settings: Grpo, *, has_gpu: bool, where: str) -> Any:
    from trl import GRPOConfig

    live, vllm = settings.live, settings.vllm
    token_limit = "max_tokens" if vllm else "max_new_tokens"
    ours: dict[str, Any] = {
        "output_dir": str(Path(settings.out) / "checkpoints"),
        "max_completion_length": live.completion_tokens + settings.reply_tokens,
        "generation_kwargs": {token_limit: settings.reply_tokens},
        "shuffle_dataset": False,  # the curriculum has drawn the order
        "use_vllm": vllm is not None,
        "use_cpu": not has_gpu,
        "bf16": has_gpu,
        "model_init_kwargs": {
            "dtype": settings.model.dtype if has_gpu else "float32",
            "attn_implementation": settings.model.attention,
        },
    }
    if vllm is not None:
        ours |= {
            "vllm_mode": vllm.mode,
            "vllm_gpu_memory_utilization": vllm.memory,
            "vllm_tensor_parallel_size": vllm.tensor_parallel,
            "vllm_max_model_length": settings.context_tokens,
            # A ratio over a sequence of many turns leaves its bounds by rounding alone; one over a token does not.
            "vllm_importance_sampling_mode": "token_truncate",
        }
        if vllm.base_url is not None:
            ours["vllm_server_base_url"] = vllm.base_url
    given = {
        "report_to": "none",
        "disable_tqdm": True,
        "mask_truncated_completions": True,
        **PRESETS[settings.preset],
        **settings.trainer,
    }
    return trainer_arguments(GRPOConfig, given, ours, where=where)


# ── the trainer's hooks ─────────────────────────────────────────────────────────────────────────


class LiveRollout:
    """`rollout_func` of trl's GRPOTrainer: prompts that name tasks → what episodes at them were, token by token.

    Args:
        rollouts: Plays; closed by the caller.
        curriculum: Learns from every verdict, and draws the tasks of whole groups when they are to be played; those
            that several processes share are the ones that the prompts name.
        reward: What an episode pays.
        again: How often a group that teaches nothing is replaced.
    """

    def __init__(self, rollouts: Rollouts, curriculum: Curriculum, reward: Reward, *, again: int = 0):
        self._rollouts, self._curriculum, self._reward, self._again = rollouts, curriculum, reward, again

    def __call__(self, prompts: Sequence[Sequence[Mapping[str, Any]]], trainer: Any) -> dict[str, Any]:
        """Return prompt and completion ids, log-probabilities, masks and rewards, one each for each of `prompts`."""
        told = True  # where no episode came so far as to ask: nothing, about no token

        def generate(ids: list[Ids]) -> tuple[list[Ids], list[list[float]] | None]:
            nonlocal told
            replies, logprobs = trainer._generate_single_turn(ids, None, {}, 1)
            told = logprobs is not None
            return replies, logprobs

        agree = agreement(trainer)
        group = trainer.num_generations
        wanted = [prompt[-1]["task"] for prompt in prompts]
        if len(wanted) % group == 0:
            drawn = self._curriculum.draw(len(wanted) // group)
            wanted = [task for task in drawn for _ in range(group)]
        episodes = self._rollouts.play(wanted, generate, agree=agree)
        for _ in range(self._again):
            self._replaced(episodes, group, generate, agree)
        rewards = [self._paid(episode) for episode in episodes]
        for episode, reward in zip(episodes, rewards, strict=True):
            self._curriculum.note(episode.task, reward)
        return {
            "prompt_ids": [episode.prompt for episode in episodes],
            "completion_ids": [episode.completion for episode in episodes],
            "logprobs": [episode.logprobs for episode in episodes] if told else None,
            "env_mask": self._masks(episodes, rewards, group),
            "env_reward": rewards,
            "env_status": [episode.played.outcome.status for episode in episodes],
            "env_turns": [len(episode.played.turns) for episode in episodes],
            "env_truncated": [episode.truncated for episode in episodes],
        }

    def _paid(self, episode: Episode) -> float | None:
        return self._reward.of(episode.played, most_turns=self._rollouts.live.max_steps)

    def _replaced(self, episodes: list[Episode], group: int, generate: Any, agree: Any) -> None:
        """Play other tasks in place of those groups that teach nothing."""
        dull = [
            at
            for at in range(0, len(episodes), group)
            if not teaches(self._paid(episode) for episode in episodes[at : at + group])
        ]
        for at in dull:
            for episode in episodes[at : at + group]:
                self._curriculum.note(episode.task, self._paid(episode))
        tried = {episode.task for episode in episodes}
        others = self._curriculum.draw(len(dull), but=tried)
        new = self._rollouts.play([task for task in others for _ in range(group)], generate, agree=agree)
        for number, at in enumerate(dull):
            episodes[at : at + group] = new[number * group : (number + 1) * group]

    def _masks(
        self, episodes: Sequence[Episode], rewards: Sequence[float | None], group: int
    ) -> list[list[int]]:
        """Return each episode's mask; nothing of one that teaches nothing counts, not even in the loss's divisor."""
        whole = len(episodes) % group == 0
        masks: list[list[int]] = []
        for at, episode in enumerate(episodes):
            first = at - at % group
            dull = rewards[at] is None or (whole and not teaches(rewards[first : first + group]))
            masks.append([0] * len(episode.mask) if dull else list(episode.mask))
        return masks


def terminal_reward(
    completions: Any,
    env_reward: list[float | None],
    env_status: list[str],
    env_turns: list[int],
    env_truncated: list[str],
    log_metric: Callable[[str, float], None] | None = None,
    **_: Any,
) -> list[float | None]:
    """Return what the episodes paid; None where there was no verdict."""
    if log_metric is not None:
        count = len(env_status)
        log_metric("episodes/broken", sum(status == "broken" for status in env_status) / count)
        log_metric("episodes/passed", sum(status == "passed" for status in env_status) / count)
        log_metric("episodes/turns", sum(env_turns) / count)
        log_metric("episodes/truncated", sum(map(bool, env_truncated)) / count)
    return env_reward


def closing(rollouts: Rollouts) -> Any:
    """Return a callback that removes every sandbox when training ends."""
    from transformers import TrainerCallback

    def on_train_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        rollouts.close()

    return type("Closing", (TrainerCallback,), {"on_train_end": on_train_end})()


# ── start to finish ─────────────────────────────────────────────────────────────────────────────


def train(
    ready: Ready,
    *,
    resume: bool = False,
    say: Callable[[str], None] = lambda text: None,
    runtime: Runtime | None = None,
    make: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Train; returns what came of it. No sandbox outlives it, however it ends.

    Args:
        ready: Of `prepare`.
        resume: Go on from the last whole checkpoint in the folder.
        say: Told of progress.
        runtime: Where sandboxes come from, closed here; None: the one that the settings name.
        make: Makes the trainer, with the arguments of trl's GRPOTrainer; None: that one.

    Raises:
        BadSetting: The folder exists and is not to be resumed, or there is nothing to resume.
        SandboxError: The runtime cannot be used, or holds no image of a task.
    """
    settings, out = ready.settings, Path(ready.settings.out)
    check_folder(out, plain(settings), resume=resume)
    with contextlib.ExitStack() as stack:
        maker = runtime or open_runtime(settings.live.runtime)
        stack.callback(maker.close)
        maker.check()
        maker.reap()
        checkpoint = begin(out, plain(settings), resume=resume)
        stack.enter_context(held(out))
        for task in ready.tasks.values():
            maker.build(task.image)
        rank = int(os.environ.get("RANK", "0"))
        folder = out / f"rollouts-{rank}-{checkpoint.name if checkpoint else 'start'}"
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was cut off there: it is played again
        writer = stack.enter_context(RunWriter(folder, {"training": "grpo", "tasks": {}}))
        rollouts = Rollouts(
            ready.tasks,
            maker,
            ready.tokenizer,
            template=ready.template,
            # Room for a whole reply: a server refuses what might pass its context, and with it the whole batch.
            context_tokens=settings.context_tokens - settings.reply_tokens,
            live=settings.live,
            keep=writer.append,
        )
        stack.callback(rollouts.close)
        trainer = make_trainer(ready, rollouts, make=make)
        for before in sorted(out.glob(f"rollouts-{rank}-*")):  # what this process has seen so far
            ready.curriculum.learn(Run(before).standing.values())
        tell(trainer, say)
        stack.enter_context(warnings.catch_warnings())
        # TRL asks for the old name of this field before each batch that it generates.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return _finish(trainer, ready, out)


def make_trainer(ready: Ready, rollouts: Rollouts, *, make: Callable[..., Any] | None = None) -> Any:
    """Return the trainer, its hooks on `rollouts`."""
    from datasets import Dataset
    from trl import GRPOTrainer

    settings = ready.settings
    drawn = ready.curriculum.draw(settings.groups)  # the same in each process
    ready.curriculum.part_with(int(ready.arguments.process_index))
    rows = [{"prompt": [{"role": "user", "content": task, "task": task}]} for task in drawn]
    hook = LiveRollout(rollouts, ready.curriculum, settings.reward, again=settings.difficulty.again)
    return (make or GRPOTrainer)(
        model=settings.model.name,
        reward_funcs=terminal_reward,
        args=ready.arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=ready.tokenizer,
        peft_config=lora_config(settings.lora),
        rollout_func=hook,
        callbacks=[closing(rollouts)],
    )


def _finish(trainer: Any, ready: Ready, out: Path) -> dict[str, Any]:
    settings = ready.settings
    place = out / ("adapter" if settings.lora else "model")
    history = list(trainer.state.log_history)
    rewards = [entry["reward"] for entry in history if "reward" in entry]
    trainer.save_model(str(place))
    if trainer.is_world_process_zero():
        save_tokenizer(ready.tokenizer, place, ready.template)
        (out / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    trainer.accelerator.wait_for_everyone()
    return {
        "steps": trainer.state.global_step,
        "first_reward": rewards[0] if rewards else None,
        "last_reward": rewards[-1] if rewards else None,
        "preset": settings.preset,
        "reward": asdict(settings.reward),
        "model": str(place),
    }


if __name__ == "__main__":  # under `accelerate launch -m training.grpo`
    import sys

    from terminal_gym.cli.app import main

    main(["train", "grpo", *sys.argv[1:]])
