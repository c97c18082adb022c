"""`reverie cache`: the commands that look, and which folder they look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import LONG_PROMPT, Run, process, widest
from platformdirs import user_data_dir

from reverie import CacheManager

LOOKING = [
    ("list",),
    ("list", "--limit", "2"),
    ("show", "cache_00001"),
    ("similar", "cache_00001"),
    ("random", "--seed", "1"),
    ("path", "cache_00001"),
    ("stats",),
    ("check",),
]


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON document of every line."""
    return [json.loads(line) for line in text.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------ looking


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_output_fits_80_columns(arguments: tuple[str, ...], filled: Path, reverie: Run) -> None:
    """With long and wide prompts, every table stays within 80 columns and shows no escape code."""
    done = reverie("cache", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    if arguments[0] != "path":  # a path for a script is never cut
        assert widest(done.stdout) <= 80
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("columns", ["60", "132"])
def test_a_table_follows_the_terminal(
    columns: str, filled: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrower or wider terminal cuts the prompt elsewhere, and one entry stays one line."""
    monkeypatch.setenv("COLUMNS", columns)
    lines = reverie("cache", "list").stdout.splitlines()
    assert sum(line.startswith("cache_0") for line in lines) == 3
    assert widest("\n".join(lines)) <= int(columns)


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_looking_changes_nothing(arguments: tuple[str, ...], filled: Path, reverie: Run) -> None:
    """No looking command touches a byte of the cache: no eviction, no use."""
    before = contents(filled)
    assert reverie("cache", *arguments).exit_code == 0
    after = contents(filled)
    assert {name: after.get(name) for name in before} == before


def test_a_very_narrow_terminal_cuts_no_id(
    filled: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one needs for the next command stays whole, even where the line no longer fits."""
    monkeypatch.setenv("COLUMNS", "30")
    lines = reverie("cache", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["cache_00001", "cache_00002", "cache_00003"]


def test_looking_evicts_nothing(own_folder: Path, reverie: Run) -> None:
    """A cache above the library's default size is listed whole."""
    with CacheManager("cache", max_size=None, index="json") as cache:
        for shade in range(78):
            cache.add(np.full((2, 2, 3), shade, dtype=np.uint8))
    assert len(reverie("cache", "list", "--json").stdout.splitlines()) == 78
    assert "78 entries in ./cache" in reverie("cache", "list").stdout


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("show", "x"), ("similar", "x"), ("random",), ("stats",), ("check",), ("path", "x")],
)
@pytest.mark.parametrize("folder", ["missing", "other"])
def test_a_folder_that_is_no_cache(
    arguments: tuple[str, ...], folder: str, own_folder: Path, reverie: Run
) -> None:
    """Looking at a folder that holds no cache is an error, and makes nothing."""
    (own_folder / "other").mkdir()
    (own_folder / "other" / "notes.txt").write_text("mine")
    done = reverie("cache", *arguments, "--cache", folder)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"reverie: there is no cache in '{folder}' (given with --cache)")
    assert sorted(path.name for path in own_folder.rglob("*")) == ["notes.txt", "other"]


def test_a_cache_that_lost_its_index(filled: Path, reverie: Run) -> None:
    """Images without an index are named as what they are, and nothing is made."""
    for path in (filled / "metadata").iterdir():
        path.unlink()
    done = reverie("cache", "list")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "has no index" in done.stderr
    assert list((filled / "metadata").iterdir()) == []


def test_a_corrupt_index_is_one_line_that_names_file_and_way_out(filled: Path, reverie: Run) -> None:
    """The message holds the file, the place in it, and the command that repairs it."""
    index = filled / "metadata" / "cache_index.json"
    index.write_bytes(b'{"version": "1.0", "entries": [{"cache_id"')
    done = reverie("cache", "list")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert str(index) in done.stderr
    assert "line 1" in done.stderr
    assert "reverie cache check --fix" in done.stderr


# ------------------------------------------------------------------------------------ list


def test_list_shows_prompts_as_they_are(filled: Path, reverie: Run) -> None:
    """Markup in a prompt is text, a long prompt is cut with an ellipsis, a pin is shown."""
    first, second, third = reverie("cache", "list").stdout.splitlines()[1:4]
    assert first.startswith("cache_00001  20")
    assert "  [red]an ethereal angel" in first
    assert first.endswith("…")
    assert second.split()[-2:] == ["pinned", "夜の夢"]
    assert third.startswith("cache_00003")


def test_list_without_pins_has_no_column_for_them(filled: Path, reverie: Run) -> None:
    """The pin column appears when something is pinned."""
    assert reverie("cache", "list").stdout.split("\n")[0].split() == ["id", "added", "size", "pin", "prompt"]
    reverie("cache", "unpin", "cache_00002")
    assert reverie("cache", "list").stdout.split("\n")[0].split() == ["id", "added", "size", "prompt"]


def test_list_json_has_the_documented_keys(filled: Path, reverie: Run) -> None:
    """One JSON document a line, oldest first, without the embedding's numbers."""
    lines = documents(reverie("cache", "list", "--json").stdout)
    assert [line["cache_id"] for line in lines] == ["cache_00001", "cache_00002", "cache_00003"]
    assert list(lines[0]) == [
        "cache_id",
        "image_path",
        "prompt",
        "generation_params",
        "timestamp",
        "encoder",
        "pinned",
        "last_used",
        "content_hash",
        "byte_size",
        "parents",
    ]
    assert lines[0]["prompt"] == LONG_PROMPT
    assert [line["pinned"] for line in lines] == [False, True, False]


def test_list_limit_takes_the_newest(filled: Path, reverie: Run) -> None:
    """--limit keeps the newest, still oldest first, and says of how many."""
    done = reverie("cache", "list", "--limit", "2")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["cache_00002", "cache_00003"]
    assert done.stdout.endswith("the newest 2 of 3 entries in ./cache\n")
    assert len(documents(reverie("cache", "list", "--limit", "2", "--json").stdout)) == 2


def test_an_empty_cache(own_folder: Path, reverie: Run) -> None:
    """An empty cache lists as a sentence and as no JSON at all; a draw from it is an error."""
    CacheManager("cache").close()
    with CacheManager("cache") as cache:
        cache.add(np.zeros((2, 2, 3), dtype=np.uint8))
        cache.clear()
    assert reverie("cache", "list").stdout == "0 entries in ./cache\n"
    assert reverie("cache", "list", "--json").stdout == ""
    assert reverie("cache", "random").stderr == "reverie: the cache is empty: there is nothing to draw from\n"
    figures = json.loads(reverie("cache", "stats", "--json").stdout)
    assert (figures["entries"], figures["oldest"], figures["encoders"]) == (0, None, [])
    assert reverie("cache", "stats").exit_code == 0


def test_a_prompt_cannot_steer_the_terminal(own_folder: Path, reverie: Run) -> None:
    """Escape codes and line breaks in a prompt are shown as harmless signs; JSON keeps them."""
    evil = "a\x1b[2Jb\nc\u202ed"
    with CacheManager("cache") as cache:
        cache.add(np.zeros((2, 2, 3), dtype=np.uint8), evil)
    for command in (("list",), ("show", "cache_00001")):
        text = reverie("cache", *command).stdout
        assert "a\N{REPLACEMENT CHARACTER}[2Jb c\N{REPLACEMENT CHARACTER}d" in text
        assert "\x1b" not in text
    assert documents(reverie("cache", "list", "--json").stdout)[0]["prompt"] == evil


# ------------------------------------------------------------------------------------ show, path, random


def test_show_tells_all_about_an_entry(filled: Path, reverie: Run) -> None:
    """The whole prompt over several lines, every parameter, the encoder; nothing is cut."""
    text = reverie("cache", "show", "cache_00001").stdout
    assert "".join(LONG_PROMPT.split()) in "".join(text.split())
    assert "parameters  denoise = 0.4\n            note = [b]x[/b]\n" in text
    assert "embedding   512 numbers, encoder descriptor-v1\n" in text
    assert "image       cache/images/cache_00001.png\n" in text
    assert "embedding   none\n" in reverie("cache", "show", "cache_00003").stdout


def test_show_says_when_the_image_is_missing(filled: Path, reverie: Run) -> None:
    """A vanished file does not hide what is known of it."""
    (filled / "images" / "cache_00001.png").unlink()
    assert "cache_00001.png (the file is missing)" in reverie("cache", "show", "cache_00001").stdout


def test_show_json_is_the_specification_record(filled: Path, reverie: Run) -> None:
    """One document with the specification's six keys first, embedding numbers included."""
    (entry,) = documents(reverie("cache", "show", "cache_00002", "--json").stdout)
    assert list(entry)[:6] == [
        "cache_id",
        "image_path",
        "prompt",
        "generation_params",
        "embedding",
        "timestamp",
    ]
    assert entry["prompt"] == "夜の夢"
    assert len(entry["embedding"]) == 512
    with CacheManager("cache") as cache:
        found = cache.get("cache_00002")
    assert found is not None
    assert entry["embedding"] == found.to_dict()["embedding"]


@pytest.mark.parametrize("command", ["show", "path", "pin", "unpin", "remove"])
def test_an_unknown_id_is_named(command: str, filled: Path, reverie: Run) -> None:
    """One line with the id, exit code 1."""
    done = reverie("cache", command, "cache_00009")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "reverie: not in this cache: cache_00009. Nothing was changed\n"


def test_random_is_the_library_draw(filled: Path, reverie: Run) -> None:
    """The same seed draws what CacheManager draws, and it does not count as a use."""
    with CacheManager("cache", seed=7) as cache:
        drawn = cache.get_random()
    assert drawn is not None
    first = json.loads(reverie("cache", "random", "--seed", "7", "--json").stdout)
    second = json.loads(reverie("cache", "random", "--seed", "7", "--json").stdout)
    assert first == second
    assert first["cache_id"] == drawn.cache_id


def test_path_of_an_image(filled: Path, reverie: Run) -> None:
    """The absolute path of an entry's image, and nothing else."""
    done = reverie("cache", "path", "cache_00002")
    assert (done.stdout, done.stderr) == (f"{filled / 'images' / 'cache_00002.png'}\n", "")


def test_path_prefers_the_option(filled: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--cache goes before the environment, which goes before ./cache, which goes before the user's own."""
    monkeypatch.setenv("REVERIE_CACHE", "from-env")
    done = reverie("cache", "path", "--cache", "given")
    assert done.stdout == f"{Path('given').absolute()}\n"
    assert done.stderr == "(given with --cache; nothing is there yet)\n"
    done = reverie("cache", "path")
    assert done.stdout == f"{Path('from-env').absolute()}\n"
    assert "REVERIE_CACHE" in done.stderr
    monkeypatch.setenv("REVERIE_CACHE", "")
    done = reverie("cache", "path")
    assert (done.stdout, done.stderr) == (f"{filled}\n", "(there is a cache in this folder)\n")


def test_path_without_any_cache_here(own_folder: Path, reverie: Run) -> None:
    """An unrelated ./cache is not taken for ours: the user's own folder is next, and is not made."""
    (own_folder / "cache").mkdir()
    own = Path(user_data_dir("reverie", appauthor=False)) / "cache"
    done = reverie("cache", "path")
    assert done.exit_code == 0
    assert done.stdout == f"{own}\n"
    assert "the user's own" in done.stderr
    assert not own.exists()


# ------------------------------------------------------------------------------------ similar, stats


def test_similar_to_an_image(filled: Path, png: Callable[..., Path], reverie: Run) -> None:
    """An image of the cache finds itself first, with the specification's words."""
    image = png("query.png", 1)
    first, second = documents(reverie("cache", "similar", image, "--json").stdout)
    assert list(first) == ["cache_id", "similarity", "band", "percentile", "image_path", "prompt"]
    assert (first["cache_id"], first["band"]) == ("cache_00002", "nearly identical")
    assert first["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert second["cache_id"] == "cache_00001"
    assert reverie("cache", "similar", image).stdout.splitlines()[1].split()[:2] == ["cache_00002", "1.000"]


def test_similar_to_an_entry_leaves_it_out(filled: Path, reverie: Run) -> None:
    """An entry is not listed as similar to itself; -k counts the others."""
    lines = documents(reverie("cache", "similar", "cache_00001", "-k", "1", "--json").stdout)
    assert [line["cache_id"] for line in lines] == ["cache_00002"]


def test_similar_to_an_entry_without_vector(filled: Path, reverie: Run) -> None:
    """The image of an entry that has no embedding is encoded on the way."""
    lines = documents(reverie("cache", "similar", "cache_00003", "--json").stdout)
    assert {line["cache_id"] for line in lines} == {"cache_00001", "cache_00002"}


def test_similar_threshold(filled: Path, reverie: Run) -> None:
    """Nothing above the threshold is a sentence, or no line of JSON, and no error."""
    done = reverie("cache", "similar", "cache_00001", "--threshold", "1.5")
    assert (done.exit_code, done.stdout) == (0, "nothing in this cache is that similar\n")
    assert reverie("cache", "similar", "cache_00001", "--threshold", "1.5", "--json").stdout == ""


def test_similar_to_nothing_known(filled: Path, reverie: Run) -> None:
    """A target that is neither entry nor file says so."""
    done = reverie("cache", "similar", "nope.png")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "reverie: 'nope.png' is neither an entry of this cache nor an image file\n"


def test_stats_json(filled: Path, reverie: Run) -> None:
    """Counts, bytes, index, and the variety of each encoder's vectors."""
    from reverie.diversity import mean_pairwise, vendi

    figures = json.loads(reverie("cache", "stats", "--json").stdout)
    assert list(figures) == [
        "cache",
        "entries",
        "pinned",
        "bytes",
        "index",
        "index_path",
        "vectors",
        "oldest",
        "newest",
        "without_embedding",
        "encoders",
    ]
    with CacheManager("cache") as cache:
        matrix = cache.embeddings().matrix
        assert (figures["entries"], figures["pinned"]) == (3, 1)
        assert (figures["bytes"], figures["index"]) == (cache.total_bytes(), "json")
        assert [figures["oldest"], figures["newest"]] == [cache.get_all()[i].timestamp for i in (0, 2)]
    assert figures["without_embedding"] == 1
    (encoder,) = figures["encoders"]
    assert (encoder["name"], encoder["entries"], encoder["dimensions"]) == ("descriptor-v1", 2, 512)
    assert encoder["mean_pairwise"] == pytest.approx(mean_pairwise(matrix))
    assert encoder["effective_images"] == pytest.approx(vendi(matrix))
    assert (encoder["search"], encoder["recall"]) == ("exact", 1.0)
    assert encoder["search_reason"] == "2 vectors: approximate search begins above 100,000"


def test_stats_for_people(filled: Path, reverie: Run) -> None:
    """Each figure has its label; effective images stand beside the most there can be."""
    lines = dict(line.split(None, 1) for line in reverie("cache", "stats").stdout.splitlines() if line)
    assert lines["entries"] == "3, 1 pinned"
    assert lines["index"] == "json, cache/metadata/cache_index.json"
    assert lines["numbers"] == "float32, 4 bytes each"
    assert lines["encoder"] == "descriptor-v1, 512 numbers"
    assert lines["effective"].endswith("images, of 2 at most")
    assert lines["search"].startswith("exact (2 vectors")


def test_stats_measure_an_approximate_search(
    filled: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What share of the true answer it finds stands beside it, and why it is in use."""
    from reverie.search.automatic import AutomaticSearch
    from reverie.search.ivf import IvfSearch

    monkeypatch.setattr("reverie.search.automatic._ABOVE", 1)
    made = AutomaticSearch.__init__
    monkeypatch.setattr(AutomaticSearch, "__init__", lambda self, **options: made(self, above=1, **options))
    monkeypatch.setattr(IvfSearch, "prepare", lambda *_: True)
    (encoder,) = json.loads(reverie("cache", "stats", "--json").stdout)["encoders"]
    assert (encoder["search"], encoder["recall"]) == ("ivf", 1.0)
    assert encoder["search_reason"] == "2 vectors: more than 1"
    assert "ivf, finds 100.0% of the true five (2 vectors: more than 1)" in " ".join(
        reverie("cache", "stats").stdout.split()
    )


def test_stats_keeps_encoders_apart(own_folder: Path, unit: Callable[..., Any], reverie: Run) -> None:
    """Two encoders in one cache are two sets of figures; one vector alone has no variety to tell."""
    with CacheManager("cache") as cache:
        cache.add(np.zeros((2, 2, 3), dtype=np.uint8), embedding=unit(1, 8)[0], encoder="one")
        cache.add(np.ones((2, 2, 3), dtype=np.uint8), embedding=unit(1, 4)[0], encoder="two")
    spaces = json.loads(reverie("cache", "stats", "--json").stdout)["encoders"]
    assert [(space["name"], space["dimensions"]) for space in spaces] == [("one", 8), ("two", 4)]
    assert [space["effective_images"] for space in spaces] == [None, None]
    assert "effective" not in reverie("cache", "stats").stdout


def test_parts_lists_every_kind(reverie: Run) -> None:
    """Every registered name with one sentence; what is not installed says what it needs."""
    from reverie import registry

    lines = documents(reverie("parts", "--json").stdout)
    assert [(line["kind"], line["name"]) for line in lines] == [
        (kind, name) for kind in registry.kinds() for name in registry.names(kind)
    ]
    assert [list(line) for line in lines] == [["kind", "name", "usable", "about"]] * len(lines)
    usable = {line["name"]: line["usable"] for line in lines}
    assert usable["descriptor"]
    table = reverie("parts").stdout
    assert widest(table) <= 80
    assert "Evict the oldest timestamp" in table


def test_a_real_process_lists_the_cache(filled: Path) -> None:
    """The installed command, end to end: 80 columns by default, no terminal codes."""
    done = process("cache", "list", COLUMNS="")
    assert (done.returncode, done.stderr) == (0, "")
    assert widest(done.stdout) <= 80
    assert done.stdout.count("cache_0000") == 3
