"""`reverie cache reindex`: what it does, says and gives to machines, and how it is interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Run

from reverie import AestheticMatcher, CacheManager
from reverie.cli.place import Place
from reverie.cli.reindexing import summary
from reverie.reindex import ReindexReport
from reverie.testing.samples import picture, vector


@pytest.fixture
def many(own_folder: Path) -> Path:
    """``./cache`` with 70 entries of another encoder: two batches."""
    with CacheManager("cache", max_size=None, index="sqlite") as cache:
        for seed in range(70):
            cache.add(picture(seed), embedding=vector(seed, 8, "old"))
    return own_folder / "cache"


def encoders() -> list[str | None]:
    """Who made the vectors, oldest entry first."""
    with CacheManager("cache", max_size=None) as cache:
        return [entry.encoder for entry in cache.get_all()]


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C when so many batches are encoded."""
    encode, calls = AestheticMatcher.encode_images, []

    def interrupted(self: AestheticMatcher, images: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return encode(self, images)

    monkeypatch.setattr(AestheticMatcher, "encode_images", interrupted)


def test_reindex_encodes_what_another_encoder_made(many: Path, reverie: Run) -> None:
    """All entries get vectors of the encoder; the summary stands on standard output, progress beside it."""
    done = reverie("cache", "reindex", "--encoder", "descriptor")
    assert done.exit_code == 0
    assert done.stdout == "descriptor-v1: 70 encoded of 70 entries in ./cache\n"
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == ["64 of 70", "70 of 70"]
    assert "a second" in lines[0]
    assert "left" in lines[0]
    assert encoders() == ["descriptor-v1"] * 70
    again = reverie("cache", "reindex", "--encoder", "descriptor")
    assert again.stdout == "descriptor-v1: 0 encoded, 70 already done of 70 entries in ./cache\n"
    assert again.stderr == "70 of 70 already done\n"


def test_interrupted_it_says_how_to_go_on(many: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C keeps what is done, exit code 130; the same command begins with what was done before."""
    with monkeypatch.context() as patch:
        interrupt(patch, after=1)
        stopped = reverie("cache", "reindex", "--encoder", "descriptor")
    assert stopped.exit_code == 130
    assert stopped.stdout == "descriptor-v1: 64 encoded, 6 left of 70 entries in ./cache\n"
    assert stopped.stderr.splitlines()[-1] == (
        "interrupted; what is done is kept, and the same command goes on from there"
    )
    assert encoders() == ["descriptor-v1"] * 64 + ["old"] * 6
    resumed = reverie("cache", "reindex", "--encoder", "descriptor")
    assert resumed.exit_code == 0
    assert resumed.stderr.splitlines()[0] == "64 of 70 already done"
    assert resumed.stdout == "descriptor-v1: 6 encoded, 64 already done of 70 entries in ./cache\n"


def test_reindex_json(filled: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One document, also when it was interrupted."""
    with monkeypatch.context() as patch:
        interrupt(patch, after=0)
        stopped = reverie("cache", "reindex", "--encoder", "descriptor", "--json")
    done = reverie("cache", "reindex", "--encoder", "descriptor", "--json")
    documents = [json.loads(run.stdout) for run in (stopped, done)]
    assert (stopped.exit_code, done.exit_code) == (130, 0)
    assert [document.pop("seconds") >= 0 for document in documents] == [True, True]
    common = {
        "folder": "cache",
        "encoder": "descriptor-v1",
        "total": 3,
        "already": 2,
        "gone": 0,
        "failed": [],
    }
    assert documents == [
        {**common, "encoded": 0, "left": 1, "finished": False},
        {**common, "encoded": 1, "left": 0, "finished": True},
    ]


def test_images_that_cannot_be_used_are_listed(filled: Path, reverie: Run) -> None:
    """Each on a line of standard error with its id, exit code 1; JSON lists them too."""
    (filled / "images" / "cache_00003.png").write_bytes(b"no image")
    done = reverie("cache", "reindex", "--encoder", "descriptor")
    assert done.exit_code == 1
    assert done.stdout == "descriptor-v1: 0 encoded, 2 already done, 1 not of 3 entries in ./cache\n"
    assert done.stderr.splitlines()[-1].startswith("reverie: cache_00003: '")
    told = reverie("cache", "reindex", "--encoder", "descriptor", "--json")
    (failed,) = json.loads(told.stdout)["failed"]
    assert told.exit_code == 1
    assert failed["cache_id"] == "cache_00003"
    assert "not an image" in failed["error"]


def test_only_missing(many: Path, reverie: Run) -> None:
    """Vectors of other encoders stay."""
    with CacheManager("cache", max_size=None) as cache:
        cache.add(picture(99))
    done = reverie("cache", "reindex", "--encoder", "descriptor", "--only-missing")
    assert done.stdout == "descriptor-v1: 1 encoded, 70 already done of 71 entries in ./cache\n"
    assert encoders() == ["old"] * 70 + ["descriptor-v1"]


def test_options_go_to_the_encoder(
    filled: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--threads and --model-dir, each only when it was given."""
    given: list[dict[str, Any]] = []

    class Matcher(AestheticMatcher):
        def __init__(self, encoder: str, **options: Any) -> None:
            given.append(options)
            super().__init__(encoder)

    monkeypatch.setattr("reverie.cli.reindexing.AestheticMatcher", Matcher)
    reverie("cache", "reindex", "--encoder", "descriptor")
    reverie("cache", "reindex", "--encoder", "descriptor", "--threads", 2, "--model-dir", tmp_path)
    assert given == [{}, {"threads": 2, "model_dir": str(tmp_path)}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--encoder"),
        (["--encoder", "nobody"], 1, "no encoder is called 'nobody'"),
        (["--encoder", "descriptor", "--cache", "elsewhere"], 1, "no cache in"),
        (["--encoder", "descriptor", "--threads", "0"], 2, "--threads"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    filled: Path, reverie: Run, arguments: list[str], code: int, said: str
) -> None:
    """No encoder, no cache, wrong usage; nothing was changed."""
    done = reverie("cache", "reindex", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert encoders() == ["descriptor-v1", "descriptor-v1", None]


def test_progress_in_a_terminal(many: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with a bar that fits 80 columns, what was done before above it."""
    with CacheManager("cache", max_size=None) as cache:
        cache.set_embeddings({"cache_00001": AestheticMatcher("descriptor").encode_image(picture(0))})
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    # rich keeps a style's codes for whoever draws next: the ones that a test of `dream` asks for.
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    done = reverie("cache", "reindex", "--encoder", "descriptor")
    assert done.stdout == "descriptor-v1: 69 encoded, 1 already done of 70 entries in ./cache\n"
    assert "1 of 70 already done" in done.stderr
    assert "70 of 70" in done.stderr
    assert "a second" in done.stderr
    assert "\x1b" in done.stderr


def test_the_summary_names_what_is_not_zero(own_folder: Path) -> None:
    """Gone and left are said too."""
    report = ReindexReport("clip-vit-b32", 1000, 412, 500, 2, {"cache_00007": "gone"})
    text = summary(report, Place(own_folder / "cache", ""))
    assert text == (
        "clip-vit-b32: 500 encoded, 412 already done, 1 not, 2 removed meanwhile, 85 left of 1,000 entries "
        "in ./cache"
    )
