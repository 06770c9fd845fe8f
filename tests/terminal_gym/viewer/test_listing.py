"""Lists of attempts: what matches, in which order, page by page, and while the run grows."""

import shutil
from pathlib import Path

import pytest
from kit.trajectories import trajectory

from terminal_gym.errors import BadSetting, ForgedRecord, UnknownName
from terminal_gym.trajectory.metrics import by_task, pass_at_ks
from terminal_gym.trajectory.store import INDEX, Run, RunWriter
from terminal_gym.viewer.listing import Listing, Query


def make_run(folder: Path) -> Path:
    with RunWriter(folder, {"tasks": {"a": "", "b": ""}, "attempts": 4}) as run:
        for attempt in range(3):
            run.append(
                trajectory("x/a", attempt, status="passed" if attempt else "failed", turns=attempt + 1)
            )
        run.append(trajectory("x/b", 0, status="broken", turns=9))
        run.append(trajectory("x/b", 1, status="passed", agent="Bash", turns=5))
    return folder


def attempts(run: Listing, **asked: object) -> list[tuple[str, int]]:
    rows = run.attempts(Query(**asked))["rows"]  # type: ignore[arg-type]
    return [(row["task"], row["attempt"]) for row in rows]


def test_filtered_by_text_status_and_task(tmp_path: Path) -> None:
    run = Listing(make_run(tmp_path / "run"))
    assert attempts(run, text="BASH") == [("x/b", 1)]
    assert attempts(run, status="failed") == [("x/a", 0)]
    assert attempts(run, task="x/b") == [("x/b", 0), ("x/b", 1)]
    assert attempts(run, task="x") == []
    page = run.attempts(Query(status="passed", text="x/a"))
    assert page["statuses"] == {"passed": 2, "failed": 1, "broken": 0}  # of the text, so that one can choose
    assert (page["found"], page["total"]) == (2, 5)


def test_sorted_and_paged(tmp_path: Path) -> None:
    run = Listing(make_run(tmp_path / "run"))
    longest_first = attempts(run, sort="steps", descending=True)
    assert longest_first == [("x/b", 0), ("x/b", 1), ("x/a", 2), ("x/a", 1), ("x/a", 0)]
    assert attempts(run, sort="steps", descending=True, offset=1, limit=2) == longest_first[1:3]
    assert attempts(run, descending=True) == attempts(run)[::-1]
    with pytest.raises(UnknownName, match="tokens"):
        run.attempts(Query(sort="token"))
    for wrong in ({"offset": -1}, {"limit": 0}, {"limit": 501}):
        with pytest.raises(BadSetting):
            Query(**wrong)
    with pytest.raises(UnknownName):
        Query(status="solved")


def test_numbers_are_those_of_the_metrics_and_broken_stand_apart(tmp_path: Path) -> None:
    run = Listing(make_run(tmp_path / "run"))
    told = run.summary()
    assert told["funnel"] == {"planned": 8, "finished": 5, "judged": 4, "passed": 3, "broken": 1}
    assert told["solve_rate"] == 0.75
    assert dict(told["pass_at_k"]) == pass_at_ks(by_task(run.run.rows))
    rates = run.task_rates(Query(sort="rate"))["rows"]
    assert [(one["task"], one["passed"], one["failed"], one["broken"]) for one in rates] == [
        ("x/a", 2, 1, 0),
        ("x/b", 1, 0, 1),
    ]


def test_a_growing_run_is_followed_and_a_retried_attempt_replaces_the_broken_one(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    listing = Listing(folder)
    before = attempts(listing)
    with RunWriter(folder, Run(folder).settings) as run:
        run.append(trajectory("x/b", 0, status="passed"))
        with (folder / INDEX).open("ab") as index:
            index.write(b'{"task":"x/torn')  # a line that is being written at this moment
        listing.refresh()
    assert sorted(attempts(listing)) == sorted(before)
    assert attempts(listing, status="broken") == []
    assert listing.attempts_at("x/b")[0] == {"n": 5, "attempt": 0, "status": "passed"}
    assert listing.row(3).status == "broken"  # an old address still leads to its record


def test_an_empty_run_and_one_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunWriter(folder, {}):
        listing = Listing(folder)
    assert listing.summary()["solve_rate"] is None
    assert attempts(listing) == []
    make_run(tmp_path / "other")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "other", folder)
    listing.refresh()
    assert len(attempts(listing)) == 5
    shutil.rmtree(folder)
    with RunWriter(folder, {}) as run:
        run.append(trajectory("x/new"))
    listing.refresh()
    assert attempts(listing) == [("x/new", 0)]


def test_a_line_edited_while_it_is_looked_at_is_found(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    listing = Listing(folder)
    lines = (folder / INDEX).read_bytes().splitlines(keepends=True)
    (folder / INDEX).write_bytes(b"".join([*lines, lines[-1].replace(b'"passed"', b'"failed"')]))
    with pytest.raises(ForgedRecord):
        listing.refresh()
