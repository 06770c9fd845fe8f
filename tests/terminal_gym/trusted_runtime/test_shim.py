"""The shim's reading of command lines, without a sandbox: what it holds, what it hands on, what it says it lacks."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from terminal_gym.trusted_runtime import build
from terminal_gym.trusted_runtime.orders import OFFLINE, SHIM


@pytest.fixture(scope="module")
def shim() -> ModuleType:
    path = Path(build.__file__).parent / "guest/shim/shim.py"
    spec = importlib.util.spec_from_file_location("tgym_shim", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_sides_know_the_same_words(shim: ModuleType) -> None:
    assert (shim.OFFLINE, shim.SHIM) == (OFFLINE, SHIM)


@pytest.mark.parametrize(
    "args",
    [
        ["-LsSf", "https://astral.sh/uv/0.9.5/install.sh"],
        ["-LsSf", "https://astral.sh/uv/install.sh"],
        ["-fsSL", "https://github.com/astral-sh/uv/releases/download/0.7.13/uv-installer.sh"],
    ],
)
def test_uv_s_installer_is_ours(
    shim: ModuleType, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    assert shim.fetch("curl", args) == 0
    assert SHIM in capsys.readouterr().out


def test_the_installer_goes_where_it_is_asked_to_go(shim: ModuleType, tmp_path: Path) -> None:
    place = tmp_path / "install.sh"
    assert shim.fetch("curl", ["-LsSf", "-o", str(place), "https://astral.sh/uv/install.sh"]) == 0
    assert SHIM in place.read_text()
    assert shim.fetch("wget", ["-qO", str(place), "https://astral.sh/uv/install.sh"]) == 0


def test_another_url_is_not_ours(
    shim: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("TGYM_NETWORK", "0")
    assert shim.fetch("curl", ["-sS", "https://example.org/astral.sh/uv/install.sh.txt"]) != 0
    assert OFFLINE in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "args", "missing"),
    [
        ("uv", ["add", "pytest==8.4.1"], ""),
        ("uv", ["add", "pytest==8.4.1", "numpy>=2"], "numpy>=2"),
        ("uv", ["pip", "install", "--system", "pytest", "requests"], "requests"),
        ("uv", ["init"], ""),
        ("pip", ["install", "-q", "pytest==8.4.1", "pytest_json_ctrf"], ""),
        ("pip", ["install", "pandas[all]==2"], "pandas[all]==2"),
        ("pip", ["install", "-r", "requirements.txt"], "requirements"),
        ("apt-get", ["update"], ""),
        ("apt-get", ["install", "-y", "curl"], ""),
        (
            "apt-get",
            ["install", "-y", "--no-install-recommends", "curl", "no-such-package"],
            "no-such-package",
        ),
    ],
)
def test_what_is_not_held_is_named(
    shim: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    args: list[str],
    missing: str,
) -> None:
    monkeypatch.setenv("TGYM_NETWORK", "0")
    doing = {"uv": shim.uv, "pip": shim.pip, "apt-get": shim.apt}[program]
    code = doing(program, args)
    said = capsys.readouterr().err
    assert (code != 0, OFFLINE in said) == (bool(missing), bool(missing))
    assert missing in said


def test_flags_of_uvx_are_not_its_program(shim: ModuleType) -> None:
    command = ["pytest", "--ctrf", "x", "t.py", "-rA"]
    assert shim.asked(["-p", "3.13", "-w", "pytest==8.4.1", "-w", "b,c", *command]) == (
        ["pytest==8.4.1", "b", "c"],
        command,
    )
    assert shim.asked(["--no-project", "--with=pytest", "--", "python", "-m", "x"]) == (
        ["pytest"],
        ["python", "-m", "x"],
    )
    assert shim.asked(["--python"]) == ([], [])


_PLAY = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tgym_shim", sys.argv[1])
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
sys.exit(shim.pytest("pytest", sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("args", "is_for_want_of_network"), [(["--a-plugin-s-own"], True), (["not_there.py"], False)]
)
def test_an_option_is_a_plugin_s_and_a_file_that_is_not_there_is_nobody_s(
    shim: ModuleType, tmp_path: Path, args: list[str], is_for_want_of_network: bool
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PLAY, str(shim.__file__), *args],
        env=os.environ | {"TEST_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 4
    assert (OFFLINE in ran.stderr) == is_for_want_of_network
