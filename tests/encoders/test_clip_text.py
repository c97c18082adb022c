"""ClipTokenizer: the reference's ids for any text, and a word when a text was cut."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from clip_words import END_ID, START_ID, VOCABULARY, write_clip_tokenizer, write_gemma_tokenizer
from reverie.encoders import clip_text
from reverie.encoders.clip_text import ClipTokenizer, TextTruncatedWarning
from reverie.errors import InputError, MissingDependencyError, ModelCorruptError, ModelNotFoundError
from reverie.models.cards import TextSettings

CLIP = TextSettings(context=77, pad_id=END_ID, logit_scale=100.0)
SIGLIP = TextSettings(context=64, pad_id=0, logit_scale=110.0, sigmoid=True)

TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "Black Wireframe ANGEL, 8k",
    " \n\t two  blanks\r\nand lines ",
    "\N{CJK UNIFIED IDEOGRAPH-591C}\N{HIRAGANA LETTER NO}\N{CJK UNIFIED IDEOGRAPH-5922} of glass",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3a8\ufe0f",
    "it's what they'll don't we've I'm you'd 'tis",
    "1234 45.6% (a:1.3) [b] {c} <d> & @e #f",
    "<|endoftext|> inside <|startoftext|>, <|EndOfText|>",
    "<eos> and <pad> inside",
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}stanbul \u039f\u0394\u039f\u03a3 stra\xdfe \N{KELVIN SIGN}",
    "e\u0301 \xe9 \ufb01 \u1e9b\u0323",
    "a\x00b\x07c\x1b[31m\x7f",
    "\u200b\ufeff\u2028line\u2029\x85\xa0end",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\ue000\U0010ffff\ufffd",
    "word " * 200,
    "x" * 500,
    "wings, " * 37 + "end",
    "a b " * 37 + "c",
    "a b " * 38,
]


@pytest.fixture(scope="session")
def clip_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tokenizer.json`` of CLIP's kind, beside what transformers needs."""
    return write_clip_tokenizer(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def gemma_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tokenizer.json`` of SigLIP 2's kind."""
    return write_gemma_tokenizer(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="session")
def pairs(clip_words: Path, gemma_words: Path):
    """Our tokenizer and transformers', for each kind."""
    return {
        settings.context: (
            ClipTokenizer(path, settings),
            AutoTokenizer.from_pretrained(path.parent, clean_up_tokenization_spaces=False),
        )
        for path, settings in ((clip_words, CLIP), (gemma_words, SIGLIP))
    }


def encoded(tokenizer: ClipTokenizer, texts: list[str]) -> list[list[int]]:
    """The ids, whatever was cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextTruncatedWarning)
        return tokenizer.encode(texts).tolist()


def reference(tokenizer, texts: list[str], context: int) -> list[list[int]]:
    """What transformers makes of them."""
    settings = {"padding": "max_length", "truncation": True, "max_length": context}
    return tokenizer(texts, **settings)["input_ids"]


@pytest.mark.parametrize("context", [77, 64])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
def test_ids_are_the_references(text, context, pairs):
    """Case, blanks, marks, emoji, control characters, special words and long texts: id by id the same."""
    ours, theirs = pairs[context]
    assert encoded(ours, [text]) == reference(theirs, [text], context)


@pytest.mark.parametrize("context", [77, 64])
@given(text=st.text(max_size=120))
def test_ids_of_any_text_are_the_references(context, pairs, text):
    """Random Unicode: id by id the same."""
    ours, theirs = pairs[context]
    assert encoded(ours, [text]) == reference(theirs, [text], context)


def test_many_texts_keep_their_order(pairs):
    """Row i is text i, whatever else is there."""
    ours, _ = pairs[77]
    assert encoded(ours, TEXTS) == [encoded(ours, [text])[0] for text in TEXTS]


def test_shape_and_type(pairs):
    """int64, one length for all; none for no texts."""
    ids = pairs[77][0].encode(["a", "b c"])
    assert (ids.shape, ids.dtype) == ((2, 77), np.int64)
    none = pairs[77][0].encode([])
    assert (none.shape, none.dtype) == ((0, 77), np.int64)


def test_an_empty_text_is_start_and_end(pairs):
    """Nothing but the frame, filled up with the end token."""
    assert pairs[77][0].encode([""])[0].tolist() == [START_ID, *[END_ID] * 76]
    assert END_ID == VOCABULARY - 1


@pytest.mark.parametrize("context", [77, 64])
def test_a_cut_text_keeps_its_end_token(context, pairs):
    """The last token of a text that is too long is the end token."""
    ends = {77: END_ID, 64: 1}
    assert encoded(pairs[context][0], ["x y " * 100])[0][-1] == ends[context]


def test_a_cut_text_is_reported(pairs):
    """The warning says how many words were left out, and from which on."""
    text = "a " * 75 + "b c\x1b " + "d" * 50
    with pytest.warns(TextTruncatedWarning) as caught:
        pairs[77][0].encode([text])
    quoted = repr("b c\x1b " + "d" * 35 + "\N{HORIZONTAL ELLIPSIS}")
    assert [str(warning.message) for warning in caught] == [
        f"77 tokens at most: the last 3 words were not used, from {quoted} on"
    ]


def test_one_word_too_many(pairs):
    """75 tokens fit between start and end; with one more, one word is left out."""
    pairs[77][0].encode(["a " * 75])
    with pytest.warns(TextTruncatedWarning, match="the last word was not used, from 'b' on"):
        pairs[77][0].encode(["a " * 75 + "b"])


@pytest.mark.parametrize("texts", ["one text", b"bytes"])
def test_one_text_is_no_sequence(texts, pairs):
    """A text alone would be taken letter by letter."""
    with pytest.raises(InputError, match="sequence of texts"):
        pairs[77][0].encode(texts)


@pytest.mark.parametrize("text", [None, 7, b"red", ["red"], ("a", "b")], ids=str)
def test_what_is_no_text_is_named(text, pairs):
    """Its position and its type are in the error."""
    with pytest.raises(InputError, match=rf"text 1 must be a str, got {type(text).__name__}"):
        pairs[77][0].encode(["fine", text])


def test_half_a_surrogate_pair(pairs):
    """It is in no Unicode text; the position is named."""
    with pytest.raises(InputError, match=r"text 0 .*surrogate pair at position 2"):
        pairs[77][0].encode(["ab\ud83d"])


def test_a_file_that_is_not_there(tmp_path):
    """Its path is in the error."""
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json"):
        ClipTokenizer(tmp_path / "tokenizer.json", CLIP)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": {"type": "BPE"'])
def test_a_file_that_is_no_tokenizer(content, tmp_path):
    """Cut or foreign files are errors of ours."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelCorruptError, match="is no tokenizer"):
        ClipTokenizer(path, CLIP)


def test_the_tokenizer_of_another_model(gemma_words):
    """One that lacks the padding token of the card is refused."""
    with pytest.raises(ModelCorruptError, match="tokenizer of another model"):
        ClipTokenizer(gemma_words, CLIP)


def test_without_the_library(monkeypatch):
    """The error holds the line that installs it."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.delitem(sys.modules, clip_text.__name__)
    with pytest.raises(MissingDependencyError, match=r"pip install \"reverie\[clip\]\""):
        importlib.import_module(clip_text.__name__)
