"""The shipped suites for encoders and generators, on the built-in ones."""

from __future__ import annotations

from reverie.encoders.descriptor import DescriptorEncoder
from reverie.generators.patches import PatchGenerator
from reverie.testing import EncoderSuite, GeneratorSuite, samples


class TestDescriptor(EncoderSuite):
    def make(self) -> DescriptorEncoder:
        return DescriptorEncoder()


class TestPatches(GeneratorSuite):
    def make(self) -> PatchGenerator:
        return PatchGenerator([samples.picture(seed, 40, 40) for seed in range(3)], size=32)
