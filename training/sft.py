"""Supervised fine-tuning, start to finish: a table, a model, a folder. `tgym train sft`, or

accelerate launch --config_file training/configs/accelerate/fsdp2.yaml -m training.sft --config …

OUT/settings.yaml          what was asked for
OUT/checkpoints/           of the trainer, to be resumed from
OUT/model/ or OUT/adapter/ what was learned, with its tokenizer and a card
OUT/history.json           losses
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal_gym.errors import BadSetting, StoreError
from terminal_gym.tasks.task import Task
from training import chat_format
from training.cards import model_card
from training.folder import begin, check_folder, gone_unless_begun, held
from training.held_out import HeldOut, measuring, open_tasks
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
from training.table import Facts, check_fits, check_table
from training.tokenizers import open_tokenizer

TOLD = ("loss", "eval_loss", "learning_rate", "grad_norm", "reward", "pass@1", "epoch", "train_runtime")
WIDEST_MASK = 16_384  # tokens: beyond it, an explicit mask over a packed row takes more than 256 MB


@dataclass(frozen=True)
class Sft:
    """A fine-tuning."""

    model: Model
    table: str
    """Folder of a training table."""
    out: str
    """Folder, a new one."""
    context_tokens: int = 32_768
    """Of one row; the table must have been made for no more."""
    packing: bool = False
    """Several documents in one row, none of which sees another."""
    lora: Lora | None = None
    """None: all weights are trained."""
    held_out: HeldOut | None = None
    """Live rollouts while it is tuned; None: none."""
    needs_gpu: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Fields of trl.SFTConfig."""


@dataclass(frozen=True)
class Ready:
    """What has been checked, and is needed to train."""

    settings: Sft
    facts: Facts
    tokenizer: Any
    template: str
    held_out: Mapping[str, Task]
    arguments: Any  # trl.SFTConfig


def prepare(settings: Sft, *, where: str = "the configuration") -> Ready:
    """Check everything that can be checked without loading the model.

    Raises:
        UsageError: Something does not fit; says what.
        SchemaMismatch: The table is of another version.
    """
    check_versions()
    has_gpu = check_device(needs_gpu=settings.needs_gpu, where=where)
    check_attention(settings.model.attention)
    _check_packing(settings)
    check_context(settings.model.name, settings.context_tokens)
    table, name, room = Path(settings.table), settings.model.name, settings.context_tokens
    tokenizer = open_tokenizer(name)
    template = chat_format.matching(tokenizer, name=settings.model.template)
    facts = check_fits(table, tokenizer, model=name, template=template, max_tokens=room)
    check_table(table)
    held_out = open_tasks(settings.held_out, table, context_tokens=room) if settings.held_out else {}
    arguments = _arguments(settings, has_gpu=has_gpu, where=where)
    if arguments.eval_strategy != "no":
        check_eval(table, facts)
    return Ready(settings, facts, tokenizer, template, held_out, arguments)


def check_eval(table: Path, facts: Facts) -> None:
    """Raise UsageError where an eval loss is asked for and the table holds nothing out."""
    if not facts.rows.get("eval"):
        advice = "Make the table with --eval-share, or set trainer.eval_strategy=no."
        raise BadSetting(
            f"trainer.eval_strategy asks for an eval loss, and {table} holds nothing out. {advice}"
        )
    check_table(table, "eval")


def check_arguments(settings: Sft, *, where: str) -> Any:
    """Return trl's SFTConfig; raises UsageError where the trainer would not accept it. No table is needed for that."""
    _check_packing(settings)
    return _arguments(settings, has_gpu=check_device(needs_gpu=settings.needs_gpu, where=where), where=where)


def _check_packing(settings: Sft) -> None:
    masked = settings.model.attention in ("sdpa", "eager")
    if settings.packing and masked and settings.context_tokens > WIDEST_MASK:
        advice = "Use flash_attention_2 or flex_attention, or packing=false."
        raise BadSetting(
            f"packing with {settings.model.attention} at {settings.context_tokens} tokens needs a mask of "
            f"{settings.context_tokens**2 / 2**30:.1f} GiB for each row to keep documents apart. {advice}"
        )


def _arguments(settings: Sft, *, has_gpu: bool, where: str) -> Any:
    from trl import SFTConfig

    ours: dict[str, Any] = {
        "output_dir": str(Path(settings.out) / "checkpoints"),
        "max_length": settings.context_tokens,
        "packing": settings.packing,
        "packing_strategy": "bfd",
        "eval_packing": False,
        "use_cpu": not has_gpu,
        "bf16": has_gpu,
        "model_init_kwargs": {
            "dtype": settings.model.dtype if has_gpu else "float32",
            "attn_implementation": settings.model.attention,
        },
    }
    given = {"report_to": "none", "disable_tqdm": True, **settings.trainer}
    if given.get("activation_offloading") and not has_gpu:
        raise BadSetting(
            f"{where}: trainer.activation_offloading needs a GPU, and there is none. Set it to false."
        )
    return trainer_arguments(SFTConfig, given, ours, where=where)


def train(
    ready: Ready, *, resume: bool = False, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Train; returns what came of it: steps, the first and the last loss, where the model is.

    Args:
        ready: Of `prepare`.
        resume: Go on from the last whole checkpoint in the folder.
        say: Told of progress.

    Raises:
        BadSetting: The folder exists and is not to be resumed, or there is nothing to resume; or the trainer cannot be
            made with these settings.
        SandboxError: Held-out tasks are to be played, and the runtime cannot be used.
    """
    settings, out = ready.settings, Path(ready.settings.out)
    check_folder(out, plain(settings), resume=resume)
    with measuring(
        settings.held_out,
        ready.held_out,
        ready.tokenizer,
        template=ready.template,
        context_tokens=settings.context_tokens,
        folder=out,
    ) as measures:
        checkpoint = begin(out, plain(settings), resume=resume)
        with held(out):
            with gone_unless_begun(out, resume=resume):
                trainer = make_trainer(ready)
            tell(trainer, say)
            measures(trainer)
            if checkpoint is not None:
                say(f"going on from {checkpoint}")
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            return finish(trainer, ready, out)


def make_trainer(ready: Ready, *, model: Any = None, callbacks: tuple[Any, ...] = ()) -> Any:
    """Return the trainer; `model` replaces the one that the settings name."""
    from datasets import Dataset
    from trl import SFTTrainer

    settings, folder = ready.settings, Path(ready.settings.table)
    cache = Path(settings.out) / ".cache"

    def rows(split: str) -> Any:
        path = folder / f"{split}.parquet"
        if not path.is_file():
            return None
        with ready.arguments.main_process_first():
            return Dataset.from_parquet(str(path), columns=["input_ids", "labels"], cache_dir=str(cache))

    evaluates = ready.arguments.eval_strategy != "no"
    return SFTTrainer(
        model=model or settings.model.name,
        args=ready.arguments,
        train_dataset=rows("train"),
        eval_dataset=rows("eval") if evaluates else None,
        processing_class=ready.tokenizer,
        peft_config=lora_config(settings.lora),
        callbacks=list(callbacks),
    )


def tell(trainer: Any, say: Callable[[str], None]) -> None:
    """Have the trainer tell `say` of its steps, and print nothing: standard output is for results."""
    from transformers import PrinterCallback, TrainerCallback

    def on_log(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if state.is_world_process_zero:
            facts = ", ".join(f"{key} {value:.4g}" for key, value in (logs or {}).items() if key in TOLD)
            if facts:
                say(f"step {state.global_step}: {facts}")

    trainer.remove_callback(PrinterCallback)
    # Made here: its base is the trainer's, which is imported only when something is trained.
    trainer.add_callback(type("Tell", (TrainerCallback,), {"on_log": on_log})())


def lora_config(lora: Lora | None) -> Any:
    """Return peft's configuration, None without an adapter."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )


def finish(trainer: Any, ready: Ready, out: Path) -> dict[str, Any]:
    """Save what was learned, its tokenizer, a card and the losses; returns what came of it."""
    settings = ready.settings
    place = out / ("adapter" if settings.lora else "model")
    history = list(trainer.state.log_history)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    told: dict[str, Any] = {
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "pass_at_1": next((entry["pass@1"] for entry in reversed(history) if "pass@1" in entry), None),
        "eval_loss": next((entry["eval_loss"] for entry in reversed(history) if "eval_loss" in entry), None),
        "model": str(place),
    }
    trainer.save_model(str(place))
    if trainer.is_world_process_zero():
        save_tokenizer(ready.tokenizer, place, ready.template)
        (place / "README.md").write_text(model_card(settings, ready.facts, told), "utf-8")
        (out / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
        shutil.rmtree(out / ".cache", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return told


def save_tokenizer(tokenizer: Any, place: Path, template: str) -> None:
    """Save a tokenizer; one without a chat template gets the one that was trained on."""
    had = tokenizer.chat_template
    try:
        tokenizer.chat_template = had or chat_format.plain_template(template)
        tokenizer.save_pretrained(str(place))
    finally:
        tokenizer.chat_template = had


def merge(adapter: Path, out: Path) -> None:
    """Write an adapter and its base as one model, which any server loads.

    Raises:
        BadSetting: There is no adapter there, or it or its base cannot be loaded; or the folder exists.
        StoreError: The folder cannot be written.
    """
    check_versions()
    if out.exists():
        raise BadSetting(f"{out} exists. Name a new folder.")
    if not (adapter / "adapter_config.json").is_file():
        raise BadSetting(f"{adapter} holds no adapter. Name the folder `adapter` of a training.")
    from peft import AutoPeftModelForCausalLM

    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        model = AutoPeftModelForCausalLM.from_pretrained(str(adapter), dtype="auto")
    except (OSError, ValueError) as error:
        raise BadSetting(
            f"{adapter} or the base that it names cannot be loaded: {str(error)[:400]}"
        ) from error
    try:
        model.merge_and_unload().save_pretrained(str(draft))
        open_tokenizer(str(adapter)).save_pretrained(str(draft))
        if (adapter / "README.md").is_file():
            card = (adapter / "README.md").read_text("utf-8")
            card = card.replace("library_name: peft", "library_name: transformers", 1)
            (draft / "README.md").write_text(card, "utf-8")
        draft.replace(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


if __name__ == "__main__":  # under `accelerate launch -m training.sft`
    from terminal_gym.cli.app import main

    main(["train", "sft", *sys.argv[1:]])
