"""What is fuzzed: each target takes bytes from somebody who is not trusted, and says what must hold of the answer."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import io
import itertools
import json
import math
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from kit.fuzz import Target
from kit.scripted_model import ScriptedModel
from kit.trajectories import trajectory

from terminal_gym.agents.bash import Bash
from terminal_gym.errors import BadSetting, BadTaskFormat, BuildFailed, SchemaMismatch, StoreError
from terminal_gym.llm import reply
from terminal_gym.llm.chat import Completion
from terminal_gym.llm.reply import LONGEST_WAIT_S, SUBMIT, Reply
from terminal_gym.llm.terminus_xml import terminus_xml, usable_part
from terminal_gym.sandbox.dockerfile import parse
from terminal_gym.sandbox.rootfs import BadArchive, Store, load, unpack_layer
from terminal_gym.tasks import harbor, terminal_bench, terminaltraj
from terminal_gym.tasks.manifest import read_manifest
from terminal_gym.terminal.marks import Marks
from terminal_gym.terminal.screen import Screen
from terminal_gym.trajectory.codec import from_json, to_json
from terminal_gym.trajectory.dialogue import Message, ToolCall
from terminal_gym.trajectory.record import Action, Observation, Trajectory
from terminal_gym.trajectory.salvage import salvage
from terminal_gym.trajectory.store import DATA, INDEX, Run, RunWriter
from terminal_gym.trusted_runtime.guest import unpack
from terminal_gym.validation import parsers, report
from terminal_gym.validation.artifacts import BadArtifact, filtered, without

TASKS = Path(__file__).parent / "tasks"
NONCE = "0123456789abcdef"
SEEN = Observation("$", "$", (0, 1), None, "prompt")


# ── the terminal ────────────────────────────────────────────────────────────────────────────────


def screen(data: bytes) -> None:
    """Any bytes, in any pieces, with the window resized meanwhile, give a screen of the size that was asked for."""
    rows, cols = 1 + data[0] % 40 if data else 24, 1 + data[-1] % 120 if data else 80
    shown = Screen(rows=rows, cols=cols)
    for at in range(0, len(data), 97):
        shown.feed(data[at : at + 97])
        if at % 5 == 4:
            rows, cols = 1 + data[at] % 40, 1 + data[at - 1] % 120
            shown.resize(rows, cols)
        if at % 3 == 0:
            _is_sound(shown, rows, cols)
    _is_sound(shown, rows, cols)


def _is_sound(shown: Screen, rows: int, cols: int) -> None:
    seen = shown.snapshot()
    assert seen.size == (rows, cols)
    assert len(seen.lines) == len(seen.styles) == rows
    assert 0 <= seen.cursor[0] < rows
    assert 0 <= seen.cursor[1] < cols
    assert not [line for line in seen.lines if "\n" in line or "\x1b" in line]
    for runs in seen.styles:
        assert all(0 <= run.start < run.end <= cols for run in runs)
        assert all(one.end <= next.start for one, next in itertools.pairwise(runs))
    seen.text().encode()


def marks(data: bytes) -> None:
    """Whatever is printed, marks of another session or half of one included, comes out but for our own hints."""
    watch = Marks(NONCE)
    whole = Marks(NONCE)
    pieces = b"".join(watch.feed(data[at : at + 7]) for at in range(0, len(data), 7)) + watch.flush()
    assert whole.feed(data) + whole.flush() == pieces
    assert (whole.exit_code, whole.prompts, whole.hints) == (watch.exit_code, watch.prompts, watch.hints)
    if NONCE.encode() not in data:
        assert pieces == data


# ── replies ─────────────────────────────────────────────────────────────────────────────────────


def replies(data: bytes) -> None:
    """Whatever a model says is an action or a complaint, and both can be sent and stored."""
    text = data.decode("utf-8", "surrogateescape")
    for said in (reply.terminus(text), terminus_xml(text), reply.read(text, "terminus")):
        _is_usable(said)
    part = usable_part(text)
    assert not part or terminus_xml(part).action is not None
    if "\\ud" not in text and text.isprintable():
        _is_usable(reply.read(text, "bash"))
        _is_usable(reply.read(text, "keys"))


def _is_usable(said: Reply) -> None:
    assert said.action is not None or said.complaint
    said.complaint.encode()
    assert len(said.complaint) < 100_000
    if said.action is not None:
        assert all(isinstance(keys, bytes) for keys in said.action.keys)
        assert all(0 <= wait <= LONGEST_WAIT_S for wait in said.action.waits_s)
        assert len(said.action.waits_s) in (0, len(said.action.keys))


def bash_replies(data: bytes) -> None:
    """The bash agent makes an action of anything a model says, in text or as a call of a tool."""
    text = data.decode("utf-8", "replace")
    call = ToolCall("1", "bash", text)
    for native, said in (
        (False, Message("assistant", text)),
        (True, Message("assistant", "", tool_calls=(call,))),
    ):
        model = ScriptedModel(Completion(said))
        agent = Bash(model, tools="native" if native else "fenced")
        agent.begin(terminal_bench.read_task(TASKS / "hello"))
        action = agent.act(SEEN)
        assert isinstance(action, Action)
        assert not (action.submit and SUBMIT not in text)
        assert action.command is None or action.command in text or native


# ── tasks ───────────────────────────────────────────────────────────────────────────────────────


def task_file(folder: str, file: str) -> Target:
    """A target that puts its bytes in the place of one file of a sound task folder, and reads the task."""

    def read(data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as root:
            task = Path(root, folder)
            shutil.copytree(TASKS / folder, task)
            (task / file).write_bytes(data)
            reader = {"task_17": terminaltraj, "bench2-trail": harbor, "bench2-note": harbor}.get(
                folder, terminal_bench
            )
            try:
                found = reader.read_task(task)
            except BadTaskFormat as error:
                str(error).encode("utf-8", "backslashreplace")
            else:
                assert found.content_hash() == reader.read_task(task).content_hash()

    return read


def manifest(data: bytes) -> None:
    """A manifest is references, or a line is named that is none."""
    with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as root:
        path = Path(root, "manifest.jsonl")
        path.write_bytes(data)
        try:
            refs = read_manifest(path).refs
        except (BadTaskFormat, BadSetting):
            return
        assert refs
        assert all(ref.strip() for ref in refs)


# ── the store ───────────────────────────────────────────────────────────────────────────────────

RECORD = to_json(trajectory())


def record(data: bytes) -> None:
    """A line is a record that is written as it was read, or no record."""
    try:
        played = from_json(Trajectory, data)
    except SchemaMismatch:
        return
    assert from_json(Trajectory, to_json(played)) == played or "nan" in repr(played)


def run_file(name: str) -> Target:
    """A target that puts its bytes in the place of a file of a run: it is read, refused, or repaired."""

    def read(data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as root:
            folder = Path(root, "run")
            made_run(folder)
            (folder / name).write_bytes(data)
            with contextlib.suppress(StoreError, BadSetting):
                sum(len(played.steps) for played in Run(folder))
            with contextlib.suppress(StoreError, BadSetting), RunWriter(folder, {}) as writer:
                writer.append(trajectory("TerminalTraj/another"))
            if name in (DATA, INDEX):
                salvage(folder)
                again = Run(folder)
                assert len(list(again)) == len(again)

    return read


def made_run(folder: Path) -> None:
    with RunWriter(folder, {}, sync=lambda fd: None) as writer:
        for attempt in range(2):
            writer.append(trajectory(attempt=attempt, turns=1))


# ── archives ────────────────────────────────────────────────────────────────────────────────────


def artifacts(data: bytes) -> None:
    """What crosses is a plain tar below the declared path, which the judge's machine unpacks there and nowhere else."""
    with contextlib.suppress(BadArtifact):
        without(data, ("*.pyc", "cache"))
    try:
        crossed = filtered([("/app/out", data)])
    except BadArtifact:
        return
    with tarfile.open(fileobj=io.BytesIO(crossed.tar)) as tar:
        for entry in tar:
            assert entry.name == "app/out" or entry.name.startswith("app/out/")
            assert ".." not in entry.name.split("/")
            assert entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()
            assert (entry.mode & ~0o777, entry.uid, entry.gid, entry.pax_headers) == (0, 0, 0, {})
    unpacked(crossed.tar)


def unpacked(data: bytes) -> None:
    """The guest's unpacking writes below its folder only, or says what is wrong."""
    with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as outer:
        inner = Path(outer, "a/root")
        inner.mkdir(parents=True)
        Path(outer, "a/bait").write_text("untouched")
        with contextlib.suppress(unpack.BadArchive, OSError):
            unpack.unpack(base64.b64encode(data), str(inner))
        assert [path.name for path in Path(outer).iterdir()] == ["a"]
        assert sorted(path.name for path in inner.parent.iterdir()) == ["bait", "root"]
        assert Path(outer, "a/bait").read_text() == "untouched"
        for here, folders, _ in os.walk(inner):  # or the folder itself could not be removed
            for name in folders:
                if not Path(here, name).is_symlink():
                    Path(here, name).chmod(0o700)


def tar_of(
    *entries: tuple[str, bytes, bytes, str, dict[str, str]], format: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of (name, type, body, link, pax headers), for examples."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as tar:
        for name, kind, body, link, headers in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname, entry.pax_headers = kind, len(body), link, headers
            tar.addfile(entry, io.BytesIO(body))
    return made.getvalue()


# ── reports ─────────────────────────────────────────────────────────────────────────────────────

LAYER = tar_of(("etc", tarfile.DIRTYPE, b"", "", {}), ("etc/issue", tarfile.REGTYPE, b"hello", "", {}))
MANIFEST = json.dumps(
    [{"Config": "config.json", "RepoTags": ["made-up:1"], "Layers": ["layer.tar"]}]
).encode()
DIFF_ID = f"sha256:{hashlib.sha256(LAYER).hexdigest()}"
CONFIG = json.dumps(
    {
        "config": {"Env": ["A=b"], "WorkingDir": "/", "User": "", "Labels": {"x": "y"}},
        "rootfs": {"diff_ids": [DIFF_ID]},
    }
).encode()
KEY = bytes(32)
EXPECTED = ("test_outputs.py::test_one", "test_outputs.py::test_two")
CANARY = "c" * 32


def signed_report(data: bytes) -> None:
    """A document that the judge has signed is a decision, and a pass only with every test passed and canary sung."""
    line = (
        report.REPORT
        + hmac.new(KEY, data, hashlib.sha256).hexdigest().encode()
        + b" "
        + base64.b64encode(data)
    )
    found = report.opened(b"noise\n" + line + b"\n", KEY)
    assert found is not None
    decision = report.decide(found, expected=EXPECTED, canary=CANARY)
    assert decision.status in ("passed", "failed", "broken")
    if decision.status == "passed":
        assert [check.outcome for check in decision.checks] == ["passed", "passed"]
        assert sorted(found.items) == sorted(EXPECTED)
        assert sum(outcome == "failed" and CANARY in text for *_, outcome, _, text in found.reports) == 2
    json.dumps([(check.id, check.detail) for check in decision.checks], ensure_ascii=True)


def console(data: bytes) -> None:
    """Nothing that is printed on the judge's terminal is a report, without the key."""
    assert report.opened(data, bytes(range(32))) is None


def foreign_report(data: bytes) -> None:
    """What a foreign test script leaves is results, or no verdict, by name."""
    text = data.decode("utf-8", "replace")
    for parser in parsers._PARSERS:
        with contextlib.suppress(parsers.NoVerdict):
            results = parsers.parsed(parser, text)
            assert results
            assert set(results.values()) <= {True, False}
    parsers.skipped(text)
    for as_json, as_text in ((data, None), (None, data)):
        with contextlib.suppress(parsers.NoVerdict):
            values = parsers.rewards(as_json, as_text)
            assert math.isfinite(parsers.reward_of(values))


def dockerfile(data: bytes) -> None:
    """A Dockerfile is instructions, or is refused by file and line."""
    with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as root:
        path = Path(root, "Dockerfile")
        path.write_bytes(data)
        with contextlib.suppress(BuildFailed):
            list(parse(path))


def layer(data: bytes) -> None:
    """A layer of an image is unpacked below its folder only, or refused."""
    with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as outer:
        inner = Path(outer, "a/layer")
        inner.mkdir(parents=True)
        with contextlib.suppress(BadArchive, OSError):
            unpack_layer(io.BytesIO(data), inner)
        assert [path.name for path in Path(outer).iterdir()] == ["a"]
        assert [path.name for path in inner.parent.iterdir()] == ["layer"]


def image(data: bytes) -> None:
    """The description of an image in an archive is followed, or refused; nothing is written outside of the store."""
    with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as outer:
        given, store = Path(outer, "given"), Path(outer, "a/store")
        given.mkdir()
        (given / "layer.tar").write_bytes(LAYER)
        (given / "manifest.json").write_bytes(MANIFEST)
        (given / "config.json").write_bytes(data)
        with contextlib.suppress(BadArchive):
            load(Store(store), given)
        assert sorted(path.name for path in Path(outer).iterdir()) in (["a", "given"], ["given"])
        assert sorted(path.name for path in store.parent.glob("*")) in (["store"], [])
        assert {path.name for path in store.glob("*")} <= {"images", "layers"}


TARGETS: dict[str, Target] = {
    "screen": screen,
    "marks": marks,
    "replies": replies,
    "record": record,
    "artifacts": artifacts,
    "unpacked": unpacked,
    "signed_report": signed_report,
    "foreign_report": foreign_report,
    "manifest": manifest,
    "layer": layer,
}
