"""`reverie cache`: the group, and the commands that only look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reverie.cli.conditions import conditions
from reverie.cli.main import LazyGroup
from reverie.cli.output import json_line, say, show
from reverie.cli.params import cache_option, json_option, model_options, threshold_option
from reverie.cli.place import Place, entries_of, open_cache

if TYPE_CHECKING:
    from reverie.cache.similarity_scale import Percentile
    from reverie.query import Where

__all__ = [
    "cache",
    "export",
    "list_entries",
    "path",
    "random_entry",
    "search",
    "show_entry",
    "similar",
    "stats",
    "tag",
]

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(
    cls=LazyGroup,
    homes={
        "add": "reverie.cli.cache_changes:add",
        "import": "reverie.cli.cache_import:import_folders",
        "list": "reverie.cli.cache:list_entries",
        "show": "reverie.cli.cache:show_entry",
        "similar": "reverie.cli.cache:similar",
        "search": "reverie.cli.cache:search",
        "tag": "reverie.cli.cache:tag",
        "random": "reverie.cli.cache:random_entry",
        "pin": "reverie.cli.cache_changes:pin",
        "unpin": "reverie.cli.cache_changes:unpin",
        "remove": "reverie.cli.cache_changes:remove",
        "clear": "reverie.cli.cache_changes:clear",
        "check": "reverie.cli.cache_changes:check",
        "export": "reverie.cli.cache:export",
        "duplicates": "reverie.cli.cache_changes:duplicates",
        "convert": "reverie.cli.cache_changes:convert",
        "reindex": "reverie.cli.cache_changes:reindex",
        "path": "reverie.cli.cache:path",
        "stats": "reverie.cli.cache:stats",
    },
)
def cache() -> None:
    """The image memory: add, look at, search, repair.

    Looking never changes a cache: nothing is evicted, and it does not count as a use.
    """


@click.command("list", epilog="JSON: one line per entry, as in `show`, without the embedding's numbers.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@conditions
@cache_option
@json_option
def list_entries(*, limit: int | None, where: Where, place: Place, as_json: bool) -> None:
    """List the entries, or those that fulfil all conditions, oldest first."""
    from reverie.cli.entries import chosen, overview, record

    with open_cache(place) as opened:
        entries = chosen(opened, where, limit)
        if as_json:
            for entry in entries:
                json_line(record(entry))
            return
        overview(opened, entries, place, limit=limit, where=where)


@click.command(
    "show",
    epilog="JSON: cache_id, image_path, prompt, generation_params, embedding, timestamp, encoder, pinned, "
    "last_used, content_hash, byte_size, parents, and whatever another program wrote.",
)
@click.argument("cache_id", metavar="ID")
@cache_option
@json_option
def show_entry(cache_id: str, place: Place, as_json: bool) -> None:
    """Show all that is known about an entry."""
    from reverie.cli.entries import details

    with open_cache(place) as opened:
        (entry,) = entries_of(opened, [cache_id])
    if as_json:
        json_line(entry.to_dict())
        return
    show(details(entry))


def _how_many(command: Command) -> Command:
    """``-k`` and ``--threshold``."""
    for option in (
        threshold_option("Only a cosine of X or more; p90: as much as the most similar tenth."),
        click.option(
            "-k",
            "top_k",
            type=click.IntRange(min=1),
            default=5,
            show_default=True,
            metavar="K",
            help="How many.",
        ),
    ):
        command = option(command)
    return command


def _encoder_options(command: Command) -> Command:
    """``--encoder`` and what an encoder takes."""
    option: Callable[[Command], Command] = click.option(
        "--encoder", metavar="NAME", help="What encodes the query.  [default: the cache's own]"
    )
    return option(model_options(command))


@click.command(
    "similar",
    short_help="Find the entries most like an image or an entry.",
    epilog="JSON: one line per match with cache_id, similarity, band, percentile (null with fewer than 21 "
    "vectors), image_path, prompt.",
)
@click.argument("target", metavar="IMAGE_OR_ID")
@_how_many
@conditions
@_encoder_options
@cache_option
@json_option
def similar(
    *,
    target: str,
    top_k: int,
    threshold: float | Percentile | None,
    where: Where,
    place: Place,
    as_json: bool,
    **encoder: Any,
) -> None:
    """The entries most like an image file, or like an entry of the cache.

    Similarity is the cosine of the embeddings: 1 for the same picture. What counts as similar depends
    on the encoder and the pictures, so the words (and --threshold p90) go by the cosines that the
    cache's own pictures have, once there are 21.
    """
    from reverie.cli.searching import Finder, print_found, told

    with open_cache(place) as opened, told():
        found = Finder(opened, place, where, **encoder).similar(target, top_k, threshold)
    if as_json:
        for match in found.matches:
            json_line(match.record())
        return
    print_found(found)


@click.command(
    "search",
    short_help="Find the entries that a text describes.",
    epilog="JSON: one line per match, as in `similar`; band and percentile are null for a query with texts.",
)
@click.argument("query", metavar="[TEXT]", required=False)
@click.option("--plus", multiple=True, metavar="ITEM[:WEIGHT]", help="Also like this.  [repeatable]")
@click.option("--minus", multiple=True, metavar="ITEM[:WEIGHT]", help="Unlike this.  [repeatable]")
@_how_many
@conditions
@_encoder_options
@cache_option
@json_option
def search(
    *,
    query: str | None,
    plus: Sequence[str],
    minus: Sequence[str],
    top_k: int,
    threshold: float | Percentile | None,
    where: Where,
    place: Place,
    as_json: bool,
    **encoder: Any,
) -> None:
    """The entries that a text describes, or a sum of texts and pictures.

    TEXT and each ITEM is a text, an image file or an ID; WEIGHT is 1 unless given. A picture weighs
    more than a text: reverie cache search --plus cache_00007 --plus wings:3 --minus city:3. Where an
    ITEM itself ends in a colon and a number, write its weight too: --plus 16:9:1

    Texts need an encoder that knows them (clip). The cosine of a text and a picture that fits is far
    below that of two pictures (about .3 with CLIP); compare it with the others of its list.
    """
    from reverie.cli.searching import Finder, print_found, told, weighed

    if query is None and not plus:
        raise click.UsageError("say what to look for: TEXT or --plus")
    with open_cache(place) as opened, told():
        items = [(query, 1.0)] if query is not None else []
        wanted = items + [weighed(item, opened) for item in plus]
        unwanted = [weighed(item, opened) for item in minus]
        found = Finder(opened, place, where, **encoder).search(wanted, unwanted, top_k, threshold)
    if as_json:
        for match in found.matches:
            json_line(match.record())
        return
    print_found(found)


@click.command(
    "tag",
    short_help="Say which of some labels fits each entry.",
    epilog="JSON: one line per entry with cache_id, tags (a list of label, probability), image_path.",
)
@click.argument("cache_ids", metavar="[ID]...", nargs=-1)
@click.option(
    "--label", "labels", multiple=True, required=True, metavar="TEXT", help="A label.  [repeatable]"
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    default=["a photo of {}"],
    show_default=True,
    metavar="TEXT",
    help="The sentence a label stands in; several are averaged.",
)
@click.option(
    "-k",
    "top_k",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="K",
    help="How many labels.",
)
@_encoder_options
@cache_option
@json_option
def tag(
    *,
    cache_ids: Sequence[str],
    labels: Sequence[str],
    templates: Sequence[str],
    top_k: int,
    place: Place,
    as_json: bool,
    **encoder: Any,
) -> None:
    """The labels that fit each entry best; without ID of all entries.

    The probabilities are among the labels given, so give at least two: what fits none of them still
    gets one.
    """
    from reverie.cli.searching import Finder, print_tagged, told

    with open_cache(place) as opened, told():
        tagged = list(Finder(opened, place, None, **encoder).tags(cache_ids, labels, templates, top_k))
    if as_json:
        for each in tagged:
            json_line(each.record())
        return
    print_tagged(tagged)


@click.command("random", epilog="JSON: one document, as in `show`.")
@click.option("--seed", type=int, metavar="N", help="Makes the draw repeatable.")
@cache_option
@json_option
def random_entry(seed: int | None, place: Place, as_json: bool) -> None:
    """Show an entry drawn evenly."""
    from reverie.cli.entries import details, draw

    with open_cache(place) as opened:
        entry = draw(opened, seed)
    if as_json:
        json_line(entry.to_dict())
        return
    show(details(entry))


@click.command("path", short_help="Print where the cache, or an image of it, is.")
@click.argument("cache_id", metavar="[ID]", required=False)
@cache_option
def path(cache_id: str | None, place: Place) -> None:
    """Print where the cache is, or where the image of an entry is.

    Why it is this folder goes to standard error, so `cd "$(reverie cache path)"` works.
    """
    from reverie.cli.entries import explain

    if cache_id is None:
        say(str(place.path.absolute()))
        explain(place)
        return
    with open_cache(place) as opened:
        say(str(entries_of(opened, [cache_id])[0].image_path))


@click.command(
    "stats",
    epilog="JSON: cache, entries, pinned, bytes, index, index_path, vectors, oldest, newest, "
    "without_embedding, encoders (a list of name, entries, dimensions, mean_pairwise, effective_images, "
    "search, search_reason, recall).",
)
@cache_option
@json_option
def stats(place: Place, as_json: bool) -> None:
    """Entries, bytes, encoders, and how varied the images are.

    Effective images (the Vendi score) says how many clearly different images the entries amount to.
    """
    from reverie.cli.statistics import facts_of, measure

    with open_cache(place) as opened:
        figures = measure(opened)
    if as_json:
        json_line(figures)
        return
    show(facts_of(figures))


@click.command(
    "export",
    short_help="Write entries as files for other programs.",
    epilog="JSON: target, format, total, exported, gone (removed meanwhile), image_bytes, failed (a list of "
    "cache_id, error).",
)
@click.argument("target", metavar="OUT")
@click.option(
    "--format",
    "form",
    type=click.Choice(["folder", "zip", "jsonl", "parquet"]),
    metavar="folder|zip|jsonl|parquet",
    help="What to write.  [default: by the name of OUT, else folder]",
)
@click.option("--id", "cache_ids", multiple=True, metavar="ID", help="Only this entry.  [repeatable]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@conditions
@click.option(
    "--vectors",
    type=click.Choice(["numbers", "base64", "none"]),
    default="numbers",
    show_default=True,
    metavar="numbers|base64|none",
    help="How to write vectors in JSON, or none at all.",
)
@cache_option
@json_option
def export(
    *,
    cache_ids: Sequence[str],
    limit: int | None,
    where: Where,
    place: Place,
    as_json: bool,
    **how: Any,
) -> None:
    """Write entries, or those that fulfil all conditions, as files for other programs.

    OUT is a folder, or a file that ends in .zip, .jsonl or .parquet. A folder and a zip hold the images
    byte for byte and metadata.jsonl, which Hugging Face's imagefolder reads; .jsonl the records alone;
    .parquet images, records and vectors in one table (pip install "reverie[parquet]").

    What is there already is never replaced, and an export that is stopped leaves nothing. An image that is
    missing is named, its record exported (in a folder or zip: in without-image.jsonl), and the exit code
    is 1. --id - reads IDs from standard input, one a line.
    """
    from reverie.cli.exporting import run

    if cache_ids and (where or limit is not None):
        raise click.UsageError("say --id, or --limit and conditions, not both")
    code = run(place, cache_ids=cache_ids, limit=limit, where=where, as_json=as_json, **how)
    if code:
        raise click.exceptions.Exit(code)
