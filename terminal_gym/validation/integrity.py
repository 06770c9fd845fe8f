"""Integrity flags: what a judgement on the agent's own machine could not rule out. They never change a reward."""

from __future__ import annotations

import itertools
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
    "library": re.compile(r"^/(usr/(local/)?)?lib(64|32)?/.*\.so(\.[\d.]+)?$"),
    "system_program": re.compile(r"^/(usr/(local/)?)?s?bin/[^/]+$"),
    "library_settings": re.compile(r"openssl\.cnf$|gconv-modules|/etc/locale|/usr/lib/locale/"),
}


_FOLDERS = re.compile(
    r"/(bin|sbin|etc|usr|(usr/(local/)?)?(s?bin|lib(32|64)?)|usr/lib/[\w-]+-linux-gnu|usr/local)"
)
LISTED = 100_000  # changes looked at; a machine with more is flagged for that alone


def flags(changed: Iterable[str]) -> tuple[str, ...]:
    """Return a flag per kind of sensitive path that was changed, with one example: `changed shell: '/bin/sh'`.

    A folder of the system that is among the changes while nothing below it is has been moved away, or a link stands in
    its place: `changed system_folder`.
    """
    found: dict[str, str] = {}
    paths = list(itertools.islice(changed, LISTED + 1))
    for path in paths:
        for kind, pattern in _SENSITIVE.items():
            if kind not in found and pattern.search(path):
                found[kind] = path
    parents = {path.rpartition("/")[0] for path in paths}
    hollow = [path for path in paths if path not in parents and _FOLDERS.fullmatch(path)]
    if hollow:
        found["system_folder"] = hollow[0]
    told = [f"changed {kind}: {path[:200]!r}" for kind, path in sorted(found.items())]
    return tuple([*told, f"too_many changes: over {LISTED}"] if len(paths) > LISTED else told)
