"""TerminalEnv: one task, one sandbox, one terminal and one validator behind Gymnasium's five-tuple.

    reset   start a sandbox of the task's image, wait for the first prompt
    step    type, wait until input is wanted again, look
    end     submit, the shell's end, or a limit; then everything is killed and judged, and only a verdict pays

A broken episode (the machine's fault, or the task's) has no reward: `nan`, truncated, `info["status"] == "broken"`.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium

from terminal_gym.errors import (
    BadAction,
    BadSetting,
    EpisodeNotRunning,
    SandboxError,
    SandboxLost,
    SessionClosed,
    TaskError,
    UnknownName,
)
from terminal_gym.llm import reply
from terminal_gym.render import pixels
from terminal_gym.sandbox.base import Image, Runtime, Sandbox, SandboxSpec, open_runtime
from terminal_gym.spaces import Unicode, as_dict, observation_space
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.manifest import open_manifest
from terminal_gym.tasks.task import Task
from terminal_gym.terminal.commands import printed
from terminal_gym.terminal.output import clipped, plain
from terminal_gym.terminal.session import Session
from terminal_gym.trajectory.record import Action, Frame, Observation
from terminal_gym.trusted_runtime.orders import ShellOrders
from terminal_gym.validation.validator import open_validator
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
    ):
        _one_of("action_mode", action_mode, reply.MODES)
        _one_of("render_mode", render_mode, (None, "ansi", "rgb_array"))
        _one_of("on_broken", on_broken, ("truncate", "raise"))
        for name, value in (
            ("rows", rows),
            ("cols", cols),
            ("step_s", step_s),
            ("output_limit", output_limit),
        ):
            if not value > 0:
                raise BadSetting(f"{name} is {value!r}; it must be greater than 0.")
        if (task is None) == (manifest is None):
            raise BadSetting("Give either a task, or a manifest of tasks.")
        self._choices = () if manifest is None else _listed(manifest)
        self._task = task if isinstance(task, Task) else _found(str(task or self._choices[0]))
        self._runtime = _shared_runtime(runtime) if isinstance(runtime, str) else runtime
        self.render_mode, self._mode, self._on_broken = render_mode, action_mode, on_broken
        self.size = (rows, cols)
        self._step_s, self._output_limit, self._record = step_s, output_limit, record
        self.observation_space = observation_space(rows, cols, output_limit)
        self.action_space = Unicode(LONGEST_ACTION)
        self._sandbox: Sandbox | None = None
        self._session: Session | None = None
        self._nonce = ""
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
        self._seen = self._look("prompt")
        info = self._info() | {"instruction": self._task.instruction, "settled_by": self._seen.settled_by}
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
        asked = self._read(action)
        began = time.monotonic()
        self._steps += 1
        if asked.action is None:
            self._seen = self._look("", complaint=asked.complaint)
        else:
            try:
                self._seen = self._act(self._session, asked.action, complaint=asked.complaint)
            except SandboxError as error:
                return self._broken(error)
        submitted = asked.action is not None and asked.action.submit
        terminated = submitted or self._session.is_closed
        limit = self._limit_reached()
        info = self._info() | {"settled_by": self._seen.settled_by, "seconds": time.monotonic() - began}
        if not (terminated or limit):
            return self._as_dict(), 0.0, False, False, info
        return self._judged(terminated, limit, info)

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
        """Remove the sandbox. Safe to call again."""
        self._end()

    # ── an episode ──────────────────────────────────────────────────────────────────────────────

    def _clear(self) -> None:
        self._seen = Observation("", "", (0, 0))
        self._verdict: Verdict | None = None
        self._image: Image | None = getattr(self, "_image", None)
        self._frames: list[Frame] = []
        self._steps, self._began, self._ended = 0, 0.0, False

    def _chosen(self, options: Info) -> Task:
        if unknown := set(options) - {"task"}:
            raise UnknownName("reset option", sorted(unknown)[0], known=["task"])
        wanted = options.get("task")
        if not self._choices:
            if wanted is not None and wanted not in (str(self._task.ref), self._task.ref.name):
                raise UnknownName("task of this environment", str(wanted), known=[str(self._task.ref)])
            return self._task
        if wanted is None:
            wanted = self._choices[int(self.np_random.integers(len(self._choices)))]
        elif wanted not in self._choices:
            raise UnknownName("task of this environment", str(wanted), known=self._choices)
        return _found(str(wanted))

    def _start(self) -> None:
        task, (rows, cols) = self._task, self.size
        image = self._runtime.image(task.image.name)
        self._image = image
        spec = SandboxSpec(image.name, f"{task.ref.name}-{secrets.token_hex(6)}", task.limits)
        self._nonce = secrets.token_hex(8)
        with contextlib.ExitStack() as undo:
            sandbox = undo.enter_context(self._runtime.start(spec))
            orders = ShellOrders(
                self._nonce,
                env={**image.env, **task.env},
                user=image.user,
                cwd=task.workdir or image.workdir or "/",
            )
            console = sandbox.boot(orders, rows=rows, cols=cols)
            tap = self._frames.append if self._record else None
            session = Session(console, nonce=self._nonce, rows=rows, cols=cols, frames=tap)
            session.open()
            undo.pop_all()
        self._sandbox, self._session, self._began = sandbox, session, time.monotonic()

    def _end(self) -> None:
        session, sandbox = self._session, self._sandbox
        self._session = self._sandbox = None
        if session is not None:
            session.close()
        if sandbox is not None:
            sandbox.close()

    def _read(self, action: str | Action) -> reply.Reply:
        if isinstance(action, Action):
            return reply.Reply(action)
        if not isinstance(action, str):
            advice = "An action is text: what to type, the name of a key, or <submit>."
            raise BadAction(f"An action of type {type(action).__name__} cannot be typed. {advice}")
        if len(action) > LONGEST_ACTION:
            advice = "Write large files in parts, or have the sandbox make them."
            raise BadAction(
                f"The action has {len(action)} characters, {LONGEST_ACTION} are allowed. {advice}"
            )
        try:
            action.encode()
        except UnicodeEncodeError as error:
            found = f"character {error.start} is the lone surrogate {action[error.start]!r}"
            raise BadAction(f"The action is not valid Unicode: {found}. Remove or replace it.") from None
        return reply.read(action, self._mode)

    def _act(self, session: Session, action: Action, *, complaint: str) -> Observation:
        """Carry out one action; a shell that ends meanwhile is an observation."""
        strokes = action.keys
        if action.command is not None:
            strokes = (action.command.rstrip("\n").encode() + b"\n",)
        fact, code, texts = "", None, list[str]()
        waits = action.waits_s or (action.wait_s,) * max(1, len(strokes))
        for keys, wait_s in zip(strokes or (b"",), waits or (None,), strict=True):
            if not strokes and action.submit:
                break
            try:
                if keys:
                    session.send(keys)
            except SessionClosed:
                fact = "closed"
                break
            settled = session.settle(deadline_s=self._bound(wait_s))
            fact, code = settled.fact, settled.exit_code
            texts.append(self._text(session, action, lines=keys.count(b"\n")))
            if fact == "closed":
                break
        return self._look(fact, output="".join(texts), exit_code=code, complaint=complaint)

    def _bound(self, wait_s: float | None) -> float:
        left = self._task.limits.agent_s - (time.monotonic() - self._began)
        return max(0.0, min(self._step_s if wait_s is None else wait_s, left))

    def _text(self, session: Session, action: Action, *, lines: int) -> str:
        if action.command is None:
            return session.text(self._output_limit)
        body = printed(session.output(), self._nonce, typed_lines=lines)
        return clipped(plain(body, cols=self.size[1]), self._output_limit)

    def _look(
        self, fact: str, *, output: str = "", exit_code: int | None = None, complaint: str = ""
    ) -> Observation:
        assert self._session is not None
        shown = self._session.screen()
        return Observation(
            shown.text(), clipped(output, self._output_limit), shown.cursor, exit_code, fact, complaint
        )

    def _limit_reached(self) -> str:
        limits = self._task.limits
        if limits.steps is not None and self._steps >= limits.steps:
            return f"the limit of {limits.steps} steps"
        if time.monotonic() - self._began >= limits.agent_s:
            return f"the limit of {limits.agent_s:g} s"
        return ""

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def _judged(
        self, terminated: bool, limit: str, info: Info
    ) -> tuple[dict[str, Any], float, bool, bool, Info]:
        assert self._session is not None
        assert self._sandbox is not None
        self._session.close()
        self._ended = True
        try:
            self._verdict = open_validator(self._task.validator).judge(
                self._sandbox, self._task, runtime=self._runtime
            )
        except (SandboxError, TaskError) as error:
            return self._broken(error)
        if self._verdict.broken:
            return self._broken(SandboxLost(self._verdict.reason))
        with contextlib.suppress(SandboxError):  # the verdict stands; the reaper removes what could not be
            self._end()
        info |= self._info() | {"reason": self._verdict.reason, "limit": limit}
        return self._as_dict(), float(self._verdict.passed), terminated, not terminated, info

    def _broken(self, error: SandboxError | TaskError) -> tuple[dict[str, Any], float, bool, bool, Info]:
        self._ended = True
        reason = f"{type(error).__name__}: {error}"
        if self._verdict is None:
            self._verdict = Verdict("broken", self._task.validator.mode, reason)
        with contextlib.suppress(SandboxError):
            self._end()
        self._session = self._sandbox = None
        if self._on_broken == "raise":
            raise error
        info = self._info() | {"reason": reason}
        return self._as_dict(), float("nan"), False, True, info

    def _as_dict(self) -> dict[str, Any]:
        return as_dict(self._seen, *self.size, self._output_limit)

    def _info(self) -> Info:
        info: Info = {"task": str(self._task.ref), "steps": self._steps, "status": "running"}
        if self._began:
            info["elapsed_s"] = time.monotonic() - self._began
        if (verdict := self._verdict) is not None:
            info |= {
                "status": verdict.status,
                "checks": [{"id": check.id, "outcome": check.outcome} for check in verdict.checks],
                "integrity": list(verdict.integrity),
            }
        return info


def _listed(manifest: str | Path | Sequence[str]) -> tuple[str, ...]:
    refs = open_manifest(manifest).refs
    if not refs:
        raise BadSetting(f"The manifest {manifest!r} names no task.")
    return refs


@functools.lru_cache(maxsize=256)
def _found(name: str) -> Task:
    return find_task(name)


_RUNTIMES: dict[str, Runtime] = {}
_RUNTIMES_LOCK = threading.Lock()


def _shared_runtime(name: str) -> Runtime:
    """One runtime per name and process: it holds connections and knows what to remove at exit."""
    with _RUNTIMES_LOCK:
        if name not in _RUNTIMES:
            _RUNTIMES[name] = open_runtime(name)
        return _RUNTIMES[name]


def _one_of(name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise BadSetting(f"{name} is {value!r}; it must be one of {', '.join(map(repr, known))}.")
