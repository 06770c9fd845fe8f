"""What an agent's programs print, as bytes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st
from kit import fuzz_targets
from kit.fuzz import fuzzed, mutated

GOLDEN = [
    path.read_bytes()[:3000] for path in sorted((Path(__file__).parents[1] / "golden").glob("*24x80.bytes"))
]
NUMBERS = st.sampled_from(
    [b"", b"0", b"1", b"2", b"7", b"24", b"80", b"132", b"255", b"1049", b"65536", b"9" * 20, b"9" * 5000]
)
SEQUENCES = st.one_of(
    st.builds(  # control sequences: ECMA-48, 5.4
        lambda mark, numbers, end: b"\x1b[" + mark + b";".join(numbers) + end,
        st.sampled_from([b"", b"?", b">", b"=", b"!", b"<", b" "]),
        st.lists(NUMBERS, max_size=6),
        st.binary(min_size=1, max_size=1) | st.sampled_from([bytes([c]) for c in range(0x40, 0x7F)]),
    ),
    st.sampled_from([
        b"\x1b#8", b"\x1bc", b"\x1b7", b"\x1b8", b"\x1bM", b"\x1bD", b"\x1bE", b"\x1bH", b"\x1b(0", b"\x1b(B", b"\x1b%G",
        b"\x1b%@", b"\x1b[", b"\x1b", b"\x9b", b"\x1b[38;2;1;2", b"\x1b[38;5", b"\x1b[4:3m", b"\x1b]0;", b"\x1b]2;t\x07",
        b"\x1b]52;c;?\x07", b"\x1bP", b"\x1b\\", b"\x1b_x\x1b\\", b"\x1b^y", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?6h",
        b"\x1b[2;5r", b"\x1b[r", b"\x1b[?7l", b"\x1b[4h", b"\x0e", b"\x0f", b"\x05", b"\x7f",
    ]),
    st.sampled_from([b"\r\n" * 60, b"\n", b"\r", b"\t", b"\b" * 9, b"\x0b", b"\x0c", b"\0", b"text", b"x" * 200]),
    st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(["漢字", "e\u0301", "👩‍👩‍👧", "\u202e", "ﷺ", "\ufeff", "\u0600"]).map(str.encode),
    st.binary(max_size=6),
)  # fmt: skip
STREAMS = st.lists(SEQUENCES, max_size=60).map(b"".join)
OWN = fuzz_targets.NONCE.encode()
MARKS = [
    b"\x1b]133;A;aid=%b\x07" % OWN, b"\x1b]133;D;0;aid=%b\x07" % OWN, b"\x1b]133;B;aid=%b\x07" % OWN,
    b"\x1b]6973;%b;waiting\x07" % OWN, b"\x1b]6973;%b;waiting;12.5\x07" % OWN, b"\x1b]133;D;", b"\x1b]697", b"\x1b",
    b"\x1b]133;D;99999;aid=%b\x07" % OWN, b"\x1b]133;A;aid=fedcba9876543210\x07", OWN, b"\x07",
]  # fmt: skip

test_screen = fuzzed(STREAMS | mutated(GOLDEN, [b"\x1b[9999999999L", b"\xff"]), examples=150)(
    fuzz_targets.screen
)
test_marks = fuzzed(
    mutated([b"$ ls\r\n".join(MARKS)], MARKS)
    | st.lists(st.sampled_from(MARKS) | st.binary(max_size=4)).map(b"".join),
    examples=200,
)(fuzz_targets.marks)
