"""AestheticMatcher: the specification's matching methods over any encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from reverie import registry
from reverie.cache.similarity import Candidates, Match, describe_similarity, find_similar, weighted_choice
from reverie.errors import EmbeddingError, ImageBatchError, ImageError, InputError
from reverie.pixels import ImageLike, Pixels, to_pixels
from reverie.protocols import Encoder, TextEncoder
from reverie.vectors import Embedding, Vectors, as_embedding, cosine

__all__ = ["AestheticMatcher"]

_AT_ONCE = 32  # images decoded and encoded together: a long batch must not fill the memory with pixels


class AestheticMatcher:
    """Finds visually similar images by their embeddings (the specification's strategy pattern).

    Args:
        encoder: What makes the embeddings: a registered name (``clip`` is the specification's,
            ``descriptor`` is built in and works offline) or an `Encoder`. A name is loaded when
            it is first needed.
        seed: Makes `weighted_random_selection` repeatable.

    Raises:
        UnknownNameError: No encoder of that name.
        InputError: Neither a name nor an encoder.
    """

    def __init__(self, encoder: str | Encoder = "clip", seed: int | None = None) -> None:
        if isinstance(encoder, str) and encoder not in registry.names("encoders"):
            registry.load("encoders", encoder)  # raises with the names that exist
        if not isinstance(encoder, str) and (
            isinstance(encoder, type) or not hasattr(encoder, "encode_batch")
        ):
            raise InputError(f"encoder must be a registered name or an Encoder object, got {encoder!r}")
        self._encoder = encoder
        self._rng = np.random.default_rng(seed)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded if it was not yet; raises MissingDependencyError when it is not installed."""
        if isinstance(self._encoder, str):
            self._encoder = registry.create("encoders", self._encoder)
        return self._encoder  # type: ignore[return-value]  # no name any more

    def encode_image(self, image_path: ImageLike) -> Embedding:
        """The embedding of one image.

        Args:
            image_path: A path, a PIL image, or an ``(h, w, 3)`` uint8 RGB array. EXIF orientation is
                applied, transparency is composited over white (see `reverie.pixels`).

        Returns:
            ``(d,)`` float32, unit length, read-only, stamped with the encoder's name; d is 512 for
            the built-in encoders.

        Raises:
            ImageError: The image is missing, broken or of a wrong shape.
            StorageError: The file cannot be read.
            EmbeddingError: The encoder returned no vectors of its own length.
            MissingDependencyError: The encoder is not installed.
        """
        return self._vectors([to_pixels(image_path)])[0]

    def encode_images(self, images: Sequence[ImageLike]) -> Vectors:
        """The embeddings of n images, in their order.

        Returns:
            ``(n, d)`` float32, rows of unit length, read-only; ``(0, d)`` for no images. Each row is
            an `Embedding` with the encoder's name, bit for bit that of `encode_image`.

        Raises:
            ImageBatchError: Some images cannot be used: it names each by its position, and holds the
                embeddings of all the others.
            StorageError: A file cannot be read.
            EmbeddingError: The encoder returned no vectors of its own length.
            MissingDependencyError: The encoder is not installed.
        """
        if isinstance(images, (str, bytes)):
            raise InputError(
                f"images must be a sequence of images, got the text {images!r}: use encode_image"
            )
        rows: list[Embedding] = []
        indices: list[int] = []
        failures: dict[int, ImageError] = {}
        numbered = enumerate(images)
        while part := list(islice(numbered, _AT_ONCE)):
            sound = dict(_decoded(part, failures))
            rows.extend(self._vectors(list(sound.values())))
            indices.extend(sound)
        vectors = self._matrix(rows)
        if failures:
            listed = "; ".join(f"image {index}: {error}" for index, error in failures.items())
            raise ImageBatchError(
                f"{len(failures)} of {len(failures) + len(rows)} images cannot be encoded: {listed}",
                failures,
                indices,
                vectors,
            )
        return vectors

    def encode_text(self, text: str) -> Embedding:
        """The embedding of a text, in the space of the images.

        Raises:
            InputError: The encoder knows no texts, or ``text`` is not text.
            EmbeddingError: The encoder returned no vector of its own length.
            MissingDependencyError: The encoder is not installed.
        """
        encoder = self.encoder
        if not isinstance(text, str):
            raise InputError(f"text must be a str, got {type(text).__name__}")
        if not isinstance(encoder, TextEncoder):
            raise InputError(
                f"the encoder {encoder.name!r} knows pictures only, no texts: "
                'use AestheticMatcher(encoder="clip") to search by text'
            )
        return self._checked(encoder.encode_texts([text]), 1)[0]

    def _vectors(self, frames: Sequence[Pixels]) -> list[Embedding]:
        return self._checked(self.encoder.encode_batch(frames), len(frames))

    def _checked(self, vectors: Vectors, count: int) -> list[Embedding]:
        """What an encoder returned, as unit vectors with its name."""
        encoder = self.encoder
        got, expected = np.shape(vectors), (count, encoder.dimensions)
        if got != expected:
            raise EmbeddingError(f"the encoder {encoder.name!r} returned shape {got}, expected {expected}")
        what = f"embedding that the encoder {encoder.name!r} returned"
        return [as_embedding(vector, encoder=encoder.name, what=what) for vector in vectors]

    def _matrix(self, rows: Sequence[Embedding]) -> Vectors:
        encoder = self.encoder
        plain = np.empty((len(rows), encoder.dimensions), dtype=np.float32)
        for target, row in zip(plain, rows, strict=True):
            target[:] = row
        plain.flags.writeable = False
        matrix = plain.view(Embedding)  # so that each row knows its encoder
        matrix.encoder = encoder.name
        return matrix

    def find_similar(
        self,
        target_embedding: ArrayLike,
        candidate_embeddings: Candidates,
        threshold: float | None = 0.7,
        top_k: int | None = 5,
    ) -> list[Match]:
        """The most similar candidates.

        Args:
            target_embedding: ``(d,)`` numbers.
            candidate_embeddings: Pairs of id and ``(d,)`` numbers, as the specification has them
                (pairs with None are passed over), or the cache's own matrix, used without copying:
                ``cache.embeddings()``.
            threshold: Lowest cosine that counts, inclusive; None takes all.
            top_k: How many at most; None takes all.

        Returns:
            ``(cache_id, similarity)`` high to low, ties in input order; empty when nothing
            reaches the threshold.

        Raises:
            EmbeddingError: A vector is NaN, infinite, zero or of another length.
            EncoderMismatchError: The vectors were made by different encoders.
        """
        return find_similar(target_embedding, candidate_embeddings, threshold, top_k)

    def cosine_similarity(self, embedding1: ArrayLike, embedding2: ArrayLike) -> float:
        """Cosine of two vectors: from -1 (opposite) to 1 (identical).

        Raises:
            EmbeddingError: NaN, infinite, zero, or of different lengths.
            EncoderMismatchError: Made by different encoders.
        """
        return cosine(embedding1, embedding2)

    def weighted_random_selection(
        self, candidates: Sequence[Match], temperature: float | None = None
    ) -> str | None:
        """Draw an id with probability proportional to its similarity; None for no candidates.

        Args:
            candidates: What `find_similar` returned. Negative similarities weigh nothing; when
                nothing weighs anything, all are equal.
            temperature: Weigh exp(similarity / temperature) instead; above 0.

        Raises:
            InputError: A similarity is NaN, or the temperature is not above 0.
        """
        return weighted_choice(candidates, self._rng, temperature)

    def describe_similarity(self, similarity: float) -> str:
        """The specification's words for a similarity, from "nearly identical" to "different aesthetic"."""
        return describe_similarity(similarity)


def _decoded(
    part: Sequence[tuple[int, ImageLike]], failures: dict[int, ImageError]
) -> Iterator[tuple[int, Pixels]]:
    """Position and pixels of each image that can be used; the others go to ``failures``."""
    for index, image in part:
        try:
            yield index, to_pixels(image)
        except ImageError as exc:
            failures[index] = exc
