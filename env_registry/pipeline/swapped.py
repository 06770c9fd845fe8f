"""Runs inside a sandbox: each instance's solution, then its tests' functions. Standard library only.

Prints one JSON line for each: {"key", "passed", "found"}. What lies at a path that an instance lays a file over, and
whatever it left in /app/answer and /tmp, is put back or taken away before the next one.
"""

import json
import os
import shutil
import subprocess
import sys

PLACE = "/tgym-swap/instances"
SAVED = "/tgym-swap/saved"


def main(limit_s: float) -> None:
    for key in sorted(os.listdir(PLACE)):
        found = one(os.path.join(PLACE, key), limit_s)
        print(json.dumps({"key": key, "passed": not found, "found": found[:200]}), flush=True)


def one(folder: str, limit_s: float) -> str:
    """Why an instance's solution does not pass its tests, "" where it does."""
    laid = lay(os.path.join(folder, "files"))
    try:
        argv = ["bash", os.path.join(folder, "solution.sh")]
        try:
            subprocess.run(
                argv, cwd="/app", timeout=limit_s, check=False, stdin=subprocess.DEVNULL, capture_output=True
            )
        except subprocess.TimeoutExpired:
            return "the solution took too long"
        return judged(os.path.join(folder, "tests", "test_outputs.py"))
    finally:
        for path, saved in laid:
            if os.path.lexists(path):
                os.unlink(path)
            if saved:
                shutil.move(saved, path)
        shutil.rmtree("/app/answer", ignore_errors=True)
        for name in os.listdir("/tmp"):
            path = os.path.join("/tmp", name)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def lay(files: str) -> list[tuple[str, str]]:
    """Lay files over /app; returns (path, where what was there is kept)."""
    laid: list[tuple[str, str]] = []
    for here, _, names in os.walk(files):
        for name in names:
            path = os.path.join("/app", os.path.relpath(os.path.join(here, name), files))
            saved = ""
            if os.path.lexists(path):
                os.makedirs(SAVED, exist_ok=True)
                saved = os.path.join(SAVED, str(len(laid)))
                shutil.move(path, saved)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copyfile(os.path.join(here, name), path)
            laid.append((path, saved))
    return laid


def judged(tests: str) -> str:
    names: dict[str, object] = {"__name__": "test_outputs"}
    try:
        with open(tests, encoding="utf-8") as file:
            exec(compile(file.read(), tests, "exec"), names)
        for name, test in list(names.items()):
            if name.startswith("test") and callable(test):
                test()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main(float(sys.argv[1]))
