from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.talk import TAIL, talk
from kit.waiting import wait_until

from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.llm.chat import Completion
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.record import Trajectory
from training.async_worker import TerminalWorker
from training.rewards import Curriculum

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
RIGHT = "```bash\nprintf 'hello, world\\n500500\\n' > /app/greeting.txt\n```"
DONE = "```bash\n<submit>\n```"


def outcome(task: str, attempt: int, tokens: Any) -> Trajectory:
    status = "broken" if attempt % 4 == 3 else "passed" if task == "easy" or attempt % 2 else "failed"
    return talk([("Do it.", f"try {attempt}"), ("seen", "done")], task=task, status=status, tokens=tokens)


def drained(worker: TerminalWorker) -> list[Any]:
    return [worker.rollout_buffer.get_nowait() for _ in range(worker.rollout_buffer.qsize())]


def test_groups_become_samples_token_by_token(tokens: Any) -> None:
    from trl.experimental.async_grpo.async_grpo_trainer import RolloutWorkerProtocol

    worker = TerminalWorker(
        Curriculum(["half"]), lambda task, k: outcome(task, k, tokens), group=4, episodes=4, backlog=6
    )
    protocol = [name for name in vars(RolloutWorkerProtocol) if not name.startswith("_")]
    assert all(hasattr(worker, name) for name in (*protocol, "rollout_buffer", "metrics_queue"))
    worker.update_model_version(7)
    worker.start()
    assert wait_until(lambda: worker.rollout_buffer.qsize() >= 6, deadline_s=60)
    worker.check_health(60)
    worker.stop()
    samples = drained(worker)
    groups = {sample.group_id for sample in samples}
    assert {sample.model_version for sample in samples} == {7}
    for group in groups:
        mine = [sample for sample in samples if sample.group_id == group]
        assert len(mine) == 3  # the fourth is broken
        assert sum(sample.advantage for sample in mine) == pytest.approx(0, abs=1e-6)
        assert {sample.metrics["reward"] for sample in mine} == {0.0, 1.0}
    said = [a for a, b in zip(samples[0].input_ids, samples[0].completion_mask, strict=True) if b]
    assert tokens.decode(said).endswith("<|im_end|>done<|im_end|>")
    assert (samples[0].old_log_probs[samples[0].completion_mask == 1] == -0.5).all()
    assert worker.metrics_queue.get_nowait()["episodes/broken"] == (1.0, 4.0)
    assert not [one for one in threading.enumerate() if one.name.startswith("tgym-async")]


def test_groups_that_teach_nothing_are_not_handed_over(tokens: Any) -> None:
    worker = TerminalWorker(
        Curriculum(["easy"]), lambda task, k: outcome(task, k, tokens), group=2, episodes=2
    )
    worker.start()
    assert wait_until(lambda: worker.metrics_queue.qsize() >= 2, deadline_s=60)
    worker.stop()
    worker.stop()
    assert worker.rollout_buffer.empty()


def test_a_broken_loop_and_a_silent_one_are_told(tokens: Any) -> None:
    def fail(task: str, attempt: int) -> Trajectory:
        raise OSError("disk")

    worker = TerminalWorker(Curriculum(["half"]), fail, group=2, episodes=2)
    worker.start()

    def is_told() -> bool:
        try:
            worker.check_health(60)
        except RuntimeError as error:
            return "disk" in str(error)
        return False

    assert wait_until(is_told, deadline_s=60)
    worker.stop()
    late = TerminalWorker(Curriculum(["half"]), lambda task, k: outcome(task, k, tokens), group=2, episodes=2)
    late._beat -= 1_000.0  # the trainer loaded a large model before it began
    late.start()
    late.check_health(300)
    late.stop()
    silent = TerminalWorker(Curriculum(["half"]), fail)
    with pytest.raises(RuntimeError, match="No episode has ended"):
        silent.check_health(-1.0)


def test_a_policy_that_tells_no_log_probabilities_is_told_of(tokens: Any) -> None:
    """Without, each token would count as one that was certain, and the trainer would clip what it learns."""

    def play(task: str, attempt: int) -> Trajectory:
        played = outcome(task, attempt % 2, tokens)
        first = played.steps[0]
        turns = tuple(replace(turn, logprobs=()) for turn in first.action.turns)
        mute = replace(first, action=replace(first.action, turns=turns))
        return replace(played, steps=(mute, *played.steps[1:]))

    worker = TerminalWorker(Curriculum(["half"]), play, group=2, episodes=2)
    worker.start()

    def is_told() -> bool:
        try:
            worker.check_health(60)
        except RuntimeError as error:
            return "no log-probabilities" in str(error)
        return False

    assert wait_until(is_told, deadline_s=60)
    worker.stop()
    assert worker.rollout_buffer.empty()


def test_a_rewritten_history_is_a_sample_of_its_own(tokens: Any) -> None:
    def play(task: str, attempt: int) -> Trajectory:
        first, second = outcome(task, attempt % 2, tokens), talk([("Summary.", "on")], tokens=tokens)
        return replace(first, steps=(*first.steps, *second.steps))

    worker = TerminalWorker(Curriculum(["half"]), play, group=2, episodes=2, backlog=4)
    worker.start()
    assert wait_until(lambda: worker.rollout_buffer.qsize() >= 4, deadline_s=60)
    worker.stop()
    samples = drained(worker)[:4]
    assert [sample.group_id for sample in samples] == [0] * 4
    assert [sample.advantage > 0 for sample in samples] == [False, False, True, True]


class Taught:
    """A policy that says a fixed talk, and tells how likely the trainer's own model finds each token of it."""

    name = "taught"
    context_tokens = 1024

    def __init__(self, tiny: Path, tokens: Any, lines: Sequence[str]):
        from transformers import AutoModelForCausalLM

        self.model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype="float32").eval()
        self._tokens, self._lines = tokens, lines
        self._known: dict[str, list[int]] = {}
        self._mutex = threading.Lock()

    def complete(
        self, messages: Sequence[Message], *, sampling: Any = None, tools: Any = (), session: str = ""
    ) -> Completion:
        import torch

        with self._mutex:
            shown = messages[-1].content + "<|im_end|>\n<|im_start|>assistant\n"
            before = self._known.get(session, [])
            more = ("\n" if before else "") + f"<|im_start|>user\n{shown}"
            prompt = [*before, *self._tokens(more, add_special_tokens=False)["input_ids"]]
            text = self._lines[sum(message.role == "assistant" for message in messages)]
            said = self._tokens(text + TAIL, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                scores = self.model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
            told = scores.log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0].tolist()
            self._known[session] = [*prompt, *said]
        return Completion(
            Message("assistant", text), prompt_ids=tuple(prompt), output_ids=tuple(said), logprobs=tuple(told)
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 0

    def close(self) -> None:
        pass


class Weights:
    """Moves the trainer's weights into the policies of this process."""

    def __init__(self, policies: Sequence[Taught]):
        self._policies, self.moved = policies, 0

    def send_weights(self, iterator: Any) -> None:
        told = dict(iterator)
        for policy in self._policies:
            with policy._mutex:
                policy.model.load_state_dict(told, strict=False)
        self.moved += 1

    def init_weight_transfer(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def destroy(self) -> None: ...


def varlen(
    q: Any, k: Any, v: Any, begins_q: Any, begins_k: Any, *_: Any, softmax_scale: Any = None, **__: Any
) -> Any:
    """What the trainer's attention kernel computes, which is to be had for GPUs only: segments, causal at their end."""
    import torch

    made = []
    for at in range(len(begins_q) - 1):
        mine, seen = slice(*begins_q[at : at + 2].tolist()), slice(*begins_k[at : at + 2].tolist())
        query, key, value = q[mine].transpose(0, 1), k[seen].transpose(0, 1), v[seen].transpose(0, 1)
        rows, cols = query.shape[1], key.shape[1]
        sees = torch.ones(rows, cols, dtype=torch.bool).tril(cols - rows)
        made.append(
            torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=sees, scale=softmax_scale, enable_gqa=True
            ).transpose(0, 1)
        )
    return torch.cat(made)


def test_the_asynchronous_trainer_learns_from_live_terminals(
    tmp_path: Path, tiny: Path, tokens: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainer, worker and sandboxes; of TRL's only the GPU kernel is replaced, and the table of GPUs' speeds."""
    from datasets import Dataset
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer, async_grpo_trainer, packing

    kernel = type("Kernel", (), {"flash_attn_varlen_func": staticmethod(varlen)})
    monkeypatch.setattr(packing, "_flash_attn", lambda: kernel)
    monkeypatch.setattr(async_grpo_trainer, "get_peak_flops_per_device", lambda *_: 1e12)
    task = read_folder(HELLO)
    policies = [Taught(tiny, tokens, [RIGHT, DONE]), Taught(tiny, tokens, [DONE])]
    weights = Weights(policies)

    def play(name: str, attempt: int) -> Trajectory:
        env = TerminalEnv(task, runtime=runtime, max_steps=4)
        try:
            return run_episode(
                env, open_agent("bash", model=policies[attempt % 2], brief=True), attempt=attempt
            )
        finally:
            env.close()

    worker = TerminalWorker(Curriculum([str(task.ref)]), play, group=2, episodes=2, backlog=4)
    args = AsyncGRPOConfig(
        str(tmp_path / "out"), num_generations=2, per_device_train_batch_size=2, gradient_accumulation_steps=1,
        max_steps=2, learning_rate=1e-3, token_budget=0, dtype="float32", bf16=False, use_cpu=True,
        gradient_checkpointing=False, save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = AsyncGRPOTrainer(
        model=str(tiny), args=args, processing_class=tokens, rollout_worker=worker, weight_transfer=weights,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "x"}]}]),
    )  # fmt: skip
    before = [value.detach().clone() for value in trainer.model.parameters()]
    trainer.train()
    worker.stop()
    logged = [entry for entry in trainer.state.log_history if "ratio" in entry]
    assert len(logged) == 2
    # Ids, masks and log-probabilities belong together: the trainer finds each token as likely as the policy did.
    assert logged[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert logged[0]["reward"] == pytest.approx(0.5)
    assert weights.moved >= 2
    assert any(not a.equal(b) for a, b in zip(before, trainer.model.parameters(), strict=True))
