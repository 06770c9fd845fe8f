"""Stands in for what test scripts fetch before they test: curl of uv's installer, apt-get, pip, uv, uvx, pytest.

In the trusted tree, read-only, and first in PATH only while a test script runs: an agent never sees it used and cannot
change it. Known scripts then work without any network, and pytest is the trusted runtime's. Whatever is not known goes
to the image's own program of that name. What cannot be had without the network is said in a line that begins with
OFFLINE: the judge takes it for what it is, a machine without network, and not for a failing agent.

Source: the template scripts of Terminal-Bench 1.0 and 2.x; uv 0.9 for its command line.
"""

from __future__ import annotations

import os
import re
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

SHIM = "/tg/guest/shim/bin"
OFFLINE = "terminal-gym shim: OFFLINE:"
_UV = re.compile(r"https?://(astral\.sh/uv/|(www\.)?github\.com/astral-sh/uv/releases/).*install(er)?\.sh$")
_INSTALLER = f"""#!/bin/sh
mkdir -p "$HOME/.local/bin"
rm -rf "$HOME/.local/bin/env"
echo 'export PATH="{SHIM}:$PATH"' > "$HOME/.local/bin/env"
"""
# What the tree holds, or what only a bootstrap needs.
_PYTHON = {
    "pytest", "pytest-json-ctrf", "pluggy", "iniconfig", "packaging", "pygments", "pip", "uv", "setuptools", "wheel",
}  # fmt: skip
_DEBIAN = {
    "curl",
    "wget",
    "ca-certificates",
    "python3",
    "python3-pip",
    "python3-venv",
    "python3-pytest",
    "pipx",
}
_WITH_VALUE = {
    "uv": {"--with", "-w", "--from", "-p", "--python", "--project", "--directory", "--index-url", "-i", "--extra",
           "--group", "--index", "--find-links", "-f", "--cache-dir", "--with-requirements", "--env-file"},
    "curl": {"-o", "--output", "-H", "--header", "-X", "--request", "-d", "--data", "-A", "-m", "--max-time", "-u",
             "--retry", "--retry-delay", "--connect-timeout", "-e", "-b", "-c", "-x", "-w", "--cacert"},
    "wget": {"-O", "--output-document", "-P", "-t", "--tries", "-T", "--timeout", "--header"},
}  # fmt: skip


def main(program: str) -> NoReturn:
    """Do what `program` was asked for, or hand over to the image's own."""
    args = sys.argv[1:]
    doing = {
        "curl": fetch, "wget": fetch, "apt-get": apt, "apt": apt, "pip": pip, "pip3": pip, "uv": uv, "uvx": uvx,
        "pytest": pytest, "py.test": pytest, "python": python, "python3": python,
    }  # fmt: skip
    sys.exit(doing[program](program, args))


def offline(what: str) -> int:
    """Say what cannot be had; the exit code is for the script, which mostly goes on."""
    print(f"{OFFLINE} {what}", file=sys.stderr, flush=True)
    return 6


def real(program: str, args: list[str]) -> int:
    """Become the image's own program; returns 127 where it has none."""
    for folder in os.environ.get("PATH", "").split(":"):
        path = f"{folder}/{program}"
        if folder and folder != SHIM and os.access(path, os.X_OK) and not os.path.isdir(path):
            os.execv(path, [program, *args])
    return 127


def has_network() -> bool:
    return os.environ.get("TGYM_NETWORK") == "1"


def fetch(program: str, args: list[str]) -> int:
    flags, words = _split(args, _WITH_VALUE[program])
    if not any(_UV.search(word) for word in words):
        code = real(program, args)
        if code == 127 and not has_network():
            return offline(f"{program} {' '.join(words)}")
        return code
    place = flags.get("-O") or flags.get("--output-document") if program == "wget" else flags.get("-o")
    place = place or flags.get("--output")
    if place and place != "-":
        with open(place, "w") as file:
            file.write(_INSTALLER)
    else:
        sys.stdout.write(_INSTALLER)
    return 0


def apt(program: str, args: list[str]) -> int:
    _, words = _split(args, {"-o", "-t", "-c"})
    if has_network():
        return real(program, args)
    if words[:1] != ["install"]:
        return 0
    missing = [word for word in words[1:] if _plain(word) not in _DEBIAN and not _is_installed(_plain(word))]
    return (offline(f"{program} install {' '.join(missing)}") and 100) if missing else 0


def _plain(package: str) -> str:
    return re.split(r"[=/:]", package)[0]


def _is_installed(package: str) -> bool:
    try:
        with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return False
    return bool(
        re.search(rf"^Package: {re.escape(package)}\nStatus: install ok installed$", text, re.MULTILINE)
    )


def pip(program: str, args: list[str]) -> int:
    _, words = _split(args, _WITH_VALUE["uv"] | {"-r", "--requirement", "-t", "--target"})
    if words[:1] != ["install"]:
        return real(program, args)
    missing = _missing(words[1:])
    if not missing and "-r" not in args and "--requirement" not in args:
        return 0
    if has_network():
        return real(program, args)
    return offline(f"{program} install {' '.join(missing) or 'a list of requirements'}") and 1


def _missing(requirements: list[str]) -> list[str]:
    """Those that the trusted runtime does not hold."""
    names = {
        word: re.split(r"[\[<>=!~;@ ]", word.strip("\"'"))[0].lower().replace("_", "-")
        for word in requirements
    }
    return [word for word, name in names.items() if name and name not in _PYTHON]


def uv(program: str, args: list[str]) -> int:
    while args and args[0].startswith("-") and args[0] not in ("--version", "-V"):
        args = args[2:] if args[0] in _WITH_VALUE["uv"] else args[1:]
    command, rest = (args[0], args[1:]) if args else ("help", [])
    if command in ("--version", "-V", "version"):
        print("uv 0.9.5 (terminal-gym shim)")
        return 0
    if command == "venv":
        return _venv(rest)
    if command == "add":
        return _needs("uv add", _split(rest, _WITH_VALUE["uv"])[1])
    if command == "pip":
        words = _split(rest, _WITH_VALUE["uv"])[1]
        return _needs("uv pip install", words[1:]) if words[:1] == ["install"] else 0
    if command == "run":
        return _run(rest)
    if command == "tool" and rest[:1] == ["run"]:
        return _run(rest[1:])
    return 0


def uvx(program: str, args: list[str]) -> int:
    return _run(args)


def _needs(what: str, requirements: list[str]) -> int:
    missing = _missing(requirements)
    return offline(f"{what} {' '.join(missing)}") if missing else 0


def _venv(args: list[str]) -> int:
    folder = next((word for word in _split(args, _WITH_VALUE["uv"])[1]), ".venv")
    os.makedirs(f"{folder}/bin", exist_ok=True)
    with open(f"{folder}/bin/activate", "w") as file:
        file.write(f'export PATH="{SHIM}:$PATH"\n')
    return 0


def _run(args: list[str]) -> int:
    """`uv run` and `uvx`: flags, then a program and its arguments."""
    wanted, command = asked(args)
    code = _needs("uv run with", wanted)
    if not command:
        return code
    name = command[0].partition("@")[0].partition("==")[0]
    if name in ("pytest", "py.test"):
        return pytest(name, command[1:])
    if name in ("python", "python3"):
        return python(name, command[1:])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
    return 127


def asked(args: list[str]) -> tuple[list[str], list[str]]:
    """(packages that `uv run` or `uvx` is to bring, the command line that it is to run)"""
    wanted: list[str] = []
    while args and args[0].startswith("-") and args[0] != "--":
        flag, equals, value = args[0].partition("=")
        if flag in _WITH_VALUE["uv"]:
            value, args = (value, args[1:]) if equals else (args[1] if len(args) > 1 else "", args[2:])
            wanted += value.split(",") if flag in ("--with", "-w", "--from") else []
        else:
            args = args[1:]
    return wanted, args[1:] if args[:1] == ["--"] else args


def python(program: str, args: list[str]) -> int:
    if args[:2] == ["-m", "pytest"]:
        return pytest("pytest", args[2:])
    if args[:2] == ["-m", "pip"]:
        return pip("pip", args[2:])
    code = real(program, args)
    if code == 127 and not has_network():  # uv would have brought one
        os.execv("/tg/bin/python3", [program, "-B", *args])
    return code


def pytest(program: str, args: list[str]) -> int:
    """Run the trusted runtime's pytest: no plug-ins, no settings or conftest.py but the task's own."""
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "PYTHON"))]:
        del os.environ[name]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path += ["/tg/site", "/tg/guest/site"]
    import pluggy
    import pytest

    vars(pluggy)["__version__"] = "trusted"  # asked for in the header, and the tree holds no package metadata
    args = list(args)
    started = Started()
    plugins: list[object] = [started]
    report = _taken(args, "--ctrf")
    if report:
        plugins.append(Report(report))
    tests = os.environ.get("TEST_DIR") or "/tests"
    settings = f"{tests}/pytest.ini" if os.path.isfile(f"{tests}/pytest.ini") else "/dev/null"
    ours = ["-p", "no:cacheprovider", "-c", settings, "--rootdir", tests, "--confcutdir", tests]
    code = int(pytest.main([*args, *ours], plugins=plugins))
    if code == 4 and not started.seen:  # later it is a file that is not there, which no network would bring
        offline(f"pytest with the options {' '.join(args)}")
    return code


def _taken(args: list[str], flag: str) -> str:
    """Remove a flag and its value from `args`; returns the value, "" where the flag is not there."""
    for index, word in enumerate(args):
        if word == flag and index + 1 < len(args):
            value = args[index + 1]
            del args[index : index + 2]
            return value
        if word.startswith(f"{flag}="):
            del args[index]
            return word.partition("=")[2]
    return ""


def _split(args: list[str], with_value: set[str]) -> tuple[dict[str, str], list[str]]:
    """(flag → its value, the other words); short flags that are joined count as one."""
    flags: dict[str, str] = {}
    words: list[str] = []
    waiting = ""
    for word in args:
        if waiting:
            flags[waiting], waiting = word, ""
        elif word.startswith("-") and word != "-":
            flag, equals, value = word.partition("=")
            last = f"-{word[-1]}" if not word.startswith("--") and len(word) > 2 else ""
            if equals:
                flags[flag] = value
            elif flag in with_value:
                waiting = flag
            elif last in with_value:
                waiting = last
            else:
                flags[flag] = ""
        else:
            words.append(word)
    return flags, words


class Started:
    """A pytest plug-in: knows whether the options were understood."""

    seen = False

    def pytest_sessionstart(self) -> None:
        self.seen = True


class Report:
    """A pytest plug-in: writes what pytest-json-ctrf writes, from which no verdict is taken. Source: CTRF schema."""

    def __init__(self, path: str):
        self._path, self._began = path, time.time()
        self._tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = self._tests.setdefault(
            report.nodeid, {"name": report.nodeid, "status": "passed", "duration": 0.0}
        )
        test["duration"] += report.duration
        if report.failed:
            test |= {"status": "failed", "trace": str(report.longrepr)[-4000:]}
        elif report.skipped and test["status"] == "passed":
            test["status"] = "skipped"

    def pytest_sessionfinish(self) -> None:
        tests = list(self._tests.values())
        count = {
            name: sum(test["status"] == name for test in tests) for name in ("passed", "failed", "skipped")
        }
        summary: dict[str, Any] = {
            "tests": len(tests),
            **count,
            "pending": 0,
            "other": 0,
            "start": self._began,
            "stop": time.time(),
        }
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        import json

        with open(self._path, "w") as file:
            json.dump({"results": {"tool": {"name": "pytest"}, "summary": summary, "tests": tests}}, file)
