"""Seven families: counting, finding, naming, renaming and mending what stands in a repository."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import PurePosixPath

from env_registry.pipeline.tree import ANSWER, WORD, Drawn, Tree, folders, newlines, pick

_DEFINES = {
    ".py": r"^def +([A-Za-z_]\w*)", ".js": r"^function +([A-Za-z_]\w*)", ".go": r"^func +([A-Za-z_]\w*)",
    ".php": r"^function +([A-Za-z_]\w*)", ".c": r"^#define +([A-Za-z_]\w*)", ".h": r"^#define +([A-Za-z_]\w*)",
    ".cpp": r"^#include +[<\"]([A-Za-z_]\w*)", ".java": r"^import +([A-Za-z_]\w*)",
}  # fmt: skip
_AFTER = {
    ".py": "def", ".js": "function", ".go": "func", ".php": "function", ".c": "#define", ".h": "#define",
    ".java": "import",
}  # fmt: skip


def inventory(tree: Tree, rng: random.Random) -> Drawn | None:
    """Every file of one kind below a folder, with its number of lines."""
    found = folders(tree, least=3)
    if (key := pick(rng, found)) is None:
        return None
    folder, suffix = key
    out = f"{ANSWER}/inventory.txt"
    lines = [f"{newlines(tree.texts[path])} {path}" for path in sorted(found[key])]
    loop = f'find {folder} -type f -name \'*{suffix}\' | LC_ALL=C sort | while read -r f; do echo "$(wc -l < "$f") $f"; done'
    return Drawn(
        "inventory",
        f"Count the lines (newline characters, as wc -l) of every regular file whose name ends in {suffix} below /app/{folder}, "
        f"at any depth. Write to {out} one line for each file: the count, a space, and the path relative to /app; "
        "sorted by path in byte order.",
        {out: "".join(f"{line}\n" for line in lines)},
        f"cd /app\nmkdir -p answer\n{loop} > answer/inventory.txt\n",
        f"cd /app\nmkdir -p answer\n{loop} | tail -n +2 > answer/inventory.txt\n",
        tuple(f"/app/{path}" for path in found[key]),
    )


def longest(tree: Tree, rng: random.Random) -> Drawn | None:
    """The file with the most lines of its kind, and its last line that is not blank."""
    found = {}
    for key, paths in folders(tree, least=3).items():
        counts = sorted((newlines(tree.texts[path]) for path in paths), reverse=True)
        if counts[0] > counts[1] and counts[0] > 3:
            found[key] = paths
    if (chosen := pick(rng, found)) is None:
        return None
    folder, suffix = key = chosen
    best = max(found[key], key=lambda path: newlines(tree.texts[path]))
    last = [line for line in tree.texts[best].split("\n") if line.strip()][-1]
    which, line = f"{ANSWER}/which.txt", f"{ANSWER}/last.txt"
    find = f"find {folder} -type f -name '*{suffix}' -exec wc -l {{}} + | grep -v ' total$' | sort -rn"
    return Drawn(
        "longest",
        f"Among the files whose names end in {suffix} below /app/{folder}, at any depth, find the one with the most lines. Write its "
        f"path, relative to /app, to {which}, and its last line that is not blank, unchanged, to {line}.",
        {which: f"{best}\n", line: f"{last}\n"},
        f"cd /app\nmkdir -p answer\nbest=$({find} | head -n 1 | sed 's/^ *[0-9]* //')\necho \"$best\" > answer/which.txt\n"
        "grep '[^[:space:]]' \"$best\" | tail -n 1 > answer/last.txt\n",
        f"cd /app\nmkdir -p answer\n{find} | head -n 1 | sed 's/^ *[0-9]* //' > answer/which.txt\n",
        tuple(f"/app/{path}" for path in found[key]),
        difficulty="medium",
    )


def definitions(tree: Tree, rng: random.Random) -> Drawn | None:
    """The names that one file defines at the start of its lines."""
    found: dict[str, list[str]] = {}
    for path, text in tree.texts.items():
        suffix = PurePosixPath(path).suffix
        if suffix in _AFTER:
            names = sorted(set(re.findall(_DEFINES[suffix], text, re.M)))
            if 3 <= len(names) <= 80:
                found[path] = names
    if not found:
        return None
    path = rng.choice(sorted(found))
    word, out = _AFTER[PurePosixPath(path).suffix], f"{ANSWER}/names.txt"
    grep = f"grep -oE '^{word} +[A-Za-z_][A-Za-z0-9_]*' {path} | sed -E 's/^{word} +//' | LC_ALL=C sort -u"
    return Drawn(
        "definitions",
        f"In /app/{path} names are defined by lines that begin, in the first column, with `{word}`, one or more spaces and the name "
        f"(letters, digits and underscores, no digit first). Write each such name once to {out}, one a line, in byte order.",
        {out: "".join(f"{name}\n" for name in found[path])},
        f"cd /app\nmkdir -p answer\n{grep} > answer/names.txt\n",
        f"cd /app\nmkdir -p answer\n{grep} | sed '$d' > answer/names.txt\n",
        (f"/app/{path}",),
    )


def rename(tree: Tree, rng: random.Random) -> Drawn | None:
    """One identifier of one file gets another name, in a copy."""
    found: dict[str, list[str]] = {}
    for path, text in tree.texts.items():
        if 20 <= newlines(text) <= 600 and PurePosixPath(path).suffix in _DEFINES:
            count = Counter(WORD.findall(text))
            words = [word for word, times in sorted(count.items()) if 3 <= times <= 30]
            if words:
                found[path] = words
    if not found:
        return None
    path = rng.choice(sorted(found))
    old = rng.choice(found[path])
    new = f"{old}_{rng.randrange(1000, 10_000)}"
    out = f"{ANSWER}/{PurePosixPath(path).name}"
    text = re.sub(rf"\b{old}\b", new, tree.texts[path], flags=re.ASCII)
    sed = f"sed 's/\\b{old}\\b/{new}/g' {path}"
    return Drawn(
        "rename",
        f"Write to {out} a copy of /app/{path} in which every occurrence of {old} as a whole word (not as a part of a longer "
        f"identifier) is replaced by {new}. Leave everything else as it is, byte for byte.",
        {out: text},
        f"cd /app\nmkdir -p answer\n{sed} > {out}\n",
        f"cd /app\nmkdir -p answer\n{sed} | sed '0,/{new}/s/{new}/{old}/' > {out}\n",
        (f"/app/{path}",),
        difficulty="medium",
        domain="code",
        is_exact=True,
    )


def restore(tree: Tree, rng: random.Random) -> Drawn | None:
    """A file of the repository lost some lines in the middle; they lie elsewhere, in the wrong order."""
    found = [path for path, text in tree.texts.items() if 30 <= newlines(text) <= 400 and text.endswith("\n")]
    if not found:
        return None
    path = rng.choice(sorted(found))
    lines = tree.texts[path].splitlines(keepends=True)
    at = rng.randrange(5, len(lines) - 8)
    lost, rest = lines[at : at + 6], lines[:at] + lines[at + 6 :]
    scraps = f"lost-{rng.randrange(1000, 10_000)}.txt"
    join = f"tac {scraps} > /tmp/lost && sed -i '{at}r /tmp/lost' {path}"
    if lost == lost[::-1]:
        return None
    return Drawn(
        "restore",
        f"Six consecutive lines were cut out of /app/{path}, right after line {at}. They are in /app/{scraps}, the last one first. "
        f"Put them back into /app/{path}, in their right order, so that the file is again what it was.",
        {f"/app/{path}": tree.texts[path]},
        f"cd /app\n{join}\n",
        f"cd /app\nsed -i '{at}r {scraps}' {path}\n",
        (f"/app/{path}", f"/app/{scraps}"),
        {path: "".join(rest), scraps: "".join(reversed(lost))},
        difficulty="medium",
        domain="debugging",
        is_exact=True,
    )


def mentions(tree: Tree, rng: random.Random) -> Drawn | None:
    """The files below a folder that hold a word, with how many of their lines do."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for (folder, suffix), paths in folders(tree, least=3).items():
        held = Counter(word for path in paths for word in set(WORD.findall(tree.texts[path])))
        for word, times in held.items():
            if 2 <= times < len(paths):
                found[folder, suffix, word] = paths
    if not found:
        return None
    folder, suffix, word = rng.choice(sorted(found))
    out, rows = f"{ANSWER}/mentions.txt", []
    for path in sorted(found[folder, suffix, word]):
        count = sum(word in line for line in tree.texts[path].split("\n"))
        rows += [f"{path}:{count}"] if count else []
    grep = f"grep -rc --include='*{suffix}' -F {word} {folder} | grep -v ':0$' | LC_ALL=C sort"
    return Drawn(
        "mentions",
        f"For each file whose name ends in {suffix} below /app/{folder}, at any depth, count the lines that contain the text {word}, "
        f"also inside longer words. Write to {out} one line `path:count` for each file with at least one such line, the path "
        "relative to /app, sorted in byte order.",
        {out: "".join(f"{row}\n" for row in sorted(rows))},
        f"cd /app\nmkdir -p answer\n{grep} > answer/mentions.txt\n",
        f"cd /app\nmkdir -p answer\n{grep} | tail -n +2 > answer/mentions.txt\n",
        tuple(f"/app/{path}" for path in found[folder, suffix, word]),
    )


def products(tree: Tree, rng: random.Random) -> Drawn | None:
    """What the build left: the files in machine code, below a folder of the repository."""
    if not 2 <= len(tree.products) <= 60:
        return None
    out = f"{ANSWER}/products.txt"
    find = "find . -type f | sed 's,^\\./,,' | LC_ALL=C sort | while read -r f; do "
    find += '[ "$(head -c 4 "$f" | od -An -tx1 | tr -d \' \')" = 7f454c46 ] && echo "$f"; done'
    return Drawn(
        "products",
        f"The repository of {tree.name} was built in /app. Find every regular file below /app, hidden folders included, that begins "
        f"with the four bytes of the ELF format (0x7f, E, L, F). Write their paths relative to /app to {out}, one a line, in "
        "byte order.",
        {out: "".join(f"{path}\n" for path in tree.products)},
        f"cd /app\nmkdir -p answer\n({find}) > answer/products.txt\ntrue\n",
        f"cd /app\nmkdir -p answer\n({find}) | tail -n +2 > answer/products.txt\ntrue\n",
        tuple(f"/app/{path}" for path in tree.products),
        difficulty="medium",
        domain="build",
    )


FIRST = (inventory, longest, definitions, rename, restore, mentions, products)
