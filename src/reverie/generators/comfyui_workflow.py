"""A workflow of ComfyUI, and where in it a loop puts its frame, prompt, seed and strength.

It is what *Export (API)* writes, or a picture that ComfyUI saved. Nodes are named by their id, their title or
their class; what is not named is found where it is unambiguous, following the links up from the node that
saves the picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reverie.errors import ImageError, InputError
from reverie.metadata import texts_of
from reverie.metadata.comfyui_graph import (
    NEGATIVE,
    POSITIVE,
    Graph,
    class_of,
    conditions,
    graph_of,
    inputs_of,
    link_of,
    sampler,
    texts,
    upwards,
)
from reverie.pixels import file_bytes

__all__ = ["Nodes", "Workflow", "load_workflow"]

_SEEDS = ("seed", "noise_seed")
_PRIMITIVE = ("value", "int", "number", "float")  # of a node that holds one number for others
_SAVES = ("SaveImageWebsocket", "SaveImage", "Save", "PreviewImage")  # the first kind that there is, is meant


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of a workflow, each by id, title or class; None for one that is to be found.

    Attributes:
        image: Takes the frame; a ``LoadImage``.
        prompt: Takes the prompt.
        negative: Takes the negative prompt.
        seed: Takes the seed.
        strength: Takes the strength, as ``denoise``.
        output: Saves the next frame.
    """

    image: str | None = None
    prompt: str | None = None
    negative: str | None = None
    seed: str | None = None
    strength: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Inputs of a node that get one value; none where there is no such place, or which one is not clear."""

    what: str
    node: str = ""
    names: tuple[str, ...] = ()
    why_not: str = ""


def load_workflow(path: str | os.PathLike[str]) -> Graph:
    """The graph in a file: JSON of ComfyUI's API, or a picture that ComfyUI saved.

    Raises:
        InputError: There is no such file, or no such graph in it.
        StorageError: It cannot be read.
    """
    name = os.fspath(path)
    try:
        data = file_bytes(path)
    except ImageError as exc:
        raise InputError(f"no workflow can be read from {name!r}: {exc}") from exc
    graph = graph_of(texts_of(data))
    if graph is not None:
        return graph
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f"{name} is no workflow: neither JSON, nor a picture with the graph that made it ({exc})"
        ) from exc
    if isinstance(found, dict) and isinstance(found.get("prompt"), dict):
        found = found["prompt"]  # as it is sent to the server
    if isinstance(found, dict) and isinstance(found.get("nodes"), list):
        raise InputError(
            f"{name} is a workflow as ComfyUI's canvas saves it: save it with Workflow > Export (API) instead"
        )
    if not isinstance(found, dict) or not any(class_of(found, node) for node in found):
        raise InputError(f"{name} is no workflow: nodes by id were expected, each with class_type and inputs")
    return found


class Workflow:
    """A graph that can be filled with what a frame is made from.

    Args:
        graph: As `load_workflow` gives it.
        nodes: Which nodes take what.

    Attributes:
        output: Id of the node that saves the next frame.

    Raises:
        InputError: A node that is named is not there, or one is needed and which one is not clear.
    """

    def __init__(self, graph: Graph, nodes: Nodes = Nodes()) -> None:
        self._graph = graph
        self.output = self._output(nodes.output)
        self._above = list(upwards(graph, [self.output]))
        self._image = self._image_place(nodes.image)
        sampled = sampler(graph, self.output)
        self._prompt = self._text_place("prompt", nodes.prompt, sampled, POSITIVE)
        self._negative = self._text_place("negative", nodes.negative, sampled, NEGATIVE)
        self._seed = self._number_place("seed", nodes.seed, _SEEDS)
        self._strength = self._number_place("strength", nodes.strength, ("denoise",))

    def filled(self, image: str, *, prompt: str, negative: str, seed: int, strength: float) -> dict[str, Any]:
        """The graph with these values in their places.

        Args:
            image: Name of the picture on the server.
            prompt: Empty: the workflow's own stays.
            negative: Empty: the workflow's own stays.
            seed: Goes where there is a place for it.
            strength: Goes where there is a place for it.

        Raises:
            InputError: A text was given, and there is no place for it.
        """
        values: list[tuple[_Place, Any]] = [(self._image, image), (self._seed, seed)]
        values += [(self._strength, strength)]
        for place, text in ((self._prompt, prompt), (self._negative, negative)):
            if text and place.why_not:
                raise InputError(f"a text was given for the {place.what}: {place.why_not}")
            if text:
                values.append((place, text))
        graph = {node: dict(content) for node, content in self._graph.items() if isinstance(content, dict)}
        for place, value in values:
            if place.node:
                inputs = dict(graph[place.node]["inputs"])
                graph[place.node]["inputs"] = {**inputs, **dict.fromkeys(place.names, value)}
        return graph

    def describe(self) -> str:
        """Which node takes what, in words."""
        places = (self._image, self._prompt, self._negative, self._seed, self._strength)
        taken = [f"{place.what} in {self.call(place.node)}" for place in places if place.node]
        return ", ".join([*taken, f"frames from {self.call(self.output)}"])

    # ------------------------------------------------------------------ finding

    def call(self, node: str) -> str:
        """A node as messages name it: its id, title and class."""
        content = self._graph.get(node)
        meta = content.get("_meta") if isinstance(content, dict) else None
        title = meta.get("title") if isinstance(meta, dict) else None
        kind = class_of(self._graph, node)
        return f"node {node}" + (f" {title!r}" if title and title != kind else "") + f" ({kind})"

    def _list(self, nodes: Iterable[str]) -> str:
        return ", ".join(self.call(node) for node in nodes)

    def _named(self, what: str, name: str) -> str:
        """The node of that id, title or class."""
        wanted = str(name).strip()
        if class_of(self._graph, wanted):
            return wanted
        folded = wanted.casefold()
        for found in (
            [node for node in self._graph if self._title(node) == folded],
            [node for node in self._graph if class_of(self._graph, node).casefold() == folded],
        ):
            if len(found) == 1:
                return found[0]
            if found:
                raise InputError(
                    f"{len(found)} nodes are called {wanted!r}: {self._list(found)}; give the id"
                )
        raise InputError(
            f"the workflow has no node {wanted!r} for the {what}; there are: {self._list(self._graph)}"
        )

    def _title(self, node: str) -> str:
        meta = self._graph[node].get("_meta") if isinstance(self._graph[node], dict) else None
        return str(meta.get("title", "")).casefold() if isinstance(meta, dict) else ""

    def _output(self, name: str | None) -> str:
        if name is not None:
            return self._named("output", name)
        for kind in _SAVES:
            found = [node for node in self._graph if class_of(self._graph, node).startswith(kind)]
            if len(found) == 1:
                return found[0]
            if found:
                raise InputError(
                    f"the workflow saves {len(found)} pictures: {self._list(found)}; name the one "
                    "that is the next frame with output_node (--output-node)"
                )
        raise InputError("the workflow saves no picture: add a Save Image node, or name one with output_node")

    def _image_place(self, name: str | None) -> _Place:
        if name is not None:
            node = self._named("image", name)
            if not isinstance(inputs_of(self._graph, node).get("image"), str):
                raise InputError(
                    f"{self.call(node)} takes no picture by its name: the frame goes into a Load Image node"
                )
            return _Place("image", node, ("image",))
        found = [
            node
            for node in self._above
            if class_of(self._graph, node).startswith("LoadImage")
            and isinstance(inputs_of(self._graph, node).get("image"), str)
        ]
        if len(found) == 1:
            return _Place("image", found[0], ("image",))
        if found:
            raise InputError(
                f"{len(found)} pictures lead to the output: {self._list(found)}; name the one that is the "
                "frame with image_node (--image-node)"
            )
        raise InputError(
            f"no Load Image node leads to {self.call(self.output)}: the loop needs one for its frame"
        )

    def _text_place(
        self, what: str, name: str | None, sampled: str | None, inputs: tuple[str, ...]
    ) -> _Place:
        if name is not None:
            node = self._named(what, name)
            found = list(texts(self._graph, [node]))[:1]
            if not found:
                raise InputError(f"{self.call(node)} takes no text for the {what}")
        else:
            begin = [] if sampled is None else conditions(self._graph, sampled, inputs)
            found = list(texts(self._graph, begin))
        if len(found) == 1:
            return _Place(what, found[0][0], tuple(found[0][1]))
        option = f"name one with {what}_node (--{what}-node)"
        if not found:
            return _Place(what, why_not=f"no node of the workflow was found that takes the {what}: {option}")
        listed = self._list(node for node, _ in found)
        return _Place(what, why_not=f"{len(found)} texts could be the {what}: {listed}; {option}")

    def _number_place(self, what: str, name: str | None, inputs: Sequence[str]) -> _Place:
        nodes = self._above if name is None else [self._named(what, name)]
        found = [
            place for node in nodes for key in inputs if (place := self._number(what, node, key)) is not None
        ]
        if not found and name is not None:
            found = [place for key in _PRIMITIVE if (place := self._number(what, nodes[0], key)) is not None]
        places = list(dict.fromkeys(found))
        if len(places) == 1:
            return places[0]
        if places:
            listed = self._list(dict.fromkeys(place.node for place in places))
            raise InputError(
                f"{len(places)} nodes take a {what}: {listed}; name one with {what}_node (--{what}-node)"
            )
        if name is not None:
            raise InputError(f"{self.call(nodes[0])} takes no {what}")
        return _Place(what)

    def _number(self, what: str, node: str, key: str) -> _Place | None:
        """Where a node's input gets its number: there, or in the node that it comes from."""
        value = inputs_of(self._graph, node).get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _Place(what, node, (key,))
        source = link_of(value)
        if source is None:
            return None
        own = [each for each in (key, *_PRIMITIVE) if _is_number(inputs_of(self._graph, source).get(each))]
        return _Place(what, source, (own[0],)) if own else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
