import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.registry import Registry
from kit.waiting import wait_until

from terminal_gym.errors import BuildFailed, ImageMissing, RuntimeUnavailable, StartFailed
from terminal_gym.rollout.images import Held, ImageShelf, to_drop
from terminal_gym.sandbox.base import Image, Runtime
from terminal_gym.sandbox.container import Docker
from terminal_gym.sandbox.images import names
from terminal_gym.tasks.image import ImageRecipe

SHELVES = st.lists(
    st.builds(
        Held,
        name=st.uuids().map(str),
        bytes=st.integers(0, 100),
        used=st.integers(0, 50),
        lent=st.integers(0, 1),
        ours=st.booleans(),
    ),
    max_size=12,
)


@given(shelf=SHELVES, excess=st.integers(-10, 500), soon=st.integers(0, 3))
def test_what_is_dropped(shelf: list[Held], excess: int, soon: int) -> None:
    wanted = frozenset(held.name for held in shelf[:soon])
    names = to_drop(shelf, soon=wanted, excess_bytes=excess)
    by_name = {held.name: held for held in shelf}
    may_go = [held for held in shelf if held.ours and not held.lent and held.name not in wanted]
    dropped = [by_name[name] for name in names]
    assert all(held in may_go for held in dropped)
    assert [held.used for held in dropped] == sorted(held.used for held in may_go)[: len(dropped)]
    freed = sum(held.bytes for held in dropped)
    assert freed >= excess or len(dropped) == len(may_go) or excess <= 0
    if dropped:
        assert freed - dropped[-1].bytes < excess  # none too many


class Shop:
    """A runtime that only makes images: one byte each."""

    name = "shop"

    def __init__(self, fault: Callable[[str], None] = lambda name: None):
        self.there, self.made, self.fault, self.in_use = set[str](), list[str](), fault, set[str]()
        self.most = 0

    def image(self, name: str) -> Image:
        if name not in self.there:
            raise ImageMissing(name)
        return Image(name, "sha256:0")

    def build(self, recipe: ImageRecipe, *, log: object = None) -> Image:
        self.fault(recipe.name)
        self.made.append(recipe.name)
        self.there.add(recipe.name)
        self.most = max(self.most, len(self.there))
        return self.image(recipe.name)

    def remove_image(self, name: str) -> None:
        if name in self.in_use:
            raise StartFailed(f"{name} is used by a container")
        self.there.discard(name)

    def image_bytes(self, name: str) -> int:
        return 1

    def disk_free_bytes(self) -> int | None:
        return 100 - len(self.there)


def recipes(count: int) -> list[ImageRecipe]:
    return [ImageRecipe(f"image-{number:03}", Path()) for number in range(count)]


def shelf(shop: Shop, order: list[ImageRecipe], **settings: object) -> ImageShelf:
    return ImageShelf(shop, order, **settings)  # type: ignore[arg-type]


def test_the_next_ones_are_made_meanwhile() -> None:
    shop, order = Shop(), recipes(6)
    images = shelf(shop, order, parallel=2)
    with images.lend(order[0]):
        for _ in range(1000):
            if len(shop.made) == 3:
                break
            threading.Event().wait(0.01)
    images.close()
    assert sorted(shop.made) == ["image-000", "image-001", "image-002"]


def test_what_is_there_is_not_made_and_never_dropped() -> None:
    shop, order = Shop(), recipes(5)
    shop.there = {recipe.name for recipe in order[:2]}
    images = shelf(shop, order, parallel=1, quota_bytes=1)
    for recipe in order:
        with images.lend(recipe):
            pass
    images.close()
    assert shop.there >= {"image-000", "image-001"}
    assert shop.made == ["image-002", "image-003", "image-004"]
    assert len(shop.there) <= 4


def test_many_borrowers_share_one_making() -> None:
    shop, (recipe,) = Shop(), recipes(1)
    images = shelf(shop, [recipe], parallel=4)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: images.lend(recipe).__enter__(), range(8)))) == 8
    assert shop.made == ["image-000"]


def test_what_is_lent_is_never_dropped() -> None:
    shop, order = Shop(), recipes(10)
    images = shelf(shop, order, parallel=1, quota_bytes=3)
    with images.lend(order[0]):
        for recipe in order[1:]:
            with images.lend(recipe):
                assert {"image-000", recipe.name} <= shop.there
    images.close()
    assert len(shop.there) <= 4


def test_who_borrowed_in_vain_holds_nothing() -> None:
    faults = iter([RuntimeUnavailable("down")])

    def fault(name: str) -> None:
        if error := next(faults, None):
            raise error

    shop, order = Shop(fault), recipes(5)
    images = shelf(shop, order, parallel=1, quota_bytes=1)
    with pytest.raises(RuntimeUnavailable), images.lend(order[0]):
        pass
    for recipe in order:
        with images.lend(recipe):
            pass
    images.close()
    assert "image-000" not in shop.there


def test_what_a_container_uses_stays() -> None:
    shop, order = Shop(), recipes(6)
    shop.in_use = {"image-000"}
    images = shelf(shop, order, parallel=1, quota_bytes=2)
    for recipe in order:
        with images.lend(recipe):
            pass
    images.close()
    assert "image-000" in shop.there


def test_the_floor_under_the_disk() -> None:
    shop, order = Shop(), recipes(20)
    images = shelf(shop, order, parallel=1, floor_bytes=95)
    for recipe in order:
        with images.lend(recipe):
            pass
    images.close()
    assert shop.most <= 7  # five, the one being made, and the next
    assert len(shop.made) == 20


def test_a_recipe_that_does_not_build_is_not_tried_twice_and_a_machine_fault_is() -> None:
    faults = iter([RuntimeUnavailable("down"), BuildFailed("no such package"), BuildFailed("never asked")])
    asked: list[str] = []

    def fault(name: str) -> None:
        asked.append(name)
        raise next(faults)

    (recipe,) = recipes(1)
    images = shelf(Shop(fault), [recipe])
    for error in (RuntimeUnavailable, BuildFailed, BuildFailed):
        with pytest.raises(error), images.lend(recipe):
            pass
    images.close()
    assert len(asked) == 2


@pytest.mark.docker
def test_a_hundred_images_under_a_quota(docker_runtime: Runtime, tmp_path: Path) -> None:
    order = [
        _noise(tmp_path / f"{number:03}", f"tgym-test/noise-{os.getpid()}:{number:03}")
        for number in range(100)
    ]
    images = ImageShelf(docker_runtime, order, parallel=4, quota_bytes=2_000_000)
    mutex, most = threading.Lock(), [0]

    def borrow(recipe: ImageRecipe) -> None:
        with images.lend(recipe) as image:
            assert docker_runtime.image(recipe.name) == image
            with mutex:
                most[0] = max(most[0], _bytes(docker_runtime, order))

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(borrow, order))
        images.close()
        assert 0 < most[0] <= 2_000_000 + 9 * 100_000  # four lent, four being made, one just made
        assert _bytes(docker_runtime, order) <= 2_000_000 + 100_000
    finally:
        for recipe in order:
            docker_runtime.remove_image(recipe.name)


@pytest.mark.docker
def test_pinned_images_are_pulled_ahead_several_at_a_time_from_a_mirror(docker_runtime: Runtime) -> None:
    with Registry() as registry:
        digests = [registry.add(f"mirrored/image-{n}", "1", {"noise": os.urandom(50_000)}) for n in range(10)]
        order = [ImageRecipe(f"nowhere.invalid/image-{n}@{digest}", None) for n, digest in enumerate(digests)]
        runtime = Docker(mirror=f"{registry.host}/mirrored")
        log: list[str] = []
        images = ImageShelf(runtime, order, parallel=6, quota_bytes=250_000, log=log.append)
        registry.tickets = threading.Semaphore(1)  # the first is given out, the next ones wait
        try:
            assert digests[0] in _borrowed(images, order[0]).name
            # The Engine itself downloads three layers at a time; asked it is for more.
            assert wait_until(lambda: len(registry.manifests()) == 1 + 6, deadline_s=60), "not pulled ahead"
            registry.tickets.release(100)
            for recipe in order:
                image = _borrowed(images, recipe)
                assert image.name == f"{registry.host}/mirrored/{recipe.name.partition('/')[2]}"
        finally:
            registry.tickets.release(100)
            images.close()
            for recipe in order:
                runtime.remove_image(recipe.name)
            runtime.close()
        assert any(line.startswith("dropped") for line in log)
        assert not [line for line in log if "cannot be pulled" in line]


def _borrowed(images: ImageShelf, recipe: ImageRecipe) -> Image:
    with images.lend(recipe) as image:
        return image


@pytest.mark.docker
def test_a_tag_from_a_mirror_gets_its_own_name_and_what_the_mirror_has_not_is_asked_for_elsewhere(
    docker_runtime: Runtime,
) -> None:
    name = f"tgym-test/mirrored-{os.getpid()}:7"
    with Registry() as registry:
        registry.add(name.partition(":")[0], "7", {"file": b"x"})
        runtime = Docker(mirror=registry.host)
        try:
            runtime.build(ImageRecipe(name, None))
            assert docker_runtime.image(name).name == name
            with pytest.raises(ImageMissing, match="cannot be pulled"):
                runtime.build(ImageRecipe(f"{registry.host}/tgym-test/absent:1", None))
        finally:
            runtime.remove_image(name)
            runtime.close()
    with pytest.raises(ImageMissing):
        docker_runtime.image(name)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("debian:12", "m:5/library/debian:12"),
        ("a/b:1", "m:5/a/b:1"),
        ("quay.io/a/b@sha256:00", "m:5/a/b@sha256:00"),
        ("localhost/b", "m:5/b"),
        ("host:5000/b:2", "m:5/b:2"),
    ],
)
def test_where_a_mirror_has_an_image(name: str, there: str) -> None:
    assert names(name, "m:5") == (name, there)
    assert names(name, "") == (name,)


def _noise(folder: Path, name: str) -> ImageRecipe:
    folder.mkdir()
    (folder / "noise").write_bytes(os.urandom(100_000))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY noise /noise\n")
    return ImageRecipe(name, folder)


def _bytes(runtime: Runtime, order: list[ImageRecipe]) -> int:
    total = 0
    for recipe in order:
        try:
            total += runtime.image_bytes(recipe.name)
        except (ImageMissing, StartFailed):
            continue
    return total
