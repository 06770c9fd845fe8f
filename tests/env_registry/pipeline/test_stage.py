"""A stage decides each item once, whatever kills it meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from kit.waiting import wait_until

from env_registry.pipeline.stage import Rejected, Row, Table, run_stage
from terminal_gym.errors import BuildFailed, ForgedRecord, SandboxLost

ITEMS = [(f"item-{n}", n) for n in range(6)]
SLOW = """
import sys, threading
from pathlib import Path
from env_registry.pipeline.stage import Table, run_stage
work = Path(sys.argv[1])

def decide(n):
    if n == 4:
        threading.Event().wait(60)  # killed here
    return {"n": n}

run_stage(Table(work, "collect"), [(f"item-{n}", n) for n in range(6)], decide)
"""


def decide(n: int) -> Mapping[str, object]:
    if n == 1:
        raise Rejected("licence", "GPL", found="GPL-3.0")
    if n == 2:
        raise BuildFailed("no such file", log_tail="the end")
    return {"n": n}


def test_every_item_has_a_row_and_its_reason(tmp_path: Path) -> None:
    told = run_stage(Table(tmp_path, "collect"), ITEMS, decide, parallel=3)
    assert (told.kept, told.rejected, told.broken) == (4, {"licence": 1, "BuildFailed": 1}, 0)
    rows = Table(tmp_path, "collect").rows
    assert set(rows) == {key for key, _ in ITEMS}
    assert rows["item-1"].cells == {"found": "GPL-3.0"}
    assert "the end" in rows["item-2"].detail
    assert rows["item-5"].cells == {"n": 5}


def test_nothing_is_decided_twice(tmp_path: Path) -> None:
    run_stage(Table(tmp_path, "collect"), ITEMS[:3], decide)
    seen: list[int] = []
    told = run_stage(Table(tmp_path, "collect"), ITEMS, lambda n: seen.append(n) or {})
    assert seen == [3, 4, 5]
    assert (told.known, told.kept) == (3, 3)


def test_what_the_machine_broke_has_no_row_and_comes_again(tmp_path: Path) -> None:
    def lost(n: int) -> Mapping[str, object]:
        if n == 2:
            raise SandboxLost("the daemon is gone")
        return {}

    assert run_stage(Table(tmp_path, "build"), ITEMS, lost).broken == 1
    assert "item-2" not in Table(tmp_path, "build").rows
    assert run_stage(Table(tmp_path, "build"), ITEMS, lambda n: {}).kept == 1


def test_an_interrupted_stage_keeps_what_was_decided(tmp_path: Path) -> None:
    def bug(n: int) -> Mapping[str, object]:
        if n == 3:
            raise KeyError("a bug of ours")
        return {}

    with pytest.raises(KeyError):
        run_stage(Table(tmp_path, "score"), ITEMS, bug)
    assert list(Table(tmp_path, "score").rows) == ["item-0", "item-1", "item-2"]


def test_a_killed_stage_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)])
    table = tmp_path / "collect.jsonl"
    wait_until(lambda: table.exists() and table.read_bytes().count(b"\n") == 4, deadline_s=30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with table.open("ab") as file:
        file.write(b'{"key":"item-4","kep')  # a line that the kill cut
    seen: list[int] = []
    told = run_stage(Table(tmp_path, "collect"), ITEMS, lambda n: seen.append(n) or {"n": n})
    assert seen == [4, 5]
    assert told.known == 4
    assert [row.cells["n"] for row in Table(tmp_path, "collect").kept] == [0, 1, 2, 3, 4, 5]
    assert [path.read_bytes() for path in (tmp_path / "torn").iterdir()] == [b'{"key":"item-4","kep']


def test_a_line_edited_by_hand_is_found(tmp_path: Path) -> None:
    run_stage(Table(tmp_path, "collect"), ITEMS, lambda n: {})
    path = tmp_path / "collect.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kept":true', b'"kept":null', 1))
    with pytest.raises(ForgedRecord):
        Table(tmp_path, "collect")


def test_a_row_survives_its_line() -> None:
    row = Row("a", False, "licence", "GPL", 1.5, {"x": [1]})
    assert Row.read(row.line()) == row
