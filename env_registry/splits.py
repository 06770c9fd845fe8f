"""Which set a repository belongs to, for good: by its name's hash, so that all its instances are in one set."""

from __future__ import annotations

import hashlib

from env_registry.templates.draft import TENTHS, Split


def split_of(repository: str) -> Split:
    """Return the set of a repository: one tenth test, one tenth val, the rest train.

    >>> split_of("pypi:six")
    'train'
    """
    return TENTHS.get(hashlib.sha256(repository.encode()).digest()[0] % 10, "train")
