"""The instances from real repositories that are kept here: whole, bounded by family, and without anybody's sources."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from kit.replies import replies

from terminal_gym.tasks.catalogue import Catalogue

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "pipeline"
FOLDER = RESULTS / "catalogue"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


def test_every_instance_is_whole_and_was_proved() -> None:
    rows, catalogue = lines("index.jsonl"), Catalogue(FOLDER)
    assert len(rows) == len(catalogue.rows) == len(lines("manifest.jsonl"))
    for row in rows:
        task = catalogue.task(f"TerminalTraj/{row['id']}")
        assert task.content_hash() == row["hash"]
        records = json.loads((FOLDER / row["path"] / "validity.json").read_text())["records"]
        assert records
        for record in records.values():  # one for each runtime that it was proved on
            assert (record["valid"], record["task_hash"]) == (True, row["hash"])


def test_no_family_is_too_many_and_every_image_can_be_made() -> None:
    rows, images = lines("index.jsonl"), {one["repository"]: one for one in lines("images.jsonl")}
    assert max(Counter(row["family"] for row in rows).values()) <= 10
    for row in rows:
        image = images[row["repository"]]
        assert image["licence"] == row["licence"]
        assert len(image["archive_sha256"]) == 64
        assert image["dockerfile"].startswith("FROM ")


def test_each_passes_on_its_own_image_and_on_no_other_that_was_tried() -> None:
    swapped = {one["key"]: one for one in json.loads((RESULTS / "swap.json").read_text())["instances"]}
    for row in lines("index.jsonl"):
        one = swapped[row["id"]]
        assert one["own"]
        assert one["elsewhere"] == []
        assert one["tried"] >= 120


def test_the_run_is_as_large_as_was_asked_for() -> None:
    told = json.loads((RESULTS / "funnel.json").read_text())
    assert told["collect"]["in"] >= 120
    assert told["build"]["kept"] >= 60
    assert len(told["accept"]["languages"]) >= 6
    assert told["accept"]["kept"] >= 200
    assert max(told["accept"]["families"].values()) <= 10
    assert len(lines("index.jsonl")) >= 120
    scorer = json.loads((RESULTS / "scorer-metrics.json").read_text())
    assert scorer["repositories"] >= 120
    assert scorer["failed"] >= 30


def test_replies_ended_on_real_images_as_they_were_written_to() -> None:
    told = json.loads((RESULTS / "replies.json").read_text())["replies"]
    wanted = {
        one["project"]: one["reason"] for one in replies() if one["stage"] == "accept" or not one["reason"]
    }
    assert len(told) == len({one["project"] for one in told}) == 9
    for one in told:
        assert one["found"] == one["wanted"] == wanted[one["project"]]
    assert {one["found"] for one in told} == {"", "invalid", "cheated", "noop-passes-a-test"}
