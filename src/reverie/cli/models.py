"""`reverie models`: the networks behind encoders such as clip, and their files on this machine."""

from __future__ import annotations

import click

from reverie.cli.main import LazyGroup
from reverie.cli.output import json_line, near, say, show
from reverie.cli.params import cache_option, json_option
from reverie.cli.place import Place

__all__ = ["engines", "listed", "models", "path", "pull", "quantise", "remove"]

_NAME = click.argument("name", metavar="NAME")
_FOR = click.option(
    "--for",
    "family",
    type=click.Choice(["onnx", "torch"]),
    default="onnx",
    show_default=True,
    metavar="onnx|torch",
    help="Files for onnxruntime and OpenVINO, or for torch.",
)


@click.group(
    "models",
    cls=LazyGroup,
    homes={
        "list": "reverie.cli.models:listed",
        "pull": "reverie.cli.models:pull",
        "path": "reverie.cli.models:path",
        "remove": "reverie.cli.models:remove",
        "engines": "reverie.cli.models:engines",
        "quantise": "reverie.cli.models:quantise",
    },
    short_help="Download, find and remove models; what runs them.",
)
def models() -> None:
    """The networks behind encoders such as clip: what there is, what is here, downloads."""


@click.command(
    "list",
    short_help="List the models and what of them is here.",
    epilog="JSON: one line per model with name, title, dimensions, licence, knows_texts and files: per "
    "family (onnx, torch) repo, revision, vision_bytes, text_bytes (null without texts), vision_here, "
    "text_here, folder (null when nothing is here).",
)
@json_option
def listed(as_json: bool) -> None:
    """List the models: size of the download, what of it is on this machine, where it comes from.

    The size is what pictures need, + what texts need in addition (files for onnxruntime and OpenVINO).
    """
    from reverie.cli.model_listing import facts_of_models, print_models

    found = facts_of_models()
    if as_json:
        for facts in found:
            json_line(facts)
        return
    print_models(found)
    say()
    say("What runs them: reverie models engines")


@click.command("pull")
@_NAME
@click.option("--text/--no-text", default=False, show_default=True, help="Also what texts need.")
@_FOR
def pull(name: str, text: bool, family: str) -> None:
    """Download a model, or check every byte of the one that is here.

    What an interrupted download left is gone on with. The files go into the Hugging Face cache (see HF_HOME);
    HF_ENDPOINT, HF_TOKEN and proxy settings hold.
    """
    from reverie.cli.downloading import downloads
    from reverie.cli.model_listing import folder_of, pulled
    from reverie.models.cards import card_of
    from reverie.models.store import pull as fetch

    card = card_of(name)
    with downloads():
        files = fetch(card, family, text=text)  # type: ignore[arg-type] # click checked it
    say(f"{card.name}: {pulled(files.paths.values())} in {near(folder_of(files.paths))}")


@click.command("path")
@_NAME
@_FOR
def path(name: str, family: str) -> None:
    """Print the folder that holds a model, laid out for --model-dir.

    The files in it may be links: copy it with cp -rL.
    """
    from reverie.cli.model_listing import folder_of
    from reverie.errors import ModelNotFoundError
    from reverie.models.cards import card_of
    from reverie.models.store import find

    card = card_of(name)
    found = find(card, family)  # type: ignore[arg-type] # click checked it
    if not found:
        option = "" if family == "onnx" else f" --for {family}"
        raise ModelNotFoundError(
            f"no {family} file of {card.name!r} is on this machine: reverie models pull {card.name}{option}"
        )
    say(str(folder_of(found)))


@click.command("remove")
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask; needed outside of a terminal.")
def remove(name: str, yes: bool) -> None:
    """Delete the files of a model from the Hugging Face cache.

    Only files that are surely this model's go, and none that another download there uses.
    """
    from reverie.cli.asking import agreed
    from reverie.cli.output import count, size
    from reverie.models import removal
    from reverie.models.cards import card_of

    card = card_of(name)
    leaving = removal.plan(card)
    if not leaving.files:
        say(f"nothing of {card.name} is on this machine")
        return
    agreed(f"Remove {card.name} ({size(leaving.byte_count)})?", yes)
    removal.remove(card, leaving)
    say(f"removed {card.name}: {size(leaving.byte_count)} in {count(len(leaving.files), 'file')}")


@click.command(
    "engines",
    short_help="Show what runs the models here, and why.",
    epilog="JSON: one line per engine with engine, version (null when it is not installed), install, "
    "devices, precisions, picked, why.",
)
@json_option
def engines(as_json: bool) -> None:
    """The engines, what they can do on this machine, and which one is taken when none is named.

    Name one with the encoder: clip:onnxruntime, clip:openvino-bf16, clip:torch, clip:int8.
    """
    from reverie.cli.model_listing import print_engines
    from reverie.encoders.clip_engines import engine_report

    found = engine_report()
    if as_json:
        for row in found:
            json_line(row)
        return
    print_engines(found)


@click.command(
    "quantise",
    short_help="Make and check an int8 network on your pictures.",
    epilog="JSON: one document with model, engine, calibrated_on, checked_on, cosine_mean, cosine_min, "
    "pair_error_mean, pair_error_max, top5_overlap, crossing, pairs, path.",
)
@_NAME
@click.option("--images", metavar="FOLDER", help="Pictures like yours.  [default: those of the cache]")
@click.option(
    "--limit",
    type=click.IntRange(min=8),
    default=170,
    show_default=True,
    metavar="N",
    help="Pictures at most.",
)
@click.option(
    "--engine",
    type=click.Choice(["openvino", "onnxruntime"]),
    default="openvino",
    show_default=True,
    metavar="openvino|onnxruntime",
    help="What it is made for.",
)
@click.option("--model-dir", metavar="DIR", help="Your own copy of the model's files.")
@click.option("--accept", is_flag=True, help="Keep it even when it is far from fp32.")
@cache_option
@json_option
def quantise(
    *, name: str, images: str | None, limit: int, place: Place, as_json: bool, **options: object
) -> None:
    """Make the network behind clip:int8: faster, and not exact.

    It is calibrated on three quarters of the pictures and checked against fp32 on the others. Similarities
    of int8 vectors differ a little, so they carry a name of their own and never mix with others.
    """
    from reverie.cli.quantising import facts_of, quantised, record

    report = quantised(name, place, images, limit, **options)
    if as_json:
        json_line(record(report))
        return
    show(facts_of(report))
