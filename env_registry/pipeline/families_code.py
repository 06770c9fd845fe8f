"""Families about what stands in the files: code, tests, settings, documents, and what a build made of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import PurePosixPath

from env_registry.pipeline.tree import WORD, Drawn, Tree, folders, newlines, pick, written

_IMPORTS = {  # suffix → (how the lines begin, the name's characters)
    ".py": ("(import|from) ", "[A-Za-z0-9_]+"),
    ".c": ("#include <", "[A-Za-z0-9_./+-]+"),
    ".h": ("#include <", "[A-Za-z0-9_./+-]+"),
    ".cpp": ("#include <", "[A-Za-z0-9_./+-]+"),
    ".cc": ("#include <", "[A-Za-z0-9_./+-]+"),
    ".hpp": ("#include <", "[A-Za-z0-9_./+-]+"),
    ".java": ("import ", "[A-Za-z0-9_.]+"),
    ".php": ("use ", r"[A-Za-z0-9_\\]+"),
}
_TESTS = {".py": " *def test", ".go": "func Test", ".js": " *(it|test)\\(", ".php": " *public function test"}
_CALLED = {".py": "def", ".js": "function", ".go": "func", ".php": "function"}
_BLOCK = {".py": "def ", ".js": "function ", ".go": "func "}
_REMARKS = {".py": "#", ".js": "//", ".go": "//", ".java": "//", ".cpp": "//", ".hpp": "//", ".sh": "#", ".cfg": "#", ".toml": "#"}  # fmt: skip
_BUILT = (".o", ".a", ".so", ".lo", ".la", ".d", ".class", ".jar", ".pyc")
_BYTES = "in byte order"


def imports(tree: Tree, rng: random.Random) -> Drawn | None:
    """What the files of a kind import, and how many of their lines do."""
    found, kinds = {}, folders(tree, least=2)
    for (folder, suffix), paths in kinds.items():
        if suffix in _IMPORTS:
            begin, name = _IMPORTS[suffix]
            hits = [
                re.match(f"{begin}({name})", line) for path in paths for line in tree.texts[path].split("\n")
            ]
            count = Counter(hit[hit.lastindex or 0] for hit in hits if hit)
            if len(count) >= 3:
                found[folder, suffix] = count
    if (key := pick(rng, found)) is None:
        return None
    folder, suffix = key
    begin, name = _IMPORTS[suffix]
    shown = begin.replace("(import|from) ", "import ` or `from ")
    return written(
        "imports",
        f"In files whose names end in {suffix} below /app/{folder}, at any depth, look at the lines that begin, in the first column, "
        f"with `{shown}` and take the longest run of characters of {name} right after it, where there is one. One line for each name "
        f"so found: the number of lines that have it, a space, the name; by name {_BYTES}.",
        "imports.txt",
        [f"{times} {one}" for one, times in sorted(found[key].items())],
        f"find {folder} -type f -name '*{suffix}' -print0 | xargs -0 grep -hoE '^{begin}{name}' | sed -E 's/^{begin}//' | "
        "LC_ALL=C sort | uniq -c | awk '{print $1, $2}'",
        kinds[key],
        difficulty="medium",
        domain="code",
    )  # fmt: skip


def test_census(tree: Tree, rng: random.Random) -> Drawn | None:
    """How many tests each file of tests has."""
    found = {}
    for (folder, suffix), paths in folders(tree, least=2).items():
        if suffix in _TESTS:
            rows = {path: len(re.findall(f"^{_TESTS[suffix]}", tree.texts[path], re.M)) for path in paths}
            if sum(1 for times in rows.values() if times) >= 2:
                found[folder, suffix] = rows
    if (key := pick(rng, found)) is None:
        return None
    folder, suffix = key
    ranked = sorted(found[key].items(), key=lambda row: (-row[1], row[0]))
    return written(
        "test_census",
        f"How many tests has each file? Below /app/{folder}, at any depth, in files whose names end in {suffix}, count the lines that "
        f"match the extended regular expression `^{_TESTS[suffix]}`. One line for each file that has any: the count, a space, the "
        f"path relative to /app; the highest count first, equal ones by path {_BYTES}.",
        "tests.txt",
        [f"{times} {path}" for path, times in ranked if times],
        f"find {folder} -type f -name '*{suffix}' -print0 | xargs -0 grep -HcE '^{_TESTS[suffix]}' | sed -E 's/^(.*):([0-9]+)$/\\2 "
        "\\1/' | grep -v '^0 ' | LC_ALL=C sort -k1,1nr -k2,2",
        [path for path, _ in ranked],
        domain="testing",
    )


def callers(tree: Tree, rng: random.Random) -> Drawn | None:
    """Where a function is called."""
    found: dict[tuple[str, str, str], int] = {}
    kinds = folders(tree, least=2)
    for (folder, suffix), paths in kinds.items():
        if suffix not in _CALLED:
            continue
        texts = "\n".join(tree.texts[path] for path in paths)
        for name in sorted(set(re.findall(rf"^ *{_CALLED[suffix]} +([A-Za-z_]\w{{3,}})", texts, re.M)))[:40]:
            times = sum(bool(re.search(rf"\b{name}\(", line)) for line in texts.split("\n"))
            if 3 <= times <= 40:
                found[folder, suffix, name] = times
    if not found:
        return None
    folder, suffix, name = rng.choice(sorted(found))
    paths, rows = sorted(kinds[folder, suffix]), []
    for path in paths:
        for number, line in enumerate(tree.texts[path].split("\n"), 1):
            rows += [(path, number)] if re.search(rf"\b{name}\(", line) else []
    return written(
        "callers",
        f"Find every line of the files whose names end in {suffix} below /app/{folder}, at any depth, in which the whole word {name} is "
        "followed at once by an opening parenthesis, be it a call or the definition. One line for each: `path:number`, the path "
        f"relative to /app, lines counted from 1; by path {_BYTES}, within a file by number.",
        "callers.txt",
        [f"{path}:{number}" for path, number in rows],
        f"find {folder} -type f -name '*{suffix}' -print0 | xargs -0 grep -Hn '\\b{name}(' | sed -E 's/^([^:]*:[0-9]+):.*/\\1/' | "
        "LC_ALL=C sort -t: -k1,1 -k2,2n",
        paths,
        difficulty="medium",
        domain="code",
    )  # fmt: skip


_LICENCE = re.compile(r"(licen[cs]e|copying|notice)[^/]*$", re.IGNORECASE)  # the same in many projects


def constants(tree: Tree, rng: random.Random) -> Drawn | None:
    """The names in capitals of one file, with how often they stand there."""
    found = {}
    for path, text in tree.texts.items():
        count = Counter(re.findall(r"\b[A-Z][A-Z0-9_]{3,}\b", text, re.ASCII))
        if PurePosixPath(path).suffix and 4 <= len(count) <= 80 and not _LICENCE.search(path):
            found[path] = count
    if not found:
        return None
    path = rng.choice(sorted(found))
    rows = sorted(found[path].items(), key=lambda row: (-row[1], row[0]))
    return written(
        "constants",
        f"List the names in capitals of /app/{path}: whole words of at least four characters, the first one of A to Z, the others of A "
        "to Z, 0 to 9 and the underscore. One line for each: how often it occurs, a space, the name; the most frequent first, "
        f"equally frequent ones {_BYTES}.",
        "constants.txt",
        [f"{times} {name}" for name, times in rows],
        f"grep -oE '\\b[A-Z][A-Z0-9_]{{3,}}\\b' {path} | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2,2 | awk '{{print $1, $2}}'",
        (path,),
        domain="code",
    )  # fmt: skip


def uncommented(tree: Tree, rng: random.Random) -> Drawn | None:
    """A file without its remarks and blank lines."""
    found = {}
    for path, text in tree.texts.items():
        mark = _REMARKS.get(PurePosixPath(path).suffix)
        if mark and 20 <= newlines(text) <= 400 and text.endswith("\n"):
            left = [
                line for line in text.split("\n") if line.strip() and not line.lstrip(" \t").startswith(mark)
            ]
            if 10 <= len(left) <= newlines(text) - 4:
                found[path] = left
    if not found:
        return None
    path = rng.choice(sorted(found))
    mark = _REMARKS[PurePosixPath(path).suffix]
    return written(
        "uncommented",
        f"Make a copy of /app/{path} without the lines whose first characters other than spaces and tabs are `{mark}`, and without "
        "the lines of spaces and tabs alone. Leave every other line as it is.",
        f"plain{PurePosixPath(path).suffix}",
        found[path],
        f"grep -vE '^[ \t]*({mark}|$)' {path}",
        (path,),
        domain="code",
    )


def block(tree: Tree, rng: random.Random) -> Drawn | None:
    """One definition of a file, whole."""
    found: dict[tuple[str, str], list[str]] = {}
    for path, text in tree.texts.items():
        word = _BLOCK.get(PurePosixPath(path).suffix, "")
        lines = text.split("\n")[:-1]
        begun = [line for line in lines if word and line.startswith(word)]
        for at, line in enumerate(lines):
            head = re.match(rf"{word}([A-Za-z_]\w*)\(", line) if line in begun else None
            if head and sum(one.startswith(head[0]) for one in begun) == 1:
                after = enumerate(lines[at + 1 :], 1)
                size = next((number for number, later in after if re.match(r"[^ \t]", later)), 0)
                if 4 <= size <= 60:
                    found[path, head[1]] = lines[at : at + size]
    if not found:
        return None
    path, name = rng.choice(sorted(found))
    word = _BLOCK[PurePosixPath(path).suffix]
    body = found[path, name]
    while not body[-1].strip():
        body = body[:-1]
    awk = f'index($0, "{word}{name}(") == 1 {{on = 1; print; next}} on && /^[^ \\t]/ {{exit}} on {{print}}'
    return written(
        "block",
        f"Cut one definition out of /app/{path}: from the line that begins with `{word}{name}(` up to, but without, the next line "
        "whose first character is neither a space nor a tab; without the blank lines at its end. Leave the lines as they are.",
        "block.txt",
        body,
        f"awk '{awk}' {path} | sed -e :a -e '/^[[:space:]]*$/{{$d;N;ba' -e '}}'",
        (path,),
        difficulty="medium",
        domain="code",
    )


def where(tree: Tree, rng: random.Random) -> Drawn | None:
    """An index: for each of five words, the files that have it."""
    found, kinds = {}, folders(tree, least=3)
    for kind, paths in kinds.items():
        held = Counter(word for path in paths for word in set(WORD.findall(tree.texts[path])))
        words = sorted(word for word, times in held.items() if 2 <= times < len(paths))
        if len(words) >= 5:
            found[kind] = words
    if (key := pick(rng, found)) is None:
        return None
    folder, suffix = key
    paths, words = sorted(kinds[key]), sorted(rng.sample(found[key], 5))
    rows = []
    for word in words:
        have = [path for path in paths if re.search(rf"\b{word}\b", tree.texts[path], re.ASCII)]
        rows.append(f"{word}: {' '.join(have)}")
    loop = f"for w in {' '.join(words)}; do echo \"$w: $(grep -rlw --include='*{suffix}' -e $w {folder} | LC_ALL=C sort | tr '\\n' ' ' | sed 's/ $//')\"; done"
    return written(
        "where",
        f"Make an index of the words {', '.join(words)} for the files whose names end in {suffix} below /app/{folder}, at any depth. One "
        "line for each word, in the order given: the word, a colon and a space, and the paths relative to /app of the files in which "
        f"it stands as a whole word (not as a part of a longer identifier), {_BYTES}, with a space between.",
        "index.txt",
        rows,
        loop,
        paths,
        difficulty="medium",
        domain="code",
    )  # fmt: skip


def settings_keys(tree: Tree, rng: random.Random) -> Drawn | None:
    """The sections of a settings file, with the number of their keys."""
    found = {}
    for path, text in tree.texts.items():
        if PurePosixPath(path).suffix in (".toml", ".cfg", ".ini", ".conf"):
            rows, name = list[list[object]](), ""
            for line in text.split("\n"):
                if head := re.match(r"\[([^]]*)\]", line):
                    name = head[1]
                    rows.append([name, 0])
                elif rows and re.match(r"[A-Za-z][A-Za-z0-9_.-]* *=", line):
                    rows[-1][1] = int(str(rows[-1][1])) + 1
            if len(rows) >= 3:
                found[path] = [f"{section} {keys}" for section, keys in rows]
    if not found:
        return None
    path = rng.choice(sorted(found))
    awk = (
        '/^\\[[^]]*\\]/ {if (on) print name, n; name = substr($0, 2, index($0, "]") - 2); n = 0; on = 1; next} '
        "on && /^[A-Za-z][A-Za-z0-9_.-]* *=/ {n++} END {if (on) print name, n}"
    )
    return written(
        "settings_keys",
        f"A section of /app/{path} begins at a line whose first character is `[`; its name is what stands between it and the next `]`. A "
        "key is a line that begins, in the first column, with a letter, then any number of letters, digits, underscores, dots and "
        "hyphens, any number of spaces, and `=`. One line for each section, in the order of the file: its name, a space, the number "
        "of its keys.",
        "sections.txt",
        found[path],
        f"awk '{awk}' {path}",
        (path,),
        difficulty="medium",
        domain="configuration",
    )  # fmt: skip


def manifest_keys(tree: Tree, rng: random.Random) -> Drawn | None:
    """The keys of a JSON file's object, in order, with the lines where they stand."""
    found = {}
    for path, text in tree.texts.items():
        if path.endswith(".json"):
            lines = enumerate(text.split("\n"), 1)
            keys = [
                f"{n} {hit[1]}" for n, line in lines if (hit := re.match(r'  "([A-Za-z0-9_.@/-]+)":', line))
            ]
            if 4 <= len(keys) <= 200:
                found[path] = keys
    if not found:
        return None
    path = rng.choice(sorted(found))
    return written(
        "manifest_keys",
        f"/app/{path} is indented by two spaces. List the keys that stand at that depth, as they follow one another: for each line that "
        'begins with two spaces, a quoted key of letters, digits and the characters _ . @ / - and a colon right after the quote, '
        "write the line's number, counted from 1, a space, and the key without quotes.",
        "keys.txt",
        found[path],
        f"grep -nE '^  \"[A-Za-z0-9_.@/-]+\":' {path} | sed -E 's/^([0-9]+):  \"([^\"]+)\":.*/\\1 \\2/'",
        (path,),
        domain="configuration",
    )  # fmt: skip


def outline(tree: Tree, rng: random.Random) -> Drawn | None:
    """The headings of a Markdown file, set in by their depth."""
    found = {}
    for path, text in tree.texts.items():
        if path.endswith(".md"):
            heads = [re.match(r"(#{1,6}) +([^ ].*)$", line) for line in text.split("\n")]
            rows = [f"{'  ' * (len(head[1]) - 1)}- {head[2]}" for head in heads if head]
            if len(rows) >= 4:
                found[path] = rows
    if not found:
        return None
    path = rng.choice(sorted(found))
    perl = 'print "  " x (length($1) - 1), "- $2\\n" if /^(#{1,6}) +([^ ].*)$/'
    return written(
        "outline",
        f"Make an outline of /app/{path}. A heading is a line that begins with one to six `#`, followed by one or more spaces and a text "
        "that begins with another character; lines in code blocks count as well. One line for each, in order: two spaces for each `#` "
        "beyond the first, a hyphen, a space, the text.",
        "outline.txt",
        found[path],
        f"perl -ne '{perl}' {path}",
        (path,),
        domain="documents",
    )  # fmt: skip


def versions(tree: Tree, rng: random.Random) -> Drawn | None:
    """The versions that a file of changes speaks of, in its order."""
    found = {}
    for path, text in tree.texts.items():
        if re.search(r"(?i)(change|history|news|release)[^/]*$", path):
            hits = [re.search(r"\b[0-9]+\.[0-9]+\.[0-9]+\b", line, re.ASCII) for line in text.split("\n")]
            names = list(dict.fromkeys(hit[0] for hit in hits if hit))
            if 4 <= len(names) <= 300:
                found[path] = names
    if not found:
        return None
    path = rng.choice(sorted(found))
    perl = 'print "$1\\n" if /\\b([0-9]+\\.[0-9]+\\.[0-9]+)\\b/ && !$seen{$1}++'
    return written(
        "versions",
        f"Of each line of /app/{path} take the first text of the form N.N.N, each N being one or more decimal digits, with a word "
        "boundary before and after it. List these texts in the order of the file, each one only where it comes first.",
        "versions.txt",
        found[path],
        f"perl -ne '{perl}' {path}",
        (path,),
        domain="documents",
    )  # fmt: skip


def targets(tree: Tree, rng: random.Random) -> Drawn | None:
    """The targets of a makefile, each with what it needs first."""
    found = {}
    for path, text in tree.texts.items():
        if re.fullmatch(r"(?i)makefile(\.am|\.in)?|.*\.mk", PurePosixPath(path).name):
            hits = [re.match(r"([A-Za-z][A-Za-z0-9_.-]*) *:(?!=)(.*)$", line) for line in text.split("\n")]
            rows = sorted({f"{hit[1]} {len(hit[2].split())}" for hit in hits if hit})
            if len(rows) >= 3:
                found[path] = rows
    if not found:
        return None
    path = rng.choice(sorted(found))
    perl = 'print "$1 ", scalar(split(" ", $2)), "\\n" if /^([A-Za-z][A-Za-z0-9_.-]*) *:(?!=)(.*)$/'
    return written(
        "targets",
        f"In /app/{path}, a rule is a line that begins, in the first column, with a name (a letter, then letters, digits, underscores, "
        "dots and hyphens), any number of spaces, and a colon that no `=` follows. For each rule write its name, a space, and how many "
        f"words, parted by white space, stand after that colon on the line; {_BYTES}, equal lines once.",
        "targets.txt",
        found[path],
        f"perl -ne '{perl}' {path} | LC_ALL=C sort -u",
        (path,),
        difficulty="medium",
        domain="build",
    )  # fmt: skip


def objects(tree: Tree, rng: random.Random) -> Drawn | None:
    """What a build left, by kind and folder."""
    count = Counter[tuple[str, str]]()
    for path in tree.others:
        one = PurePosixPath(path)
        if one.suffix in _BUILT and one.parts[0] not in ("node_modules", ".venv") and one.stem:
            count[str(one.parent), one.suffix] += 1
    if len(count) < 2:
        return None
    rows = sorted(f"{folder} {suffix} {times}" for (folder, suffix), times in count.items())
    names = " -o ".join(f"-name '?*{suffix}'" for suffix in _BUILT)
    find = f"find . \\( -path ./node_modules -o -path ./.venv \\) -prune -o -type f \\( {names} \\) -print | sed 's,^\\./,,'"
    loop = 'while read -r f; do echo "$(dirname "$f") .${f##*.}"; done | LC_ALL=C sort | uniq -c | awk \'{print $2, $3, $1}\''
    return written(
        "objects",
        f"The repository of {tree.name} was built in /app. Count what the build left in each folder: regular files whose names end in "
        f"one of {' '.join(_BUILT)} (with something before it), below /app but not below /app/node_modules and /app/.venv. One line "
        "for each folder and suffix that has any: the folder relative to /app (`.` for /app itself), a space, the suffix with its "
        f"dot, a space, the count; the whole lines {_BYTES}.",
        "objects.txt",
        rows,
        f"{find} | {loop} | LC_ALL=C sort",
        (),
        difficulty="medium",
        domain="build",
    )  # fmt: skip


CODE = (
    imports, test_census, callers, constants, uncommented, block, where, settings_keys, manifest_keys, outline, versions,
    targets, objects,
)  # fmt: skip
