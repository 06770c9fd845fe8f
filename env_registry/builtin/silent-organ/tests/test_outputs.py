"""The organ is built anew from its sources and plays scores that nobody has seen."""

import random
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
FLAGS = ["-Wall", "-Wextra", "-Werror"]


def play(organ, score):
    return subprocess.run([str(organ)], input=score, capture_output=True, text=True, timeout=20)


def expected(score):
    """What the pipes have to do: exact start and duration, and the frequency as it is printed."""
    notes, elapsed, tempo = [], Fraction(0), 60
    for line in score.split("\n"):
        for word in line.partition(";")[0].split():
            if word[0] == "t":
                tempo = int(word[1:])
                continue
            name, beats = word.split("/")
            took = Fraction(beats) * 60000 / tempo
            if name != "-":
                shift = {"#": 1, "b": -1}.get(name[1], 0)
                semitones = STEPS[name[0]] + shift - 9 + 12 * (int(name[-1]) - 4)
                notes.append((elapsed, took, f"{440 * 2 ** (semitones / 12):.2f}"))
            elapsed += took
    return notes


def assert_played(printed, score):
    """Times are the nearest whole milliseconds; which way a half goes is left open."""
    lines, notes = printed.splitlines(), expected(score)
    assert len(lines) == len(notes)
    for line, (start, duration, pitch) in zip(lines, notes):
        found = re.fullmatch(r"(\d+) (\d+) (\d+\.\d\d)", line)
        assert found, line
        assert abs(int(found[1]) - start) < Fraction("0.500001"), line
        assert abs(int(found[2]) - duration) < Fraction("0.500001"), line
        assert found[3] == pitch, line


@pytest.fixture(scope="module")
def organ(tmp_path_factory):
    place = tmp_path_factory.mktemp("chapel") / "organ"
    shutil.copytree("/app/organ", place)
    for command in (["make", "clean"], ["make"]):
        ran = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        left = [path.name for path in place.rglob("*") if path.suffix == ".o" or path.name == "organ"]
        assert bool(left) == (command == ["make"])
    return place / "organ"


def test_it_builds_with_every_warning(organ):
    sources = sorted((organ.parent / "src").glob("*.c"))
    assert len(sources) >= 4
    for path in [*sources, *(organ.parent / "include").glob("*.h"), organ.parent / "Makefile"]:
        text = path.read_text("utf-8")
        assert not re.search(r"#\s*pragma|_Pragma|system_header|-Wno-|-w\b", text), path.name
    made = subprocess.run(["make", "--dry-run", "--always-make"], cwd=organ.parent, capture_output=True, text=True, timeout=20)
    compiled = [line for line in made.stdout.split("\n") if " -c " in line]
    assert len(compiled) >= 4
    assert all(flag in line.split() for line in compiled for flag in FLAGS)


def test_the_ground_is_played(organ):
    score = Path("/app/organ/scores/ground.txt").read_text("utf-8")
    played = play(organ, score)
    assert played.returncode == 0
    assert_played(played.stdout, score)
    assert len(played.stdout.splitlines()) == 9


def test_every_note_of_the_keyboard(organ):
    names = [f"{letter}{sign}{octave}/1" for octave in range(9) for letter in "CDEFGAB" for sign in ("", "#", "b")]
    score = "\n".join(names) + "\n"
    assert_played(play(organ, score).stdout, score)


def test_time_is_kept_exactly(organ):
    score = "t70\n" + "A4/0.25 -/0.3\n" * 2001 + "t97 C4/1\n" * 101
    assert_played(play(organ, score).stdout, score)


def test_scores_never_seen(organ):
    for seed in range(6):
        rng = random.Random(seed)
        words = []
        for _ in range(rng.randint(20, 200)):
            note = rng.choice("CDEFGAB") + rng.choice(["", "", "#", "b"]) + str(rng.randint(0, 8))
            beats = rng.choice(["1", "2", "0.5", "1.5", "3", "0.25"])
            words.append(rng.choice([f"{note}/{beats}"] * 6 + [f"-/{beats}", f"t{rng.randint(3, 30) * 7}"]))
            words.append(rng.choice([" "] * 30 + ["   ", "\n", " ; a comment with A4/1 in it\n", "\n\n"]))
        score = "".join(words) + rng.choice(["", "\n"])
        played = play(organ, score)
        assert played.returncode == 0
        assert_played(played.stdout, score)
    assert play(organ, "").stdout == ""


def test_wrong_words_are_named(organ):
    for word in ("H4/1", "A4", "A/1", "A4/", "A4/x", "A9/1", "A#b4/1", "A44/1", "A4/1/1", "A4/-1", "t0", "t", "t60x",
                 "/1", "-", "-/", "a4/1", "t-3", "nonsense"):
        played = play(organ, f"A4/1 {word} B4/1\n")
        assert (played.returncode, played.stderr) == (1, f"organ: {word}?\n"), word
        assert played.stdout == "0 1000 440.00\n"
