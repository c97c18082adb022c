"""`reverie cache`: the commands that change a cache, or repair it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Run, widest

import picture_files
from reverie import CacheManager

Png = Callable[..., Path]


def ids(folder: str = "cache") -> list[str]:
    """What is in a cache."""
    with CacheManager(folder, max_size=None) as cache:
        return cache.ids()


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON document of every line."""
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------------------------ add


def test_add_stores_image_prompt_params_and_vector(own_folder: Path, png: Png, reverie: Run) -> None:
    """All that is given is stored, byte for byte, with a stamped unit vector."""
    image = png("work/sun.png")
    done = reverie(
        *["cache", "add", image, "--cache", "mine", "--prompt", "夜", "--params", '{"steps": 4}', "--pin"]
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"cache_00001  {image}\n1 added: 1 entry in ./mine\n"
    with CacheManager("mine") as cache:
        (entry,) = cache.get_all()
        assert cache.index_kind == "json"
    assert (entry.prompt, entry.generation_params, entry.pinned) == ("夜", {"steps": 4}, True)
    assert entry.encoder == "descriptor-v1"
    assert entry.image_path.read_bytes() == image.read_bytes()


def test_add_beside_pictures_without_an_index(filled: Path, png: Png, reverie: Run) -> None:
    """The index was deleted: a note says so and what to do; a repair makes entries of the pictures."""
    (filled / "metadata" / "cache_index.json").unlink()
    done = reverie("cache", "add", png(), "--cache", "cache", "--encoder", "none")
    assert (done.exit_code, done.stderr.count("\n")) == (0, 1)
    assert "holds 3 pictures but no index" in done.stderr
    assert ids() == ["cache_00004"]
    assert "take it over as an entry" in reverie("cache", "check", "--fix").stdout
    assert sorted(ids()) == [f"cache_0000{number}" for number in (1, 2, 3, 4)]


def test_add_without_encoder(own_folder: Path, png: Png, reverie: Run) -> None:
    """--encoder none stores the image alone."""
    assert reverie("cache", "add", png(), "--cache", "mine", "--encoder", "none").exit_code == 0
    with CacheManager("mine") as cache:
        assert cache.get_all()[0].embedding is None


def test_add_goes_on_past_bad_images(own_folder: Path, png: Png, reverie: Run) -> None:
    """A bad image and a missing one are each named on standard error, the others are added, exit code 1."""
    (own_folder / "bad.png").write_text("no image")
    first, last = png("a.png", 1), png("b.png", 2)
    done = reverie("cache", "add", first, "bad.png", "nope.png", own_folder, last, "--cache", "mine")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "2 added, 3 not: 2 entries in ./mine"
    errors = done.stderr.splitlines()
    assert [line.startswith("reverie: ") for line in errors] == [True] * 3
    assert ["bad.png" in errors[0], "nope.png" in errors[1], "folder" in errors[2]] == [True] * 3


def test_add_json(own_folder: Path, png: Png, reverie: Run) -> None:
    """One line an image: id or error, and what was evicted."""
    good = str(png("a.png", 1))
    done = reverie("cache", "add", good, "nope.png", good, "--cache", "mine", "--max-size", "1", "--json")
    first, second, third = documents(done.stdout)
    assert done.exit_code == 1
    assert first == {
        "image": good,
        "cache_id": "cache_00001",
        "error": None,
        "prompt": "",
        "metadata": None,
        "evicted": [],
    }
    assert (second["image"], second["cache_id"], second["evicted"]) == ("nope.png", None, [])
    assert "nope.png" in second["error"]
    assert third == {**first, "cache_id": "cache_00002", "evicted": ["cache_00001"]}


def test_add_says_what_a_file_says(own_folder: Path, reverie: Run) -> None:
    """Which program's prompt and parameters were taken; not where parameters are given."""
    Path("a.png").write_bytes(picture_files.png({"parameters": picture_files.INFOTEXT}))
    done = reverie("cache", "add", "a.png", "--cache", "mine")
    assert done.stdout.splitlines()[0] == "cache_00001  a.png  (AUTOMATIC1111 says how it was made)"
    (document,) = documents(reverie("cache", "add", "a.png", "--cache", "mine", "--json").stdout)
    assert document["metadata"] == "AUTOMATIC1111"
    assert document["prompt"].startswith(picture_files.PROMPT)
    given = ("--prompt", "x", "--params", '{"metadata": {"source": "me"}}')
    (document,) = documents(reverie("cache", "add", "a.png", *given, "--cache", "mine", "--json").stdout)
    assert (document["prompt"], document["metadata"]) == ("x", None)


def test_add_reads_names_from_standard_input(own_folder: Path, png: Png, reverie: Run) -> None:
    """- stands for the lines of standard input, blank lines passed over, in its place among the others."""
    one, two, three = (png(f"{n}.png", n) for n in range(3))
    done = reverie("cache", "add", one, "-", "--cache", "mine", input=f"{two}\n\n{three}\n")
    assert [line.split("  ")[1] for line in done.stdout.splitlines()[:3]] == [str(one), str(two), str(three)]


def test_add_with_nothing_on_standard_input(own_folder: Path, reverie: Run) -> None:
    """No names at all is an error, and no cache is made."""
    done = reverie("cache", "add", "-", "--cache", "mine", input="\n")
    assert (done.exit_code, done.stderr) == (1, "reverie: no images were named on standard input\n")
    assert not (own_folder / "mine").exists()


def test_add_evicts_nothing_by_itself(own_folder: Path, png: Png, reverie: Run) -> None:
    """Without --max-size every image stays, past the specification's 75 too; the index stays its JSON."""
    images = [png("same.png")] * 77
    done = reverie("cache", "add", *images, "--cache", "mine", "--encoder", "none")
    assert done.stdout.splitlines()[-1] == "77 added: 77 entries in ./mine"
    assert (own_folder / "mine" / "metadata" / "cache_index.json").exists()


def test_add_max_size(own_folder: Path, png: Png, reverie: Run) -> None:
    """--max-size evicts down to that many, the oldest use first, never a pin, and says how many went."""
    for n in range(4):
        reverie("cache", "add", png(f"{n}.png", n), "--cache", "mine", *(["--pin"] if n == 0 else []))
    done = reverie("cache", "add", png("9.png", 9), "--cache", "mine", "--max-size", "2")
    assert done.stdout.splitlines()[-1] == "1 added, 3 evicted: 2 entries in ./mine"
    assert ids("mine") == ["cache_00001", "cache_00005"]


def test_a_failed_add_evicts_nothing(own_folder: Path, png: Png, reverie: Run) -> None:
    """When no image could be added, the limit took nothing either."""
    reverie("cache", "add", png("1.png", 1), png("2.png", 2), "--cache", "mine")
    assert reverie("cache", "add", "nope.png", "--cache", "mine", "--max-size", "1").exit_code == 1
    assert ids("mine") == ["cache_00001", "cache_00002"]


@pytest.mark.parametrize(
    "options",
    [
        ("--params", "[1]"),
        ("--params", "{"),
        ("--params", '{"a": NaN}'),
        ("--max-size", "0"),
        ("--max-size", "many"),
        ("--params", '{"a": ' + "[" * 100_000),
        ("--max-size", "1" * 5000),
    ],
)
def test_add_wrong_usage(options: tuple[str, str], own_folder: Path, png: Png, reverie: Run) -> None:
    """A wrong value of an option is wrong usage: exit code 2, one line that names the option."""
    done = reverie("cache", "add", png(), "--cache", "mine", *options)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert options[0] in done.stderr
    assert not (own_folder / "mine").exists()


@pytest.mark.parametrize("name", ["clip", "nope"])
def test_add_with_an_encoder_that_is_not_there(name: str, own_folder: Path, png: Png, reverie: Run) -> None:
    """The error names what there is or what to install; no cache is made."""
    done = reverie("cache", "add", png(), "--cache", "mine", "--encoder", name)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "descriptor" in done.stderr
    assert not (own_folder / "mine").exists()


# ------------------------------------------------------------------------------------ pin, remove, clear


def test_pin_and_unpin(filled: Path, reverie: Run) -> None:
    """Several ids at once; - reads them from standard input."""
    assert (
        reverie("cache", "pin", "cache_00001", "cache_00003").stdout
        == "pinned cache_00001\npinned cache_00003\n"
    )
    done = reverie("cache", "unpin", "-", input="cache_00001\ncache_00002\n")
    assert done.stdout == "unpinned cache_00001\nunpinned cache_00002\n"
    with CacheManager("cache") as cache:
        assert [entry.pinned for entry in cache] == [False, False, True]


@pytest.mark.parametrize("command", ["pin", "remove"])
def test_one_unknown_id_changes_nothing(command: str, filled: Path, reverie: Run) -> None:
    """All or nothing: the unknown ids are all named and no other entry is touched."""
    done = reverie("cache", command, "cache_00001", "x", "cache_00003", "y")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "reverie: not in this cache: x, y. Nothing was changed\n"
    with CacheManager("cache") as cache:
        assert [entry.pinned for entry in cache] == [False, True, False]


def test_remove_in_a_script_does_not_ask(filled: Path, reverie: Run) -> None:
    """Without a terminal the ids are removed, with their images; a repeated id counts once."""
    done = reverie("cache", "remove", "cache_00001", "cache_00002", "cache_00001")
    assert done.stdout == "removed cache_00001\nremoved cache_00002\n"
    assert ids() == ["cache_00003"]
    assert [path.name for path in (filled / "images").iterdir()] == ["cache_00003.png"]


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who can be asked."""
    monkeypatch.setattr("reverie.cli.output.is_interactive", lambda: True)


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("command", [("remove", "cache_00001"), ("clear",)])
@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("", 130)])
def test_saying_no_keeps_everything(
    command: tuple[str, ...], answer: str, code: int, filled: Path, reverie: Run
) -> None:
    """No, and Ctrl-C or Ctrl-D at the question, remove nothing."""
    done = reverie("cache", *command, input=answer)
    assert done.exit_code == code
    assert len(ids()) == 3
    if answer:
        assert done.stderr.endswith("reverie: nothing was removed\n")


@pytest.mark.usefixtures("person")
def test_saying_yes(filled: Path, reverie: Run) -> None:
    """Yes removes; --yes is not asked."""
    done = reverie("cache", "remove", "cache_00001", "cache_00002", input="y\n")
    assert "Remove 2 entries and the images?" in done.stderr
    assert ids() == ["cache_00003"]
    assert reverie("cache", "remove", "cache_00003", "--yes").stdout == "removed cache_00003\n"


def test_clear_needs_a_yes(filled: Path, reverie: Run) -> None:
    """Where nobody can be asked, --yes is needed: without it wrong usage, nothing removed."""
    done = reverie("cache", "clear")
    assert done.exit_code == 2
    assert done.stderr == "reverie: nobody can be asked here: say --yes (see: reverie cache clear --help)\n"
    assert len(ids()) == 3


def test_clear(filled: Path, reverie: Run) -> None:
    """Everything goes, or everything but the pins."""
    done = reverie("cache", "clear", "--yes", "--keep-pinned")
    assert done.stdout == "removed 2 entries from ./cache\n"
    assert ids() == ["cache_00002"]
    assert reverie("cache", "clear", "--yes").stdout == "removed 1 entry from ./cache\n"
    assert ids() == []


# ------------------------------------------------------------------------------------ check, convert


def test_check_of_a_sound_cache(filled: Path, reverie: Run) -> None:
    """Exit code 0 and one sentence, or a document that says ok."""
    done = reverie("cache", "check")
    assert (done.exit_code, done.stdout) == (0, "./cache is sound: 3 entries, index and files agree\n")
    assert json.loads(reverie("cache", "check", "--json").stdout) == {
        "folder": str(filled),
        "entries": 3,
        "ok": True,
        "fixed": False,
        "problems": [],
        "remaining": [],
    }


def test_check_then_fix_then_check(filled: Path, reverie: Run) -> None:
    """Problems: 3 and what a repair would do. After --fix: 0, and 0 again."""
    (filled / "images" / "cache_00001.png").write_text("broken")
    (filled / "images" / "cache_00002.png").unlink()
    (filled / "images" / "stray.txt").write_text("stray")
    done = reverie("cache", "check")
    assert done.exit_code == 3
    assert widest(done.stdout) <= 80
    assert done.stdout.splitlines()[-1] == (
        "3 problems in ./cache (3 entries); repair with: reverie cache check --fix"
    )
    assert done.stdout.count("--fix would") == 3
    fixed = reverie("cache", "check", "--fix")
    assert fixed.exit_code == 0
    assert fixed.stdout.splitlines()[-1] == "3 problems in ./cache (3 entries), none left"
    assert fixed.stdout.count("  done ") == 3
    assert reverie("cache", "check").exit_code == 0
    assert {path.name for path in (filled / "lost+found").iterdir()} == {"cache_00001.png", "stray.txt"}


def test_check_json_of_problems(filled: Path, reverie: Run) -> None:
    """Each problem with kind, subject, message, action; after a repair, what is left."""
    (filled / "images" / "cache_00002.png").unlink()
    done = reverie("cache", "check", "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["ok"], document["fixed"]) == (3, False, False)
    (problem,) = document["problems"]
    assert list(problem) == ["kind", "subject", "message", "action"]
    assert (problem["kind"], problem["subject"]) == ("missing image", "cache_00002")
    assert document["remaining"] == document["problems"]
    after = json.loads(reverie("cache", "check", "--fix", "--json").stdout)
    assert (after["ok"], after["fixed"], after["remaining"]) == (True, True, [])
    assert after["problems"] == document["problems"]


def test_what_a_repair_leaves_is_still_3(filled: Path, png: Png, reverie: Run) -> None:
    """A picture that somebody edited is a person's decision: --fix leaves it and says so with 3."""
    (filled / "images" / "cache_00001.png").write_bytes(png("other.png", 9).read_bytes())
    done = reverie("cache", "check", "--fix")
    assert done.exit_code == 3
    assert done.stdout.splitlines()[-1] == (
        "1 problem in ./cache (3 entries), 1 left, to be looked at by you"
    )
    assert reverie("cache", "check").stdout.splitlines()[-1] == "1 problem in ./cache (3 entries)"


def test_a_repair_of_some_problems_names_the_rest(filled: Path, png: Png, reverie: Run) -> None:
    """One problem repaired, one left to a person: 3, and only the first one is called done."""
    (filled / "images" / "cache_00001.png").write_bytes(png("other.png", 9).read_bytes())
    (filled / "images" / "cache_00002.png").unlink()
    document = json.loads(reverie("cache", "check", "--json").stdout)
    assert len(document["problems"]) == 2
    done = reverie("cache", "check", "--fix")
    assert done.exit_code == 3
    assert done.stdout.count("  done ") == 1
    assert done.stdout.splitlines()[-1] == (
        "2 problems in ./cache (3 entries), 1 left, to be looked at by you"
    )


def test_check_repairs_a_cache_that_does_not_open(filled: Path, reverie: Run) -> None:
    """A torn index: 3; --fix keeps it aside and takes over the images; then everything works again."""
    index = filled / "metadata" / "cache_index.json"
    index.write_bytes(index.read_bytes()[:300])
    assert reverie("cache", "check").exit_code == 3
    assert reverie("cache", "check", "--fix").exit_code == 0
    assert reverie("cache", "check").exit_code == 0
    assert ids() == ["cache_00001", "cache_00002", "cache_00003"]
    assert any(path.name.startswith("cache_index.json.damaged-") for path in index.parent.iterdir())


def test_convert_there_and_back(filled: Path, reverie: Run) -> None:
    """Both ways, nothing lost; a second time says that there was nothing to do."""
    before = reverie("cache", "list", "--json").stdout
    assert (
        reverie("cache", "convert", "--to", "sqlite").stdout
        == "the index of ./cache is now sqlite (3 entries)\n"
    )
    assert reverie("cache", "list", "--json").stdout == before
    done = reverie("cache", "convert", "--to", "sqlite")
    assert (done.exit_code, done.stdout) == (0, "the index of ./cache was already sqlite (3 entries)\n")
    assert reverie("cache", "convert", "--to", "json").exit_code == 0
    assert reverie("cache", "list", "--json").stdout == before


def test_convert_to_float16_and_back(filled: Path, reverie: Run) -> None:
    """With the kind of index or alone; it says what there is now, and a copy stays beside the database."""
    assert (
        reverie("cache", "convert", "--to", "sqlite", "--vectors", "float16").stdout
        == "the index of ./cache is now sqlite with vectors as float16 (3 entries)\n"
    )
    assert reverie("cache", "convert", "--vectors", "float16").stdout == (
        "the index of ./cache was already sqlite with vectors as float16 (3 entries)\n"
    )
    lines = dict(line.split(None, 1) for line in reverie("cache", "stats").stdout.splitlines() if line)
    assert lines["numbers"] == "float16, 2 bytes each"
    assert json.loads(reverie("cache", "stats", "--json").stdout)["vectors"] == "float16"
    for vectors in ("float32", "float16"):
        done = reverie("cache", "convert", "--vectors", vectors)
        assert done.stdout == f"the index of ./cache is now sqlite with vectors as {vectors} (3 entries)\n"
    assert len(list((filled / "metadata").glob("cache_index.sqlite.float32-*"))) == 1


def test_convert_errors(filled: Path, reverie: Run) -> None:
    """An unknown form names those there are; a folder without cache is an error; something is to be said."""
    done = reverie("cache", "convert", "--vectors", "float16")
    assert done.exit_code == 1
    assert "reverie cache convert --to sqlite --vectors float16 --cache" in done.stderr
    done = reverie("cache", "convert", "--to", "xml")
    assert (done.exit_code, done.stderr) == (
        1,
        "reverie: no index is called 'xml'; there are: json, sqlite\n",
    )
    assert reverie("cache", "convert", "--to", "json", "--cache", "nope").exit_code == 1
    assert not Path("nope").exists()
    assert reverie("cache", "convert").exit_code == 2
