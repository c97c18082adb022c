"""What picture files say of how they were made, whatever wrote them."""

from __future__ import annotations

import json
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picture_files import (
    FOOOCUS,
    GRAPH,
    INFOTEXT,
    NEGATIVE,
    PROMPT,
    SWARMUI,
    chunk,
    everything,
    png,
    with_chunk,
    with_comment,
)
from reverie.metadata import read_metadata
from reverie.metadata.a1111 import infotext, parsed
from reverie.metadata.texts import MOST_TEXT, texts_of

FILES = everything()

COMMON = {
    "a1111": (
        "AUTOMATIC1111",
        f"{PROMPT}\nin the rain",
        {"seed": 965400086, "steps": 20, "cfg_scale": 6.5, "sampler": "DPM++ 2M Karras", "width": 512,
         "height": 768, "model": "sd_xl_base", "denoise": 0.45, "Lora hashes": "old: 1f2e, new: 3c4d"},
    ),
    "comfyui": (
        "ComfyUI",
        PROMPT,
        {"seed": 156680208700286, "steps": 20, "cfg_scale": 8, "sampler": "euler", "scheduler": "normal",
         "denoise": 0.87, "model": "v1-5.safetensors", "width": 512, "height": 640},
    ),
    "flux": (
        "ComfyUI",
        PROMPT,
        {"seed": 77, "steps": 28, "cfg_scale": 3.5, "sampler": "euler", "model": "flux1-dev.sft"},
    ),
    "invokeai": (
        "InvokeAI",
        PROMPT,
        {"seed": 1841402034, "steps": 30, "cfg_scale": 7.5, "sampler": "euler", "denoise": 0.6,
         "model": "dreamshaper-8", "app_version": "5.0.2"},
    ),
    "sd-metadata": ("InvokeAI", PROMPT, {"seed": 42, "steps": 50, "sampler": "k_lms", "model": "sd-v1-4"}),
    "dream": (
        "InvokeAI",
        PROMPT,
        {"seed": 3312, "steps": 50, "width": 512, "height": 704, "cfg_scale": 7.5, "sampler": "k_euler_a"},
    ),
    "fooocus": (
        "Fooocus",
        PROMPT,
        {"seed": "8291", "steps": 30, "cfg_scale": 4.0, "width": 1152, "height": 896},
    ),
    "fooocus a1111": ("Fooocus", f"{PROMPT}\nin the rain", {"seed": 965400086}),
    "swarmui": (
        "SwarmUI",
        PROMPT,
        {"seed": 1, "steps": 20, "cfg_scale": 7.0, "denoise": 0.6, "width": 1024, "sampler": "euler"},
    ),
    "novelai": (
        "NovelAI",
        PROMPT,
        {"seed": 2917, "steps": 28, "cfg_scale": 5.0, "model": "NovelAI Diffusion V3 8BB1", "width": 832},
    ),
    "novelai 4": ("NovelAI", PROMPT, {"seed": 5, "steps": 23, "model": "NovelAI Diffusion V4"}),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMON)
def test_every_program(name):
    """Prompt, negative prompt and parameters under their common names, and what else it says."""
    source, prompt, params = COMMON[name]
    found = read_metadata(FILES[name])
    assert (found.source, found.prompt) == (source, prompt)
    assert {key: found.params.get(key) for key in params} == params
    without = ("flux", "sd-metadata", "dream")
    assert found.params.get("negative_prompt") == (None if name in without else NEGATIVE)
    assert json.loads(json.dumps(found.params, allow_nan=False)) == found.params


def test_every_kind_of_chunk():
    """Plain, packed, international, before the pixels and after; UTF-8 where Latin-1 was promised."""
    text = INFOTEXT.replace("harbour", "Hafen bei Dämmerung 夜")
    for data in (
        png({"parameters": text}, international=True),
        png({"parameters": text}, packed=True, international=True),
        png({"parameters": INFOTEXT}, packed=True),
        with_chunk(b"tEXt", b"parameters\0" + text.encode(), late=True),
    ):
        assert read_metadata(data).params["seed"] == 965400086
    assert "夜" in read_metadata(with_chunk(b"tEXt", b"parameters\0" + text.encode())).prompt


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + INFOTEXT.encode("utf-16-be"),
        b"UNICODE\0" + INFOTEXT.encode("utf-16-le"),
        b"UNICODE\0\xff\xfe" + INFOTEXT.encode("utf-16-le"),
        b"ASCII\0\0\0" + INFOTEXT.encode(),
        b"\0" * 8 + INFOTEXT.encode() + b"\0",
        INFOTEXT.encode(),
    ],
    ids=["big", "little", "marked", "ascii", "undefined", "bare"],
)
def test_comments_in_exif(kind, comment):
    """Every code and byte order that programs use."""
    found = read_metadata(with_comment(kind, comment))
    assert (found.source, found.params["seed"]) == ("AUTOMATIC1111", 965400086)


def test_other_programs_in_exif():
    """SwarmUI and Fooocus in a JPEG, ComfyUI in a WebP."""
    swarm = with_comment("JPEG", b"UNICODE\0" + json.dumps(SWARMUI).encode("utf-16-be"))
    assert read_metadata(swarm).source == "SwarmUI"
    text = b"ASCII\0\0\0" + json.dumps(FOOOCUS).encode()
    assert read_metadata(with_comment("JPEG", text, inner={0x927C: b"fooocus"})).source == "Fooocus"
    graph = with_comment("WEBP", b"", tags={0x0110: "prompt:" + json.dumps(GRAPH)})
    assert (read_metadata(graph).source, read_metadata(graph).prompt) == ("ComfyUI", PROMPT)


def test_files_that_say_nothing():
    """No chunk, other chunks, other files."""
    for data in (png({}), png({"Software": "GIMP", "Comment": "a holiday"}), b"", b"GIF89a", b"\xff\xd8\xff"):
        assert read_metadata(data) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Steps: 20",
        "a poem\nabout: the sea, and: ships",
        "Steps",
        "a, b, c: d",
        "x" * 100_000,
        "Steps: " * 20_000,
    ],
)
def test_texts_that_are_no_parameters(text):
    """Three names with values, and nothing else, make a line of parameters."""
    assert parsed(text) is None


def test_parameters_in_prompts():
    """What looks like them in a prompt stays there."""
    prompt = 'Steps: up, "Negative prompt", Seed: of life'
    found = parsed(infotext(prompt, {"steps": 4, "seed": 5, "sampler": "a, b", "negative_prompt": "Size: 3"}))
    assert (found.prompt, found.params) == (
        prompt,
        {"steps": 4, "seed": 5, "sampler": "a, b", "negative_prompt": "Size: 3"},
    )
    assert parsed("Steps: 3, Seed: 4, Sampler: x").prompt == ""


# ---------------------------------------------------------------------------------- damaged and hostile


@pytest.mark.parametrize("name", COMMON)
def test_cut_anywhere(name):
    """There is what could be read, or nothing; never an error."""
    data = FILES[name]
    for end in range(0, len(data), 7):
        read_metadata(data[:end])
    assert read_metadata(data[: data.index(b"IEND")]) is not None


@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
)
def test_changed_anywhere(name, changes):
    """Any bytes."""
    data = bytearray(FILES[name])
    for place, value in changes:
        data[place % len(data)] = value
    found = read_metadata(bytes(data))
    if found is not None:
        json.dumps([found.prompt, found.params], allow_nan=False).encode()


@given(st.binary(max_size=600))
def test_any_exif(blob):
    """As a JPEG's."""
    data = with_comment("JPEG", b"ASCII\0\0\0x")
    start = data.index(b"Exif\0\0") + 6
    read_metadata(data[:start] + blob + data[start + len(blob) :])


def quickly(data):
    """Read, in time."""
    start = time.perf_counter()
    found = read_metadata(data)
    assert time.perf_counter() - start < 5
    return found


def test_texts_that_unpack_to_far_more():
    """A bomb is passed over; a sound text beside it is read."""
    bomb = zlib.compress(b"\0" * (40 * MOST_TEXT), 9)
    data = with_chunk(b"zTXt", b"bomb\0\0" + bomb)
    place = data.index(b"IDAT") - 4
    data = data[:place] + chunk(b"tEXt", b"parameters\0" + INFOTEXT.encode()) + data[place:]
    assert quickly(data).params["seed"] == 965400086
    assert sum(map(len, texts_of(data).values())) < 1000


def test_hostile_texts():
    """Deep JSON, graphs in circles, graphs of many nodes, endless pairs, numbers that are none."""
    deep = {"prompt": "[" * 200_000}
    assert quickly(png({"invokeai_metadata": '{"a":' * 100_000})) is None
    assert quickly(png(deep)) is None
    circle = json.loads(json.dumps(GRAPH))
    circle["20"]["inputs"] = {"string": ["6", 0]}
    circle["4"]["inputs"]["model"] = ["3", 0]
    assert quickly(png({"prompt": json.dumps(circle)})).prompt == ""
    empty = json.loads(json.dumps(GRAPH))
    empty["3"]["inputs"]["negative"] = ["99", 0]
    empty["99"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}
    assert "negative_prompt" not in quickly(png({"prompt": json.dumps(empty)})).params
    many = {str(n): {"class_type": "X", "inputs": {"a": [str(n + 1), 0]}} for n in range(60_000)}
    assert quickly(png({"prompt": json.dumps(many)})).source == "ComfyUI"
    odd = json.dumps(GRAPH).replace("0.87", "NaN").replace("156680208700286", "1" * 400)
    params = quickly(png({"prompt": odd})).params
    assert "denoise" not in params
    assert params["seed"] == "1" * 400
    assert quickly(png({"parameters": "a\n" + "x: y, " * 50_000})) is None
    strange = {"prompt": {"3": {"class_type": "KSampler", "inputs": {"positive": ["3", 0], "seed": {}}}}}
    assert quickly(png({"prompt": json.dumps(strange["prompt"])})).params == {}
    length = struct.pack(">I", 2**31)
    assert quickly(png({})[:33] + length + b"tEXt" + b"x" * 50) is None


def test_characters_that_no_index_can_hold():
    """Zeros and halves of pairs are cleaned."""
    text = json.dumps({**FOOOCUS, "prompt": "a\0b\ud800c"})
    found = read_metadata(png({"parameters": text, "fooocus_scheme": "fooocus"}))
    assert found.prompt == "ab?c"


def test_it_takes_no_time():
    """Of a large picture without texts only the heads of its chunks are looked at."""
    rng = np.random.default_rng(0)
    data = with_chunk(b"prVt", rng.bytes(30_000_000))
    start = time.perf_counter()
    assert read_metadata(data) is None
    assert time.perf_counter() - start < 0.5
