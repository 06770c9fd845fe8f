"""Rounds on real sandboxes: a model that was taught to solve the task some of the time practises on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.talk import talk

from terminal_gym.agents import prompts
from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.store import Run, RunWriter
from training import rft, sft
from training.examples import Choice, make_table
from training.rft import Rft
from training.rollout_bridge import Live
from training.settings import Lora, Model
from training.sft import Sft
from training.table import read_rows

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
RIGHT = "```bash\nprintf 'hello, world\\n500500\\n' > /app/greeting.txt\n```"
DONE = "```bash\n<submit>\n```"
QUICK = {
    "per_device_train_batch_size": 2,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
}


def settings(tmp_path: Path, model: Path, **changed: Any) -> Rft:
    live = Live(runtime="namespace", episodes=2, starts=2, max_steps=3)
    made = Rft(
        model=Model(str(model), dtype="float32"),
        manifest=str(HELLO),
        out=str(tmp_path / "out"),
        rounds=1,
        attempts=2,
        context_tokens=1024,
        reply_tokens=80,
        temperature=0.0,
        live=live,
        needs_gpu=False,
        trainer={**QUICK, "max_steps": 2},
    )
    return replace(made, **changed)


def test_what_passed_is_learned_as_it_was_sampled_and_a_cut_round_goes_on(
    tmp_path: Path, tiny: Path, tokens: Any, runtime: Runtime
) -> None:
    first = prompts.filled("bash", instruction=read_folder(HELLO).instruction)
    with RunWriter(tmp_path / "teacher", {"tasks": {}}) as run:
        for k in range(2):
            run.append(talk([(first, RIGHT), ("[exit code 0]", DONE)], attempt=k, tokens=tokens))
    choice = Choice(max_tokens=1024, duplicates=True)
    table = make_table(
        [tmp_path / "teacher"], tmp_path / "t", tokens, tokenizer_name="t", choice=choice
    ).folder
    taught = Sft(Model(str(tiny), "float32"), str(table), str(tmp_path / "taught"), 1024, needs_gpu=False,
                 trainer={**QUICK, "max_steps": 80})  # fmt: skip
    policy = Path(sft.train(sft.prepare(taught))["model"])

    made = settings(tmp_path, policy, lessons=str(table))
    rft.prepare(made)
    told = rft.train(made, runtime=runtime)
    assert told["rounds"][0]["passed"] == 2
    folder = tmp_path / "out" / "round-0"
    played = {one.attempt: one for one in Run(folder / "run")}
    row, *lessons = read_rows(folder / "table")
    assert lessons == list(read_rows(table))  # beside what passed, once: both attempts said the same
    turns = played[row["attempt"]].turns
    assert row["source"] == "sampled"
    assert [label for label in row["labels"] if label >= 0] == [t for turn in turns for t in turn.output_ids]
    assert row["input_ids"][: len(turns[0].prompt_ids)] == list(turns[0].prompt_ids)

    before = (folder / "run" / "trajectories.jsonl.gz").read_bytes()
    (folder / "sft" / "history.json").unlink()  # cut off while it saved
    again = rft.train(made, resume=True, runtime=runtime)
    assert again == told
    assert (folder / "run" / "trajectories.jsonl.gz").read_bytes() == before
    assert json.loads((tmp_path / "out" / "rounds.json").read_text())[0]["judged"] == 2


def test_a_policy_that_passes_nothing_has_nothing_to_learn(
    tmp_path: Path, tiny: Path, runtime: Runtime
) -> None:
    made = settings(
        tmp_path, tiny, attempts=1, reply_tokens=8, live=Live(runtime="namespace", episodes=1, max_steps=1)
    )
    with pytest.raises(BadSetting, match=r"Nothing of .*round-0/run enters the table: 1 failed"):
        rft.train(made, runtime=runtime)


def test_a_runtime_that_is_not_there_leaves_no_folder(tmp_path: Path, tiny: Path) -> None:
    made = settings(tmp_path, tiny, live=Live(runtime="namespac"))
    for begin in (rft.prepare, rft.train):
        with pytest.raises(UnknownName, match="Did you mean 'namespace'"):
            begin(made)  # type: ignore[operator]
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused_before_the_first_episode(tmp_path: Path, tiny: Path) -> None:
    for changed, found in (
        ({"rounds": 0}, "1 or more"),
        ({"rounds": 2, "lora": Lora()}, "do not stack"),
        ({"context_tokens": 4096}, "was made for 1024"),
        ({"trainer": {"max_length": 4}}, "set by other settings"),
        ({"lessons": str(tmp_path)}, "is no training table"),
        ({"per_task": 0}, "caps must be 1 or more"),
        ({"reply_tokens": 0}, "must be 1 or more"),
        ({"context_tokens": 0}, "context_tokens must be 1 or more"),
        ({"trainer": {"eval_strategy": "epoch"}}, "a round holds nothing out"),
    ):
        with pytest.raises(BadSetting, match=found):
            rft.prepare(settings(tmp_path, tiny, **changed))
    assert not (tmp_path / "out").exists()
