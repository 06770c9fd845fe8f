"""Every family of grounded templates, one task of one, and the tests of a task.

Each family looks at what stands in /app of a built image and gives one task, or None where the repository gives it
nothing to ask. What is wanted is computed by other code than the solution's. No test holds a line of the repository:
it knows the wanted content by its hash.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from env_registry.pipeline.families_code import CODE
from env_registry.pipeline.families_files import FILES
from env_registry.pipeline.families_first import FIRST
from env_registry.pipeline.tree import Drawn, Family, Tree

FAMILIES: Mapping[str, Family] = {family.__name__: family for family in (*FIRST, *FILES, *CODE)}
# What they ask about lies beside the repository's files: the same task over another repository is solved as well.
UNGROUNDED = frozenset({"restore"})
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")


def drawn(tree: Tree, family: str, *, seed: int) -> Drawn | None:
    """Return the task that a seed draws from a family, None where the repository gives nothing to ask.

    The same tree, family and seed give the same task.
    """
    rng = random.Random(f"{tree.name} {family} {seed}")
    texts = {path: text for path, text in tree.texts.items() if _PLAIN.fullmatch(path)}
    odd = tree.others | (set(tree.texts) - set(texts))
    plain = Tree(tree.name, texts, odd, tree.products if all(map(_PLAIN.fullmatch, tree.products)) else ())
    return FAMILIES[family](plain, rng)


def tests_of(one: Drawn) -> tuple[str, list[str]]:
    """(text of test_outputs.py, names of its tests): each output's lines, by their hash, or its bytes where exact."""
    parts, names = [_HEAD], []
    for path, text in one.outputs.items():
        name = f"test_{re.sub(r'[^a-z0-9]+', '_', PurePosixPath(path).name.lower()).strip('_')}"
        names.append(name)
        known = text.encode() if one.is_exact else "\n".join(text.splitlines()).encode()
        found = "body" if one.is_exact else 'b"\\n".join(body.splitlines())'
        parts.append(
            f"def {name}():\n    body = Path({path!r}).read_bytes()\n"
            f"    assert hashlib.sha256({found}).hexdigest() == {hashlib.sha256(known).hexdigest()!r}\n"
        )
    return "\n\n".join(parts), names


_HEAD = '''"""The final state: what was asked for, and nothing else."""

import hashlib
from pathlib import Path
'''
