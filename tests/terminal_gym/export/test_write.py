from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kit.trajectories import trajectory

from terminal_gym.errors import BadSetting, ForgedRecord, SchemaMismatch, StoreError, UnknownName
from terminal_gym.export.released import NOT_JUDGED, import_rows
from terminal_gym.export.write import FILES, TABLES, export
from terminal_gym.trajectory.store import DATA, Run, RunWriter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("write") / "run"
    with RunWriter(folder, {"tasks": {"a": "h", "b": "h"}, "attempts": 3}) as writer:
        for task in ("a", "b"):
            for k, status in enumerate(("passed", "failed", "broken")):
                writer.append(trajectory(f"TerminalTraj/{task}", k, status=status))  # type: ignore[arg-type]
    return Run(folder)


@pytest.mark.parametrize("form", TABLES)
def test_datasets_loads_it(run: Run, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    if form == "preference":
        with pytest.raises(BadSetting, match="holds no row"):
            export(run, tmp_path / "data", form=form)  # the made-up attempts were told different things
        return
    done = export(run, tmp_path / "data", form=form)
    assert (done.attempts, done.dropped) == (2, {"failed": 2, "broken": 2})
    loaded = datasets.load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == done.rows == 2
    made = list(TABLES[form](run.read_all([row for row in run.rows if row.status == "passed"])))
    for there, here in zip(loaded, made, strict=True):
        assert there.keys() == here.keys()
        assert [there[name] for name in here if name != "logprobs"] == [
            here[name] for name in here if name != "logprobs"
        ]


def test_pairs_are_loaded(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    passed, failed = trajectory(attempt=0), trajectory(attempt=1, status="failed")
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.append(passed)
        writer.append(replace(failed, steps=(passed.steps[0], *failed.steps[1:])))
    export(Run(tmp_path / "run"), tmp_path / "data", form="preference")
    (row,) = pq.read_table(tmp_path / "data/train.parquet").to_pylist()
    assert [message["role"] for message in row["prompt"]] == ["user"]
    assert row["chosen"] != row["rejected"]


@pytest.mark.parametrize("form", TABLES)
def test_lines(run: Run, tmp_path: Path, form: str) -> None:
    if form == "preference":
        return
    export(run, tmp_path / "data", form=form, lines=True)
    rows = [json.loads(line) for line in (tmp_path / "data/train.jsonl").read_text().splitlines()]
    assert len(rows) == 2


@pytest.mark.parametrize("form", FILES)
def test_one_file_an_attempt(run: Run, tmp_path: Path, form: str) -> None:
    export(run, tmp_path / "data", form=form)
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["README.md", f"TerminalTraj-a-0{FILES[form]}", f"TerminalTraj-b-0{FILES[form]}"]
    first = (tmp_path / "data" / names[1]).read_text()
    assert json.loads(first.splitlines()[0] if form == "asciicast" else first)


def test_the_card(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "data", form="messages")
    card = (tmp_path / "data/README.md").read_text()
    assert "planned 6, finished 6, judged 4, passed 2, broken 2" in card
    assert "terminus with openai/tiny: 2" in card
    assert "2 failed, 2 broken" in card


@pytest.mark.parametrize(("form", "error"), [("massages", UnknownName), ("tokens", BadSetting)])
def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, form: str, error: type[Exception]) -> None:
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.append(trajectory(ids=False))
    with pytest.raises(error):
        export(Run(tmp_path / "run"), tmp_path / "data", form=form)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_exists_is_not_touched(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="exists"):
        export(run, tmp_path, form="messages")


def test_a_place_that_cannot_be_written(run: Run) -> None:
    with pytest.raises(StoreError):
        export(run, Path("/proc/data"), form="messages")


def test_a_forged_record_stops_it(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.append(trajectory())
    data = (tmp_path / "run" / DATA).read_bytes()
    (tmp_path / "run" / DATA).write_bytes(data[:100] + b"x" + data[101:])
    with pytest.raises(ForgedRecord):
        export(Run(tmp_path / "run"), tmp_path / "data", form="messages")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("lines", [True, False])
def test_released_rows_are_imported(run: Run, tmp_path: Path, lines: bool) -> None:
    export(run, tmp_path / "data", form="terminus-2", lines=lines)
    source = tmp_path / "data" / ("train.jsonl" if lines else "train.parquet")
    assert import_rows(source, tmp_path / "in") == 2
    assert import_rows(source, tmp_path / "in") == 2  # again: nothing is there twice
    back = list(Run(tmp_path / "in"))
    wanted = [played for played in run if played.outcome.status == "passed"]
    assert [[turn.reply for turn in one.turns] for one in back] == [
        [turn.reply for turn in one.turns] for one in wanted
    ]
    assert {one.outcome.reason for one in back} == {NOT_JUDGED}


def test_a_bad_row_stops_the_import_after_the_good_ones(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(good) + "\n{}\n")
    with pytest.raises(SchemaMismatch, match="row 1"):
        import_rows(tmp_path / "rows.jsonl", tmp_path / "in")
    assert len(Run(tmp_path / "in")) == 1
