"""Agents by name."""

from pathlib import Path

import pytest
from kit.scripted_model import ScriptedModel
from kit.trajectories import trajectory

from terminal_gym.agents.agent import AGENTS, open_agent
from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.trajectory.record import Action, Observation


def test_every_name_opens(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("[]")
    settings: dict[str, dict[str, object]] = {
        "scripted": {"script": tmp_path / "s.json"},
        "replay": {"trajectory": trajectory()},
        "terminus": {"model": ScriptedModel("x")},
        "bash": {"model": ScriptedModel("x")},
    }
    for name in AGENTS:
        assert open_agent(name, **settings.get(name, {})).name == name


def test_nop_submits_at_once() -> None:
    assert open_agent("nop").act(Observation("", "", (0, 0))) == Action(submit=True)


def test_a_name_nobody_has_and_settings_nobody_takes() -> None:
    with pytest.raises(UnknownName, match="'oracle'"):
        open_agent("oracel")
    with pytest.raises(BadSetting):
        open_agent("oracle", script="x")
    with pytest.raises(BadSetting):
        open_agent("scripted")
