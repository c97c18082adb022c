"""What `reverie models` says of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reverie.cli.output import Column, count, print_table, say, size
from reverie.models.cards import CARDS, ModelCard
from reverie.models.store import FAMILIES, Family, find, source_of, wanted

__all__ = ["facts_of_models", "folder_of", "print_engines", "print_models", "pulled"]


def facts_of_models() -> list[dict[str, Any]]:
    """Every model, as JSON holds it."""
    return [_facts(card) for card in CARDS.values()]


def print_models(models: Sequence[Mapping[str, Any]]) -> None:
    """A table of models, one a line."""
    columns = [
        Column("name"),
        Column("dims", right=True),
        Column("licence"),
        Column("size", right=True),
        Column("here"),
        Column("from", flexible=True),
    ]
    print_table(columns, [_row(model) for model in models])


def print_engines(engines: Sequence[Mapping[str, Any]]) -> None:
    """A table of engines, one a line, and why one of them is taken."""
    columns = [Column("engine"), Column("version"), Column("devices"), Column("precisions", flexible=True)]
    print_table(columns, [_engine_row(engine) for engine in engines])
    say()
    picked = [engine for engine in engines if engine["picked"]]
    for engine in picked:
        say(f"taken when none is named: {engine['engine']}, because {engine['why']}")
    for engine in engines:
        if engine["version"] is None:
            say(f"{engine['engine']}: {engine['install']}")


def _engine_row(engine: Mapping[str, Any]) -> list[str]:
    lists = [", ".join(engine[name]) for name in ("devices", "precisions")]
    return [engine["engine"], engine["version"] or "not installed", *lists]


def folder_of(paths: Mapping[str, Path]) -> Path:
    """The folder in which files lie under the names they have in their repository."""
    name, path = next(iter(paths.items()))
    return path.parents[len(Path(name).parts) - 1]


def pulled(paths: Iterable[Path]) -> str:
    """``2 files, 352 MB``."""
    sizes = [path.stat().st_size for path in paths]
    return f"{count(len(sizes), 'file')}, {size(sum(sizes))}"


def _facts(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "title": card.title,
        "dimensions": card.dimensions,
        "licence": card.licence,
        "knows_texts": card.text is not None,
        "files": {family: _files(card, family) for family in FAMILIES},
    }


def _files(card: ModelCard, family: Family) -> dict[str, Any]:
    source, here = source_of(card, family), find(card, family)
    vision = wanted(card, family, text=False, vision=True)
    both = wanted(card, family, text=card.text is not None, vision=True)
    return {
        "repo": source.repo,
        "revision": source.revision,
        "vision_bytes": sum(source.size[name] for name in vision),
        "text_bytes": sum(source.size[name] for name in both if name not in vision) if card.text else None,
        "vision_here": all(name in here for name in vision),
        "text_here": bool(card.text) and all(name in here for name in source.text),
        "folder": str(folder_of(here)) if here else None,
    }


def _row(model: Mapping[str, Any]) -> list[str]:
    onnx = model["files"]["onnx"]
    text = f" + {size(onnx['text_bytes'])}" if onnx["text_bytes"] else ""
    return [
        model["name"],
        str(model["dimensions"]),
        model["licence"],
        size(onnx["vision_bytes"]) + text,
        _here(model["files"]),
        onnx["repo"],
    ]


def _here(files: Mapping[str, Mapping[str, Any]]) -> str:
    words = {
        (True, True): "all",
        (True, False): "pictures",
        (False, True): "texts",
    }
    states = {family: words.get((kept["vision_here"], kept["text_here"])) for family, kept in files.items()}
    if not files["onnx"]["text_bytes"]:
        states = {family: "all" if state else None for family, state in states.items()}
    return ", ".join(f"{state} ({family})" for family, state in states.items() if state) or "-"
