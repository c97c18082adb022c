"""Pictures that say how they were made, in a cache: what it writes, and what it reads of files."""

import numpy as np
import pytest
from PIL import Image

from picture_files import NEGATIVE, PROMPT, everything, png
from reverie import CacheManager, NewEntry
from reverie.importing import import_folder
from reverie.metadata import read_metadata
from reverie.pixels import ImageFile

FILES = everything()
FRAME = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


@pytest.fixture(params=["json", "sqlite"])
def cache(request, tmp_path):
    """An empty cache of either kind."""
    with CacheManager(tmp_path / "cache", None, index=request.param) as opened:
        yield opened


def put(folder, name):
    """A file as a program wrote it."""
    path = folder / f"{name}.png"
    path.write_bytes(FILES[name])
    return path


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_says_is_taken_where_nothing_is_given(cache, tmp_path, name):
    """Prompt and parameters, with the program's name; its bytes stay as they are."""
    entry = cache.get(cache.add(put(tmp_path, name)))
    expected = read_metadata(FILES[name])
    assert (entry.prompt, entry.prompt[:20]) == (expected.prompt, PROMPT[:20])
    assert entry.generation_params == {**expected.params, "metadata": {"source": expected.source}}
    assert entry.image_path.read_bytes() == FILES[name]


def test_what_is_given_goes_before(cache, tmp_path):
    """Either of the two, or both; an empty dict is given."""
    path = put(tmp_path, "a1111")
    ids = [
        cache.add(path, "mine"),
        cache.add(path, "", {"a": 1}),
        cache.add(path, "mine", {}),
        cache.add(path, "", {}),
    ]
    entries = [cache.get(each) for each in ids]
    assert [entry.prompt[:4] for entry in entries] == ["mine", "a ha", "mine", "a ha"]
    assert [entry.generation_params.get("negative_prompt") for entry in entries] == [
        NEGATIVE,
        None,
        None,
        None,
    ]
    assert entries[1].generation_params == {"a": 1}


def test_batches_and_links(cache, tmp_path):
    """add_many, and a file that becomes a second name."""
    path = put(tmp_path, "comfyui")
    ids = cache.add_many([NewEntry(path), NewEntry(ImageFile(str(path), link=True)), NewEntry(FRAME, "x")])
    assert [cache.get(each).prompt for each in ids] == [PROMPT, PROMPT, "x"]
    assert cache.get(ids[1]).image_path.samefile(path)


def test_pictures_that_are_encoded_here_say_how_they_were_made(cache, tmp_path):
    """And another cache that takes the file has the same entry."""
    first = cache.add(FRAME, 'a rose\nin {the} "rain" 夜', {"seed": 5, "nested": {"a": [1, None]}})
    second = cache.add(Image.fromarray(FRAME), "two", {"steps": 4}, parents=[first])
    bare = cache.add(FRAME)
    entry = cache.get(first)
    with CacheManager(tmp_path / "other") as other:
        again = other.get(other.add(entry.image_path))
        assert again.prompt == entry.prompt
        assert again.generation_params == {**entry.generation_params, "metadata": {"source": "reverie"}}
        child = other.get(other.add(cache.get(second).image_path))
        assert child.generation_params["metadata"] == {"source": "reverie", "parents": {first: 1.0}}
        assert child.parents == ()
    assert read_metadata(cache.get(bare).image_path.read_bytes()) is None
    assert np.array_equal(np.asarray(Image.open(entry.image_path)), FRAME)


def test_batched_pictures_say_it_too(tmp_path):
    """Stored by a thread, later."""
    with CacheManager(tmp_path, None, index="sqlite", durability="batched") as cache:
        ids = [cache.add(FRAME, f"prompt {number}", {"n": number}) for number in range(4)]
        cache.flush()
        found = [read_metadata(cache.get(each).image_path.read_bytes()) for each in ids]
    assert [(each.prompt, each.params) for each in found] == [(f"prompt {n}", {"n": n}) for n in range(4)]


def test_a_sound_picture_with_broken_metadata_is_added(cache, tmp_path):
    """Its pixels are what counts."""
    path = tmp_path / "odd.png"
    path.write_bytes(
        png({"prompt": '{"3": {"class_type": 5, "inputs": [1, {}]}}', "sd-metadata": "{" * 5000})
    )
    assert cache.get(cache.add(path)).prompt == ""


def test_an_import_reads_it(tmp_path):
    """Of every file; what is given for all goes before, and the file's own name stays."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a1111", "swarmui"):
        put(folder, name)
    with CacheManager(tmp_path / "cache") as cache:
        import_folder(cache, folder, encoder=None, generation_params={"steps": 1})
        entries = sorted(cache.get_all(), key=lambda entry: entry.generation_params["source"])
        assert [entry.prompt[:9] for entry in entries] == ["a harbour"] * 2
        assert [entry.generation_params["metadata"]["source"] for entry in entries] == [
            "AUTOMATIC1111",
            "SwarmUI",
        ]
        assert [entry.generation_params["steps"] for entry in entries] == [1, 1]
        assert entries[1].generation_params["source"].endswith("swarmui.png")
