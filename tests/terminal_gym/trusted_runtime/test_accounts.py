"""passwd and group read by hand, as text from a stranger."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.trusted_runtime.guest import accounts
from terminal_gym.trusted_runtime.guest.accounts import Account, resolve


def told(account: Account) -> tuple[object, ...]:
    return (account.uid, account.gid, account.groups, account.name, account.home)


@pytest.fixture
def etc(tmp_path: Path) -> str:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nann:x:1000:50:Ann:/home/ann:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\nstaff:x:50:\nwheel:x:10:bob,ann\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, [], "root", "/root")),
        ("ann", Account(1000, 50, [10], "ann", "/home/ann")),
        ("1000", Account(1000, 50, [10], "ann", "/home/ann")),
        ("ann:wheel", Account(1000, 10, [], "ann", "/home/ann")),
        ("7:8", Account(7, 8, [], "7", "/")),
        ("7", Account(7, 0, [], "7", "/")),
    ],
)
def test_who_is_meant(etc: str, user: str, account: Account) -> None:
    assert told(resolve(user, etc)) == told(account)


@pytest.mark.parametrize("user", ["eve", "ann:eve", "eve:0"])
def test_an_unknown_name_is_an_error(etc: str, user: str) -> None:
    with pytest.raises(LookupError, match="eve"):
        resolve(user, etc)


def test_root_needs_no_files(tmp_path: Path) -> None:
    assert told(resolve("", str(tmp_path / "none"))) == (0, 0, [], "root", "/root")


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "passwd")
    (tmp_path / "group").symlink_to("/dev/zero")
    thread = threading.Thread(target=resolve, args=("", str(tmp_path)), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


@given(text=st.binary(max_size=200))
def test_garbage_never_breaks_it(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    etc = tmp_path_factory.mktemp("etc")
    (etc / "passwd").write_bytes(text)
    (etc / "group").write_bytes(text)
    assert resolve("5:6", str(etc)).uid == 5


def test_a_uid_that_is_not_mapped_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    for kind in ("uid", "gid"):
        (tmp_path / "self" / f"{kind}_map").write_text("         0       1000          1\n")
    accounts.check_mapped(Account(0, 0, [], "root", "/"), str(tmp_path))
    with pytest.raises(LookupError, match="not mapped"):
        accounts.check_mapped(Account(5, 0, [], "ann", "/"), str(tmp_path))
    accounts.check_mapped(Account(5, 5, [], "ann", "/"), str(tmp_path / "no-proc"))
