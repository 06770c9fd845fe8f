"""An agent of your own: three members, no base class. Run it with `python examples/own_agent.py`."""

from __future__ import annotations

from terminal_gym.env import TerminalEnv
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import shared_runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Observation


class Curious:
    """Looks around, says what it saw, and gives up."""

    name = "curious"

    def begin(self, task: Task) -> None:
        """Forget the last episode."""
        self.left = ["ls\n", "ls -R scraps | wc -l\n"]

    def act(self, seen: Observation) -> Action:
        """Return the next line to type, or submit."""
        print(seen.output)
        if not self.left:
            return Action(submit=True)
        return Action(keys=(self.left.pop(0).encode(),))


if __name__ == "__main__":
    task = find_task("TerminalTraj/torn-letter")
    runtime = shared_runtime("auto")
    runtime.build(task.image)
    with TerminalEnv(task, runtime=runtime) as env:
        played = run_episode(env, Curious())
    print(played.outcome.status, played.outcome.reward, f"{len(played.steps)} steps")
