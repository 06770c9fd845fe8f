"""A pytest plugin that writes down every outcome and plants canaries: tests that must fail."""

from __future__ import annotations

import os
import string
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest
from _pytest.fixtures import FuncFixtureInfo

from terminal_gym.trusted_runtime.guest import canary

if TYPE_CHECKING:
    from typing import Any

_TAIL = 2000  # characters of an error kept


class Recorder:
    """Records one session."""

    def __init__(self, message: str):
        self._canary = message  # what each canary fails with; "": plant none
        self._items: list[str] = []
        self._canaries: list[str] = []
        self._reports: list[list[object]] = []
        self._errors: list[list[str]] = []

    def found(self) -> dict[str, object]:
        """Return what the report's document holds, plain values only."""
        return {
            "items": self._items,
            "canaries": self._canaries,
            "reports": self._reports,
            "errors": self._errors,
        }

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, object, object]:
        result = yield
        self._items = [item.nodeid for item in items]
        if self._canary:
            items[:] = [one for item in items for one in (item, self._plant(item))]
        return result

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.append([report.nodeid, report.longreprtext[-_TAIL:]])

    def pytest_internalerror(self, excrepr: object) -> None:
        self._errors.append(["", str(excrepr)[-_TAIL:]])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        wasxfail: Any = getattr(report, "wasxfail", None)
        text = report.longreprtext[-_TAIL:]
        self._reports.append(
            [report.nodeid, report.when, report.outcome, None if wasxfail is None else str(wasxfail), text]
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Keep canaries out of what pytest prints, so that its output reads as the author's."""
        return ("", "", "") if report.nodeid in self._canaries else None

    def _plant(self, item: pytest.Item) -> pytest.Item:
        """Return a test beside `item` that must fail, as much like an author's test as can be.

        In the same class or module, or fixtures of that scope would be torn down between; without fixtures of its
        own, or an author's autouse ones would run twice as often.
        """
        parent = item.getparent(pytest.Class) or item.getparent(pytest.Module) or item.parent
        name = "test_" + "".join(string.ascii_lowercase[byte % 26] for byte in os.urandom(10))
        check = canary.failing(self._canary)
        holder: Any = getattr(parent, "obj", None)
        if holder is not None:
            setattr(holder, name, staticmethod(check) if isinstance(parent, pytest.Class) else check)
        fixtures = FuncFixtureInfo(argnames=(), initialnames=(), names_closure=[], name2fixturedefs={})
        planted: pytest.Function = pytest.Function.from_parent(
            parent, name=name, callobj=check, fixtureinfo=fixtures
        )
        planted.repr_failure = _told  # type: ignore[method-assign]
        self._canaries.append(planted.nodeid)
        return planted


def _told(excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
    """What a canary failed with. Its traceback, which nobody reads, took 10 ms of every test's verdict to make."""
    return str(excinfo.value)
