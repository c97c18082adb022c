"""ImageMemory: remembers frames and finds them again by look."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie import CacheManager, ImageMemory, NewEntry, Where
from reverie.admission import AdmissionRate, MaximumSimilarity
from reverie.errors import (
    CacheClosedError,
    CacheFullError,
    EmbeddingError,
    EncoderMismatchError,
    EntryNotFoundError,
    ImageError,
    ImageNotFoundError,
    InputError,
    ParamsError,
    UnknownNameError,
)
from reverie.vectors import Embedding, as_embedding

WORDS = {"red": (250, 10, 20), "blue": (10, 20, 240)}


class MeanColour:
    """A picture's mean colour, as an encoder."""

    name = "mean-colour"
    dimensions = 3

    def encode_batch(self, frames):
        """One row a frame."""
        means = np.array([frame.mean(axis=(0, 1)) for frame in frames]).reshape(-1, 3) + 1
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


class NamedColour(MeanColour):
    """The same, with two names for colours."""

    def encode_texts(self, texts):
        """One row a text."""
        return self.encode_batch([np.full((1, 1, 3), WORDS[text], np.uint8) for text in texts])


def flat(red, green=40, blue=200):
    """A frame of one colour."""
    frame = np.empty((4, 5, 3), np.uint8)
    frame[:] = red, green, blue
    return frame


@pytest.fixture
def memory(tmp_path):
    """An empty memory of 5."""
    with ImageMemory(tmp_path / "cache", 5, MeanColour(), seed=0) as opened:
        yield opened


# ----------------------------------------------------------------------------------- remember


def test_a_remembered_frame_is_in_the_cache_with_all_that_is_known(memory):
    """Prompt, parameters, parents, pin and a stamped embedding."""
    first = memory.remember(flat(10))
    kept = memory.remember(
        flat(200), "a rose", {"denoise": 0.4, "steps": 4}, parents=[first.cache_id], pinned=True
    )
    entry = memory.cache.get(kept.cache_id)
    assert (entry.prompt, entry.generation_params) == ("a rose", {"denoise": 0.4, "steps": 4})
    assert (entry.parents, entry.pinned, entry.encoder) == ((first.cache_id,), True, "mean-colour")
    assert entry.embedding.tobytes() == kept.embedding.tobytes()
    assert (type(kept.embedding), kept.embedding.encoder) == (Embedding, "mean-colour")
    assert kept.evicted == ()
    assert len(memory) == 2


def test_the_specifications_argument_order(memory):
    """Frame, prompt, generation_params by position, like `CacheManager.add`."""
    kept = memory.remember(flat(1), "p", {"a": 1})
    entry = memory.cache.get(kept.cache_id)
    assert (entry.prompt, entry.generation_params) == ("p", {"a": 1})


def test_the_picture_comes_back_as_it_was(memory, picture, png):
    """An array bit for bit; a path and a PIL image as their pixels."""
    array, path, image = picture(0), png("b.png", seed=1), Image.fromarray(picture(2))
    for frame, pixels in (
        (array, picture(0)),
        (path, picture(1)),
        (str(path), picture(1)),
        (image, picture(2)),
    ):
        found = memory.image(memory.remember(frame).cache_id)
        assert (found.dtype, found.tolist()) == (np.uint8, pixels.tolist())


def test_a_given_embedding_is_not_computed_again(memory, monkeypatch):
    """When the caller has it already; one without a stamp is taken as this encoder's."""
    stamped = memory.matcher.encode_image(flat(7))
    monkeypatch.setattr(memory.matcher, "encode_image", None)
    assert memory.remember(flat(7), embedding=stamped).embedding.tobytes() == stamped.tobytes()
    plain = memory.remember(flat(7), embedding=np.asarray(stamped).tolist())
    assert plain.embedding.encoder == "mean-colour"
    assert memory.cache.get(plain.cache_id).encoder == "mean-colour"
    assert len(memory.embeddings()) == 2


def test_an_embedding_that_could_never_be_recalled_is_refused(memory):
    """Of another encoder, of another length, not a direction; nothing is kept."""
    with pytest.raises(EncoderMismatchError, match="'clip', but 'mean-colour' was expected"):
        memory.remember(flat(7), embedding=as_embedding([1, 2, 3], encoder="clip"))
    for bad in ([1.0, 2.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]):
        with pytest.raises(EmbeddingError):
            memory.remember(flat(7), embedding=bad)
    assert len(memory) == 0


def test_evicted_ids_are_reported(memory):
    """What had to go for a frame, and nothing else."""
    kept = [memory.remember(flat(shade)) for shade in range(0, 140, 20)]
    assert [k.evicted for k in kept] == [(), (), (), (), (), (kept[0].cache_id,), (kept[1].cache_id,)]
    assert [entry.cache_id for entry in memory.cache] == [k.cache_id for k in kept[2:]]


def test_what_others_evict_is_not_reported(memory):
    """An add straight to the cache evicts too: no frame of ours is blamed for it."""
    for shade in range(5):
        memory.remember(flat(shade))
    memory.cache.add(flat(99), "by hand")
    assert memory.remember(flat(6)).evicted == ("cache_00002",)


def test_what_another_thread_evicts_meanwhile_is_not_reported(memory, monkeypatch):
    """Evictions belong to the add that caused them, however the threads are interleaved."""
    for shade in range(5):
        memory.remember(flat(shade))
    add_many = memory.cache.add_many

    def add_behind_another(*args, **kwargs):
        with ThreadPoolExecutor(1) as other:
            other.submit(add_many, [NewEntry(flat(99), "by hand")]).result()
        return add_many(*args, **kwargs)

    monkeypatch.setattr(memory.cache, "add_many", add_behind_another)
    assert memory.remember(flat(6)).evicted == ("cache_00002",)


def test_what_went_is_known_at_once_when_adds_are_not_waited_for(tmp_path):
    """With ``durability="batched"`` `remember` stores before it returns, in its own thread."""
    with ImageMemory(tmp_path, max_size=2, encoder=MeanColour(), durability="batched") as memory:
        kept = [memory.remember(flat(shade)) for shade in (10, 50, 90)]
        assert [each.evicted for each in kept] == [(), (), (kept[0].cache_id,)]
        assert kept[2].outcome == "replaced"


def test_two_memories_over_one_cache_report_their_own_evictions(tmp_path):
    """Each learns of what its own frames pushed out."""
    with CacheManager(tmp_path, max_size=2) as cache:
        one, two = ImageMemory(cache, encoder=MeanColour()), ImageMemory(cache, encoder=MeanColour())
        one.remember(flat(1))
        one.remember(flat(2))
        assert two.remember(flat(3)).evicted == ("cache_00001",)
        assert one.remember(flat(4)).evicted == ("cache_00002",)


def test_a_frame_that_fails_leaves_the_memory_as_it_was(memory):
    """A broken frame, parameters that JSON cannot hold, a memory full of pins."""
    with pytest.raises(ImageError):
        memory.remember(np.zeros((3, 3), np.uint8))
    with pytest.raises(ParamsError):
        memory.remember(flat(1), "", {"a": object()})
    for shade in range(5):
        memory.remember(flat(shade), pinned=True)
    with pytest.raises(CacheFullError):
        memory.remember(flat(9))
    assert len(memory) == 5
    assert memory.cache.check().ok


def test_threads_share_a_memory(memory):
    """Every frame gets an id of its own, and every eviction is reported once, to its own thread."""
    with ThreadPoolExecutor(4) as threads:
        kept = list(threads.map(lambda shade: memory.remember(flat(shade)), range(32)))
    ids = [k.cache_id for k in kept]
    gone = [cache_id for k in kept for cache_id in k.evicted]
    left = [entry.cache_id for entry in memory.cache]
    assert len(set(ids)) == 32
    assert len(left) == 5
    assert sorted(gone + left) == sorted(ids)
    assert max(len(k.evicted) for k in kept) == 1


# ------------------------------------------------------------------------------ outcome, admission


def test_the_outcome_says_what_happened(tmp_path):
    """New while there is room; then it replaced others, which are named."""
    with ImageMemory(tmp_path, 1, MeanColour()) as memory:
        first, second = memory.remember(flat(1)), memory.remember(flat(200))
    assert (first.outcome, first.evicted, first.reason) == ("new", (), "")
    assert (second.outcome, second.evicted, second.reason) == ("replaced", (first.cache_id,), "")


def test_a_frame_that_is_not_admitted_touches_nothing(tmp_path):
    """No id, no eviction, no byte on the disk; the reason has the numbers."""
    with ImageMemory(tmp_path, 1, MeanColour(), admission=MaximumSimilarity(0.99)) as memory:
        first = memory.remember(flat(10))
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        rejected = memory.remember(flat(11))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
        third = memory.remember(flat(250, 0, 0))
    assert (first.outcome, first.reason) == ("new", "memory is empty")
    assert (rejected.outcome, rejected.cache_id, rejected.evicted) == ("rejected", None, ())
    assert rejected.reason == "its highest cosine to memory is 1.000 (cache_00001), above 0.99"
    assert rejected.embedding.encoder == "mean-colour"
    assert (third.outcome, third.cache_id, third.evicted) == ("replaced", "cache_00002", ("cache_00001",))
    assert third.reason.endswith("at most 0.99")


def test_pinned_frames_are_always_admitted(tmp_path):
    """Whoever pins a picture wants it; the controller does not count it."""
    with ImageMemory(tmp_path, admission=AdmissionRate(), encoder=MeanColour()) as memory:
        kept = [memory.remember(flat(10), pinned=True) for _ in range(3)]
        assert [each.outcome for each in kept] == ["new"] * 3
        assert memory.admission.state()["seen"] == []


def test_admission_compares_with_vectors_of_the_same_encoder(tmp_path):
    """Entries of another are no reason to reject, nor an error."""
    with ImageMemory(tmp_path, admission=MaximumSimilarity(), encoder=MeanColour()) as memory:
        memory.cache.add(flat(10), embedding=[1.0, 0.0], encoder="another")
        assert memory.remember(flat(10)).outcome == "new"
        assert memory.remember(flat(10)).outcome == "rejected"


def test_an_admission_goes_on_where_it_was(tmp_path):
    """Its state, saved and restored between two openings, gives what one opening gives."""
    shades = [int(shade) for shade in np.random.default_rng(0).integers(0, 255, 40)]
    with ImageMemory(tmp_path / "whole", encoder=MeanColour(), admission=AdmissionRate(0.4)) as memory:
        whole = [memory.remember(flat(shade)).cache_id for shade in shades]
    parts, saved = [], None
    for half in (shades[:20], shades[20:]):
        with ImageMemory(tmp_path / "parts", encoder=MeanColour(), admission=AdmissionRate(0.4)) as memory:
            if saved is not None:
                memory.admission.restore(saved)
            parts += [memory.remember(flat(shade)).cache_id for shade in half]
            saved = memory.admission.state()
    assert parts == whole
    assert None in whole


def test_a_memory_that_keeps_diversity(tmp_path):
    """`eviction="rke"` reaches the cache: a colour that was seen once outlives many like another."""
    with ImageMemory(tmp_path, 4, MeanColour(), eviction="rke") as memory:
        rare = [memory.remember(flat(*colour)).cache_id for colour in ((250, 0, 0), (0, 250, 0))]
        for shade in range(12):
            memory.remember(flat(shade, 0, 250))
        assert set(rare) <= set(memory.cache.ids())


# ------------------------------------------------------------------------------------- recall


def remember_shades(memory, *shades):
    """Their ids."""
    return [memory.remember(flat(shade)).cache_id for shade in shades]


def test_recall_finds_what_looks_alike(memory):
    """The nearest first, with its cosine, as whole entries."""
    dark, middle, bright = remember_shades(memory, 0, 120, 250)
    found = memory.recall(flat(118))
    assert found[0][0].cache_id == middle
    assert {entry.cache_id for entry, _ in found} == {dark, middle, bright}
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    ((entry, score),) = memory.recall(flat(0), k=1)
    assert (entry.cache_id, score) == (dark, pytest.approx(1.0))
    assert entry.image_path == memory.cache.get(dark).image_path


def test_recall_takes_k_and_a_threshold(memory):
    """At most k, and none below the threshold; no threshold by default."""
    remember_shades(memory, 0, 1, 2, 250)
    assert len(memory.recall(flat(0))) == 4
    assert len(memory.recall(flat(0), k=2)) == 2
    assert len(memory.recall(flat(0), 5, 0.99)) == 3
    assert memory.recall(flat(0), k=0) == []
    with pytest.raises(InputError, match="top_k"):
        memory.recall(flat(0), k=-1)


def test_recall_among_entries_that_fulfil_conditions(tmp_path):
    """The most similar of those, however many others are nearer; pins and other changes count at once."""
    with ImageMemory(tmp_path / "memory", max_size=None) as memory:
        frames = [picture_near(seed) for seed in range(12)]
        ids = [
            memory.remember(frame, "a fox" if seed % 4 == 3 else "the sea", {"steps": seed % 3}).cache_id
            for seed, frame in enumerate(frames)
        ]
        ranked = [entry.cache_id for entry, _ in memory.recall(frames[0], k=None)]
        foxes = [cache_id for cache_id in ranked if cache_id in (ids[3], ids[7], ids[11])]
        found = memory.recall(frames[0], k=2, where=Where("fox"))
        assert [entry.cache_id for entry, _ in found] == foxes[:2] != ranked[:2]
        found = memory.recall(frames[0], k=None, where=Where("fox", params={"steps": 2}))
        assert [entry.cache_id for entry, _ in found] == [ids[11]]
        assert memory.recall(frames[0], where=Where("whale")) == []
        memory.cache.pin(ids[5])
        assert [entry.cache_id for entry, _ in memory.recall(frames[0], where=Where(pinned=True))] == [ids[5]]
        memory.cache.remove(ids[5])
        assert memory.recall(frames[0], where=Where(pinned=True)) == []
        assert len(memory.recall(frames[0], k=None, where=Where())) == 11


def picture_near(seed):
    """Pictures that are less and less like the first."""
    frame = np.full((64, 64, 3), 90, dtype=np.uint8)
    frame[: 5 * seed] = (200, 40, 30)
    return frame


def test_recall_from_an_empty_memory(memory):
    """Nothing, no error."""
    assert memory.recall(flat(1)) == []


def test_recall_counts_as_a_use(tmp_path):
    """What is recalled is kept longer than what is not."""
    with ImageMemory(tmp_path, 2, MeanColour()) as memory:
        old, young = remember_shades(memory, 0, 250)
        memory.recall(flat(0), k=1)
        assert memory.remember(flat(100)).evicted == (young,)
        assert old in memory.cache


def test_recall_passes_over_entries_of_other_encoders(memory):
    """Entries without an embedding, or with another encoder's, are not comparable."""
    memory.cache.add(flat(1), "no embedding")
    memory.cache.add(flat(1), "another", embedding=[1, 0, 0], encoder="clip")
    (ours,) = remember_shades(memory, 1)
    assert [entry.cache_id for entry, _ in memory.recall(flat(1))] == [ours]
    assert memory.embeddings().ids == (ours,)
    assert memory.embeddings().encoder == "mean-colour"


def test_recall_by_path_image_array_and_embedding(memory, tmp_path):
    """Every form of one picture finds the same."""
    remember_shades(memory, 0, 120, 250)
    path = tmp_path / "query.png"
    Image.fromarray(flat(120)).save(path)
    vector = memory.matcher.encode_image(flat(120))
    queries = (path, str(path), Image.fromarray(flat(120)), flat(120), vector)
    found = [memory.recall(query) for query in queries]
    assert [[score for _, score in matches] for matches in found] == [[s for _, s in found[0]]] * 5


def test_recall_by_a_row_of_encode_images(memory):
    """A row of a batch is an embedding, not a strange image."""
    (same,) = remember_shades(memory, 120)
    row = memory.matcher.encode_images([flat(120)])[0]
    assert memory.recall(row)[0][0].cache_id == same


def test_recall_refuses_an_embedding_of_another_encoder(memory):
    """Also while the memory is empty."""
    foreign = as_embedding([1, 2, 3], encoder="clip")
    with pytest.raises(EncoderMismatchError, match="'clip' and 'mean-colour'"):
        memory.recall(foreign)
    remember_shades(memory, 1)
    with pytest.raises(EncoderMismatchError, match="'clip' and 'mean-colour'"):
        memory.recall(foreign)


def test_a_str_is_a_path_when_it_names_a_file_and_else_a_text(tmp_path, monkeypatch):
    """With an encoder that knows texts."""
    with ImageMemory(tmp_path / "cache", encoder=NamedColour()) as memory:
        red = memory.remember(np.full((3, 3, 3), WORDS["red"], np.uint8)).cache_id
        blue = memory.remember(np.full((3, 3, 3), WORDS["blue"], np.uint8)).cache_id
        assert memory.recall("red", k=1)[0][0].cache_id == red
        monkeypatch.chdir(tmp_path)
        Image.new("RGB", (3, 3), WORDS["blue"]).save(tmp_path / "red", format="PNG")
        assert memory.recall("red", k=1)[0][0].cache_id == blue


@pytest.mark.parametrize("text", ["no such file.png", "a rose " * 200, "nul\0byte", "", "\udcff"], ids=ascii)
def test_a_text_for_an_encoder_without_texts(memory, text):
    """One clear error for a missing file and a text alike, however long or odd it is."""
    with pytest.raises(InputError, match=r"(?s)there is no file .*'mean-colour' knows pictures only"):
        memory.recall(text)


def test_a_missing_path_is_no_text(memory, tmp_path):
    """A `Path` is never taken for a text."""
    with pytest.raises(ImageNotFoundError):
        memory.recall(tmp_path / "missing.png")


# -------------------------------------------------------------------------------------- image


def test_a_picture_that_is_gone_or_broken(memory):
    """Each way of not being there has its error."""
    gone, broken = remember_shades(memory, 1, 2)
    memory.cache.get(gone).image_path.unlink()
    memory.cache.get(broken).image_path.write_bytes(b"no image")
    with pytest.raises(ImageNotFoundError):
        memory.image(gone)
    with pytest.raises(ImageError, match=broken):
        memory.image(broken)
    with pytest.raises(EntryNotFoundError, match="cache_99999"):
        memory.image("cache_99999")


# ------------------------------------------------------------------------------ opening, closing


def test_a_memory_survives_its_process(tmp_path):
    """What was remembered is found by the next one that opens the folder."""
    with ImageMemory(tmp_path, encoder="descriptor") as memory:
        cache_id = memory.remember(flat(3), "kept").cache_id
    with ImageMemory(tmp_path, encoder="descriptor") as memory:
        ((entry, score),) = memory.recall(flat(3))
        assert (entry.cache_id, entry.prompt, score) == (cache_id, "kept", pytest.approx(1.0))


def test_a_memory_closes_the_cache_it_opened(tmp_path):
    """By `close`, twice if need be, and by leaving the ``with`` block."""
    memory = ImageMemory(tmp_path, encoder=MeanColour())
    memory.close()
    memory.close()
    with pytest.raises(CacheClosedError):
        memory.remember(flat(1))
    with ImageMemory(tmp_path, encoder=MeanColour()) as again:
        pass
    with pytest.raises(CacheClosedError):
        len(again)


def test_an_open_cache_is_left_open(tmp_path):
    """Whoever opened it closes it; the memory only stops listening."""
    with CacheManager(tmp_path, max_size=1) as cache:
        heard = []
        cache.on_evicted.append(heard.append)
        with ImageMemory(cache, encoder=MeanColour()) as memory:
            memory.remember(flat(1))
            assert memory.remember(flat(2)).evicted == ("cache_00001",)
        assert cache.on_evicted == [heard.append]
        assert len(cache) == 1
        memory.close()


def test_the_nested_configuration_of_the_specification(tmp_path):
    """A dict of the specification's project opens a memory, too."""
    config = {"system": {"cache_dir": str(tmp_path)}, "generation": {"cache": {"max_size": 3}}}
    with ImageMemory(config, encoder=MeanColour()) as memory:
        assert memory.cache.max_size == 3
        assert memory.cache.cache_dir == Path(tmp_path)


def test_options_go_to_the_cache(tmp_path):
    """They belong to a cache that is opened here; an open one would ignore them, so it refuses them."""
    with ImageMemory(tmp_path, None, MeanColour(), eviction="oldest", max_bytes=10**6) as memory:
        assert (memory.cache.max_size, memory.cache.max_bytes) == (None, 10**6)
        with pytest.raises(InputError, match="eviction, max_bytes"):
            ImageMemory(memory.cache, encoder=MeanColour(), eviction="lru", max_bytes=1)


def test_an_unknown_encoder_makes_no_folder(tmp_path):
    """The name is looked at first."""
    with pytest.raises(UnknownNameError, match="'clop'"):
        ImageMemory(tmp_path / "cache", encoder="clop")
    assert list(tmp_path.iterdir()) == []
