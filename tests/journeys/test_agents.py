"""A model behind HTTP plays a real task in a real sandbox, is recorded token by token, and is played again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.chat_server import ChatServer, Fault, Request, Said

from terminal_gym.agents.replay import Replay
from terminal_gym.env import TerminalEnv
from terminal_gym.rollout.engine import Bounds
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.rollout.plan import Retries
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.trajectory.dialogue import prompts
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import Run

HELLO = str(Path(__file__).parents[1] / "kit/tasks/hello")
SOLUTION = "mkdir -p /app; printf 'hello, world\\n500500\\n' > /app/greeting.txt"
KEY = "sk-live-4711-do-not-store"


def batch(*keystrokes: str, done: bool = False) -> str:
    commands = [{"keystrokes": keys, "duration": 5.0} for keys in keystrokes]
    return json.dumps({"analysis": "a", "plan": "p", "commands": commands, "task_complete": done})


TURNS = {
    "terminus": [batch("ls /\n"), "no json", batch(f"{SOLUTION}\n"), batch(done=True), batch(done=True)],
    "bash": ["```bash\nls /\n```", "nothing", f"```bash\n{SOLUTION}\n```", "```bash\n<submit>\n```"],
}


def _says(turns: list[str]) -> object:
    """Return a script that goes by how often the conversation has been answered: many may run at once."""

    def script(request: Request) -> Said:
        done = sum(message["role"] == "assistant" for message in request["messages"])
        ids = [number for message in request["messages"] for number in message["content"].encode()[-3:]]
        text = turns[min(done, len(turns) - 1)]
        return Said(text, prompt_ids=ids, output_ids=list(text.encode()[-3:]), logprobs=[-0.1] * 3)

    return script


def played(runtime: Runtime, folder: Path, server: ChatServer, agent: str, *, attempts: int = 1) -> Run:
    job = Job.of(
        [HELLO],
        agent=agent,
        attempts=attempts,
        model="openai/tiny",
        model_settings={"base_url": server.url, "tries": 2, "first_pause_s": 0.01, "timeout_s": 20.0},
    )
    retries, bounds = Retries(first_pause_s=0.01), Bounds(episodes=4, ahead=1)
    with open_rollout(job, folder, runtime, bounds=bounds, retries=retries) as ready:
        ready.run()
    return Run(folder)


@pytest.mark.parametrize("agent", TURNS)
def test_a_model_solves_a_task(
    any_runtime: Runtime, tmp_path: Path, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(_says(TURNS[agent])) as server:  # type: ignore[arg-type]
        run = played(any_runtime, tmp_path / "run", server, agent, attempts=3)
        assert any(KEY in request["authorization"] for request in server.requests)
    assert len(run) == 3
    for one in run:
        assert one.outcome.status == "passed", one.outcome
        assert [turn.reply.content for turn in one.turns] == TURNS[agent]
        assert one.model == "openai/tiny"
        assert one.usage.prompt_tokens == 10 * len(TURNS[agent])
        for prompt in prompts(one.turns):
            assert prompt.ids == tuple(
                n for message in prompt.messages for n in message.content.encode()[-3:]
            )
    assert not [
        path for path in (tmp_path / "run").iterdir() if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    _plays_again(any_runtime, next(iter(run)))


def _plays_again(runtime: Runtime, one: Trajectory) -> None:
    with TerminalEnv(find_task(HELLO), runtime=runtime) as env:
        again = run_episode(env, Replay(one))
    assert again.outcome.status == "passed"
    assert [step.action.keys for step in again.steps] == [step.action.keys for step in one.steps]


def test_a_provider_that_fails_for_good_gives_no_reward(any_runtime: Runtime, tmp_path: Path) -> None:
    with ChatServer([Fault(503, b"down")]) as server:
        (one,) = played(any_runtime, tmp_path / "run", server, "terminus")
    assert (one.outcome.status, one.outcome.reward) == ("broken", None)
    assert one.outcome.reason.startswith("ProviderDown")
    assert len(one.failures) == 2
