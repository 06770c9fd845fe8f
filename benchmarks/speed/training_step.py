"""How long does a training step take on this machine? Tokens per second, utilisation and memory of an SFT step; the
parts of a GRPO step. A model of random weights: what it says is noise, what it costs is not.

Runs wherever torch, transformers, peft, accelerate, trl and datasets are, without the rest of this project:

    python benchmarks/speed/training_step.py sft --model 7b --tokens 8192 --lora 64 --out sft-8k.json
    python benchmarks/speed/training_step.py sft --model 7b --tokens 32768 --lora 64 --out sft-32k.json
    python benchmarks/speed/training_step.py sft --model 7b --layers 8 --tokens 8192 --out sft-8k-full.json
    python benchmarks/speed/training_step.py grpo --model 7b --lora 64 --out grpo.json

Utilisation is model FLOPs over peak FLOPs: a token costs 2 FLOPs forward for each weight of a matrix that it meets (the
head included, the embedding not), and 2·T·d a layer in causal attention over T tokens, d being heads × their width. The
backward pass costs as much again for what flows through (weights that are frozen too), and once more for the weights
that learn, the adapter's own being left out of the count. What checkpointing computes again is not counted.
Source: Chowdhery et al. 2022 (PaLM), appendix B; peak as NVIDIA's data sheets have it, dense bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # FLOPs a second
MODELS: dict[str, dict[str, int]] = {  # of Qwen2's configuration; 7b as Qwen2.5-Coder-7B's is published
    "7b": {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
           "num_attention_heads": 28, "num_key_value_heads": 4},
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2},
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A model, as far as its cost goes."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int

    @property
    def matrix_weights(self) -> int:
        """Weights that a token is multiplied with, the head included."""
        hidden, width = self.hidden_size, self.hidden_size // self.num_attention_heads
        attention = 2 * hidden * hidden + 2 * hidden * width * self.num_key_value_heads
        return (
            self.num_hidden_layers * (attention + 3 * hidden * self.intermediate_size)
            + self.vocab_size * hidden
        )


def step_flops(shape: Shape, tokens: int, *, rows: int = 1, learns_all: bool) -> float:
    """Return the model FLOPs of a step over `rows` documents of `tokens` tokens each."""
    passes = 3 if learns_all else 2  # forward, through, and for the weights
    matrices = 2.0 * shape.matrix_weights * passes
    attention = 2.0 * tokens * shape.hidden_size * shape.num_hidden_layers * 3
    return rows * tokens * (matrices + attention)


def sft(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what a fine-tuning step takes: TRL's trainer, checkpointing on, one document a step."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    has_gpu = torch.cuda.is_available()
    shape, model = made(asked, has_gpu=has_gpu)
    steps = asked.warm_up + asked.steps
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(8, shape.vocab_size, (asked.rows * steps, asked.tokens), generator=chance).tolist()
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            ends.append(now())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(now())

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, max_length=asked.tokens, per_device_train_batch_size=asked.rows, max_steps=steps,
            learning_rate=1e-5, bf16=has_gpu, use_cpu=not has_gpu, gradient_checkpointing=True,
            save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=config, processing_class=words(shape), peft_config=adapter(asked),
            train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}), callbacks=[Clock()],
        )  # fmt: skip
        if has_gpu:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seconds = [end - begin for begin, end in zip(ends[::2], ends[1::2], strict=True)][asked.warm_up :]
    flops = step_flops(shape, asked.tokens, rows=asked.rows, learns_all=not asked.lora)
    typical = statistics.median(seconds)
    peak = peak_flops()
    return {
        "step_seconds": seconds,
        "tokens_per_second": asked.rows * asked.tokens / typical,
        "model_flops_per_step": flops,
        "utilisation": None if peak is None else flops / typical / peak,
        "peak_flops": peak,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if has_gpu else None,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "losses": losses,
    }


def grpo(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what the parts of a GRPO step take. Environments are SCRIPTED: each turn waits, and shows fixed words."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it warns of its own hook
    has_gpu = torch.cuda.is_available()
    shape, model = made(asked, has_gpu=has_gpu)
    spent = {"generation": 0.0, "environment": 0.0}
    shown, told = list(range(10, 10 + asked.shown)), [11, 12, 13]

    def play(prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        begun = [list(range(20, 20 + asked.prompt)) for _ in prompts]
        ids: list[list[int]] = [[] for _ in prompts]
        mask: list[list[int]] = [[] for _ in prompts]
        for turn in range(asked.turns):
            began = now()
            said, _ = trainer._generate_single_turn(
                [a + b for a, b in zip(begun, ids, strict=True)], None, {}, 1
            )
            spent["generation"] += now() - began
            began = now()
            time.sleep(asked.environment_s)  # the scripted environment: all episodes at once
            spent["environment"] += now() - began
            for at, new in enumerate(said):
                after = [] if turn + 1 == asked.turns else shown
                ids[at] += [*(new or told), *after]
                mask[at] += [1] * len(new or told) + [0] * len(after)
        paid = [float(at % 2) for at in range(len(prompts))]
        return {"prompt_ids": begun, "completion_ids": ids, "logprobs": None, "env_mask": mask, "paid": paid}

    ends: list[tuple[float, float, float]] = []

    class Timed(GRPOTrainer):  # type: ignore[misc]
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            before, began = dict(spent), now()
            made = super().training_step(*args, **kwargs)
            apart = [spent[part] - before[part] for part in ("generation", "environment")]
            ends.append((apart[0], apart[1], now() - began - sum(apart)))
            return made

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=asked.rows, num_generations=asked.rows,
            max_steps=asked.warm_up + asked.steps, learning_rate=1e-6, bf16=has_gpu, use_cpu=not has_gpu,
            generation_kwargs={"max_new_tokens": asked.reply, "min_new_tokens": asked.reply},
            max_completion_length=asked.turns * (asked.reply + asked.shown), gradient_checkpointing=True,
            save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = Timed(
            model=model, args=config, processing_class=words(shape), peft_config=adapter(asked),
            reward_funcs=paid_by_environment, rollout_func=play,
            train_dataset=Dataset.from_dict({"prompt": ["x"] * asked.rows}),
        )  # fmt: skip
        if has_gpu:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    kept = ends[asked.warm_up :]
    return {
        "environments": "scripted",
        "generation_seconds": [one[0] for one in kept],
        "environment_seconds": [one[1] for one in kept],
        "update_seconds": [
            one[2] for one in kept
        ],  # scores, loss, backward; the optimizer's step is not in it
        "sampled_tokens_per_step": asked.rows * asked.turns * asked.reply,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if has_gpu else None,
    }


def paid_by_environment(completions: Any, paid: list[float], **_: Any) -> list[float]:
    """Return what the scripted environments pay."""
    return paid


def made(asked: argparse.Namespace, *, has_gpu: bool) -> tuple[Shape, Any]:
    """Return a model of random weights, and its shape."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    cells = dict(MODELS[asked.model])
    if asked.layers:
        cells["num_hidden_layers"] = asked.layers
    torch.manual_seed(0)
    config = Qwen2Config(
        **cells, max_position_embeddings=max(32768, asked.tokens), tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=0, pad_token_id=1, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if has_gpu else torch.float32)
    try:
        with torch.device("cuda" if has_gpu else "cpu"):
            return Shape(**cells), Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa")
    finally:
        torch.set_default_dtype(before)


def words(shape: Shape) -> Any:
    """Return a tokenizer that nothing depends on: rows are ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<end>": 0, "<pad>": 1, "x": 2}, unk_token="x"))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<end>", pad_token="<pad>", padding_side="left"
    )


def adapter(asked: argparse.Namespace) -> Any:
    """Return peft's configuration, None where all weights are trained."""
    if not asked.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=asked.lora, lora_alpha=2 * asked.lora, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def now() -> float:
    """Return seconds, once the device has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_flops() -> float | None:
    """Return the device's peak, None where it is not known: then there is no utilisation."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in PEAK.items() if part in name), None)


def facts() -> dict[str, Any]:
    """Return what this was measured on."""
    import torch

    packages = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for, and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("sft", "grpo"))
    parser.add_argument("--model", choices=sorted(MODELS), default="7b")
    parser.add_argument("--layers", type=int, default=0, help="fewer of them; 0: all")
    parser.add_argument("--tokens", type=int, default=8192, help="of a document (sft)")
    parser.add_argument("--rows", type=int, default=0, help="at once; 0: 1 (sft), 8 (grpo)")
    parser.add_argument("--lora", type=int, default=0, help="rank of an adapter; 0: all weights")
    parser.add_argument("--warm-up", type=int, default=2, help="steps that do not count")
    parser.add_argument("--steps", type=int, default=5, help="steps that count")
    parser.add_argument("--prompt", type=int, default=512, help="tokens (grpo)")
    parser.add_argument("--turns", type=int, default=4, help="of an episode (grpo)")
    parser.add_argument("--reply", type=int, default=128, help="tokens of a turn (grpo)")
    parser.add_argument("--shown", type=int, default=256, help="tokens that a turn shows (grpo)")
    parser.add_argument("--environment-s", type=float, default=1.0, help="a turn waits for (grpo)")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    asked = parser.parse_args(argv)
    asked.rows = asked.rows or {"sft": 1, "grpo": 8}[asked.what]
    measured = {"sft": sft, "grpo": grpo}[asked.what](asked)
    how = {key: value for key, value in vars(asked).items() if key != "out"}
    told = {
        "what": asked.what,
        "asked": how,
        "shape": asdict(Shape(**MODELS[asked.model])),
        **facts(),
        **measured,
    }
    asked.out.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in told.items() if key != "losses"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
