"""Files of a run that somebody has edited, or a disk has damaged."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from kit import fuzz_targets
from kit.fuzz import fuzzed, mutated
from kit.fuzz_targets import RECORD

from terminal_gym.trajectory.chain import sealed
from terminal_gym.trajectory.store import DATA, INDEX, SETTINGS

WORDS = [
    b"9" * 400, b"9" * 5000, b"-1", b"1e400", b"NaN", b'"nan"', b"null", b"[]", b"{}", b'"\\ud800"', b"[" * 3000, b'"\xff"', b"true", b'"",',
    b'"version"', b'"reward":', b'"frames":[[1,2,3]]', b'"steps":{}', b'"status":"passed"', b'"offset":"x"', b"\0" * 9, b"\n", b"\x1f\x8b\x08",
]  # fmt: skip
with tempfile.TemporaryDirectory(prefix="tgym-fuzz-") as _root:
    fuzz_targets.made_run(Path(_root, "run"))
    RUN = {name: Path(_root, "run", name).read_bytes() for name in (DATA, INDEX, SETTINGS)}
MEMBER = gzip.compress(RECORD + b"\n", mtime=0)
ROWS = [json.loads(line) for line in RUN[INDEX].splitlines()]


def _chained(cells: dict[str, object]) -> bytes:
    """An index whose first row says something else, sealed as if it had been written so."""
    first = {name: cell for name, cell in (ROWS[0] | cells).items() if name != "chain"}
    return sealed(first, after="")[0]


LARGE = RECORD.replace(b'"total":1.7', b'"total":' + b"9" * 400)
test_record = fuzzed(mutated([RECORD], WORDS), examples=250, known=[LARGE])(fuzz_targets.record)
test_data = fuzzed(
    mutated([RUN[DATA], RUN[DATA] + MEMBER, MEMBER * 2], [MEMBER, MEMBER[:40], b"\x1f\x8b\x08", b"\0" * 40]),
    examples=30,
)(fuzz_targets.run_file(DATA))
test_index = fuzzed(mutated([RUN[INDEX]], WORDS), examples=30)(fuzz_targets.run_file(INDEX))
test_sealed_index = fuzzed(
    st.dictionaries(
        st.sampled_from(sorted(ROWS[0])), st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4), max_size=3
    ).map(_chained),
    examples=30,
    known=[_chained({"length": 2**63 - 40}), _chained({"length": 10**11}), _chained({"offset": 2**70})],
)(fuzz_targets.run_file(INDEX))  # fmt: skip
test_settings = fuzzed(mutated([RUN[SETTINGS]], WORDS), examples=50)(fuzz_targets.run_file(SETTINGS))
