"""The families: deterministic, split by number, sound in a real sandbox, and not to be solved without looking."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from env_registry.cli import app
from env_registry.templates.draft import SPLITS, Family, Split, split_of
from env_registry.templates.generate import FAMILIES, chosen, drawn, write
from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import BadSetting, RuntimeUnavailable, StoreError, UnknownName
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.catalogue import Catalogue, find_task
from terminal_gym.tasks.lint import lint
from terminal_gym.tasks.manifest import read_manifest
from terminal_gym.trajectory.record import Trajectory

NUMBER = re.compile(r"\d{4}")
PAGE = Path(__file__).parents[2] / "docs" / "templates.md"


def numbers_in(folder: Path) -> set[int]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "Dockerfile"]
    texts = [path.read_text("utf-8") for path in files]
    names = [path.name for path in files if path.parent.name != folder.name]
    return {int(number) for text in [*texts, *names] for number in NUMBER.findall(text)}


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes()) for path in files}


def test_several_families_in_each_domain_and_most_need_three_looks() -> None:
    domains = [family.domain for family in FAMILIES.values()]
    assert len(set(domains)) >= 4
    assert all(domains.count(domain) >= 2 for domain in domains)
    assert sum(family.dependent_turns >= 3 for family in FAMILIES.values()) * 2 >= len(FAMILIES)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write(
            [i for f in FAMILIES.values() for i in drawn(f, split="val", seed=seed, count=2)], tmp_path / name
        )
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert set(tree(tmp_path / "one")) != set(tree(tmp_path / "other"))


def test_a_longer_series_begins_with_the_shorter_one() -> None:
    short, long = ([*drawn(FAMILIES["trail"], split="train", seed=0, count=n)] for n in (5, 9))
    assert long[:5] == short


@pytest.mark.parametrize("split", SPLITS)
def test_no_number_of_a_split_is_in_another(split: Split, tmp_path: Path) -> None:
    kinds = [family for family in FAMILIES.values() if family.name != "lock"]  # its modes are no names
    write([i for kind in kinds for i in drawn(kind, split=split, seed=0, count=10)], tmp_path / "set")
    found = {n for folder in (tmp_path / "set").iterdir() if folder.is_dir() for n in numbers_in(folder)}
    assert len(found) > 100
    assert {split_of(number) for number in found if number >= 1000} == {split}


def test_instructions_differ_within_a_set() -> None:
    for family in FAMILIES.values():
        texts = [instance.draft.instruction for instance in drawn(family, split="test", seed=0, count=100)]
        assert len(set(texts)) == 100


def test_the_generator_says_when_a_family_is_exhausted() -> None:
    with pytest.raises(BadSetting, match="no more than 9"):
        list(drawn(FAMILIES["clerk"], split="test", seed=0, count=1000))


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="trail"):
        chosen(["trial"])
    with pytest.raises(BadSetting, match="train, val, test"):
        next(drawn(FAMILIES["trail"], split="dev", seed=0, count=1))  # type: ignore[arg-type]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(StoreError, match="not empty"):
        write([], tmp_path / "full")


def test_the_command_writes_a_catalogue_with_a_manifest(tmp_path: Path) -> None:
    out = tmp_path / "set"
    asked = [
        "generate",
        "--family",
        "data",
        "--family",
        "gate",
        "--count",
        "2",
        "--split",
        "test",
        "--out",
        str(out),
    ]
    assert CliRunner().invoke(app, asked).exit_code == 0
    refs = read_manifest(out / "manifest.jsonl").refs
    assert [Path(ref).name for ref in refs] == [
        f"{family}-test-0-000{n}" for family in ("trail", "relay", "largest", "gate") for n in (0, 1)
    ]
    rows = Catalogue(out).rows
    assert len(rows) == 8
    assert {row.labels["split"] for row in rows.values()} == {"test"}
    assert not [finding for ref in refs for finding in lint(Path(ref)) if finding.severity != "note"]


def test_every_family_is_in_the_docs() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d) \|", PAGE.read_text("utf-8"), re.M)
    assert rows == [(f.name, f.domain, str(f.dependent_turns)) for f in FAMILIES.values()]


# ── in a sandbox ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with closing(open_runtime("namespace")) as maker:
        try:
            maker.check()
        except RuntimeUnavailable as error:
            pytest.skip(str(error))
        yield maker


@pytest.fixture(scope="module")
def played(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Trajectory]:
    """(family, agent) → what came of it, on a random instance of each family."""
    folder = tmp_path_factory.mktemp("templates") / "set"
    names = write([i for f in FAMILIES.values() for i in drawn(f, split="test", seed=11, count=1)], folder)
    tasks = {name.partition("-")[0]: find_task(folder / name) for name in names}

    def play(key: tuple[str, str]) -> Trajectory:
        with TerminalEnv(tasks[key[0]], runtime=runtime) as env:
            return run_episode(env, open_agent(key[1]))

    for task in tasks.values():
        runtime.build(task.image)
    keys = [(name, agent) for name in tasks for agent in ("oracle", "nop", "partial")]
    try:
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(keys, pool.map(play, keys), strict=True))
    finally:
        for task in tasks.values():
            runtime.remove_image(task.image.name)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_oracle_passes_no_op_and_partial_fail(
    family: Family, played: dict[tuple[str, str], Trajectory]
) -> None:
    ended = {agent: played[family.name, agent].outcome for agent in ("oracle", "nop", "partial")}
    assert {agent: one.status for agent, one in ended.items()} == {
        "oracle": "passed", "nop": "failed", "partial": "failed",
    }, ended  # fmt: skip
    assert {one.reason for agent, one in ended.items() if agent != "oracle"} == {"checks"}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_later_commands_depend_on_what_was_shown(
    family: Family, played: dict[tuple[str, str], Trajectory]
) -> None:
    """What a command says of numbers stands in the instruction or was shown before; the solution guesses nothing."""
    told = played[family.name, "oracle"]
    known, dependent = told.instruction, 0
    for step in told.steps:
        typed = b"".join(step.action.keys).decode()
        said = re.findall(r"\d{3,}", typed)
        assert all(number in known for number in said), typed
        dependent += any(number not in told.instruction for number in said)
        known += step.observation.output.replace(typed.strip(), "")
    assert dependent >= family.dependent_turns
    assert json.dumps(told.outcome.reward) == "1.0"
