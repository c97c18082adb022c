"""The nodes for ComfyUI, called as it calls them: by their class, inputs by name, pictures as tensors."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from comfy_graphs import img2img
from reverie.cache.manager import CacheManager
from reverie.errors import ImageError, InputError

PACKAGE = Path(__file__).parents[2] / "integrations" / "comfyui"
WORKFLOWS = sorted((PACKAGE / "example_workflows").glob("*.json"))
TYPES = {"IMAGE": torch.Tensor, "STRING": str, "FLOAT": float, "INT": int, "BOOLEAN": bool}
CORE: dict[str, tuple[list[str], list[str]]] = {  # inputs that are linked, outputs, of ComfyUI's own nodes
    "CheckpointLoaderSimple": ([], ["MODEL", "CLIP", "VAE"]),
    "LoadImage": ([], ["IMAGE", "MASK"]),
    "CLIPTextEncode": (["CLIP"], ["CONDITIONING"]),
    "VAEEncode": (["IMAGE", "VAE"], ["LATENT"]),
    "VAEDecode": (["LATENT", "VAE"], ["IMAGE"]),
    "KSampler": (["MODEL", "CONDITIONING", "CONDITIONING", "LATENT"], ["LATENT"]),
    "SaveImage": (["IMAGE"], []),
    "PreviewImage": (["IMAGE"], []),
    "Note": ([], []),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, loaded from its folder as ComfyUI loads custom nodes."""
    name = "comfyui_reverie_under_test"
    output = SimpleNamespace(get_output_directory=lambda: str(tmp_path / "output"))
    monkeypatch.setitem(sys.modules, "folder_paths", output)
    spec = importlib.util.spec_from_file_location(
        name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module
    for each in sys.modules[f"{name}.memories"]._OPEN.values():
        each.close()
    for part in [each for each in sys.modules if each.startswith(f"{name}.")]:
        del sys.modules[part]


class Nodes:
    """Runs nodes as ComfyUI's executor does."""

    def __init__(self, package: ModuleType) -> None:
        self.classes = package.NODE_CLASS_MAPPINGS
        self.shown: Any = None

    def run(self, name: str, *, graph: Any = None, **given: Any) -> tuple[Any, ...]:
        """Inputs that are not given have their defaults; results are checked against what is announced."""
        cls = self.classes[name]
        kinds = cls.INPUT_TYPES()
        inputs = dict(given)
        for input_name, (kind, *options) in kinds["required"].items():
            if input_name not in inputs:
                default = options[0].get("default") if options else None
                assert default is not None or isinstance(kind, list), f"{name} needs {input_name}"
                inputs[input_name] = kind[0] if default is None else default
        if graph is not None and "hidden" in kinds:
            inputs |= dict.fromkeys(kinds["hidden"], graph)
        made = getattr(cls(), cls.FUNCTION)(**inputs)
        self.shown = made.get("ui") if isinstance(made, dict) else None
        result: tuple[Any, ...] = made["result"] if isinstance(made, dict) else made
        assert len(result) == len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES)
        for value, kind in zip(result, cls.RETURN_TYPES, strict=True):
            assert isinstance(value, TYPES.get(kind, object)), (name, kind, type(value))
            if kind == "IMAGE":
                assert value.dtype == torch.float32
                assert value.dim() == 4
                assert value.shape[-1] == 3
                assert 0 <= float(value.min()) <= float(value.max()) <= 1
        return result


@pytest.fixture
def nodes(package: ModuleType) -> Nodes:
    """``nodes.run("ReverieMemory", folder="mine")``."""
    return Nodes(package)


def image(*seeds: int, size: int = 64) -> torch.Tensor:
    """Pictures of large coloured fields, each unlike the others, as one batch."""
    fields = [np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8) for seed in seeds]
    stacked = np.stack([each.repeat(size // 4, 0).repeat(size // 4, 1) for each in fields])
    return torch.from_numpy(stacked).float() / 255


# ----------------------------------------------------------------------------- as ComfyUI finds them


def test_every_node_says_what_comfyui_asks_for(package: ModuleType) -> None:
    """A function, inputs with types, outputs with names, a place in the menu, a name to show."""
    assert package.NODE_CLASS_MAPPINGS.keys() == package.NODE_DISPLAY_NAME_MAPPINGS.keys()
    shown = set(package.NODE_DISPLAY_NAME_MAPPINGS.values())
    asked = {"Reverie Memory", "Observe Frame", "Remember", "Recall Similar", "Recall by Text"}
    assert shown >= {*asked, "Memory Mosaic", "Collapse Meter", "Next Frame"}
    for cls in package.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(cls, cls.FUNCTION))
        assert len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES)
        assert cls.CATEGORY == "reverie"
        assert cls.DESCRIPTION
        for part in cls.INPUT_TYPES().values():
            json.dumps(part)  # it is sent to the browser


def test_what_the_manager_reads() -> None:
    """A name without ComfyUI in it, a publisher, the library among what is needed, the same version."""
    from reverie import __version__

    content = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    assert "comfyui" not in content["project"]["name"].lower()
    assert content["project"]["version"] == __version__
    assert content["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName"}
    needed = (PACKAGE / "requirements.txt").read_text().split()
    assert content["project"]["dependencies"] == needed == ["reverie"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_example_workflows_fit_the_nodes(package: ModuleType, file: Path) -> None:
    """Every link goes from an output to an input of its type; every widget has a value of its kind."""
    flow = json.loads(file.read_text())
    by_id = {each["id"]: each for each in flow["nodes"]}
    used = {each["type"] for each in flow["nodes"]}
    assert used & package.NODE_CLASS_MAPPINGS.keys()
    for each in flow["nodes"]:
        if each["type"] in CORE:
            inputs, outputs = CORE[each["type"]]
        else:
            cls = package.NODE_CLASS_MAPPINGS[each["type"]]
            kinds = {**cls.INPUT_TYPES()["required"], **cls.INPUT_TYPES().get("optional", {})}
            linked = {name: kind[0] for name, kind in kinds.items() if kind[0] in ("IMAGE", "REVERIE_MEMORY")}
            widgets = [kind[0] for name, kind in kinds.items() if name not in linked]
            assert len(each["widgets_values"]) == len(widgets), each["type"]
            for value, kind in zip(each["widgets_values"], widgets, strict=True):
                assert value in kind if isinstance(kind, list) else isinstance(value, (*[TYPES[kind]], int))
            outputs = list(cls.RETURN_TYPES)
            names = [part["name"] for part in each["inputs"]]
            assert set(names) <= set(linked)
            inputs = [linked[name] for name in names]
        assert [part["type"] for part in each["inputs"]] == inputs
        assert [part["type"] for part in each["outputs"]] == outputs
        assert all(part["link"] is not None for part in each["inputs"]), each["type"]
    for number, source, slot, target, place, kind in flow["links"]:
        assert by_id[source]["outputs"][slot]["type"] == kind
        assert number in by_id[source]["outputs"][slot]["links"]
        assert by_id[target]["inputs"][place] | {"name": ""} == {"name": "", "type": kind, "link": number}


# ----------------------------------------------------------------------------- memories


def test_a_folder_has_one_memory(nodes: Nodes, tmp_path: Path) -> None:
    """Whoever names it, in this run and the next; it is where ComfyUI keeps its outputs."""
    (one,) = nodes.run("ReverieMemory", folder="mine")
    (two,) = nodes.run("ReverieMemory", folder="mine")
    (other,) = nodes.run("ReverieMemory", folder=str(tmp_path / "elsewhere"))
    assert one is two
    assert one.memory is two.memory
    assert one.folder == tmp_path / "output" / "reverie" / "mine"
    assert other.folder == tmp_path / "elsewhere"
    nodes.run("ReverieRemember", memory=one, image=image(1))
    assert (len(two.memory), len(other.memory)) == (1, 0)


def test_other_settings_open_it_anew(nodes: Nodes) -> None:
    """What holds it goes on with the new ones; nothing is lost."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    nodes.run("ReverieRemember", memory=memory, image=image(1, 2, 3))
    nodes.run("ReverieMemory", folder="mine", max_size=2, eviction="oldest")
    assert memory.memory.cache.max_size == 2
    assert len(memory.memory) == 2
    nodes.run("ReverieMemory", folder="mine", max_size=0)
    assert memory.memory.cache.max_size is None


@pytest.mark.parametrize("folder", ["", "  ", "../elsewhere", "a/../../b"])
def test_a_name_that_leads_elsewhere_is_refused(nodes: Nodes, folder: str) -> None:
    """Only an absolute path may."""
    with pytest.raises(ValueError, match=r"absolute path"):
        nodes.run("ReverieMemory", folder=folder)


# ----------------------------------------------------------------------------- loops


def test_a_loop_that_stands_still_is_led_to_a_memory(nodes: Nodes) -> None:
    """Frames come back as they are until it is stuck; then another, with the reason."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    for seed in range(40):
        nodes.run("ReverieRemember", memory=memory, image=image(seed))
    injected, reasons = [], []
    for _ in range(60):
        frame = image(100)
        following, turned, reason = nodes.run("ReverieObserve", memory=memory, image=frame)
        injected.append(turned)
        reasons.append(reason)
        assert following is frame or turned
        assert nodes.shown == {"text": [reason]}
        if turned:
            assert following.shape == frame.shape
            assert not torch.equal(following, frame)
    assert not injected[0]
    assert any(injected)
    assert all(reasons)


def test_the_next_run_goes_on_where_the_last_one_ended(nodes: Nodes) -> None:
    """From a picture at first, then from what Observe Frame gave; loops of other names do not meet."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    start = image(1)
    frame, first = nodes.run("ReverieNextFrame", memory=memory, start=start)
    assert first
    assert torch.equal(frame, start)
    made = image(2)
    following, _, _ = nodes.run("ReverieObserve", memory=memory, image=made)
    frame, first = nodes.run("ReverieNextFrame", memory=memory, start=start)
    assert not first
    assert torch.equal(frame, following)
    assert nodes.run("ReverieNextFrame", memory=memory, start=start, loop="other")[1]
    assert nodes.run("ReverieNextFrame", memory=memory, start=start, begin_again=True)[1]


def test_a_batch_is_frames_in_order(nodes: Nodes) -> None:
    """Each is looked at; a fourth channel is left out, and without an injection nothing is copied."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    batch = image(1, 2, 3)
    following, injected, reason = nodes.run("ReverieObserve", memory=memory, image=batch, policy="none")
    assert following is batch
    assert not injected
    assert len(reason.split("\n")) == 3
    assert len(memory.memory) == 3
    with_alpha = torch.cat([batch, torch.ones(3, 64, 64, 1)], dim=-1)
    following, _, _ = nodes.run("ReverieObserve", memory=memory, image=with_alpha, policy="none")
    assert torch.equal(following, batch)
    with pytest.raises(ImageError, match=r"shape \(batch, height, width, 3\) was expected"):
        nodes.run("ReverieObserve", memory=memory, image=torch.zeros(64, 64))


def test_another_policy_or_seed_begins_a_loop_again(nodes: Nodes) -> None:
    """The same ones go on."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    numbers = []
    for options in ({}, {}, {"policy_seed": 1}, {"policy_seed": 1}, {"policy": "gentle", "policy_seed": 1}):
        nodes.run("ReverieObserve", memory=memory, image=image(1), **options)
        numbers.append(memory._injectors["loop"][1].last.frame)
    assert numbers == [1, 2, 1, 2, 1]


def test_what_is_never_the_same_twice_always_runs(nodes: Nodes) -> None:
    """ComfyUI passes over nodes whose inputs did not change, unless they say so."""
    always = {name for name, cls in nodes.classes.items() if hasattr(cls, "IS_CHANGED")}
    assert all(math.isnan(nodes.classes[name].IS_CHANGED(image=1)) for name in always)
    assert nodes.classes.keys() - always == {"ReverieMemory", "ReverieRemember"}


# ----------------------------------------------------------------------------- remembering and recalling


def test_a_memory_knows_how_it_was_made(nodes: Nodes) -> None:
    """Prompt and settings are the workflow's, unless a prompt is given; what is pinned stays."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    _, ids = nodes.run("ReverieRemember", memory=memory, image=image(1, 2), graph=img2img())
    first = memory.memory.cache.peek(ids.split("\n"))[0]
    assert first.prompt == "a garden"
    assert first.generation_params["negative_prompt"] == "blurry"
    assert first.generation_params["steps"] == 20
    assert not first.pinned
    _, own = nodes.run(
        "ReverieRemember", memory=memory, image=image(3), graph=img2img(), prompt="mine", pinned=True
    )
    (entry,) = memory.memory.cache.peek([own])
    assert (entry.prompt, entry.pinned) == ("mine", True)
    assert nodes.shown == {"text": [own]}
    with CacheManager(memory.folder, max_size=None) as cache:  # what the rest of reverie sees
        assert len(cache.get_all()) == 3


def test_the_most_similar_memories_come_back(nodes: Nodes) -> None:
    """As a batch of the size of the picture, best first; the picture itself where there is none."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    asked = image(5)
    nothing = nodes.run("ReverieRecallSimilar", memory=memory, image=asked)
    assert torch.equal(nothing[0], asked)
    assert nothing[1:] == ("", 0.0, 0)
    for seed in range(8):
        nodes.run("ReverieRemember", memory=memory, image=image(seed, size=80), prompt=f"number {seed}")
    found, ids, similarity, count = nodes.run("ReverieRecallSimilar", memory=memory, image=asked, count=3)
    assert found.shape == (3, 64, 64, 3)
    assert ids.split("\n")[0] == "cache_00006"
    assert count == 3
    assert similarity > 0.9
    options = {"count": 3, "words": "number 2"}
    _, ids, _, count = nodes.run("ReverieRecallSimilar", memory=memory, image=asked, **options)
    assert (ids, count) == ("cache_00003", 1)
    options = {"count": 8, "at_least": 0.999}
    assert nodes.run("ReverieRecallSimilar", memory=memory, image=asked, **options)[3] <= 1


def test_memories_are_found_by_text(nodes: Nodes) -> None:
    """By the words of their prompts with any encoder; by their look with one that reads, which is said."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    for seed in range(3):
        nodes.run("ReverieRemember", memory=memory, image=image(seed), prompt=f"a fox number {seed}")
    words = {"text": "fox", "by": "words of the prompt", "count": 2}
    found, ids, _, count = nodes.run("ReverieRecallText", memory=memory, **words)
    assert found.shape == (2, 64, 64, 3)
    assert ids.split("\n") == ["cache_00003", "cache_00002"]
    assert count == 2
    words["text"] = "heron"
    with pytest.raises(ImageError, match=r"nothing in .*mine is found for 'heron': connect `otherwise`"):
        nodes.run("ReverieRecallText", memory=memory, **words)
    otherwise = image(9)
    given = nodes.run("ReverieRecallText", memory=memory, otherwise=otherwise, **words)
    assert torch.equal(given[0], otherwise)
    with pytest.raises(InputError, match=r"(?i)descriptor.*(text|picture)"):
        nodes.run("ReverieRecallText", memory=memory, text="a fox")


@pytest.mark.parametrize(("which", "first"), [("evenly spaced", 0), ("newest", 4), ("oldest", 0)])
def test_a_memory_at_a_glance(nodes: Nodes, which: str, first: int) -> None:
    """Tiles in order, no more rows than are needed; of an empty memory an empty picture."""
    (memory,) = nodes.run("ReverieMemory", folder="mine")
    options = {"columns": 4, "rows": 2, "tile": 32, "which": which}
    empty, count = nodes.run("ReverieMosaic", memory=memory, **options)
    assert (empty.shape, count) == ((1, 34, 133, 3), 0)
    for seed in range(12):
        nodes.run("ReverieRemember", memory=memory, image=image(seed, size=32))
    sheet, count = nodes.run("ReverieMosaic", memory=memory, **options)
    assert (sheet.shape, count) == ((1, 67, 133, 3), 12)
    assert torch.allclose(sheet[0, 1:33, 1:33], image(first, size=32)[0], atol=1 / 255)


# ----------------------------------------------------------------------------- the meter


def test_the_meter_tells_a_lively_loop_from_a_stuck_one(nodes: Nodes) -> None:
    """Effective images, similarity, and the state in words; it begins again when it is told to."""
    for seed in range(40):
        varied, alike, stuck, state = nodes.run("ReverieCollapseMeter", image=image(seed))
    assert varied > 10
    assert alike < 0.5
    assert not stuck
    assert f"{varied:.1f} effective images" in nodes.shown["text"][0]
    varied, _, _, state = nodes.run("ReverieCollapseMeter", image=image(1), begin_again=True)
    assert (varied, state.split(" since")[0]) == (1.0, "warming up")
    for _ in range(40):
        varied, alike, stuck, state = nodes.run("ReverieCollapseMeter", image=image(1), loop="still")
    assert varied == pytest.approx(1, abs=0.1)
    assert alike > 0.99
    assert stuck
    assert "since frame" in state
