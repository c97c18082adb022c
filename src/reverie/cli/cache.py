"""`reverie cache`: the group, and the commands that only look."""

from __future__ import annotations

import click

from reverie.cli.main import LazyGroup
from reverie.cli.output import json_line, say, show
from reverie.cli.params import cache_option, json_option
from reverie.cli.place import Place, entries_of, open_cache

__all__ = ["cache", "list_entries", "path", "random_entry", "show_entry", "similar", "stats"]


@click.group(
    cls=LazyGroup,
    homes={
        "add": "reverie.cli.cache_changes:add",
        "list": "reverie.cli.cache:list_entries",
        "show": "reverie.cli.cache:show_entry",
        "similar": "reverie.cli.cache:similar",
        "random": "reverie.cli.cache:random_entry",
        "pin": "reverie.cli.cache_changes:pin",
        "unpin": "reverie.cli.cache_changes:unpin",
        "remove": "reverie.cli.cache_changes:remove",
        "clear": "reverie.cli.cache_changes:clear",
        "check": "reverie.cli.cache_changes:check",
        "convert": "reverie.cli.cache_changes:convert",
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
@cache_option
@json_option
def list_entries(limit: int | None, place: Place, as_json: bool) -> None:
    """List the entries, oldest first."""
    from reverie.cli.entries import newest, overview, record

    with open_cache(place) as opened:
        entries = newest(opened, limit)
        if as_json:
            for entry in entries:
                json_line(record(entry))
            return
        overview(opened, entries, place)


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


@click.command(
    "similar",
    short_help="Find the entries most like an image or an entry.",
    epilog="JSON: one line per match with cache_id, similarity, band, image_path, prompt.",
)
@click.argument("target", metavar="IMAGE_OR_ID")
@click.option(
    "-k", "top_k", type=click.IntRange(min=1), default=5, show_default=True, metavar="K", help="How many."
)
@click.option("--threshold", type=float, metavar="X", help="Only a cosine of X or more.")
@click.option(
    "--encoder", default="descriptor", show_default=True, metavar="NAME", help="What encodes an image file."
)
@cache_option
@json_option
def similar(
    *, target: str, top_k: int, threshold: float | None, encoder: str, place: Place, as_json: bool
) -> None:
    """The entries most like an image file, or like an entry of the cache.

    Similarity is the cosine of the embeddings: 1 for the same picture, 0 for an unrelated one.
    """
    from reverie.cli.entries import find_matches, print_matches

    with open_cache(place) as opened:
        matches = find_matches(opened, target, top_k, threshold, encoder)
    if as_json:
        for match in matches:
            json_line(match.record())
        return
    print_matches(matches)


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
    epilog="JSON: cache, entries, pinned, bytes, index, index_path, oldest, newest, without_embedding, "
    "encoders (a list of name, entries, dimensions, mean_pairwise, effective_images).",
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
