from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.waiting import wait_until

from terminal_gym.errors import BadSetting
from terminal_gym.machine import Machine
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.catalogue import read_folder
from training.tool_env import TerminalTools, close_terminals, open_terminals

# Qwen's calls of tools, in a template that the trainer can continue: what is shown is a message of the user.
CALLS = (
    "{%- for m in messages %}{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\n' }}"
    "{%- if m.role == 'assistant' %}{%- generation %}{{- m.content }}"
    "{%- for c in m.tool_calls or [] %}{{- '```' + c.function.name + '\n' }}"
    "{%- for k, v in c.function.arguments.items() %}{{- v if k == 'command' else k ~ '=' ~ v }}{%- endfor %}"
    "{{- '\n```' }}{%- endfor %}{{- '<|im_end|>' }}{%- endgeneration %}{{- '\n' }}"
    "{%- else %}{{- m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
READ = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"```(?P<name>run)\n",
            "close_pattern": r"\n?```\s*",
            "repeats": True,
            "content": "text",
            "transform": {
                "type": "function",
                "function": {"name": "{name}", "arguments": {"command": "{content}"}},
            },
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"


@pytest.fixture
def tools(runtime: Runtime) -> Iterator[type[TerminalTools]]:
    task = read_folder(HELLO)
    gone = replace(task, image=replace(task.image, name="tgym-test/never-built:1"))
    yield open_terminals({"hello": task, "gone": gone}, runtime)
    close_terminals()


def test_an_episode_through_the_trainers_eyes(tools: type[TerminalTools]) -> None:
    env, other = tools(), tools()
    assert env.reset(task="hello", prompt=[]).startswith("Write the file /app/greeting.txt")
    assert env.run("echo one; false") == "one\n\n[exit code 1]"
    env.run("printf 'hello, world\\n500500\\n' > /app/greeting.txt")
    assert env.get_reward() == 1.0
    assert env.get_reward() == 1.0
    assert "lost" in env.run("true")
    env.reset(task="hello")
    assert env.get_reward() == 0.0
    other.reset(task="gone")
    assert "lost" in other.run("true")
    assert other.get_reward() is None
    env.reset(task="hello")  # left open: close_terminals removes it, and the session's fixture looks
    with pytest.raises(BadSetting, match="are open"):
        open_terminals({}, open_runtime("namespace"))


def test_only_the_last_task_has_a_machine_that_waits(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set has thousands of tasks, and each would keep one until training ends."""
    task = read_folder(HELLO)
    tasks = {name: replace(task, instruction=name) for name in ("a", "b", "c", "d")}
    removed: list[Machine] = []
    close = Machine.close
    monkeypatch.setattr(Machine, "close", lambda machine: (removed.append(machine), close(machine))[1])
    tools = open_terminals(tasks, runtime)
    try:
        env, other = tools(), tools()
        pool = tools._pool
        assert pool is not None
        for name, each in tasks.items():
            env.reset(task=name)
            assert wait_until(lambda each=each: pool.ready(each) == 1, deadline_s=60)
            other.reset(task=name)
            assert wait_until(lambda each=each: pool.ready(each) == 1, deadline_s=60)
        assert [pool.ready(tasks[name]) for name in "abc"] == [0, 0, 0]
        assert wait_until(lambda: len(removed) == 3, deadline_s=60)
    finally:
        close_terminals()


def test_the_policy_may_call_one_tool_and_no_other() -> None:
    from transformers.utils import get_json_schema

    public = {name for name, _ in inspect.getmembers(TerminalTools, callable) if not name.startswith("_")}
    assert public == {"reset", "run", "get_reward"}
    schema = get_json_schema(TerminalTools.run)["function"]
    assert (schema["name"], schema["parameters"]["required"]) == ("run", ["command"])


def test_the_trainer_plays_through_the_facade_and_learns(
    tmp_path: Path, tiny: Path, tools: type[TerminalTools]
) -> None:
    """TRL's own loop of tools: four episodes at once, of which one solves the task, and a step of the optimizer."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    tokens = AutoTokenizer.from_pretrained(tiny)
    tokens.chat_template, tokens.response_template = CALLS, READ
    right = "```run\nprintf 'hello, world\\n500500\\n' > /app/greeting.txt\n```"
    talks = [[right, "done"], ["```run\necho seen\n```", "done"], ["done"], ["done"]]
    batches: list[Any] = []

    class Scripted(GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
            said = []
            for at, ids in enumerate(prompt_ids):
                turn = tokens.decode(ids).count("<|im_start|>assistant") - 1
                # Only who called a tool is asked again, and in the same order.
                text = talks[at][0] if turn == 0 else "done"
                said.append(tokens(text + "<|im_end|>", add_special_tokens=False)["input_ids"])
            return said, None

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batches.append(super()._generate_and_score_completions(inputs))
            return batches[-1]

    config = GRPOConfig(
        output_dir=str(tmp_path / "out"), num_generations=4, per_device_train_batch_size=4, max_steps=1,
        learning_rate=0.01, max_completion_length=200, max_tool_calling_iterations=4, use_cpu=True, bf16=False,
        save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    prompt = [{"role": "user", "content": ""}]
    trainer = Scripted(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        args=config,
        processing_class=tokens,
        train_dataset=Dataset.from_list([{"prompt": prompt, "task": "hello"}] * 4),
        environment_factory=tools,
    )
    before = [value.clone() for value in trainer.model.parameters()]
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert logged["reward"] == pytest.approx(0.25)
    (batch,) = batches
    kept = batch["completion_mask"][1].bool()
    ids, mask = batch["completion_ids"][1][kept], batch["tool_mask"][1][kept].bool()
    assert tokens.decode(ids[mask]) == "```run\necho seen\n```<|im_end|>done<|im_end|>"
    assert "seen\n\n[exit code 0]" in tokens.decode(ids[~mask])
    assert batch["advantages"][0] > 0 > batch["advantages"][1]
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
