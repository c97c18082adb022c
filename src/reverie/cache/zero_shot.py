"""Which of some labels fits a picture: zero-shot classification with an encoder that knows texts.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section
3.1: each label stands in a sentence, and the softmax of the scaled cosines is a probability for each.
SigLIP (Zhai et al. 2023, equation 1) has a sigmoid in its place: each label then has a probability of
its own, and none need fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError
from reverie.vectors import Embedding, EmbeddingSet, Vectors, check_same_encoder, normalise, similarities

__all__ = ["CLIP", "Tag", "Tagger", "Temperature", "label_vectors", "probabilities"]

Tag: TypeAlias = tuple[str, float]
"""A label and its probability."""


class Temperature(Protocol):
    """How cosines become probabilities: the part of a model's text settings that is used here."""

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by."""

    @property
    def logit_bias(self) -> float:
        """What is added to that; without meaning for a softmax."""

    @property
    def sigmoid(self) -> bool:
        """Whether each label is judged alone; else all share a probability of 1."""


@dataclass(frozen=True, slots=True)
class _Softmax:
    logit_scale: float = 100.0
    logit_bias: float = 0.0
    sigmoid: bool = False


CLIP: Temperature = _Softmax()
"""The softmax of CLIP, whose learned scale ended at its limit of 100 (section 2.5 of the paper)."""


def probabilities(cosines: NDArray[np.float32], temperature: Temperature) -> NDArray[np.float64]:
    """The probability of each label.

    Args:
        cosines: ``(m,)`` cosines of one picture to m labels, m at least 1.
        temperature: The model's.

    Returns:
        ``(m,)`` float64 in [0, 1]; they sum to 1, but for a sigmoid.
    """
    logits: NDArray[np.float64] = (
        temperature.logit_scale * cosines.astype(np.float64) + temperature.logit_bias
    )
    if temperature.sigmoid:
        alone: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logits))  # the sigmoid, without overflow
        return alone
    weights: NDArray[np.float64] = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights


def label_vectors(
    labels: Sequence[str], templates: Sequence[str], encode: Callable[[Sequence[str]], Vectors]
) -> EmbeddingSet:
    """One vector a label: the mean of the unit vectors of its sentences, of unit length again.

    Section 3.1.4 of the paper calls this an ensemble over prompts in embedding space.

    Args:
        labels: At least one; a label given twice counts once.
        templates: At least one sentence with ``{}`` where the label goes.
        encode: Texts to ``(n, d)`` unit vectors.

    Raises:
        InputError: No labels, an empty one, no templates, or one without ``{}``.
    """
    wanted = list(dict.fromkeys(labels))
    if isinstance(labels, str) or not wanted or not all(isinstance(x, str) and x.strip() for x in wanted):
        raise InputError(
            f"labels must be a sequence of at least one text, none of them empty; got {labels!r}"
        )
    if not templates or not all("{}" in template for template in templates):
        raise InputError(f"a template is a sentence with {{}} where the label goes, got {list(templates)!r}")
    sentences = [template.replace("{}", label) for label in wanted for template in templates]
    vectors = encode(sentences)
    sums = np.asarray(vectors, dtype=np.float64).reshape(len(wanted), len(templates), -1).sum(axis=1)
    return EmbeddingSet(tuple(wanted), normalise(sums, what="labels"), getattr(vectors, "encoder", None))


@dataclass(frozen=True, slots=True, eq=False)
class Tagger:
    """Labels ready to be compared with many pictures.

    Attributes:
        labels: Their texts and vectors.
        temperature: How cosines become probabilities.
    """

    labels: EmbeddingSet
    temperature: Temperature = CLIP

    def __call__(self, embedding: Embedding) -> list[Tag]:
        """Every label with its probability, high to low, ties in the order given.

        Args:
            embedding: ``(d,)`` unit vector of a picture.

        Raises:
            EncoderMismatchError: Another encoder made it.
            EmbeddingError: It is of another length.
        """
        check_same_encoder((embedding.encoder, self.labels.encoder), where="the tags of a picture")
        found = probabilities(similarities(self.labels.matrix, embedding), self.temperature)
        order = np.argsort(-found, kind="stable")
        return [(self.labels.ids[at], float(found[at])) for at in order.tolist()]
