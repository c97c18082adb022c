"""AestheticMatcher: the specification's matching methods over any encoder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from reverie import registry
from reverie.cache.decoding import decode_ahead, decode_threads
from reverie.cache.settings import make_rng
from reverie.cache.similarity import (
    Candidates,
    Match,
    as_table,
    describe_similarity,
    find_similar,
    weighted_choice,
    weighted_sum,
)
from reverie.cache.similarity_scale import Percentile, SimilarityScale, Threshold, threshold_of
from reverie.cache.zero_shot import CLIP, Tag, Tagger, label_vectors
from reverie.errors import EmbeddingError, ImageBatchError, ImageError, InputError
from reverie.pixels import ImageLike, Pixels, to_pixels
from reverie.protocols import Encoder, TextEncoder
from reverie.vectors import Embedding, Vectors, as_embedding, cosine

__all__ = ["AestheticMatcher", "Part"]

Part: TypeAlias = ImageLike | Embedding | tuple[ImageLike | Embedding, float]
"""A part of a sum: an image, a text or a vector; or a pair of one and its weight."""


class AestheticMatcher:
    """Finds visually similar images by their embeddings (the specification's strategy pattern).

    Args:
        encoder: What makes the embeddings: a registered name (``clip`` is the specification's,
            ``descriptor`` is built in and works offline) or an `Encoder`. A name is loaded when
            it is first needed.
        seed: Makes `weighted_random_selection` repeatable.
        **options: Arguments of the encoder that a name stands for: ``threads``, ``model_dir``, ...

    Attributes:
        scale: What `describe_similarity` goes by; None for the specification's fixed bands.

    Raises:
        UnknownNameError: No encoder of that name.
        InputError: Neither a name nor an encoder, or options for an encoder that is there already.
    """

    def __init__(self, encoder: str | Encoder = "clip", seed: int | None = None, **options: Any) -> None:
        if isinstance(encoder, str):
            registry.check("encoders", encoder)
        elif options:
            raise InputError(f"the encoder is there already: give {', '.join(options)} to it")
        if not isinstance(encoder, str) and (
            isinstance(encoder, type) or not hasattr(encoder, "encode_batch")
        ):
            raise InputError(f"encoder must be a registered name or an Encoder object, got {encoder!r}")
        self._encoder = encoder
        self._options = options
        self.scale: SimilarityScale | None = None
        self._rng = make_rng(seed)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded if it was not yet.

        Raises:
            MissingDependencyError: It is not installed.
            InputError: It takes no option of that name.
        """
        if isinstance(self._encoder, str):
            self._encoder = registry.create("encoders", self._encoder, **self._options)
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

    def encode_images(self, images: Iterable[ImageLike]) -> Vectors:
        """The embeddings of n images, in their order.

        Files are decoded by other threads while the encoder works on the ones before
        (`reverie.cache.decoding`); the encoder itself runs on the caller's thread.

        Args:
            images: Paths, PIL images and ``(h, w, 3)`` uint8 RGB arrays, mixed as you like; any
                iterable, read some images ahead.

        Returns:
            ``(n, d)`` float32, rows of unit length, read-only; ``(0, d)`` for no images. Each row is
            an `Embedding` with the encoder's name, bit for bit that of `encode_image`.

        Raises:
            InputError: ``images`` is not a sequence of images.
            ImageBatchError: Some images cannot be used: it names each by its position, and holds the
                embeddings of all the others.
            StorageError: A file cannot be read.
            EmbeddingError: The encoder returned no vectors of its own length.
            MissingDependencyError: The encoder is not installed.
        """
        if isinstance(images, (str, bytes)) or not hasattr(images, "__iter__"):
            raise InputError(f"images must be a sequence of them, got {images!r}: for one, use encode_image")
        rows: list[Embedding] = []
        indices: list[int] = []
        failures: dict[int, ImageError] = {}
        with closing(decode_ahead(images, decode_threads(self.encoder))) as parts:
            for part in parts:
                rows.extend(self._vectors(part.frames) if part.frames else ())
                indices.extend(part.indices)
                failures.update(part.failures)
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
        return self._read([text])[0]

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """The embeddings of n texts, in their order, in the space of the images.

        Returns:
            ``(n, d)`` float32, rows of unit length, read-only; ``(0, d)`` for no texts. Each row is an
            `Embedding` with the encoder's name.

        Raises:
            InputError: The encoder knows no texts, or ``texts`` is not a sequence of them.
            EmbeddingError: The encoder returned no vectors of its own length.
            MissingDependencyError: The encoder is not installed.
        """
        if isinstance(texts, (str, bytes)) or not hasattr(texts, "__len__"):
            raise InputError(f"texts must be a sequence of texts, got {texts!r}: for one, use encode_text")
        return self._matrix(self._read(texts))

    def vector_of(self, item: ImageLike | Embedding) -> Embedding:
        """The vector of an image, a text or a vector.

        Args:
            item: An image; an `Embedding`, which is returned as it is; a one-dimensional array of numbers,
                taken as this encoder's; or a str: the path of an existing file is an image, any other str
                is a text.

        Raises:
            ImageError: The image cannot be used.
            InputError: A text was given and the encoder knows pictures only.
            EmbeddingError: The numbers are NaN, infinite, zero or of another length.
            MissingDependencyError: The encoder is not installed.
        """
        if isinstance(item, Embedding):
            return item
        if isinstance(item, np.ndarray) and item.ndim == 1:
            return as_embedding(item, encoder=self.encoder.name, dimensions=self.encoder.dimensions)
        # os.path.isfile: Path.is_file raises for a text that is too long to be a file name.
        if not isinstance(item, str) or os.path.isfile(item):  # noqa: PTH113
            return self.encode_image(item)
        if not isinstance(self.encoder, TextEncoder):
            raise InputError(
                f"there is no file {item!r}, and the encoder {self.encoder.name!r} knows pictures only, "
                "no texts"
            )
        return self.encode_text(item)

    def combine(self, plus: Sequence[Part], minus: Sequence[Part] = ()) -> Embedding:
        """The vector of a weighted sum: this picture, plus "wings", minus "night".

        Every part is a unit vector times its weight. With CLIP, texts and images lie in different regions
        of the space (a text's cosine to a fitting image is about .2 to .3, that of two unrelated images
        about .47), so an image outweighs a text of the same weight: give the text two or three times
        as much where it shall steer, or subtract a text for each one that is added, which leaves the
        region that texts share.

        Args:
            plus: What to look for: items as `vector_of` takes them, or pairs of such an item and its weight
                (1 when none is given).
            minus: What to look away from, likewise.

        Returns:
            ``(d,)`` float32, unit length, read-only, with the encoder's name.

        Raises:
            InputError: There is no part, or a weight is not a finite number.
            EmbeddingError: The parts cancel each other out.
            EncoderMismatchError: A vector of another encoder is among them.

            And what `vector_of` raises.
        """
        given = [(1.0, part) for part in _listed(plus)] + [(-1.0, part) for part in _listed(minus)]
        weighed = [(sign, *_item_and_weight(part)) for sign, part in given]
        return weighted_sum([(self.vector_of(item), sign * weight) for sign, item, weight in weighed])

    def tagger(self, labels: Sequence[str], template: str | Sequence[str] = "a photo of {}") -> Tagger:
        """Labels encoded once, to be compared with many images: call it with an `Embedding`.

        Args:
            labels: At least one; a label given twice counts once.
            template: A sentence with ``{}`` where the label goes, or several, whose vectors are averaged.

        Raises:
            InputError: The encoder knows no texts, there are no labels, one is empty, or a template
                lacks ``{}``.
            MissingDependencyError: The encoder is not installed.
        """
        templates = [template] if isinstance(template, str) else template
        vectors = label_vectors(labels, templates, self.encode_texts)
        return Tagger(vectors, getattr(self.encoder, "text_settings", None) or CLIP)

    def tags(
        self,
        image: ImageLike | Embedding,
        labels: Sequence[str],
        template: str | Sequence[str] = "a photo of {}",
    ) -> list[Tag]:
        """Which labels fit an image (zero-shot classification), likeliest first.

        The probabilities are among the labels given: one that fits none of them still gets a sum of 1
        (SigLIP judges each label alone). An encoder may say how its cosines become probabilities by an
        attribute ``text_settings`` (see `reverie.cache.zero_shot.Temperature`); else it is as CLIP's.

        Args:
            image: An image (a str is a path), or its `Embedding`.
            labels: As `tagger`.
            template: As `tagger`.

        Returns:
            ``(label, probability)``, high to low.

        Raises:
            ImageError: The image cannot be used.
            EncoderMismatchError: An embedding of another encoder was given.

            And what `tagger` raises.
        """
        vector = image if isinstance(image, Embedding) else self.encode_image(image)
        return self.tagger(labels, template)(vector)

    def _read(self, texts: Sequence[str]) -> list[Embedding]:
        encoder = self.encoder
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"text must be a str, got {type(text).__name__}")
        if not isinstance(encoder, TextEncoder):
            raise InputError(
                f"the encoder {encoder.name!r} knows pictures only, no texts: "
                'use AestheticMatcher(encoder="clip") to search by text'
            )
        return self._checked(encoder.encode_texts(texts), len(texts)) if texts else []

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
        threshold: Threshold = 0.7,
        top_k: int | None = 5,
    ) -> list[Match]:
        """The most similar candidates.

        Args:
            target_embedding: ``(d,)`` numbers.
            candidate_embeddings: Pairs of id and ``(d,)`` numbers, as the specification has them
                (pairs with None are passed over), or the cache's own matrix, used without copying:
                ``cache.embeddings()``.
            threshold: Lowest cosine that counts, inclusive; None takes all. ``"p90"`` or
                ``Percentile(90)`` is the cosine that nine of ten pairs of the candidates stay below: the
                scale of these candidates instead of a fixed number (with fewer than 21, the
                specification's bands stand in; see `SimilarityScale`). It is one of images: for a text
                take ``SimilarityScale.to(text_vector, candidates).cosine(90)``.
            top_k: How many at most; None takes all.

        Returns:
            ``(cache_id, similarity)`` high to low, ties in input order; empty when nothing
            reaches the threshold.

        Raises:
            EmbeddingError: A vector is NaN, infinite, zero or of another length.
            EncoderMismatchError: The vectors were made by different encoders.
            InputError: ``threshold`` or ``top_k`` is none.
        """
        lowest = threshold_of(threshold)
        if isinstance(lowest, Percentile):
            candidate_embeddings = as_table(candidate_embeddings)
            lowest = SimilarityScale.of(candidate_embeddings).cosine(lowest.value)
        return find_similar(target_embedding, candidate_embeddings, lowest, top_k)

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
            InputError: A similarity is no finite number, or the temperature is not above 0.
        """
        return weighted_choice(candidates, self._rng, temperature)

    def describe_similarity(self, similarity: float) -> str:
        """The specification's words for a similarity, from "nearly identical" to "different aesthetic".

        By its fixed bands (.6, .7, .8, .9); after `calibrate`, by the percentile among the cosines of
        those candidates.

        Raises:
            InputError: ``similarity`` is NaN or no number.
        """
        return describe_similarity(similarity) if self.scale is None else self.scale.describe(similarity)

    def calibrate(self, candidates: Candidates) -> SimilarityScale:
        """Take the cosines between these candidates as the scale of `describe_similarity`.

        The words then say how alike two images are for this cache. Raw cosines have no such meaning:
        unrelated images average about .47 with CLIP. ``matcher.scale = None`` goes back to the
        specification's fixed bands.

        Args:
            candidates: As `find_similar` takes them, such as ``cache.embeddings()``.

        Returns:
            The scale; not ``calibrated`` with fewer than 21 candidates, whose words are then the fixed
            bands'.

        Raises:
            EmbeddingError: A vector is NaN, infinite, zero or of another length.
            EncoderMismatchError: The vectors were made by different encoders.
        """
        self.scale = SimilarityScale.of(as_table(candidates))
        return self.scale

    def load(self) -> None:
        """Load the encoder now, not at the first image: it may have to download its model.

        Raises:
            MissingDependencyError: The encoder is not installed.
            ModelError: Its model is not here and cannot be fetched, or is damaged.
        """
        if hasattr(self.encoder, "load"):
            self.encoder.load()

    def unload(self) -> None:
        """Free what the encoder holds in memory, for the generator; the next call loads it again.

        An encoder without ``unload()`` holds nothing worth freeing.
        """
        if not isinstance(self._encoder, str) and hasattr(self._encoder, "unload"):
            self._encoder.unload()


def _listed(parts: Sequence[Part]) -> Sequence[Part]:
    """The parts as they are, unless they are one part by mistake."""
    if isinstance(parts, (str, bytes, np.ndarray)) or not isinstance(parts, Sequence):
        raise InputError(
            f"plus and minus are sequences of images, texts and vectors; got one {type(parts).__name__}"
        )
    return parts


def _item_and_weight(part: Part) -> tuple[ImageLike | Embedding, float]:
    if not isinstance(part, tuple):
        return part, 1.0
    if len(part) != 2 or not isinstance(part[1], (int, float, np.number)):
        raise InputError(f"a part of a sum is an item, or a pair of an item and its weight; got {part!r}")
    return part[0], float(part[1])
