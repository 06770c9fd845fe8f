"""What the whole suite found, kept beside it as JSON, and the page that is made of it: attack × mode × runtime.

`results.json` is `{"version": 1, "findings": [{…}]}`, one entry a case and runtime, in the suite's order; playing some
cases again replaces theirs. Entries of attacks that are no longer there go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from terminal_gym.errors import SchemaMismatch
from terminal_gym.rollout.attacks import Case, Suite
from terminal_gym.rollout.gauntlet import Finding
from terminal_gym.tasks.task import MODES

VERSION = 1
RUNTIMES = ("docker", "namespace")
_CELL = {
    "refused": "refused",
    "flagged": "paid, flagged",
    "impossible": "not possible",
    "broken": "**broken**",
}
_HEAD = """# Attacks, and what came of them

Made by `tgym audit --suite --all-runtimes --write`; do not edit. Each line is an agent that types an attack instead of
solving, on small tasks of ours (`env_registry/attacks/`). *refused* is reward 0 with a verdict; *paid, flagged* is a
hole that the mode is known to have, named in [sandboxing.md](sandboxing.md) and in the verdict's `integrity`; a tick
says that honest work under the same attack was paid. Rows are those of the acceptance table; X is beyond it.
"""


def results_file(suite: Suite) -> Path:
    """Return where a suite keeps what was found."""
    return suite.folder / "results.json"


def kept(suite: Suite) -> list[Finding]:
    """Return what was found when the suite was last played, () where it never was.

    Raises:
        SchemaMismatch: The file is of another version.
    """
    path = results_file(suite)
    if not path.is_file():
        return []
    body = json.loads(path.read_text("utf-8"))
    if body.get("version") != VERSION:
        raise SchemaMismatch(f"{path} is of version {body.get('version')!r}, {VERSION} is read.")
    return [Finding(**entry | {"integrity": tuple(entry["integrity"])}) for entry in body["findings"]]


def keep(suite: Suite, found: Iterable[Finding]) -> list[Path]:
    """Merge `found` into what is kept, write it, and the page where a checkout has docs; returns what was written."""
    known = {one.key: one for one in (*kept(suite), *found)}
    order = [key for case in suite.cases() for key in keys_of(case)]
    findings = [known[key] for key in order if key in known]
    body = {"version": VERSION, "findings": [one.as_object() for one in findings]}
    written = [results_file(suite)]
    _replace(written[0], json.dumps(body, indent=0, ensure_ascii=True) + "\n")
    docs = suite.folder.parents[1] / "docs"
    if docs.is_dir():
        written.append(docs / "attacks.md")
        _replace(written[1], page(suite, findings))
    return written


def _replace(path: Path, text: str) -> None:
    """Killed at any moment, the old file is there or the new one: an hour's findings are not lost."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def keys_of(case: Case) -> list[tuple[str, str, str, str, bool]]:
    """Return the keys under which a case's findings are kept, one a runtime."""
    return [(case.attack.id, case.target, case.mode, runtime, case.control) for runtime in RUNTIMES]


def page(suite: Suite, findings: Sequence[Finding]) -> str:
    """Return the page as Markdown."""
    counts = {name: sum(one.result == name for one in findings) for name in ("paid", "flagged", "broken")}
    cheats = sum(not one.control for one in findings)
    honest = sum(one.result == "honest" for one in findings)
    lines = [
        _HEAD,
        f"{cheats} cheats were played: {counts['paid']} were paid, {counts['flagged']} were paid and flagged, "
        f"{counts['broken']} had no verdict. Honest work was paid in {honest} of {len(findings) - cheats} controls.",
    ]
    missing = sum(len(keys_of(case)) for case in suite.cases()) - len(findings)
    if missing:
        lines.append(
            f"**Not counted above: {missing} cases** that were not played yet, or not again since something was mended "
            "for them."
        )
    family = ""
    for attack in suite.attacks:
        mine = [one for one in findings if one.attack == attack.id]
        if attack.family != family:
            family = attack.family
            head = [f"{mode}, {runtime}" for mode in MODES for runtime in RUNTIMES]
            lines += ["", f"## {family.partition('-')[2].replace('-', ' ').capitalize()}", ""]
            lines += [f"| row | attack | mechanism | {' | '.join(head)} |", "|---" * (len(head) + 3) + "|"]
        cells = [_cell(mine, mode, runtime) for mode in MODES for runtime in RUNTIMES]
        lines.append(f"| {attack.row} | `{attack.id}` | {attack.mechanism} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(mine: Sequence[Finding], mode: str, runtime: str) -> str:
    here = [one for one in mine if one.mode == mode and one.runtime == runtime]
    cheats = [one for one in here if not one.control]
    if not cheats:
        return ""
    worst = max((_CELL.get(one.result, "**paid**") for one in cheats), key=_WORSE.index)
    controls = [one.result == "honest" for one in here if one.control]
    return worst + (" ✓" if controls and all(controls) else " ✗" if controls else "")


_WORSE = ["not possible", "refused", "paid, flagged", "**broken**", "**paid**"]
