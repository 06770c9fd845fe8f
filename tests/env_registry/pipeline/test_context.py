"""Context items: let in like sources, shown to the model, and laid into the image where the task needs them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kit.chat_server import ChatServer
from kit.repositories import MIT, repository

from env_registry import store
from env_registry.pipeline.context import ContextCollector, chosen, material
from env_registry.pipeline.publish import publish
from env_registry.pipeline.run import run
from env_registry.pipeline.settings import Collect, Context, Generate, Settings, read_settings
from env_registry.pipeline.stage import Rejected, Row, Table
from env_registry.pipeline.swap import swap, swapped
from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.catalogue import read_folder

OUT = "/app/answer/known.txt"
ADVICE = "part1.c\npart9.c\n"


@pytest.fixture
def web() -> Iterator[str]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/rfc.txt": b"A request has a line.\n", "/blob": b"\0\1\2\xff" * 99}.get(self.path)
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_items_are_let_in_and_refused(tmp_path: Path, web: str) -> None:
    (tmp_path / "notes.md").write_text("# Notes\n")
    (tmp_path / "many").mkdir()
    for n in range(60):
        (tmp_path / "many" / f"{n}.txt").write_text(f"{n}\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "LICENSE").write_text(MIT)
    items = {
        "note": Context("path:notes.md", "docs", "MIT"),
        "none": Context("path:notes.md", "docs"),
        "gpl": Context("path:notes.md", "docs", "GPL-3.0-only"),
        "told": Context("path:notes.md", "docs", "", "reference"),
        "own": Context("path:own", "docs"),
        "many": Context("path:many", "docs", "MIT"),
        "many-shown": Context("path:many", "docs", "", "reference"),
        "page": Context(f"url:{web}/rfc.txt", "http", "", "reference"),
        "blob": Context(f"url:{web}/blob", "http", "", "reference"),
        "gone": Context(f"url:{web}/gone", "http", "", "reference"),
        "file": Context("url:file:///etc/passwd", "http", "", "reference"),
    }
    settings = Settings(tmp_path, tmp_path / "work", ("path:x",), context=items)
    found = {}
    for name in items:
        try:
            found[name] = str(ContextCollector(settings)(name)["licence"])
        except Rejected as no:
            found[name] = no.reason
    assert found == {
        "note": "MIT", "none": "licence", "gpl": "licence", "told": "", "own": "MIT", "many": "too-large",
        "many-shown": "", "page": "", "blob": "binary", "gone": "unfetchable", "file": "unfetchable",
    }  # fmt: skip
    assert (tmp_path / "work" / "context" / "note" / "notes.md").read_text() == "# Notes\n"
    assert not (tmp_path / "work" / "context" / "gpl").exists()


def test_what_a_model_is_shown(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt"):
        (tmp_path / "context" / "x").mkdir(parents=True, exist_ok=True)
        (tmp_path / "context" / "x" / name).write_text(f"begin {name} " + "word " * 1_000)
    cells = {"use": "files", "domain": "data", "licence": "MIT"}
    laid = material(tmp_path, Row("x", True, cells=cells))
    assert sorted(laid.files) == [f"context/x/{name}.txt" for name in "abcde"]
    assert len(laid.files["context/x/a.txt"]) > 5_000
    assert "=== /app/context/x/a.txt\nbegin a.txt" in laid.asked
    assert "begin d.txt" not in laid.asked  # 6,000 characters are enough
    shown = material(tmp_path, Row("x", True, cells=cells | {"use": "reference"}))
    assert (shown.files, shown.licence, "will not see it" in shown.asked) == ({}, "", True)
    assert shown.version != laid.version


def test_each_repository_goes_round_the_items() -> None:
    rows = [Row(name, True) for name in "abc"]
    assert chosen([], "r", 0) is None
    for name in ("r", "s", "t"):
        names = [one.key for n in range(6) if (one := chosen(rows, name, n))]
        assert names[:3] == names[3:]
        assert sorted(names[:3]) == ["a", "b", "c"]


def test_settings(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "sources: [path:x]\ncontext: {notes: {source: 'path:n.md', domain: docs, use: reference}}\n"
    )
    assert read_settings(config).context == {"notes": Context("path:n.md", "docs", "", "reference")}
    for wrong in (
        "{Notes: {source: a, domain: b}}",
        "{n: {source: a, domain: b, used: c}}",
        "{n: {source: a}}",
    ):
        config.write_text(f"sources: [path:x]\ncontext: {wrong}\n")
        with pytest.raises(BadTaskFormat):
            read_settings(config)


REPLY = {
    "instruction": f"Write those names of /app/context/list/list.txt that are files of /app/src to {OUT}, one a line.",
    "inputs": ["/app/src/part1.c", "/app/context/list/list.txt"],
    "outputs": [OUT],
    "difficulty": "easy",
    "solution": "mkdir -p answer\nls src | grep -Fxf context/list/list.txt > answer/known.txt\n",
    "partial": "mkdir -p answer\ncp context/list/list.txt answer/known.txt\n",
    "tests": "from pathlib import Path\n\n\ndef test_known():\n"
    f"    assert Path({OUT!r}).read_text().split() == ['part1.c']\n",
}


@pytest.mark.docker
def test_an_instance_that_needs_a_context_item(settings: Settings, tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "list.txt").write_text(ADVICE)
    unused = REPLY | {"inputs": ["/app/src/part1.c"]}
    foreign = REPLY | {"inputs": ["/app/context/list/list.txt"]}
    with ChatServer([json.dumps(one) for one in (REPLY, unused, foreign)]) as server:
        wanted = replace(
            settings,
            collect=Collect(licences=("MIT", "CC0-1.0")),
            context={"list": Context("path:list.txt", "files", "CC0-1.0")},
            generate=Generate(per_repository=0, model="openai/tiny", base_url=server.url, asked=3),
        )
        told = run(wanted, ["collect", "score", "build", "generate"])
        assert [one.stage for one in told][:2] == ["context", "collect"]
        assert "/app/context/list/list.txt\npart1.c" in server.requests[0]["messages"][0]["content"]
    rows = [row for key, row in Table(settings.work, "generate").rows.items() if "-model-" in key]
    assert [row.reason for row in rows] == ["", "context-unused", "ungrounded"]
    assert (rows[0].cells["domain"], rows[0].cells["context"]) == ("files", "list")
    assert "context-files-1:" in str(rows[0].cells["writer"])
    run(wanted, ["accept"])
    [kept] = Table(settings.work, "accept").rows.values()
    assert kept.kept, kept.detail
    task = read_folder(settings.work / str(kept.cells["path"]))
    assert task.content_hash() == kept.cells["task_hash"]  # what the gate wrote beside it is no part of it
    swap(wanted)
    assert swapped(settings.work)[0].own
    publish(wanted, tmp_path / "out")
    [row] = store.read_jsonl(tmp_path / "out" / "index.jsonl")
    assert (row["licence"], row["context"], row["domain"]) == ("MIT AND CC0-1.0", "list", "files")
