"""`reverie cache import`: whole folders into a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from reverie.cli.params import cache_option, json_object, json_option, model_options, size_limit
from reverie.cli.place import Place

__all__ = ["import_folders"]


@click.command(
    "import",
    short_help="Import folders of pictures, and watch them.",
    epilog="JSON: folder, encoder, total, imported, known, failed (list of image, error), left, evicted, "
    "described, byte_size, finished, seconds, rate (null when nothing was imported).",
)
@click.argument("folders", metavar="FOLDERS...", nargs=-1, required=True)
@click.option("--copy/--link", "copy", default=True, help="Copy the files, or give them a second name.")
@click.option(
    "--encoder",
    default="descriptor",
    show_default=True,
    metavar="NAME",
    help="What makes the embeddings (see `reverie parts`).",
)
@click.option("--no-embeddings", is_flag=True, help="Make none: `cache reindex` can do it later.")
@click.option("--prompt", default="", metavar="TEXT", help="The prompt they were made with.")
@click.option("--params", callback=json_object, metavar="JSON", help="How they were made: a JSON object.")
@click.option("--again", is_flag=True, help="Also import what the cache holds already.")
@click.option("--strict", is_flag=True, help="Exit code 1 when some pictures cannot be used.")
@click.option(
    "--max-size",
    default="none",
    show_default=True,
    callback=size_limit,
    metavar="N|none",
    help="Refuse to import past N entries.",
)
@click.option("--evict", is_flag=True, help="With --max-size: evict the least recently used instead.")
@click.option("--watch", is_flag=True, help="Then go on with what appears in the folders; Ctrl-C ends it.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Watch by looking every so often: for network drives, which tell of nothing.",
)
@model_options
@cache_option
@json_option
def import_folders(folders: Sequence[str], place: Place, as_json: bool, **how: Any) -> None:
    """Encode all pictures of folders and store them; the cache is made when it is not there.

    Everything below FOLDERS is imported, in the order of the names, but hidden files and what has
    no ending of a picture. What the cache holds already is passed over: after Ctrl-C, or a crash,
    the same command goes on. A picture that cannot be used is named at the end.

    With --link no bytes are copied: each file gets a second name in the cache (a hard link, on the
    same disk only). Removing an entry leaves the original; writing into the original changes both.

    Prompt and parameters that are not given are read from each file, where a program wrote them.
    The parameter "source" of each entry is the path of its picture.
    """
    from reverie.cli.importing import Import

    code = Import(folders, place, as_json=as_json, **how).run()
    if code:
        raise click.exceptions.Exit(code)
