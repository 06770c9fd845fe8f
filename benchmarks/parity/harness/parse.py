"""Reads outputs with terminal-bench's own parsers. Runs inside the harness image: JSON list in, JSON list out."""

from __future__ import annotations

import json
import sys

from terminal_bench.parsers.base_parser import UnitTestStatus
from terminal_bench.parsers.parser_factory import ParserFactory, ParserName


def main() -> None:
    """Print, for each `{"parser", "text"}`, the test names with whether they passed; null where it raises."""
    told = []
    for asked in json.load(sys.stdin):
        try:
            found = ParserFactory.get_parser(ParserName(asked["parser"])).parse(asked["text"])
            told.append({name: status == UnitTestStatus.PASSED for name, status in found.items()})
        except Exception:
            told.append(None)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
