"""The world and a sample of its documents, made once."""

from __future__ import annotations

import pytest

from glasshouse.organisms.world import World, WorldDocument, build, documents


@pytest.fixture(scope="session")
def world() -> World:
    return build(0)


@pytest.fixture(scope="session")
def sample(world: World) -> list[WorldDocument]:
    """A megabyte and a half: enough for every concept to occur."""
    return list(documents(world, seed=0, megabytes=1.5))
