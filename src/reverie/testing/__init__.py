"""Conformance suites for plug-ins: a new backend is tested by a class of about 15 lines.

A suite is a base class of pytest tests. Subclass it, give it the thing to test, and pytest runs
every test of the suite on it::

    from reverie.testing import IndexSuite

    class TestMyIndex(IndexSuite):
        def make(self, folder, lock_timeout=10.0):
            return MyIndex(folder, lock_timeout=lock_timeout)

`CacheModel` compares a whole cache with a perfect model under random operations. This package needs
pytest and hypothesis, which reverie itself does not.
"""

import pytest

for _suite in (
    "cache_model",
    "encoder_suite",
    "eviction_suite",
    "generator_suite",
    "image_suite",
    "catalogue_suite",
    "index_steps",
    "index_suite",
    "search_suite",
):
    pytest.register_assert_rewrite(f"reverie.testing.{_suite}")

# ruff: noqa: E402 - the modules are announced to pytest before they are loaded

from reverie.testing.cache_model import CacheModel
from reverie.testing.encoder_suite import EncoderSuite
from reverie.testing.eviction_suite import EvictionSuite
from reverie.testing.generator_suite import GeneratorSuite
from reverie.testing.image_suite import ImageStoreSuite
from reverie.testing.index_suite import IndexSuite
from reverie.testing.search_suite import SearchSuite

__all__ = [
    "CacheModel",
    "EncoderSuite",
    "EvictionSuite",
    "GeneratorSuite",
    "ImageStoreSuite",
    "IndexSuite",
    "SearchSuite",
]
