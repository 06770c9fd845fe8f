"""Every exception, drawn as one tree; each base says whose fault it is.

    TerminalGymError
    ├── TaskError      the task       quarantine it, go on
    ├── SandboxError   the machine    retry on a fresh sandbox, counted
    ├── ModelError     the provider   back off, retry, then truncate
    ├── StoreError     the disk       stop the run, keep every byte
    └── UsageError     the caller     raised before anything starts

A message says what was tried, what was found, and what to do. Not errors: a non-zero exit, a failing
check, a malformed reply, a command that outlives its limit; those are observations or verdicts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class TerminalGymError(Exception):
    """Root of the tree."""


# ── the task ────────────────────────────────────────────────────────────────────────────────────


class TaskError(TerminalGymError):
    """The task is at fault."""


class BadTaskFormat(TaskError, ValueError):
    """A task folder cannot be read; names file, line and field."""

    def __init__(
        self, path: Path, found: str, advice: str, *, line: int | None = None, field: str | None = None
    ):
        self.path, self.line, self.field = path, line, field
        where = f"{path}" + (f":{line}" if line is not None else "") + (f" ({field})" if field else "")
        super().__init__(f"{where}: {found}. {advice}")


class ValidatorBroken(TaskError, RuntimeError):
    """The validator cannot give a verdict even on an untouched sandbox."""


class NoShell(TaskError, FileNotFoundError):
    """The image has none of the shells that a session can drive."""


class BuildFailed(TaskError, RuntimeError):
    """An image recipe does not build; `.log_tail` is the end of the build's output."""

    def __init__(self, message: str, *, log_tail: str = ""):
        self.log_tail = log_tail
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)


# ── the machine ─────────────────────────────────────────────────────────────────────────────────


class SandboxError(TerminalGymError):
    """The machine, its daemon or its kernel is at fault."""


class RuntimeUnavailable(SandboxError, ConnectionError):
    """A sandbox runtime cannot be used on this machine now."""


class ImageMissing(SandboxError, LookupError):
    """The runtime's image store does not hold an image."""


class ImageChanged(SandboxError, ValueError):
    """The image held under a name is not the one that a manifest has pinned."""


class StartFailed(SandboxError, RuntimeError):
    """A sandbox did not come up."""


class SandboxLost(SandboxError, ConnectionError):
    """A sandbox, or the daemon that held it, went away."""


class OversizedArchive(SandboxError, ValueError):
    """More bytes would have to be copied out of a sandbox than the limit allows."""


class SettleTimeout(SandboxError, TimeoutError):
    """The deadline came before the awaited fact; `.screen` is the last snapshot."""

    def __init__(self, message: str, *, screen: Any = None):
        self.screen = screen
        super().__init__(message)


class SessionClosed(SandboxError, EOFError):
    """The shell ended; `.exit_code` is its status, None where nobody saw it."""

    def __init__(self, message: str, *, exit_code: int | None = None):
        self.exit_code = exit_code
        super().__init__(message)


# ── the provider ────────────────────────────────────────────────────────────────────────────────


class ModelError(TerminalGymError):
    """The model's provider is at fault."""


class ProviderDown(ModelError, ConnectionError):
    """The provider did not answer, or not with an answer, however often it was asked."""


class ContextFull(ModelError, OverflowError):
    """The conversation is longer than the model's context."""

    turns: tuple[Any, ...] = ()  # calls before it that led to no action, where an agent made some


class ModelRefused(ModelError, RuntimeError):
    """The provider will not answer this conversation: a refusal, or a content filter."""

    turns: tuple[Any, ...] = ()  # likewise


# ── the disk ────────────────────────────────────────────────────────────────────────────────────


class StoreError(TerminalGymError):
    """What was written cannot be read, or cannot be written."""


class SchemaMismatch(StoreError, ValueError):
    """A file has a version or a form that this version does not read."""


class ForgedRecord(StoreError, ValueError):
    """A record is not what was written: its hash is another."""


class RunBusy(StoreError, BlockingIOError):
    """Another process writes to this run folder."""


class DiskFull(StoreError, OSError):
    """There is no room for a record; nothing of it was left behind."""


# ── the caller ──────────────────────────────────────────────────────────────────────────────────


class UsageError(TerminalGymError):
    """The caller asked for something that does not exist or does not fit."""


class UnknownName(UsageError, LookupError):
    """A name stands for nothing; the message gives the nearest known ones."""

    def __init__(self, kind: str, name: str, *, known: Iterable[str], advice: str = ""):
        self.kind, self.name = kind, name
        choices = list(known)
        near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
        hint = (
            f"Did you mean {', '.join(map(repr, near))}?"
            if near
            else f"Known: {', '.join(sorted(choices)[:12]) or 'none'}."
        )
        super().__init__(f"No {kind} is named {name!r}. {hint}{' ' + advice if advice else ''}")


class BadSetting(UsageError, ValueError):
    """A setting has a value outside what it allows."""


class AccessDenied(UsageError, PermissionError):
    """A provider refuses the caller: key, model name or request; asking again would not help."""


class BadAction(UsageError, ValueError):
    """An action is of the wrong type, or cannot be typed into a terminal."""


class NotSupported(UsageError, NotImplementedError):
    """A runtime cannot do what a task needs; the message names one that can."""


class EpisodeNotRunning(UsageError, RuntimeError):
    """`step` came before `reset`, or after the episode's end."""
