"""What strangers put into archives, and what is let in."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kit.repositories import MIT, repository
from kit.sparse import sparse_tar

from env_registry.pipeline.collect import Collector, slug
from env_registry.pipeline.facts import decoded, main_language, text_files
from env_registry.pipeline.licences import licence_of
from env_registry.pipeline.run import run
from env_registry.pipeline.settings import Collect, Settings, read_settings
from env_registry.pipeline.sources import IndexUnreachable, fetch, pip_index
from env_registry.pipeline.stage import Rejected, Table
from env_registry.pipeline.unpack import unpack
from terminal_gym.errors import BadSetting, BadTaskFormat, UnknownName

LIMIT = 1 << 20


def tar_of(
    *entries: tuple[str, bytes], mode: str = "w:gz", more: Callable[[tarfile.TarFile], None] | None = None
) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for name, body in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
        if more:
            more(tar)
    return made.getvalue()


def special(name: str, kind: bytes, link: str = "") -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        tar.addfile(entry)

    return add


def reason(act: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as no:
        act()
    return no.value.reason


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_the_top_folder_is_taken_off(tmp_path: Path, mode: str) -> None:
    unpack(
        tar_of(("six-1.0/six.py", b"x = 1\n"), mode=mode), tmp_path / "a", limit_bytes=LIMIT, limit_files=9
    )
    assert (tmp_path / "a" / "six.py").read_text() == "x = 1\n"


def test_a_zip_is_read_as_well(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("p-1/a/b.py", "x = 1\n")
    unpack(made.getvalue(), tmp_path / "a", limit_bytes=LIMIT, limit_files=9)
    assert (tmp_path / "a" / "a" / "b.py").read_text() == "x = 1\n"


BAD_ARCHIVES = {
    "a parent's path": (tar_of(("p/../../../evil", b"x")), "unsafe"),
    "an absolute path": (tar_of(("/etc/evil", b"x")), "unsafe"),
    "a folder below a link": (
        tar_of(
            ("p/a", b"x"),
            more=lambda tar: (
                special("p/l", tarfile.SYMTYPE, "a")(tar),
                special("p/l/b", tarfile.DIRTYPE)(tar),
            ),
        ),
        "unsafe",
    ),  # type: ignore[func-returns-value]
    "twenty files": (tar_of(*((f"p/{n}", b"") for n in range(20))), "too-many-files"),
    "five megabytes of zeros": (tar_of(("p/zeros", bytes(5 << 20))), "too-large"),
    "a terabyte that is a hole": (sparse_tar("p/zeros", 1 << 40, b"x"), "too-large"),
    "cut off": (tar_of(("p/a", b"x"))[:40], "unreadable"),
    "gzip's mark alone": (b"\x1f\x8bnot gzip at all", "unreadable"),
    "a zip's mark alone": (b"PK\3\4 nor a zip", "unreadable"),
    "text": (b"just some text" * 100, "unreadable"),
    "nothing": (tar_of(), "empty"),
    "a folder alone": (tar_of(more=special("p", tarfile.DIRTYPE)), "empty"),
}


# By name: gzip writes the second into its head, and two workers must collect the same tests.
@pytest.mark.parametrize(("data", "wanted"), BAD_ARCHIVES.values(), ids=list(BAD_ARCHIVES))
def test_a_bad_archive_is_rejected_and_nothing_leaves_its_folder(
    tmp_path: Path, data: bytes, wanted: str
) -> None:
    assert reason(lambda: unpack(data, tmp_path / "in" / "a", limit_bytes=LIMIT, limit_files=10)) == wanted
    assert {path.name for path in tmp_path.iterdir()} <= {"in"}


def test_links_that_lead_out_and_devices_are_left_out(tmp_path: Path) -> None:
    def more(tar: tarfile.TarFile) -> None:
        special("p/out", tarfile.SYMTYPE, "../../etc/passwd")(tar)
        special("p/root", tarfile.SYMTYPE, "/etc/passwd")(tar)
        special("p/in", tarfile.SYMTYPE, "a.py")(tar)
        special("p/pipe", tarfile.FIFOTYPE)(tar)

    left = unpack(tar_of(("p/a.py", b"x"), more=more), tmp_path / "a", limit_bytes=LIMIT, limit_files=9)
    assert sorted(left) == ["/src/out", "/src/pipe", "/src/root"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["a.py", "in"]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"caf\xc3\xa9", "utf-8"),
        (b"caf\xe9", "latin-1"),
        ("café".encode("utf-16"), "utf-16"),
        (b"\xef\xbb\xbfx", "utf-8-sig"),
    ],
)
def test_odd_encodings_are_read(body: bytes, encoding: str) -> None:
    assert decoded(body)[1] == encoding


def test_language_and_licence(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    assert main_language(list(text_files(folder))) == "c"
    assert licence_of(folder) == ("MIT", "LICENSE")
    (folder / "LICENSE").write_text("All rights reserved.\n")
    assert licence_of(folder) == ("", "")
    (folder / "package.json").write_text('{"license": "BSD-3-Clause"}')
    assert licence_of(folder) == ("BSD-3-Clause", "package.json")


def settings_of(root: Path, *sources: str, **collect: object) -> Settings:
    return Settings(root, root / "work", sources, collect=Collect(**collect))  # type: ignore[arg-type]


def test_what_is_let_in_and_why_the_rest_is_not(tmp_path: Path) -> None:
    repository(tmp_path, "one")
    repository(tmp_path, "copy", makefile="all:\n\ttrue\n")
    repository(tmp_path, "other", word="distance")
    repository(tmp_path, "closed", word="closed", licence="All rights reserved.\n")
    (tmp_path / "hollow").mkdir()
    (tmp_path / "blob").mkdir()
    (tmp_path / "blob" / "data").write_bytes(b"\0" * 100)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "data").write_bytes(b"\1" * (2 << 20))
    (tmp_path / "prose").mkdir()
    (tmp_path / "prose" / "notes.txt").write_text("no code")
    (tmp_path / "prose" / "LICENSE").write_text(MIT)
    names = ["one", "copy", "other", "closed", "hollow", "blob", "big", "prose", "missing"]
    settings = settings_of(tmp_path, *(f"path:{name}" for name in names), size_mb=1)
    run(settings, ["collect"])
    found = {
        key.removeprefix("path:"): row.reason for key, row in Table(settings.work, "collect").rows.items()
    }
    assert found == {
        "one": "", "copy": "near-copy", "other": "", "closed": "licence", "hollow": "empty", "blob": "binary",
        "big": "too-large", "prose": "language", "missing": "unfetchable",
    }  # fmt: skip
    kept = sorted(path.name for path in (settings.work / "sources").iterdir())
    assert kept == sorted([slug("path:one"), slug("path:other")])


def test_copies_are_known_again_after_a_restart(tmp_path: Path) -> None:
    repository(tmp_path, "one")
    repository(tmp_path, "two")
    run(settings_of(tmp_path, "path:one"), ["collect"])
    settings = settings_of(tmp_path, "path:one", "path:two")
    with pytest.raises(Rejected, match="path:one"):
        Collector(settings, Table(settings.work, "collect"))("path:two")


def test_a_git_repository_comes_without_its_hooks_and_submodules(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    (folder / ".gitmodules").write_text('[submodule "gone"]\n\tpath = gone\n\turl = ./nowhere\n')
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    fetched = fetch(f"git:{folder}", folder=tmp_path, limit_bytes=LIMIT, timeout_s=30)
    assert len(fetched.version) == 40
    unpack(fetched.data, tmp_path / "out", limit_bytes=LIMIT, limit_files=99)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".gitmodules",
        "LICENSE",
        "Makefile",
        "README.md",
        "src",
    ]


@pytest.mark.parametrize("spec", ["pypi:../../etc", "npm:--registry=x", "debian:a b", "git:/nowhere/at/all"])
def test_names_that_are_none_are_not_asked_for(tmp_path: Path, spec: str) -> None:
    assert reason(lambda: fetch(spec, folder=tmp_path, limit_bytes=LIMIT, timeout_s=10)) == "unfetchable"


def test_a_silent_index_is_the_machines_fault_and_a_missing_package_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    pip_index.cache_clear()
    try:
        assert (
            reason(lambda: fetch("pypi:gone", folder=tmp_path, limit_bytes=LIMIT, timeout_s=5))
            == "unfetchable"
        )
        served = tar_of(("six-1.0/six.py", b"x = 1\n"))
        (tmp_path / "simple" / "six").mkdir(parents=True)
        (tmp_path / "six-1.0.tar.gz").write_bytes(served)
        page = {"files": [{"filename": "six-1.0.tar.gz", "url": "../../six-1.0.tar.gz", "size": len(served)}]}
        (tmp_path / "simple" / "six" / "index.html").write_text(json.dumps(page))
        found = fetch("pypi:six", folder=tmp_path, limit_bytes=LIMIT, timeout_s=5)
        assert (found.data, found.version) == (served, "six-1.0.tar.gz")
        assert reason(lambda: fetch("pypi:six", folder=tmp_path, limit_bytes=10, timeout_s=5)) == "too-large"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(IndexUnreachable):
        fetch("pypi:six", folder=tmp_path, limit_bytes=LIMIT, timeout_s=5)
    pip_index.cache_clear()


@pytest.mark.parametrize(
    ("tool", "says", "is_machines"),
    [
        ("npm", "npm error code ENOTFOUND", True),
        ("npm", "npm error code E503", True),
        ("npm", "npm error code E404", False),
        ("apt-get", "E: Could not get lock /lists/lock. It is held by process 1 (apt-get)", True),
        ("apt-get", "Err:1 somewhere  Temporary failure resolving 'somewhere'", True),
        ("apt-get", "E: Unable to find a source package for six", False),
        ("git", "fatal: unable to access 'x': Could not resolve host: x", True),
        ("git", "fatal: repository 'x' does not exist", False),
    ],
)
def test_an_outage_is_not_held_against_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, says: str, is_machines: bool
) -> None:
    fake = tmp_path / tool
    fake.write_text(f'#!/bin/sh\ncase "$*" in *update) exit 0;; esac\ncat >&2 <<END\n{says}\nEND\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    kind = {"npm": "npm", "apt-get": "debian", "git": "git"}[tool]
    with pytest.raises(IndexUnreachable if is_machines else Rejected):
        fetch(f"{kind}:six", folder=tmp_path, limit_bytes=LIMIT, timeout_s=10)


def test_a_search_of_github_gives_sources_with_stars(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "add", "."], check=True)
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]
    subprocess.run(["git", "-C", str(folder), *commit], check=True)
    ours = {"clone_url": str(folder), "stargazers_count": 7, "fork": False, "archived": False}
    items = [ours, {**ours, "clone_url": "b", "fork": True}, {**ours, "clone_url": "c", "archived": True}]
    config, dump = tmp_path / "c.yaml", tmp_path / "search.json"
    config.write_text("work: work\ndumps: [search.json]\n")
    for text in (
        json.dumps({"total_count": 3, "items": items}),
        json.dumps([{"items": items[:1]}, {"items": items[1:]}]),
        "\n".join(json.dumps(item) for item in items),
    ):
        dump.write_text(text)
        assert read_settings(config).stars == {f"git:{folder}": 7}
    settings = read_settings(config)
    run(settings, ["collect"])
    assert Table(settings.work, "collect").rows[f"git:{folder}"].cells["stars"] == 7
    for bad in ("nothing", "[3]", '{"items": [{"clone_url": 3}]}', '{"items": 3}'):
        dump.write_text(bad)
        with pytest.raises(BadTaskFormat, match=r"search\.json"):
            read_settings(config)


def test_settings_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "sources: [path:a]\nlists: [more.txt]\nbuild: {timeout_s: 5, bases: {make: x}}\nscore: {threshold: 0}\n"
    )
    (tmp_path / "more.txt").write_text("# ours\npath:b  # the second\n\npath:a\n")
    read = read_settings(path)
    assert read.sources == ("path:a", "path:b")
    assert read.score.threshold == 0
    assert (read.build.timeout_s, read.build.bases, read.work) == (5.0, {"make": "x"}, tmp_path / "pipeline")
    path.write_text("sources: [path:a]\nbuild: {timeout: 5}\n")
    with pytest.raises(BadTaskFormat, match="timeout_s"):
        read_settings(path)
    path.write_text("sources: []\n")
    with pytest.raises(BadSetting, match="no source"):
        read_settings(path)
    with pytest.raises(UnknownName, match="pypi"):
        fetch("pypy:six", folder=tmp_path, limit_bytes=LIMIT, timeout_s=1)
