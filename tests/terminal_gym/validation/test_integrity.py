"""Flags name what was changed, one example a kind."""

import pytest

from terminal_gym.validation.integrity import flags


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc/ld.so.preload", "loader"),
        ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "loader"),
        ("/etc/nsswitch.conf", "name_service"),
        ("/usr/local/bin/python3", "interpreter"),
        ("/usr/lib/python3/dist-packages/x.pth", "site_packages"),
        ("/bin/sh", "shell"),
        ("/usr/bin/grep", "system_program"),
        ("/etc/ssl/openssl.cnf", "library_settings"),
        ("/usr/lib/x86_64-linux-gnu/libpcre2-8.so.0.11.2", "library"),
        ("/usr/bin", "system_folder"),
    ],
)
def test_a_sensitive_path_is_flagged(path: str, kind: str) -> None:
    assert any(flag.startswith(f"changed {kind}: ") for flag in flags([path]))


def test_work_is_not_flagged_and_names_are_shown_inert() -> None:
    assert flags(["/app", "/app/out.json", "/root/.bash_history", "/tmp/x", "/etc/hosts.d/x"]) == ()
    assert "\x1b" not in "".join(flags(["/usr/bin/\x1b[2J"]))


def test_a_folder_of_the_system_is_flagged_only_where_nothing_below_it_has_changed() -> None:
    told = flags(["/usr", "/usr/bin", "/usr/bin/grep", "/etc", "/etc/motd"])
    assert told == ("changed system_program: '/usr/bin/grep'",)
    assert flags(["/usr", "/usr/bin", "/opt", "/opt/bin"]) == ("changed system_folder: '/usr/bin'",)


def test_a_flood_of_changes_hides_nothing() -> None:
    flood = (f"/aaa/{number}" for number in range(99_990))
    assert "changed system_program: '/usr/bin/grep'" in flags([*flood, "/usr/bin/grep"])
    assert flags(f"/aaa/{number}" for number in range(100_001)) == ("too_many changes: over 100000",)
