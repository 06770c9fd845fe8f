"""A screen as pixels, for `render_mode="rgb_array"`. Needs Pillow (extra `[render]`), imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from terminal_gym.errors import BadSetting

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from terminal_gym.terminal.screen import Run, Snapshot

CELL = (6, 13)  # (width, height) in pixels: Pillow's built-in bitmap font and one line between rows
_FG, _BG = (204, 204, 204), (16, 16, 16)
_NAMED = {
    "black": (0, 0, 0), "red": (205, 49, 49), "green": (13, 188, 121), "brown": (229, 229, 16),
    "yellow": (229, 229, 16), "blue": (36, 114, 200), "magenta": (188, 63, 188), "cyan": (17, 168, 205),
    "white": (229, 229, 229),
}  # fmt: skip


def pixels(shown: Snapshot | None, *, size: tuple[int, int], text: str = "") -> npt.NDArray[np.uint8]:
    """Return `(13 · rows, 6 · cols, 3)` uint8; `text` is drawn where there is no live screen.

    Raises:
        BadSetting: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise BadSetting("rgb_array needs Pillow: pip install 'terminal-gym[render]'.") from None
    rows, cols = size
    picture = Image.new("RGB", (cols * CELL[0], rows * CELL[1]), _BG)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default_imagefont()
    lines = shown.lines if shown is not None else tuple(text.split("\n"))
    for row, line in enumerate(lines[:rows]):
        for col, char in enumerate(line[:cols]):
            if char != " ":
                draw.text((col * CELL[0], row * CELL[1]), _drawable(char), fill=_FG, font=font)
        for run in shown.styles[row] if shown is not None else ():
            _restyle(draw, font, row, line, run)
    if shown is not None and shown.cursor_shown:
        y, x = shown.cursor
        box = (x * CELL[0], y * CELL[1], (x + 1) * CELL[0] - 1, (y + 1) * CELL[1] - 1)
        draw.rectangle(box, outline=_FG)
    return np.asarray(picture, dtype=np.uint8).copy()


def _restyle(draw: ImageDraw, font: object, row: int, line: str, run: Run) -> None:
    fg, bg = _colour(run.fg, _FG), _colour(run.bg, _BG)
    if run.reverse:
        fg, bg = bg, fg
    left, top = run.start * CELL[0], row * CELL[1]
    draw.rectangle((left, top, run.end * CELL[0] - 1, top + CELL[1] - 1), fill=bg)
    for col, char in enumerate(line[run.start : run.end], run.start):
        draw.text((col * CELL[0], top), _drawable(char), fill=fg, font=font)  # type: ignore[arg-type]  # an ImageFont


def _drawable(char: str) -> str:
    return char if ord(char) < 256 else "?"  # the bitmap font knows Latin-1


def _colour(name: str, default: tuple[int, int, int]) -> tuple[int, int, int]:
    if name == "default":
        return default
    known = _NAMED.get(name.removeprefix("bright"))
    if known is not None:
        return known
    try:
        return (int(name[0:2], 16), int(name[2:4], 16), int(name[4:6], 16))
    except ValueError:
        return default
