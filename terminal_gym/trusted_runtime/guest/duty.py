"""What PID 1 is for this time: takes one line of orders, then keeps a shell or judges."""

from __future__ import annotations

from terminal_gym.trusted_runtime.guest import console


def serve() -> None:
    """Take one line of orders and carry them out; never returns."""
    console.make_raw()
    console.write(console.READY)
    lines = console.Lines(0)
    try:
        orders = console.decode(lines.read())
        kind = orders["kind"]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        console.fail("bad_orders", repr(error))
    if kind == "shell":
        from terminal_gym.trusted_runtime.guest import keeper

        keeper.keep(orders)
    elif kind == "judge":
        from terminal_gym.trusted_runtime.guest import judge

        judge.judge(orders, lines)
    elif kind == "script":
        from terminal_gym.trusted_runtime.guest import script

        script.run(orders, lines)
    console.fail("bad_orders", f"kind {kind!r}")
