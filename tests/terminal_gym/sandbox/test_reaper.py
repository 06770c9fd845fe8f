"""Owner leases: what is known to be dead, and what is not known."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from terminal_gym.sandbox.reaper import Owner, current_owner, is_orphan


def test_a_lease_survives_its_text() -> None:
    assert Owner.parse(str(current_owner())) == current_owner()


def test_we_are_alive() -> None:
    assert not current_owner().is_dead()
    assert not is_orphan(str(current_owner()))


def test_a_reused_process_id_is_somebody_else() -> None:
    assert replace(current_owner(), start=current_owner().start + 1).is_dead()


def test_an_earlier_boot_is_dead() -> None:
    assert replace(current_owner(), boot="another").is_dead()


def test_other_machines_and_other_process_spaces_are_not_judged() -> None:
    gone = replace(current_owner(), pid=2**22 + 1)
    assert gone.is_dead()
    assert not replace(gone, host="elsewhere", boot="another").is_dead()
    assert not replace(gone, space="1").is_dead()


@pytest.mark.parametrize("text", [None, "", "a:b:c", "a:b:c:x:y", "a:b:c:1:2:3", "a:b:c:1:²"])
def test_what_is_no_lease_is_nobodys(text: str | None) -> None:
    assert not is_orphan(text)


def test_a_process_dies_before_it_is_waited_for() -> None:
    program = "from terminal_gym.sandbox.reaper import current_owner as c; print(c(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        lease = child.stdout.readline().strip()
        assert Owner.parse(lease) is not None
        assert not is_orphan(lease)
        child.kill()
        child.stdout.read()  # its end of the pipe is closed: it is a zombie now, or about to be
        while not is_orphan(lease):
            pass
