"""`reverie cache`: the commands that change a cache, or repair it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reverie.cli.output import count, json_line, near, say, show
from reverie.cli.params import (
    cache_option,
    json_object,
    json_option,
    model_options,
    size_limit,
    spelled_out,
    threshold_option,
)
from reverie.cli.place import Place, known_ids, open_cache

if TYPE_CHECKING:
    from reverie.half import VectorType

__all__ = ["add", "check", "clear", "convert", "duplicates", "pin", "reindex", "remove", "unpin"]

_IDS = click.argument("cache_ids", metavar="ID...", nargs=-1, required=True)


@click.command(
    "add",
    short_help="Encode images and store them.",
    epilog="JSON: one line per image with image, cache_id, error (one of the two is null), prompt, metadata "
    "(the program that its parameters were read from, or null), evicted (ids).",
)
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("--prompt", default="", metavar="TEXT", help="The prompt they were made with.")
@click.option("--params", callback=json_object, metavar="JSON", help="How they were made: a JSON object.")
@click.option(
    "--encoder",
    default="descriptor",
    show_default=True,
    metavar="NAME",
    help="What makes the embeddings (see `reverie parts`); none for no embedding.",
)
@click.option("--pin", is_flag=True, help="Keep them from eviction.")
@click.option(
    "--max-size",
    default="none",
    show_default=True,
    callback=size_limit,
    metavar="N|none",
    help="Evict the least recently used past N entries.",
)
@model_options
@cache_option
@json_option
def add(images: Sequence[str], place: Place, as_json: bool, **how: Any) -> None:
    """Encode images and store them; the cache is made when it is not there.

    IMAGES are files, stored byte for byte; - reads their names from standard input, one a line. An
    image that cannot be used is named, the others are added, and the exit code is 1.

    Where no prompt or no parameters are given, they are read from the file, if a program wrote them
    there; see `reverie metadata`.

    Adding evicts nothing unless --max-size is given; the limit holds for this command, it is not
    stored in the cache.
    """
    from reverie.cli.adding import Adding

    job = Adding(list(spelled_out(images)), place, as_json=as_json, **how)
    if not job.run():
        raise click.exceptions.Exit(1)


@click.command("pin")
@_IDS
@cache_option
def pin(cache_ids: Sequence[str], place: Place) -> None:
    """Keep entries from eviction.

    With an unknown ID nothing is changed; - reads IDs from standard input, one a line.
    """
    with open_cache(place) as opened:
        for cache_id in known_ids(opened, spelled_out(cache_ids)):
            opened.pin(cache_id)
            say(f"pinned {cache_id}")


@click.command("unpin")
@_IDS
@cache_option
def unpin(cache_ids: Sequence[str], place: Place) -> None:
    """Let eviction take entries again.

    With an unknown ID nothing is changed; - reads IDs from standard input, one a line.
    """
    with open_cache(place) as opened:
        for cache_id in known_ids(opened, spelled_out(cache_ids)):
            opened.unpin(cache_id)
            say(f"unpinned {cache_id}")


@click.command("remove")
@_IDS
@click.option("--yes", is_flag=True, help="Do not ask.")
@cache_option
def remove(cache_ids: Sequence[str], yes: bool, place: Place) -> None:
    """Delete entries with their images, pinned or not.

    Asks first in a terminal. With an unknown ID nothing is removed; - reads IDs from standard input,
    one a line.
    """
    from reverie.cli.asking import agreed

    with open_cache(place) as opened:
        ids = known_ids(opened, spelled_out(cache_ids))
        agreed(f"Remove {count(len(ids), 'entry', 'entries')} and the images?", yes, scripts_may=True)
        for cache_id in ids:
            opened.remove(cache_id)
            say(f"removed {cache_id}")


@click.command("clear")
@click.option("--yes", is_flag=True, help="Do not ask; needed outside of a terminal.")
@click.option("--keep-pinned", is_flag=True, help="Leave pinned entries.")
@cache_option
def clear(yes: bool, keep_pinned: bool, place: Place) -> None:
    """Delete all entries with their images. Their ids are not used again."""
    from reverie.cli.asking import agreed

    with open_cache(place) as opened:
        before = len(opened)
        what = "all entries but the pinned ones" if keep_pinned else "all entries"
        agreed(f"Remove {what} of {near(place.path)} ({before:,} in it) and the images?", yes)
        opened.clear(keep_pinned=keep_pinned)
        say(f"removed {count(before - len(opened), 'entry', 'entries')} from {near(place.path)}")


@click.command(
    "check",
    epilog="JSON: folder, entries, ok, fixed, problems and remaining (lists of kind, subject, message, "
    "action); remaining is what a repair left.",
)
@click.option("--fix", is_flag=True, help="Also repair.")
@cache_option
@json_option
def check(fix: bool, place: Place, as_json: bool) -> None:
    """Compare index and files, also of a cache that cannot be opened.

    Exit code 3 when there are problems (after --fix: when some are left). A repair destroys nothing:
    files go to lost+found/, records to a file beside the index.
    """
    from reverie.cli.checking import inspect, report, result

    found, remaining = inspect(place, fix)
    if as_json:
        json_line(result(found, remaining))
    else:
        show(*report(found, remaining, place, fix))
    if remaining:
        raise click.exceptions.Exit(3)


@click.command("convert")
@click.option("--to", "kind", metavar="json|sqlite", help="The specification's file, or a database.")
@click.option(
    "--vectors",
    type=click.Choice(["float32", "float16"]),
    metavar="float32|float16",
    help="As what a database keeps the numbers of vectors: float16 takes half the room, and rounds.",
)
@cache_option
def convert(kind: str | None, vectors: VectorType | None, place: Place) -> None:
    """Write the index in another form. Nothing is lost, and the old one is kept aside.

    Without --to the index stays of its kind. When --vectors float16 rounds the vectors, a copy of the
    database as it was stays beside it (cache_index.sqlite.float32-...): delete it once it is not needed.
    """
    from reverie.cache.convert import convert as convert_index

    if kind is None and vectors is None:
        raise click.UsageError("say what to convert to: --to json|sqlite, --vectors float32|float16, or both")
    changed = convert_index(place.path, kind, vectors=vectors)
    with open_cache(place) as opened:
        entries = count(len(opened), "entry", "entries")
        state = "is now" if changed else "was already"
        numbers = "" if vectors is None else f" with vectors as {opened.vector_type}"
        say(f"the index of {near(place.path)} {state} {opened.index_kind}{numbers} ({entries})")


@click.command(
    "reindex",
    short_help="Encode the images anew for another encoder.",
    epilog="JSON: folder, encoder, total, already, encoded, gone, failed (list of cache_id, error), left, "
    "finished, seconds.",
)
@click.option("--encoder", required=True, metavar="NAME", help="What makes the vectors (`reverie parts`).")
@click.option("--only-missing", is_flag=True, help="Only entries without a vector.")
@model_options
@cache_option
@json_option
def reindex(encoder: str, only_missing: bool, place: Place, as_json: bool, **options: Any) -> None:
    """Encode the images anew, for another encoder.

    Entries that have a vector of this encoder are passed over: after Ctrl-C, or a crash, the same
    command goes on. The cache can be used meanwhile; what is added meanwhile is encoded too.

    An image that cannot be used is named, its entry keeps the vector it has, and the exit code is 1.
    """
    from reverie.cli.reindexing import run

    code = run(place, encoder, only_missing=only_missing, as_json=as_json, options=options)
    if code:
        raise click.exceptions.Exit(code)


@click.command(
    "duplicates",
    short_help="Find entries that are duplicates, and remove them.",
    epilog="JSON: level, threshold, entries, without_vector, groups (a list of representative, kept, "
    "removable, members: cache_id, similarity, byte_size, pinned, children), removable, bytes_freed, failed "
    "(a list of cache_id, error), removed (id to the id that stays), passed_over (id to the reason).",
)
@click.option(
    "--level",
    type=click.Choice(["bytes", "picture", "look"]),
    default="picture",
    show_default=True,
    metavar="bytes|picture|look",
    help="The same file; the same pixels in any file; or vectors that are near.",
)
@threshold_option("Of look: a cosine; p99.9: as near as the nearest thousandth of pairs.  [default: 0.98]")
@click.option("--encoder", metavar="NAME", help="Of look, where vectors are of several: whose to compare.")
@click.option("--remove", is_flag=True, help="Remove what is not needed; not for look.")
@click.option("--yes", is_flag=True, help="Do not ask; needed with --remove outside of a terminal.")
@cache_option
@json_option
def duplicates(level: str, place: Place, as_json: bool, **how: Any) -> None:
    """Find entries that are duplicates of older ones; remove them with --remove.

    The oldest of a group stays, and every pinned one; where one is pinned, it stays in the oldest's place.
    Before an entry goes, its file is compared once more with the one that stays.

    bytes goes by the index. picture decodes all files that share their size in pixels: a PNG saved again
    as lossless WebP is found, a JPEG encoded anew is not, as its pixels differ. look compares all pairs of
    vectors; every member of a group is that near to its oldest one.
    """
    from reverie.cli.duplicate_groups import run

    code = run(place, level, as_json=as_json, **how)
    if code:
        raise click.exceptions.Exit(code)
