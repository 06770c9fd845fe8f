"""What a training step costs, at a size that a processor manages; and the formula that utilisation is told by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed.training_step import MODELS, Shape, main, step_flops

SEVEN = Shape(**MODELS["7b"])


def test_the_count_is_that_of_the_published_model() -> None:
    embedding = SEVEN.vocab_size * SEVEN.hidden_size
    assert SEVEN.matrix_weights + embedding == pytest.approx(7.615e9, rel=0.002)  # biases and norms left out
    short, long = (step_flops(SEVEN, tokens, learns_all=True) for tokens in (8192, 32768))
    assert short == pytest.approx(8192 * (6 * 7.07e9 + 6 * 28 * 3584 * 8192), rel=0.002)
    assert long > 4 * short
    adapter = step_flops(SEVEN, 8192, learns_all=False)
    assert short - adapter == pytest.approx(8192 * 2 * 7.07e9, rel=0.002)


@pytest.mark.parametrize(
    "asked",
    [
        "sft --tokens 64 --lora 2",
        "grpo --rows 2 --turns 2 --reply 4 --shown 4 --prompt 8 --environment-s 0.05",
    ],
)
def test_a_step_is_measured_where_there_is_no_gpu_and_none_is_made_up(tmp_path: Path, asked: str) -> None:
    pytest.importorskip("trl", reason="trl is not installed")
    out = tmp_path / "out.json"
    assert main([*asked.split(), "--model", "tiny", "--steps", "2", "--warm-up", "1", "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert told["device"] == "cpu"
    assert told["peak_memory_gib"] is None
    if asked.startswith("sft"):
        assert len(told["step_seconds"]) == 2
        assert told["utilisation"] is None
        assert told["losses"][0] > 1
    else:
        assert told["environments"] == "scripted"
        assert all(seconds >= 0.1 for seconds in told["environment_seconds"])
        assert all(seconds > 0 for seconds in told["generation_seconds"] + told["update_seconds"])
