"""Texts as the numbers that a text network reads: the reference's byte-pair encoding.

The whole recipe (white space, case, splitting, merges, start and end tokens) is in the model's own
``tokenizer.json``; the library ``tokenizers`` runs it, which is what transformers does too. Here it
gets one length for all texts, and says when a text did not fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError, MissingDependencyError, ModelCorruptError, ModelNotFoundError

try:
    from tokenizers import Encoding, Tokenizer, normalizers
except ImportError as exc:
    raise MissingDependencyError(
        'texts need the library tokenizers: install it with pip install "reverie[clip]"'
    ) from exc

if TYPE_CHECKING:
    from reverie.models.cards import TextSettings

__all__ = ["ClipTokenizer", "TextTruncatedWarning"]

_QUOTED = 40  # characters of the unused part that the warning shows


class TextTruncatedWarning(UserWarning):
    """A text was longer than the model reads; its end has no part in the vector."""


class ClipTokenizer:
    """Turns texts into token ids exactly as transformers' tokenizer of the same model does.

    That is ``tokenizer(texts, padding="max_length", truncation=True, max_length=settings.context)``
    of ``CLIPTokenizerFast`` or ``Siglip2Tokenizer``. Both read lower case only; SigLIP 2's file holds
    Gemma's tokeniser, which keeps capitals, so a lower-casing step is put before it, as its own class does.

    Args:
        path: The model's ``tokenizer.json``.
        settings: How many tokens a text has, and the id that fills up a short one.

    Raises:
        MissingDependencyError: ``tokenizers`` is not installed (raised when this module is imported).
        ModelNotFoundError: There is no such file.
        ModelCorruptError: It is not a tokenizer, or not one with the card's padding id.
    """

    def __init__(self, path: Path, settings: TextSettings) -> None:
        self._context = settings.context
        self._tokenizer = _read(path)
        filler = self._tokenizer.id_to_token(settings.pad_id)
        if filler is None:
            raise ModelCorruptError(
                f"{str(path)!r} knows no token {settings.pad_id}: it is the tokenizer of another model"
            )
        _make_lower_case(self._tokenizer)
        self._tokenizer.enable_truncation(settings.context)
        self._tokenizer.enable_padding(pad_id=settings.pad_id, pad_token=filler, length=settings.context)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The token ids of n texts.

        An empty text is the start and end tokens alone. A text that is too long keeps its beginning
        and its end token, and a `TextTruncatedWarning` says what was left out.

        Returns:
            ``(n, context)`` int64; ``(0, context)`` for no texts.

        Raises:
            InputError: ``texts`` is one text, or holds something that is not text or is not Unicode
                (half of a surrogate pair).
        """
        if isinstance(texts, (str, bytes)):
            raise InputError(f"texts must be a sequence of texts, got the text {texts!r}")
        ids = np.empty((len(texts), self._context), dtype=np.int64)
        for at, text in enumerate(texts):
            # One by one: a batch would start a thread a core, and a text takes a few microseconds.
            encoding = self._tokenizer.encode(_checked(text, at))
            ids[at] = encoding.ids
            if encoding.overflowing:
                warnings.warn(_what_was_cut(text, encoding), TextTruncatedWarning, stacklevel=2)
        return ids


def _read(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except OSError as exc:
        raise ModelNotFoundError(f"the tokenizer {str(path)!r} cannot be read: {exc}") from exc
    except ValueError as exc:
        raise ModelCorruptError(f"{str(path)!r} is no tokenizer: {exc}") from exc


def _make_lower_case(tokenizer: Tokenizer) -> None:
    normalizer = tokenizer.normalizer
    if normalizer is None:
        tokenizer.normalizer = normalizers.Lowercase()
    elif normalizer.normalize_str("A") != normalizer.normalize_str("a"):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizer])


def _checked(text: str, at: int) -> str:
    if not isinstance(text, str):
        raise InputError(f"text {at} must be a str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"text {at} holds half of a surrogate pair at position {exc.start}") from exc
    return text


def _what_was_cut(text: str, encoding: Encoding) -> str:
    end = max(stop for _, stop in encoding.offsets)
    rest = text[end:].split()
    shown = " ".join(rest)
    quoted = shown if len(shown) <= _QUOTED else shown[:_QUOTED] + "\N{HORIZONTAL ELLIPSIS}"
    words = "the last word was" if len(rest) == 1 else f"the last {len(rest):,} words were"
    return f"{len(encoding.ids)} tokens at most: {words} not used, from {quoted!r} on"
