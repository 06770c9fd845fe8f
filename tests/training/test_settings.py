from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from terminal_gym.errors import BadSetting, UnknownName
from training import settings as reading
from training.settings import (
    check_attention,
    check_context,
    check_device,
    check_versions,
    read_config,
    trainer_arguments,
)
from training.sft import Sft

ROOT = Path(__file__).parents[2]
CONFIG = """\
model: {name: some/model, dtype: float32}
table: t
out: o
lora: {rank: 8}
trainer: {learning_rate: 1e-4}
"""


def read(tmp_path: Path, text: str = CONFIG, **overrides: Any) -> Sft:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return read_config(Sft, file, {key.replace("__", "."): value for key, value in overrides.items()})


def test_a_file_and_overrides_become_frozen_settings(tmp_path: Path) -> None:
    made = read(tmp_path, lora__alpha=4, context_tokens=64)
    assert (made.model.name, made.lora and made.lora.rank, made.lora and made.lora.alpha) == (
        "some/model",
        8,
        4,
    )
    assert (made.context_tokens, made.packing) == (64, False)
    assert read(tmp_path, CONFIG.replace("{rank: 8}", "null")).lora is None
    home = read(tmp_path, CONFIG.replace("some/model", "~/model"), out="~/out")
    assert (home.model.name, home.out) == (str(Path.home() / "model"), str(Path.home() / "out"))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("contxt_tokens: 4", "contxt_tokens.*Did you mean 'context_tokens'"),
        ("model: {name: x, dtipe: float32}", "'model' is named 'dtipe'. Did you mean 'dtype'"),
        ("context_tokens: many", "must be a whole number"),
        ("context_tokens: true", "must be a whole number"),
        ("packing: 1", "must be true or false"),
        ("model: some/model", "model is 'some/model'; it must be a mapping"),
        ("model: {name: x, dtype: int8}", "one of 'float32', 'bfloat16'"),
        ("model: {dtype: float32}", "model.name is missing"),
        ("lora: {rank: 0}", "lora.rank is 0"),
        ("lora: {dropout: 1}", "lora.dropout 1.0"),
        ("held_out: {manifest: m, live: {episodes: 0}}", "live.episodes is 0; it must be 1 or more"),
        ("lora: {dropout: none}", "lora.dropout is 'none'; it must be a number"),
        ("[", "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, line: str, found: str) -> None:
    with pytest.raises((BadSetting, UnknownName), match=found):
        read(
            tmp_path, f"table: t\nout: o\n{'' if line.startswith('model') else 'model: {name: x}'}\n{line}\n"
        )


def test_a_file_that_is_no_mapping_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no mapping"):
        read(tmp_path, "- a")
    with pytest.raises(BadSetting, match="cannot be read"):
        read_config(Sft, tmp_path / "none.yaml")
    with pytest.raises(BadSetting, match="and not a mapping"):
        read(tmp_path, table__x=1)


def trainer(tmp_path: Path, given: dict[str, Any]) -> Any:
    from trl import SFTConfig

    ours = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}
    return trainer_arguments(SFTConfig, {"report_to": "none", **given}, ours, where="x.yaml")


def test_a_strategy_is_switched_off_as_the_docs_say_although_yaml_reads_no_as_false(tmp_path: Path) -> None:
    from training.cli import overrides

    given = overrides(["trainer.eval_strategy=no", "trainer.save_strategy=no"])
    made = trainer(tmp_path, {key.removeprefix("trainer."): value for key, value in given.items()})
    assert (made.eval_strategy, made.save_strategy) == ("no", "no")
    made = trainer(tmp_path, {"save_steps": 20, "learning_rate": "1e-4", "warmup_steps": "0.1"})
    assert (made.save_steps, made.learning_rate, made.warmup_steps) == (20, 1e-4, 0.1)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"max_steps": "ten"}, r"x.yaml: trainer.max_steps is 'ten'; it must be a whole number"),
        ({"max_steps": 2.5}, "trainer.max_steps is 2.5; it must be a whole number"),
        ({"seed": "7"}, "trainer.seed is '7'; it must be a whole number"),
        ({"save_steps": "often"}, "trainer.save_steps is 'often'; it must be a number"),
        ({"learning_rate": True}, "trainer.learning_rate is True; it must be a number"),
        ({"load_best_model_at_end": "yes"}, "must be true or false"),
        (
            {"per_device_train_batch_size": 0},
            "trainer.per_device_train_batch_size is 0; it must be 1 or more",
        ),
        (
            {"gradient_accumulation_steps": 0},
            "trainer.gradient_accumulation_steps is 0; it must be 1 or more",
        ),
        ({"report_to": "clearml"}, "trainer.report_to names 'clearml', which is not here"),
    ],
)
def test_a_value_that_the_trainer_would_stumble_over_later_is_refused(
    tmp_path: Path, given: dict[str, Any], found: str
) -> None:
    with pytest.raises(BadSetting, match=found):
        trainer(tmp_path, given)


def test_versions_that_were_not_tried_are_refused() -> None:
    check_versions()
    with pytest.raises(BadSetting, match=r"transformers is 5\..*, but <5 is needed"):
        check_versions({"transformers": "<5"})
    with pytest.raises(BadSetting, match=r"no-such-package is missing. pip install 'no-such-package>=1'"):
        check_versions({"no-such-package": ">=1"})
    assert set(reading.NEEDS) == {"torch", "transformers", "trl", "peft", "accelerate", "datasets"}


def test_what_the_machine_or_the_model_lacks_is_said(tiny: Path, tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match=r"x\.yaml needs a GPU.*needs_gpu=false"):
            check_device(needs_gpu=True, where="x.yaml")
        with pytest.raises(BadSetting, match="package flash_attn is missing"):
            check_attention("flash_attention_2")
    for name in ("sdpa", "eager", "flex_attention", "kernels-community/flash-attn2"):
        check_attention(name)
    with pytest.raises(UnknownName, match=r"'spda'\. Did you mean 'sdpa'"):
        check_attention("spda")
    assert check_context(str(tiny), 1024).hidden_size == 48
    with pytest.raises(BadSetting, match=r"context_tokens is 1025, but .* was made for 1024"):
        check_context(str(tiny), 1025)
    with pytest.raises(BadSetting, match="There is no folder"):
        check_context(str(tmp_path / "none"), 1)
    with pytest.raises(BadSetting, match="cannot be loaded"):
        check_context(str(tmp_path), 1)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "training" / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_each_published_config_is_read_and_its_trainer_knows_every_key(file: Path) -> None:
    from trl import GRPOConfig, SFTConfig

    from training.cli import KINDS

    kind = KINDS[next(name for name in ("grpo", "rft", "sft") if name in file.name or name == "sft")]
    made = read_config(kind(), file)
    known = (GRPOConfig if "grpo" in file.name else SFTConfig).__dataclass_fields__
    assert set(made.trainer) <= set(known)
    assert made.needs_gpu
    assert made.model.name.startswith("Qwen/Qwen2.5-Coder-")
    assert file.name in file.read_text("utf-8")  # the command that it says is its own


@pytest.mark.parametrize("words", [[], ["--num_processes", "16", "--parallelism_config_dp_shard_size", "4"]])
def test_the_launcher_shares_sequences_among_all_processes_with_the_attention_of_the_model(
    words: list[str],
) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_extend_env_parallelism_config

    configs = ROOT / "training" / "configs"
    model = read_config(Sft, configs / "qwen2.5-coder-32b-ulysses.yaml")
    file = str(configs / "accelerate" / "ulysses.yaml")
    args = launch_command_parser().parse_args(["--config_file", file, *words, "-m", "training.sft"])
    args, _, _ = _validate_launch_command(args)
    told = prepare_extend_env_parallelism_config(args, {})
    sizes = [int(told[f"PARALLELISM_CONFIG_{name}_SIZE"]) for name in ("DP_REPLICATE", "DP_SHARD", "SP")]
    assert sizes[0] * sizes[1] * sizes[2] == args.num_processes
    assert sizes[2] == model.trainer["pad_to_multiple_of"]
    assert told["PARALLELISM_CONFIG_SP_ATTN_IMPLEMENTATION"] == model.model.attention
    if words:
        assert " ".join(words[2:]) in (configs / "qwen2.5-coder-32b-ulysses.yaml").read_text("utf-8")
