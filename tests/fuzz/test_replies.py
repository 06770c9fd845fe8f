"""What a model says."""

from __future__ import annotations

from hypothesis import strategies as st
from kit import fuzz_targets
from kit.fuzz import fuzzed, mutated
from kit.trajectories import DONE

XML = """<response>
<analysis>a</analysis><plan>p</plan>
<commands><keystrokes duration="0.5">ls\n</keystrokes><keystrokes>C-c</keystrokes></commands>
<task_complete>false</task_complete>
</response>"""
WORDS = [
    "{", "}", "[", "]", '"', "\\", "\\ud800", "\\u0000", "{" * 3000, "[" * 3000, "{}" * 2000, '{"a":' * 1200, "NaN", "-1", "1e999",
    "Infinity", "9" * 5000, "null", "true", '"keystrokes"', '"duration"', '"task_complete": "yes"', '"commands": {}', "```json",
    "<response>", "</response>", "<commands>", "</commands>", "<keystrokes duration='nan'>", "</keystrokes>", "&lt;",
    "<task_complete>true</task_complete>", "<submit>", "C-c", "C-M-S-Up", "\ufeff", "\u2028", "\r", "\0",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
WORDS_BYTES = [word.encode("utf-8", "surrogatepass") for word in WORDS]
FENCED = b"Look:\n```bash\nls -l\n```\nand then\n```sh\npwd\n```\n<submit>"


def _document(commands: object, complete: object, more: dict[str, object]) -> bytes:
    import json

    return json.dumps(
        {"analysis": "a", "plan": "p", "commands": commands, "task_complete": complete} | more
    ).encode()


ENTRY = st.fixed_dictionaries(
    {}, optional={"keystrokes": JSON | st.text(max_size=9), "duration": JSON, "else": JSON}
)
DOCUMENTS = st.builds(
    _document,
    st.lists(ENTRY, max_size=4) | JSON,
    JSON,
    st.dictionaries(st.text(max_size=6), JSON, max_size=2),
)

HALF_A_CHARACTER = (
    b'{"analysis": "a", "plan": "p", "commands": [{"keystrokes": "ls\\n", "du\xf9ation": 0.1}]}'
)
test_replies = fuzzed(
    mutated([DONE.encode(), XML.encode(), b"```json\n" + DONE.encode() + b"\n```"], WORDS_BYTES)
    | DOCUMENTS
    | st.binary(),
    examples=250,
    known=[HALF_A_CHARACTER, HALF_A_CHARACTER.replace(b"\xf9", b"\\ud83d")],
)(fuzz_targets.replies)
test_bash_replies = fuzzed(
    mutated([FENCED, b'{"command": "ls"}'], [*WORDS_BYTES, b"```bash\n", b"```\n", b'{"command":'])
    | st.lists(st.sampled_from([b"```", b"bash", b"\n", b" ", b"ls", b"<submit>"]), max_size=30).map(
        b"".join
    ),
    examples=60,
)(fuzz_targets.bash_replies)
