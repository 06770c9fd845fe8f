"""Two verdicts on one episode of a foreign task: by its format's own rules (parity), and by ours (strict).

    strict in `live` mode     judged first, beside the running processes
    parity                    the format's script in the agent's machine as it is; before it, a snapshot is taken
    strict in other modes     judged on the snapshot: everything killed, /tests and /logs/verifier emptied

A separate verifier is a machine of its own that only artifacts reach: it runs once, and both verdicts read its result.
What was not as upstream has it (shim, base image, no network, an uncalibrated strict mode) is noted in the verdict.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from terminal_gym.errors import (
    NotSupported,
    OversizedArchive,
    SandboxError,
    TaskError,
    TerminalGymError,
)
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec, Snapshot
from terminal_gym.tasks.harness import Artifact, ScriptSpec
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Graded, Grading
from terminal_gym.trusted_runtime.tree import trusted_tree
from terminal_gym.validation import artifacts, integrity, parsers, script_runner
from terminal_gym.validation.network import missing_network
from terminal_gym.validation.pytest_runner import PytestValidator
from terminal_gym.validation.script_runner import Ran
from terminal_gym.validation.verdict import Verdict

Shim = Literal["auto", "on", "off"]
_TAIL = 20_000
_FAULTS = {"timeout": "timeout", "no_report": "no_report", "no_room": "no_room"}
_CONTROLS: dict[tuple[str, str], str] = {}  # what the script does on a machine that nobody has touched
_CONTROLS_LOCK = threading.Lock()
_CONTROL_LOCKS: dict[tuple[str, str], threading.Lock] = {}  # one try for a task at a time, many tasks at once


@dataclass(frozen=True)
class ForeignValidator:
    """The validator for tasks with a `ScriptSpec`."""

    grading: Grading = "strict"  # whose verdict is the reward
    both: bool = True  # take the other verdict too
    shim: Shim = "auto"  # for parity: auto puts it there where the machine has no network
    agent_failed: bool = (
        False  # a limit ended the agent's work: then a test time-out is read as far as it got
    )
    wipe: bool = False  # empty /tests and /logs/verifier before parity too: upstream does between steps
    stops: bool = True  # stop the agent's machine in the end

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        """Return both verdicts on what `sandbox` holds; see `Validator`."""
        assert task.script is not None
        script = replace(task.script, timeout_s=task.limits.verifier_s)
        _run_hooks(sandbox, script)
        parity: Graded | None
        strict: Graded | None
        if script.machine is not None:
            parity, strict, tail = self._separate(sandbox, task, script, runtime)
            notes: tuple[str, ...] = ()
        else:
            parity, strict, tail, notes = self._shared(sandbox, task, script, runtime)
        if self.stops:
            with contextlib.suppress(SandboxError):
                sandbox.stop()
        notes = (*notes, *self._notes(sandbox, task, script))
        mine, other = (strict, parity) if self.grading == "strict" else (parity, strict)
        if mine is None:  # asked for, and this runtime cannot give it
            mine = Graded("broken", None, next((note for note in notes if "not taken" in note), "no verdict"))
        return _verdict(mine, other, self.grading, notes, tail)

    # ── one machine ─────────────────────────────────────────────────────────────────────────────

    def _shared(
        self, sandbox: Sandbox, task: Task, script: ScriptSpec, runtime: Runtime
    ) -> tuple[Graded | None, Graded | None, str, tuple[str, ...]]:
        wants_parity = self.both or self.grading == "parity"
        wants_strict = self.both or self.grading == "strict"
        live = task.validator.mode == "live"
        parity: Graded | None = None
        strict: Graded | None = None
        notes: tuple[str, ...] = ()
        tail = ""
        if wants_strict and live:
            strict, tail = self._strict(sandbox, task, script, runtime)
        with contextlib.ExitStack() as undo:
            copy = sandbox
            if wants_strict and not live and (wants_parity or not self.stops):
                try:
                    copy = undo.enter_context(_snapshot(sandbox, task))
                except NotSupported as error:
                    left_out = "parity" if self.grading == "strict" else "strict"
                    notes = (f"{left_out}: not taken: {error}",)
                    wants_parity, wants_strict = self.grading == "parity", self.grading == "strict"
                except OversizedArchive as error:  # the agent's doing
                    fault = replace(_fault(f"too_large: {error}"), mode=task.validator.mode)
                    strict, wants_strict = fault, False
                except SandboxError as error:
                    strict, wants_strict = _broken(error, task.validator.mode), False
            if wants_parity:
                parity, tail = self._parity(sandbox, task, script, runtime)
            if wants_strict and not live:
                if copy is not sandbox:
                    with contextlib.suppress(SandboxError):
                        sandbox.stop() if self.stops else None
                strict, tail = self._strict(copy, task, script, runtime)
        return parity, strict, tail, notes

    def _parity(
        self, sandbox: Sandbox, task: Task, script: ScriptSpec, runtime: Runtime
    ) -> tuple[Graded, str]:
        began = time.monotonic()
        shim = self.shim == "on" or (self.shim == "auto" and not task.limits.network)
        try:
            ran = script_runner.beside(sandbox, task, script, shim=shim, wipe=self.wipe)
        except SandboxError as error:
            return _broken(error, "shared"), ""
        graded = by_rules(ran, script, agent_failed=self.agent_failed)
        if graded.status != "passed" and (line := missing_network(ran.out)):
            graded = _for_want_of_network(graded, line, task, script, runtime, shim=shim)
        return replace(graded, mode="shared", seconds=time.monotonic() - began), ran.out[-_TAIL:]

    def _strict(
        self, sandbox: Sandbox, task: Task, script: ScriptSpec, runtime: Runtime
    ) -> tuple[Graded, str]:
        if task.strict.judge == "pytest":
            # The trusted tests run where the script would have.
            here = replace(task, workdir=task.workdir or sandbox.image.workdir or "/")
            try:
                found = PytestValidator(stops=False).judge(sandbox, here, runtime=runtime)
            except (SandboxError, TaskError) as error:
                return _broken(error, task.validator.mode), ""
            return found.graded(), found.log_tail
        began, mode = time.monotonic(), task.validator.mode
        try:
            graded, tail = self._strict_script(sandbox, task, script, runtime)
        except artifacts.BadArtifact as error:
            graded, tail = _fault(f"artifact_bad: {error}"), ""
        except OversizedArchive as error:
            graded, tail = _fault(f"too_large: {error}"), ""
        except (SandboxError, TaskError) as error:
            graded, tail = _broken(error, mode), ""
        return replace(graded, mode=mode, seconds=time.monotonic() - began), tail

    def _strict_script(
        self, sandbox: Sandbox, task: Task, script: ScriptSpec, runtime: Runtime
    ) -> tuple[Graded, str]:
        if task.validator.mode == "live":
            spec = _spec(task, f"judge-{sandbox.name}", share_network_of=sandbox.name)
            with runtime.start(spec) as fresh:
                ran = script_runner.alone(fresh, task, script)
                flags: tuple[str, ...] = ("live",)
        else:
            sandbox.stop()
            written, most = sandbox.written_bytes(), task.limits.disk_mb * 1024 * 1024
            if written > most:
                raise OversizedArchive(f"{written} bytes were written, {most} are allowed")
            flags = integrity.flags(sandbox.changed_paths())
            ran = script_runner.alone(sandbox, task, script)
        graded = strictly(ran, script)
        if graded.status == "failed" and (line := missing_network(ran.out)):
            graded = _for_want_of_network(graded, line, task, script, runtime)
        elif graded.error and not task.strict.calibrated and (why := control(task, script, runtime)):
            graded = Graded("broken", None, f"{graded.error}, and {why}", error=graded.error)
        return replace(graded, integrity=(*graded.integrity, *flags)), ran.out[-_TAIL:]

    # ── a machine of the verifier's own ─────────────────────────────────────────────────────────

    def _separate(
        self, sandbox: Sandbox, task: Task, script: ScriptSpec, runtime: Runtime
    ) -> tuple[Graded, Graded, str]:
        began = time.monotonic()
        try:
            crossed = _collected(sandbox, script)
            if self.stops:
                sandbox.stop()
            ran = _in_own_machine(task, script, runtime, crossed.tar)
        except artifacts.BadArtifact as error:
            fault = replace(_fault(f"artifact_bad: {error}"), mode="separate")
            return fault, fault, ""
        except OversizedArchive as error:
            fault = replace(_fault(f"too_large: {error}"), mode="separate")
            return fault, fault, ""
        except (SandboxError, TaskError) as error:
            return _broken(error, "separate"), _broken(error, "separate"), ""
        spent = time.monotonic() - began
        dropped = tuple(f"dropped {path}" for path in crossed.dropped[:20])
        parity, strict = by_rules(ran, script, agent_failed=self.agent_failed), strictly(ran, script)
        if parity.status != "passed" and (line := missing_network(ran.out)):
            parity = strict = _for_want_of_network(parity, line, task, script, runtime)
        more: dict[str, Any] = {"mode": "separate", "seconds": spent, "integrity": dropped}
        return replace(parity, **more), replace(strict, **more), ran.out[-_TAIL:]

    def _notes(self, sandbox: Sandbox, task: Task, script: ScriptSpec) -> tuple[str, ...]:
        notes = []
        if self.shim == "on" or (self.shim == "auto" and not task.limits.network):
            notes.append("shim: it stood in for what the test script downloads")
        if sandbox.image.substituted:
            notes.append(f"base image: {sandbox.image.substituted}")
        if task.asks_network and not task.limits.network:
            notes.append("network: upstream gives it, this machine had none")
        if task.metadata.get("run_tests_in_same_shell") is True:
            notes.append("same shell: tests ran in a shell of their own")
        if task.strict.calibrated is False:
            notes.append(f"uncalibrated{': ' if task.strict.note else ''}{task.strict.note}")
        return tuple(notes)


# ── what a script left → a verdict ──────────────────────────────────────────────────────────────


def by_rules(ran: Ran, script: ScriptSpec, *, agent_failed: bool) -> Graded:
    """Return the verdict by the format's own rules; the script's exit code counts nowhere."""
    harbor = script.parser == "reward-file"
    if ran.status not in ("ran", "timeout"):
        return Graded("broken", None, f"the test script was not run ({ran.status}): {ran.out[-300:]}")
    if ran.status == "timeout" and (harbor or not agent_failed):
        name = "VerifierTimeoutError" if harbor else "test_timeout"
        return Graded("failed", 0.0, f"the tests took longer than {script.timeout_s:g} s", error=name)
    try:
        if harbor:
            rewards = parsers.rewards(*ran.rewards)
            value = parsers.reward_of(rewards)
            return Graded(
                "passed" if value >= 1.0 else "failed",
                value,
                "" if value >= 1.0 else "reward",
                rewards=rewards,
            )
        results = parsers.parsed(script.parser, ran.out)
    except parsers.NoVerdict as error:
        return Graded("failed", 0.0, str(error), error=error.error)
    passed = all(results.values())
    return Graded(
        "passed" if passed else "failed",
        float(passed),
        "" if passed else "checks",
        checks=parsers.checks(results),
    )


def strictly(ran: Ran, script: ScriptSpec) -> Graded:
    """Return the verdict by our rules on a script that ran alone: what was skipped has not passed."""
    if ran.status in _FAULTS:
        name = {"timeout": "test_timeout"}.get(ran.status, "")
        return replace(_fault(_FAULTS[ran.status]), error=name)
    graded = by_rules(ran, script, agent_failed=False)
    left_out = parsers.skipped(ran.out)
    if graded.status == "passed" and left_out:
        return replace(graded, status="failed", reward=0.0, reason=f"skipped: {'; '.join(left_out)[:300]}")
    return graded


def _fault(name: str) -> Graded:
    return Graded("failed", 0.0, f"agent_fault: {name}")


def _broken(error: TerminalGymError, mode: str) -> Graded:
    return Graded("broken", None, f"{type(error).__name__}: {error}", mode=mode)


def _for_want_of_network(
    graded: Graded, line: str, task: Task, script: ScriptSpec, runtime: Runtime, *, shim: bool = True
) -> Graded:
    """Broken, where the untouched machine lacks the network as well; what an agent only printed changes nothing."""
    why = control(task, script, runtime, shim=shim)
    if not why.startswith("network"):
        return graded
    advice = "Give the task the network, or add to the image what its test script downloads."
    return Graded("broken", None, f"network: {line} {advice}", error=graded.error, mode=graded.mode)


def control(task: Task, script: ScriptSpec, runtime: Runtime, *, shim: bool = True) -> str:
    """Return why the script gives no verdict on a machine that nobody has touched, "" where it gives one.

    Asked once for a task in a process: it costs a whole judgement.

    Args:
        shim: As the verdict in question was reached: without it, the script downloads there, too.
    """
    key = (task.content_hash(), f"{runtime.name} {task.limits.network} {shim} {trusted_tree().hash}")
    with _CONTROLS_LOCK:
        alone = _CONTROL_LOCKS.setdefault(key, threading.Lock())
    with alone:
        if key not in _CONTROLS:
            try:
                if script.machine is not None:
                    ran = _in_own_machine(task, script, runtime, b"")
                else:
                    name = f"control-{task.ref.name}-{secrets.token_hex(6)}"
                    spec = replace(_spec(task, name), services=task.services, needs=task.needs)
                    with runtime.start(spec) as fresh:
                        ran = script_runner.alone(fresh, task, script, shim=shim)
            except (SandboxError, TaskError) as error:
                return f"an untouched machine could not be tried: {error}"  # not kept: asked again next time
            _CONTROLS[key] = _why_no_verdict(ran, script)
        return _CONTROLS[key]


def _why_no_verdict(ran: Ran, script: ScriptSpec) -> str:
    if line := missing_network(ran.out):
        return f"network: {line}"
    graded = by_rules(ran, script, agent_failed=False)
    return f"an untouched machine gives {graded.error or graded.reason} too" if graded.error else ""


def _verdict(
    mine: Graded, other: Graded | None, grading: Grading, notes: tuple[str, ...], tail: str
) -> Verdict:
    return Verdict(
        mine.status,
        mine.mode,
        mine.reason,
        mine.checks,
        mine.integrity,
        mine.seconds + (other.seconds if other and mine.mode != "separate" else 0.0),
        trusted_tree().hash,
        tail,
        grading,
        mine.error,
        mine.rewards,
        other,
        notes,
        value=mine.reward,
    )


# ── machines ────────────────────────────────────────────────────────────────────────────────────


def _spec(task: Task, name: str, *, share_network_of: str | None = None) -> SandboxSpec:
    aliases = (task.service,) if task.service and task.services else ()
    return SandboxSpec(
        task.image.name,
        name,
        task.limits,
        share_network_of=share_network_of,
        aliases=() if share_network_of else aliases,
    )


@contextlib.contextmanager
def _snapshot(sandbox: Sandbox, task: Task) -> Iterator[Sandbox]:
    """Lend a sandbox that holds what `sandbox` holds now."""
    kept = sandbox.snapshot()
    try:
        spec = replace(_spec(task, f"{sandbox.name}-strict"), beside=sandbox.name if task.services else None)
        with kept.start(spec) as copy:
            yield copy
    finally:
        # Nobody waits for it: a busy daemon takes minutes for that. What is left of it has our lease, and is reaped.
        threading.Thread(target=_remove, args=(kept,), daemon=True).start()


def _remove(kept: Snapshot) -> None:
    with contextlib.suppress(SandboxError):
        kept.close()


def _run_hooks(sandbox: Sandbox, script: ScriptSpec) -> None:
    """Run what collects results before they are read; what a hook's exit code is does not matter, as upstream."""
    for hook in script.hooks:
        with contextlib.suppress(SandboxError):
            if hook.service:
                sandbox.run_in(
                    hook.service, ["sh", "-c", hook.command], timeout_s=hook.timeout_s, user=hook.user
                )
            else:
                argv = ["bash", "-c", hook.command]
                cwd = sandbox.image.workdir or "/"
                sandbox.run(argv, timeout_s=hook.timeout_s, user=hook.user or sandbox.image.user, cwd=cwd)


def _collected(sandbox: Sandbox, script: ScriptSpec) -> artifacts.Filtered:
    """Return a tar of what crosses into the verifier's machine.

    Raises:
        BadArtifact, OversizedArchive: The agent left something there that cannot cross.
    """
    taken = []
    for one in (Artifact("/logs/artifacts"), *script.artifacts):
        limit = artifacts.LIMIT_BYTES
        if one.service:
            archive = sandbox.read_from(one.service, one.source, limit_bytes=limit)
        else:
            archive = sandbox.read_archive(one.source, limit_bytes=limit)
        if archive is not None and one.exclude:
            archive = artifacts.without(archive, one.exclude)
        taken.append((one.source, archive))
    return artifacts.filtered(taken)


def _in_own_machine(task: Task, script: ScriptSpec, runtime: Runtime, crossed: bytes) -> Ran:
    machine = script.machine
    assert machine is not None
    image = runtime.build(machine.image)
    limits = replace(
        task.limits,
        network=task.limits.network and machine.network is not False,
        cpus=machine.cpus or task.limits.cpus,
        memory_mb=machine.memory_mb or task.limits.memory_mb,
    )
    spec = SandboxSpec(image.name, f"verify-{task.ref.name}-{secrets.token_hex(6)}", limits)
    with runtime.start(spec) as fresh:
        return script_runner.alone(fresh, task, script, crossed=crossed)
