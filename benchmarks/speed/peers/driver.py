"""The suite's end of a contender: its process, a line asked, lines told, under a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.speed.peers.places import ROOT, Absent

Line = dict[str, Any]
_LEAVE_S = 30.0


class Driver:
    """A contender's process; once it has failed, every question is answered with the same `Absent`."""

    def __init__(self, argv: Sequence[str], *, ready_s: float):
        """Start the process and wait until it is ready.

        Raises:
            Absent: It ended, or was not ready in time.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._until("ready", ready_s)
        except Absent:
            self.close()
            raise

    def ask(self, kind: str, *, within_s: float, **how: Any) -> list[Line]:
        """Return the measurements that answer one question.

        Raises:
            Absent: The process ended, or took longer.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"ask": kind} | how) + "\n")
            self._process.stdin.flush()
        return self._until(kind, within_s)

    def close(self) -> None:
        """Let it leave; kill it where it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_LEAVE_S if self._process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _until(self, kind: str, within_s: float) -> list[Line]:
        told: list[Line] = []
        while True:
            try:
                line = self._lines.get(timeout=within_s)
            except queue.Empty:
                self._process.kill()
                raise Absent(f"nothing was heard of it for {within_s:g} s ({kind})") from None
            if line is None:
                raise Absent(f"its process ended: {self._last_words()}")
            if not line.startswith("{"):
                continue  # printed by a library while it was imported
            said = json.loads(line)
            if said.get("done") == kind:
                return told
            told.append(said)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._process.stdout.close()
        self._lines.put(None)

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else f"exit code {self._process.returncode}"


@contextlib.contextmanager
def driven(argv: Sequence[str], *, ready_s: float = 300.0) -> Iterator[Driver]:
    """Lend a driver."""
    driver = Driver(argv, ready_s=ready_s)
    try:
        yield driver
    finally:
        driver.close()
