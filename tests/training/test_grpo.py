"""GRPO on real sandboxes, its policy scripted: what is said is fixed, all else is as in training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from kit.processes import ON_CPU, TWO_PROCESSES
from kit.talk import TAIL, model, talk, tokenizer

from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.store import Run
from training import chat_format, grpo
from training.grpo import Grpo
from training.rewards import Reward
from training.rollout_bridge import Live, Rollouts
from training.settings import Model, plain

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
RIGHT = "```bash\nprintf 'hello, world\\n500500\\n' > /app/greeting.txt\n```"
DONE = "```bash\n<submit>\n```"


def settings(tmp_path: Path, tiny: Path, **changed: Any) -> Grpo:
    trainer = {
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "max_steps": 1,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        **changed.pop("trainer", {}),
    }
    live = Live(runtime="namespace", episodes=4, max_steps=4, completion_tokens=420, patience_s=2.0)
    made = Grpo(
        model=Model(str(tiny), dtype="float32"),
        manifest=str(HELLO),
        out=str(tmp_path / "out"),
        context_tokens=1024,
        reply_tokens=64,
        live=live,
        groups=4,
        needs_gpu=False,
        trainer=trainer,
    )
    return replace(made, **changed)


class Script:
    """Replies by the number of turns so far, and by which conversation asks: even ones solve the task."""

    def __init__(self, tokens: Any, *talks: list[str]):
        self._tokens, self._talks = tokens, talks
        self._mine: dict[int, int] = {}
        self.asked: list[list[int]] = []
        self._said: dict[tuple[int, ...], int] = {}

    def __call__(self, prompts: list[list[int]]) -> tuple[list[list[int]], None]:
        replies = []
        for ids in prompts:
            self.asked.append(list(ids))
            before = [key for key in self._said if tuple(ids[: len(key)]) == key]
            longest = max(before, key=len, default=None)
            talk = self._said.pop(longest) if longest is not None else len(self._mine)
            turn = self._mine.get(talk, 0)
            self._mine[talk] = turn + 1
            lines = self._talks[talk % len(self._talks)]
            text = f"{lines[min(turn, len(lines) - 1)]}"
            said = self._tokens(text + TAIL, add_special_tokens=False)["input_ids"]
            replies.append(said)
            self._said[(*ids, *said)] = talk
        return replies, None


def scripted(script: Script) -> Any:
    from trl import GRPOTrainer

    class Scripted(GRPOTrainer):  # type: ignore[misc]
        batches: list[Any] = []  # noqa: RUF012

        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
            return script(prompt_ids)

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            made = super()._generate_and_score_completions(inputs)
            self.batches.append(made)
            return made

    return Scripted


def test_a_step_of_grpo_on_real_sandboxes_token_by_token(
    tmp_path: Path, tiny: Path, tokens: Any, runtime: Runtime
) -> None:
    script = Script(
        tokens,
        [f"a {RIGHT}".replace("a ```", "a\n```"), DONE],
        [DONE],
        ["no block", "b\n" + DONE],
        ["c\n" + DONE],
    )
    trainer = scripted(script)
    before = {name: value.clone() for name, value in _model(tiny).state_dict().items()}
    told = grpo.train(grpo.prepare(settings(tmp_path, tiny)), runtime=runtime, make=trainer)
    assert told["steps"] == 1
    assert told["first_reward"] == pytest.approx(0.25)
    (batch,) = trainer.batches
    (folder,) = (tmp_path / "out").glob("rollouts-*")
    played = {one.attempt: one for one in Run(folder)}
    assert sorted(one.outcome.status for one in played.values()) == ["failed", "failed", "failed", "passed"]
    for row in range(4):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        kept = batch["completion_mask"][row].bool()
        ids, mask = batch["completion_ids"][row][kept].tolist(), batch["tool_mask"][row][kept].tolist()
        turns = played[row].turns
        assert prompt == list(turns[0].prompt_ids)
        expected: list[tuple[int, int]] = [(token, 1) for token in turns[0].output_ids]
        for turn in turns[1:]:
            expected += [(token, 0) for token in turn.prompt_ids] + [(token, 1) for token in turn.output_ids]
        assert list(zip(ids, mask, strict=True)) == expected
        assert [*prompt, *ids] in [asked + list(turns[-1].output_ids) for asked in script.asked]
    advantages = batch["advantages"].tolist()
    best = next(k for k, one in played.items() if one.outcome.status == "passed")
    assert advantages[best] > 0
    assert all(value < 0 for k, value in enumerate(advantages) if k != best)
    after = _model(tmp_path / "out" / "model").state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "out" / "history.json").read_text())[0]["episodes/broken"] == 0.0


def _model(place: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(place)


@pytest.fixture
def rollouts(tokens: Any, runtime: Runtime) -> Iterator[Rollouts]:
    live = Live(episodes=4, max_steps=8, most_repeats=3, completion_tokens=300, patience_s=2.0)
    task = read_folder(HELLO)
    made = Rollouts({"hello": task}, runtime, tokens, template="chatml", context_tokens=1024, live=live)
    yield made
    made.close()


def test_budgets_and_loops_end_an_episode_and_are_told(rollouts: Rollouts, tokens: Any) -> None:
    script = Script(tokens, ["```bash\ntrue\n```"], ["```bash\nseq 400\n```"], [DONE])
    loop, long, done = rollouts.play(["hello"] * 3, script)
    endings = sorted(one.truncated.partition(":")[0] for one in (loop, long, done))
    assert endings == ["", "BudgetSpent", "a loop"]
    for episode in (loop, long, done):
        assert len(episode.completion) == len(episode.mask) == len(episode.logprobs)
        assert (episode.completion[-1] == tokens.convert_tokens_to_ids(TAIL)) == (not episode.truncated)
        assert episode.played.outcome.status == "failed"
        assert bool(episode.mask[-1]) == (not episode.truncated)


def test_no_reply_is_asked_for_that_may_pass_the_context(
    tmp_path: Path, tiny: Path, tokens: Any, runtime: Runtime
) -> None:
    """A server refuses such a request, and training ends."""
    script = Script(tokens, [f"```bash\nseq {20 + k % 2}\n```" for k in range(12)])
    made = settings(tmp_path, tiny, context_tokens=900)
    live = replace(made.live, max_steps=12, completion_tokens=890)
    trainer = scripted(script)
    grpo.train(grpo.prepare(replace(made, live=live)), runtime=runtime, make=trainer)
    assert 700 < max(map(len, script.asked)) <= 900 - made.reply_tokens
    (folder,) = (tmp_path / "out").glob("rollouts-*")
    assert all("BudgetSpent" in one.limit for one in Run(folder))


def test_a_machine_that_breaks_gives_no_reward(rollouts: Rollouts, tokens: Any) -> None:
    task = rollouts.tasks["hello"]
    gone = replace(task, image=replace(task.image, name="tgym-test/never-built:1"))
    rollouts.tasks = {"gone": gone, "hello": task}
    broken, fine = rollouts.play(["gone", "hello"], Script(tokens, [RIGHT, DONE]))
    assert Reward().of(broken.played, most_turns=8) is None
    assert (broken.played.outcome.status, fine.played.outcome.status) == ("broken", "passed")
    assert len(broken.completion) == len(broken.mask) > 0
    assert not any(broken.mask)


def test_when_decoding_fails_nobody_waits_for_ever_and_nothing_is_left(rollouts: Rollouts) -> None:
    def fail(prompts: Any) -> Any:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        rollouts.play(["hello"] * 2, fail)
    rollouts.close()
    with pytest.raises(BadSetting, match="closed"):
        rollouts.play(["hello"], fail)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tgym-episode")]


def test_what_was_said_in_vain_until_the_budget_was_spent_counts(rollouts: Rollouts, tokens: Any) -> None:
    """Else a policy that babbles until its end would be spared the penalty that one pays who stops in time."""
    script = Script(tokens, ["no block at all, only words"])
    (babble,) = rollouts.play(["hello"], script)
    said = tokens("no block at all, only words" + TAIL, add_special_tokens=False)["input_ids"]
    assert babble.truncated.startswith("BudgetSpent")
    assert len(babble.played.turns) == len(script.asked) > 1
    assert sum(babble.mask) == len(said) * len(script.asked)
    assert Reward(malformed_penalty=0.4).of(babble.played, most_turns=8) == pytest.approx(-0.4)
    assert not list(chat_format.sampled(babble.played))  # none of it could be read
    (turn, *_) = babble.played.turns
    (step,) = babble.played.steps
    assert step.action.understood is None
    assert replace(step.action, text=turn.reply.content, turns=(turn,)).understood is turn


def test_an_episode_whose_history_was_rewritten_is_the_row_before_that(
    rollouts: Rollouts, tokens: Any
) -> None:
    first, second = talk([("Do it.", "one")], tokens=tokens), talk([("Summary.", "two")], tokens=tokens)
    made = rollouts._episode("hello", replace(first, steps=(*first.steps, *second.steps)), "")
    (turn, _) = [*first.turns, *second.turns]
    assert made.completion == [*turn.output_ids, *tokens("\n", add_special_tokens=False)["input_ids"]]
    assert made.truncated == "its history was rewritten"


@pytest.mark.timeout(120)  # it waited for ever
def test_what_was_asked_before_another_process_was_lost_is_refused(rollouts: Rollouts) -> None:
    """Training ends while replies are asked for, and before anything is decoded: no thread waits for one."""

    def lost(count: int) -> int:
        raise RuntimeError("connection closed by peer")

    with pytest.raises(RuntimeError, match="closed by peer"):
        rollouts.play(["hello"] * 2, lambda prompts: pytest.fail("nothing is decoded"), agree=lost)
    rollouts.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tgym-episode")]


@pytest.mark.timeout(120)  # it waited for ever
def test_without_patience_a_batch_is_what_is_asked_for_now(tokens: Any, runtime: Runtime) -> None:
    live = Live(episodes=2, max_steps=3, completion_tokens=300, patience_s=0.0)
    task = read_folder(HELLO)
    made = Rollouts({"hello": task}, runtime, tokens, template="chatml", context_tokens=1024, live=live)
    try:
        (played,) = made.play(["hello"], Script(tokens, [RIGHT, DONE]))
    finally:
        made.close()
    assert played.played.outcome.status == "passed"


def test_where_no_episode_came_so_far_as_to_ask_the_trainer_gets_log_probabilities(
    rollouts: Rollouts,
) -> None:
    """It takes what vLLM says off what it finds itself, and ends where nothing is said."""
    from training.rewards import Curriculum

    task = rollouts.tasks["hello"]
    rollouts.tasks = {"gone": replace(task, image=replace(task.image, name="tgym-test/never-built:1"))}
    trainer = type("Vllm", (), {"num_generations": 2, "accelerator": type("One", (), {"num_processes": 1})})
    hook = grpo.LiveRollout(rollouts, Curriculum(["gone"]), Reward())
    told = hook([[{"role": "user", "content": "gone", "task": "gone"}]] * 2, trainer())
    assert told["env_reward"] == [None, None]
    assert told["logprobs"] == [[0.0] * len(ids) for ids in told["completion_ids"]]


def test_a_group_that_teaches_nothing_is_replaced_or_counts_for_nothing(
    rollouts: Rollouts, tokens: Any
) -> None:
    from training.rewards import Curriculum

    class Trainer:
        num_generations = 2
        accelerator = type("One", (), {"num_processes": 1})
        script = Script(tokens, [DONE], [DONE], [RIGHT, DONE], [DONE])

        def _generate_single_turn(self, ids: Any, *_: Any) -> Any:
            return self.script(ids)

    rollouts.tasks = {"hello": rollouts.tasks["hello"], "other": rollouts.tasks["hello"]}
    prompts = [[{"role": "user", "content": "hello", "task": "hello"}]] * 2
    curriculum = Curriculum(["hello", "other"], seed=1)  # draws "hello" first
    hook = grpo.LiveRollout(rollouts, curriculum, Reward(), again=1)
    told = hook(prompts, Trainer())
    assert sorted(told["env_reward"]) == [0.0, 1.0]
    assert told["logprobs"] is None
    assert all(any(mask) for mask in told["env_mask"])
    assert curriculum.weight("other") > curriculum.weight("hello")


def test_whole_groups_are_at_what_the_policy_half_solves_by_now(rollouts: Rollouts, tokens: Any) -> None:
    """The prompts were drawn before anything was known; a group that is shared by processes stays with them."""
    from training.rewards import Curriculum

    class Trainer:
        num_generations = 2
        accelerator = type("One", (), {"num_processes": 1})
        script = Script(tokens, [DONE])

        def _generate_single_turn(self, ids: Any, *_: Any) -> Any:
            return self.script(ids)

    rollouts.tasks = {"sure": rollouts.tasks["hello"], "half": rollouts.tasks["hello"]}
    curriculum = Curriculum(["sure", "half"])
    for _ in range(10_000):
        curriculum.note("sure", 1.0)
    hook = grpo.LiveRollout(rollouts, curriculum, Reward())
    prompt, before = [{"role": "user", "content": "sure", "task": "sure"}], curriculum.weight("half")
    hook([prompt], Trainer())  # half of a group
    assert curriculum.weight("half") == before
    hook([prompt] * 2, Trainer())
    assert curriculum.weight("half") < before


def test_a_training_that_goes_on_knows_what_was_solved_before(
    tmp_path: Path, tiny: Path, tokens: Any, runtime: Runtime
) -> None:
    from terminal_gym.sandbox.base import open_runtime

    made = settings(tmp_path, tiny, trainer={"save_strategy": "steps", "save_steps": 1, "max_steps": 2})

    class CutOff(scripted(Script(tokens, [DONE]))):  # type: ignore[misc]
        def training_step(self, *given: Any, **also: Any) -> Any:
            if self.state.global_step == 1:
                raise KeyboardInterrupt
            return super().training_step(*given, **also)

    with pytest.raises(KeyboardInterrupt):
        grpo.train(grpo.prepare(made), runtime=runtime, make=CutOff)
    ready = grpo.prepare(made)
    assert grpo.train(
        ready, resume=True, runtime=open_runtime("namespace"), make=scripted(Script(tokens, [DONE]))
    )
    (task,) = ready.tasks
    assert ready.curriculum.weight(task) == pytest.approx(1 / 10 * 9 / 10)  # four failures, and four again


@pytest.mark.parametrize("preset", sorted(grpo.PRESETS))
def test_a_step_of_dull_groups_alone_is_a_step_of_no_token(
    tmp_path: Path, tiny: Path, tokens: Any, runtime: Runtime, preset: Any
) -> None:
    """Beside another process's groups, theirs must not count in the divisor of the loss either."""
    trainer = scripted(Script(tokens, [DONE]))
    ready = grpo.prepare(settings(tmp_path, tiny, preset=preset))
    told = grpo.train(ready, runtime=runtime, make=trainer)
    (batch,) = trainer.batches
    assert told["first_reward"] == 0.0
    assert not (batch["completion_mask"] * batch["tool_mask"]).any()
    assert batch["num_items_in_batch"] == 0
    (logged, *_) = json.loads((tmp_path / "out" / "history.json").read_text())
    assert (logged["loss"], logged["grad_norm"]) == (0.0, 0.0)
    after = _model(tmp_path / "out" / "model").state_dict()
    assert all(torch.equal(value, after[name]) for name, value in _model(tiny).state_dict().items())


def test_what_does_not_fit_is_refused_before_anything_starts(tmp_path: Path, tiny: Path) -> None:
    def refused(found: str, **changed: Any) -> None:
        with pytest.raises(BadSetting, match=found):
            grpo.prepare(settings(tmp_path, tiny, **changed))

    refused("the task has no room", live=Live(completion_tokens=1024))
    refused("must be divisible by num_generations", trainer={"num_generations": 8})
    refused("package vllm is missing", vllm=grpo.Vllm())
    refused("set by other settings", trainer={"use_vllm": True})
    refused("was made for 1024", context_tokens=2048)
    refused("each begins a conversation of its own", manifest=str(HELLO.with_name("bench2-trail")))
    refused("1 are played together", groups=0)
    refused("no table to evaluate on", trainer={"eval_strategy": "steps"})
    refused("more than 0 and less than that", reply_tokens=0)
    refused("more than 0 and less than that", reply_tokens=1024)
    refused("trainer.seed is 'x'; it must be a whole number", trainer={"seed": "x"})
    for name in ("loss_type", "scale_rewards", "importance_sampling_level"):
        with pytest.raises(UnknownName, match=f"No trainer.{name} is named 'x'"):
            grpo.prepare(settings(tmp_path, tiny, trainer={name: "x"}))
    with pytest.raises(UnknownName, match="No runtime is named 'x'"):
        grpo.prepare(settings(tmp_path, tiny, live=Live(runtime="x", completion_tokens=420)))
    for count in ("episodes", "starts", "max_steps", "most_repeats", "completion_tokens"):
        with pytest.raises(BadSetting, match=f"live.{count} is 0"):
            Live(**{count: 0})  # type: ignore[arg-type]  # a whole number, all of them
    with pytest.raises(BadSetting, match="patience_s is -1"):
        Live(patience_s=-1)
    with pytest.raises(BadSetting, match="more than difficulty"):
        grpo.Difficulty(low=0.9, high=0.1)
    with pytest.raises(BadSetting, match="again is -1"):
        grpo.Difficulty(again=-1)
    with pytest.raises(BadSetting, match="base_url is of a server"):
        grpo.Vllm("colocate", "http://localhost:8000")
    assert not (tmp_path / "out").exists()


def test_a_model_whose_replies_do_not_end_with_a_turn_is_refused(tmp_path: Path) -> None:
    """As base models are: the trainer would take every episode for cut off, and learn from none."""
    base = tokenizer(tmp_path)
    base.eos_token = "<|endoftext|>"
    model(tmp_path, base)
    with pytest.raises(
        BadSetting, match=r"nothing would be learned\. Fine-tune it first with trainer\.eos_token"
    ):
        grpo.prepare(settings(tmp_path, tmp_path))
    model(tmp_path, base, ends=[base.convert_tokens_to_ids(one) for one in ("<|endoftext|>", TAIL)])
    grpo.prepare(settings(tmp_path, tmp_path))


def test_what_vllm_is_asked_for(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo, "check_versions", lambda *_: None)  # it is not here
    server = grpo.Vllm("server", "http://localhost:8000")
    made = grpo.prepare(settings(tmp_path, tiny, vllm=server)).arguments
    assert (made.use_vllm, made.vllm_mode, made.vllm_server_base_url) == (True, "server", server.base_url)
    assert (made.vllm_max_model_length, made.generation_kwargs) == (1024, {"max_tokens": 64})
    assert made.vllm_importance_sampling_mode == "token_truncate"
    near = grpo.prepare(settings(tmp_path, tiny, vllm=grpo.Vllm(memory=0.5))).arguments
    assert (near.vllm_mode, near.vllm_gpu_memory_utilization) == ("colocate", 0.5)
    with pytest.raises(BadSetting, match="and there are 1 processes"):
        grpo.prepare(settings(tmp_path, tiny, vllm=grpo.Vllm(tensor_parallel=2)))


@pytest.mark.parametrize("preset", sorted(grpo.PRESETS))
def test_each_preset_is_one_that_the_trainer_accepts(tmp_path: Path, tiny: Path, preset: Any) -> None:
    made = grpo.prepare(settings(tmp_path, tiny, preset=preset))
    for key, value in grpo.PRESETS[preset].items():
        assert getattr(made.arguments, key) == value
    assert plain(made.settings)["preset"] == preset


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts Python, torch and trl three times, twice over
def test_two_processes_play_and_learn_together_and_a_second_start_spoils_nothing(
    tmp_path: Path, tiny: Path, runtime: Runtime
) -> None:
    made = settings(tmp_path, tiny, live=Live(runtime="namespace", max_steps=2, completion_tokens=200))
    config = tmp_path / "grpo.yaml"
    config.write_text(yaml.safe_dump(plain(made)))
    command = [sys.executable, "-m", *TWO_PROCESSES, "-m", "training.grpo", "--config", str(config), "--json"]

    def launched() -> subprocess.CompletedProcess[str]:
        place = Path(__file__).parents[2]
        return subprocess.run(
            command, cwd=place, env=os.environ | ON_CPU, capture_output=True, text=True, timeout=400
        )

    def played() -> list[int]:
        return [len(list(Run(tmp_path / "out" / f"rollouts-{rank}-start"))) for rank in range(2)]

    done = launched()
    assert done.returncode == 0, done.stderr[-3000:]
    assert played() == [4, 4]
    again = launched()
    assert again.returncode != 0
    assert "exists" in again.stderr
    assert played() == [4, 4]
