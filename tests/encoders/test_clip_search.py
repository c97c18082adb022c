"""Search, sums and labels with CLIP from end to end, against transformers: a tiny random network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoTokenizer

from clip_words import write_clip_tokenizer
from clip_zoo import pictures, tiny_clip
from reverie import AestheticMatcher, CacheManager, ImageMemory
from reverie.cli.main import cli

ENGINE = "clip:onnxruntime"
TEXTS = ["black wireframe angel", "a city of glass", "wings"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A folder with the model's files, the transformers model they were made from, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    model = tiny_clip(folder)
    write_clip_tokenizer(folder)
    return folder, model, AutoTokenizer.from_pretrained(folder, clean_up_tokenization_spaces=False)


@pytest.fixture(scope="module")
def cache(network, tmp_path_factory):
    """A cache of 24 pictures, encoded by that network; its matrix is 512 wide."""
    matcher = AestheticMatcher(ENGINE, model_dir=network[0], threads=1)
    place = tmp_path_factory.mktemp("clip-search") / "cache"
    frames = pictures(32)
    with CacheManager(place) as opened:
        for number, vector in enumerate(matcher.encode_images(frames)):
            opened.add(frames[number], f"picture {number}", {}, vector)
    return place


@pytest.fixture
def run(network, cache):
    """Run a `reverie cache` command with that network; the JSON documents, and standard error."""

    def call(command, *arguments):
        options = [
            "--cache",
            cache,
            "--encoder",
            ENGINE,
            "--model-dir",
            network[0],
            "--threads",
            "1",
            "--json",
        ]
        done = CliRunner().invoke(cli, ["cache", command, *map(str, [*arguments, *options])])
        assert done.exit_code == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return call


def text_vectors(network, texts):
    """What transformers makes of texts: ``(n, 512)`` unit rows."""
    _, model, tokenizer = network
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        pooled = model.text_model(input_ids=ids["input_ids"]).pooler_output
        rows = model.text_projection(pooled).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def stored(cache: Path):
    """Ids and matrix of the cache."""
    with CacheManager(cache) as opened:
        return opened.embeddings()


def test_a_text_finds_what_transformers_finds(network, cache, run):
    """The same entries in the same order, the same cosines."""
    table = stored(cache)
    assert table.encoder.startswith("clip-vit-b32+")
    cosines = table.matrix @ text_vectors(network, TEXTS[:1])[0]
    found, error = run("search", TEXTS[0], "-k", "24")
    assert error == ""
    assert {match["cache_id"]: match["similarity"] for match in found} == pytest.approx(
        dict(zip(table.ids, cosines.tolist(), strict=True)), abs=1e-5
    )
    assert found == sorted(found, key=lambda match: -match["similarity"])


def test_a_sum_of_texts_and_a_picture(network, cache, run):
    """Unit vectors times their weights, from the text tower and the cache."""
    table = stored(cache)
    city, wings = text_vectors(network, TEXTS[1:])
    wanted = table.matrix[3] + 2.5 * wings - city
    cosines = table.matrix @ (wanted / np.linalg.norm(wanted))
    found, _ = run("search", "--plus", "cache_00004", "--plus", "wings:2.5", "--minus", TEXTS[1], "-k", "24")
    expected = {
        name: value for name, value in zip(table.ids, cosines.tolist(), strict=True) if name != table.ids[3]
    }
    assert {match["cache_id"]: match["similarity"] for match in found} == pytest.approx(expected, abs=1e-5)


def test_tags_are_clips_softmax(network, cache, run):
    """Softmax of 100 times the cosine to "a photo of ...", as the card's settings have it."""
    labels = ["an angel", "a city"]
    logits = (
        100 * text_vectors(network, [f"a photo of {label}" for label in labels]) @ stored(cache).matrix[0]
    )
    chances = np.exp(logits - logits.max())
    expected = dict(zip(labels, (chances / chances.sum()).tolist(), strict=True))
    ((one,), _) = run("tag", "cache_00001", "--label", labels[0], "--label", labels[1])
    assert {tag["label"]: tag["probability"] for tag in one["tags"]} == pytest.approx(expected, abs=1e-3)


def test_a_text_that_is_too_long_is_reported(run):
    """One line on standard error, and the result of what was read."""
    found, error = run("search", "a " * 80, "-k", "1")
    assert len(found) == 1
    assert error == "note: 77 tokens at most: the last 5 words were not used, from 'a a a a a' on\n"


def test_words_by_the_caches_own_pairs(cache, run):
    """24 pictures make 276 pairs: an entry's neighbours are described by their percentile."""
    found, _ = run("similar", "cache_00001", "-k", "23")
    assert all(match["percentile"] is not None for match in found)
    assert found[0]["percentile"] > found[-1]["percentile"]


def test_memory_recalls_by_text(network, tmp_path):
    """`ImageMemory.recall` takes a text as it is."""
    matcher = AestheticMatcher(ENGINE, model_dir=network[0], threads=1)
    with ImageMemory(tmp_path / "cache", encoder=matcher.encoder) as memory:
        for frame in pictures(32)[:3]:
            memory.remember(frame)
        found = memory.recall(TEXTS[0], k=3)
        cosines = memory.embeddings().matrix @ text_vectors(network, TEXTS[:1])[0]
    assert [score for _, score in found] == pytest.approx(sorted(cosines.tolist(), reverse=True), abs=1e-5)
