"""Judges with pytest in the trusted runtime: kill first, send the tests, believe one signed line.

Modes (see docs/architecture.md): `artifacts` boots a fresh sandbox of the pristine image with the declared paths,
`restart` boots the agent's own sandbox again with everything killed, `live` boots a fresh one that shares only the
network while the agent's processes still run.

What it does not promise: in `restart` the tools of the image that a *test* starts may be the agent's (recorded as an
integrity flag), and code that a test imports can forge its own outcome.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import time
import uuid
from dataclasses import replace
from typing import Any

from terminal_gym.errors import (
    OversizedArchive,
    RuntimeUnavailable,
    SandboxError,
    StartFailed,
    ValidatorBroken,
)
from terminal_gym.sandbox.base import Runtime, Sandbox, SandboxSpec
from terminal_gym.tasks.lint_tests import imports_agent_code
from terminal_gym.tasks.task import Mode, Task
from terminal_gym.trusted_runtime.orders import JudgeOrders
from terminal_gym.trusted_runtime.tree import cache_folder, trusted_tree
from terminal_gym.validation import artifacts, integrity
from terminal_gym.validation.fresh import Coming, Fresh
from terminal_gym.validation.report import Decision, Report, decide, parsed
from terminal_gym.validation.signed import asked
from terminal_gym.validation.verdict import Verdict

_RETRIES = 2  # of a judgement that the machine, not the agent, spoiled
_NOBODY = 64321


class PytestValidator:
    """The validator for pytest folders.

    Args:
        stops: Whether the agent's machine is stopped in the end where the mode lets it run, `live`.
        coming: A judge made before, by `ahead`; it serves once. The caller closes it, used or not.
    """

    def __init__(self, *, stops: bool = True, coming: Coming | None = None):
        self._stops, self._coming = stops, coming

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        """Stop `sandbox` and return the verdict on what it holds; see `Validator`."""
        began = time.monotonic()
        coming, self._coming = self._coming, None
        expected = expected_ids(task, runtime)
        mode = _mode_here(task, runtime)
        for attempt in range(1 + _RETRIES):
            try:
                decision, flags, tail = _judged(sandbox, task, runtime, mode, expected, coming)
            except artifacts.BadArtifact as error:
                decision, flags, tail = Decision("failed", f"agent_fault: artifact_bad: {error}"), (), ""
            except OversizedArchive as error:
                decision, flags, tail = Decision("failed", f"agent_fault: too_large: {error}"), (), ""
            except SandboxError as error:
                last = attempt == _RETRIES
                decision, flags, tail = _blamed(error, sandbox, task, runtime, expected, last=last)
            coming = None  # it is used up
            if decision.status != "broken":
                break
        if self._stops:
            with contextlib.suppress(SandboxError):  # `live`: what was judged while it ran
                sandbox.stop()
        return Verdict(
            decision.status,
            mode,
            decision.reason,
            decision.checks,
            flags,
            time.monotonic() - began,
            trusted_tree().hash,
            tail,
        )


def ahead(task: Task, runtime: Runtime) -> Coming | None:
    """Begin to make the judge of an episode that has not ended.

    None where the task's mode has none on a machine of its own, and for a task whose format brings its own judge.
    """
    if task.script is not None or _mode_here(task, runtime) != "artifacts":
        return None
    return Coming(functools.partial(_fresh, task, runtime))


def expected_ids(task: Task, runtime: Runtime) -> tuple[str, ...]:
    """Return the node ids that must pass: the task's own, or collected once on a pristine sandbox and remembered.

    Raises:
        ValidatorBroken: The tests cannot be collected, or there are none.
        SandboxError: The machine could not run the collection.
    """
    if task.validator.expected:
        return task.validator.expected
    place = cache_folder().parent / "expected" / f"{task.content_hash()}-{trusted_tree().hash[:16]}.json"
    try:
        return tuple(json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    orders = replace(_orders(task, canary=""), collect_only=True)
    with runtime.start(_judge_spec(task, f"collect-{uuid.uuid4().hex[:12]}")) as pristine:
        report = _run(pristine, orders, task, b"")
    if report is None or report.status != "reported" or report.errors or not report.items:
        found = (
            "no answer"
            if report is None
            else f"{report.status}: {[*report.errors] or report.out[-1000:] or 'no tests'}"
        )
        raise ValidatorBroken(
            f"{task.ref}: the tests in {task.validator.tests} cannot be collected ({found})."
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    draft.write_text(json.dumps(report.items), encoding="utf-8")
    draft.replace(place)
    return report.items


def _judged(
    sandbox: Sandbox,
    task: Task,
    runtime: Runtime,
    mode: Mode,
    expected: tuple[str, ...],
    coming: Coming | None,
) -> tuple[Decision, tuple[str, ...], str]:
    """Return the decision, the integrity flags and the end of the validator's output."""
    if mode == "live":
        with _fresh(task, runtime, beside=sandbox) as judge:
            return _asked(judge, task, expected, b"", "live")
    if mode == "restart":
        sandbox.stop()
        _gate(sandbox, task)
        flags = _changes(sandbox)
        canary = secrets.token_hex(16)
        report = _run(sandbox, _orders(task, canary=canary), task, b"")
        return (
            decide(report, expected=expected, canary=canary, fresh=False),
            (*_flags(report, task), *flags),
            _tail(report),
        )
    with coming or Coming(functools.partial(_fresh, task, runtime)) as judge:
        sandbox.stop()
        _gate(sandbox, task)
        read = (
            (path, sandbox.read_archive(path, limit_bytes=artifacts.LIMIT_BYTES))
            for path in task.validator.artifacts
        )
        crossed = artifacts.filtered(read)
        dropped = tuple(f"dropped {path}" for path in crossed.dropped[:20])
        return _asked(judge.get(), task, expected, crossed.tar, *dropped)


def _fresh(task: Task, runtime: Runtime, *, beside: Sandbox | None = None) -> Fresh:
    """Return a judge in a new sandbox of the pristine image, for what an agent leaves, or `beside` one that lives."""
    name = f"judge-{beside.name if beside else uuid.uuid4().hex[:12]}"
    spec = _judge_spec(task, name, share_network_of=beside.name if beside else None)
    # What the image ships at a declared path is not what the agent left there.
    clear = () if beside else task.validator.artifacts
    orders = _orders(task, canary=secrets.token_hex(16), clear=clear)
    return Fresh.booted(runtime.start(spec), orders)


def _asked(
    fresh: Fresh, task: Task, expected: tuple[str, ...], crossed: bytes, *flags: str
) -> tuple[Decision, tuple[str, ...], str]:
    report = _parsed(fresh.sandbox, fresh.judge.ask(tests=_tests(task), artifacts=crossed))
    decision = decide(report, expected=expected, canary=fresh.canary)
    return decision, (*_flags(report, task), *flags), _tail(report)


def _judge_spec(task: Task, name: str, *, share_network_of: str | None = None) -> SandboxSpec:
    limits = replace(task.limits, network=False, pids=max(task.limits.pids, 256))
    alone = share_network_of is None
    return SandboxSpec(task.image.name, name, limits, share_network_of=share_network_of, judges=alone)


def _orders(task: Task, *, canary: str, clear: tuple[str, ...] = ()) -> JudgeOrders:
    spec = task.validator
    return JudgeOrders(
        args=("",),
        timeout_s=task.limits.verifier_s,
        cwd=task.workdir or "/",
        canary=canary,
        drop_to=_NOBODY if spec.tested_code_user == "nobody" else None,
        own_conftest=spec.own_conftest,
        clear=clear,
        env={"TEST_DIR": "/tests", **task.env},
    )


def _run(sandbox: Sandbox, orders: JudgeOrders, task: Task, crossed: bytes) -> Report | None:
    """Boot `sandbox` with judging orders; returns the signed report, None where none came."""
    return _parsed(sandbox, asked(sandbox, orders, tests=_tests(task), artifacts=crossed))


def _tests(task: Task) -> bytes:
    return artifacts.pack_tests(task.validator.tests, own_conftest=task.validator.own_conftest)


def _parsed(sandbox: Sandbox, document: dict[str, Any] | None) -> Report | None:
    if document is None:
        sandbox.written_bytes()  # raises where the whole machine is gone: that silence is not the agent's
        return None
    return parsed(document)


def _gate(sandbox: Sandbox, task: Task) -> None:
    written, most = sandbox.written_bytes(), task.limits.disk_mb * 1024 * 1024
    if written > most:
        raise OversizedArchive(f"{written} bytes were written, {most} are allowed")


def _blamed(
    error: SandboxError,
    sandbox: Sandbox,
    task: Task,
    runtime: Runtime,
    expected: tuple[str, ...],
    *,
    last: bool,
) -> tuple[Decision, tuple[str, ...], str]:
    """A judgement that could not run: the agent's doing, if the same judgement runs on a pristine machine."""
    broken = Decision("broken", f"{type(error).__name__}: {error}")
    if isinstance(error, RuntimeUnavailable) or not last:
        return broken, (), ""
    if not isinstance(error, StartFailed):
        return broken, (), ""
    try:
        with _fresh(task, runtime) as judge:
            _asked(judge, task, expected, b"")
        sandbox.written_bytes()  # the daemon still knows it: it is there, and does not start
    except SandboxError:
        return broken, (), ""
    return Decision("failed", f"agent_fault: start_failed: {error}"), (), ""


def _mode_here(task: Task, runtime: Runtime) -> Mode:
    """One mapped uid cannot keep tested code from the tests in the agent's own machine, so artifacts are preferred."""
    single = bool(getattr(runtime, "single_uid", False))
    if task.validator.mode == "restart" and single and task.validator.artifacts:
        return "artifacts"
    return task.validator.mode


def _changes(sandbox: Sandbox) -> tuple[str, ...]:
    """Return the flags for what was changed; an agent can make that impossible to list, and is then flagged for it."""
    try:
        return integrity.flags(sandbox.changed_paths())
    except SandboxError:
        sandbox.written_bytes()  # raises where it is the machine that is gone
        return ("too_many changes: they cannot be listed",)


def _flags(report: Report | None, task: Task) -> tuple[str, ...]:
    found = ["in_process"] if imports_agent_code(task.validator.tests) else []
    if task.validator.tested_code_user == "root":
        found.append("tested_as_root")
    elif report is not None and report.status == "reported" and not report.dropped:
        found.append("one_uid")
    return tuple(found)


def _tail(report: Report | None) -> str:
    return "" if report is None else report.out[-20_000:]
