"""What we write into pictures is what we read: PNG, JPEG, WebP."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from picture_files import png
from reverie import __version__
from reverie.metadata import exif_and_xmp, own_texts, read_metadata
from reverie.metadata.a1111 import parsed

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def saved(kind, texts):
    """A picture of a kind with these texts."""
    if kind == "PNG":
        return png(texts, international=True)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, format=kind, **exif_and_xmp(texts))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@given(prompt=TEXT, params=st.dictionaries(TEXT, VALUE, max_size=5), weight=st.floats(0, 1))
def test_there_and_back(kind, prompt, params, weight):
    """Any prompt, any parameters that JSON can hold, parents with weights."""
    parents = {"cache_00007": weight}
    found = read_metadata(saved(kind, own_texts(prompt, params, parents)))
    assert (found.source, found.prompt, found.params, found.parents) == ("reverie", prompt, params, parents)


@pytest.mark.parametrize(
    "prompt", ["a rose", "Steps: 3, Seed: 5, Size: 1x1", "a\nb\n\nNegative prompt: x", "夜 🌊"]
)
def test_other_programs_can_read_it(prompt):
    """The chunk `parameters` is as A1111 and most readers take it."""
    params = {"seed": 5, "steps": 20, "strength": 0.5, "generator": "patches", "width": 64, "height": 32}
    texts = own_texts(prompt, params)
    found = parsed(texts["parameters"])
    assert found.params["seed"] == 5
    assert (found.params["width"], found.params["height"], found.params["strength"]) == (64, 32, 0.5)
    assert found.prompt == prompt.split("\nNegative")[0].strip()
    assert f'"version":"{__version__}"' in texts["reverie"]


def test_a_prompt_alone():
    """Without parameters there is no line of them."""
    assert own_texts("a rose", {})["parameters"] == "a rose"
    assert read_metadata(png(own_texts("a rose", {}))).prompt == "a rose"
