"""A trajectory whose every text and byte tries to run in the browser of whoever looks at it."""

from __future__ import annotations

from terminal_gym.trajectory.dialogue import Message, ToolCall, Turn, Usage
from terminal_gym.trajectory.record import Action, Check, Frame, Observation, Outcome, Step, Trajectory

MARKUP = (
    "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'><svg onload=window.pwned=1>"
)
LONG = "without_a_break_" * 40
SEQUENCES = (
    b"\x1b]0;<script>window.pwned=1</script>\x07"  # window title
    b"\x1b]2;pwned title\x1b\\"
    b"\x1b]8;;javascript:window.pwned=1\x1b\\a link\x1b]8;;\x1b\\"
    b"\x1b]52;c;cHduZWQ=\x07"  # clipboard
    b"\x1bP$q<img src=x onerror=window.pwned=1>\x1b\\"  # DCS
    b"\x1b_<script>window.pwned=1</script>\x1b\\\x1b^x\x1b\\"  # APC, PM
    b"\x1b[8;9000;9000t\x1b[?1049h\x1b[?1049l\x1b[21t"  # resize, alternate screen, report the title
    b"\xff\xfe\xc3\x28\x00\r\n"
)
SHOWN = "forty-two herons were counted"


def hostile(attempt: int = 0) -> Trajectory:
    """Return a failed attempt; on its terminal SHOWN is printed in the second step, beside markup and sequences."""
    frames = [
        Frame(5.0, "out", b"$ " + SEQUENCES + MARKUP.encode() + b"\r\n$ "),
        Frame(6.01, "in", b"count\n"),
        Frame(6.5, "out", b"count\r\nnothing yet\r\n$ "),
        Frame(9.01, "in", b"count --again\r"),
        Frame(9.5, "out", b"count --again\r\n\x1b[1;32m" + SHOWN.encode() + b"\x1b[0m\r\n$ "),
        Frame(9.6, "resize", b"100000x100000"),
        Frame(12.0, "out", SEQUENCES),
    ]
    return Trajectory(
        task=f"evil/{MARKUP}/{LONG}",
        task_hash=MARKUP,
        agent=MARKUP,
        runtime="docker",
        image_digest=MARKUP,
        attempt=attempt,
        seed=1,
        steps=(_step(b"count\n", 1.0, 4.0), _step(b"count --again\r", 4.0, 7.0)),
        outcome=Outcome(
            "failed",
            0.0,
            f"{MARKUP} {LONG}",
            (Check(f"test_outputs.py::{MARKUP}", "failed", MARKUP), Check(LONG, "passed", MARKUP)),
            (MARKUP,),
        ),
        seconds={"total": 7.0, "verify": float("nan"), MARKUP: 1.0},
        frames=tuple(frames),
        rows=24,
        cols=80,
        instruction=f"{MARKUP} \u202egnitirw tfel-ot-thgir {LONG}",
        model=MARKUP,
        limit=MARKUP,
        began_at=MARKUP,
        failures=(MARKUP,),
        versions={MARKUP: MARKUP},
    )


def _step(keys: bytes, began_s: float, ended_s: float) -> Step:
    turn = Turn(
        messages=(Message("user", MARKUP), Message("tool", "\ud800 half a surrogate pair")),
        reply=Message("assistant", MARKUP, (ToolCall("1", MARKUP, MARKUP),)),
        reasoning=MARKUP,
        usage=Usage(10, 5),
    )
    said = '{"analysis": "' + MARKUP.replace('"', "") + '", "plan": "' + LONG + '"}'
    action = Action(keys=(keys, b"\x1b[A"), text=said, turns=(turn,))
    return Step(action, Observation(MARKUP, MARKUP, (0, 0), 1, MARKUP, MARKUP), began_s, ended_s)
