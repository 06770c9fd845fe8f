from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from kit.chat_server import ChatServer
from kit.scripted_model import ScriptedModel
from kit.trajectories import trajectory

from terminal_gym.cli import main
from terminal_gym.errors import ForgedRecord, ModelRefused
from terminal_gym.rollout.judge import FILE, agreement, judge, judgements, transcript
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.store import Run, RunWriter

ENDS = ("passed", "passed", "failed", "failed", "broken")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with RunWriter(tmp_path / "run", {"tasks": {}, "attempts": 5}) as writer:
        for k, status in enumerate(ENDS):
            writer.append(trajectory(attempt=k, status=status))  # type: ignore[arg-type]
    return Run(tmp_path / "run")


def said(solved: object) -> str:
    return f"I think: {json.dumps({'reason': 'because', 'solved': solved})}"


def test_opinions_are_kept_beside_the_verdicts(run: Run) -> None:
    model = ScriptedModel(said(True), said(False), said(True), said(False))
    assert judge(run, model, concurrency=1) == 4
    told = judgements(run.folder)
    assert agreement(run, told) == {
        "judged": 4,
        "both_passed": 1,
        "both_failed": 1,
        "only_code_passed": 1,
        "only_model_passed": 1,
        "no_opinion": 0,
        "agreement": 0.5,
        "kappa": 0.0,
    }
    assert [row.status for row in Run(run.folder).rows] == list(ENDS)
    assert judge(run, model) == 0, "nobody is asked twice"
    assert judge(run, _named("another", said(True))) == 4
    assert len(judgements(run.folder, model="another")) == 4
    assert agreement(run, judgements(run.folder, model="scripted"))["agreement"] == 0.5


def _named(name: str, *replies: str) -> ScriptedModel:
    model = ScriptedModel(*replies)
    model.name = name
    return model


def _refuses(messages: Sequence[Message]) -> str:
    raise ModelRefused("no")


@pytest.mark.parametrize("reply", ["yes", "{}", '{"solved": "true"}', "[1]", "}{", _refuses])
def test_what_is_no_opinion(run: Run, reply: object) -> None:
    judge(run, ScriptedModel(reply))  # type: ignore[arg-type]
    told = judgements(run.folder)
    assert {one.solved for one in told.values()} == {None}
    assert agreement(run, told)["agreement"] is None
    assert agreement(run, told)["no_opinion"] == 4


def test_an_edited_opinion_is_refused(run: Run) -> None:
    judge(run, ScriptedModel(said(False)))
    path = run.folder / FILE
    path.write_text(path.read_text().replace('"solved":false', '"solved":true', 1))
    with pytest.raises(ForgedRecord):
        judgements(run.folder)


def test_the_model_sees_what_happened(run: Run) -> None:
    model = ScriptedModel(said(True))
    judge(run, model, concurrency=1)
    assert "Make it." in model.told[0]
    assert "[1] typed: 'ls\\n'" in model.told[0]
    assert "[3] typed: 'ls\\n'" in model.told[0]


def test_a_long_transcript_is_cut_in_its_middle() -> None:
    text = transcript(trajectory(turns=5_000))
    assert len(text) < 61_000
    assert text.startswith("[1]")
    assert "characters left out" in text


def test_the_set_that_a_model_would_have_chosen(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with ChatServer([said(False), said(True)], model="tiny") as server:
        words = ["--model", "openai/tiny", "--model-setting", f"base_url={server.url}", "--concurrency", "1"]
        assert tgym("judge", run.folder, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["only_model_passed"] == 2
    assert tgym("export", run.folder, "--judged-by", "openai/tiny", "--out", tmp_path / "data", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["attempts"] == 3
    assert told["dropped"] == {"broken": 1, "not solved, says the model": 1}


def tgym(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)
