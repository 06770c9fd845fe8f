import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_gym.terminal import settle
from terminal_gym.terminal.settle import Evidence, HintWatch, Patience, decide, lines_in

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
        (Evidence(prompts=1, at_prompt=True, owed=2, quiet_s=1.0, answers=1), "prompt"),
        (Evidence(prompts=1, at_prompt=True, owed=2, sightings=2), "prompt"),
        (Evidence(prompts=1, at_prompt=False, owed=2, sightings=2), "reader"),
        (Evidence(sightings=1, quiet_s=1.0), None),
        (Evidence(sightings=2), "reader"),
        (Evidence(answers=1), None),
        (Evidence(answers=1, quiet_s=0.01), "hint"),
        (Evidence(answers=2), "hint"),
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
        answers=st.just(0),
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


def far_watch(monkeypatch: pytest.MonkeyPatch, *seen: tuple[int, int] | None) -> settle.ReaderWatch:
    """A watch on a terminal behind a daemon, that will see these sleepers."""
    clock = Clock()
    monkeypatch.setattr(settle.blocked_reader, "find", _Sightings(*seen))
    monkeypatch.setattr(settle.blocked_reader, "longest_sleep_s", lambda _pid: float("inf"))
    monkeypatch.setattr(settle.blocked_reader, "keeps_empty_terminal", lambda _pid: False)
    monkeypatch.setattr(settle.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    return settle.ReaderWatch(1, local=False, clock=clock)


def test_a_shell_that_is_about_to_read_is_waited_for_before_the_sending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = far_watch(monkeypatch, None, None, (7, 1), (7, 1), (7, 1), (7, 2), (7, 2), (7, 2))
    watch.arm(b"ls\n", at_prompt=True)
    assert [watch.look() for _ in range(4)] == [0, 0, 1, 2]


@pytest.mark.parametrize("at_prompt", [True, False])
def test_a_sleep_that_began_after_the_sending_does_not_count_before_anything_came_back(
    monkeypatch: pytest.MonkeyPatch, at_prompt: bool
) -> None:
    watch = far_watch(monkeypatch)
    monkeypatch.setattr(settle.blocked_reader, "find", lambda _root: None)
    watch.arm(b"ls\n", at_prompt=at_prompt)  # nobody comes, and it goes on
    monkeypatch.setattr(settle.blocked_reader, "find", lambda _root: (7, 1))
    assert [watch.look() for _ in range(3)] == [0, 0, 0]
    watch.printed()
    assert [watch.look() for _ in range(2)] == [1, 2]
    watch.arm(b"ls\n", at_prompt=False)
    assert [watch.look() for _ in range(2)] == [0, 0]
    watch.disarm()
    assert [watch.look() for _ in range(2)] == [1, 2]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked_watch() -> tuple[HintWatch, list[float], Clock]:
    """A watch that was armed, has seen an echo, and has asked."""
    clock, asked = Clock(), list[float]()
    watch = HintWatch(lambda: asked.append(clock.now), pause_s=0.02, clock=clock)
    watch.arm()
    watch.printed()
    watch.seek()
    assert asked == []  # too soon
    clock.now = 0.02
    watch.seek()
    assert asked == [0.02]
    return watch, asked, clock


def test_an_answer_counts_where_nothing_came_after_it() -> None:
    watch, asked, clock = asked_watch()
    watch.answered(b"7.1")
    assert watch.answers == 1
    clock.now = 9.0
    watch.seek()
    assert asked == [0.02]  # it did
    watch.printed()
    assert watch.answers == 0


def test_a_second_answer_on_the_same_sleep_counts_whatever_is_printed() -> None:
    watch, asked, clock = asked_watch()
    watch.answered(b"7.1")
    watch.printed()
    clock.now += 0.02
    watch.seek()
    assert len(asked) == 2
    watch.answered(b"7.1")
    watch.printed()
    assert watch.answers == 2


def test_another_sleep_begins_anew() -> None:
    watch, _, _ = asked_watch()
    for sleep in (b"7.1", b"7.2"):
        watch.answered(sleep)
        watch.printed()
    assert watch.answers == 0
    watch.answered(b"7.3")
    assert watch.answers == 1


def test_the_sleep_of_before_the_sending_does_not_count() -> None:
    watch, _, clock = asked_watch()
    watch.answered(b"7.1")
    watch.arm()
    watch.printed()
    clock.now += 0.02
    watch.seek()
    watch.answered(b"7.1")
    assert watch.answers == 0
    watch.disarm()
    assert watch.answers == 1


def test_an_answer_that_nobody_waits_for_tells_who_slept_before() -> None:
    watch, _, clock = asked_watch()
    watch.arm()
    watch.answered(b"7.1")
    watch.printed()
    clock.now += 0.02
    watch.seek()
    watch.answered(b"7.1")
    assert watch.answers == 0
    watch.answered(b"8.4")
    assert watch.answers == 1


def test_what_was_answered_before_the_first_echo_was_true_before_it() -> None:
    watch, _, clock = asked_watch()
    watch.arm()
    clock.now += 0.02
    watch.seek()
    watch.answered(b"7.1")
    assert watch.answers == 0  # nothing printed: nobody knows whether it was typed yet
    clock.now += 0.02
    watch.seek()
    watch.answered(b"7.1")
    assert watch.answers == 0
    watch.printed()
    clock.now += 0.02
    watch.seek()
    watch.answered(b"7.1")
    assert watch.answers == 0
    clock.now += 0.02
    watch.seek()
    watch.answered(b"7.2")
    assert watch.answers == 1


def test_a_lost_question_is_asked_again() -> None:
    watch, asked, clock = asked_watch()
    clock.now = 15.0
    watch.seek()
    clock.now = 25.0
    watch.seek()
    assert asked == [0.02, 25.0]
