"""The branches, their history and their objects, and the garden as it was agreed."""

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path("/app/garden")
BRANCHES = ("roses", "pond", "hedges", "orchard")
# subject | author | address | author date | tree without keys/
COMMON = [
    "Plan the garden|Tomé Carrow|tome@orrin.example|1710086400|fc915b9ddb19a2b458a28275b7001f98049a608d",
    "March|Greta Grimsay|greta@orrin.example|1710172800|e7a9c7750a6c9836839d4591f14ec04baa59f6a5",
    "April, and how the gate opens|Ines Carrow|ines@orrin.example|1710259200|4b677db8e8a4d1f1d03bf0e9f1e0751ba2996436",
    "May|Tomé Carrow|tome@orrin.example|1710345600|7235447b82b96c14c2891abdc027a9f1334f3f17",
    "Say where the key is|Greta Grimsay|greta@orrin.example|1710432000|eb422ec307767d18800487deb44fdf3e8dd4d6e9",
]
OWN = {
    "main": [
        "July|Tomé Carrow|tome@orrin.example|1711036800|7c5ffacba1b269d72ebb54c2f1d5d6213a9ca91d",
    ],
    "roses": [
        "Roses in the west bed|Ines Carrow|ines@orrin.example|1710518400|93c3aa2382d2d67f8209085a8c2d49c8810ebb10",
        "Thyme along the paths|Tomé Carrow|tome@orrin.example|1710604800|911b46e7fd188928a659198764d7d2e44002d8ac",
    ],
    "pond": [
        "A pond in the west bed|Greta Grimsay|greta@orrin.example|1710691200|04a1febaa220f614a23f078bc6139714eac652cb",
    ],
    "hedges": [
        "A hedge along the wall|Tomé Carrow|tome@orrin.example|1710864000|65e92be3cb12400d81ba7f197001ac955281ba81",
    ],
    "orchard": [
        "An orchard behind the wall|Greta Grimsay|greta@orrin.example|1710950400|fa546de78f30831e09d8373066d73ad2384c620c",
    ],
}
PLAN = """The garden of Carrow Manor

Beds, from the gate to the wall:
  gate bed     lavender
  east bed     beans
  west bed     roses, around a pond
  wall bed     a hornbeam hedge

Water:  a pond in the west bed
Paths:  bark, edged with thyme
"""
FILES = {
    "README.md", "plan.txt", "orchard.txt", "calendar/march.txt", "calendar/april.txt", "calendar/may.txt",
    "calendar/june.txt", "calendar/july.txt", "calendar/october.txt",
}


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


def history(git, tip):
    return git("log", "--reverse", "--format=%s|%an|%ae|%at|%T", tip).splitlines()


def test_the_branches_keep_their_history(git):
    for branch in BRANCHES:
        assert history(git, f"refs/heads/{branch}") == COMMON + OWN[branch]
    assert history(git, "refs/heads/main~4") == COMMON + OWN["main"]
    # The branches still grow from one stem: 6 on main, 5 on the branches, 4 merges.
    assert len(git("rev-list", "--all").split()) == 15


def test_the_key_is_nowhere(git):
    assert history(git, "refs/heads/orchard")[-1] == OWN["orchard"][-1]
    everything = git("cat-file", "--batch-all-objects", "--batch")
    assert "medlar" in everything
    assert "The gate opens with" not in everything
    assert not (REPOSITORY / ".git/objects/info/alternates").exists()
    assert not (REPOSITORY / "keys").exists()


def test_four_merges_in_order(git):
    tip = "refs/heads/main"
    for branch in reversed(BRANCHES):
        _, *parents = git("rev-list", "--parents", "--no-walk", tip).split()
        assert parents[1:] == [git("rev-parse", f"refs/heads/{branch}").strip()]
        assert git("log", "-1", "--format=%s", tip).strip() == f"Merge branch '{branch}'"
        tip = parents[0]
    assert history(git, tip) == COMMON + OWN["main"]


def test_the_plan_is_agreed(git):
    assert git("cat-file", "blob", "refs/heads/main:plan.txt") == PLAN
    june = "dead-head the roses\ncount the frogs\ncut the hedge, mind the wrens\n"
    assert git("cat-file", "blob", "refs/heads/main:calendar/june.txt") == june
    assert set(git("ls-tree", "-r", "--name-only", "refs/heads/main").split()) == FILES
    for branch, name in (("orchard", "orchard.txt"), ("orchard", "calendar/october.txt"), ("main~4", "calendar/july.txt")):
        blob = git("rev-parse", f"refs/heads/{branch}:{name}")
        assert git("rev-parse", f"refs/heads/main:{name}") == blob


def test_nothing_lies_around(git):
    refs = git("for-each-ref", "--format=%(refname)").split()
    assert sorted(refs) == sorted(f"refs/heads/{branch}" for branch in ("main", *BRANCHES))
    assert git("symbolic-ref", "HEAD").strip() == "refs/heads/main"
    tree = git("ls-tree", "-r", "--format=%(objectmode) %(objectname) 0\t%(path)", "refs/heads/main")
    assert git("ls-files", "--stage") == tree
    found = {path for path in REPOSITORY.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert {path.relative_to(REPOSITORY).as_posix() for path in found} == FILES
    for path in found:
        blob = git("cat-file", "blob", f"refs/heads/main:{path.relative_to(REPOSITORY).as_posix()}")
        assert path.read_text("utf-8") == blob
