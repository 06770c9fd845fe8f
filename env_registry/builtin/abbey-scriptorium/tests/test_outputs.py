"""The machine, after everything on it was stopped: users, groups, owners and permission bits."""

import os
import stat
import subprocess
from pathlib import Path

BOOKS = Path("/srv/scriptorium")


def table(path):
    """Rows of /etc/passwd and the like, by their first field."""
    rows = [line.split(":") for line in Path(path).read_text().splitlines() if ":" in line]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row for row in rows}


def users():
    return {name: (int(row[2]), int(row[3]), row[5], row[6]) for name, row in table("/etc/passwd").items()}


def groups():
    return {name: (int(row[2]), set(filter(None, row[3].split(",")))) for name, row in table("/etc/group").items()}


def owner(path):
    """(user, group, permission bits) of what is there, links not followed."""
    found = os.lstat(path)
    name = {uid: user for user, (uid, *_) in users().items()}.get(found.st_uid, found.st_uid)
    group = {gid: group for group, (gid, _) in groups().items()}.get(found.st_gid, found.st_gid)
    return name, group, stat.S_IMODE(found.st_mode)


def test_the_brothers_and_sisters():
    assert groups()["scribes"][1] == {"anselm", "bede", "clara"}
    assert groups()["illuminators"][1] == {"clara"}
    shadow = table("/etc/shadow")
    for name in ("anselm", "bede", "clara"):
        uid, gid, home, shell = users()[name]
        assert uid > 0
        assert (home, shell) == (f"/home/{name}", "/bin/bash")
        assert gid == groups()[name][0]
        assert shadow[name][1] in ("!", "!!", "*", "!*")
    ids = [row[0] for row in users().values()]
    assert len(set(ids)) == len(ids)


def test_homes_are_private():
    for name in ("anselm", "bede", "clara"):
        assert Path("/home", name).is_dir()
        user, group, mode = owner(f"/home/{name}")
        assert (user, group) == (name, name)
        assert mode & 0o077 == 0
        assert mode & 0o700 == 0o700


def test_the_books():
    user, group, mode = owner(BOOKS)
    assert (user, group) == ("root", "scribes")
    assert mode & 0o2777 == 0o2770


def test_the_gold():
    assert owner(BOOKS / "gold") == ("root", "illuminators", 0o3770)


def test_the_rule_stays():
    rule = BOOKS / "rule.txt"
    assert rule.is_file()
    assert not rule.is_symlink()
    assert rule.read_bytes() == Path("/app/desk/rule.txt").read_bytes()
    assert len(rule.read_bytes()) == 126
    user, group, mode = owner(rule)
    assert (user, group, mode) == ("root", "scribes", 0o640)
    # The folder can be written by scribes: only the sticky bit keeps them from deleting what root owns.
    assert owner(BOOKS)[2] == 0o3770


def test_the_bell_rings_for_everyone():
    bell = Path("/usr/local/bin/bell")
    user, _, mode = owner(bell)
    assert user == "root"
    assert bell.is_file()
    assert not bell.is_symlink()
    assert mode & 0o555 == 0o555
    assert mode & 0o7022 == 0
    rung = subprocess.run([str(bell), "3"], capture_output=True, text=True, timeout=10)
    assert rung.stdout == "dong dong dong \n"


def test_odo_has_left():
    assert "odo" not in users()
    assert "odo" not in groups()
    assert not Path("/home/odo").exists()
    kept = {
        "/srv/herbs": 0o755, "/srv/herbs/sage.txt": 0o640, "/srv/herbs/dried roots": 0o2750,
        "/srv/herbs/dried roots/valerian.txt": 0o644, "/srv/bees/see-also": 0o777,
    }
    for path, mode in kept.items():
        assert owner(path) == ("anselm", "anselm", mode), path
    assert owner("/srv/bees") == ("root", "anselm", 0o755)
    assert owner("/srv/bees/hives.txt") == ("root", "root", 0o644)
    assert Path("/srv/herbs/sage.txt").read_text() == "Sage, for the throat.\n"
