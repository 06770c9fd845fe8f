"""The judge's child: gives up its rights, runs pytest, leaves a report in a pipe.

It shares its process with the tests and with whatever they import, so nothing it says is proof: the canaries show
blanket forging of outcomes, and only code that runs in a process of its own (`tg_remote`) is kept from targeted
forging. It never has the key.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import sys
from typing import TYPE_CHECKING

from terminal_gym.trusted_runtime.guest import privileges

if TYPE_CHECKING:
    from typing import Any

# What a verdict does not need and every judgement would pay for, a third of pytest's own run time.
_LEFT_OUT = (
    *("cacheprovider", "pastebin", "junitxml", "stepwise", "setuponly", "setupplan", "doctest"),
    *("faulthandler", "threadexception", "unraisableexception"),
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_state = {"warm": False}


def run(orders: dict[str, Any], *, go: int, report: int, output: int) -> None:
    """Run the ordered tests once told to; writes the report, then ends the process."""
    privileges.hide()
    os.setsid()  # the console is no longer our terminal
    _wire(output)
    prepare()
    import pytest

    from terminal_gym.trusted_runtime.guest import recorder

    if not is_warm() and not select.select([go], [], [], 0)[0]:
        warm_up()
    with os.fdopen(go) as told:
        places: dict[str, str] = json.loads(told.readline() or os._exit(1))
    dropped = orders["drop_to"] is not None and privileges.drop(orders["drop_to"])
    os.write(report, b"1" if dropped else b"0")
    _settle(orders, places)
    recording = recorder.Recorder(orders["canary"])
    status = pytest.main(_arguments(places["tests"], places["scratch"], orders), plugins=[recording])
    document = json.dumps({"rc": int(status), **recording.found()}).encode()
    while document:
        document = document[os.write(report, document) :]
    os._exit(0)


def _wire(output: int) -> None:
    """Read nothing, print into the supervisor's pipe. A pipe, as /dev may be anything."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    os.dup2(read_end, 0)
    os.close(read_end)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _settle(orders: dict[str, Any], places: dict[str, str]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        os.chdir(orders["cwd"])
    except OSError:
        os.chdir("/")
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # out of memory, this process goes, not PID 1
    except OSError:
        pass
    root = os.getuid() == 0
    env = {
        "PATH": _PATH,
        "HOME": "/root" if root else places["scratch"],
        "USER": "root" if root else "nobody",
        "LOGNAME": "root" if root else "nobody",
        "TMPDIR": places["scratch"],
        "LC_ALL": "C.UTF-8",  # for what the tests spawn; for this process it comes too late, and must
        **{name: value for name, value in orders["env"].items() if not name.startswith("PYTEST_")},
        "OPENSSL_CONF": "/dev/null",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    os.environ.clear()
    os.environ.update(env)
    sys.path.append(places["tests"])  # last: helpers beside the tests, which can shadow nothing


def prepare() -> None:
    """Import pytest, once."""
    if "pytest" in sys.modules:
        return
    guest = __file__.rpartition("/")[0]
    sys.path += [f"{guest.rpartition('/')[0]}/site", f"{guest}/site"]
    gc.disable()  # imports make no garbage, and a fifth of their time went into looking for it
    import pytest  # noqa: F401

    from terminal_gym.trusted_runtime.guest import recorder  # noqa: F401

    gc.enable()


def is_warm() -> bool:
    """Whether a session has been run in this process, or in the one that bore it."""
    return _state["warm"]


def warm_up() -> None:
    """Run a test of ours while nothing else is to be done: a second session takes half the time of the first.

    Before the tests are there and before rights are given up, so that nothing of the agent's runs in it; what it
    prints is dropped.
    """
    import contextlib
    import io

    prepare()
    import pytest

    from terminal_gym.trusted_runtime.guest import recorder

    folder = f"{__file__.rpartition('/')[0]}/warm_up"
    orders = {"own_conftest": False, "collect_only": False, "args": ("",)}
    with contextlib.redirect_stdout(io.StringIO()):
        arguments = [*_arguments(folder, "/nonexistent", orders), "--capture=no"]
        pytest.main(arguments, plugins=[recorder.Recorder("warm_up")])
    sys.modules.pop("test_warm_up", None)
    _state["warm"] = True


def _arguments(tests: str, scratch: str, orders: dict[str, Any]) -> list[str]:
    return [
        *("-c", "/dev/null", "--rootdir", tests, "--confcutdir", tests),
        *(f"-pno:{plugin}" for plugin in _LEFT_OUT),
        *("--import-mode=importlib", "--basetemp", f"{scratch}/pytest"),
        *("-q", "--tb=short", "--color=no", "-rN", "--no-header"),
        *([] if orders["own_conftest"] else ["--noconftest"]),
        *(["--collect-only"] if orders["collect_only"] else []),
        *(f"{tests}/{argument}" for argument in orders["args"]),
    ]
