import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.terminal import settle
from terminal_gym.terminal.settle import Evidence, Patience, decide, lines_in

PATIENCE = Patience()


@pytest.mark.parametrize(
    ("seen", "fact"),
    [
        (Evidence(), None),
        (Evidence(quiet_s=1e6), None),
        (Evidence(closed=True, prompts=1, at_prompt=True), "closed"),
        (Evidence(prompts=1, at_prompt=True, owed=1), "prompt"),
        (Evidence(prompts=1, at_prompt=False, owed=1), None),
        (Evidence(prompts=1, at_prompt=True, owed=2), None),
        (Evidence(prompts=1, at_prompt=True, owed=2, quiet_s=1.0), None),
        (Evidence(prompts=1, at_prompt=True, owed=2, quiet_s=1.0, shell_tells=True), None),
        (Evidence(prompts=1, at_prompt=True, owed=2, quiet_s=1.0, shell_tells=True, blind=True), "prompt"),
        (Evidence(prompts=1, at_prompt=True, owed=2, quiet_s=1.0, hinted=True), "prompt"),
        (Evidence(prompts=1, at_prompt=True, owed=2, sightings=2), "prompt"),
        (Evidence(prompts=1, at_prompt=False, owed=2, sightings=2), "reader"),
        (Evidence(sightings=1, quiet_s=1.0), None),
        (Evidence(sightings=2), "reader"),
        (Evidence(hinted=True), None),
        (Evidence(hinted=True, quiet_s=0.01), "hint"),
        (Evidence(quiet_s=10.0, blind=True), "silence"),
        (Evidence(quiet_s=0.5, blind=True), None),
    ],
)
def test_decision(seen: Evidence, fact: str | None) -> None:
    assert decide(seen, PATIENCE) == fact


@given(
    st.builds(
        Evidence,
        prompts=st.integers(0, 3),
        at_prompt=st.booleans(),
        owed=st.integers(0, 3),
        shell_tells=st.booleans(),
        sightings=st.integers(0, 1),
        hinted=st.just(False),
        blind=st.just(False),
        quiet_s=st.floats(0, 1e9),
    )
)
def test_no_silence_settles_where_facts_can_be_had(seen: Evidence) -> None:
    answered = seen.prompts and seen.at_prompt and seen.prompts >= seen.owed
    assert decide(seen, PATIENCE) == ("prompt" if answered else None)


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", 0), (b"ls", 1), (b"ls\n", 1), (b"a\nb\n", 2), (b"a\rb", 2), (b"\x03", 1), (b"\n\n", 2)],
)
def test_lines(data: bytes, lines: int) -> None:
    assert lines_in(data) == lines


class _Sightings:
    """What the looks at /proc find, one after the other."""

    def __init__(self, *seen: tuple[int, int] | None):
        self._seen = iter(seen)

    def __call__(self, _root_pid: int) -> tuple[int, int] | None:
        return next(self._seen)


@pytest.mark.parametrize(
    ("seen", "sightings"),
    [
        ([(7, 1), (7, 1), (7, 1)], 2),
        ([(7, 1), (7, 1), None], 1),  # it died while it was asked whether it only naps
        ([(7, 1), (7, 1), (7, 2)], 1),  # it woke meanwhile
        ([(7, 1), (8, 1)], 1),
        ([(7, 1), None], 0),
    ],
)
def test_a_reader_that_left_while_it_was_asked_about_is_no_reader(
    monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, int] | None], sightings: int
) -> None:
    monkeypatch.setattr(settle.blocked_reader, "find", _Sightings(*seen))
    monkeypatch.setattr(settle.blocked_reader, "longest_sleep_s", lambda _pid: float("inf"))
    monkeypatch.setattr(settle.blocked_reader, "keeps_empty_terminal", lambda _pid: False)
    watch = settle.ReaderWatch(1, local=True)
    assert [watch.look(), watch.look()][-1] == sightings
