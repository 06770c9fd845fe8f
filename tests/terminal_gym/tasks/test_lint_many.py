"""Lint of a whole folder: whatever lies in it, every task has its line, and nothing raises."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from terminal_gym.cli.app import app
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.lint import lint

KIT = Path(__file__).parents[2] / "kit" / "tasks"
SOUND = ("bench1-note", "bench1-shop", "task_17", "bench2-note", "bench2-vault", "bench2-trail")


def _text(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


def _link(folder: Path) -> None:
    (folder / "tests/out").symlink_to("/etc/passwd")


# What is done to a sound folder → (which one, how, what the finding has to name).
DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "yaml-cut": ("bench1-note", lambda f: (f / "task.yaml").write_bytes(b"instruction: [a\n"), "task.yaml"),
    "yaml-binary": ("bench1-note", lambda f: (f / "task.yaml").write_bytes(b"\xff\xfe\x00"), "UTF-8"),
    "yaml-empty": ("bench1-note", lambda f: (f / "task.yaml").write_bytes(b""), "empty"),
    "yaml-list": ("bench1-note", lambda f: (f / "task.yaml").write_text("- a\n"), "mapping"),
    "yaml-bomb": (
        "bench1-note", lambda f: (f / "task.yaml").write_text("a: " + "[" * 2000 + "]" * 2000), "task.yaml"
    ),
    "no-instruction": ("bench1-note", _text("task.yaml", "instruction:", "instructions:"), "instruction"),
    "bad-timeout": ("bench1-note", _text("task.yaml", "60.0", "sixty"), "max_test_timeout_sec"),
    "bad-parser": ("bench1-note", _text("task.yaml", "parser_name: pytest", "parser_name: junit"), "parser_name"),
    "no-dockerfile": ("bench1-note", lambda f: (f / "Dockerfile").unlink(), "Dockerfile"),
    "compose-key": ("bench1-shop", _text("docker-compose.yaml", "init: true", "privileged: true"), "privileged"),
    "compose-host-folder": ("bench1-shop", _text("docker-compose.yaml", "sales:/var/sales", "/:/host"), "volumes"),
    "compose-circle": ("bench1-shop", _text("docker-compose.yaml", "    init: true", "    depends_on: [shop]"), "wait"),
    "compose-variable": ("bench1-shop", _text("docker-compose.yaml", "apples 3", "${HOME}"), "HOME"),
    "solution-shape": ("bench1-shop", lambda f: (f / "solution.yaml").write_text("- command: 5\n"), "command"),
    "link-out": ("bench1-note", _link, "link"),
    "device": ("bench1-note", lambda f: os.mkfifo(f / "tests/pipe"), "pipe"),
    "item-info": ("task_17", lambda f: (f / "item_info.json").write_text("{"), "item_info"),
    "toml-cut": ("bench2-note", lambda f: (f / "task.toml").write_text("[agent\n"), "TOML"),
    "toml-version": ("bench2-note", _text("task.toml", 'version = "1.0"', 'version = "7"'), "version"),
    "no-tests": ("bench2-note", lambda f: shutil.rmtree(f / "tests"), "test.sh"),
    "no-environment": ("bench2-note", lambda f: shutil.rmtree(f / "environment"), "environment"),
    "step-without-folder": ("bench2-trail", lambda f: shutil.rmtree(f / "steps/count"), "steps/count"),
    "step-user": (
        "bench2-trail", _text("task.toml", "[steps.agent]", '[steps.agent]\nuser = "nobody"'), "user"
    ),
    "step-network": (
        "bench2-trail", _text("task.toml", "[steps.agent]", '[steps.agent]\nnetwork_mode = "public"'), "network_mode"
    ),
    "gpu": ("bench2-note", _text("task.toml", "cpus = 1", "cpus = 1\ngpus = 2"), "GPU"),
    "test-syntax": ("bench2-note", lambda f: (f / "tests/test_outputs.py").write_text("def (:\n"), "Python"),
    "crlf": ("bench2-note", lambda f: (f / "tests/test.sh").write_bytes(b"#!/bin/bash\r\necho reward\r\n"), "line"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_damage_is_one_error_that_names_it(tmp_path: Path, kind: str) -> None:
    source, damage, named = DAMAGE[kind]
    folder = shutil.copytree(KIT / source, tmp_path / source)
    damage(folder)
    errors = [finding for finding in lint(folder) if finding.severity == "error"]
    assert len(errors) == 1, errors
    assert named in f"{errors[0].path} {errors[0].what}", errors


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_folder_has_no_error(name: str) -> None:
    assert not [finding for finding in lint(KIT / name) if finding.severity in ("error", "warning")]


@pytest.mark.parametrize(
    "empties", [lambda f: (f / "tests/test_outputs.py").unlink(), lambda f: shutil.rmtree(f / "tests")]
)
def test_a_script_that_runs_pytest_on_nothing_is_told(
    tmp_path: Path, empties: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(KIT / "bench1-note", tmp_path / "task")
    empties(folder)
    (found,) = (finding for finding in lint(folder) if finding.severity == "warning")
    assert (found.rule, found.path.name) == ("no-tests", "run-tests.sh")


def test_a_folder_of_many_is_a_table(tmp_path: Path) -> None:
    tasks, count = tmp_path / "tasks", 600
    kinds = list(DAMAGE)
    for number in range(count):
        source, damage, _ = DAMAGE[kinds[number // 4 % len(kinds)]]
        if number % 4:
            shutil.copytree(KIT / SOUND[number % len(SOUND)], tasks / f"task-{number}")
        else:
            damage(shutil.copytree(KIT / source, tasks / f"task-{number}"))
    (tasks / "README").write_text("not a task")
    (tasks / "empty").mkdir()
    ran = CliRunner().invoke(app, ["tasks", "lint", str(tasks)])
    assert ran.exit_code == 1, ran.output
    wrong = len(range(0, count, 4)) + 1
    assert f"{count + 1} tasks read, {wrong} with errors" in ran.output, ran.output[-500:]
    assert "Traceback" not in ran.output


def test_what_is_found_is_json_where_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("yaml-cut", "toml-cut"):
        source, damage, _ = DAMAGE[name]
        damage(shutil.copytree(KIT / source, tmp_path / name))
    shutil.copytree(KIT / "bench2-note", tmp_path / "sound")
    told = json.loads(CliRunner().invoke(app, ["tasks", "lint", str(tmp_path), "--json"]).stdout)
    assert (told["folders"], told["errors"]) == (3, 2)
    assert {finding["task"] for finding in told["findings"] if finding["severity"] == "error"} == {
        "yaml-cut",
        "toml-cut",
    }


def test_twenty_kinds_of_damage_and_more_are_told_apart(tmp_path: Path) -> None:
    """Each kind has a message of its own: no two folders are damaged in the same way."""
    told = {}
    for kind, (source, damage, _) in DAMAGE.items():
        folder = shutil.copytree(KIT / source, tmp_path / kind / source)
        damage(folder)
        (error,) = (finding for finding in lint(folder) if finding.severity == "error")
        told[kind] = (error.path.relative_to(folder).as_posix(), error.line, error.what)
    assert len(set(told.values())) == len(DAMAGE) >= 20


def test_several_services_are_read(tmp_path: Path) -> None:
    task = read_folder(KIT / "bench1-shop")
    shop, ledger = task.services
    assert (task.service, task.needs) == ("client", (("shop", "healthy"),))
    assert (shop.name, shop.command, shop.needs) == ("shop", None, (("ledger", "started"),))
    assert dict(shop.env) == {"STOCK": "apples 3,pears 12,plums 7"}
    assert shop.healthcheck is not None
    assert shop.healthcheck.command == ("sh", "-c", "test -e /var/sales/open")
    assert shop.image.context == task.folder / "shop"
    assert (ledger.image.name, ledger.init) == ("debian:bookworm", True)
    assert ledger.command == ("sh", "-c", "touch /var/sales/ledger && sleep infinity")
    assert [mount.target for mount in (*shop.mounts, *ledger.mounts)] == ["/var/sales"] * 2
    assert {recipe.name.partition(":")[0] for recipe in task.images} == {
        "tgym/bench1-shop",
        "tgym/bench1-shop-shop",
        "debian",
    }
