"""What models write in the pipeline beside instances: ratings; and what all of it costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.chat_server import ChatServer, Said
from kit.folders import task_folder
from typer.testing import CliRunner

from env_registry.pipeline.cli import app
from env_registry.pipeline.models import metered, opened_model
from env_registry.pipeline.rate import read_ratings
from env_registry.pipeline.run import funnel
from env_registry.pipeline.settings import Rate, Settings, read_settings
from env_registry.pipeline.spent import Spent
from env_registry.pipeline.stage import Rejected, Row, Table, run_stage
from terminal_gym.errors import BadTaskFormat
from terminal_gym.trajectory.dialogue import Message

GOOD = {"clarity": 5, "relevance": 4, "tests": 4, "demand": 3, "reason": "Plain."}


def said(text: str) -> Said:
    return Said(text, prompt_tokens=1_000, completion_tokens=10)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A pipeline with three accepted instances of two repositories."""
    table = Table(tmp_path / "work", "accept")
    (tmp_path / "work").mkdir()
    for n, repository in enumerate(("path:a", "path:a", "path:b")):
        solution = f"echo {n}\n" if n else ""
        folder = task_folder(
            tmp_path / "work" / "tasks", name=f"t{n}", **({"solution_dot_sh": solution} if n else {})
        )
        table.append(
            Row(
                f"t{n}", True, cells={"repository": repository, "family": "f", "path": f"tasks/{folder.name}"}
            )
        )
    table.close()
    return tmp_path / "c.yaml"


def write(config: Path, url: str, more: str = "") -> None:
    config.write_text(
        f"work: work\nsources: [path:a]\nrate: {{model: openai/tiny, base_url: '{url}'{more}}}\n"
    )


def test_instances_are_rated_once_and_the_cost_is_told(config: Path) -> None:
    replies = [said(json.dumps(GOOD)), said("I would rather not."), said(json.dumps(GOOD | {"tests": 9}))]
    with ChatServer(replies) as server:
        write(config, server.url, ", prices: {prompt: 2.0, completion: 50.0, cached: 0}")
        ran = CliRunner().invoke(app, ["rate", "--config", str(config)])
        assert ran.exit_code == 0, ran.output
        asked = [request["messages"][0]["content"] for request in server.requests]
        again = CliRunner().invoke(app, ["rate", "--config", str(config)])
        assert (again.exit_code, len(server.requests)) == (0, 3)
    assert "(none)" in asked[0]
    assert "echo 1" in asked[1]
    rows = Table(config.parent / "work", "rate").rows
    assert [row.reason for row in rows.values()] == ["", "bad-json", "bad-field"]
    assert (rows["t0"].cells["rating"], rows["t0"].cells["repository"]) == (4.0, "path:a")
    assert "3 calls, 3000 + 30 tokens, $0.0075" in ran.output
    assert rows["t1"].cells["spent"] == {
        "calls": 1, "prompt_tokens": 1_000, "completion_tokens": 10, "cost_usd": pytest.approx(0.0025),
    }  # fmt: skip


def test_rating_without_a_model_is_refused(config: Path) -> None:
    config.write_text("work: work\nsources: [path:a]\n")
    ran = CliRunner().invoke(app, ["rate", "--config", str(config)])
    assert ran.exit_code
    assert "rate.model" in str(ran.exception) + ran.output


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "bad-json"),
        ("[" * 5_000, "bad-json"),
        ("{}", "bad-field"),
        (json.dumps(GOOD | {"clarity": True}), "bad-field"),
        (json.dumps(GOOD | {"clarity": 4.5}), "bad-field"),
        (json.dumps(GOOD | {"demand": 0}), "bad-field"),
    ],
)
def test_ratings_that_are_none(reply: str, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_ratings(reply)
    assert caught.value.reason == reason


def test_a_fence_and_words_around_ratings_are_passed_over() -> None:
    ratings, why = read_ratings(f"Well:\n```json\n{json.dumps(GOOD)}\n```")
    assert (ratings["clarity"], why) == (5, "Plain.")


def test_every_row_has_its_own_cost_and_the_funnel_their_sum(tmp_path: Path) -> None:
    with ChatServer([said("yes"), said("no")]) as server:
        asks = Rate("openai/tiny", server.url)
        with opened_model(asks) as model:
            assert model is not None

            def work(item: int) -> dict[str, object]:
                for _ in range(item):
                    answer = model.complete([Message("user", "?")]).message.content
                if item == 2:
                    raise Rejected("refused", answer)
                return {"language": "c"}

            told = run_stage(
                Table(tmp_path, "generate"), [(str(n), n) for n in range(4)], metered(work, model), parallel=3
            )
    rows = Table(tmp_path, "generate").rows
    assert {key: row.cells.get("spent", {}).get("calls", 0) for key, row in rows.items()} == {
        "0": 0, "1": 1, "2": 2, "3": 3,
    }  # fmt: skip
    assert told.spent == Spent(6, 6_000, 60, None)  # a call without a price: the sum has none
    assert str(told.spent).endswith("price not known")
    found = funnel(Settings(tmp_path, tmp_path, ("path:a",)))
    assert Spent(**found["generate"]["spent"]) == told.spent
    assert "spent" not in found["build"]


def test_prices_and_zeros_are_read(config: Path) -> None:
    config.write_text(
        "sources: [path:a]\ngenerate: {model: openai/x, prices: {prompt: 0.4, completion: 1}, per_family: 0, seed: 0}\n"
        "build: {images_mb: 0}\n"
    )
    told = read_settings(config)
    assert dict(told.generate.prices) == {"prompt": 0.4, "completion": 1.0}
    assert (told.generate.per_family, told.build.images_mb) == (0, 0)
    config.write_text("sources: [path:a]\nrate: {prices: {prompts: 1}}\n")
    with pytest.raises(BadTaskFormat, match="prompt"):
        read_settings(config)
