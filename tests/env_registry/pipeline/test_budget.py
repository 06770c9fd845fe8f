"""Images within a disk budget: the least recently used is dropped, and comes back by its recipe."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from kit.repositories import repository

from env_registry.pipeline.collect import slug
from env_registry.pipeline.images import Images
from env_registry.pipeline.publish import publish
from env_registry.pipeline.run import run
from env_registry.pipeline.settings import Generate, Settings
from env_registry.pipeline.stage import Table
from terminal_gym.errors import ImageMissing, StartFailed
from terminal_gym.sandbox.base import Runtime

pytestmark = pytest.mark.docker


def held(runtime: Runtime, images: dict[str, str]) -> set[str]:
    """The repositories whose images are on the runtime."""
    found = set()
    for key, image in images.items():
        try:
            found.add(key) if runtime.image(image) else None
        except ImageMissing:
            continue
    return found


def test_the_least_recently_used_goes_and_comes_back(
    settings: Settings, docker_runtime: Runtime, tmp_path: Path
) -> None:
    names = ("one", "two", "three")
    for seed, name in enumerate(names):
        folder = repository(tmp_path, name, word=name)
        words = random.Random(seed)
        (folder / "src" / "big.c").write_text(
            "".join(f"/* {words.getrandbits(96)} */\n" for _ in range(9_000))
        )
    build = replace(settings.build, images_mb=1)
    wanted = replace(
        settings,
        sources=tuple(f"path:{name}" for name in names),
        build=build,
        generate=Generate(per_repository=1),
    )
    run(wanted, ["collect", "score", "build", "generate"])
    rows = Table(settings.work, "build").kept
    images = {row.key: str(row.cells["image"]) for row in rows}
    assert list(images) == [f"path:{name}" for name in names]
    assert held(docker_runtime, images) == {"path:three"}
    log: list[str] = []
    shelf = Images(wanted, docker_runtime, rows, log=log.append)
    with shelf.lend("path:one", images["path:one"]), shelf.lend("path:two", images["path:two"]):
        assert held(docker_runtime, images) == {"path:one", "path:two"}  # over the budget, but lent
    with shelf.lend("path:three", images["path:three"]):
        assert held(docker_runtime, images) == {"path:three"}
    shelf.close()
    assert [line.split("/")[0] for line in log if line.startswith("dropped")] == ["dropped tgym"] * 3
    run(wanted, ["accept"])
    kept = Table(settings.work, "accept").kept
    assert {row.cells["repository"] for row in kept} == set(images)
    assert len(held(docker_runtime, images)) == 1
    publish(wanted, tmp_path / "out")
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert not any("image" in json.loads(line) for line in lines)  # made again, an image has another digest


def test_a_recipe_of_ours_that_does_not_build_is_the_machines_fault(
    settings: Settings, docker_runtime: Runtime, base: str
) -> None:
    folder = settings.work / "images" / slug("path:proj")
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(f"FROM {base}\nADD lost.tar /\n")
    images = Images(settings, docker_runtime)
    with pytest.raises(StartFailed, match="cannot be made again"), images.lend("path:proj", "tgym/none:1"):
        pass
