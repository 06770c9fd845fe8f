"""What does one item of a stage that needs sandboxes: on this machine, or on each node of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Row, Table
from terminal_gym.sandbox.base import Runtime, open_runtime

if TYPE_CHECKING:
    from env_registry.pipeline.images import Images

Work = Callable[[Row], Mapping[str, Any]]


@contextmanager
def builder(settings: Settings) -> Iterator[Work]:
    """Lend what makes an image of one repository."""
    from env_registry.pipeline.build import Builder
    from env_registry.pipeline.models import metered, opened_model
    from env_registry.pipeline.repair import model_repair

    asked = settings.build if settings.build.repair_rounds else replace(settings.build, model="")
    with opened(settings) as runtime, opened_model(asked) as model, held(settings, runtime) as images:
        yield metered(Builder(settings, runtime, model_repair(model), images=images), model)


@contextmanager
def acceptor(settings: Settings) -> Iterator[Work]:
    """Lend what proves one instance."""
    from env_registry.pipeline.accept import Acceptor

    with opened(settings) as runtime, held(settings, runtime) as images:
        yield Acceptor(settings, runtime, images=images)


@contextmanager
def opened(settings: Settings) -> Iterator[Runtime]:
    """Lend the runtime that the settings name, once it answers.

    Raises:
        RuntimeUnavailable: It does not.
    """
    with closing(open_runtime(settings.build.runtime)) as runtime:
        runtime.check()
        yield runtime


@contextmanager
def held(settings: Settings, runtime: Runtime) -> Iterator[Images]:
    """Lend what holds the repositories' images on a runtime, within the disk budget of the settings."""
    from env_registry.pipeline.images import Images

    with closing(Images(settings, runtime, Table(settings.work, "build").kept)) as images:
        yield images


WORKERS = {"build": builder, "accept": acceptor}  # these stages go onto a cluster
