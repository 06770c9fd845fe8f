"""The peers' benchmark: who fails leaves the others alone, turns alternate, and the page tells what was found."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.speed.peers import page, places, suite, work
from benchmarks.speed.peers.compare import Found, Plan, as_json, compare
from benchmarks.speed.peers.driver import driven
from benchmarks.speed.peers.places import Absent
from terminal_gym.errors import UnknownName

# A contender in a process of its own. It does no work: it says what the work would print.
FAKE = """
import sys
from pathlib import Path
from benchmarks.speed.peers import work
from benchmarks.speed.peers.wire import serve

kind, log = sys.argv[1], Path(sys.argv[2])
print("a line that is no answer")

class Plain:
    opened = 0
    def reset(self):
        Plain.opened += 1
        with log.open("a") as told: told.write(kind + "\\n")
        if kind == "dies" and Plain.opened > 4: sys.exit("it fell over")
        if kind == "flaky" and Plain.opened % 2: raise OSError("no room")
        return Plain.opened
    def step(self, handle, command):
        if kind == "mute" and "fold" in command: return "x"
        return "hi\\nflood-42-done"
    def verify(self, handle): return kind != "wrong"
    def close(self, handle): pass

class Slow(Plain):
    async def reset(self): return Plain.reset(self)
    async def step(self, handle, command): return "hi flood-42-done"
    async def terminus(self, handle, command): return "hi"
    async def drop(self, handle): pass

if kind == "absent": sys.exit("no such library")
serve(Slow() if kind == "slow" else Plain())
"""
QUICK = Plan(repeats=2, steps=2, at_once=(2,), episodes=2, at_least=1, turns=1, steps_an_episode=3, memory=1)
Fake = Callable[[str], Sequence[str]]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    script = tmp_path / "fake.py"
    script.write_text(FAKE, "utf-8")
    return lambda kind: [sys.executable, str(script), kind, str(tmp_path / "log")]


def _compared(fake: Fake, *kinds: str) -> dict[str, Found]:
    return compare({kind: lambda kind=kind: fake(kind) for kind in kinds}, QUICK, say=lambda _: None)  # type: ignore[misc]


def test_contenders_take_turns_and_each_work_is_measured(fake: Fake, tmp_path: Path) -> None:
    found = _compared(fake, "plain", "slow")
    lives = (
        (tmp_path / "log").read_text().split()[: 2 * 3 * 2]
    )  # two environments a life, and a life that warms up
    assert lives == ["plain", "plain", "slow", "slow"] * 3
    assert {name: len(turns) for name, turns in found["plain"].turns.items()} == dict.fromkeys(
        ("reset", "step", "1 MB", "10 MB", "verify", "close"), 2
    )
    assert len(found["slow"].values("terminus")) == 2 * 2
    assert [one["passed"] for one in (*found["plain"].episodes, *found["slow"].episodes)] == [4, 4]
    assert found["plain"].memory_mib is not None
    assert not found["plain"].reasons


def test_one_that_is_not_there_or_falls_over_leaves_the_others_alone(fake: Fake) -> None:
    found = _compared(fake, "absent", "dies", "plain")
    assert "no such library" in found["absent"].reasons["start"]
    assert "it fell over" in found["dies"].reasons["life"]
    assert len(found["plain"].values("verify")) == 2


def test_what_was_found_is_kept_after_each_round(fake: Fake) -> None:
    kept: list[int] = []
    compare(
        {"plain": lambda: fake("plain")},
        QUICK,
        say=lambda _: None,
        keep=lambda found: kept.append(len(found["plain"].values("verify")) + len(found["plain"].episodes)),
    )
    assert kept == [0, 1, 2, 3]  # the warm-up, two lives, one turn of episodes


def test_work_that_was_not_done_is_no_measurement(fake: Fake) -> None:
    found = _compared(fake, "mute", "wrong")
    assert found["mute"].values("10 MB") == []
    assert "WrongAnswer" in found["mute"].reasons["10 MB"]
    assert len(found["mute"].values("verify")) == 2  # what follows is measured all the same
    assert found["wrong"].values("verify") == []
    assert found["wrong"].episodes == []  # one that never judged has no whole episode


def test_episodes_that_fail_are_counted_with_their_reason(fake: Fake) -> None:
    with driven(fake("flaky")) as driver:
        told = driver.ask("episodes", within_s=60, count=4, at_once=1, steps=1)
    assert (told[0]["passed"], told[0]["failed"], told[0]["reasons"]) == (2, 2, {"OSError: no room": 2})


def test_one_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="nothing was heard"), driven(["sleep", "60"], ready_s=0.2):
        pass


def test_the_page_tells_what_the_raw_file_holds(fake: Fake, tmp_path: Path) -> None:
    found = _compared(fake, "plain", "absent")
    found[page.OURS] = found.pop("plain")
    raw = json.loads(json.dumps(as_json(found, QUICK, {"absent": "1.2"})))
    raw["contenders"]["x2"] = json.loads(json.dumps(raw["contenders"][page.OURS]))
    raw["contenders"]["x2"]["turns"]["reset"] = [
        [2 * value for value in turn] for turn in raw["contenders"][page.OURS]["turns"]["reset"]
    ]
    suite.write(raw, tmp_path / "out" / "peers.json")
    text = (tmp_path / "out" / "peers.md").read_text("utf-8")
    assert "| x2 | 2 | 1 | - | 1 | 1 | 1 | 1 |" in text
    assert "- absent, start: its process ended: no such library" in text
    assert "0 of 4" in text
    assert (tmp_path / "out" / "peers.png").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "peers.json").read_text("utf-8"))["contenders"].keys() == {
        page.OURS,
        "absent",
        "x2",
    }


def test_a_floor_does_the_work() -> None:
    with driven(places.own_command("floor", "pty", "")) as driver:
        told = driver.ask("life", within_s=60, steps=1)
    assert [one["work"] for one in told if "ms" in one] == [
        "reset",
        "step",
        "1 MB",
        "10 MB",
        "reset",
        "close",
    ]


def test_ours_does_the_work_also_by_a_pool() -> None:
    with driven(places.own_command("ours", "namespace", "warm")) as driver:
        told = driver.ask("life", within_s=120, steps=1)
        played = driver.ask("episodes", within_s=120, count=2, at_once=2, steps=1)[0]
    works = [one["work"] for one in told if "ms" in one]
    assert works == ["reset", "step", "terminus", "1 MB", "10 MB", "verify", "reset", "close"], told
    assert (played["passed"], played["reasons"]) == (2, {})


def test_every_peer_is_pinned_and_has_its_script() -> None:
    for pin in places.pins().values():
        assert importlib.util.find_spec(f"benchmarks.speed.peers.{pin.module}") is not None
        assert pin.where in ("venv", "harness")
        assert pin.requires or pin.where == "harness"
        assert all("==" in line for line in pin.requires)


def test_a_contender_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="docker-pi"):
        suite.run(QUICK, tmp_path / "x.json", only=["docker-pi"], say=lambda _: None)


def test_the_validator_passes_what_the_solution_makes() -> None:
    assert work.flooded("x\nflood-42-done\n")
    assert not work.flooded(work.flood(1))  # the echo of the command is not its output
    assert list(work.test_files()) == ["test_outputs.py"]
