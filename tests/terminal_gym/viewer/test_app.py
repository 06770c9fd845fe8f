"""The viewer over real HTTP: what it answers, to whom, and what can never leave it."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.hostile import MARKUP, SHOWN, hostile
from kit.served import Served, serve
from kit.trajectories import trajectory

from terminal_gym.errors import BadSetting, ForgedRecord
from terminal_gym.trajectory.asciicast import lines
from terminal_gym.trajectory.store import DATA, INDEX, Run, RunWriter
from terminal_gym.viewer.app import HEADERS, as_url, is_ours, viewer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with RunWriter(tmp_path / "run", {}) as run:
        run.append(hostile())
        for attempt in range(3):
            run.append(trajectory(attempt=attempt))
    return tmp_path / "run"


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    with serve(folder) as running:
        yield running


PATHS = ("/", "/static/main.js", "/api/run", "/api/episodes/0/cast", "/api/episodes/99", "/no/such/page")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}, {"sec_fetch_site": "cross-site"}])
def test_every_answer_carries_the_policy(served: Served, path: str, headers: dict[str, str]) -> None:
    found = served.get(path, **headers)
    assert {name: found.headers.get(name) for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in found.headers
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "'unsafe-eval'" not in policy


@pytest.mark.parametrize(
    ("header", "ours"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("LOCALHOST:1", True),
        ("192.168.1.7:80", True),  # an address cannot be made to point elsewhere
        (socket.gethostname(), True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:8080", False),
        ("localhost.evil.example", False),
        ("", False),
        ("127.0.0.1@evil.example", False),
    ],
)
def test_hosts(header: str, ours: bool) -> None:
    assert is_ours(header, host="127.0.0.1") is ours


def test_a_rebound_name_another_site_and_a_writing_method_are_refused(served: Served) -> None:
    assert served.get("/api/run").status == 200
    for refused in ("evil.example", f"evil.example:{served.port}", ""):
        found = served.get("/api/run", host=refused)
        assert found.status in (400, 421)
        assert b"folder" not in found.body
    assert served.get("/api/run", sec_fetch_site="cross-site").status == 403
    assert served.get("/", sec_fetch_site="cross-site").status == 200  # a link from elsewhere
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert served.get("/api/run", method=method).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/vendor/../../app.py",
        "/static/main.js%00.css",
        "/static/",
        "/static/vendor",
        "/../run.json",
        "/api/episodes/../../run.json",
        "/api/episodes/-1",
        "/api/episodes/1e0/cast",
        "/api/episodes/99999999999999999999999",
    ],
)
def test_no_path_leads_out(served: Served, path: str) -> None:
    found = served.get(path)
    assert found.status == 404
    assert b"import" not in found.body
    assert b"root:" not in found.body


def test_hostile_text_leaves_as_ascii_json(served: Served) -> None:
    for path in ("/api/attempts", "/api/episodes/0", "/api/tasks", "/api/run"):
        found = served.get(path)
        assert found.headers["content-type"] == "application/json"
        found.body.decode("ascii")
        json.loads(found.body)
    assert served.get("/api/episodes/0").json()["instruction"].startswith(MARKUP)
    page = served.get("/").body.decode()
    assert MARKUP not in page
    assert "run.json" not in page


def test_the_recording_is_the_asciicast(served: Served, folder: Path) -> None:
    found = served.get("/api/episodes/0/cast")
    played = hostile()
    assert found.body.decode().splitlines() == list(lines(played.frames, rows=24, cols=80))
    assert SHOWN in found.body.decode()
    assert found.headers["content-type"] == "application/x-asciicast"


def test_a_list_is_filtered_sorted_and_paged_by_the_address(served: Served) -> None:
    found = served.get("/api/attempts?sort=attempt&descending=true&limit=2&text=made-up").json()
    assert [row["attempt"] for row in found["rows"]] == [2, 1]
    assert found["found"] == 3
    assert set(found["rows"][0]) >= {
        "n",
        "task",
        "attempt",
        "agent",
        "model",
        "status",
        "limit",
        "steps",
        "seconds",
        "tokens",
    }
    for wrong in ("offset=one", "sort=nothing", "status=solved", "limit=100000"):
        refused = served.get(f"/api/attempts?{wrong}")
        assert refused.status in (400, 404), wrong
        assert refused.json()["error"]


def test_an_episode_knows_the_other_attempts_at_its_task(served: Served) -> None:
    found = served.get("/api/episodes/2").json()
    assert [one["attempt"] for one in found["attempts"]] == [0, 1, 2]
    assert found["n"] == 2


def test_what_is_written_now_is_seen_at_the_next_look(served: Served, folder: Path) -> None:
    with RunWriter(folder, Run(folder).settings) as run:
        run.append(trajectory(attempt=7))
        assert served.get("/api/run").json()["revision"] == 5
        assert served.get("/api/episodes/4").json()["attempt"] == 7


def test_a_damaged_record_is_named_and_the_rest_is_shown(served: Served, folder: Path) -> None:
    row = Run(folder).rows[1]
    with (folder / DATA).open("r+b") as data:
        data.seek(row.offset + row.length // 2)
        data.write(b"\0\0\0\0")
    for path in ("/api/episodes/1", "/api/episodes/1/cast"):
        found = served.get(path)
        assert found.status == 500
        assert found.json()["kind"] == "ForgedRecord"
        assert "damaged" in found.json()["error"]
    assert served.get("/api/episodes/2").status == 200
    (folder / DATA).unlink()
    assert served.get("/api/episodes/2").json()["kind"] == "StoreError"
    assert served.get("/api/attempts").status == 200


def test_a_folder_that_vanishes_is_said(served: Served, folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    found = served.get("/api/run")
    assert found.status in (400, 500)
    assert "run" in found.json()["error"]


def test_no_run_and_a_forged_one_are_refused_at_the_start(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="holds no run"):
        viewer(tmp_path)
    index = folder / INDEX
    index.write_bytes(index.read_bytes().replace(b'"failed"', b'"passed"'))
    with pytest.raises(ForgedRecord):
        viewer(folder)


def test_addresses_to_open() -> None:
    assert as_url("127.0.0.1", 80) == "http://127.0.0.1:80/"
    assert as_url("::1", 80) == "http://[::1]:80/"
    assert as_url("0.0.0.0", 80) == "http://127.0.0.1:80/"
