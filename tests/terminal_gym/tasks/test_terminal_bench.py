"""Terminal-Bench 1.0 folders: what is read, and where each mistake is reported."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.folders import YAML, task_folder

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.task import Limits
from terminal_gym.tasks.terminal_bench import read_task

HELLO = Path(__file__).parents[2] / "kit/tasks/hello"
OURS = """\
instruction: Write /app/out.txt.
max_agent_timeout_sec: 900.5
max_test_timeout_sec: 180
parser_name: pytest
my_own_key: [1, 2]
terminal_gym:
  mode: artifacts
  artifacts: [/app/out.txt]
  tested_code_user: root
  own_conftest: true
  workdir: /app
  domain: files
  expected: [test_outputs.py::test_out]
  host: {allowed: true, commands: [git]}
  limits: {steps: 7, cpus: 0.5, memory_mb: 64, pids: 16, disk_mb: 32, network: true}
"""
TOKENS = [
    "[",
    "}",
    ": ",
    "- ",
    "\t",
    "&a",
    "*a",
    "<<: *a",
    "!!set",
    "!!timestamp x",
    "|",
    "'",
    "\x00",
    "---\n",
    "\ufeff",
]


def refused(folder: Path) -> BadTaskFormat:
    with pytest.raises(BadTaskFormat) as caught:
        read_task(folder)
    return caught.value


def test_hello_is_read_whole() -> None:
    task = read_task(HELLO)
    assert str(task.ref) == "TerminalTraj/hello"
    assert task.validator.mode == "artifacts"
    assert task.validator.artifacts == ("/app/greeting.txt",)
    assert task.image.name == "debian:bookworm"
    assert task.image.context is None
    assert task.solution is not None
    assert task.partial is not None
    assert task.partial.script is not None


def test_folder_without_our_block_gets_upstreams_defaults(tmp_path: Path) -> None:
    task = read_task(task_folder(tmp_path))
    assert (task.limits, task.validator.mode, task.validator.expected) == (Limits(), "restart", ())
    assert task.workdir is None
    assert task.solution is None


def test_our_block_is_read(tmp_path: Path) -> None:
    task = read_task(task_folder(tmp_path, yaml=OURS))
    assert task.limits == Limits(900.5, 180.0, 7, 0.5, 64, 16, 32, True)
    assert task.validator.tested_code_user == "root"
    assert task.validator.own_conftest
    assert task.validator.expected == ("test_outputs.py::test_out",)
    assert (task.image.host_allowed, task.image.host_commands) == (True, ("git",))
    assert task.workdir == "/app"
    assert task.metadata["domain"] == "files"
    assert task.metadata["my_own_key"] == [1, 2]


@pytest.mark.parametrize(
    ("yaml", "line", "field"),
    [
        ("difficulty: easy\n", 1, "instruction"),
        ("difficulty: easy\ninstruction: '  '\n", 2, "instruction"),
        ("difficulty: easy\ninstruction: 7\n", 2, "instruction"),
        ('instruction: "\\ud800"\n', 1, "instruction"),
        ("instruction: x\ndifficulty: simple\n", 2, "difficulty"),
        (YAML + "max_agent_timeout_sec: -1\n", 3, "max_agent_timeout_sec"),
        (YAML + "max_agent_timeout_sec: .nan\n", 3, "max_agent_timeout_sec"),
        (YAML + "max_test_timeout_sec: '60'\n", 3, "max_test_timeout_sec"),
        (YAML + "max_test_timeout_sec: true\n", 3, "max_test_timeout_sec"),
        (YAML + "tags: [a, 3]\n", 3, "tags"),
        (YAML + "parser_name: swebench\n", 3, "parser_name"),
        (YAML + "parser_name: pytets\n", 3, "parser_name"),
        (YAML + "terminal_gym: [a]\n", 3, "terminal_gym"),
        (YAML + "terminal_gym:\n  mdoe: live\n", 4, "terminal_gym.mdoe"),
        (YAML + "terminal_gym:\n  mode: reboot\n", 4, "terminal_gym.mode"),
        (YAML + "terminal_gym:\n  mode: artifacts\n", 4, "terminal_gym.artifacts"),
        (YAML + "terminal_gym:\n  artifacts: [/app/x]\n", 4, "terminal_gym.artifacts"),
        (YAML + "terminal_gym:\n  workdir: app\n", 4, "terminal_gym.workdir"),
        (YAML + "terminal_gym:\n  workdir: /a/../b\n", 4, "terminal_gym.workdir"),
        (YAML + "terminal_gym:\n  workdir: /tg/guest\n", 4, "terminal_gym.workdir"),
        (YAML + "terminal_gym:\n  workdir: 5\n", 4, "terminal_gym.workdir"),
        (YAML + "terminal_gym:\n  limits:\n    steps: 0\n", 5, "terminal_gym.limits.steps"),
        (YAML + "terminal_gym:\n  limits:\n    stepz: 1\n", 5, "terminal_gym.limits.stepz"),
        (YAML + "terminal_gym:\n  limits: {pids: 1.5}\n", 4, "terminal_gym.limits.pids"),
        (YAML + "terminal_gym:\n  host: {allowed: 1}\n", 4, "terminal_gym.host.allowed"),
        (YAML + "terminal_gym:\n  expected: [test_other.py::test_x]\n", 4, "terminal_gym.expected"),
        (YAML + "terminal_gym:\n  expected: [test_outputs.py]\n", 4, "terminal_gym.expected"),
    ],
)
def test_a_wrong_field_is_reported_with_its_line(tmp_path: Path, yaml: str, line: int, field: str) -> None:
    error = refused(task_folder(tmp_path, yaml=yaml))
    assert (error.path.name, error.line) == ("task.yaml", line), str(error)
    assert error.field == field


@given(text=st.lists(st.sampled_from([*OURS.splitlines(True), *TOKENS]), max_size=12).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = task_folder(Path(root), yaml=text)
        with contextlib.suppress(BadTaskFormat):
            assert read_task(folder).instruction


def test_nearest_key_is_named(tmp_path: Path) -> None:
    assert "'artifacts'" in str(refused(task_folder(tmp_path, yaml=YAML + "terminal_gym: {artefacts: []}\n")))


@pytest.mark.parametrize(
    ("file", "body", "line"),
    [
        ("task_dot_yaml", "instruction: [\n", 2),
        ("task_dot_yaml", "a: b\n\tc: d\n", 2),
        ("task_dot_yaml", "instruction: a\ninstruction: b\n", 2),
        ("task_dot_yaml", "- a\n", 1),
        ("task_dot_yaml", "", 1),
        ("task_dot_yaml", b"instruction: a\nauthor_name: \xff\n", 2),
        ("task_dot_yaml", "instruction: a\nwhen: 2026-99-99\n", None),
        ("task_dot_yaml", "instruction: " + "[" * 5000, 1),
        ("task_dot_yaml", "instruction: a\nx: !!python/object/apply:os.system [id]\n", 2),
        ("task_dot_yaml", "instruction: a\n!!timestamp x: y\n", None),
        ("Dockerfile", "# nothing\n", 1),
        ("item_info_dot_json", '{\n"repo": }\n', 2),
        ("solution_dot_yaml", "- command: 5\n", 1),
        ("solution_dot_yaml", "- command: ls\n- 7\n", 2),
        ("solution_dot_yaml", "- command: ls\n  blok: true\n", 2),
        ("solution_dot_yaml", "- command: ls\n  max_timeout_sec: 0\n", 2),
    ],
)
def test_an_unreadable_file_is_reported(
    tmp_path: Path, file: str, body: str | bytes, line: int | None
) -> None:
    error = refused(task_folder(tmp_path, **{file: body}))
    assert error.path.name == file.replace("_dot_", ".")
    assert error.line == line, str(error)


@pytest.mark.parametrize("name", ["task.yaml", "Dockerfile", "tests/test_outputs.py"])
def test_a_missing_file_is_reported(tmp_path: Path, name: str) -> None:
    folder = task_folder(tmp_path)
    (folder / name).unlink()
    assert refused(folder).path in (folder / name, folder / "tests")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "no such folder" in str(refused(tmp_path / "nope"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "loop"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    folder = task_folder(tmp_path)
    (folder / "loop").symlink_to(target)
    assert "outside the folder" in str(refused(folder))


def test_a_link_inside_the_folder_is_kept(tmp_path: Path) -> None:
    folder = task_folder(tmp_path)
    (folder / "tests/again.py").symlink_to("test_outputs.py")
    read_task(folder)


def test_a_device_is_refused(tmp_path: Path) -> None:
    folder = task_folder(tmp_path)
    os.mkfifo(folder / "tests/pipe")
    assert "neither a file" in str(refused(folder))


def test_a_name_that_is_no_id_is_refused(tmp_path: Path) -> None:
    assert "cannot be an id" in str(refused(task_folder(tmp_path, name="my task")))
    read_task(task_folder(tmp_path, name="crack-7z-hash.hard"))


def test_a_relative_folder_has_its_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(task_folder(tmp_path))
    assert read_task(Path()).ref.name == read_task(Path("tests/..")).ref.name == "demo"


# ── image ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("dockerfile", "name"),
    [
        ("FROM debian:bookworm\n", "debian:bookworm"),
        (
            "# syntax=docker/dockerfile:1\n\nfrom yizhilll/tb_container-39:tmux_v2",
            "yizhilll/tb_container-39:tmux_v2",
        ),
        ("FROM debian:bookworm AS base\n", "debian:bookworm"),
    ],
)
def test_one_from_line_is_the_image_itself(tmp_path: Path, dockerfile: str, name: str) -> None:
    recipe = read_task(task_folder(tmp_path, Dockerfile=dockerfile)).image
    assert (recipe.name, recipe.context) == (name, None)


@pytest.mark.parametrize(
    "dockerfile", ["FROM debian:bookworm\nWORKDIR /app\n", "ARG B\nFROM $B\n", "FROM a AS x\nFROM x\n"]
)
def test_any_other_dockerfile_is_built(tmp_path: Path, dockerfile: str) -> None:
    task = read_task(task_folder(tmp_path, name="My_Task", Dockerfile=dockerfile))
    assert task.image.context == task.folder
    assert task.image.name.startswith("tgym/my-task:")
    assert len(task.image.name.rpartition(":")[2]) == 12


def test_what_judges_or_solves_never_names_the_image(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, Dockerfile="FROM a\nCOPY . /app\n")
    before = read_task(folder).image
    for name in (
        "solution.sh",
        "solution.yaml",
        "partial.sh",
        "run-tests.sh",
        "item_info.json",
        "validity.json",
    ):
        (folder / name).write_text("[]")
    (folder / "tests/test_outputs.py").write_text("def test_out(): assert 1")
    assert read_task(folder).image == before
    (folder / "data.txt").write_text("new")
    assert read_task(folder).image.name != before.name


def test_the_hash_knows_neither_place_nor_time(tmp_path: Path) -> None:
    here = task_folder(tmp_path / "a", Dockerfile="FROM a\nCOPY . /app\n", data_dot_txt="x")
    there = tmp_path / "b/demo"
    shutil.copytree(here, there, copy_function=shutil.copy)
    for path in there.rglob("*"):
        os.utime(path, (1, 1))
    first, second = read_task(here), read_task(there)
    assert first.content_hash() == second.content_hash()
    assert first.image.name == second.image.name
    (there / "data.txt").chmod(0o755)
    assert read_task(there).content_hash() != first.content_hash()


def test_the_hash_changes_with_the_tests_and_the_limits(tmp_path: Path) -> None:
    hashes = {
        read_task(task_folder(tmp_path / "a")).content_hash(),
        read_task(task_folder(tmp_path / "b", yaml=YAML + "max_test_timeout_sec: 9\n")).content_hash(),
        read_task(
            task_folder(tmp_path / "c", tests__test_outputs_dot_py="def test_out(): ...")
        ).content_hash(),
        read_task(task_folder(tmp_path / "d", Dockerfile="FROM other\n")).content_hash(),
    }
    assert len(hashes) == 4


# ── solutions, provenance ───────────────────────────────────────────────────────────────────────


def test_a_script_wins_over_keystrokes(tmp_path: Path) -> None:
    keys = "- {command: vim}\n- {command: C-c, append_enter: false, block: true, max_timeout_sec: 5}\n"
    task = read_task(task_folder(tmp_path, solution_dot_yaml=keys))
    assert task.solution is not None
    assert [k.command for k in task.solution.keystrokes] == ["vim", "C-c"]
    assert task.solution.keystrokes[1].block
    assert task.solution.keystrokes[1].max_timeout_s == 5.0
    (task.folder / "solution.sh").write_text("true\n")
    again = read_task(task.folder).solution
    assert again is not None
    assert again.script == "true\n"


def test_provenance_is_kept(tmp_path: Path) -> None:
    task = read_task(task_folder(tmp_path, item_info_dot_json='{"repo": "a/b_7"}'))
    assert task.metadata["item_info"] == {"repo": "a/b_7"}
