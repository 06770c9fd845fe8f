"""Script files: strings and mappings become actions; a wrong entry is named."""

from pathlib import Path

import pytest
from kit.folders import task_folder

from terminal_gym.agents.scripted import Scripted, from_file
from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.record import Action, Observation

SEEN = Observation("", "", (0, 0))
FILE = """\
- "ls\\n"
- {text: "C-c", wait_s: 2}
- {keys: [C-c, Enter, Enter, abc]}
- {command: "make check"}
- {wait_s: 0.5}
- {submit: true}
"""


def test_a_file_becomes_actions_and_then_submits(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(FILE)
    agent, task = from_file(tmp_path / "s.yaml"), read_folder(task_folder(tmp_path))
    for _ in range(2):
        agent.begin(task)
        assert [agent.act(SEEN) for _ in range(7)] == [
            Action(keys=(b"ls\n",)),
            Action(keys=(b"C-c",), wait_s=2.0),
            Action(keys=(b"\x03", b"\r", b"\r", b"abc")),
            Action(command="make check"),
            Action(wait_s=0.5),
            Action(submit=True),
            Action(submit=True),
        ]


def test_it_plays_what_it_is_given() -> None:
    assert Scripted([]).act(SEEN).submit


@pytest.mark.parametrize(
    ("text", "line"),
    [("- {text: a, keys: [b]}\n", 1), ("- a\n- {}\n", 2), ("- {txt: a}\n", 1), ("- 5\n", 1), ("- {text: 5}\n", 1),
     ("- {submit: 1}\n", 1), ("text: a\n", 1), ('- "\\ud800"\n', 1)],
)  # fmt: skip
def test_a_wrong_entry_is_named(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(BadTaskFormat) as caught:
        from_file(tmp_path / "s.yaml")
    assert caught.value.line == line
