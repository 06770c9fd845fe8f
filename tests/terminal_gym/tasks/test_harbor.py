"""Harbor folders: what is read, what older versions called it, and where each mistake is reported."""

import shutil
from pathlib import Path

import pytest

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.harbor import read_task, without_canary
from terminal_gym.tasks.harness import Artifact, Healthcheck

KIT = Path(__file__).parents[2] / "kit" / "tasks"
TOML = """\
schema_version = "1.1"

[verifier]
timeout_sec = 300.0

[agent]
timeout_sec = 900.0

[environment]
cpus = 2
memory = "2G"
storage = "10G"
"""


def folder(root: Path, toml: str = TOML, **files: str) -> Path:
    """A sound folder; `files` replace or add, with `__` for `/` and `_dot_` for `.` in their names."""
    made = root / "demo"
    body = {
        "task.toml": toml,
        "instruction.md": "Write /app/out.txt.\n",
        "environment/Dockerfile": "FROM debian:bookworm\nWORKDIR /app\n",
        "tests/test.sh": "#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n",
        "solution/solve.sh": "#!/bin/bash\necho done > /app/out.txt\n",
    } | {name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()}
    for name, text in body.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def test_a_folder_of_terminal_bench_2_is_read_whole(tmp_path: Path) -> None:
    task = read_task(folder(tmp_path))
    assert (str(task.ref), task.format, task.service) == ("TerminalBench2/demo", "harbor", "main")
    limits = task.limits
    assert (limits.agent_s, limits.verifier_s, limits.cpus) == (900.0, 300.0, 2.0)
    assert (limits.memory_mb, limits.disk_mb, limits.network) == (2048, 10_240, True)
    assert task.script is not None
    assert (task.script.script, task.script.parser, task.script.machine) == (
        "/tests/test.sh",
        "reward-file",
        None,
    )
    assert task.solution is not None
    assert task.solution.folder == task.folder / "solution"
    assert (task.strict.judge, task.strict.calibrated) == ("script", False)


def test_a_prebuilt_image_is_used_and_the_dockerfile_is_what_to_do_without_it(tmp_path: Path) -> None:
    task = read_task(folder(tmp_path, TOML + 'docker_image = "someone/demo:20251031"\n'))
    assert (task.image.name, task.image.prebuilt) == ("someone/demo:20251031", True)
    assert task.image.context == task.folder / "environment"
    (task.folder / "environment/Dockerfile").unlink()
    (task.folder / "environment/data.txt").write_text("loose")
    bare = read_task(task.folder)
    assert (bare.image.context, bare.uploads) == (None, task.folder / "environment")


def test_separate_verifier_steps_and_health(tmp_path: Path) -> None:
    vault = read_task(KIT / "bench2-vault")
    assert vault.script is not None
    assert vault.script.machine is not None
    assert vault.script.machine.owns_tests
    assert vault.script.env == {"STRICTNESS": "full"}
    assert vault.script.artifacts == (Artifact("/app/key.txt"), Artifact("/app/parts", exclude=("*.tmp",)))
    assert [hook.command for hook in vault.script.hooks] == ["cat /app/parts/* > /logs/artifacts/joined.txt"]
    assert vault.healthcheck == Healthcheck(("bash", "-c", "test -d /app"), interval_s=1.0, retries=5)
    assert len(vault.images) == 2
    trail = read_task(KIT / "bench2-trail")
    assert [(step.name, dict(step.min_reward)) for step in trail.steps] == [
        ("gather", {"reward": 0.5}),
        ("count", {}),
    ]
    assert (trail.at(0).limits.verifier_s, trail.at(1).limits.verifier_s) == (30.0, 600.0)
    assert trail.at(1).instruction.startswith("Write how many")


def test_the_format_is_found_by_content(tmp_path: Path) -> None:
    made = folder(tmp_path)
    assert read_folder(made).format == "harbor"
    assert read_folder(KIT / "bench1-note").format == "terminal-bench"
    traj = read_folder(KIT / "task_17")
    assert (traj.format, "category" in traj.metadata, traj.solution) == ("terminaltraj", False, None)
    assert "constants" in str(traj.metadata["ignored"])
    assert traj.metadata["item_info"]["repo"] == "someone/herons_3"  # type: ignore[index]


def test_the_canary_is_no_instruction() -> None:
    assert without_canary("<!-- x canary GUID 1 -->\n\n# harbor-canary 2\nDo it.\n<!-- canary -->\n") == (
        "Do it.\n<!-- canary -->\n"
    )


def test_this_machines_variables_are_read_only_where_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder(tmp_path, TOML + 'env = { KEY = "${TGYM_TEST_KEY}", MODE = "${NOPE:-plain}" }\n')
    monkeypatch.setenv("TGYM_TEST_KEY", "secret")
    with pytest.raises(BadTaskFormat, match=r"TGYM_TEST_KEY.*TGYM_HOST_ENV"):
        read_task(made)
    monkeypatch.setenv("TGYM_HOST_ENV", "OTHER,TGYM_TEST_KEY")
    assert dict(read_task(made).env) == {"KEY": "secret", "MODE": "plain"}


@pytest.mark.parametrize(
    ("toml", "line", "field"),
    [
        ('schema_version = "9.0"\n' + TOML.partition("\n")[2], 1, "schema_version"),
        ('version = "1.0"\n' + TOML, 1, "version"),
        (TOML + "gpus = 1\n", 13, "gpus"),
        (TOML + 'os = "windows"\n', 13, "os"),
        (TOML + "memory_mb = 100\n", 11, "memory"),
        (TOML.replace('"2G"', '"two"'), 11, "memory"),
        (TOML.replace("900.0", "-1"), 7, "timeout_sec"),
        (TOML.replace("300.0", '"300"'), 4, "timeout_sec"),
        (TOML + 'network_mode = "some"\n', 13, "network_mode"),
        (TOML + 'workdir = "app"\n', 13, "workdir"),
        (TOML + '[[steps]]\nname = "one"\n', 14, "name"),
        ('artifacts = ["app/x"]\n' + TOML, 1, "artifacts"),
        ('artifacts = [{source = "/x", destination = "../y"}]\n' + TOML, 1, "artifacts"),
        ('multi_step_reward_strategy = "max"\n' + TOML, 1, "multi_step_reward_strategy"),
        (TOML + "[environment.healthcheck]\nretries = 2\n", 13, "command"),
        (
            '[verifier.environment]\n[verifier]\nenvironment_mode = "shared"\n[environment]\n',
            1,
            "environment",
        ),
        (TOML + "cpus = 3\n", 13, None),
    ],
)
def test_each_mistake_is_reported_where_it_stands(
    tmp_path: Path, toml: str, line: int, field: str | None
) -> None:
    with pytest.raises(BadTaskFormat) as caught:
        read_task(folder(tmp_path, toml))
    assert caught.value.line == line, str(caught.value)
    assert (caught.value.field or "").rpartition(".")[2] == (field or ""), str(caught.value)


@pytest.mark.parametrize(
    "gone", ["task.toml", "instruction.md", "environment", "environment/Dockerfile", "tests/test.sh"]
)
def test_what_is_missing_is_named(tmp_path: Path, gone: str) -> None:
    made = folder(tmp_path)
    path = made / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BadTaskFormat) as caught:
        read_task(made)
    assert caught.value.path == path
