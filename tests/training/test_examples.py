from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kit.folders import task_folder
from kit.talk import TAIL, talk

from terminal_gym.cli.app import main
from terminal_gym.errors import BadSetting, SchemaMismatch
from terminal_gym.export.select import Gate
from terminal_gym.tasks.overlap import Benchmark, open_benchmarks
from terminal_gym.trajectory.record import Trajectory
from terminal_gym.trajectory.store import RunWriter
from training.chat_format import IGNORED
from training.examples import Choice, make_table
from training.labels import Labels, read_labels
from training.table import SCHEMA, check_table, read_facts, read_rows

REPLY = "look\n```bash\nls\n```"


def run_of(folder: Path, attempts: Iterable[Trajectory]) -> Path:
    with RunWriter(folder, {"tasks": {}}) as run:
        for played in attempts:
            run.append(played)
    return folder


def many(count: int, *, tasks: int = 4, tokens: Any = None) -> list[Trajectory]:
    return [
        talk([(f"Task {k % tasks}.", f"{REPLY} {k}")], task=f"T/{k % tasks}", attempt=k, tokens=tokens)
        for k in range(count)
    ]


def make(folder: Path, attempts: Iterable[Trajectory], tokens: Any, **given: Any) -> Any:
    run = run_of(folder / "run", attempts)
    return make_table([run], folder / "table", tokens, tokenizer_name="tiny", **given)


def test_only_a_verdict_lets_an_attempt_in_and_each_row_is_what_was_said(tmp_path: Path, tokens: Any) -> None:
    attempts = [
        talk([("Do it.", REPLY)], task="T/a", tokens=tokens),
        talk([("Do it.", "no")], task="T/b", status="failed"),
        talk([("Do it.", "broken")], task="T/c", status="broken"),
    ]
    made = make(tmp_path, attempts, tokens)
    (row,) = read_rows(made.folder)
    said = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert tokens.decode(said) == REPLY + TAIL
    assert (row["task"], row["status"], row["source"], row["learned"]) == (
        "T/a",
        "passed",
        "sampled",
        len(said),
    )
    assert made.facts.dropped == {"failed": 1, "broken": 1}
    assert read_facts(made.folder).rows == {"train": 1, "eval": 0}
    assert check_table(made.folder) == len(said)


def test_unverified_data_is_had_by_asking_for_it(tmp_path: Path, tokens: Any) -> None:
    attempts = [talk([("Do it.", REPLY)]), talk([("Do it.", "no")], task="T/b", status="failed")]
    made = make(tmp_path, attempts, tokens, gate=Gate(("passed", "failed")))
    assert sorted(row["status"] for row in read_rows(made.folder)) == ["failed", "passed"]


def test_duplicates_and_caps(tmp_path: Path, tokens: Any) -> None:
    twins = [talk([("Do it.", REPLY)], task="T/0", attempt=k) for k in (100, 101)]
    labels = {f"T/{k}": Labels("files" if k < 2 else "data") for k in range(4)}
    choice = Choice(per_task=2, per_domain=3)
    made = make(tmp_path, [*many(24), *twins], tokens, choice=choice, labels=labels)
    rows = list(read_rows(made.folder))
    assert len(rows) == 6
    assert all(sum(row["task"] == f"T/{k}" for row in rows) <= 2 for k in range(4))
    assert sum(row["domain"] == "data" for row in rows) == 3
    assert sum(made.facts.dropped.values()) == 26 - 6
    alone = run_of(tmp_path / "twins", twins)
    assert make_table([alone], tmp_path / "t2", tokens, tokenizer_name="t").facts.dropped == {
        "says the same as another attempt at its task": 1
    }


def test_another_table_enters_as_it_is_and_alone_makes_no_table(tmp_path: Path, tokens: Any) -> None:
    labels = {f"T/{k}": Labels("d", f"repo-{k}") for k in range(4)}
    before = make(
        tmp_path / "a", many(8), tokens, labels=labels, choice=Choice(eval_share=0.5, seed=1)
    ).folder
    new = talk([("Do it.", REPLY)], task="T/new", tokens=tokens)
    choice = Choice(per_task=1)
    made = make(tmp_path / "b", [new], tokens, choice=choice, beside=before)
    old = {split: list(read_rows(before, split)) for split in ("train", "eval")}
    assert all(old.values())
    first, *rest = read_rows(made.folder)
    assert first["task"] == "T/new"
    assert rest == old["train"]  # no cap, no split of this table is asked of them
    assert list(read_rows(made.folder, "eval")) == old["eval"]
    assert made.facts.rows == {"train": 1 + len(old["train"]), "eval": len(old["eval"])}
    assert made.facts.sources[-1] == str(before)
    with pytest.raises(BadSetting, match="Nothing of"):
        make(tmp_path / "c", [talk([("Do it.", "no")], status="failed")], tokens, beside=before)
    with pytest.raises(BadSetting, match="rows of up to 32768"):
        make(tmp_path / "d", [new], tokens, choice=Choice(max_tokens=64), beside=before)
    assert not (tmp_path / "d" / "table").exists()


def test_a_cap_does_not_favour_what_ended_first(tmp_path: Path, tokens: Any) -> None:
    kept = {
        row["attempt"]
        for seed in range(6)
        for row in read_rows(
            make(tmp_path / str(seed), many(12, tasks=1), tokens, choice=Choice(per_task=1, seed=seed)).folder
        )
    }
    assert len(kept) > 2


def test_no_repository_is_on_both_sides(tmp_path: Path, tokens: Any) -> None:
    labels = {f"T/{k}": Labels("d", f"repo-{k % 10}") for k in range(40)}
    made = make(tmp_path, many(40, tasks=40), tokens, labels=labels, choice=Choice(eval_share=0.4, seed=1))
    train, held = (
        {row["repository"] for row in read_rows(made.folder, split)} for split in ("train", "eval")
    )
    assert train
    assert held
    assert not train & held
    assert made.facts.rows["train"] + made.facts.rows["eval"] == 40
    assert "- **Splits**, no repository on both sides: train" in (made.folder / "README.md").read_text(
        "utf-8"
    )
    unknown = make(tmp_path / "unknown", many(4), tokens).folder / "README.md"
    assert "of 4 rows it is not known, and the task stands for it: train" in unknown.read_text("utf-8")


def test_solve_rate_bands_count_all_runs_together(tmp_path: Path, tokens: Any) -> None:
    runs = [
        run_of(tmp_path / "a", [talk([("Do.", f"{REPLY} 1")], task=f"T/{k}") for k in range(2)]),
        run_of(tmp_path / "b", [talk([("Do.", "x")], task="T/0", attempt=1, status="failed")]),
    ]
    gate = Gate(bands=("sometimes",))
    made = make_table(runs, tmp_path / "t", tokens, tokenizer_name="t", gate=gate)
    assert [row["task"] for row in read_rows(made.folder)] == ["T/0"]
    assert made.facts.dropped == {"failed": 1, "task is solved always": 1}


def test_what_a_benchmark_holds_is_not_learned(tmp_path: Path, tokens: Any) -> None:
    instruction = "Count how many of the lines of the file in the folder of logs begin with a digit."
    task_folder(tmp_path / "bench", yaml=f"instruction: {instruction}\ndifficulty: easy\n")
    copied = talk([(f"Please: {instruction.upper()} Then stop.", REPLY)], task="T/copied")
    pasted = talk([("Other.", "```bash\n# " + instruction.replace(" ", "\n") + "\n```")], task="T/pasted")
    near = talk([("Count the lines of the file.", REPLY)], task="T/near")
    benchmark = open_benchmarks([tmp_path / "bench"])
    assert len(benchmark) > 4
    made = make(tmp_path, [copied, pasted, near], tokens, benchmark=benchmark)
    assert [row["task"] for row in read_rows(made.folder)] == ["T/near"]
    assert list(made.facts.dropped.values()) == [2]
    assert next(iter(made.facts.dropped)).startswith("shares text with ")
    assert Benchmark([("b", "two words")]).shared_with("Two words!") == "b"
    with pytest.raises(BadSetting, match="no task"):
        open_benchmarks([tmp_path / "run"])


def test_long_rows_lose_their_middle_or_are_left_out(tmp_path: Path, tokens: Any) -> None:
    long = talk([("Do it.", REPLY), ("x " * 60, REPLY), ("y", "end")], task="T/long")
    hopeless = talk([("z " * 200, REPLY)], task="T/hopeless")
    made = make(tmp_path, [long, hopeless], tokens, choice=Choice(max_tokens=64))
    (row,) = read_rows(made.folder)
    text = tokens.decode(row["input_ids"])
    assert len(row["input_ids"]) <= 64
    assert row["shortened"]
    assert text.startswith("<|im_start|>user\nDo it.")
    assert text.endswith(f"assistant\nend{TAIL}")
    assert list(made.facts.dropped) == ["task and last turn alone are longer than 64 tokens"]


def test_ids_of_another_tokenizer_are_left_out_or_told_anew(tmp_path: Path, tokens: Any) -> None:
    made = make(tmp_path / "auto", [talk([("Do it.", REPLY)])], tokens)
    assert [row["source"] for row in read_rows(made.folder)] == ["text"]
    with pytest.raises(BadSetting, match="1 no token ids of this tokenizer"):
        make(tmp_path / "sampled", [talk([("Do it.", REPLY)])], tokens, choice=Choice(words="sampled"))
    assert not (tmp_path / "sampled" / "table").exists()
    assert not list((tmp_path / "sampled").glob(".*"))


def test_released_rows_enter_as_their_publisher_says(tmp_path: Path, tokens: Any) -> None:
    reply = json.dumps({"analysis": "a", "plan": "p", "commands": [], "task_complete": True})
    chat = [{"role": "user", "content": "Do it."}, {"role": "assistant", "content": reply}]
    other = [chat[0], chat[1] | {"content": "x"}]
    file = tmp_path / "released.jsonl"
    file.write_text(json.dumps({"messages": chat}) + "\n" + json.dumps({"messages": other}))
    made = make_table([file], tmp_path / "table", tokens, tokenizer_name="tiny")
    rows = list(read_rows(made.folder))
    assert [row["status"] for row in rows] == ["released"] * 2
    said = [a for a, b in zip(rows[0]["input_ids"], rows[0]["labels"], strict=True) if b != IGNORED]
    assert tokens.decode(said) == reply + TAIL


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("torn.parquet", "no", "torn.parquet cannot be read as Parquet"),
        ("lines.jsonl", "{", r"lines.jsonl, row 0: not JSON"),
        ("rows.jsonl", "{}", r"rows.jsonl, row 0: 'messages' is None"),
    ],
)
def test_a_file_of_rows_that_is_none_is_named(
    tmp_path: Path, tokens: Any, name: str, content: str, found: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SchemaMismatch, match=found):
        make_table([tmp_path / name], tmp_path / "table", tokens, tokenizer_name="tiny")
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_table_is_made(
    tmp_path: Path, tiny: Path, tokens: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", many(1, tokens=tokens))
    for plot, found in (("summary.plot", "is no picture"), ("run/run.json/summary.png", "is no folder")):
        words = ["train", "examples", run, "--out", tmp_path / "table", "--tokenizer", tiny]
        with pytest.raises(SystemExit, match="2"):
            main([*map(str, words), "--plot", str(tmp_path / plot)])
        assert found in capsys.readouterr().err
        assert not (tmp_path / "table").exists()


def test_an_empty_set_is_refused_with_the_reasons(tmp_path: Path, tokens: Any) -> None:
    with pytest.raises(BadSetting, match=r"Nothing of .* enters the table: 1 failed"):
        make(tmp_path / "a", [talk([("Do it.", REPLY)], status="failed")], tokens)
    with pytest.raises(BadSetting, match="there are no attempts"):
        make(tmp_path / "b", [], tokens)
    with pytest.raises(BadSetting, match="eval split"):
        make(tmp_path / "c", [talk([("Do it.", REPLY)])], tokens, choice=Choice(eval_share=0.999999))
    assert not (tmp_path / "a" / "table").exists()


def test_a_table_that_is_none_is_refused(tmp_path: Path, tokens: Any) -> None:
    with pytest.raises(BadSetting, match="is no training table"):
        read_facts(tmp_path)
    (tmp_path / "table.json").write_text('{"version": 99}')
    with pytest.raises(SchemaMismatch, match="version 99"):
        read_facts(tmp_path)
    for labels, found in (
        ([IGNORED, IGNORED], "no token that is learned"),
        ([IGNORED, 3], "not their ids"),
        ([2], "not"),
    ):
        rows = [{"input_ids": [1, 2], "labels": labels}]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "train.parquet")
        with pytest.raises(BadSetting, match=found):
            check_table(tmp_path)
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"input_ids": [[1]]}), file)
    for read in (check_table, lambda folder: list(read_rows(folder))):
        with pytest.raises(SchemaMismatch, match="no column 'labels'"):
            read(tmp_path)
    rows = [{"input_ids": list(range(4000)), "labels": list(range(4000))}]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)
    whole = file.read_bytes()
    for torn in (
        b"PAR1 no",
        whole[:4] + b"x" * 60 + whole[64:],
    ):  # no footer; a footer, and a page overwritten
        file.write_bytes(torn)
        for read in (check_table, lambda folder: list(read_rows(folder))):
            with pytest.raises(SchemaMismatch, match="no Parquet"):
                read(tmp_path)


@pytest.mark.parametrize(
    "setting", [{"max_tokens": 0}, {"eval_share": 1.0}, {"words": "tokens"}, {"per_task": 0}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(BadSetting):
        Choice(**setting)


def test_labels_come_from_a_file_a_catalogue_or_the_task(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"task": "T/a", "domain": "data", "repo": "x/y"}\n')
    assert read_labels(file) == {"T/a": Labels("data", "x/y")}
    assert Labels.of({"item_info": {"repo": "a/b"}, "category": "files"}) == Labels("files", "a/b")
    file.write_text("{}\n")
    with pytest.raises(BadSetting, match=":1: no labels"):
        read_labels(file)


def test_the_command_makes_a_table_a_card_and_a_plot(
    tmp_path: Path, tiny: Path, tokens: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", many(8, tokens=tokens))
    table, plot = tmp_path / "table", tmp_path / "plots" / "summary.png"
    words = ["train", "examples", run, "--out", table, "--tokenizer", tiny, "--per-task", "1"]
    with pytest.raises(SystemExit, match="0"):
        main([*map(str, words), "--plot", str(plot), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == {"train": 4, "eval": 0}
    assert told["dropped"] == {"more than 1 of one task": 4}
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "| all | 4 | 4 |" in (table / "README.md").read_text("utf-8")
    assert pq.read_table(table / "train.parquet").num_rows == 4
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, words)])
    assert "exists. Name a new folder" in capsys.readouterr().err
