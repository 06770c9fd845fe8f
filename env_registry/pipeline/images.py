"""The images of repositories: kept as recipes, held on the runtime within a disk budget, made again when wanted.

WORK/images/<slug>/      Dockerfile, app.tar, and layer.tar where a repository's own Dockerfile made more than /app
WORK/toolchains/<name>/  the Dockerfile of an image that builds stand on

Dropped is the least recently used (terminal_gym/rollout/images.py), never one that is lent.
"""

from __future__ import annotations

import json
import secrets
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from env_registry.pipeline.collect import slug
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Row
from terminal_gym.errors import BuildFailed, ImageMissing, StartFailed
from terminal_gym.rollout.images import ImageShelf
from terminal_gym.sandbox.base import Image, Runtime
from terminal_gym.sandbox.images import bases
from terminal_gym.tasks.image import ImageRecipe
from terminal_gym.tasks.terminal_bench import built_image

_AT_ONCE = 500  # paths of one instruction


def write_recipe(
    folder: Path,
    name: str,
    *,
    base: str,
    archive: bytes,
    gone: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> ImageRecipe:
    """Write what makes an image; a layer.tar that is there already is a part of it.

    Args:
        folder: Its own.
        name: The repository's slug.
        base: The image that it stands on.
        archive: A tar of /app.
        gone: Paths of the base that are taken away.
        env: Variables that are set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.tar").write_bytes(archive)
    lines = [f"FROM {base}"]
    lines += ["ADD layer.tar /"] if _holds_something(folder / "layer.tar") else []
    for at in range(0, len(gone), _AT_ONCE):
        lines.append(f"RUN {json.dumps(['rm', '-rf', '--', *gone[at : at + _AT_ONCE]])}")
    for key, value in (env or {}).items():
        if key.isidentifier() and "\n" not in value:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
            lines.append(f'ENV {key}="{quoted}"')
    lines += ["ADD app.tar /", "WORKDIR /app"]
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n", "utf-8")
    return built_image(folder, "Dockerfile", slug=f"repo-{name}")


def write_toolchain(folder: Path, text: str) -> None:
    """Write the Dockerfile of a toolchain, whole at once: other nodes may read it meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    path, new = folder / "Dockerfile", folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.new")
    if path.is_file() and path.read_text("utf-8") == text:
        return
    new.write_text(text, "utf-8")
    new.replace(path)


def _holds_something(layer: Path) -> bool:
    if not layer.exists():
        return False
    with tarfile.open(layer, errors="surrogateescape") as tar:
        if tar.next() is not None:
            return True
    layer.unlink()
    return False


class Images:
    """Lends the images of repositories; safe to use from many threads.

    Args:
        settings: Of the pipeline; `build.images_mb` is the budget.
        runtime: Where they are.
        built: The rows of those made before, in the order in which they were: they count, and may be dropped.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        built: Iterable[Row] = (),
        *,
        log: Callable[[str], None] = lambda text: None,
    ):
        self._settings, self._runtime = settings, runtime
        quota = settings.build.images_mb << 20
        self._shelf = ImageShelf(
            runtime, (), parallel=1, quota_bytes=quota or None, log=log, size=added_bytes
        )
        if quota:
            self._shelf.adopt([self.recipe(row.key, str(row.cells["image"])) for row in built])

    @property
    def are_bounded(self) -> bool:
        """Whether any is ever dropped."""
        return bool(self._settings.build.images_mb)

    def recipe(self, repository: str, image: str) -> ImageRecipe:
        """Return what makes a repository's image; the name alone where its folder is gone."""
        folder = self._settings.work / "images" / slug(repository)
        return ImageRecipe(image, folder) if (folder / "Dockerfile").is_file() else ImageRecipe(image)

    @contextmanager
    def lend(self, repository: str, image: str) -> Iterator[Image]:
        """Lend a repository's image, made again where it is missing; it stays as long as somebody has it.

        Raises:
            SandboxError: The machine could not make it; its recipe is ours.
        """
        with self.lend_recipe(self.recipe(repository, image)) as found:
            yield found

    @contextmanager
    def lend_recipe(self, recipe: ImageRecipe) -> Iterator[Image]:
        """As `lend`, of a recipe that `write_recipe` wrote."""
        with ExitStack() as stack:
            try:
                self._have_toolchain(recipe)
                found = stack.enter_context(self._shelf.lend(recipe))
            except BuildFailed as error:
                raise StartFailed(
                    f"{recipe.name} cannot be made again: {error} {error.log_tail[-300:]}"
                ) from error
            yield found

    def _have_toolchain(self, recipe: ImageRecipe) -> None:
        """Make the toolchain image under a recipe, where neither it nor the image itself is there."""
        if recipe.context is None:
            return
        [base] = bases((recipe.context / recipe.dockerfile).read_text("utf-8"))
        for name in (recipe.name, base):
            try:
                self._runtime.image(name)
                return
            except ImageMissing:
                continue
        for folder in sorted((self._settings.work / "toolchains").glob("*/")):
            made = built_image(folder, "Dockerfile", slug=f"toolchain-{folder.name}")
            if made.name == base:
                self._runtime.build(made)

    def close(self) -> None:
        """Wait for what is being made. Safe to call again."""
        self._shelf.close()


def added_bytes(recipe: ImageRecipe) -> int:
    """What an image takes beside its toolchain, which many share."""
    assert recipe.context is not None
    return sum(path.stat().st_size for path in recipe.context.glob("*.tar"))
