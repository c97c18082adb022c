"""`reverie metadata`: what picture files say of how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reverie.cli.output import complain, facts, json_line, note, plain, say, show
from reverie.cli.params import json_option, spelled_out

if TYPE_CHECKING:
    from reverie.metadata import PictureMetadata

__all__ = ["metadata"]


@click.command(
    "metadata",
    short_help="Show what pictures say of how they were made.",
    epilog="JSON: one line per image with image, error (or null), source (the program that wrote it, or "
    "null), prompt, params, parents; with --raw image, error, texts (by the name of the chunk or field).",
)
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("--raw", is_flag=True, help="Show the texts of the files as they are.")
@json_option
def metadata(images: Sequence[str], raw: bool, as_json: bool) -> None:
    """Show the prompt and the parameters that programs wrote into picture files.

    Those of AUTOMATIC1111, Forge, ComfyUI, InvokeAI, Fooocus, SwarmUI, NovelAI and reverie are read.
    IMAGES are files, PNG, JPEG or WebP; - reads their names from standard input, one a line. One that
    cannot be read is named, the others are shown, and the exit code is 1.
    """
    read = [_shown(image, raw, as_json) for image in spelled_out(images)]
    if not all(read):
        raise click.exceptions.Exit(1)


def _shown(image: str, raw: bool, as_json: bool) -> bool:
    """Show one; whether it could be read."""
    from reverie.errors import ImageError, StorageError
    from reverie.metadata import read_metadata, texts_of
    from reverie.pixels import file_bytes

    try:
        data = file_bytes(image)
    except (ImageError, StorageError) as exc:
        complain(str(exc))
        if as_json:
            json_line({"image": image, "error": str(exc)})
        return False
    if raw:
        _tell_texts(image, texts_of(data), as_json)
    else:
        _tell(image, read_metadata(data), as_json)
    return True


def _tell(image: str, found: PictureMetadata | None, as_json: bool) -> None:
    if as_json:
        about: dict[str, Any] = {"source": None, "prompt": "", "params": {}, "parents": {}}
        if found is not None:
            about = {
                "source": found.source,
                "prompt": found.prompt,
                "params": dict(found.params),
                "parents": dict(found.parents),
            }
        json_line({"image": image, "error": None, **about})
    elif found is None:
        note(f"{plain(image)} says nothing that is known here of how it was made")
    else:
        pairs = [("image", image), ("by", found.source), ("prompt", found.prompt or "-")]
        named = sorted(found.params.items(), key=lambda each: each[0] != "negative_prompt")
        pairs += [(name.replace("_", " "), str(value)) for name, value in named]
        pairs += [("parent", f"{name}, weight {weight:g}") for name, weight in found.parents.items()]
        show(facts(pairs))
        say()


def _tell_texts(image: str, texts: dict[str, str], as_json: bool) -> None:
    if as_json:
        json_line({"image": image, "error": None, "texts": texts})
        return
    if not texts:
        note(f"{plain(image)} carries no texts")
    for name, text in texts.items():
        say(f"{plain(image)}: {plain(name)}")
        for line in text.splitlines():
            say(f"  {plain(line)}")
