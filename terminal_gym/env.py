"""TerminalEnv: one task, one sandbox, one terminal and one validator behind Gymnasium's five-tuple.

    reset   start a sandbox of the task's image, wait for the first prompt
    step    type, wait until input is wanted again, look
    end     submit, the shell's end, or a limit; then everything is killed and judged, and only a verdict pays

A broken episode (the machine's fault, or the task's) has no reward: `nan`, truncated, `info["status"] == "broken"`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Self

import gymnasium

from terminal_gym.checkpoint import Checkpoint, folder_of_shell
from terminal_gym.errors import (
    BadAction,
    BadSetting,
    EpisodeNotRunning,
    NotSupported,
    SandboxError,
    SandboxLost,
    SessionClosed,
    TaskError,
    UnknownName,
    ValidatorBroken,
)
from terminal_gym.llm import reply
from terminal_gym.machine import Cold, Machines, enter_step, start_machine
from terminal_gym.render import pixels
from terminal_gym.sandbox.base import Console, Image, Runtime, Sandbox, shared_runtime
from terminal_gym.spaces import Unicode, as_dict, observation_space
from terminal_gym.tasks.catalogue import NAMESPACE, find_task
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.tasks.task import Task
from terminal_gym.terminal import commands
from terminal_gym.terminal.output import clipped, plain
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Action, Frame, Grading, Observation, StepOutcome
from terminal_gym.validation import steps
from terminal_gym.validation.fresh import Coming
from terminal_gym.validation.pytest_runner import ahead
from terminal_gym.validation.validator import Validator, open_validator
from terminal_gym.validation.verdict import Verdict

SUBMIT = reply.SUBMIT
LONGEST_ACTION = 1 << 20  # characters
Info = dict[str, Any]
_OVER = "The episode is over: call reset() for a new one."


class TerminalEnv(gymnasium.Env[dict[str, Any], str]):
    """An environment on one task, or on many.

    Args:
        task: Id, folder or Task. None: many tasks, and `manifest` says which.
        runtime: Name of a runtime, or one that is shared and closed by its owner.
        action_mode: How a text action is read; see `llm/reply.py`.
        render_mode: "ansi": the screen's text; "rgb_array": its picture, `(height, width, 3)` uint8.
        on_broken: "truncate" ends a broken episode with reward nan; "raise" raises its error.
        rows: Height of the terminal in cells.
        cols: Width of the terminal in cells.
        step_s: Upper bound of one step's wait in seconds, where the action names none.
        output_limit: Characters of `output` kept, the middle is left out.
        record: Keep every chunk that crosses the terminal, in `frames`.
        max_steps: Steps after which the episode is ended and judged, beside the task's own limit; unlike a TimeLimit
            wrapper, which ends it without a verdict.
        validator: Who judges; None: the validator that the task asks for.
        machines: Where sandboxes come from, such as a warm pool; None: each is started at its reset.
        namespace: What stands before the name of a task that is given by its folder.
        grading: Whose verdict is the reward where the task's format has rules of its own: `strict` (ours) or `parity`.
        verdicts: Entered while an episode is judged, e.g. a semaphore that bounds how many are at once.
        judge_ahead: Start the judge's own sandbox with the episode, so that the verdict does not wait for it; takes the
            memory of a second sandbox meanwhile. For tasks that are judged by artifacts; others have no such sandbox.
        manifest: Task ids or folders, or a manifest file; `reset(options={"task": …})` picks one, else the seed does.

    Observation: a dict of `screen` (text), `output` (text since the action), `cursor` (row, column), `exit_code` (-1
    where unknown) and `complaint` (why an action was not carried out). Action: text. `step` also takes a
    `trajectory.record.Action`.

    Source: Gymnasium 1.x API.
    """

    metadata: Info = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012  # as gymnasium declares it

    def __init__(
        self,
        task: str | Path | Task | None = None,
        *,
        runtime: str | Runtime = "auto",
        action_mode: reply.ActionMode = "keys",
        render_mode: Literal["ansi", "rgb_array"] | None = None,
        on_broken: Literal["truncate", "raise"] = "truncate",
        rows: int = 40,
        cols: int = 160,
        step_s: float = 30.0,
        output_limit: int = 10_000,
        record: bool = False,
        manifest: str | Path | Sequence[str] | None = None,
        max_steps: int | None = None,
        validator: Validator | None = None,
        machines: Machines | None = None,
        namespace: str = NAMESPACE,
        grading: Grading = "strict",
        verdicts: AbstractContextManager[object] | None = None,
        judge_ahead: bool = False,
    ):
        _one_of("action_mode", action_mode, reply.MODES)
        _one_of("render_mode", render_mode, (None, "ansi", "rgb_array"))
        _one_of("grading", grading, ("strict", "parity"))
        _one_of("on_broken", on_broken, ("truncate", "raise"))
        for name, value in (
            ("rows", rows),
            ("cols", cols),
            ("step_s", step_s),
            ("output_limit", output_limit),
            ("max_steps", 1 if max_steps is None else max_steps),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise BadSetting(f"{name} is {value!r}; it must be greater than 0.")
        if (task is None) == (manifest is None):
            raise BadSetting("Give either a task, or a manifest of tasks.")
        self._manifest = None if manifest is None else open_manifest(manifest)
        self.choices = () if self._manifest is None else self._manifest.refs
        self._known: dict[str, Task] = {}
        self._namespace = namespace
        self._task = task if isinstance(task, Task) else self._found(task or self.choices[0])
        self._runtime = shared_runtime(runtime) if isinstance(runtime, str) else runtime
        self._machines = machines or Cold(self._runtime)
        self._validator, self._max_steps = validator, max_steps
        self._grading, self._verdicts = grading, verdicts or contextlib.nullcontext()
        self._judge_ahead = judge_ahead
        self._dropped = False
        self._coming: Coming | None = None
        self.render_mode = self._render_mode = render_mode
        self._mode, self._on_broken = action_mode, on_broken
        self.size = (rows, cols)
        self._step_s, self.output_limit, self._record = step_s, output_limit, record
        self.observation_space = observation_space(rows, cols, output_limit)
        self.action_space = Unicode(LONGEST_ACTION, samples=reply.SAMPLES[action_mode])
        self._sandbox: Sandbox | None = None
        self._session: Session | None = None
        self._console: Console | None = None
        self._nonce = self._fact = self._unread = ""
        self._origin: Checkpoint | None = None  # where each episode begins, instead of at the task's image
        self._let_go: Callable[[], None] = lambda: None
        self._clear()

    # ── what can be asked ───────────────────────────────────────────────────────────────────────

    @property
    def task(self) -> Task:
        """The task of this episode."""
        return self._task

    @property
    def runtime_name(self) -> str:
        return self._runtime.name

    @property
    def image(self) -> Image | None:
        """The image of the last sandbox, None before the first reset."""
        return self._image

    @property
    def session(self) -> Session:
        """The live terminal.

        Raises:
            EpisodeNotRunning: There is none.
        """
        if self._session is None:
            raise EpisodeNotRunning(_OVER if self._ended else "Call reset() first.")
        return self._session

    @property
    def sandbox(self) -> Sandbox:
        """The live sandbox.

        Raises:
            EpisodeNotRunning: There is none.
        """
        if self._sandbox is None:
            raise EpisodeNotRunning(_OVER if self._ended else "Call reset() first.")
        return self._sandbox

    @property
    def is_open(self) -> bool:
        """Whether it holds a sandbox."""
        return self._sandbox is not None

    @property
    def seen(self) -> Observation:
        """The last observation, as a record."""
        return self._seen

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the episode that ended, None where there is none."""
        return self._verdict

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What crossed the terminal in this episode, where `record` is set."""
        return tuple(self._frames)

    # ── reset, step, close ──────────────────────────────────────────────────────────────────────

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[dict[str, Any], Info]:
        """Start a fresh sandbox, closing the last one; returns at its first prompt.

        Args:
            seed: Seeds the choice among many tasks; a real machine is not made deterministic by it.
            options: `{"task": id}` picks one of many tasks.

        Raises:
            UsageError: The task asked for is not one of this environment's.
            ImageMissing: The image is not built; the message says how to build it.
            SandboxError: The machine could not start it. Nothing is left behind.
            TaskError: The image cannot be used, e.g. it has no shell.
        """
        super().reset(seed=seed)
        self._task = self._chosen(options or {})
        self._end()
        self._clear()
        self._start()
        if self._dropped:  # meanwhile
            self._end()
            raise SandboxLost("The environment was dropped while its sandbox started.")
        if self._judge_ahead and self._validator is None:
            self._coming = ahead(self._now, self._runtime)
        self._seen = self._look(self._fact)
        told = {"instruction": self._now.instruction, "settled_by": self._seen.settled_by}
        info = self._info() | told | self._step_info()
        return self._as_dict(), info

    def step(self, action: str | Action) -> tuple[dict[str, Any], float, bool, bool, Info]:
        """Type, wait until input is wanted again or a bound is reached, and look.

        Returns:
            Observation, reward (1.0 or 0.0 at the end, from the verdict; 0.0 before; nan where broken), terminated
            (submitted, or the shell ended), truncated (a limit, or broken), info.

        Raises:
            EpisodeNotRunning: Before `reset`, or after the end.
            BadAction: Of the wrong type, longer than 1,048,576 characters, or not encodable. Nothing was typed.
        """
        if self._session is None or self._sandbox is None:
            raise EpisodeNotRunning(_OVER if self._ended else "Call reset() before the first step().")
        self.check_action(action)
        asked = reply.Reply(action) if isinstance(action, Action) else reply.read(action, self._mode)
        began = time.monotonic()
        self._steps += 1
        if self._left_s() <= 0:
            asked = reply.Reply(None, "Time is up: this action was not carried out.")
        try:
            if asked.action is None:
                self._seen = self._look("", complaint=asked.complaint)
            else:
                self._seen = self._act(self._session, asked.action, complaint=asked.complaint)
            submitted = asked.action is not None and asked.action.submit
            if self._session.is_closed and not submitted:
                self._check_that_the_shell_ended()
        except SandboxError as error:
            return self._broken(error, {})
        terminated = submitted or self._session.is_closed
        limit = "" if submitted else self._limit_reached()
        info = self._info() | {"settled_by": self._seen.settled_by, "seconds": time.monotonic() - began}
        if not (terminated or limit):
            return self._as_dict(), 0.0, False, False, info
        return self._judged(terminated, limit, info)

    def _check_that_the_shell_ended(self) -> None:
        """Raise SandboxLost where it was not the shell that ended its session, but something from outside."""
        assert self._console is not None
        if why := self._console.lost(ended=True, owed=False):
            assert self._sandbox is not None
            raise SandboxLost(f"the session in {self._sandbox.name} has ended: {why}")

    def check_action(self, action: object) -> None:
        """Raise BadAction where `step` would, before it types anything."""
        if isinstance(action, Action):
            _check_record(action)
        elif not isinstance(action, str):
            advice = "An action is text: what to type, the name of a key, or <submit>."
            raise BadAction(f"An action of type {type(action).__name__} cannot be typed. {advice}")
        elif len(action) > LONGEST_ACTION:
            advice = "Write large files in parts, or have the sandbox make them."
            raise BadAction(
                f"The action has {len(action)} characters, {LONGEST_ACTION} are allowed. {advice}"
            )
        else:
            _check_unicode(action)

    def render(self) -> Any:
        """Return the screen as text or as pixels, by `render_mode`; None without one."""
        if self.render_mode is None:
            return None
        if self._session is None:
            blank = Observation("", "", (0, 0))
            text = (self._seen if self._ended else blank).screen
            return text if self.render_mode == "ansi" else pixels(None, size=self.size, text=text)
        shown = self._session.screen()
        return shown.text() if self.render_mode == "ansi" else pixels(shown, size=self.size)

    def close(self) -> None:
        """Remove the sandbox. Safe to call again; what a dead daemon keeps is removed by `tgym reap`."""
        with contextlib.suppress(SandboxError):
            self._end()
        with contextlib.suppress(SandboxError):
            self._let_go()

    def drop(self) -> None:
        """Close it for good, from any thread: a sandbox that is starting goes as soon as it is there."""
        self._dropped = True
        self.close()

    # ── snapshot, branch ────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> Checkpoint:
        """Return this moment of the episode, which goes on; the time that this takes is not the agent's.

        Kept are the file system, the shell's working directory where it can be known, and what was used of the limits.
        Processes are not, nor what they hold in memory.

        Raises:
            EpisodeNotRunning: Before `reset`, or after the end.
            NotSupported: The task has services beside its machine, or keeps folders in volumes.
            SandboxError: The machine could not keep it; the episode goes on.
        """
        began, sandbox = time.monotonic(), self.sandbox
        if self._task.services:
            names = ", ".join(service.name for service in self._task.services)
            raise NotSupported(
                f"{self._task.ref} has services ({names}), whose state a snapshot does not hold."
            )
        elapsed_s = began - self._began
        try:
            user = self._task.user or sandbox.image.user
            folder = folder_of_shell(sandbox, user=user, init=self.session.init_pid())
            return Checkpoint(
                sandbox.snapshot(),
                task=self._task,
                steps=self._steps,
                elapsed_s=elapsed_s,
                folder=folder,
                seen=self._seen,
                task_step=self._at,
                played=tuple(self._played),
            )
        finally:
            self._began += time.monotonic() - began

    def branch(self, n: int = 1, *, at: Checkpoint | None = None) -> list[Self]:
        """Return `n` new environments with this one's settings, whose episodes each begin at a snapshot.

        Args:
            n: How many, > 0.
            at: A snapshot of this task's; None: of this moment, which goes with the last of the branches.

        `reset` starts a branch's own sandbox, at the snapshot every time; steps and time go on from there. The caller
        closes each.

        Raises:
            EpisodeNotRunning: There is no episode to take a snapshot of, or `at` is closed.
            BadSetting: `n` is no positive number, or `at` is another task's.
            SandboxError: The machine could not take the snapshot.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise BadSetting(f"n is {n!r}; it is how many branches are made, 1 or more.")
        if at is not None and at.task.content_hash() != self._task.content_hash():
            raise BadSetting(f"The snapshot is of {at.task.ref}; this environment plays {self._task.ref}.")
        with contextlib.ExitStack() as own:
            origin = own.enter_context(self.snapshot()) if at is None else at
            return [self._branched(origin) for _ in range(n)]

    def _branched(self, origin: Checkpoint) -> Self:
        rows, cols = self.size
        branch = type(self)(
            origin.task,
            runtime=self._runtime,
            action_mode=self._mode,
            render_mode=self._render_mode,
            on_broken=self._on_broken,
            rows=rows,
            cols=cols,
            step_s=self._step_s,
            output_limit=self.output_limit,
            record=self._record,
            max_steps=self._max_steps,
            validator=self._validator,
            grading=self._grading,
            verdicts=self._verdicts,
            judge_ahead=self._judge_ahead,
        )
        branch._origin, branch._let_go = origin, origin.hold()
        return branch

    # ── an episode ──────────────────────────────────────────────────────────────────────────────

    def _clear(self) -> None:
        self._seen = Observation("", "", (0, 0))
        self._verdict: Verdict | None = None
        self._image: Image | None = getattr(self, "_image", None)
        self._frames: list[Frame] = []
        self._steps, self._began, self._ended = 0, 0.0, False
        self._at, self._played = 0, list[StepOutcome]()  # of a task in several steps

    def _chosen(self, options: Info) -> Task:
        if unknown := set(options) - {"task"}:
            raise UnknownName("reset option", sorted(unknown)[0], known=["task"])
        wanted = options.get("task")
        if not self.choices:
            if wanted is not None and wanted not in (str(self._task.ref), self._task.ref.name):
                raise UnknownName("task of this environment", str(wanted), known=[str(self._task.ref)])
            return self._task
        if wanted is None:
            wanted = self.choices[int(self.np_random.integers(len(self.choices)))]
        elif wanted not in self.choices:
            raise UnknownName("task of this environment", str(wanted), known=self.choices)
        return self._found(wanted)

    def _found(self, name: str | Path) -> Task:
        if str(name) not in self._known:
            if self._manifest is not None and name in self._manifest.images:
                self._known[str(name)] = self._manifest.task(str(name))
            else:
                self._known[str(name)] = find_task(name, namespace=self._namespace)
        return self._known[str(name)]

    def _start(self) -> None:
        rows, cols = self.size
        if (origin := self._origin) is None:
            machine = self._machines.take(self._task, rows=rows, cols=cols, record=self._record)
        else:
            if not origin.is_open:
                raise EpisodeNotRunning("This branch is closed, and so is its snapshot: make another branch.")
            machine = start_machine(
                self._runtime,
                self._task,
                rows=rows,
                cols=cols,
                record=self._record,
                snapshot=origin.files,
                folder=origin.folder,
            )
            self._steps, self._at, self._played = origin.steps, origin.task_step, list(origin.played)
        self._sandbox, self._session, self._image = machine.sandbox, machine.session, machine.image
        self._console = machine.console
        self._nonce, self._fact, self._frames = machine.nonce, machine.fact, machine.frames
        if self._task.steps and origin is None:
            try:
                enter_step(self._task, self._task.steps[0], machine.sandbox)
            except BaseException:
                self._end()
                raise
        self._began = time.monotonic() - (origin.elapsed_s if origin else 0.0)

    @property
    def _now(self) -> Task:
        """The task as it is in the step under way."""
        return self._task.at(self._at)

    def _step_info(self) -> Info:
        if not self._task.steps:
            return {}
        return {"task_step": self._at, "task_step_name": self._task.steps[self._at].name}

    def _end(self) -> None:
        session, sandbox, coming = self._session, self._sandbox, self._coming
        self._session = self._sandbox = self._console = self._coming = None
        if session is not None:
            session.close()
        with coming or contextlib.nullcontext():
            if sandbox is not None:
                sandbox.close()

    def _act(self, session: Session, action: Action, *, complaint: str) -> Observation:
        """Carry out one action; a shell that ends meanwhile is an observation."""
        if action.command is not None:
            return self._run(session, action.command, action.wait_s)
        if action.submit and not action.keys:
            return self._look("", complaint=complaint)
        waits: Sequence[float | None] = action.waits_s or (action.wait_s,) * len(action.keys)
        code: int | None = None
        texts: list[str] = []
        for keys, wait_s in zip(action.keys or (b"",), waits or (action.wait_s,), strict=True):
            before = 0 if keys else len(session.output()) + session.omitted
            if not keys and action.waits_s:
                self._let_pass(session, self._bound(wait_s))
            else:
                told = self._type(session, keys, wait_s)
                code = code if told is None else told
            texts.append(self._text_since(session, before))
            if session.is_closed:
                break
        return self._look(self._fact, output="".join(texts), exit_code=code, complaint=complaint)

    def _run(self, session: Session, command: str, wait_s: float | None) -> Observation:
        """Run one command; a program that waits for input gets it as its input instead."""
        if self._fact != "prompt" and not session.is_at_prompt():
            code = self._type(session, command.rstrip("\n").encode() + b"\n", wait_s)
            return self._look(self._fact, output=session.text(self.output_limit), exit_code=code)
        token = secrets.token_hex(4)
        code = self._type(session, commands.typed(command, token=token), wait_s)
        body = commands.printed(session.output(), self._nonce, token=token)
        return self._look(self._fact, output=plain(body, cols=self.size[1]), exit_code=code)

    def _type(self, session: Session, keys: bytes, wait_s: float | None) -> int | None:
        """Send, wait until input is wanted; returns the last command's exit code where the shell told it."""
        try:
            if keys:
                sent = session.send(keys, deadline_s=self._left_s())
                if sent.size < len(keys) and not session.is_closed:
                    taken = f"Only {sent.size} of {len(keys)} bytes were typed"
                    self._unread = f"{taken}: the program in the foreground stopped reading."
        except SessionClosed:
            self._fact = "closed"
            return None
        settled = session.settle(deadline_s=self._bound(wait_s))
        self._fact = settled.fact
        return settled.exit_code

    def _text_since(self, session: Session, before: int) -> str:
        """Return what was printed after the first `before` bytes since the last sending."""
        if not before:
            return session.text(self.output_limit)
        new = len(session.output()) + session.omitted - before
        return plain(session.output()[-new:], cols=self.size[1]) if new > 0 else ""

    def _let_pass(self, session: Session, seconds: float) -> None:
        """Read on for that long: Terminus-2 waits for a background job by sending nothing."""
        until = time.monotonic() + seconds
        try:
            session.wait(lambda quiet_s: time.monotonic() >= until, deadline_s=seconds + 1.0)
        except SessionClosed:
            self._fact = "closed"

    def _left_s(self) -> float:
        return self._now.limits.agent_s - (time.monotonic() - self._began)

    def _bound(self, wait_s: float | None) -> float:
        return max(0.0, min(self._step_s if wait_s is None else wait_s, self._left_s()))

    def _look(
        self, fact: str, *, output: str = "", exit_code: int | None = None, complaint: str = ""
    ) -> Observation:
        assert self._session is not None
        unread, self._unread = self._unread, ""
        shown = self._session.screen()
        return Observation(
            shown.text(),
            clipped(output, self.output_limit),
            shown.cursor,
            exit_code,
            fact,
            complaint or unread,
        )

    def _limit_reached(self) -> str:
        limits = self._now.limits
        for most in (limits.steps, self._max_steps):
            if most is not None and self._steps >= most:
                return f"the limit of {most} steps"
        if self._left_s() <= 0:
            return f"the limit of {limits.agent_s:g} s"
        return ""

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def _judged(
        self, terminated: bool, limit: str, info: Info
    ) -> tuple[dict[str, Any], float, bool, bool, Info]:
        assert self._session is not None
        assert self._sandbox is not None
        last = self._at + 1 >= len(self._task.steps) or self._session.is_closed or self._out_of_steps()
        if last:
            self._session.close()
            self._ended = True
        try:
            with self._verdicts:
                self._verdict = self._judge(self._sandbox, failed=bool(limit))
            if self._task.steps and not self._verdict.broken and self._went_on(self._verdict, last):
                return self._as_dict(), 0.0, False, False, info | self._info() | self._step_info()
        except (SandboxError, TaskError) as error:
            return self._broken(error, info)
        self._session.close()
        self._ended = True
        if self._verdict.broken:
            return self._broken(_blamed(self._task, self._verdict), info)
        with contextlib.suppress(SandboxError):  # the verdict stands; the reaper removes what could not be
            self._end()
        info |= self._info() | {"reason": self._verdict.reason, "limit": limit}
        return self._as_dict(), self._verdict.reward() or 0.0, terminated, not terminated, info

    def _judge(self, sandbox: Sandbox, *, failed: bool) -> Verdict:
        now = self._now
        judge = self._validator or open_validator(
            now,
            grading=self._grading,
            agent_failed=failed,
            in_steps=bool(self._task.steps),
            coming=self._coming,
        )
        return judge.judge(sandbox, now, runtime=self._runtime)

    def _out_of_steps(self) -> bool:
        return any(
            most is not None and self._steps >= most for most in (self._task.limits.steps, self._max_steps)
        )

    def _went_on(self, verdict: Verdict, last: bool) -> bool:
        """Keep the step's verdict; begin the next step, or make the whole task's verdict and return False."""
        assert self._sandbox is not None
        step = self._task.steps[self._at]
        outcome = verdict.outcome()
        self._played.append(StepOutcome(step.name, outcome.strict, outcome.parity))
        if last or not steps.goes_on(step.min_reward, self._played[-1]):
            total, strategy = len(self._task.steps), self._task.strategy
            self._verdict = steps.combined(
                self._played, steps=total, strategy=strategy, grading=self._grading, last=verdict
            )
            return False
        self._at += 1
        enter_step(self._task, self._task.steps[self._at], self._sandbox)
        self._verdict, self._began = None, time.monotonic()
        self._seen = self._look(self._fact)
        return True

    def _broken(
        self, error: SandboxError | TaskError, info: Info
    ) -> tuple[dict[str, Any], float, bool, bool, Info]:
        self._ended = True
        if self._verdict is None:
            reason = f"{type(error).__name__}: {error}"
            self._verdict = Verdict("broken", self._task.validator.mode, reason)
        with contextlib.suppress(SandboxError):
            self._end()
        if self._on_broken == "raise":
            raise error
        info |= self._info() | {"reason": self._verdict.reason}
        return self._as_dict(), float("nan"), False, True, info

    def _as_dict(self) -> dict[str, Any]:
        return as_dict(self._seen, *self.size, self.output_limit)

    def _info(self) -> Info:
        info: Info = {"task": str(self._task.ref), "steps": self._steps, "status": "running"}
        if self._began:
            info["elapsed_s"] = time.monotonic() - self._began
        if (verdict := self._verdict) is not None:
            info |= {
                "status": verdict.status,
                "checks": [{"id": check.id, "outcome": check.outcome} for check in verdict.checks],
                "integrity": list(verdict.integrity),
                "notes": list(verdict.notes),
            }
            if verdict.beside is not None:
                info["beside"] = {"status": verdict.beside.status, "reward": verdict.beside.reward}
        return info


def _check_record(action: Action) -> None:
    if not all(isinstance(keys, bytes) for keys in action.keys):
        raise BadAction("Action.keys holds bytes; terminal/keys.py translates text and key names.")
    _check_unicode(action.command or "")
    if action.waits_s and len(action.waits_s) != len(action.keys):
        raise BadAction(f"{len(action.waits_s)} waits for {len(action.keys)} keys; give one each, or none.")
    if any(not wait_s >= 0 for wait_s in (*action.waits_s, action.wait_s or 0.0)):
        raise BadAction("A wait is a number of seconds, 0 or more.")
    if (size := sum(map(len, action.keys)) + len(action.command or "")) > LONGEST_ACTION:
        raise BadAction(f"The action has {size} bytes, {LONGEST_ACTION} are allowed. Type it in parts.")


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"character {error.start} is the lone surrogate {text[error.start]!r}"
        raise BadAction(f"The action is not valid Unicode: {found}. Remove or replace it.") from None


def _blamed(task: Task, verdict: Verdict) -> SandboxError | TaskError:
    if verdict.reason.startswith("the supervisor bad_tests"):
        return ValidatorBroken(f"{task.ref}: {verdict.reason}")
    return SandboxLost(f"{task.ref}: {verdict.reason}")


def _one_of(name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise BadSetting(f"{name} is {value!r}; it must be one of {', '.join(map(repr, known))}.")
