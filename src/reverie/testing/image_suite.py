"""What every image store must do, as tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie.errors import ImageError, ImageNotFoundError, InputError, StorageError
from reverie.protocols import ImageStore
from reverie.storage import content_hash
from reverie.testing.samples import picture, png_bytes

__all__ = ["ImageStoreSuite"]


class ImageStoreSuite:
    """Tests of an `ImageStore`; a subclass says how to make one."""

    def make(self, folder: Path) -> ImageStore:
        """The store whose images are in ``folder``."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> ImageStore:
        """An empty store."""
        return self.make(tmp_path / "images")

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A PNG file to store."""
        path = tmp_path / "source.png"
        path.write_bytes(png_bytes(1))
        return path

    def test_a_file_keeps_its_bytes(self, store: ImageStore, source: Path) -> None:
        """What is read is what was stored; size and hash are those of the bytes."""
        staged = store.stage(source)
        store.commit([(staged, "one.png")])
        data = source.read_bytes()
        assert store.read("one.png") == data
        assert (staged.byte_size, staged.content_hash) == (len(data), content_hash(data))
        assert staged.suffix == ".png"

    @pytest.mark.parametrize("kind", ["array", "pil"])
    def test_pixels_become_a_png_of_the_same_pixels(self, store: ImageStore, kind: str) -> None:
        """An array or a PIL image is stored without loss."""
        pixels = picture(2)
        staged = store.stage(pixels if kind == "array" else Image.fromarray(pixels))
        store.commit([(staged, "two.png")])
        assert staged.suffix == ".png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(store.read("two.png")))), pixels)

    def test_a_png_that_is_made_here_says_how_it_was_made(self, store: ImageStore, source: Path) -> None:
        """Texts stand in it, those that a PIL image carries go before; a file's bytes stay as they are."""
        texts = {"parameters": "a rose\nSteps: 4", "own": "夜 {}"}
        carrying = Image.fromarray(picture(2))
        carrying.info["own"] = "its own"
        staged = [store.stage(image, texts) for image in (picture(2), carrying, source)]
        store.commit([(each, f"{number}.png") for number, each in enumerate(staged)])
        found = [Image.open(io.BytesIO(store.read(f"{number}.png"))).info for number in range(2)]
        assert {name: found[0].get(name) for name in texts} == texts
        assert (found[1]["parameters"], found[1]["own"]) == (texts["parameters"], "its own")
        assert store.read("2.png") == source.read_bytes()

    def test_what_was_taken_is_staged_later_as_it_was(self, store: ImageStore, source: Path) -> None:
        """Whatever becomes of the file or the pixels meanwhile; what is broken is refused at once."""
        pixels, data = picture(2), source.read_bytes()
        taken = [store.take(source), store.take(pixels), store.take(Image.fromarray(pixels))]
        expected = pixels.copy()
        pixels[:] = 0
        source.write_bytes(b"no image any more")
        staged = [store.stage(each.image) for each in taken]
        assert [each.suffix for each in taken] == [each.suffix for each in staged] == [".png"] * 3
        assert all(each.byte_size >= one.byte_size for each, one in zip(taken, staged, strict=True))
        store.commit([(each, f"{place}.png") for place, each in enumerate(staged)])
        assert store.read("0.png") == data
        for name in ("1.png", "2.png"):
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(store.read(name)))), expected)
        with pytest.raises(ImageError):
            store.take(source)

    def test_an_image_is_there_from_its_commit_on(self, store: ImageStore, source: Path) -> None:
        """Staged is not stored; discarded leaves nothing; deleted is gone."""
        store.discard(store.stage(source))
        staged = store.stage(source)
        assert not store.exists("one.png")
        store.commit([(staged, "one.png")])
        assert store.exists("one.png")
        store.delete(["one.png", "never.png"])
        assert not store.exists("one.png")
        store.delete(["one.png"])

    def test_a_name_is_given_once(self, store: ImageStore, source: Path) -> None:
        """A second commit of a name is refused and the first image stays."""
        store.commit([(store.stage(source), "one.png")])
        again = store.stage(picture(3))
        with pytest.raises(StorageError, match="exists already"):
            store.commit([(again, "one.png")])
        store.discard(again)
        assert store.read("one.png") == source.read_bytes()

    def test_several_get_their_names_together_or_not_at_all(self, store: ImageStore, source: Path) -> None:
        """Where one name is taken, none is given; afterwards the others can still be stored."""
        store.commit([(store.stage(source), "taken.png")])
        first, second = store.stage(picture(4)), store.stage(picture(5))
        with pytest.raises(StorageError, match="exists already"):
            store.commit([(first, "one.png"), (second, "taken.png")])
        assert not store.exists("one.png")
        assert store.read("taken.png") == source.read_bytes()
        store.commit([(first, "one.png"), (second, "two.png")], durable=False)
        store.flush(["one.png", "two.png", "never.png"])
        assert store.exists("one.png")
        assert store.exists("two.png")

    def test_a_missing_image_is_named(self, store: ImageStore, source: Path) -> None:
        """Reading what is not there says so."""
        store.commit([(store.stage(source), "one.png")])
        with pytest.raises(ImageNotFoundError, match=r"two\.png"):
            store.read("two.png")

    @pytest.mark.parametrize("damage", ["empty", "cut", "text", "folder", "nothing"])
    def test_what_is_no_whole_image_is_refused(self, store: ImageStore, tmp_path: Path, damage: str) -> None:
        """A clear error, and nothing is stored."""
        path = tmp_path / "bad.png"
        if damage == "folder":
            path.mkdir()
        elif damage != "nothing":
            contents = {"empty": b"", "cut": png_bytes(1, 64, 64)[:-900], "text": b"not an image"}
            path.write_bytes(contents[damage])
        expected = ImageNotFoundError if damage == "nothing" else ImageError
        with pytest.raises(expected, match=r"bad\.png"):
            store.stage(path)

    @pytest.mark.parametrize(
        "thing",
        [
            None,
            5,
            b"bytes",
            [[1, 2], [3, 4]],
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 3)),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((3, 4, 4), np.uint8),
        ],
    )
    def test_other_types_are_refused(self, store: ImageStore, thing: object) -> None:
        """Only paths, PIL images and ``(h, w, 3)`` uint8 arrays are images."""
        with pytest.raises(InputError):
            store.stage(thing)  # type: ignore[arg-type]
