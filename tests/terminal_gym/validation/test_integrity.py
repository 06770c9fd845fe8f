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
    ],
)
def test_a_sensitive_path_is_flagged(path: str, kind: str) -> None:
    assert any(flag.startswith(f"changed {kind}: ") for flag in flags([path]))


def test_work_is_not_flagged_and_names_are_shown_inert() -> None:
    assert flags(["/app", "/app/out.json", "/root/.bash_history", "/tmp/x", "/etc/hosts.d/x"]) == ()
    assert "\x1b" not in "".join(flags(["/usr/bin/\x1b[2J"]))
