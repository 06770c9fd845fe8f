"""Integrity flags: what a judgement on the agent's own machine could not rule out. They never change a reward."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SENSITIVE = {
    "loader": re.compile(
        r"^/etc/ld\.so|^/(usr/)?lib(64|32)?/(.*/)?ld-[^/]*\.so|^/(usr/)?lib(64|32)?/.*lib(c|pthread|dl)[.-]"
    ),
    "name_service": re.compile(r"^/etc/(nsswitch\.conf|passwd|group|hosts|resolv\.conf)$|/libnss_"),
    "interpreter": re.compile(r"/bin/(python|perl|ruby|node|php|lua|java)[^/]*$|/lib/python[\d.]*/"),
    "site_packages": re.compile(r"/(site|dist)-packages/|\.pth$|/(site|user)customize\.py$"),
    "shell": re.compile(r"/bin/(ba|da|a|z|k)?sh$|/bin/(busybox|env)$"),
    "system_program": re.compile(r"^/(usr/(local/)?)?s?bin/[^/]+$"),
    "library_settings": re.compile(r"openssl\.cnf$|gconv-modules|/etc/locale|/usr/lib/locale/"),
}


def flags(changed: Iterable[str]) -> tuple[str, ...]:
    """Return a flag per kind of sensitive path that was changed, with one example: `changed shell: /bin/sh`."""
    found: dict[str, str] = {}
    for path in changed:
        for kind, pattern in _SENSITIVE.items():
            if kind not in found and pattern.search(path):
                found[kind] = path
    return tuple(f"changed {kind}: {path[:200]!r}" for kind, path in sorted(found.items()))
