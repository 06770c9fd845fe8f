"""Drives one target of `fuzz_targets` by coverage: `python -m kit.coverage_guided TARGET SECONDS CORPUS`.

Exits with 0 where nothing fell; libFuzzer says otherwise and writes the input. Needs atheris.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["terminal_gym", "tarfile", "pyte"]):
    from kit.fuzz_targets import TARGETS


def main() -> None:
    name, seconds, corpus = sys.argv[1], sys.argv[2], sys.argv[3]
    options = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=20",
        f"-artifact_prefix={corpus}/fell-",
    ]
    atheris.Setup([sys.argv[0], *options, corpus], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
