"""Replies about two dozen real projects, good and bad: each is judged as it must be before anything is run."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from kit.chat_server import ChatServer
from kit.replies import replies, script

from env_registry.pipeline.collect import slug
from env_registry.pipeline.generate import Generator
from env_registry.pipeline.models import opened_model
from env_registry.pipeline.settings import Generate, Settings
from env_registry.pipeline.stage import Row, Table, run_stage

_BENCHMARK = """instruction: >-
  The quick task of a public benchmark says that thirteen words in a row are shared with it, no more.
"""


def image(work: Path, project: str, paths: list[str]) -> Row:
    """A built project of which only these files are known."""
    made, source = work / "images" / slug(project), work / "sources" / slug(project)
    made.mkdir(parents=True)
    with tarfile.open(made / "app.tar", "w") as tar:
        for path in paths:
            entry = tarfile.TarInfo(path.removeprefix("/"))
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"x\n"))
            here = source / path.removeprefix("/app/")
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_text("x\n")
    cells = {
        "folder": f"sources/{slug(project)}",
        "language": "c",
        "score": 1.0,
        "image": "kit:1",
        "digest": "d",
    }
    return Row(project, True, cells=cells)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    folder = tmp_path_factory.mktemp("replies")
    (folder / "benchmark" / "one").mkdir(parents=True)
    (folder / "benchmark" / "one" / "task.yaml").write_text(_BENCHMARK)
    (folder / "benchmark" / "one" / "Dockerfile").write_text("FROM kit:1\n")
    (folder / "benchmark" / "one" / "run-tests.sh").write_text("true\n")
    images = []
    for one in replies():
        inputs = one.get("reply", {}).get("inputs", [])
        images.append(
            image(folder / "work", one["project"], [path for path in inputs if "another" not in path])
        )
    with ChatServer(script) as server:
        told = Generate(
            per_repository=0, model="openai/tiny", base_url=server.url, benchmarks=("benchmark",), seed=0
        )
        settings = Settings(folder, folder / "work", ("path:x",), generate=told)
        table = Table(settings.work, "generate")
        with opened_model(told) as model:
            work = Generator(settings, table, model)
            items = [(key, one) for key, one in work.items(images) if one.family == "model"]
            run_stage(table, items, work)
    return dict(Table(settings.work, "generate").rows)


@pytest.mark.parametrize("one", replies(), ids=lambda one: f"{one['project']}-{one['reason'] or 'kept'}")
def test_a_reply_ends_as_it_must(one: dict[str, str], rows: dict[str, Row]) -> None:
    row = rows[f"{slug(one['project'])}-model-0"]
    assert row.reason == (one["reason"] if one["stage"] == "generate" else ""), row.detail
    assert row.kept == (not row.reason)


def test_every_reason_before_a_run_is_seen(rows: dict[str, Row]) -> None:
    seen = {row.reason for row in rows.values()}
    wanted = "bad-json bad-field ungrounded near-copy contaminated refused bad-tests no-assert empty-file network time"
    assert {*wanted.split(), "order", "commands", "output-unread", ""} <= seen
