"""CacheEntry, Record and the specification's JSON record: nothing is lost, nothing wrong gets in."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import time
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reverie import entry as entry_module
from reverie.entry import (
    SPEC_KEYS,
    CacheEntry,
    Record,
    cache_number,
    encode_params,
    highest_id,
    image_file_name,
    record_from_json,
    record_to_json,
    timestamp_ns,
)
from reverie.errors import EncoderMismatchError, IndexCorruptError, ParamsError, UnsafePathError
from reverie.vectors import as_embedding

Unit = Callable[..., NDArray[np.float32]]

SPEC_RECORD: dict[str, Any] = {
    "cache_id": "cache_00001",
    "image_path": "cache/images/cache_00001.png",
    "prompt": "ethereal angel...",
    "generation_params": {"denoise": 0.4, "steps": 4},
    "embedding": None,
    "timestamp": "2025-11-08T09:15:00",
}
"""The specification's own example; tests put an embedding in."""


@pytest.fixture(autouse=True, scope="module")
def _utc() -> Iterator[None]:
    """Local time is UTC here: where clocks are put back, an hour of local times means two."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    getattr(time, "tzset", int)()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    getattr(time, "tzset", int)()


def raw(**changes: Any) -> dict[str, Any]:
    """The specification's record with other values."""
    return {**SPEC_RECORD, **changes}


def written(record: Record, prefix: str = "cache/images/") -> dict[str, Any]:
    """What stands in the index, read back by orjson."""
    return orjson.loads(record_to_json(record, prefix))


def same(a: Record, b: Record) -> bool:
    """All fields equal, the vector to the bit and with its stamp."""
    for field in dataclasses.fields(Record):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.name == "embedding" and left is not None and right is not None:
            if left.tobytes() != right.tobytes() or left.encoder != right.encoder:
                return False
        elif left != right:
            return False
    return True


# --------------------------------------------------------------------------- the dataclasses


def test_cache_entry_begins_with_the_specifications_fields() -> None:
    """The six fields of the specification in its order, required; what else we keep has defaults."""
    fields = dataclasses.fields(CacheEntry)
    assert tuple(field.name for field in fields[:6]) == SPEC_KEYS
    parameters = list(inspect.signature(CacheEntry).parameters.values())
    assert [p.default is inspect.Parameter.empty for p in parameters] == [True] * 6 + [False] * (
        len(parameters) - 6
    )
    assert CacheEntry("c", Path("p"), "prompt", {}, None, "t").parents == ()


def test_every_field_is_documented() -> None:
    """The Attributes section of both dataclasses lists exactly their fields, in order."""
    for cls in (CacheEntry, Record):
        lines = inspect.getdoc(cls).partition("Attributes:\n")[2].splitlines()
        listed = [
            line.strip().partition(":")[0] for line in lines if line.startswith("    ") and line[4] != " "
        ]
        assert listed == [field.name for field in dataclasses.fields(cls)]


def test_an_entry_is_a_snapshot_of_its_own(unit: Unit) -> None:
    """Changing what one call returned changes nothing for the next."""
    record = record_from_json(raw(generation_params={"a": [1]}, embedding=unit()[0].tolist()), 1)
    first = record.entry(Path("/c/images/x.png"))
    first.generation_params["a"].append(2)
    second = record.entry(Path("/c/images/x.png"))
    assert second.generation_params == {"a": [1]}
    assert first != second
    assert not second.embedding.flags.writeable


def test_entries_are_equal_when_all_they_say_is_equal(unit: Unit) -> None:
    """Equality looks at every field, the vector included; an entry is not hashable."""
    make = record_from_json(raw(embedding=unit()[0].tolist()), 1).entry
    here, there = Path("/c/images/x.png"), Path("/d/images/x.png")
    assert make(here) == make(here)
    assert make(here) != make(there)
    assert dataclasses.replace(make(here), embedding=as_embedding(unit(seed=9)[0])) != make(here)
    assert make(here) != "cache_00001"
    with pytest.raises(TypeError, match="unhashable"):
        hash(make(here))


def test_to_dict_is_the_specifications_record() -> None:
    """Plain Python that json writes, the six keys first and in order."""
    record = record_from_json(raw(embedding=[0.6, 0.8], encoder="clip", mood="calm"), 7)
    found = record.entry(Path("/c/images/cache_00001.png")).to_dict()
    assert tuple(found)[:6] == SPEC_KEYS
    assert found["image_path"] == str(Path("/c/images/cache_00001.png"))
    assert found["encoder"] == "clip"
    assert found["mood"] == "calm"
    assert json.loads(json.dumps(found)) == found


def test_with_use_and_with_pin_change_one_thing() -> None:
    """The record itself stays as it was."""
    record = record_from_json(raw(), 1)
    assert record.with_use(5).used_ns == 5
    assert record.with_pin(pinned=True).pinned is True
    assert (record.pinned, record.used_ns) == (False, timestamp_ns(SPEC_RECORD["timestamp"]))
    assert same(record.with_use(5).with_use(record.used_ns), record)
    assert record.entry(Path("x"), used_ns=8).used_ns == 8


# --------------------------------------------------------------------- the specification's record


def test_the_specifications_example_is_read(unit: Unit) -> None:
    """Its own record, with 512 numbers, means what it says."""
    numbers = unit()[0]
    record = record_from_json(raw(embedding=numbers.tolist()), 3)
    assert record.number == 3
    assert record.cache_id == "cache_00001"
    assert record.image_name == "cache_00001.png"
    assert record.prompt == "ethereal angel..."
    assert orjson.loads(record.params) == {"denoise": 0.4, "steps": 4}
    assert record.embedding.tobytes() == numbers.tobytes()
    assert record.embedding.encoder is None
    assert record.timestamp == "2025-11-08T09:15:00"
    assert record.used_ns == timestamp_ns("2025-11-08T09:15:00")
    assert (record.pinned, record.content_hash, record.byte_size, record.parents) == (False, "", 0, ())
    assert record.extra == b"{}"


def test_the_specifications_example_is_written_as_it_was(unit: Unit) -> None:
    """The six keys keep place, order and value; ours come after; it stands on one line."""
    example = raw(embedding=unit()[0].tolist())
    text = record_to_json(record_from_json(example, 1), "cache/images/")
    assert b"\n" not in text
    found = orjson.loads(text)
    assert tuple(found) == (
        *SPEC_KEYS,
        "encoder",
        "pinned",
        "last_used",
        "content_hash",
        "byte_size",
        "parents",
    )
    assert {key: found[key] for key in SPEC_KEYS[:4]} == {key: example[key] for key in SPEC_KEYS[:4]}
    assert np.array_equal(np.float32(found["embedding"]), np.float32(example["embedding"]))
    assert found["timestamp"] == example["timestamp"]
    assert (
        datetime.fromisoformat(found["last_used"])
        == datetime.fromisoformat("2025-11-08T09:15:00").astimezone()
    )


DREAM_GEN: dict[str, Any] = {
    "cache_id": "cache_00012_1731000000",
    "image_path": "cache/images/cache_00012_1731000000.png",
    "prompt": "drowned cathedral, bioluminescence",
    "generation_params": {
        "denoise": 0.35,
        "seed": 18446744073709551615,
        "lora": None,
        "tags": ["a", {"b": 1.5}],
    },
    "embedding": {"color": [round(math.sin(i) / 2, 17) for i in range(96)], "struct": "8f3c00ffa1b2c3d4"},
    "timestamp": "2024-11-07T18:40:00.123456",
}


@pytest.mark.parametrize("folder", ["cache/images/", "cache\\images\\", "C:\\dream\\cache\\images\\"])
def test_a_record_of_dream_gen_comes_back_whole(folder: str) -> None:
    """Ids with a time, mappings as embedding and Windows paths are read and written without loss."""
    theirs = {**DREAM_GEN, "image_path": f"{folder}cache_00012_1731000000.png"}
    record = record_from_json(orjson.loads(orjson.dumps(theirs)), 12)
    assert record.embedding is None
    assert record.image_name == "cache_00012_1731000000.png"
    assert cache_number(record.cache_id) == 12
    found = written(record, folder)
    assert {key: found[key] for key in SPEC_KEYS} == theirs
    assert written(record_from_json(found, 12), folder) == found
    assert record.entry(Path("x")).to_dict()["embedding"] == theirs["embedding"]


@pytest.mark.parametrize(
    "numbers",
    [
        [0.1, 0.2, 0.30000000000000004],
        [3.0, 4.0],
        [0.6000000000000001, 0.8],
        [1e300, -1e300],
        [1, 2, 3],
    ],
)
def test_numbers_that_float32_cannot_hold_are_written_as_they_were_read(numbers: list[float]) -> None:
    """A foreign vector that is not float32 or not of length 1 is used as a unit vector and kept as it was."""
    record = record_from_json(raw(embedding=numbers), 1)
    assert float(np.linalg.norm(record.embedding)) == pytest.approx(1.0, abs=1e-6)
    found = written(record)
    assert found["embedding"] == numbers
    assert same(record_from_json(found, 1), record)


def test_a_float32_vector_is_not_kept_twice(unit: Unit) -> None:
    """As doubles (``tolist()``) or in shortest float32 text, a float32 vector needs no extra copy."""
    vector = as_embedding([*unit()[0].tolist(), 7.0710676e-06, -1e-9, 0.0])
    shortest = orjson.loads(orjson.dumps(np.asarray(vector), option=orjson.OPT_SERIALIZE_NUMPY))
    for numbers in (vector.tolist(), shortest):
        record = record_from_json(raw(embedding=numbers), 1)
        assert record.extra == b"{}"
        assert record.embedding.tobytes() == vector.tobytes()


@pytest.mark.parametrize("embedding", [None, {"color": [0.1], "struct": "ff"}])
def test_an_encoder_without_a_vector_is_not_lost(embedding: Any) -> None:
    """Where there is no vector to stamp, the name is still written back."""
    record = record_from_json(raw(embedding=embedding, encoder="dream_gen"), 1)
    found = written(record)
    assert found["encoder"] == "dream_gen"
    assert found["embedding"] == embedding
    assert same(record_from_json(found, 1), record)


# ------------------------------------------------------------------------------- round trips

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
file_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\:"), min_size=1, max_size=30
).filter(lambda name: name not in (".", ".."))
vectors = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=24).filter(any)
foreign_keys = texts.filter(lambda key: key not in (*SPEC_KEYS, *entry_module._OWN_KEYS))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that an index may hold."""
    vector = draw(st.none() | vectors)
    return Record(
        number=draw(st.integers(0, 10**9)),
        cache_id=draw(texts),
        image_name=draw(file_names),
        prompt=draw(texts),
        params=encode_params(draw(st.dictionaries(texts, json_values, max_size=4))),
        embedding=None if vector is None else as_embedding(vector, encoder=draw(st.none() | texts)),
        timestamp=draw(texts | st.datetimes().map(lambda moment: moment.isoformat())),
        used_ns=draw(st.integers(0, 4 * 10**9)) * 10**9,
        pinned=draw(st.booleans()),
        content_hash=draw(st.text("0123456789abcdef", max_size=64)),
        byte_size=draw(st.integers(0, 2**63 - 1)),
        parents=tuple(draw(st.lists(texts, max_size=3))),
        extra=orjson.dumps(draw(st.dictionaries(foreign_keys, json_values, max_size=3))),
    )


@given(records(), st.sampled_from(["cache/images/", "C:\\cache\\images\\", "/a b/ä/images/"]))
def test_every_record_survives_the_index(record: Record, prefix: str) -> None:
    """Any text, nested parameters, float32 bits, pins, parents, foreign keys: all come back."""
    raw_again = orjson.loads(record_to_json(record, prefix))
    assert tuple(raw_again)[:6] == SPEC_KEYS
    assert raw_again["image_path"] == prefix + record.image_name
    assert same(record_from_json(raw_again, record.number), record)


@given(records())
def test_the_standard_library_reads_what_we_write(record: Record) -> None:
    """The specification's own project opens the index with ``json``: it sees the same values."""
    text = record_to_json(record, "cache/images/")
    found = json.loads(text)
    assert found["prompt"] == record.prompt
    assert found["generation_params"] == orjson.loads(record.params)
    if record.embedding is not None:
        assert np.float32(found["embedding"]).tobytes() == np.asarray(record.embedding).tobytes()
    assert same(record_from_json(found, record.number), record)


@given(records())
def test_writing_is_stable(record: Record) -> None:
    """Reading and writing again gives the same bytes."""
    text = record_to_json(record, "cache/images/")
    assert record_to_json(record_from_json(orjson.loads(text), record.number), "cache/images/") == text


# --------------------------------------------------------------------------- wrong types


@pytest.mark.parametrize("key", SPEC_KEYS)
def test_a_missing_key_is_named(key: str) -> None:
    """All six keys have to be there; ours may be missing."""
    record = {name: value for name, value in SPEC_RECORD.items() if name != key}
    with pytest.raises(IndexCorruptError, match=f"^entry 4 has no key '{key}'$"):
        record_from_json(record, 4)


@pytest.mark.parametrize(
    ("value", "kind"), [([], "a list"), ("x", "text"), (None, "null"), (5, "5"), (True, "true or false")]
)
def test_a_record_that_is_no_object_is_refused(value: Any, kind: str) -> None:
    """The position in the index and what stood there."""
    with pytest.raises(IndexCorruptError, match=f"^entry 4 is {kind}, expected an object$"):
        record_from_json(value, 4)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("cache_id", 5, "'cache_id' is 5, expected text"),
        ("image_path", None, "'image_path' is null, expected text"),
        ("prompt", ["a"], "'prompt' is a list, expected text"),
        ("timestamp", 1731000000.5, "'timestamp' is 1731000000.5, expected text"),
        ("generation_params", [], "'generation_params' is a list, expected an object"),
        ("generation_params", None, "'generation_params' is null, expected an object"),
        ("generation_params", "{}", "'generation_params' is text, expected an object"),
        ("embedding", "0.1", "'embedding' is text, expected a list of numbers or null"),
        ("embedding", 5, "'embedding' is 5, expected a list of numbers or null"),
        ("embedding", True, "'embedding' is true or false, expected a list of numbers or null"),
        ("embedding", [], "embedding of 'cache_00001' is empty"),
        ("embedding", [0.0, 0.0], "embedding of 'cache_00001' is all zeros"),
        ("embedding", [0.1, None], "embedding of 'cache_00001' must be a sequence of numbers"),
        ("embedding", ["0.1", "0.2"], "embedding of 'cache_00001' must be a sequence of numbers"),
        ("embedding", [True, False], "embedding of 'cache_00001' must be a sequence of numbers"),
        ("embedding", [[0.1]], "embedding of 'cache_00001' must be one vector"),
        ("embedding", [0.1, float("nan")], "embedding of 'cache_00001' holds 1"),
        ("encoder", 5, "'encoder' is 5, expected str"),
        ("pinned", 1, "'pinned' is 1, expected bool"),
        ("pinned", "yes", "'pinned' is text, expected bool"),
        ("last_used", 5, "'last_used' is 5, expected str"),
        ("content_hash", 5, "'content_hash' is 5, expected str"),
        ("byte_size", "12", "'byte_size' is text, expected int"),
        ("byte_size", True, "'byte_size' is true or false, expected int"),
        ("byte_size", 1.5, "'byte_size' is 1.5, expected int"),
        ("byte_size", -1, "'byte_size' is -1, which is no size of a file"),
        ("byte_size", 2**63, "'byte_size' is 9223372036854775808, which is no size of a file"),
        ("parents", "cache_00001", "'parents' is text, expected list"),
        ("parents", ["cache_00001", 2], "'parents' holds 2, expected ids"),
    ],
)
def test_a_wrong_type_names_the_entry_and_the_key(key: str, value: Any, says: str) -> None:
    """Every key is checked; the message says which entry, which key, what it is and what was expected."""
    with pytest.raises(IndexCorruptError) as caught:
        record_from_json(raw(**{key: value}), 4)
    message = str(caught.value)
    assert says in message
    assert "entry 4" in message or "'cache_00001'" in message
    assert key in message


@pytest.mark.parametrize("key", ["encoder", "pinned", "last_used", "content_hash", "byte_size", "parents"])
def test_null_in_one_of_our_keys_is_the_default(key: str) -> None:
    """A null stands for "not known"."""
    assert same(record_from_json(raw(**{key: None}), 1), record_from_json(raw(), 1))


def test_a_stamped_vector_in_the_index_is_still_a_mismatch() -> None:
    """The tree keeps an encoder mismatch recognisable: it is no corrupt index."""
    assert not issubclass(EncoderMismatchError, IndexCorruptError)
    assert record_from_json(raw(embedding=[1.0], encoder="clip"), 1).embedding.encoder == "clip"


@pytest.mark.parametrize(
    ("key", "value"), [("generation_params", {"a": "\ud800"}), ("mood", "\ud800"), ("mood", 2**70)]
)
def test_what_cannot_be_kept_as_json_is_refused(key: str, value: Any) -> None:
    """Half a surrogate pair or an integer past 64 bits, which only a lenient reader lets through."""
    with pytest.raises(IndexCorruptError, match=r"^entry 'cache_00001': .* cannot be kept as JSON"):
        record_from_json(raw(**{key: value}), 1)


def test_half_a_surrogate_pair_in_a_prompt_is_refused_on_writing() -> None:
    """JSON text is UTF-8, which has no code for it."""
    record = dataclasses.replace(record_from_json(raw(), 1), prompt="angel \ud83d")
    with pytest.raises(ParamsError, match=r"^entry 'cache_00001' cannot be written as JSON: .*surrogates"):
        record_to_json(record, "images/")


# -------------------------------------------------------------------------------------- params


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float16(0.5), 0.5),
        (np.int64(-5), -5),
        (np.uint8(5), 5),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        (np.array(5.0), 5.0),
        (np.array([1.5, "a", None], dtype=object), [1.5, "a", None]),
        (Path("/a/b.png"), "/a/b.png"),
        ((1, (2, [3])), [1, [2, [3]]]),
        (types.MappingProxyType({"a": {"b": 1}}), {"a": {"b": 1}}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (None, None),
        ("\x00\n\u2028😀", "\x00\n\u2028😀"),
    ],
)
def test_params_take_numpy_paths_tuples_and_mappings(value: Any, expected: Any) -> None:
    """What people put into generation_params becomes JSON's own types, nested too."""
    assert orjson.loads(encode_params({"x": value, "y": [value, {"z": value}]})) == {
        "x": expected,
        "y": [expected, {"z": expected}],
    }


@given(st.dictionaries(texts, json_values, max_size=6))
def test_json_values_come_back_as_they_are(params: dict[str, Any]) -> None:
    """Order of keys included, and for json as for orjson."""
    text = encode_params(params)
    assert orjson.loads(text) == params
    assert list(json.loads(text)) == list(params)


@dataclasses.dataclass
class Settings:
    """A dataclass, which orjson alone would flatten silently."""

    strength: float = float("nan")


@pytest.mark.parametrize(
    "nested", [lambda v: v, lambda v: [1, v], lambda v: {"a": (v,)}], ids=["plain", "list", "dict"]
)
@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        np.float32("nan"),
        np.float64("inf"),
        np.array([0.0, np.nan]),
        np.array(np.inf),
        np.array([1.0, float("nan")], dtype=object),
        np.array([(1, float("nan"))], dtype=[("a", "i4"), ("b", "f4")]),
        {1, 2},
        object(),
        Settings(),
        b"bytes",
        1j,
        np.array([1j]),
        2**64,
        -(2**63) - 1,
        "\ud800",
        Path("/a/\udc80.png"),
        {1: "int key"},
        {None: "none key"},
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_and_named(value: Any, nested: Callable[[Any], Any]) -> None:
    """NaN, infinity, sets, objects, big integers, half surrogates, odd keys: at any depth, by key."""
    with pytest.raises(ParamsError, match="denoise"):
        encode_params({"steps": 4, "denoise": nested(value)})


@pytest.mark.parametrize("params", [None, [("a", 1)], "a=1", 5])
def test_params_must_be_a_mapping(params: Any) -> None:
    """The message says what came."""
    with pytest.raises(ParamsError, match=f"must be a dict, got {type(params).__name__}$"):
        encode_params(params)


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_keys_must_be_text(key: Any) -> None:
    """JSON has no other keys; turning them into text would lose what they were."""
    with pytest.raises(ParamsError, match="keys must be strings, got"):
        encode_params({key: 1})


def test_half_a_surrogate_pair_in_a_key_is_refused() -> None:
    """As in a value."""
    with pytest.raises(ParamsError, match="cannot be written as JSON"):
        encode_params({"\ud800": 1})


def test_params_that_hold_themselves_are_refused() -> None:
    """Dicts and lists in a circle end in a short, clear error, not in a RecursionError."""
    loop: dict[str, Any] = {}
    loop["me"] = [loop, loop]
    knot: list[Any] = []
    knot.append(knot)
    for value in (loop, knot, (knot,)):
        with pytest.raises(
            ParamsError, match=r"\['params.*\] is nested too deeply, or holds itself$"
        ) as caught:
            encode_params({"params": value})
        assert len(str(caught.value)) < 150


def test_deep_but_finite_params_pass() -> None:
    """Ninety levels are fine."""
    params: dict[str, Any] = {}
    for _ in range(90):
        params = {"down": params}
    assert orjson.loads(encode_params(params)) == params


def test_encoding_changes_nothing() -> None:
    """The caller's dict is only read."""
    params = {"a": np.arange(3), "b": (1, 2), "p": Path("x")}
    before = dict(params)
    encode_params(params)
    assert params == before


# --------------------------------------------------------------------------------- image paths


@pytest.mark.parametrize(
    "recorded",
    [
        "images/a.png",
        "cache/images/a.png",
        "/home/me/cache/images/a.png",
        "cache\\images\\a.png",
        "C:\\Users\\me\\cache\\images\\a.png",
        "cache\\images/a.png",
        "\\\\host\\share\\images\\a.png",
        "./cache/images/a.png",
        "../cache/images/a.png",
        "..\\..\\dream\\cache\\images\\a.png",
    ],
)
def test_an_image_is_the_last_part_of_its_path(recorded: str) -> None:
    """Relative, absolute, Windows or POSIX: the cache may have been anywhere when it was written."""
    assert image_file_name(recorded, "cache_00001") == "a.png"


@pytest.mark.parametrize(
    "recorded",
    [
        "",
        ".",
        "..",
        "a.png",
        "/etc/passwd",
        "C:\\Windows\\win.ini",
        "images",
        "images/",
        "images/.",
        "images/..",
        "images/../a.png",
        "images/../../etc/images",
        "cache/../elsewhere/images/a.png",
        "..\\cache\\..\\images\\a.png",
        "cache/images/../metadata/cache_index.json",
        "images\\..\\a.png",
        "images/..\\..\\a.png",
        "images/sub/a.png",
        "images\\sub\\a.png",
        "cache/metadata/a.png",
        "myimages/a.png",
        "images/a\x00.png",
        "images/C:a.png",
        "images\\C:a.png",
        "images/a.png:stream",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(recorded: str) -> None:
    """Traversal, other folders, drive letters, streams, NUL, nothing at all: refused with entry and path."""
    with pytest.raises(UnsafePathError, match=r"^entry 'cache_00007' records the image path") as caught:
        image_file_name(recorded, "cache_00007")
    assert repr(recorded) in str(caught.value)
    with pytest.raises(UnsafePathError):
        record_from_json(raw(image_path=recorded), 1)


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["images", "..", ".", "", "/", "\\", "a.png", "C:", "\0"]), max_size=8).map(
        "".join
    )
)
def test_no_path_gets_out_of_the_folder(recorded: str) -> None:
    """Whatever is recorded, the result is one plain file name or an UnsafePathError."""
    try:
        name = image_file_name(recorded, "c")
    except UnsafePathError:
        return
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\:\0")
    assert PurePosixPath("images", name).parent == PurePosixPath("images")


# --------------------------------------------------------------------------- ids, timestamps


@pytest.mark.parametrize(
    ("cache_id", "number"),
    [
        ("cache_00042", 42),
        ("cache_00042_1731000000", 42),
        ("cache_1", 1),
        ("cache_123456", 123456),
        ("cache_00000", 0),
        ("cache_", 0),
        ("cache_00042x", 0),
        ("cache_00042_", 0),
        ("frame_00042", 0),
        (" cache_00042", 0),
        ("", 0),
        ("cache_" + "9" * 16, 0),
    ],
)
def test_the_number_of_an_id(cache_id: str, number: int) -> None:
    """Ours and dream_gen's; any other id has none."""
    assert cache_number(cache_id) == number


def test_the_highest_id_of_a_damaged_text() -> None:
    """Found also where no JSON can be read."""
    assert highest_id(b'{"cache_id": "cache_00041"}, {"cache_id": "cache_00112_1731000000", trunc') == 112
    assert highest_id(b"nothing") == 0


def test_timestamps_are_nanoseconds_since_the_epoch() -> None:
    """An offset is honoured; microseconds are exact."""
    assert timestamp_ns("1970-01-01T00:00:01+00:00") == 10**9
    assert timestamp_ns("2025-11-08T09:15:00.123456Z") == 1762593300123456000
    assert timestamp_ns("2025-11-08T10:15:00.123456+01:00") == 1762593300123456000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-13-01T00:00:00",
        "about 1731000000",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59",
    ],
)
def test_a_time_that_cannot_be_read_is_0(text: str) -> None:
    """Also one that 64 bits of nanoseconds cannot hold: an index stores no larger number."""
    assert timestamp_ns(text) == 0


@given(st.integers(0, 4 * 10**15))
def test_a_last_use_survives_the_index_to_the_microsecond(microseconds: int) -> None:
    """What is written for a time is read as that time."""
    record = record_from_json(raw(), 1).with_use(microseconds * 1000)
    again = record_from_json(written(record), 1)
    assert written(again)["last_used"] == written(record)["last_used"]


def test_the_last_use_comes_from_the_timestamp_where_none_is_written() -> None:
    """A record of another program was last used when it was added; its own last use wins."""
    assert record_from_json(raw(), 1).used_ns == timestamp_ns(SPEC_RECORD["timestamp"])
    later = record_from_json(raw(last_used="2025-11-09T00:00:00.000001"), 1)
    assert later.used_ns == timestamp_ns("2025-11-09T00:00:00.000001")
    last_used = datetime.fromisoformat(later.entry(Path("x")).last_used)
    assert last_used == datetime.fromisoformat("2025-11-09T00:00:00.000001").astimezone()
