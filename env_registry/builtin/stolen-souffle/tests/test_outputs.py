"""The case is solved, name by name."""

import json
from pathlib import Path

import pytest


@pytest.fixture()
def answer():
    given = json.loads(Path("/app/answer.json").read_text("utf-8"))
    assert set(given) == {"thief", "accomplice", "ticket", "paid_by"}
    return given


def test_the_thief(answer):
    assert answer["thief"] == "Hugo Hale"


def test_the_accomplice_and_the_ticket(answer):
    assert answer["accomplice"] == "Leo Jessop"
    assert type(answer["ticket"]) is int
    assert answer["ticket"] == 218


def test_who_paid(answer):
    assert answer["paid_by"] == "Ada Blackwood"
