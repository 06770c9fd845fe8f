"""The pipeline on a real Engine: hostile builds are ended, a sound repository ends as accepted instances."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kit.chat_server import ChatServer
from kit.repositories import repository
from typer.testing import CliRunner

from env_registry import store
from env_registry.pipeline.accept import Acceptor
from env_registry.pipeline.build import Builder
from env_registry.pipeline.cli import app
from env_registry.pipeline.collect import slug
from env_registry.pipeline.generate import Generator
from env_registry.pipeline.plan import Plan
from env_registry.pipeline.publish import publish
from env_registry.pipeline.run import funnel, run
from env_registry.pipeline.settings import Generate, Settings
from env_registry.pipeline.stage import Rejected, Row, Table, run_stage
from env_registry.pipeline.swap import swap, swapped
from terminal_gym.errors import SandboxLost
from terminal_gym.rollout.gate import Attempt, ValidityRecord
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import Catalogue, read_folder
from terminal_gym.tasks.manifest import read_manifest

pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("exit 3", "build-failed"),
        ("echo 'curl: (6) Could not resolve host: a.example' >&2; exit 6", "network"),
        ("cat /dev/zero > /app/zeros", "build-failed disk-full"),
        ("n=0; while n=$((n+1)); do head -c 8000000 /dev/zero > /app/$n; done", "disk-full"),
        ("bomb() { bomb | bomb & }; bomb; sleep 60", "build-failed build-timeout"),
        ("while true; do echo; sleep 1; done", "build-timeout"),
        ("ln -s / /app/all; rm -rf /app/Makefile /etc/passwd", "build-failed smoke-failed"),
    ],
    ids=["fails", "no-network", "one-big-file", "fills-the-disk", "fork-bomb", "hangs", "deletes"],
)
def test_a_hostile_build_is_ended_and_named(
    settings: Settings, built: Callable[[Settings], Row], tmp_path: Path, recipe: str, reason: str
) -> None:
    repository(tmp_path, makefile=f"all:\n\t{recipe.replace('$', '$$')}\n")
    settings = replace(settings, build=replace(settings.build, timeout_s=5))
    row = built(settings)
    assert not row.kept
    assert row.reason in reason.split()
    assert (settings.work / "logs" / f"{slug('path:proj')}.log").exists()


def test_from_a_repository_to_accepted_instances(
    settings: Settings, docker_runtime: Runtime, tmp_path: Path
) -> None:
    repository(tmp_path)
    settings = replace(settings, generate=Generate(per_repository=2))
    config = tmp_path / "c.yaml"
    config.write_text(
        "work: work\nsources: [path:proj]\ngenerate: {per_repository: 2}\n"
        "accept: {repeats: 1, failing_repeats: 2, attacks: [nothing]}\n"
        f"build: {{runtime: docker, network: false, bases: {{make: '{settings.build.bases['make']}'}}}}\n"
    )
    ran = CliRunner().invoke(app, ["run", "--config", str(config)])
    assert ran.exit_code == 0, ran.output
    found = funnel(settings)
    assert [found[stage]["kept"] for stage in found] == [1, 1, 1, 2, 2]
    for row in Table(settings.work, "accept").kept:
        assert row.cells["redundant"] == []
        assert row.cells["language"] == "c"
        kept = json.loads((settings.work / str(row.cells["path"]) / "acceptance.json").read_text())
        assert kept["cheats"]["empty-outputs"] == "refused"
    before = (settings.work / "accept.jsonl").read_bytes()
    again = CliRunner().invoke(app, ["run", "--config", str(config), "--quiet"])
    assert again.exit_code == 0
    assert (settings.work / "accept.jsonl").read_bytes() == before
    published(config, tmp_path / "out")
    shown = json.loads(CliRunner().invoke(app, ["funnel", "--config", str(config), "--json"]).output)
    assert shown["generate"]["rejected"] == {"nothing-to-ask": 1, "repository-full": 27}


def published(config: Path, out: Path) -> None:
    """What was accepted is a catalogue, a manifest and a data set."""
    import datasets
    import pyarrow.parquet

    ran = CliRunner().invoke(app, ["publish", "--config", str(config), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    rows = pyarrow.parquet.read_table(out / "instances.parquet").to_pylist()
    loaded = datasets.load_dataset(str(out), cache_dir=str(out.parent / "cache"))
    assert [row["id"] for row in loaded["train"]] == [row["id"] for row in rows]
    catalogue = Catalogue(out)
    assert list(catalogue.rows) == sorted(f"TerminalTraj/{row['id']}" for row in rows)
    for row in rows:
        task = catalogue.task(f"TerminalTraj/{row['id']}")
        assert (task.content_hash(), task.instruction) == (row["hash"], row["instruction"])
        assert (row["licence"], row["valid"], row["repository"]) == ("MIT", "reference", "path:proj")
    [image] = map(json.loads, (out / "images.jsonl").read_text().splitlines())
    assert "COPY . /app" in image["dockerfile"]
    assert len(image["archive_sha256"]) == 64
    for one in read_manifest(out / "manifest.jsonl").tasks():
        is_whole = not (out / "tasks" / one.ref.name / "files").exists()
        assert (one.image.digest == image["digest"]) == is_whole
    [row, *_] = store.table_one(out)
    assert (row["language"], row["repositories"], row["images"], row["instances"]) == ("c", 1, 1, 2)
    assert CliRunner().invoke(app, ["publish", "--config", str(config), "--out", str(out)]).exit_code != 0


def test_a_model_repairs_a_build_within_its_rounds(
    settings: Settings, docker_runtime: Runtime, tmp_path: Path
) -> None:
    repository(tmp_path, makefile="all:\n\texit 1\n\nmended:\n\tcat src/*.c > all.c\n")
    replies = [
        "no idea",
        json.dumps({"apt": ["$(reboot)"], "script": "true"}),
        json.dumps({"script": "make mended"}),
    ]
    for said, outcome in zip(replies, ("build-failed", "build-failed", ""), strict=True):
        with ChatServer([said]) as server:
            build = replace(settings.build, repair_rounds=2, model="openai/tiny", base_url=server.url)
            one = replace(settings, build=build)
            run(one, ["collect", "score"])
            run(one, ["build"])
            row = Table(one.work, "build").rows["path:proj"]
            assert row.reason == outcome
            assert "exit 1" in server.requests[0]["messages"][0]["content"]
        if outcome:
            (one.work / "build.jsonl").unlink()
    assert row.cells["rounds"] == 1
    assert "make mended" in row.cells["dockerfile"]


OUT = "/app/answer/parts.txt"
GOOD = {
    "instruction": f"Write the names of the C files in /app/src to {OUT}, one a line, sorted.",
    "inputs": ["/app/src/part1.c"],
    "outputs": [OUT],
    "difficulty": "easy",
    "solution": "mkdir -p answer\nls src > answer/parts.txt\n",
    "partial": "mkdir -p answer\necho part1.c > answer/parts.txt\n",
    "tests": f"from pathlib import Path\n\n\ndef test_parts():\n    names = Path({OUT!r}).read_text().split()\n"
    "    assert names == ['part1.c', 'part2.c', 'part3.c', 'part4.c']\n"
    f"\n\ndef test_there():\n    assert Path({OUT!r}).exists()\n",
}


def test_what_a_model_writes_is_proved_like_the_rest(
    settings: Settings, docker_runtime: Runtime, tmp_path: Path
) -> None:
    repository(tmp_path)
    broken = GOOD | {"instruction": f"Sort the files of /app/src by size into {OUT}.", "solution": "true"}
    easy = GOOD | {"instruction": f"Leave any text at all below {OUT}, about the sources.", "partial": "true"}
    easy["tests"] = (
        f"from pathlib import Path\n\n\ndef test_parts():\n    assert len(Path({OUT!r}).read_text()) >= 0\n"
    )
    strange = GOOD | {"inputs": ["/app/nowhere.c"]}
    replies = [json.dumps(one) for one in (GOOD, GOOD, broken, easy, strange)] + ["As the README says: hello"]
    with ChatServer(replies) as server:
        wanted = Generate(per_repository=0, model="openai/tiny", base_url=server.url, asked=len(replies))
        settings = replace(settings, generate=wanted)
        run(settings, ["collect", "score", "build"])
        run(settings, ["generate"])
    rows = Table(settings.work, "generate").rows
    written = [rows[f"{slug('path:proj')}-model-{n}"].reason for n in range(len(replies))]
    assert written == ["", "near-copy", "", "", "ungrounded", "bad-json"]
    run(settings, ["accept"])
    accepted = Table(settings.work, "accept").rows
    assert [row.reason for row in accepted.values()] == ["", "invalid", "cheated"]
    assert next(iter(accepted.values())).cells["redundant"] == ["test_outputs.py::test_there"]


def test_an_instance_without_solution_gets_the_weaker_record(
    settings: Settings, docker_runtime: Runtime, tmp_path: Path
) -> None:
    repository(tmp_path)
    bare = {name: value for name, value in GOOD.items() if name not in ("solution", "partial")}
    lax = bare | {
        "instruction": f"Leave any text at all below {OUT}, about the sources.",
        "tests": f"from pathlib import Path\n\n\ndef test_it():\n    assert len(Path({OUT!r}).read_text()) >= 0\n",
    }
    free = lax | {
        "instruction": f"See to it that {OUT} holds no word about /app/src.",
        "tests": (
            f"from pathlib import Path\n\n\ndef test_it():\n    path = Path({OUT!r})\n"
            "    assert not path.exists() or 'src' not in path.read_text()\n"
        ),
    }
    replies = [json.dumps(one) for one in (bare, GOOD, lax, free)]
    with ChatServer(replies) as server:
        wanted = Generate(
            per_repository=0, model="openai/tiny", base_url=server.url, asked=4, solutions=False
        )
        settings = replace(settings, generate=wanted)
        run(settings, ["collect", "score", "build", "generate"])
        assert '"solution"' not in server.requests[0]["messages"][0]["content"]
    written = [row.reason for row in Table(settings.work, "generate").rows.values() if "-model-" in row.key]
    assert written == ["", "bad-field", "", ""]
    run(settings, ["accept"])
    rows = Table(settings.work, "accept").rows.values()
    assert [row.reason for row in rows] == ["", "cheated", "invalid"]
    [kept] = [row for row in rows if row.kept]
    assert (kept.cells["record"], kept.cells["tests"], "oracle_s" in kept.cells) == ("weak", 2, False)
    folder = settings.work / str(kept.cells["path"])
    told = json.loads((folder / "acceptance.json").read_text())
    assert (told["record"], len(told["unproved"])) == ("weak", 3)
    [record] = json.loads((folder / "validity.json").read_text())["records"].values()
    assert not record["valid"]  # `tgym tasks check` says the same
    publish(settings, tmp_path / "out")
    [row] = store.read_jsonl(tmp_path / "out" / "index.jsonl")
    assert row["valid"] == "weak"
    assert swapped(settings.work) == []  # there is nothing to play elsewhere


def test_an_instance_fails_on_another_repositorys_image(settings: Settings, tmp_path: Path) -> None:
    repository(tmp_path)
    repository(tmp_path, "other", word="distance")
    settings = replace(settings, sources=("path:proj", "path:other"))
    run(settings, ["collect", "score", "build"])
    table = Table(settings.work, "generate")
    writer = Generator(settings, table, None)
    items = writer.items(Table(settings.work, "build").kept)
    chosen = {("path:proj", "restore"), ("path:proj", "table"), ("path:other", "checksums")}
    run_stage(table, [item for item in items if (item[1].image.key, item[1].family) in chosen], writer)
    run(settings, ["accept"])
    assert len(Table(settings.work, "accept").kept) == 3
    swap(settings)
    found = swapped(settings.work)
    assert [(one.own, one.tried) for one in found] == [(True, 1)] * 3
    anywhere = {row.key for row in Table(settings.work, "accept").kept if not row.cells["grounded"]}
    assert {one.key for one in found if one.elsewhere} == anywhere
    assert swap(settings).kept == 0  # every image has its row
    grounded = {row.key for row in Table(settings.work, "accept").kept} - anywhere
    assert publish(settings, tmp_path / "out", grounded=True) == len(grounded) == 2
    alike = sorted(grounded)[0]  # another repository's file may well say the same
    later = Table(settings.work, "swap")
    cells = {"repository": "path:third", "instances": [alike], "solved": [alike]}
    later.append(Row("path:third", True, cells=cells))
    later.close()
    assert publish(settings, tmp_path / "left", grounded=True) == 1
    assert publish(settings, tmp_path / "all") == 3


@pytest.mark.parametrize(
    ("reason", "error"),
    [("SandboxLost: the daemon is gone", SandboxLost), ("ValidatorBroken: no report", Rejected)],
)
def test_what_the_machine_broke_is_not_held_against_an_instance(
    settings: Settings, docker_runtime: Runtime, reason: str, error: type[Exception]
) -> None:
    attempt = Attempt("oracle", 0, "broken", reason, {}, 0, {"total": 1.0})
    task = read_folder(Path(__file__).parents[3] / "env_registry" / "builtin" / "torn-letter")
    record = ValidityRecord(
        "TerminalTraj/a",
        "",
        "docker",
        "",
        "",
        "",
        "",
        "2026-11-25",
        False,
        ("oracle 0 was broken",),
        (attempt,),
    )
    with pytest.raises(error):
        Acceptor(settings, docker_runtime)._check(task, record)


def test_a_plan_is_not_mended_without_a_model(
    settings: Settings, docker_runtime: Runtime, tmp_path: Path
) -> None:
    repository(tmp_path, makefile="all:\n\texit 1\n")
    run(settings, ["collect", "score"])
    asked: list[Plan] = []
    builder = Builder(settings, docker_runtime, lambda plan, log: asked.append(plan))
    [candidate] = Table(settings.work, "score").kept
    with pytest.raises(Rejected, match="build-failed"):
        builder(candidate)
    assert asked == []  # no rounds were allowed
