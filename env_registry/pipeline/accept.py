"""Stage 5: instances → accepted ones. Everything that a validator can be wrong about is played, in fresh sandboxes.

    starts        the image gives a first prompt
    no-op         fails, and by itself fails every test
    oracle        passes
    partial       fails
    three times   each with the same verdict and the same checks (`accept.repeats`, `accept.failing_repeats`)
    redundant     a test is listed unless some state makes it fail alone: no-op, partial, or a damaged oracle state
    cheats        the generic attacks of `tgym audit`, and empty outputs: none is paid
    leak          the solution's lines and the tests' text are not in the image
    limits        the size of the image, the length of an episode

An instance without a reference solution gets the weaker record: no oracle, no partial, and nothing about redundant
tests; that it can be solved at all is not known. Its row, acceptance.json and its catalogue row say `weak`, and its
validity.json is not valid.

Rejections: does-not-start, invalid, noop-passes-a-test, cheated, leak, too-large, too-slow. What was found is kept
whole in WORK/tasks/<id>/acceptance.json, the gate's own record in validity.json.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from env_registry.pipeline.images import Images
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row
from terminal_gym import errors
from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import SandboxError, SandboxLost
from terminal_gym.rollout.attacks import generic_cases, installed_suite
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.gate import ValidityRecord, check_task, store
from terminal_gym.rollout.gauntlet import play
from terminal_gym.sandbox.base import Image, Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.solution import Solution
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Outcome

_LINE, _LINES = 24, 2  # a leak: so many lines of at least so many characters in one file
_MIB = 1 << 20
UNPROVED = ["that it can be solved", "that a partial solution fails", "that each test can fail alone"]
DAMAGES: Mapping[str, str] = {  # what is done to each output after the oracle's work
    "removed": "rm -f {path}",
    "emptied": ": > {path}",
    "first-line-lost": "sed -i 1d {path}",
    "last-line-lost": "sed -i '$d' {path}",
    "line-added": "echo damaged >> {path}",
    "digit-changed": "tr 0123456789 1234567890 < {path} > /tmp/d && cat /tmp/d > {path}",
}


class Acceptor:
    """Proves instances on one runtime; safe to use from many threads."""

    def __init__(self, settings: Settings, runtime: Runtime, *, images: Images | None = None):
        self._settings, self._runtime = settings, runtime
        self._images = images or Images(settings, runtime)

    def __call__(self, instance: Row) -> Mapping[str, Any]:
        """Return the cells of one instance that is accepted; raises Rejected for one that is not."""
        folder = self._settings.work / str(instance.cells["path"])
        task, home = read_folder(folder), str(instance.cells["image"])
        with self._images.lend(str(instance.cells["repository"]), home) as under:
            image = self._runtime.build(task.image)
            try:
                return self._accepted(instance, folder, task, image)
            finally:
                if self._images.are_bounded and image.name not in (home, under.name):
                    with contextlib.suppress(
                        SandboxError
                    ):  # its recipe stays; dropped, the one under it can go too
                        self._runtime.remove_image(image.name)

    def _accepted(self, instance: Row, folder: Path, task: Task, image: Image) -> Mapping[str, Any]:
        wanted = self._settings.accept
        size = self._runtime.image_bytes(image.name)
        if size > wanted.image_mb * _MIB:
            raise Rejected("too-large", f"the image has {size} bytes")
        if leaked := self._leak(instance, task):
            raise Rejected("leak", leaked)
        record = check_task(
            task, runtime=self._runtime, date=_today(), repeats=wanted.repeats, failing=wanted.failing_repeats
        )
        store(record, folder)
        self._check(task, record)
        weak = task.solution is None
        redundant = [] if weak else sorted(self._redundant(task, record))
        cheats = self._cheated(task)
        kept = {
            "record": "weak" if weak else "reference",
            "unproved": UNPROVED if weak else [],
            "redundant": redundant,
            "cheats": cheats,
            "image_bytes": size,
            "seconds": round(record.seconds, 1),
        }
        (folder / "acceptance.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        if paid := [name for name, result in cheats.items() if result in ("paid", "flagged")]:
            raise Rejected("cheated", ", ".join(paid))
        longest = max(attempt.seconds["total"] for attempt in record.attempts)
        if longest > wanted.seconds:
            raise Rejected("too-slow", f"{longest:.0f} s")
        named = (
            "repository",
            "writer",
            "family",
            "domain",
            "grounded",
            "language",
            "score",
            "image",
            "digest",
        )
        cells = {name: instance.cells[name] for name in (*named, "split", "path")}
        beside = {
            name: instance.cells[name] for name in ("context", "context_licence") if name in instance.cells
        }
        first = next(one for one in record.attempts if one.agent == ("nop" if weak else "oracle"))
        return {
            **cells,
            **beside,
            "record": kept["record"],
            "task_hash": record.task_hash,
            "runtime": record.runtime,
            "tests": len(first.checks),
            "redundant": redundant,
            "cheats": len(cheats),
            "episodes": len(record.attempts) + len(cheats),
            "image_bytes": size,
            **({} if weak else {"oracle_s": round(first.seconds["total"], 2)}),
        }

    def _check(self, task: Task, record: ValidityRecord) -> None:
        """Reject what the gate's record does not show to be sound.

        Raises:
            SandboxError: There was no verdict, for the machine's sake.
        """
        if record.is_broken:
            why = next(one.reason for one in record.attempts if one.status == "broken")
            if _is_machines(why):
                raise SandboxLost(f"{record.task}: {why}")
            raise Rejected("does-not-start", why)
        missing = (
            () if task.solution is not None else ("there is no solution", "there is no partial solution")
        )
        if problems := [one for one in record.problems if one not in missing]:
            raise Rejected("invalid", "; ".join(problems))
        for attempt in record.attempts:
            passed = [name for name, outcome in attempt.checks.items() if outcome == "passed"]
            if attempt.agent == "nop" and passed:
                raise Rejected("noop-passes-a-test", ", ".join(passed))

    def _redundant(self, task: Task, record: ValidityRecord) -> set[str]:
        """The tests that no state makes fail alone."""
        first = next(one for one in record.attempts if one.agent == "oracle")
        left = set(first.checks)
        states: Iterator[Mapping[str, str]] = (one.checks for one in record.attempts if one.agent != "oracle")
        left -= {only for checks in states if (only := _only_failing(checks))}
        for damage in _damages(task):
            if not left:
                break
            assert task.solution is not None
            script = f"{task.solution.script}\n{damage}\n"
            damaged = replace(task, solution=Solution(script=script, folder=task.solution.folder))
            left -= {only} if (only := _only_failing(_checks(self._played(damaged)))) else set()
        return left

    def _cheated(self, task: Task) -> dict[str, str]:
        """Attack → what came of it; the empty outputs are one of ours."""
        attacks = installed_suite().attacks
        found = {
            case.attack.id: play(case, self._runtime).result
            for case in generic_cases(task, attacks, ids=self._settings.accept.attacks)
            if not case.control and case.attack.moves
        }
        touch = "\n".join(
            f"mkdir -p {PurePosixPath(path).parent}\n: > {path}" for path in task.validator.artifacts
        )
        empty = self._played(replace(task, solution=Solution(script=f"#!/bin/bash\n{touch}\n")))
        return {**found, "empty-outputs": "paid" if empty.status == "passed" else "refused"}

    def _played(self, task: Task) -> Outcome:
        with closing(TerminalEnv(task, runtime=self._runtime)) as env:
            return run_episode(env, open_agent("oracle"), attempt=0).outcome

    def _leak(self, instance: Row, task: Task) -> str:
        """Where the image holds what solves or judges the task, "" where it does not."""
        from env_registry.pipeline.collect import slug

        solution = task.solution.script if task.solution is not None else ""
        secret = [solution or "", (task.validator.tests / "test_outputs.py").read_text("utf-8")]
        lines = {
            line.strip().encode()
            for text in secret
            for line in text.splitlines()
            if len(line.strip()) >= _LINE
        }
        lines -= {line for line in lines if line.startswith((b"import ", b"from ", b"#!", b'"""'))}
        archive = self._settings.work / "images" / slug(str(instance.cells["repository"])) / "app.tar"
        for name, body in _files(archive):
            found = sum(line in body for line in lines)
            if found >= min(_LINES, max(1, len(lines))):
                return f"{name} holds {found} lines of the solution or the tests"
        return ""


def _is_machines(reason: str) -> bool:
    """Whether a broken episode is the machine's fault, by the name of the error that its reason begins with."""
    kind = getattr(errors, reason.partition(":")[0], None)
    return isinstance(kind, type) and issubclass(kind, errors.SandboxError)


def _only_failing(checks: Mapping[str, str]) -> str:
    failed = [name for name, outcome in checks.items() if outcome != "passed"]
    return failed[0] if len(failed) == 1 else ""


def _checks(outcome: Outcome) -> dict[str, str]:
    return {check.id: check.outcome for check in outcome.checks}


def _damages(task: Task) -> Iterator[str]:
    for path in task.validator.artifacts:
        for command in DAMAGES.values():
            yield command.format(path=path)


def _files(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive, mode="r:", errors="surrogateescape") as tar:
        for entry in tar:
            if entry.isreg() and entry.size < _MIB and (stream := tar.extractfile(entry)):
                yield entry.name, stream.read()


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
