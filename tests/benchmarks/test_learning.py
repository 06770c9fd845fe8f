"""The closed loop's parts, each alone; and the whole of it, at a size that shows only that it runs and goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning.report import (
    SOURCES,
    collect,
    difference,
    half_solved,
    interval,
    page,
    pass_at_k,
    rate,
    tallies,
    whole,
)
from benchmarks.learning.server import Said, TooLong, serving
from benchmarks.learning.teacher import Teacher, spoiled, spoken
from env_registry.templates.generate import FAMILIES, drawn, write
from terminal_gym.errors import BadSetting, ContextFull, UnknownName
from terminal_gym.llm.chat import Sampling
from terminal_gym.llm.endpoint import Endpoint
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.metrics import Tally

COMMANDS = ("cat 1234", "cat 5678", "echo 9012 > out")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write(drawn(FAMILIES["trail"], split="train", seed=0, count=3), tmp_path / "tasks")
    return tmp_path / "tasks" / "manifest.jsonl"


def lesson(instance: Any, *, shown: str = "[exit code 0]") -> list[dict[str, str]]:
    """A conversation about a drawn instance, as the agent has it."""
    said = [spoken(command) for command in (*instance.draft.solution, "<submit>")]
    messages = [{"role": "user", "content": instance.draft.instruction}]
    for at, text in enumerate(said):
        messages += [{"role": "assistant", "content": text}] + [{"role": "user", "content": shown}] * (
            at < len(said) - 1
        )
    return messages


# ── the teacher, and the server it speaks through ───────────────────────────────────────────────


def test_the_teacher_says_one_command_a_turn_and_then_submits(manifest: Path) -> None:
    instance = next(drawn(FAMILIES["trail"], split="train", seed=0, count=1))
    messages, teacher, said = lesson(instance)[:1], Teacher(manifest), list[str]()
    while not said or "<submit>" not in said[-1]:
        said.append(teacher.say(messages, temperature=1.0, max_tokens=9).text)
        messages += [{"role": "assistant", "content": said[-1]}, {"role": "user", "content": "[exit code 0]"}]
    assert said == [spoken(command) for command in (*instance.draft.solution, "<submit>")]


def test_a_teacher_that_errs_errs_in_its_share_and_stays_with_its_mistake(manifest: Path) -> None:
    first = [lesson(i)[:1] for i in drawn(FAMILIES["trail"], split="train", seed=0, count=3)]
    right = Teacher(manifest)
    played: list[bool] = []
    for errs in (0.0, 0.5):
        teacher = Teacher(manifest, errs=errs, seed=1)
        for at in range(60):
            talks: dict[Teacher, list[str]] = {teacher: [], right: []}
            for speaker, said in talks.items():
                messages = list(first[at % 3])
                while not said or ("<submit>" not in said[-1] and len(said) < 9):
                    said.append(speaker.say(messages, temperature=0.0, max_tokens=9).text)
                    messages += [{"role": "assistant", "content": said[-1]}, {"role": "user", "content": "."}]
            played.append(talks[teacher] == talks[right])
    assert all(played[:60])
    assert 15 <= sum(played[60:]) <= 45


@pytest.mark.parametrize("seed", range(30))
def test_a_spoiled_solution_is_another(seed: int) -> None:
    wrong = spoiled(COMMANDS, random.Random(seed))
    assert wrong != COMMANDS
    # Whatever it says before its mistake is right, and it says nothing that it cannot have seen after it.
    assert wrong[:-1] == COMMANDS[: len(wrong) - 1]


def test_two_tasks_with_one_instruction_are_refused(manifest: Path) -> None:
    manifest.write_text(manifest.read_text() + manifest.read_text().splitlines()[0])
    with pytest.raises(BadSetting, match="instruction of another"):
        Teacher(manifest)


class Speaker:
    context_tokens = 77

    def say(self, messages: Sequence[dict[str, str]], *, temperature: float, max_tokens: int) -> Said:
        if messages[0]["content"] == "long":
            raise TooLong("80 tokens")
        return Said(f"{temperature} {max_tokens}", "length", (1, 2), (3, 4), (-0.5, -1.0))


def test_the_server_speaks_as_the_endpoint_listens() -> None:
    with serving(Speaker(), "tiny") as url:
        model = Endpoint("tiny", base_url=url, tries=1)
        assert model.context_tokens == 77
        said = model.complete([Message("user", "hi")], sampling=Sampling(temperature=0.5, max_tokens=9))
        assert (said.message.content, said.finish) == ("0.5 9", "length")
        assert (said.prompt_ids, said.output_ids, said.logprobs) == ((1, 2), (3, 4), (-0.5, -1.0))
        with pytest.raises(ContextFull):
            model.complete([Message("user", "long")])
        model.close()


# ── the student, the judge, and what is hidden ──────────────────────────────────────────────────


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from benchmarks.learning.tiny import make_model, make_tokenizer

    torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine
    folder = tmp_path_factory.mktemp("tiny") / "base"
    texts = [
        m["content"] for i in drawn(FAMILIES["trail"], split="train", seed=0, count=20) for m in lesson(i)
    ]
    tokenizer = make_tokenizer(texts, folder)
    make_model(tokenizer, context=256, width=32, layers=2).save_pretrained(folder)
    return folder


def test_the_tokenizer_is_read_as_it_was_made_and_headers_are_single_tokens_and_digits_pairs(
    base: Path,
) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from training import chat_format

    text = "<|im_start|>assistant\n```bash\ncat 1234\n```<|im_end|>\n<|im_start|>user\n[exit code 0]\n"
    read, made = AutoTokenizer.from_pretrained(base), PreTrainedTokenizerFast.from_pretrained(base)
    ids = read(text)["input_ids"]
    assert ids == made(text)["input_ids"]
    assert [read.decode([one]) for one in ids] == [
        "<|im_start|>assistant\n", "```bash\n", "cat", " ", "12", "34", "\n```", "<|im_end|>", "\n",
        "<|im_start|>user\n", "[exit code 0]\n",
    ]  # fmt: skip
    assert chat_format.matching(read) == "chatml"


def test_a_blind_student_is_told_nothing_that_was_shown(base: Path) -> None:
    from benchmarks.learning.blind import BlindModel, hide

    instance = next(drawn(FAMILIES["trail"], split="train", seed=0, count=1))
    one, two = (lesson(instance, shown=f"see {number}\n[exit code 0]")[:3] for number in ("4321", "9876"))
    assert [m["content"] for m in hide(one)] == [one[0]["content"], one[1]["content"], "?"]
    student = BlindModel(base, seed=0)
    try:
        said = [student.say(talk, temperature=0.0, max_tokens=6).text for talk in (one, two)]
        drawn_twice = {student.say(one, temperature=1.0, max_tokens=12).text for _ in range(4)}
        with pytest.raises(TooLong):
            student.say([{"role": "user", "content": "1" * 600}], temperature=0.0, max_tokens=4)
    finally:
        student.close()
    assert said[0] == said[1]
    assert len(drawn_twice) > 1  # attempts are not all alike


def test_the_judge_believes_what_looks_well_and_is_read_by_tgym_judge() -> None:
    from benchmarks.learning.judge import Judge
    from terminal_gym.agents import prompts

    def asked(transcript: str) -> Any:
        prompt = prompts.filled("judge", instruction="Find it.", transcript=transcript)
        return json.loads(
            Judge().say([{"role": "user", "content": prompt}], temperature=0.0, max_tokens=9).text
        )

    assert asked("[1] typed: 'cat a'\n4711")["solved"] is True
    assert asked("[1] typed: 'cat b'\ncat: b: No such file or directory")["solved"] is False


# ── what the numbers say ────────────────────────────────────────────────────────────────────────


def results(**runs: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """One seed with these runs: task → (passed, failed)."""
    told = {
        name.replace("_", "-"): {
            "tasks": {t: {"passed": p, "failed": f, "broken": 0} for t, (p, f) in tasks.items()}
        }
        for name, tasks in runs.items()
    }
    settings = {
        "test": 1, "attempts": 16, "blind_attempts": 4, "base_attempts": 16, "control_attempts": 16, "side_attempts": 4,
        "sizes": [10, 20], "errs": 0.4,
    }  # fmt: skip
    taught = {
        f"{family}-train-0-0000": {"passed": 1, "failed": 0, "broken": 0} for family in ("trail", "gate")
    }
    return {
        "settings": settings,
        "teacher": {"tasks": taught},
        "domains": {"trail": "data", "gate": "systems"},
        "tables": {},
        "judge": {"both_passed": 5, "both_failed": 2, "only_code_passed": 0, "only_model_passed": 3},
        "seeds": {"0": {"runs": told, "fits": {}, "rounds": [{"passed": 6, "judged": 8}]}},
    }


FULL = results(
    on_base={"trail-test-0-0000": (0, 16), "gate-test-0-0000": (0, 16)},
    on_sft={"trail-test-0-0000": (16, 0), "gate-test-0-0000": (4, 12)},
    on_rft={"trail-test-0-0000": (16, 0), "gate-test-0-0000": (12, 4)},
    on_blind={"trail-test-0-0000": (0, 4), "gate-test-0-0000": (1, 2)},
    practice={"trail-train-0-0009": (4, 0), "gate-train-0-0009": (2, 2)},
)


def test_pass_at_k_and_its_interval() -> None:
    sft = whole(FULL, "sft")
    assert rate(sft["0"]) == pytest.approx(0.625)
    assert pass_at_k(16)(sft["0"]) == 1.0
    mean, low, high = interval(sft, rate)
    assert (mean, low, high) == (pytest.approx(0.625), pytest.approx(0.25), pytest.approx(1.0))
    assert difference(sft, whole(FULL, "rft"))[0] == pytest.approx(0.25)
    assert half_solved(FULL, "0") == {"gate"}
    assert tallies(FULL, "0", "on-blind")["gate-test-0-0000"] == Tally(attempts=3, passed=1, failed=2)


def test_a_run_that_is_not_whole_does_not_count_and_is_named() -> None:
    assert whole(FULL, "blind") == {}
    told = page(FULL)
    assert "Begun and not finished, so not counted: seed 0: on-blind." in told
    assert "Not measured here: blind, more, faster." in told
    assert "lifts held-out pass@1 from 0.000 (0.000 to 0.000) to 0.625" in told
    assert "NOT from about 0 to a clear majority" in told  # its interval reaches below a half
    assert "half solved in practice (seed 0: gate) by 0.500" in told
    assert "Passed in practice: seed 0: 6 of 8." in told
    assert "(b) before practice (sft), pass@16 is 0.375" in told


def test_practice_is_compared_with_as_many_steps_without_new_data() -> None:
    more = {"trail-test-0-0000": (16, 0), "gate-test-0-0000": (16, 0)}
    less = {"trail-test-0-0000": (16, 0), "gate-test-0-0000": (8, 8)}
    told = page(results(on_sft=more, on_more=more, on_faster=less, on_rft=less))
    assert "`more`, its control, as many further steps without new data, changes it by 0.000" in told
    assert "RFT over `more`: -0.250 (-0.500 to 0.000), NOT clear of zero." in told
    assert "`faster`, its second control, at three times the rate, as many further steps" in told
    assert "RFT over `faster`: 0.000 (0.000 to 0.000), NOT clear of zero." in told


def test_a_blind_student_that_solves_more_than_it_may_is_said_to() -> None:
    seen = {"trail-test-0-0000": (1, 3), "gate-test-0-0000": (0, 4)}
    solved = {"trail-test-0-0000": (16, 0), "gate-test-0-0000": (16, 0)}
    told = page(results(on_sft=solved, on_blind=seen))
    assert "MORE THAN 10 %" in told


def test_who_chose_the_data_and_what_was_left_out_are_told_or_said_to_be_unknown() -> None:
    told = page(FULL)
    assert "Not measured here: `--parts sources`." in told
    assert "Not measured here: `--parts left_out`." in told
    rates = {"verified": 4, "unverified": 2, "judged": 4}
    made = {
        f"on_{source}_10": {
            "trail-test-0-0000": (passed, 4 - passed),
            "gate-test-0-0000": (passed, 4 - passed),
        }
        for source, passed in rates.items()
    }
    without = {"on_without_data": {"trail-test-0-0000": (0, 4), "gate-test-0-0000": (3, 1)}}
    sft = {"trail-test-0-0000": (16, 0), "gate-test-0-0000": (16, 0)}
    told = page(results(on_sft=sft, **made, **without))
    assert "| 20 | verified | 1 | 1.000" in told
    assert "At 20 rows: verified over unverified by 0.500 (0.500 to 0.500)." in told
    assert "At 20 rows: verified over judged by 0.000 (0.000 to 0.000), NOT clear of zero." in told
    assert "3 with the judge alone" in told
    assert "| data | 1 | 0.00 | 0.75 |" in told
    assert "Without data: data changes by -1.000 (-1.000 to -1.000), the other domains by -0.250" in told
    assert "data more than they by -0.750 (-0.750 to -0.750)." in told


# ── the whole of it ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.whole
@pytest.mark.timeout(3600)
def test_the_loop_runs_stops_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from benchmarks.learning.suite import PARTS, run

    def go(minutes: float | None) -> list[str]:
        said: list[str] = []
        run(
            tmp_path / "exp", size="pilot", seeds=[0], parts=PARTS, minutes=minutes, concurrency=2, threads=1,
            report_to=tmp_path / "report", say=said.append,
        )  # fmt: skip
        return said

    stopped, nothing = go(0.0)
    assert stopped == "The time is over. The same command goes on from here."
    assert nothing.startswith("No run on the held-out tasks is whole yet")
    assert {"teacher-data: 2 attempts", "teacher-interactive: 2 attempts"} <= set(go(None))
    told = collect(tmp_path / "exp")
    assert {task["passed"] for task in told["teacher"]["tasks"].values()} == {1}
    sides = [f"{source}-1" for source in SOURCES] + ["without-data", "without-interactive"]
    wanted = [
        "base",
        "blind",
        "more",
        "faster",
        "sft",
        *sides,
    ]  # after three steps nothing passes in practice
    assert sorted(told["seeds"]["0"]["runs"]) == sorted([*(f"on-{name}" for name in wanted), "practice"])
    assert set(told["seeds"]["0"]["fits"]) >= {"sft", "blind", "more", "faster", *sides}
    assert sum(told["judge"].values()) == 6
    assert {told["tables"][f"{source}-1"] for source in SOURCES} == {2}
    assert str(tmp_path) not in json.dumps(told)
    assert "Not measured here: rft." in (tmp_path / "report" / "report.md").read_text("utf-8")
    assert (tmp_path / "report" / "results.png").read_bytes().startswith(b"\x89PNG")
    again = [said for said in go(None) if not said.startswith("seed-0/rft: ")]  # all else is there
    assert again == ["nothing passed in practice: there is nothing that rft could learn from"]
    with pytest.raises(BadSetting, match="other settings"):
        run(
            tmp_path / "exp", size="small", seeds=[0], parts=PARTS, minutes=None, concurrency=2, threads=1,
            report_to=None, say=print,
        )  # fmt: skip


def test_unknown_sizes_and_parts_are_refused(tmp_path: Path) -> None:
    from benchmarks.learning.suite import run

    for asked in ({"size": "smal", "parts": []}, {"size": "small", "parts": ["sfd"]}):
        with pytest.raises(UnknownName, match=r"small|sft"):
            run(
                tmp_path / "exp", seeds=[], minutes=None, concurrency=1, threads=1, report_to=None, say=print, **asked
            )  # type: ignore[arg-type]  # fmt: skip
