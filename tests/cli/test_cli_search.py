"""`reverie cache search`, `tag` and `similar`: texts, sums, labels and percentiles, from the outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import Run, widest
from numpy.typing import NDArray
from PIL import Image
from word_encoder import COLOURS, WordEncoder

from reverie import CacheManager, registry
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cli.searching import registered_name, weighed


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """``words`` is an encoder that knows texts, and ``clip`` is one too."""
    for name, kind in (("words", "WordEncoder"), ("clip", "WordClip")):
        part = registry._Part(f"word_encoder:{kind}")
        monkeypatch.setitem(registry._BUILT_IN["encoders"], name, part)


@pytest.fixture
def coloured(own_folder: Path) -> Path:
    """``./cache`` with a red, a green, a blue and a purple picture, in that order, encoded by ``words``."""
    matcher = AestheticMatcher(WordEncoder())
    with CacheManager("cache") as cache:
        for name, colour in COLOURS.items():
            path = own_folder / f"{name}.png"
            Image.new("RGB", (6, 4), colour).save(path)
            cache.add(path, f"all {name}", {}, matcher.encode_image(path))
    return own_folder / "cache"


@pytest.fixture
def crowd(own_folder: Path, unit: Callable[..., NDArray[np.float32]]) -> Path:
    """``./cache`` with 30 entries whose vectors are random and of ``words``; 435 pairs."""
    Image.new("RGB", (4, 4), "red").save("red.png")
    with CacheManager("cache") as cache:
        for vector in unit(30, 768, seed=5):
            cache.add("red.png", "", {}, vector, encoder="words-v1")
    return own_folder / "cache"


def found(text: str) -> list[dict[str, Any]]:
    """The JSON document of every line."""
    return [json.loads(line) for line in text.splitlines()]


def emptied(folder: Path) -> None:
    """A cache in ``./cache`` whose only entry is gone."""
    Image.new("RGB", (4, 4), "red").save(folder / "red.png")
    with CacheManager("cache") as cache:
        cache.remove(cache.add(folder / "red.png"))


def ids(text: str) -> list[str]:
    """The ids, in the order printed as JSON."""
    return [document["cache_id"] for document in found(text)]


# ------------------------------------------------------------------------------------- search


def test_a_text_finds_what_it_describes(coloured: Path, reverie: Run) -> None:
    """The encoder of the cache's vectors is found by itself, and the fitting picture comes first."""
    done = reverie("cache", "search", "something blue", "-k", "2", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert ids(done.stdout) == ["cache_00003", "cache_00004"]
    assert found(done.stdout)[0]["band"] is None


def test_the_table_of_a_text_has_no_words(coloured: Path, reverie: Run) -> None:
    """A text's cosines are not those of two pictures: the bands are left out, and it fits 80 columns."""
    lines = reverie("cache", "search", "blue").stdout.splitlines()
    assert lines[0].split() == ["id", "similarity", "prompt"]
    assert lines[1].split()[0] == "cache_00003"
    assert widest("\n".join(lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["--plus", "cache_00001", "--plus", "blue:2"], "cache_00004"),
        (["--plus", "red.png", "--plus", "blue:2"], "cache_00003"),
        (["purple", "--minus", "red"], "cache_00003"),
        (["purple", "--minus", "red:0"], "cache_00004"),
        (["purple", "--minus", "cache_00004:0.1", "-k", "1"], "cache_00001"),
    ],
    ids=" ".join,
)
def test_sums(arguments: list[str], first: str, coloured: Path, reverie: Run) -> None:
    """Texts, files and entries add up with their weights; an entry that is named is left out."""
    if first == "cache_00003" and "red.png" in arguments:
        reverie("cache", "remove", "cache_00004", "--yes")
    done = reverie("cache", "search", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    assert ids(done.stdout)[0] == first
    assert not {"cache_00001"} & set(arguments) & set(ids(done.stdout))


def test_pictures_alone_have_words(coloured: Path, reverie: Run) -> None:
    """A sum of pictures is judged as pictures are, by fixed bands while there are few."""
    done = reverie("cache", "search", "--plus", "cache_00001", "--plus", "blue.png")
    assert done.stdout.splitlines()[1].split()[:1] == ["cache_00004"]
    assert "very similar" in done.stdout or "nearly identical" in done.stdout
    assert "in words: fixed bands; too few for percentiles: 4 pictures, 6 pairs" in done.stdout


def test_a_percentile_for_a_text_is_a_share_of_the_pictures(coloured: Path, reverie: Run) -> None:
    """p75 of four pictures lets two through: the third and the fourth of four."""
    done = reverie("cache", "search", "blue", "--threshold", "p75")
    assert len([line for line in done.stdout.splitlines() if line.startswith("cache_")]) == 2
    assert "the percentile is a cosine of " in done.stdout


def test_a_text_that_was_cut_is_reported(coloured: Path, reverie: Run) -> None:
    """What the encoder warns of becomes one line on standard error; the result is there."""
    done = reverie("cache", "search", "a very very long text about blue things", "--json")
    assert done.exit_code == 0
    assert done.stderr == "note: the last 2 words were not used\n"
    assert len(found(done.stdout)) == 4


def test_nothing_to_look_for(coloured: Path, reverie: Run) -> None:
    """Neither a text nor --plus is wrong usage."""
    done = reverie("cache", "search", "--minus", "red")
    assert done.exit_code == 2
    assert "say what to look for" in done.stderr


def test_a_picture_that_is_not_there_is_no_text(coloured: Path, reverie: Run) -> None:
    """A mistyped file name is an error, not a search for its letters."""
    done = reverie("cache", "search", "angle.png")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "reverie: 'angle.png' is neither an entry of this cache nor an image file\n"


def test_parts_that_cancel_out(coloured: Path, reverie: Run) -> None:
    """A sum without a direction is an error."""
    done = reverie("cache", "search", "red", "--minus", "red")
    assert done.exit_code == 1
    assert "cancel each other out" in done.stderr


def test_a_cache_of_another_encoder(filled: Path, reverie: Run) -> None:
    """The built-in descriptor knows no texts: CLIP is taken, and the error names the way out."""
    done = reverie("cache", "search", "an angel", "--cache", "cache")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "reverie: this cache has no vector of the encoder 'clip-vit-b32'; its vectors are of descriptor-v1; "
        "make new ones with: reverie cache reindex --encoder clip --cache cache\n"
    )


def test_other_weights_are_named(own_folder: Path, unit: Any, reverie: Run) -> None:
    """Vectors of other weights than the model's own are not mixed with them: their folder is asked for."""
    Image.new("RGB", (4, 4), "red").save("red.png")
    with CacheManager("cache") as cache:
        cache.add("red.png", "", {}, unit(1, 768)[0], encoder="words-v1+1a2b3c4d")
    assert "--model-dir" in reverie("cache", "search", "red").stderr
    done = reverie("cache", "search", "red", "--model-dir", "there", "--threads", "2", "--json")
    assert (done.exit_code, ids(done.stdout)) == (0, ["cache_00001"])


def test_an_empty_cache_finds_nothing(own_folder: Path, reverie: Run) -> None:
    """Searching an empty cache is no error, with a percentile neither."""
    emptied(own_folder)
    done = reverie("cache", "search", "red", "--threshold", "p90")
    assert (done.exit_code, done.stdout) == (0, "nothing in this cache is that similar\n")


# -------------------------------------------------------------------------------- similar


def test_similar_finds_the_encoder_by_itself(coloured: Path, reverie: Run) -> None:
    """An image file is encoded by what made the cache's vectors; another encoder is refused by name."""
    done = reverie("cache", "similar", "blue.png", "--json", "-k", "1")
    assert [(x["cache_id"], x["similarity"]) for x in found(done.stdout)] == [
        ("cache_00003", pytest.approx(1))
    ]
    done = reverie("cache", "similar", "blue.png", "--encoder", "descriptor")
    assert done.exit_code == 1
    assert "no vector of the encoder 'descriptor-v1'; its vectors are of words-v1" in done.stderr


def test_similar_among_several_encoders(coloured: Path, png: Callable[..., Path], reverie: Run) -> None:
    """With several in one cache, the encoder of most vectors is taken; --encoder chooses another."""
    with CacheManager("cache") as cache:
        path = png("other.png")
        cache.add(path, "", {}, AestheticMatcher("descriptor").encode_image(path))
    assert "cache_00003" in ids(reverie("cache", "similar", "blue.png", "--json").stdout)
    done = reverie("cache", "similar", "blue.png", "--encoder", "descriptor", "--json")
    assert ids(done.stdout) == ["cache_00005"]


def test_words_by_percentile(crowd: Path, reverie: Run) -> None:
    """With 21 vectors or more the words go by the cache's own pairs, and the table says so."""
    done = reverie("cache", "similar", "cache_00001", "-k", "29", "--json")
    with CacheManager("cache") as cache:
        scale = AestheticMatcher("descriptor").calibrate(cache.embeddings())
    for match in found(done.stdout):
        assert match["band"] == scale.describe(match["similarity"])
        assert match["percentile"] == pytest.approx(scale.percentile(match["similarity"]), abs=5e-4)
    assert {match["band"] for match in found(done.stdout)} >= {"related style", "different aesthetic"}
    assert (
        "in words: percentiles of 30 pictures, 435 pairs" in reverie("cache", "similar", "cache_00001").stdout
    )


def test_threshold_as_percentile(crowd: Path, reverie: Run) -> None:
    """p90 lets through what reaches the 90th percentile of the cache's pairs, and names the cosine."""
    done = reverie("cache", "similar", "cache_00001", "-k", "29", "--threshold", "p90", "--json")
    every = found(reverie("cache", "similar", "cache_00001", "-k", "29", "--json").stdout)
    assert found(done.stdout) == [match for match in every if match["percentile"] >= 90]
    assert 0 < len(found(done.stdout)) < 10
    done = reverie("cache", "similar", "cache_00001", "--threshold", "p90")
    assert "the percentile is a cosine of 0." in done.stdout


@pytest.mark.parametrize("threshold", ["p101", "p", "much", "p-1"])
def test_a_threshold_that_is_none(threshold: str, coloured: Path, reverie: Run) -> None:
    """Neither a cosine nor a percentile is wrong usage."""
    done = reverie("cache", "similar", "cache_00001", "--threshold", threshold)
    assert done.exit_code == 2
    assert "--threshold" in done.stderr


# ------------------------------------------------------------------------------------ tag


def test_tag_names_the_best_labels(coloured: Path, reverie: Run) -> None:
    """Every entry gets its labels, likeliest first, as a table and as JSON."""
    labels = ["--label", "red", "--label", "green", "--label", "blue"]
    lines = reverie("cache", "tag", *labels, "-k", "2").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["cache_00001", "red"],
        ["cache_00002", "green"],
        ["cache_00003", "blue"],
    ]
    (one,) = found(reverie("cache", "tag", "cache_00002", *labels, "--json").stdout)
    assert [tag["label"] for tag in one["tags"]] == ["green", "blue", "red"]
    assert sum(tag["probability"] for tag in one["tags"]) == pytest.approx(1)


def test_tag_encodes_what_has_no_vector(coloured: Path, own_folder: Path, reverie: Run) -> None:
    """An entry without a vector is left out of the whole cache, and encoded when it is named."""
    with CacheManager("cache") as cache:
        cache.add(own_folder / "green.png", "", {})
    labels = ["--label", "red", "--label", "green"]
    assert len(found(reverie("cache", "tag", *labels, "--json").stdout)) == 4
    (one,) = found(reverie("cache", "tag", "cache_00005", *labels, "--json").stdout)
    assert one["tags"][0]["label"] == "green"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--label"),
        (["--label", " "], 1, "labels must be"),
        (["--label", "red", "--template", "a photo"], 1, "{}"),
        (["nope", "--label", "red"], 1, "not in this cache: nope"),
    ],
    ids=str,
)
def test_tag_refuses(arguments: list[str], code: int, message: str, coloured: Path, reverie: Run) -> None:
    """No label, an empty one, a template without a place for it, an unknown entry."""
    done = reverie("cache", "tag", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_tag_of_an_empty_cache(own_folder: Path, reverie: Run) -> None:
    """There is nothing to tag: a sentence."""
    emptied(own_folder)
    assert (
        reverie("cache", "tag", "--label", "red").stdout == "this cache is empty: there is nothing to tag\n"
    )


# ------------------------------------------------------------------------------------ parts


@pytest.mark.parametrize(
    ("stamp", "name"),
    [
        ("clip-vit-b32", "clip-vit-b32"),
        ("clip-vit-b32-int8", "clip-vit-b32:int8"),
        ("clip-vit-l14+0a1b2c3d", "clip-vit-l14"),
        ("clip-vit-l14-int8+0a1b2c3d", "clip-vit-l14:int8"),
        ("descriptor-v1", "descriptor"),
        ("words-v1", "words"),
        ("someone's own", None),
        (None, None),
    ],
)
def test_the_registered_name_of_a_stamp(stamp: str | None, name: str | None) -> None:
    """A vector's stamp leads back to the encoder that makes such vectors."""
    assert registered_name(stamp) == name


@pytest.mark.parametrize(
    ("argument", "item"),
    [
        ("wings", ("wings", 1.0)),
        ("wings:2", ("wings", 2.0)),
        ("black angel:0.5", ("black angel", 0.5)),
        ("night: black", ("night: black", 1.0)),
        (":2", (":2", 1.0)),
        ("cache_00001:3", ("cache_00001", 3.0)),
        ("16:9", ("16", 9.0)),
        ("a:2.png", ("a:2.png", 1.0)),
    ],
)
def test_a_weight_stands_behind_the_last_colon(
    argument: str, item: tuple[str, float], coloured: Path
) -> None:
    """Only a number is a weight."""
    with CacheManager("cache") as cache:
        assert weighed(argument, cache) == item
