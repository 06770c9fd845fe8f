"""The built wheel is the package: it holds what it needs, nothing of the checkout, and passes the fast tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked(below: str) -> list[str]:
    """Names of the files of the checkout, without what git ignores and without what was deleted."""
    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard", below]
    listed = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = (
        folder / "source"
    )  # a copy: an in-tree build leaves, and later packs, files that were deleted since
    for name in tracked("."):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(build, check=True, timeout=250)
    return next(folder.glob("*.whl"))


def test_it_holds_two_packages_and_their_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"terminal_gym", "env_registry"}
    for needed in (
        "terminal_gym/trusted_runtime/guest/init.py",
        "terminal_gym/trusted_runtime/guest/shell/bashrc",
        "terminal_gym/trusted_runtime/guest/shell/zsh/.zshrc",
        "env_registry/builtin/index.jsonl",
    ):
        assert needed in names


def test_every_file_of_a_built_in_instance_travels(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert set(tracked("env_registry/builtin")) <= inside


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_fast_tests_pass_against_it(wheel: Path, tmp_path: Path) -> None:
    """PYTHONPATH puts the unpacked wheel before the checkout; the tests come from the checkout."""
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    probe = "import terminal_gym, env_registry; print(terminal_gym.__file__, env_registry.__path__)"
    env = os.environ | {"PYTHONPATH": f"{unpacked}{os.pathsep}{ROOT}"}
    where = subprocess.run(
        [sys.executable, "-c", probe], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(unpacked) in where.stdout
    folders = [str(ROOT / "tests" / name) for name in ("terminal_gym", "env_registry")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "2",
        "-m",
        "not docker and not slow and not whole",
    ]
    # What a terminal shows is bytes in and cells out, and needs no file of the package.
    command += ["-p", "no:cacheprovider", "--ignore", str(ROOT / "tests" / "terminal_gym" / "terminal")]
    ran = subprocess.run(
        [*command, *folders], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=580
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
