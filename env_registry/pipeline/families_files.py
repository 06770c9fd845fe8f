"""Families about whole files: sums, sizes, tables, lines that files share, copies that are changed."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import re
from collections import Counter
from pathlib import PurePosixPath

from env_registry.pipeline.tree import ANSWER, WORD, Drawn, Tree, folders, newlines, pick, written

_BYTES = "in byte order"


def _chosen(tree: Tree, rng: random.Random, *, least: int, most: int) -> str | None:
    """A file with so many lines, each ended by a newline."""
    found = [p for p, text in tree.texts.items() if least <= newlines(text) <= most and text.endswith("\n")]
    return rng.choice(sorted(found)) if found else None


def checksums(tree: Tree, rng: random.Random) -> Drawn | None:
    """The SHA-256 of every file of a kind."""
    found = folders(tree, least=2)
    if (key := pick(rng, found)) is None:
        return None
    (folder, suffix), paths = key, sorted(found[key])
    return written(
        "checksums",
        f"Make a list of the SHA-256 sums of every regular file whose name ends in {suffix} below /app/{folder}, at any depth: one "
        f"line for each, the sum in lower-case hexadecimal digits, two spaces, the path relative to /app; by path {_BYTES}.",
        "sums.txt",
        [f"{hashlib.sha256(tree.texts[path].encode()).hexdigest()}  {path}" for path in paths],
        f"find {folder} -type f -name '*{suffix}' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum",
        paths,
        domain="security",
    )


def largest(tree: Tree, rng: random.Random) -> Drawn | None:
    """The three largest files of a kind."""
    found = {
        key: paths
        for key, paths in folders(tree, least=4).items()
        if len({len(tree.texts[path]) for path in paths}) == len(paths)
    }
    if (key := pick(rng, found)) is None:
        return None
    (folder, suffix), paths = key, sorted(found[key], key=lambda path: -len(tree.texts[path]))
    return written(
        "largest",
        f"Find the three largest files, in bytes, of those whose names end in {suffix} below /app/{folder}, at any depth. One line "
        "for each, the largest first: its size in bytes, a space, its path relative to /app.",
        "largest.txt",
        [f"{len(tree.texts[path])} {path}" for path in paths[:3]],
        f"find {folder} -type f -name '*{suffix}' -printf '%s %p\\n' | sort -k1,1nr | head -n 3",
        paths,
        domain="files",
    )


def suffixes(tree: Tree, rng: random.Random) -> Drawn | None:
    """How many files of each kind a folder holds."""
    every = [*tree.texts, *tree.others]
    tops = Counter(path.split("/")[0] for path in every if "/" in path)
    own = {path.split("/")[0] for path in tree.texts}  # what the build alone filled is alike in many projects
    names = sorted(name for name, times in tops.items() if 5 <= times <= 2_000 and not name.startswith("."))
    found = {}
    for name in names:
        if name not in own:
            continue
        below = [path for path in every if path.startswith(f"{name}/")]
        kinds = Counter(s for path in below if re.fullmatch(r"\.[a-z0-9]+", s := PurePosixPath(path).suffix))
        if len(kinds) >= 2:
            found[name] = kinds
    if not found:
        return None
    name = rng.choice(sorted(found))
    return written(
        "suffixes",
        f"Count the regular files below /app/{name}, at any depth, by the last suffix of their names. Count only suffixes that are a "
        "dot and lower-case letters or digits, with at least one character before the dot. One line for each suffix: the suffix "
        f"with its dot, a space, the number of files; by suffix {_BYTES}.",
        "suffixes.txt",
        [f"{suffix} {times}" for suffix, times in sorted(found[name].items())],
        f"find {name} -type f -name '?*.*' -printf '%f\\n' | grep -oE '[^/]\\.[a-z0-9]+$' | sed 's/^.//' | LC_ALL=C sort | "
        "uniq -c | awk '{print $2, $1}'",
        (name,),
        domain="files",
    )  # fmt: skip


def table(tree: Tree, rng: random.Random) -> Drawn | None:
    """A CSV table of files, lines and bytes, with a sum."""
    found = folders(tree, least=3)
    if (key := pick(rng, found)) is None:
        return None
    (folder, suffix), paths = key, sorted(found[key])
    rows = [(path, newlines(tree.texts[path]), len(tree.texts[path])) for path in paths]
    total = ("total", sum(row[1] for row in rows), sum(row[2] for row in rows))
    loop = f"find {folder} -type f -name '*{suffix}' | LC_ALL=C sort | while read -r f; do "
    loop += 'echo "$f,$(wc -l < "$f"),$(wc -c < "$f")"; done'
    return written(
        "table",
        f"Make a CSV table of the regular files whose names end in {suffix} below /app/{folder}, at any depth. The header is "
        f"`path,lines,bytes`; then one row for each file by path {_BYTES}: its path relative to /app, its newline characters, its "
        "bytes; then a last row `total,LINES,BYTES` with the sums.",
        "table.csv",
        ["path,lines,bytes", *(",".join(map(str, row)) for row in [*rows, total])],
        f'echo path,lines,bytes; {loop} | awk -F, \'{{l += $2; b += $3; print}} END {{print "total," l "," b}}\'',
        paths,
        difficulty="medium",
        domain="data",
    )


def shared(tree: Tree, rng: random.Random) -> Drawn | None:
    """The lines that two files have in common."""
    found = []
    for paths in folders(tree, least=2).values():
        for one, other in itertools.pairwise(paths):
            both = _lines(tree.texts[one]) & _lines(tree.texts[other])
            if len(both) >= 3:
                found.append((one, other))
    if not found:
        return None
    one, other = rng.choice(sorted(set(found)))
    alike = sorted(_lines(tree.texts[one]) & _lines(tree.texts[other]))
    keep = "grep '[^[:space:]]' {} | LC_ALL=C sort -u"
    return written(
        "shared",
        f"List the lines that stand, exactly alike, both in /app/{one} and in /app/{other}, except those of white space alone: each "
        f"once, unchanged, {_BYTES}.",
        "shared.txt",
        alike,
        f"{keep.format(one)} > /tmp/one; {keep.format(other)} > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other",
        (one, other),
        difficulty="medium",
        domain="text",
    )


def _lines(text: str) -> set[str]:
    return {line for line in text.split("\n") if line.strip()}


def histogram(tree: Tree, rng: random.Random) -> Drawn | None:
    """How many lines of a file are how long."""
    if (path := _chosen(tree, rng, least=40, most=2_000)) is None:
        return None
    count = Counter(len(line) // 10 * 10 for line in tree.texts[path].split("\n")[:-1])
    awk = "{n[int(length($0) / 10) * 10]++} END {for (k in n) print k, n[k]}"
    return written(
        "histogram",
        f"Sort the lines of /app/{path} into groups by their length in characters (without the newline; a tab is one): 0 to 9, 10 "
        "to 19, and so on. For each group that has lines, write the group's lower bound, a space and the number of lines; the "
        "lowest group first.",
        "histogram.txt",
        [f"{low} {times}" for low, times in sorted(count.items())],
        f"awk '{awk}' {path} | sort -n",
        (path,),
        domain="data",
    )


def top_words(tree: Tree, rng: random.Random) -> Drawn | None:
    """The ten words that a file has most often."""
    if (path := _chosen(tree, rng, least=40, most=2_000)) is None:
        return None
    count = Counter(re.findall(r"[a-z]+", tree.texts[path].lower()))
    best = sorted(count.items(), key=lambda one: (-one[1], one[0]))[:10]
    return written(
        "top_words",
        f"A word is a longest run of the letters a to z, upper or lower case being alike. Find the ten most frequent words of "
        f"/app/{path}; of words that are equally frequent, those first that come first {_BYTES}. One line for each, the most "
        "frequent first: the number of times, a space, the word in lower case.",
        "words.txt",
        [f"{times} {word}" for word, times in best],
        f"tr 'A-Z' 'a-z' < {path} | LC_ALL=C tr -cs 'a-z' '\\n' | grep . | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2,2 | "
        "head -n 10 | awk '{print $1, $2}'",
        (path,),
        difficulty="medium",
        domain="data",
    )  # fmt: skip


def sums(tree: Tree, rng: random.Random) -> Drawn | None:
    """What the numbers of each of some files add up to."""
    found = {}
    for kind, paths in folders(tree, least=3).items():
        totals = {path: _total(tree.texts[path]) for path in paths}
        if len({total for total in totals.values() if total}) >= 2:
            found[kind] = totals
    if (key := pick(rng, found)) is None:
        return None
    folder, suffix = key
    perl = 'perl -ne \'while (/(?<![A-Za-z0-9_])([0-9]{1,6})(?![A-Za-z0-9_])/g) {$n += $1} END {print "$n"}\' "$f"'
    return written(
        "sums",
        f"A number is a run of one to six decimal digits with no letter, digit or underscore right before or after it. For each "
        f"regular file whose name ends in {suffix} below /app/{folder}, at any depth, add up its numbers. One line for each file, by "
        f"path {_BYTES}: its path relative to /app, a space, the sum, 0 where it has no number.",
        "sums.txt",
        [f"{path} {total}" for path, total in sorted(found[key].items())],
        f"find {folder} -type f -name '*{suffix}' | LC_ALL=C sort | while read -r f; do s=$({perl}); echo \"$f ${{s:-0}}\"; done",
        sorted(found[key]),
        difficulty="medium",
        domain="data",
    )  # fmt: skip


def _total(text: str) -> int:
    return sum(int(digits) for digits in re.findall(r"(?<![A-Za-z0-9_])([0-9]{1,6})(?![A-Za-z0-9_])", text))


def encode(tree: Tree, rng: random.Random) -> Drawn | None:
    """A file in Base64, behind a line with its name and size."""
    if (path := _chosen(tree, rng, least=5, most=300)) is None:
        return None
    body = tree.texts[path].encode()
    coded = base64.b64encode(body).decode()
    return written(
        "encode",
        f"Pack /app/{path} for a channel that carries letters alone. The first line is `begin {path} SIZE`, SIZE being its number of "
        "bytes; then come the bytes in Base64 (RFC 4648, with padding), 64 characters a line, the last line as long as what is "
        "left; the last line is `end`.",
        "packed.txt",
        [f"begin {path} {len(body)}", *(coded[at : at + 64] for at in range(0, len(coded), 64)), "end"],
        f'echo "begin {path} $(wc -c < {path})"; base64 -w 64 {path}; echo end',
        (path,),
        domain="data",
    )


def codemod(tree: Tree, rng: random.Random) -> Drawn | None:
    """Three identifiers of a file are renamed as a list beside it says."""
    found: dict[str, list[str]] = {}
    for path, text in tree.texts.items():
        words = [word for word, times in sorted(Counter(WORD.findall(text)).items()) if 2 <= times <= 30]
        if 30 <= newlines(text) <= 500 and len(words) >= 6 and text.endswith("\n"):
            found[path] = words
    if not found:
        return None
    path = rng.choice(sorted(found))
    olds = sorted(rng.sample(found[path], 3))
    pairs = {old: f"{old[:3]}_{rng.randrange(10_000, 100_000)}" for old in olds}
    names = f"names-{rng.randrange(1000, 10_000)}.txt"
    text = re.sub(rf"\b({'|'.join(olds)})\b", lambda hit: pairs[hit[1]], tree.texts[path], flags=re.ASCII)
    out = f"{ANSWER}/{PurePosixPath(path).name}"
    script = (
        f"cd /app\nmkdir -p answer\nsed -E 's,^(.*) (.*)$,s/\\\\b\\1\\\\b/\\2/g,' {names} {{}}> /tmp/names\n"
    )
    script += f"sed -f /tmp/names {path} > {out}\n"
    return Drawn(
        "codemod",
        f"/app/{names} has one line for each of three identifiers of /app/{path}: the old name, a space, the new one. Write to {out} "
        "a copy of the file in which every occurrence of each old name as a whole word is replaced by its new one; everything else "
        "byte for byte as it is.",
        {out: text},
        script.format(""),
        script.format("| sed '$d' "),
        (f"/app/{path}", f"/app/{names}"),
        {names: "".join(f"{old} {new}\n" for old, new in pairs.items())},
        difficulty="medium",
        domain="code",
        is_exact=True,
    )


FILES = (checksums, largest, suffixes, table, shared, histogram, top_words, sums, encode, codemod)
