"""What happened: observations, actions, steps, outcomes, and the timed bytes of the terminal. Frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from terminal_gym.trajectory.dialogue import Turn, Usage

Status = Literal["passed", "failed", "broken"]
Grading = Literal["strict", "parity"]
CheckOutcome = Literal["passed", "failed", "skipped", "error", "missing"]


@dataclass(frozen=True)
class Frame:
    """Bytes that crossed the PTY at one moment."""

    at_s: float  # seconds since the session began, monotonic
    direction: Literal["out", "in", "resize"]
    data: bytes  # "resize": b"COLSxROWS"


@dataclass(frozen=True)
class Action:
    """What the agent does next: bytes to type, in order, and whether it is finished.

    `keys` holds literal text and named keys already translated to bytes. `command` is set by the `bash`
    codec, which wants one command's output and exit code back.
    """

    keys: tuple[bytes, ...] = ()
    command: str | None = None
    wait_s: float | None = None  # upper bound for this step; None: the environment's default
    waits_s: tuple[float, ...] = ()  # upper bound per entry of `keys`; empty: `wait_s` for each
    submit: bool = False
    text: str = ""  # what the agent said, verbatim
    turns: tuple[Turn, ...] = ()  # the calls of a model that led to this action

    @property
    def understood(self) -> Turn | None:
        """The call whose reply the agent could read, None where it gave up: it then types nothing, and says why."""
        acts = [turn for turn in self.turns if turn.purpose == "act"]
        types = bool(self.keys) or self.command is not None
        return acts[-1] if acts and (types or self.text in acts[-1].reply.content) else None


@dataclass(frozen=True)
class Observation:
    """What the agent sees after a step."""

    screen: str  # rows joined by newlines, trailing blanks cut
    output: str  # plain text that appeared since the action, head and tail kept where it is long
    cursor: tuple[int, int]  # (row, column), from 0
    exit_code: int | None = None  # of the last command, where the shell reported one
    settled_by: str = ""  # the fact that ended the wait: see terminal/settle.py
    complaint: str = ""  # why the action was not carried out, in words a model can act on


@dataclass(frozen=True)
class Step:
    """One action and what came of it."""

    action: Action
    observation: Observation
    began_s: float  # seconds since the episode began
    ended_s: float


@dataclass(frozen=True)
class Check:
    """One test of the validator."""

    id: str  # pytest node id
    outcome: CheckOutcome
    detail: str = ""  # the end of the failure text


@dataclass(frozen=True)
class Graded:
    """One verdict on an episode, by one set of rules. `reward` is None exactly where `status` is broken."""

    status: Status
    reward: float | None
    reason: str = ""  # as Outcome.reason
    error: str = ""  # what the format's own harness calls it where it gave no verdict, e.g. "parse_error"
    checks: tuple[Check, ...] = ()
    rewards: Mapping[str, float] = field(default_factory=dict)  # the keys of a reward file
    integrity: tuple[str, ...] = ()
    mode: str = ""  # how it was judged: artifacts, restart, live, shared, separate
    seconds: float = 0.0


@dataclass(frozen=True)
class StepOutcome:
    """How one step of a task in several steps was judged."""

    name: str
    strict: Graded | None = None
    parity: Graded | None = None


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. `reward` is None exactly where `status` is broken.

    A task of a foreign format is judged twice: by our rules and by its own. `grading` says whose verdict the fields of
    this record are, `beside` holds the other one; `strict` and `parity` find either.
    """

    status: Status
    reward: float | None
    reason: str = ""  # "" where passed; else e.g. "checks", "agent_fault: timeout", "SandboxLost: …"
    checks: tuple[Check, ...] = ()
    integrity: tuple[str, ...] = ()  # flags: what a weaker mode could not rule out
    grading: Grading = "strict"  # whose verdict is the reward
    error: str = ""  # as Graded.error
    rewards: Mapping[str, float] = field(default_factory=dict)
    beside: Graded | None = None  # the verdict by the other rules, None where there is none
    notes: tuple[str, ...] = ()  # what was not as upstream has it: "shim: …", "base image: …", "uncalibrated"
    steps: tuple[StepOutcome, ...] = ()  # of a task in several steps

    @property
    def strict(self) -> Graded | None:
        """The verdict by our rules, None where it was not asked for."""
        return self._own() if self.grading == "strict" else self.beside

    @property
    def parity(self) -> Graded | None:
        """The verdict by the format's own rules, None where it has none or it was not asked for."""
        return self._own() if self.grading == "parity" else self.beside

    def _own(self) -> Graded:
        return Graded(
            self.status, self.reward, self.reason, self.error, self.checks, self.rewards, self.integrity
        )


@dataclass(frozen=True)
class Trajectory:
    """The frozen record of one episode."""

    task: str  # task ref
    task_hash: str
    agent: str
    runtime: str
    image_digest: str
    attempt: int  # the k-th try at the task, from 0
    seed: int | None
    steps: tuple[Step, ...]
    outcome: Outcome
    seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # wall clock per phase: reset, agent, verify, total
    frames: tuple[Frame, ...] = ()
    rows: int = 40
    cols: int = 160
    instruction: str = ""
    model: str = ""  # name of the agent's model, "" without one
    limit: str = ""  # the limit that ended the episode, "" where the agent did
    began_at: str = ""  # ISO 8601, UTC
    failures: tuple[str, ...] = ()  # why earlier tries at this attempt were broken, oldest first
    versions: Mapping[str, str] = field(default_factory=dict)  # of terminal-gym, Python, the agent's prompts

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every call of the model, in order."""
        return tuple(turn for step in self.steps for turn in step.action.turns)

    @property
    def usage(self) -> Usage:
        """What all calls used together; a cost only where each call's is known."""
        used = [turn.usage for turn in self.turns]
        costs = [usage.cost_usd for usage in used]
        known = [cost for cost in costs if cost is not None]
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in used),
            completion_tokens=sum(usage.completion_tokens for usage in used),
            cached_tokens=sum(usage.cached_tokens for usage in used),
            cost_usd=sum(known) if known and len(known) == len(costs) else None,
        )
