"""ComfyUI as a generator, on a server of our own that keeps to its protocol; on a real one with COMFYUI_URL.

``COMFYUI_URL=http://127.0.0.1:8188 pytest tests/generators/test_comfyui.py``: what needs no model runs there
too.
"""

from __future__ import annotations

import _thread
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comfy_graphs import Graph, img2img, node, with_inputs, with_nodes, without_model
from comfy_server import Comfy, decoded, encoded, sampled, serving
from reverie import registry
from reverie.errors import GenerationError, InputError, MissingDependencyError
from reverie.generators import comfyui_client
from reverie.generators.comfyui_client import ComfyClient
from reverie.generators.comfyui_generator import ComfyGenerator
from reverie.generators.comfyui_workflow import Nodes, Workflow, load_workflow
from reverie.testing import GeneratorSuite

# aiohttp 3.14 warns of itself when it reads what was uploaded
pytestmark = pytest.mark.filterwarnings("ignore:unread_data:DeprecationWarning")

Make = Callable[..., ComfyGenerator]
SERVERS = [None, *([os.environ["COMFYUI_URL"]] if "COMFYUI_URL" in os.environ else [])]


@pytest.fixture
def comfy() -> Iterator[Comfy]:
    """A server that was just started."""
    with serving(Comfy()) as server:
        yield server


@pytest.fixture
def make(tmp_path: Path, comfy: Comfy) -> Iterator[Make]:
    """``make(graph, **options)``: a generator of 64 pixels on that server; closed at the end."""
    made: list[ComfyGenerator] = []

    def generator(graph: Graph | None = None, **options: Any) -> ComfyGenerator:
        file = tmp_path / "graph.json"
        file.write_text(json.dumps(img2img() if graph is None else graph))
        options = {"size": 64, "variant": comfy.url, "timeout": 10, "reconnect": 10, **options}
        made.append(ComfyGenerator(workflow=file, **options))
        return made[-1]

    yield generator
    for each in made:
        each.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent server is asked at once."""
    monkeypatch.setattr(comfyui_client, "_LOOK_EVERY", 0.05)
    monkeypatch.setattr(comfyui_client, "_AGAIN", (0.01, 0.02))


def frame(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture of 64 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def made_of(seed: int = 3, strength: float = 0.4, prompt: str = "a fox", negative: str = "blurry") -> Any:
    """What the server's sampler makes of `frame`."""
    return sampled(frame(), seed=seed, positive=prompt, negative=negative, denoise=strength)


class TestConformance(GeneratorSuite):
    """Every promise of a generator."""

    @pytest.fixture(autouse=True)
    def maker(self, make: Make) -> None:
        """Of generators on the server of the test."""
        self._make = make

    def make(self) -> ComfyGenerator:
        """The usual workflow."""
        return self._make()


# ----------------------------------------------------------------------------- frames


@pytest.mark.parametrize("save", ["SaveImage", "PreviewImage", "SaveImageWebsocket"])
def test_frame_prompt_seed_and_strength_go_where_they_belong(make: Make, save: str) -> None:
    """What comes back is what those make of it, whichever way it is saved; previews are not taken for it."""
    generator = make(img2img(save))
    made = generator.generate(frame(), prompt="a fox", strength=0.4, seed=3)
    assert np.array_equal(made, made_of())
    again = generator.generate(frame(), prompt="a fox", strength=0.4, seed=3)
    assert np.array_equal(again, made)
    other = generator.generate(frame(), prompt="a fox", strength=0.4, seed=4)
    assert np.array_equal(other, made_of(seed=4))


def test_a_picture_of_the_same_name_is_another(make: Make, comfy: Comfy) -> None:
    """One file on the server for all frames of a run, in the folder ``reverie``, read anew each time."""
    generator = make(without_model())
    for seed in range(3):
        made = generator.generate(frame(seed), prompt="", strength=0.5, seed=1)
        assert np.array_equal(made, 255 - frame(seed))
    assert len(comfy.uploads) == 1
    assert next(iter(comfy.uploads)).startswith("reverie/frame-")


def test_what_is_not_given_stays_as_the_workflow_has_it(make: Make) -> None:
    """An empty prompt leaves the workflow's own; a negative prompt takes the place of its own."""
    generator = make(negative_prompt="people")
    made = generator.generate(frame(), prompt="", strength=0.4, seed=3)
    assert np.array_equal(made, made_of(prompt="a garden", negative="people"))


def test_strength_nothing_needs_no_server(make: Make, comfy: Comfy) -> None:
    """The frame is kept, and nobody is asked."""
    generator = make()
    assert np.array_equal(generator.generate(frame(), prompt="", strength=0.0, seed=1), frame())
    assert comfy.asked == []


def test_a_frame_of_another_size_is_brought_to_ours(make: Make) -> None:
    """A workflow may scale: the loop's frames keep their size."""
    graph = with_nodes(img2img(), n9=node("ImageScaleBy", image=["7", 0], scale_by=0.5))
    generator = make(with_inputs(graph, "8", images=["9", 0]))
    assert generator.generate(frame(), prompt="", strength=0.4, seed=3).shape == (64, 64, 3)


def test_the_address_may_have_a_path_and_no_scheme(comfy: Comfy, make: Make) -> None:
    """As people type it."""
    generator = make(without_model(), variant=comfy.url.removeprefix("http://"))
    assert np.array_equal(generator.generate(frame(), prompt="", strength=1.0, seed=1), 255 - frame())
    with pytest.raises(InputError, match="no address of a server"):
        make(variant="ftp://somewhere")


@pytest.mark.parametrize("real", SERVERS)
def test_without_a_model(make: Make, comfy: Comfy, real: str | None) -> None:
    """Sent, made and fetched, or refused; on a real server too, where one is named."""
    url = real or comfy.url
    generator = make(without_model(), variant=url)
    for seed in range(3):
        made = generator.generate(frame(seed), prompt="", strength=0.5, seed=1)
        assert np.array_equal(made, 255 - frame(seed))
    broken = make(with_inputs(without_model(), "12", images="nothing"), variant=url, image_node="10")
    with pytest.raises(GenerationError, match=r"refused the workflow: .*node 12 'Save Image' \(SaveImage\)"):
        broken.generate(frame(), prompt="", strength=0.5, seed=1)
    unknown = make(with_nodes(without_model(), n11=node("WarpDrive", image=["10", 0])), variant=url)
    with pytest.raises(GenerationError, match=r"refused the workflow: .*WarpDrive"):
        unknown.generate(frame(), prompt="", strength=0.5, seed=1)


# ----------------------------------------------------------------------------- what goes wrong


def test_a_result_that_is_written_late(make: Make, comfy: Comfy, impatient: None) -> None:
    """The history finds nothing at first: it is asked again."""
    comfy.faults.history_late = 3
    assert np.array_equal(make().generate(frame(), prompt="a fox", strength=0.4, seed=3), made_of())


@pytest.mark.parametrize("nodes", [1, 5, 8])
def test_a_lost_connection_loses_no_frame(make: Make, comfy: Comfy, impatient: None, nodes: int) -> None:
    """It is made anew; what was told meanwhile is asked for."""
    comfy.faults.drop = nodes
    generator = make()
    assert np.array_equal(generator.generate(frame(), prompt="a fox", strength=0.4, seed=3), made_of())
    assert len(comfy.ran) == 1
    assert np.array_equal(generator.generate(frame(), prompt="a fox", strength=0.4, seed=4), made_of(seed=4))


def test_a_workflow_that_was_lost_is_queued_again(make: Make, comfy: Comfy, impatient: None) -> None:
    """A server that was started anew knows nothing of it."""
    comfy.faults.drop, comfy.faults.forget = 2, True
    assert np.array_equal(make().generate(frame(), prompt="a fox", strength=0.4, seed=3), made_of())
    assert len(comfy.ran) == 2


def test_a_server_that_comes_back_is_gone_on_with(make: Make, tmp_path: Path, impatient: None) -> None:
    """It stops in the middle of a frame and is started again on the same port: the frame is made there."""
    first, found = Comfy(), []
    first.faults.hold = threading.Event()
    with serving(first):
        port = int(first.url.rpartition(":")[2])
        generator = make(variant=first.url)
        thread = threading.Thread(
            target=lambda: found.append(generator.generate(frame(), prompt="a fox", strength=0.4, seed=3))
        )
        thread.start()
        assert first.began.wait(10)
    second = Comfy(uploads=first.uploads)
    with serving(second, port):
        thread.join(20)
        generator.close()
    assert np.array_equal(found[0], made_of())
    assert len(second.ran) == 1


def test_an_absent_server_is_named(make: Make, impatient: None) -> None:
    """At once for the first frame, which nobody waits for yet; its address, and what to do."""
    with serving(Comfy()) as gone:
        url = gone.url
    began = time.monotonic()
    with pytest.raises(GenerationError, match=f"no ComfyUI answers at {url}.*start it"):
        make(variant=url).generate(frame(), prompt="", strength=0.4, seed=3)
    assert time.monotonic() - began < 5


def test_a_server_that_does_not_come_back_is_given_up(make: Make, impatient: None) -> None:
    """After the seconds that were given."""
    server, errors = Comfy(), []
    server.faults.hold = threading.Event()
    with serving(server):
        generator = make(variant=server.url, reconnect=0.2)

        def work() -> None:
            with pytest.raises(GenerationError, match="no ComfyUI answers") as caught:
                generator.generate(frame(), prompt="", strength=0.4, seed=3)
            errors.append(caught.value)

        thread = threading.Thread(target=work)
        thread.start()
        assert server.began.wait(10)
    thread.join(20)
    assert len(errors) == 1


def test_a_silent_server_is_given_up_and_told(make: Make, comfy: Comfy, impatient: None) -> None:
    """After ``timeout`` seconds without news of a frame that runs; it is stopped there."""
    comfy.faults.hold = threading.Event()
    with pytest.raises(GenerationError, match=r"has said nothing about the workflow for 0\.3 s"):
        make(timeout=0.3).generate(frame(), prompt="", strength=0.4, seed=3)
    assert ("POST", "/interrupt") in [each[:2] for each in comfy.asked]


def test_waiting_behind_others_is_no_silence(make: Make, comfy: Comfy, impatient: None) -> None:
    """Somebody else's workflow runs for longer than ours may be silent."""
    comfy.faults.hold = threading.Event()
    other, own = make(without_model()), make(timeout=0.3)
    threads = [
        threading.Thread(
            target=other.generate, args=(frame(1),), kwargs={"prompt": "", "strength": 1.0, "seed": 1}
        )
    ]
    found: list[Any] = []
    threads[0].start()
    assert comfy.began.wait(10)
    threads.append(
        threading.Thread(
            target=lambda: found.append(own.generate(frame(), prompt="a fox", strength=0.4, seed=3))
        )
    )
    threads[1].start()
    while sum(path == "GET /queue" for path in comfy.paths()) < 12:
        threads[1].join(0.05)
    assert threads[1].is_alive()
    comfy.faults.hold.set()
    for thread in threads:
        thread.join(20)
    assert np.array_equal(found[0], made_of())


def test_a_node_that_fails_is_named(make: Make, comfy: Comfy) -> None:
    """With its title, its class and what it said; the next frame is made."""
    comfy.faults.node = ("6", "RuntimeError", "sizes of tensors\nmust match")
    generator = make()
    with pytest.raises(
        GenerationError, match=r"node 6 \(KSampler\).*RuntimeError: sizes of tensors must match"
    ):
        generator.generate(frame(), prompt="a fox", strength=0.4, seed=3)
    assert np.array_equal(generator.generate(frame(), prompt="a fox", strength=0.4, seed=3), made_of())


def test_out_of_memory_says_what_to_do(make: Make, comfy: Comfy) -> None:
    """As every such error."""
    comfy.faults.node = ("6", "torch.OutOfMemoryError", "Allocation on device")
    with pytest.raises(GenerationError, match=r"OutOfMemoryError: .*smaller frames"):
        make().generate(frame(), prompt="a fox", strength=0.4, seed=3)


def test_a_failure_that_was_not_heard_is_read(make: Make, comfy: Comfy, impatient: None) -> None:
    """The connection was lost when it happened: the history says it."""
    comfy.faults.node, comfy.faults.drop = ("6", "ValueError", "no"), 5
    with pytest.raises(GenerationError, match="ValueError: no"):
        make().generate(frame(), prompt="a fox", strength=0.4, seed=3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda graph: with_inputs(graph, "8", images="nothing"),
            r"node 8 'Save Image' \(SaveImage\): Required input is missing: images",
        ),
        (
            lambda graph: with_nodes(graph, n6=node("WarpDrive", positive=["4", 0], latent_image=["3", 0])),
            "Node 'WarpDrive' not found. Node ID '#6'",
        ),
        (
            lambda graph: with_nodes(
                graph, n20=node("LoadImage", image="away.png"), n21=node("ImageBlend", image=["20", 0])
            ),
            "'ImageBlend' not found",
        ),
    ],
    ids=["input", "class", "another"],
)
def test_a_workflow_that_the_server_refuses(make: Make, change: Callable[[Graph], Graph], says: str) -> None:
    """What it says is said on, with the names of nodes."""
    graph = change(img2img())
    generator = make(graph, image_node="2", output_node="8")
    with pytest.raises(GenerationError, match=f"refused the workflow: .*{says}"):
        generator.generate(frame(), prompt="", strength=0.4, seed=3)


def test_a_part_that_fails_does_not_matter_unless_it_is_ours(make: Make) -> None:
    """The server runs the outputs that are sound."""
    graph = with_nodes(
        img2img(),
        n20=node("LoadImage", "Other", image="away.png"),
        n21=node("PreviewImage", images=["20", 0]),
    )
    assert np.array_equal(make(graph).generate(frame(), prompt="a fox", strength=0.4, seed=3), made_of())
    ours = make(graph, output_node="21", image_node="2")
    with pytest.raises(GenerationError, match=r"refused the workflow: .*node 20 'Other'"):
        ours.generate(frame(), prompt="", strength=0.4, seed=3)


def test_an_output_that_saves_nothing(make: Make) -> None:
    """It is named, and what may be done."""
    graph = with_nodes(img2img(), n9=node("ImageInvert", "Last", image=["7", 0]))
    with pytest.raises(
        GenerationError, match=r"node 9 'Last' \(ImageInvert\) saved no picture: .*--output-node"
    ):
        make(graph, output_node="Last").generate(frame(), prompt="", strength=0.4, seed=3)


def test_what_is_no_comfyui(tmp_path: Path, make: Make, comfy: Comfy) -> None:
    """A server that answers otherwise is named with what it answered."""
    comfy.faults.statuses = {"/upload/image": 404}
    with pytest.raises(GenerationError, match="answered /upload/image with 404"):
        make().generate(frame(), prompt="", strength=0.4, seed=3)
    comfy.faults.statuses = {"/ws": 403}
    with pytest.raises(GenerationError, match="is no ComfyUI"):
        make().generate(frame(), prompt="", strength=0.4, seed=3)
    comfy.faults.statuses = {"/prompt": 500}
    with pytest.raises(GenerationError, match="answered /prompt with 500"):
        make().generate(frame(), prompt="", strength=0.4, seed=3)


# ----------------------------------------------------------------------------- the end


def test_ctrl_c_takes_ours_out_of_the_queue(make: Make, comfy: Comfy, impatient: None) -> None:
    """What runs is stopped, by its name; what others queued stays."""
    comfy.faults.hold = threading.Event()
    generator = make()

    def interrupt() -> None:
        assert comfy.began.wait(10)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        generator.generate(frame(), prompt="", strength=0.4, seed=3)
    thread.join()
    (prompt_id,) = comfy.ran
    assert ("POST", "/interrupt", {"prompt_id": prompt_id}) in comfy.asked


def test_ctrl_c_while_it_is_queued(make: Make, comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has it, and its name was not read yet: it is found by who sent it."""
    comfy.faults.hold = threading.Event()
    ask = ComfyClient._json

    def interrupted(client: ComfyClient, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = ask(client, method, path, **options)
        if path == "/prompt":
            assert comfy.began.wait(10)
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(ComfyClient, "_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make().generate(frame(), prompt="", strength=0.4, seed=3)
    (prompt_id,) = comfy.ran
    assert ("POST", "/interrupt", {"prompt_id": prompt_id}) in comfy.asked


def test_a_queued_frame_is_taken_out_without_stopping_others(make: Make, comfy: Comfy) -> None:
    """Older servers stop whatever runs: they are not asked to when ours does not run."""
    client = ComfyClient(comfy.url)
    comfy.faults.hold = threading.Event()
    other = make(without_model())
    thread = threading.Thread(
        target=other.generate, args=(frame(),), kwargs={"prompt": "", "strength": 1.0, "seed": 1}
    )
    thread.start()
    assert comfy.began.wait(10)
    client.upload("a.png", encoded(frame(), {}))
    graph = with_inputs(without_model(), "10", image="reverie/a.png")
    client._running = client._queue(graph, "12")
    assert len(comfy.pending) == 1
    client.close()
    assert comfy.pending == []
    assert "POST /interrupt" not in comfy.paths()
    comfy.faults.hold.set()
    thread.join()


def test_models_are_given_up_when_that_is_asked(make: Make, comfy: Comfy) -> None:
    """And only then."""
    make().close()
    assert "POST /free" not in comfy.paths()
    make(free=True).close()
    assert ("POST", "/free", {"unload_models": True, "free_memory": True}) in comfy.asked


# ----------------------------------------------------------------------------- workflows


def test_a_workflow_may_be_a_picture_that_comfyui_saved(tmp_path: Path) -> None:
    """The graph that made it is in it; JSON may be as it is sent."""
    (tmp_path / "a.png").write_bytes(encoded(frame(), img2img()))
    (tmp_path / "b.json").write_text(json.dumps({"prompt": img2img(), "client_id": "x"}))
    assert load_workflow(tmp_path / "a.png") == load_workflow(tmp_path / "b.json") == img2img()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "neither JSON, nor a picture"),
        (b"[]", "nodes by id were expected"),
        (b"{}", "nodes by id were expected"),
        (b'{"nodes": [], "links": []}', r"Export \(API\)"),
        (b'{"1": {"inputs": {}}}', "nodes by id were expected"),
        (b"[" * 100_000, "neither JSON, nor a picture"),
    ],
)
def test_what_is_no_workflow(tmp_path: Path, content: bytes, says: str) -> None:
    """It says what was expected, and where to get it."""
    (tmp_path / "graph.json").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_workflow(tmp_path / "graph.json")


def test_a_workflow_that_is_not_there(tmp_path: Path) -> None:
    """Without a file, and without a name."""
    with pytest.raises(InputError, match=r"no workflow can be read from .*none\.json"):
        load_workflow(tmp_path / "none.json")
    with pytest.raises(InputError, match=r"name the workflow.*--workflow"):
        registry.create("generators", "comfyui")
    with pytest.raises(InputError, match="cannot be made like that"):
        registry.create("generators", "comfyui", steps=4)


TWO_IMAGES = with_inputs(
    with_nodes(img2img(), n9=node("LoadImage", "Mask", image="m.png")), "3", mask=["9", 0]
)
TWO_SAVES = with_nodes(img2img(), n9=node("SaveImage", "Before", images=["2", 0]))
TWO_SEEDS = with_inputs(
    with_nodes(img2img(), n9={**img2img()["6"], "_meta": {"title": "Refiner"}}), "7", samples=["9", 0]
)
TWO_SEEDS["9"]["inputs"]["latent_image"] = ["6", 0]
TWO_TEXTS = with_inputs(
    with_nodes(
        img2img(),
        n9=node("ConditioningCombine", conditioning_1=["4", 0], conditioning_2=["10", 0]),
        n10=node("CLIPTextEncode", "Style", text="oil", clip=["1", 1]),
    ),
    "6",
    positive=["9", 0],
)


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (TWO_IMAGES, r"2 pictures lead to the output: node 2 .*node 9 'Mask'.*--image-node"),
        (with_inputs(img2img(), "3", pixels=["1", 0]), r"no Load Image node leads to node 8"),
        (TWO_SAVES, r"saves 2 pictures: node 8 .*node 9 'Before'.*--output-node"),
        ({"2": node("LoadImage", image="a.png")}, "saves no picture"),
        (TWO_SEEDS, r"2 nodes take a seed: node 9 'Refiner' .*node 6 .*--seed-node"),
    ],
    ids=["images", "no image", "outputs", "no output", "seeds"],
)
def test_what_is_not_clear_is_said(graph: Graph, says: str) -> None:
    """With the nodes that it could be, and the option that names one."""
    with pytest.raises(InputError, match=says):
        Workflow(graph)


def test_texts_that_are_not_clear_matter_when_one_is_given() -> None:
    """Until then the workflow runs as it is."""
    workflow = Workflow(TWO_TEXTS)
    fill = {"negative": "", "seed": 1, "strength": 0.5}
    assert workflow.filled("a.png", prompt="", **fill)["4"]["inputs"]["text"] == "a garden"
    with pytest.raises(InputError, match=r"2 texts could be the prompt: node 4 'Positive'.*node 10 'Style'"):
        workflow.filled("a.png", prompt="a fox", **fill)
    named = Workflow(TWO_TEXTS, Nodes(prompt="Style"))
    assert named.filled("a.png", prompt="a fox", **fill)["10"]["inputs"]["text"] == "a fox"
    with pytest.raises(InputError, match="no node of the workflow was found that takes the prompt"):
        Workflow(without_model()).filled("a.png", prompt="a fox", **fill)


def test_nodes_are_named_by_id_title_or_class() -> None:
    """Upper and lower case do not matter; a name of two nodes is refused with both."""
    for name in ("9", "refiner"):
        graph = Workflow(TWO_SEEDS, Nodes(seed=name, strength=name)).filled(
            "a.png", prompt="", negative="", seed=5, strength=0.25
        )
        assert (graph["9"]["inputs"]["seed"], graph["9"]["inputs"]["denoise"]) == (5, 0.25)
        assert graph["6"]["inputs"]["seed"] == 7
    assert Workflow(TWO_SAVES, Nodes(output="before")).output == "9"
    masked = Workflow(TWO_IMAGES, Nodes(image="mask"))
    filled = masked.filled("f.png", prompt="", negative="", seed=5, strength=0.25)
    assert (filled["9"]["inputs"]["image"], filled["2"]["inputs"]["image"]) == ("f.png", "example.png")
    with pytest.raises(
        InputError, match=r"2 nodes are called 'CLIPTextEncode': node 4 .*node 5 .*give the id"
    ):
        Workflow(img2img(), Nodes(prompt="CLIPTextEncode"))
    with pytest.raises(
        InputError, match=r"no node 'Nobody' for the seed; there are: node 1 'Load Checkpoint'"
    ):
        Workflow(img2img(), Nodes(seed="Nobody"))
    for nodes, says in (
        (Nodes(image="4"), "takes no picture by its name"),
        (Nodes(prompt="1"), "takes no text for the prompt"),
        (Nodes(seed="4"), "takes no seed"),
    ):
        with pytest.raises(InputError, match=says):
            Workflow(img2img(), nodes)


def test_values_that_come_from_nodes_of_their_own() -> None:
    """A seed or a text may be a node that others are linked to: it is set there, once for all of them."""
    graph = with_nodes(
        TWO_SEEDS, n11=node("PrimitiveInt", "Seed", value=1), n12=node("PrimitiveString", "Words", value="x")
    )
    for sampler in ("6", "9"):
        graph = with_inputs(graph, sampler, seed=["11", 0])
    graph = with_inputs(graph, "4", text=["12", 0])
    filled = Workflow(graph, Nodes(strength="9")).filled(
        "a.png", prompt="a fox", negative="", seed=5, strength=0.25
    )
    assert filled["11"]["inputs"]["value"] == 5
    assert filled["12"]["inputs"]["value"] == "a fox"
    assert graph["11"]["inputs"]["value"] == 1


def test_it_says_which_node_takes_what(make: Make) -> None:
    """In the words of the workflow."""
    assert make().choice == (
        "image in node 2 'Load Image' (LoadImage), prompt in node 4 'Positive' (CLIPTextEncode), "
        "negative in node 5 'Negative' (CLIPTextEncode), seed in node 6 (KSampler), "
        "strength in node 6 (KSampler), frames from node 8 'Save Image' (SaveImage)"
    )


def test_without_its_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what works now."""
    import sys

    monkeypatch.setattr("reverie.generators.late.find_spec", lambda _name: None)
    monkeypatch.delitem(sys.modules, "reverie.generators.comfyui", raising=False)
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[comfyui\]"'):
        registry.load("generators", "comfyui")


def test_what_the_server_gives_is_checked(make: Make, comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken picture is an error of the generator."""
    monkeypatch.setattr(ComfyClient, "_fetch", lambda _self, _picture: b"no picture")
    with pytest.raises(GenerationError, match="gave what is no picture"):
        make().generate(frame(), prompt="", strength=0.4, seed=3)
    assert decoded(encoded(frame(), {})).shape == (64, 64, 3)
