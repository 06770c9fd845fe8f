"""Images of a run: made or found before an episode wants them, lent while it uses them, dropped when room is short.

Dropped is the least recently used first; never one that is lent or about to be, nor one that this run did not make.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from terminal_gym.errors import ImageMissing, SandboxError, TaskError
from terminal_gym.sandbox.base import Image, Runtime
from terminal_gym.tasks.image import ImageRecipe


@dataclass(frozen=True)
class Held:
    """An image on the shelf."""

    name: str
    bytes: int
    used: int  # when, counted in lendings
    lent: int  # to how many
    ours: bool  # made by this run


def to_drop(shelf: Sequence[Held], *, soon: frozenset[str], excess_bytes: int) -> tuple[str, ...]:
    """Return which images to drop so that `excess_bytes` are freed, or as many as may go; least recently used first."""
    dropped: list[str] = []
    for held in sorted(shelf, key=lambda held: held.used):
        if excess_bytes <= 0:
            break
        if held.ours and not held.lent and held.name not in soon:
            dropped.append(held.name)
            excess_bytes -= held.bytes
    return tuple(dropped)


class ImageShelf:
    """Makes images ahead, lends them, and keeps within its room. Safe to use from many threads.

    Args:
        runtime: Where images are.
        order: The recipes in the order in which they will be wanted.
        parallel: How many are made at the same time, and how far ahead.
        quota_bytes: What the images made here may take; None: no bound.
        floor_bytes: What is left free on the runtime's disk; 0: nothing.
        log: Told of what is built and dropped.
        size: What an image takes, in bytes; None: as the runtime says, with the layers that it shares with others.
    """

    def __init__(
        self,
        runtime: Runtime,
        order: Sequence[ImageRecipe],
        *,
        parallel: int = 4,
        quota_bytes: int | None = None,
        floor_bytes: int = 0,
        log: Callable[[str], None] = lambda text: None,
        size: Callable[[ImageRecipe], int] | None = None,
    ):
        self._runtime, self._log = runtime, log
        self._size = size or (lambda recipe: runtime.image_bytes(recipe.name))
        self._quota, self._floor, self._parallel = quota_bytes, floor_bytes, parallel
        self._order = list({recipe.name: recipe for recipe in order}.values())
        self._place = {recipe.name: at for at, recipe in enumerate(self._order)}
        self._makers = ThreadPoolExecutor(parallel, thread_name_prefix="tgym-image")
        self._mutex = threading.RLock()
        self._made: dict[str, Future[Image]] = {}
        self._held: dict[str, Held] = {}
        self._clock = 0

    def adopt(self, recipes: Sequence[ImageRecipe]) -> None:
        """Count images that are there already as made by this run, the first as the least recently used.

        Those whose recipe cannot make them again are not taken; too many of them are dropped at once.
        """
        for recipe in recipes:
            if recipe.context is None:
                continue
            try:
                self._runtime.image(recipe.name)
            except ImageMissing:
                continue
            self._count(recipe.name, 0)
            with self._mutex:
                self._held[recipe.name] = replace(
                    self._held[recipe.name], bytes=self._size(recipe), ours=True
                )
        self._make_room("")

    @contextlib.contextmanager
    def lend(self, recipe: ImageRecipe) -> Iterator[Image]:
        """Lend the image of `recipe`, made first where it is missing; it stays as long as somebody has it.

        Raises:
            TaskError: Its recipe does not build.
            SandboxError: The machine could not make it; the next borrower tries again.
        """
        made = self._wanted(recipe, lent=1)
        try:
            image = made.result()
            self._ahead(recipe)
            yield image
        finally:
            self._count(recipe.name, -1)

    def _wanted(self, recipe: ImageRecipe, *, lent: int) -> Future[Image]:
        with self._mutex:
            self._count(recipe.name, lent)
            made = self._made.get(recipe.name)
            if made is None or _may_pass(made):
                made = self._made[recipe.name] = self._makers.submit(self._make, recipe)
            return made

    def _ahead(self, recipe: ImageRecipe) -> None:
        """Begin to make the next ones."""
        at = self._place.get(recipe.name, len(self._order))
        for coming in self._order[at + 1 : at + 1 + self._parallel]:
            with self._mutex:
                known = coming.name in self._made
            if not known and not self._is_tight():
                self._wanted(coming, lent=0)

    def _count(self, name: str, lent: int) -> None:
        with self._mutex:
            self._clock += 1
            held = self._held.get(name, Held(name, 0, 0, 0, False))
            self._held[name] = Held(name, held.bytes, self._clock, held.lent + lent, held.ours)

    def _make(self, recipe: ImageRecipe) -> Image:
        try:
            return self._runtime.image(recipe.name)
        except ImageMissing:
            self._make_room(recipe.name)
            self._log(f"building {recipe.name}")
            image = self._runtime.build(recipe)
        size = self._size(recipe)
        with self._mutex:
            held = self._held[recipe.name]
            self._held[recipe.name] = Held(held.name, size, held.used, held.lent, ours=True)
        self._make_room(recipe.name)
        return image

    def _is_tight(self) -> bool:
        return self._excess() > 0

    def _excess(self) -> int:
        """Return how many bytes too many are taken."""
        with self._mutex:
            ours = sum(held.bytes for held in self._held.values() if held.ours)
        over = 0 if self._quota is None else ours - self._quota
        free = self._runtime.disk_free_bytes() if self._floor else None
        return max(over, 0 if free is None else self._floor - free)

    def _make_room(self, wanted: str) -> None:
        with self._mutex:
            shelf = list(self._held.values())
            names = to_drop(shelf, soon=frozenset([wanted]), excess_bytes=self._excess())
            for name in names:
                try:
                    self._runtime.remove_image(name)
                except SandboxError:
                    continue  # a container still uses it
                self._log(f"dropped {name}")
                self._made.pop(name, None)
                self._held.pop(name, None)

    def close(self) -> None:
        """Wait for what is being made. Safe to call again."""
        self._makers.shutdown(wait=True, cancel_futures=True)


def _may_pass(made: Future[Image]) -> bool:
    """Say whether making it failed by a fault that may pass; a recipe that does not build fails each time."""
    if not made.done() or made.cancelled():
        return made.cancelled()
    error = made.exception()
    return error is not None and not isinstance(error, TaskError)
