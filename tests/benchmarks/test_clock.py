"""The clock takes turns, leaves out the warm-up, and writes what it measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.speed.clock import Measured, interleave, save


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []

    def turn(name: str) -> float:
        order.append(name)
        return float(len(order))

    rows = interleave({"a": lambda: turn("a"), "b": lambda: turn("b")}, repeats=3, warm_up=1)
    assert order == ["a", "b"] * 4
    assert rows["a"].values == (3.0, 5.0, 7.0)
    assert rows["b"].median == 6.0


def test_a_ratio_is_the_median_of_neighbouring_turns() -> None:
    floor = Measured("floor", "ms", (1.0, 10.0, 2.0))
    assert Measured("ours", "ms", (2.0, 10.0, 6.0)).ratio_to(floor) == 2.0


def test_p90_is_one_of_the_values() -> None:
    assert Measured("x", "ms", tuple(map(float, range(10)))).p90 == 9.0
    assert Measured("x", "ms", (4.0,)).p90 == 4.0


def test_raw_values_and_the_machine_are_kept(tmp_path: Path) -> None:
    place = tmp_path / "speed.json"
    save(place, "how fast?", {"reset": {"floor": Measured("floor", "ms", (1.0, 2.0))}})
    found = json.loads(place.read_text("utf-8"))
    assert found["tables"]["reset"]["floor"]["values"] == [1.0, 2.0]
    assert found["machine"]["cpus"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]
