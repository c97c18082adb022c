"""The parts of a small loop."""

import pytest
from loop_fakes import TinyEncoder, TinyGenerator

from reverie import ImageMemory


@pytest.fixture
def encoder():
    """An encoder of 12 numbers."""
    return TinyEncoder()


@pytest.fixture
def generator():
    """A generator of small frames."""
    return TinyGenerator()


@pytest.fixture
def memory(tmp_path, encoder):
    """An empty memory of 75 over the tiny encoder."""
    with ImageMemory(tmp_path / "cache", encoder=encoder) as opened:
        yield opened
