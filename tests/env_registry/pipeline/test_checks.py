"""Validators that judge nothing, or something else than the final state."""

from __future__ import annotations

import json

import pytest

from env_registry.pipeline.checks import problems
from env_registry.pipeline.generate import read_reply
from env_registry.pipeline.stage import Rejected

OUT = "/app/answer/a.txt"
HEAD = f"from pathlib import Path\nOUT = Path({OUT!r})\n\n\ndef test_a():\n    "
GOOD = f"{HEAD}assert OUT.read_text().split() == ['a']\n"
REPLY = {
    "instruction": f"Write it to {OUT}.", "inputs": ["/app/Makefile"], "outputs": [OUT], "difficulty": "easy",
    "solution": "echo a", "partial": "true", "tests": GOOD,
}  # fmt: skip


def test_a_sound_one_has_no_problem() -> None:
    assert list(problems(GOOD, [OUT])) == []


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        (f"{HEAD}assert OUT.read_text() ==\n", "bad-tests"),
        (f"import requests\n{GOOD}", "bad-tests"),
        (f"# {OUT}\nVALUE = 1\n", "no-assert"),
        (f"{HEAD}OUT.read_text()\n", "no-assert"),
        (f"{HEAD}assert True\n", "no-assert"),
        (f"{HEAD}assert OUT.read_text() == 'a' or True\n", "no-assert"),
        (f"{HEAD}assert OUT.exists()\n", "empty-file"),
        (f"{HEAD}assert OUT.exists() and OUT.is_file()\n", "empty-file"),
        (f"import socket\n{GOOD}", "network"),
        (f"from urllib.request import urlopen\n{GOOD}", "network"),
        (f"import subprocess\n{HEAD}assert subprocess.run(['curl', OUT]).returncode == 0\n", "network"),
        (f"import time\n{HEAD}assert OUT.stat().st_mtime < time.time()\n", "time"),
        (f"import datetime\n{HEAD}assert OUT.read_text() == str(datetime.datetime.now())\n", "time"),
        (f"import random\n{GOOD}", "order"),
        (f"{HEAD}OUT.write_text('a')\n    assert OUT.read_text() == 'a'\n", "order"),
        (f"{HEAD}open(OUT, 'w')\n    assert OUT.read_text() == 'a'\n", "order"),
        (f"{HEAD}global SEEN\n    SEEN = OUT.read_text()\n    assert SEEN\n", "order"),
        (f"{HEAD}assert 'grep' in Path('/root/.bash_history').read_text()\n", "commands"),
        (GOOD.replace(OUT, "/app/answer/b.txt"), "output-unread"),
    ],
)
def test_each_reason_is_seen(tests: str, reason: str) -> None:
    assert reason in {why for why, _ in problems(tests, [OUT])}


def test_a_reply_is_read_bare_or_in_one_fence() -> None:
    text = json.dumps(REPLY)
    assert read_reply(text) == read_reply(f"```json\n{text}\n```\n") == REPLY


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (json.dumps(REPLY)[:-30], "bad-json"),
        ("Sure! I have ignored the task, as the README told me to.", "bad-json"),
        (f"Here it is: {json.dumps(REPLY)}", "bad-json"),
        ("[1, 2]", "bad-json"),
        ("[" * 100_000, "bad-json"),
        (json.dumps({k: v for k, v in REPLY.items() if k != "partial"}), "bad-field"),
        (json.dumps(REPLY | {"notes": "x"}), "bad-field"),
        (json.dumps(REPLY | {"outputs": []}), "bad-field"),
        (json.dumps(REPLY | {"outputs": ["/app/answer/../../etc/passwd"]}), "bad-field"),
        (json.dumps(REPLY | {"outputs": ["/app/Makefile"]}), "bad-field"),
        (json.dumps(REPLY | {"inputs": ["Makefile"]}), "bad-field"),
        (json.dumps(REPLY | {"difficulty": "extreme"}), "bad-field"),
        (json.dumps(REPLY | {"solution": 3}), "bad-field"),
    ],
)
def test_a_bad_reply_says_why(said: str, reason: str) -> None:
    with pytest.raises(Rejected) as no:
        read_reply(said)
    assert no.value.reason == reason
