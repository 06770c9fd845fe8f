"""The culprit, the repair on top of an untouched history, and the clock all day long."""

import os
import random
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path("/app/clock")
TIP = "82477532e011aee8e15ce0ee19756d3174bb345c"
CULPRIT = "9008a36622c2fa2b210ea60d7e13ea25c71291be"


@pytest.fixture()
def git(tmp_path):
    """A function that runs git on the repository's refs, index and objects, but never with its configuration.

    Git would start programs that a repository's own configuration names; so a bare repository made here lends its.
    """
    bare = tmp_path / "judge.git"
    env = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_NO_REPLACE_OBJECTS": "1"}
    theirs = {
        "GIT_DIR": str(bare),
        "GIT_OBJECT_DIRECTORY": str(REPOSITORY / ".git/objects"),
        "GIT_INDEX_FILE": str(REPOSITORY / ".git/index"),
    }

    def run(*words, **more):
        command = ["git", "--no-pager", *words]
        ran = subprocess.run(command, env={**os.environ, **env, **more}, capture_output=True, timeout=20)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode("utf-8", "replace")

    run("init", "--quiet", "--bare", str(bare))
    assert not (REPOSITORY / ".git").is_symlink()
    for path in [REPOSITORY / ".git/HEAD", REPOSITORY / ".git/packed-refs", *(REPOSITORY / ".git/refs").rglob("*")]:
        if path.is_file():
            copy = bare / path.relative_to(REPOSITORY / ".git")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    run("fsck", "--full", "--no-dangling", **theirs)  # every object is what its name says
    return lambda *words: run(*words, **theirs)


def right(hour, minute):
    strokes = (hour % 12 or 12) if minute == 0 else int(minute == 30)
    small, large = (hour % 12 * 60 + minute) / 2, minute * 6
    return f"small hand {small:g}, large hand {large:g}, strokes {strokes}\n"


def test_the_culprit_is_found():
    assert Path("/app/culprit.txt").read_text().strip() == CULPRIT


def test_one_commit_repairs_it(git):
    assert git("rev-parse", "main^").strip() == TIP
    assert git("rev-list", "--parents", "--no-walk", "main").split()[1:] == [TIP]
    assert git("diff-tree", "-r", "--no-commit-id", "--name-only", "main").split() == ["clock.py"]
    message = git("cat-file", "commit", "main").split("\n\n", 1)[1]
    assert message.rstrip().split("\n")[-1] == f"Fixes: {CULPRIT}"
    assert git("symbolic-ref", "HEAD").strip() == "refs/heads/main"


def test_the_clock_is_right_at_all_hours(git, tmp_path):
    for name in ("clock.py", "gears.py"):
        (tmp_path / name).write_text(git("cat-file", "blob", f"main:{name}"), "utf-8")
    rng = random.Random(1730)
    times = [(hour, minute) for hour in range(24) for minute in (0, 30, rng.randrange(60))]
    for hour, minute in times:
        command = ["python3", "clock.py", f"{hour:02}:{minute:02}"]
        shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=10).stdout
        assert shown == right(hour, minute), f"{hour:02}:{minute:02}"


def test_the_repair_is_tagged(git):
    assert git("cat-file", "-t", "v1.1").strip() == "tag"
    assert git("rev-parse", "v1.1^{commit}") == git("rev-parse", "main")
    assert git("rev-parse", "main^").strip() == TIP
