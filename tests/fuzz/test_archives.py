"""Archives that an agent's machine hands out, and reports that its programs had a hand in."""

from __future__ import annotations

import json
import tarfile

from hypothesis import strategies as st
from kit import fuzz_targets
from kit.fuzz import fuzzed, mutated
from kit.fuzz_targets import CANARY, CONFIG, DIFF_ID, EXPECTED, tar_of

REG, DIR, SYM, LNK, FIFO = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
)
PLAIN = tar_of(
    ("out", DIR, b"", "", {}),
    ("out/file", REG, b"hello", "", {}),
    ("out/link", SYM, b"", "file", {}),
    ("out/same", LNK, b"", "out/file", {}),
    format=tarfile.GNU_FORMAT,
)
NAMES = st.sampled_from(
    [
        "out",
        "out/a",
        "out/a/b",
        "out/link",
        "out/link/x",
        "../x",
        "/etc/passwd",
        "out/../../x",
        "out/\udcff",
        "",
        ".",
        "out//a",
        "out/" + "n" * 300,
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(["mtime", "size", "path", "linkpath", "uid", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.numblocks",
                     "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.realsize", "GNU.sparse.name", "SCHILY.xattr.user.x", "hdrcharset"]),
    st.sampled_from(["nan", "inf", "-inf", "-1", "1e400", "0", "1", "9" * 30, "9" * 5000, "x", "../x", "1,2", "0,9999999999999", ",", "BINARY"]),
    max_size=3,
)  # fmt: skip
ENTRY = st.tuples(
    NAMES,
    st.sampled_from(
        [
            REG,
            DIR,
            SYM,
            LNK,
            FIFO,
            tarfile.CHRTYPE,
            tarfile.GNUTYPE_SPARSE,
            b"L",
            b"K",
            b"x",
            b"g",
            b"X",
            b"Z",
        ]
    ),
    st.binary(max_size=20)
    | st.sampled_from([b"20 path=out/../../x\n", b"9 a=", b"99999999 a=b\n", b"-1 a=b\n", b"x" * 600]),
    st.sampled_from(["", "a", "out/a", "../x", "/etc/passwd", "out/link"]),
    HEADERS,
)
TARS = st.lists(ENTRY, max_size=6).map(lambda entries: tar_of(*entries))
ODD = [
    b"\0" * 512,
    b"\xff" * 12,
    b"\x80" + b"\xff" * 11,
    b"77777777777\0",
    b"../",
    b"/",
    b"ustar\x0000",
    b"L",
    b"x",
    b"S",
]
LONG = tarfile.TarInfo("././@LongLink")
LONG.type = tarfile.GNUTYPE_LONGNAME
TRAVERSAL = CONFIG.replace(DIFF_ID.encode(), b":/../../../x")
NESTED = LONG.tobuf(tarfile.GNU_FORMAT) * 3000  # each is the name of the next

test_artifacts = fuzzed(TARS | mutated([PLAIN], ODD) | st.binary(max_size=600), examples=120, known=[NESTED])(
    fuzz_targets.artifacts
)
test_unpacked = fuzzed(TARS | mutated([PLAIN], ODD), examples=100, known=[NESTED])(fuzz_targets.unpacked)
test_layer = fuzzed(TARS | mutated([PLAIN], ODD), examples=60, known=[NESTED])(fuzz_targets.layer)
_IDS = [
    '"sha256:',
    '"sha256:../../x"',
    '":"',
    '":/../../../x"',
    "[]",
    "{}",
    "null",
    "1",
    '"',
    "9" * 5000,
    "[" * 3000,
    '"A"',
    "\\ud800",
]
test_image = fuzzed(
    mutated([CONFIG], [word.encode() for word in _IDS]), examples=60, known=[CONFIG, TRAVERSAL]
)(fuzz_targets.image)


def _report(**cells: object) -> bytes:
    canaries = ["test_outputs.py::test_abc", "test_outputs.py::test_def"]
    phases = [[node, when, "passed", None, ""] for node in EXPECTED for when in ("setup", "call", "teardown")]
    sung = [[canary, "call", "failed", None, CANARY] for canary in canaries]
    inner = {
        "rc": 1,
        "items": list(EXPECTED),
        "canaries": canaries,
        "reports": phases + sung,
        "errors": [],
    } | cells
    return json.dumps(
        {"status": "reported", "dropped": True, "report": inner, "out": "", "truncated": False, "s": 1.0}
    ).encode()


CELLS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*EXPECTED, CANARY, "call", "passed", "failed", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["a", "rc"]), inner, max_size=2)
    ),
    max_leaves=12,
)
DEEP = b'{"status": "reported", "report": {"errors": [%b%b]}}'
DEEPEST = [DEEP % (b"[" * depth, b"]" * depth) for depth in (100, 900, 940, 960, 975, 985, 990, 5000)]
REPORTS = st.one_of(
    st.builds(
        lambda name, cell: _report(**{name: cell}),
        st.sampled_from(["rc", "items", "canaries", "reports", "errors"]),
        CELLS,
    ),
    mutated(
        [_report()],
        [
            b"[" * 900,
            b"9" * 5000,
            b"NaN",
            b"null",
            b"{}",
            b'"\\ud800"',
            b'"passed"',
            b'"failed"',
            CANARY.encode(),
        ],
    ),
)
test_signed_report = fuzzed(REPORTS, examples=250, known=[_report(), *DEEPEST])(fuzz_targets.signed_report)
test_console = fuzzed(
    mutated([b"\x01TGR1 " + b"0" * 64 + b" e30=\n"], [b"\x01TGR1 ", b"\n", b"=", b"\xff"]) | st.binary(),
    examples=150,
)(fuzz_targets.console)
SUMMARY = b"=== short test summary info ===\nPASSED a::b\nFAILED a::c - x\nSKIPPED [1] a.py:1: no\n"
test_foreign_report = fuzzed(
    mutated(
        [
            SUMMARY,
            b"SWEBench results starts here\nPASSED\nSWEBench results ends here",
            b'{"reward": 1.0, "x": 2}',
            b"1.0\n",
        ],
        [
            b"===",
            b"PASSED",
            b"::",
            b"XFAIL",
            b"nan",
            b"1e999",
            b"9" * 5000,
            b"9" * 400,
            b"[" * 3000,
            b"\xff",
            b"true",
            b"\xd9\xa1",
            b'"\\ud800"',
        ],
    ),
    examples=200,
)(fuzz_targets.foreign_report)
