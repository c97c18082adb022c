"""Downloads from a Hub: which requests are made, what is left when one fails, how it goes on."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from hub_server import Fault, Hub, git_id, sha256, start
from reverie.errors import DownloadError, InputError, ModelCorruptError, ModelNotFoundError
from reverie.models import hub as hub_module
from reverie.models import receipts, store
from reverie.models.cards import ModelCard, card_of
from reverie.models.progress import Arrived, reporting
from reverie.models.store import find, model_files, pull

VISION, TEXT, TOKENS = "onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"

WORKER = """
import dataclasses, json, sys
from reverie.errors import ReverieError
from reverie.models.cards import Source, card_of
from reverie.models.store import model_files
how = json.loads(sys.argv[1])
source = Source(how["repo"], how["commit"], (how["file"],))
card = dataclasses.replace(card_of("clip-vit-b32"), name="tiny-clip", onnx=source)
try:
    print(model_files(card, "onnx").paths[how["file"]])
except ReverieError as exc:
    print(type(exc).__name__, exc)
"""


def worker(card: ModelCard, **environment: str):
    """A process that asks for the vision network, with the true environment variables."""
    how = {"repo": card.onnx.repo, "commit": card.onnx.revision, "file": VISION}
    return start(WORKER, json.dumps(how), **environment)


def storage(card: ModelCard) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{card.onnx.repo.replace('/', '--')}"


def partials(card: ModelCard) -> list[Path]:
    return sorted(storage(card).rglob("*.incomplete"))


def set_aside(card: ModelCard) -> list[Path]:
    return sorted(storage(card).rglob("*.damaged-*"))


def stale(path: Path) -> None:
    """Change the time of a file."""
    os.utime(path, ns=(1, 1))


# ----------------------------------------------------------------------------- what is asked


def test_only_the_vision_network_is_fetched(hub: Hub, card: ModelCard) -> None:
    """Without texts: one request for what the Hub states, one for the file, its redirect; nothing else."""
    files = model_files(card, "onnx")
    commit = card.onnx.revision
    assert [asked.path for asked in hub.asked] == [
        f"/api/models/tiny/clip-onnx/revision/{commit}",
        f"/tiny/clip-onnx/resolve/{commit}/{VISION}",
        f"/cdn/{sha256(hub.repos['tiny/clip-onnx'][commit][VISION])}",
    ]
    assert list(files.paths) == [VISION]
    assert files.weights == ""
    assert files.paths[VISION].read_bytes() == hub.repos["tiny/clip-onnx"][commit][VISION]


def test_the_files_lie_as_huggingface_hub_lays_them(hub: Hub, card: ModelCard) -> None:
    """A blob named by its digest, a relative link in the snapshot; huggingface_hub takes them as its own."""
    files = model_files(card, "onnx", text=True).paths
    blobs = storage(card) / "blobs"
    data = hub.repos["tiny/clip-onnx"][card.onnx.revision]
    assert {path.name for path in blobs.iterdir()} == {
        sha256(data[VISION]),
        sha256(data[TEXT]),
        git_id(data[TOKENS]),
    }
    assert files[VISION] == storage(card) / "snapshots" / card.onnx.revision / VISION
    assert files[VISION].readlink() == Path("../../../blobs") / sha256(data[VISION])
    asked = len(hub.asked)
    theirs = hf_hub_download("tiny/clip-onnx", TOKENS, revision=card.onnx.revision, local_files_only=True)
    assert Path(theirs).read_bytes() == data[TOKENS]
    assert len(hub.asked) == asked


def test_a_token_stays_with_the_hub(hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_TOKEN goes to the Hub, not to the host that it redirects to."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model_files(card, "onnx")
    assert [asked.token for asked in hub.asked] == ["Bearer hf_secret", "Bearer hf_secret", None]


def test_a_digest_that_the_card_learned_later_counts(hub: Hub, card: ModelCard, pinned: ModelCard) -> None:
    """A receipt written before the card had a digest does not hide that the file is another one."""
    model_files(card, "onnx")
    known = dataclasses.replace(pinned.onnx, sha256={VISION: "0" * 64})
    with pytest.raises(DownloadError, match="states another SHA-256"):
        model_files(dataclasses.replace(pinned, onnx=known), "onnx")
    assert len(set_aside(card)) == 1


def test_texts_add_only_what_texts_need(hub: Hub, card: ModelCard) -> None:
    """After a pull for pictures, one for texts fetches the text network and the tokenizer."""
    model_files(card, "onnx")
    hub.asked.clear()
    files = model_files(card, "onnx", text=True)
    assert list(files.paths) == [VISION, TEXT, TOKENS]
    assert (hub.fetched(VISION), hub.fetched(TEXT), hub.fetched(TOKENS)) == ([], [None], [None])
    assert list(model_files(card, "onnx", text=True, vision=False).paths) == [TEXT, TOKENS]


def test_a_second_use_asks_and_reads_nothing(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files as in their receipt are taken as they are: no request, no digest, no download code."""
    first = model_files(card, "onnx", text=True)
    hub.asked.clear()
    monkeypatch.setattr(store, "sha256_of", pytest.fail)
    monkeypatch.setattr(store, "_hub", pytest.fail)
    assert model_files(card, "onnx", text=True) == first
    assert hub.asked == []


def test_files_of_other_programs_are_found(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers or others brought into the cache is used without a request, and gets a receipt."""
    hf_hub_download("tiny/clip-onnx", VISION, revision=card.onnx.revision)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert model_files(card, "onnx").paths[VISION].is_file()
    assert hub.asked == []
    assert receipts.load("tiny-clip", "onnx", card.onnx).commit == card.onnx.revision


def test_damage_in_files_of_other_programs_is_found(hub: Hub, card: ModelCard) -> None:
    """A file without a receipt is compared with its name in the cache, which is its digest."""
    for name in (VISION, TOKENS):
        path = Path(hf_hub_download("tiny/clip-onnx", name, revision=card.onnx.revision))
        path.resolve().write_bytes(b"cut")
    files = model_files(card, "onnx", text=True)
    assert files.paths[TOKENS].read_bytes() == hub.repos["tiny/clip-onnx"][card.onnx.revision][TOKENS]
    assert len(set_aside(card)) == 2


def test_a_damaged_blob_of_another_commit_is_not_taken_over(hub: Hub, card: ModelCard) -> None:
    """The same file at another commit shares the blob; when that is damaged it is fetched, not linked."""
    model_files(card, "onnx").paths[VISION].resolve().write_bytes(b"cut")
    later = hub.add("tiny/clip-onnx", {"README.md": b"# more words"})
    moved = dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, revision=later))
    path = model_files(moved, "onnx").paths[VISION]
    assert path.read_bytes() == hub.repos["tiny/clip-onnx"][later][VISION]
    assert [aside.read_bytes() for aside in set_aside(card)] == [b"cut"]


def test_a_sound_blob_of_another_commit_is_linked(hub: Hub, card: ModelCard) -> None:
    """The same file at another commit is not fetched again."""
    model_files(card, "onnx")
    later = hub.add("tiny/clip-onnx", {"README.md": b"# more words"})
    moved = dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, revision=later))
    assert model_files(moved, "onnx").paths[VISION].parent.parent.name == later
    assert hub.fetched(VISION) == [None]


def test_a_branch_stays_what_it_was_at_the_first_pull(hub: Hub, card: ModelCard) -> None:
    """The commit of ``main`` is recorded; files pulled later come from it, though the branch moved on."""
    first = card.onnx.revision
    moving = dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, revision="main"))
    model_files(moving, "onnx")
    hub.add("tiny/clip-onnx", {TEXT: b"another text network", VISION: b"another vision network"})
    assert receipts.load("tiny-clip", "onnx", moving.onnx).commit == first
    files = model_files(moving, "onnx", text=True)
    assert files.paths[TEXT].read_bytes() == hub.repos["tiny/clip-onnx"][first][TEXT]
    assert (storage(card) / "refs" / "main").read_text() == first


def test_a_branch_that_others_downloaded_is_taken(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of ``main`` in the cache are found through its reference, and their commit is recorded."""
    moving = dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, revision="main"))
    hf_hub_download("tiny/clip-onnx", VISION)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert model_files(moving, "onnx").paths[VISION].is_file()
    assert receipts.load("tiny-clip", "onnx", moving.onnx).commit == card.onnx.revision


@pytest.mark.parametrize(
    ("name", "asked", "why"),
    [
        ("dinov2-base", {"text": True}, "knows no texts"),
        ("clip-vit-b32", {"vision": False}, "pictures, for texts or for both"),
        ("clip-vit-b32", {"family": "jax"}, "onnx or torch"),
    ],
)
def test_what_cannot_be_asked_for(hub: Hub, name: str, asked: dict[str, object], why: str) -> None:
    """A model without texts, nothing at all, an unknown family: said at once, without a request."""
    with pytest.raises(InputError, match=why):
        model_files(card_of(name), **{"family": "onnx", **asked})
    assert hub.asked == []


def test_torch_files_are_a_family_of_their_own(hub: Hub, card: ModelCard) -> None:
    """Texts need the same weights as pictures there: each file is fetched once."""
    names = {"model.safetensors": b"weights", "config.json": b"{}", "tokenizer.json": b"[]"}
    commit = hub.add("tiny/clip", names)
    source = dataclasses.replace(
        card.onnx,
        repo="tiny/clip",
        revision=commit,
        vision=("model.safetensors", "config.json"),
        text=tuple(names),
    )
    both = dataclasses.replace(card, torch=source)
    assert list(model_files(both, "torch", text=True).paths) == list(names)
    assert hub.fetched("model.safetensors") == [None]
    assert find(both, "onnx") == {}


# ------------------------------------------------------------------------------ interruptions


def test_a_broken_connection_asks_only_for_the_rest(hub: Hub, card: ModelCard, impatient: None) -> None:
    """The connection ends after 50,000 bytes: the next request begins there, and the file is right."""
    hub.faults = [Fault(cut=50_000), Fault(cut=25_000)]
    path = model_files(card, "onnx").paths[VISION]
    assert hub.fetched(VISION) == [None, "bytes=50000-", "bytes=70000-"]
    assert path.read_bytes() == hub.repos["tiny/clip-onnx"][card.onnx.revision][VISION]
    assert partials(card) == []


def test_a_failed_download_is_gone_on_with_later(hub: Hub, card: ModelCard, impatient: None) -> None:
    """When no try brings more, the error says that what arrived is kept; the next call asks for the rest."""
    hub.faults, hub.always = [Fault(cut=80_000)], Fault(cut=0)
    with pytest.raises(DownloadError, match="What arrived is kept; the next try goes on there"):
        model_files(card, "onnx")
    assert [path.stat().st_size for path in partials(card)] == [80_000]
    hub.asked.clear()
    hub.always = Fault()
    assert model_files(card, "onnx").paths[VISION].stat().st_size == 200_000
    assert hub.fetched(VISION) == ["bytes=80000-"]


def test_tries_that_bring_more_are_not_counted(hub: Hub, card: ModelCard, impatient: None) -> None:
    """A line that breaks again and again is gone on with, as long as each try brings something."""
    hub.faults = [Fault(cut=30_000), Fault(status=503)] * 5
    path = model_files(card, "onnx").paths[VISION]
    assert path.read_bytes() == hub.repos["tiny/clip-onnx"][card.onnx.revision][VISION]
    assert hub.fetched(VISION)[-1] == "bytes=150000-"


def test_a_server_without_ranges_sends_all_again(hub: Hub, card: ModelCard, impatient: None) -> None:
    """An answer with the whole file in place of the rest is not appended to what is there."""
    hub.faults = [Fault(cut=50_000), Fault(whole=True)]
    path = model_files(card, "onnx").paths[VISION]
    assert path.read_bytes() == hub.repos["tiny/clip-onnx"][card.onnx.revision][VISION]


def test_ctrl_c_keeps_what_arrived(hub: Hub, card: ModelCard) -> None:
    """An interrupted download leaves its bytes and no lock."""

    def interrupt(arrived: Arrived) -> None:
        if arrived.done >= 90_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), reporting(interrupt):
        model_files(card, "onnx")
    assert [path.stat().st_size for path in partials(card)] == [90_000]
    hub.asked.clear()
    model_files(card, "onnx")
    assert hub.fetched(VISION) == ["bytes=90000-"]


def test_an_interrupted_process_leaves_what_arrived(hub: Hub, card: ModelCard) -> None:
    """SIGINT to a process in the middle of a download; the next process goes on with its bytes."""
    hub.add("tiny/big", {VISION: bytes(3_000_000)})
    big = dataclasses.replace(
        card, onnx=dataclasses.replace(card.onnx, repo="tiny/big", revision=hub.branches["tiny/big"])
    )
    held = threading.Event()
    hub.faults = [Fault(cut=2_500_000, hold=held)]
    child = worker(big)
    while not (partials(big) and partials(big)[0].stat().st_size >= 2 << 20):
        assert child.poll() is None, child.communicate()
        threading.Event().wait(0.01)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    held.set()
    assert child.returncode not in (0, None)
    hub.asked.clear()
    assert worker(big).communicate(timeout=30)[0].strip().endswith(VISION)
    assert hub.fetched(VISION) == [f"bytes={2 << 20}-"]


def test_two_processes_fetch_a_file_once(hub: Hub, card: ModelCard) -> None:
    """While one process downloads, another waits for it, tells how far it is, and downloads nothing."""
    hub.add("tiny/big", {VISION: bytes(3_000_000)})
    big = dataclasses.replace(
        card, onnx=dataclasses.replace(card.onnx, repo="tiny/big", revision=hub.branches["tiny/big"])
    )
    held = threading.Event()
    hub.faults = [Fault(cut=2_500_000, hold=held)]
    child = worker(big)
    while not partials(big):
        assert child.poll() is None, child.communicate()
        threading.Event().wait(0.01)
    told: list[Arrived] = []

    def tell(arrived: Arrived) -> None:
        told.append(arrived)
        held.set()

    with reporting(tell):
        files = model_files(big, "onnx")
    assert child.communicate(timeout=30)[0].strip() == str(files.paths[VISION])
    assert told[0].total == 3_000_000
    assert hub.fetched(VISION) == [None, f"bytes={2 << 20}-"]


def test_progress_is_reported(hub: Hub, card: ModelCard) -> None:
    """The listener hears of the beginning, of every piece and of the end."""
    told: list[Arrived] = []
    with reporting(told.append):
        model_files(card, "onnx")
    assert told[0] == Arrived("tiny/clip-onnx", VISION, 0, 200_000)
    assert [arrived.done for arrived in told] == list(range(0, 200_001, 10_000))
    told.clear()
    with reporting(told.append):
        model_files(card, "onnx")
    assert told == []


def test_without_a_terminal_nothing_is_printed(
    hub: Hub, card: ModelCard, impatient: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither bars nor log lines, also when a connection breaks."""
    hub.faults = [Fault(cut=50_000)]
    model_files(card, "onnx")
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------- wrong files


def test_wrong_bytes_are_kept_aside_and_fetched_again(hub: Hub, card: ModelCard) -> None:
    """A file of the right size with other bytes is not used, not deleted, and fetched once more."""
    hub.faults = [Fault(wrong=True)]
    path = model_files(card, "onnx").paths[VISION]
    right = hub.repos["tiny/clip-onnx"][card.onnx.revision][VISION]
    assert path.read_bytes() == right
    assert [aside.read_bytes() for aside in set_aside(card)] == [bytes(byte ^ 255 for byte in right)]


def test_an_unfinished_file_that_is_too_long_is_kept_aside(hub: Hub, card: ModelCard) -> None:
    """More bytes than the Hub states cannot be the beginning of the file: it is fetched from the start."""
    right = hub.repos["tiny/clip-onnx"][card.onnx.revision][VISION]
    partial = storage(card) / "blobs" / f"{sha256(right)}.reverie.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(200_001))
    assert model_files(card, "onnx").paths[VISION].read_bytes() == right
    assert [aside.read_bytes() for aside in set_aside(card)] == [bytes(200_001)]
    assert hub.fetched(VISION) == [None]


def test_wrong_bytes_twice_are_an_error(hub: Hub, card: ModelCard) -> None:
    """A server that keeps sending other bytes than it states: no endless loop."""
    hub.always = Fault(wrong=True)
    with pytest.raises(ModelCorruptError, match="arrived twice with other bytes"):
        model_files(card, "onnx", text=True, vision=False)
    assert len(hub.fetched(TEXT)) == 2
    assert find(card, "onnx") == {}


def test_a_small_file_is_compared_with_its_git_id(hub: Hub, card: ModelCard) -> None:
    """tokenizer.json is in git itself: its blob id is what the Hub states."""
    hub.faults = [Fault(), Fault(wrong=True)]
    files = model_files(card, "onnx", text=True, vision=False)
    assert git_id(files.paths[TOKENS].read_bytes()) == git_id(
        hub.repos["tiny/clip-onnx"][card.onnx.revision][TOKENS]
    )
    assert len(set_aside(card)) == 1


def test_another_digest_than_the_card_has_is_refused(hub: Hub, pinned: ModelCard) -> None:
    """What the Hub states is compared with what reverie knows before a byte is fetched."""
    hub.lies = {VISION: "0" * 64}
    with pytest.raises(DownloadError, match="states another SHA-256"):
        model_files(pinned, "onnx")
    assert hub.fetched(VISION) == []


def test_a_small_file_other_than_the_card_has_is_refused(hub: Hub, pinned: ModelCard) -> None:
    """Where the Hub states no SHA-256, the bytes themselves are compared with the card."""
    other = dataclasses.replace(
        pinned, onnx=dataclasses.replace(pinned.onnx, sha256={**pinned.onnx.sha256, TOKENS: "0" * 64})
    )
    with pytest.raises(ModelCorruptError, match="is not the file that reverie knows"):
        model_files(other, "onnx", text=True)
    assert len(set_aside(pinned)) == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_damage_that_came_later_is_mended(hub: Hub, pinned: ModelCard, damage: str) -> None:
    """A file that is no longer as in its receipt is read again, kept aside when wrong, and fetched."""
    path = model_files(pinned, "onnx").paths[VISION]
    right = path.read_bytes()
    wrong = {"cut": right[:1000], "changed": b"x" + right[1:], "emptied": b""}[damage]
    path.resolve().write_bytes(wrong)
    stale(path)
    assert model_files(pinned, "onnx").paths[VISION].read_bytes() == right
    assert [aside.read_bytes() for aside in set_aside(pinned)] == [wrong]
    assert hub.fetched(VISION) == [None, None]


def test_a_pull_reads_every_byte(hub: Hub, card: ModelCard) -> None:
    """Damage that keeps size and time is found by a pull, not by a use."""
    path = model_files(card, "onnx").paths[VISION]
    stat, right = path.stat(), path.read_bytes()
    path.resolve().write_bytes(b"x" + right[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert model_files(card, "onnx").paths[VISION].read_bytes() != right
    assert pull(card, "onnx").paths[VISION].read_bytes() == right
    assert len(set_aside(card)) == 1


def test_damage_without_a_network_names_the_command(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what was wrong, where it is now and what brings it back."""
    path = model_files(card, "onnx").paths[VISION]
    path.resolve().write_bytes(b"cut")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelCorruptError) as caught:
        model_files(card, "onnx")
    assert "reverie models pull tiny-clip" in str(caught.value)
    assert str(set_aside(card)[0]) in str(caught.value)


def test_a_file_that_was_only_touched_stays(hub: Hub, card: ModelCard) -> None:
    """Another time with the same bytes: read once, noted, not fetched."""
    path = model_files(card, "onnx").paths[VISION]
    stale(path)
    hub.asked.clear()
    assert model_files(card, "onnx").paths[VISION] == path
    assert hub.asked == []
    assert receipts.load("tiny-clip", "onnx", card.onnx).files[VISION].unchanged()


def test_receipts_of_two_processes_are_put_together(hub: Hub, card: ModelCard) -> None:
    """What another process checked meanwhile stays in the receipt; files of another commit do not."""
    files = model_files(card, "onnx", text=True).paths
    receipts.forget("tiny-clip", "onnx")
    empty = receipts.load("tiny-clip", "onnx", card.onnx)
    for name in (VISION, TEXT):
        record = receipts.checked(files[name], "ab" * 32)
        receipts.save(dataclasses.replace(empty, commit="c" * 40, files={name: record}), card.onnx)
    assert list(receipts.load("tiny-clip", "onnx", card.onnx).files) == [VISION, TEXT]
    receipts.save(dataclasses.replace(empty, commit="d" * 40), card.onnx)
    assert receipts.load("tiny-clip", "onnx", card.onnx).files == {}


@pytest.mark.parametrize("text", ["", "not JSON", "[]", '{"files": {"x": {}}}', '{"files": 3}'])
def test_a_receipt_that_cannot_be_read_costs_only_time(hub: Hub, card: ModelCard, text: str) -> None:
    """Without a usable receipt the files are read again; nothing is fetched."""
    model_files(card, "onnx")
    (receipts.receipt_folder() / "tiny-clip.onnx.json").write_text(text)
    hub.asked.clear()
    assert model_files(card, "onnx").paths[VISION].is_file()
    assert hub.asked == []


def test_a_receipt_that_cannot_be_written_costs_only_time(
    hub: Hub, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of receipts that cannot be made: the model works all the same."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REVERIE_MODELS", str(tmp_path / "file" / "receipts"))
    assert model_files(card, "onnx").paths[VISION].is_file()
    assert model_files(card, "onnx").paths[VISION].is_file()
    assert hub.fetched(VISION) == [None]


# ----------------------------------------------------------------------- servers that fail


def test_a_busy_server_is_asked_again(hub: Hub, card: ModelCard) -> None:
    """HTTP 503 for the statement and for the file, then fine."""
    hub.api_statuses, hub.faults = [503, 429], [Fault(status=503), Fault(status=502)]
    assert model_files(card, "onnx").paths[VISION].is_file()


def test_a_server_that_stays_busy_is_an_error(hub: Hub, card: ModelCard) -> None:
    """After three tries it is said, and no file is asked for."""
    hub.api_statuses = [503] * 9
    with pytest.raises(DownloadError, match="HTTP 503, the server is busy"):
        model_files(card, "onnx")
    assert len(hub.asked) == 3


@pytest.mark.parametrize(("status", "words"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "newer reverie")])
def test_refusals_say_what_to_do(hub: Hub, card: ModelCard, status: int, words: str) -> None:
    """A refused or unknown repository is not asked for again."""
    hub.api_statuses = [status]
    with pytest.raises(DownloadError, match=words):
        model_files(card, "onnx")
    assert len(hub.asked) == 1


def test_a_file_that_the_repository_lacks_is_named(hub: Hub, card: ModelCard) -> None:
    """Another layout than the card says."""
    other = dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, vision=("onnx/gone.onnx",)))
    with pytest.raises(DownloadError, match=r"has no onnx/gone\.onnx in tiny/clip-onnx"):
        model_files(other, "onnx")


def test_nobody_answers(hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server at that address: one error that says what to do, at once."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelNotFoundError) as caught:
        model_files(card, "onnx", text=True)
    message = str(caught.value)
    assert "nobody answers at http://127.0.0.1:9" in message
    for words in ("reverie models pull tiny-clip --text", "--model-dir", "cp -rL", '"descriptor" works now'):
        assert words in message


def test_a_full_disk_is_said_before_a_byte_is_fetched(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less room than the file needs."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 0, 10))
    with pytest.raises(DownloadError, match=r"is full; free some space.*HF_HOME"):
        model_files(card, "onnx")
    assert hub.fetched(VISION) == []


def test_a_disk_that_fills_up_keeps_what_arrived(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails ends the download without another try."""
    write = hub_module._Reporting.write

    def fails(file: hub_module._Reporting, data: bytes) -> int:
        if file.tell() >= 50_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr(hub_module._Reporting, "write", fails)
    with pytest.raises(DownloadError, match="is full"):
        model_files(card, "onnx")
    assert [path.stat().st_size for path in partials(card)] == [50_000]
    assert hub.fetched(VISION) == [None]


def test_without_symbolic_links_the_file_is_in_the_snapshot(
    hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system that has none, huggingface_hub keeps no blob, and so do we."""
    monkeypatch.setattr(hub_module, "are_symlinks_supported", lambda _folder: False)
    path = model_files(card, "onnx").paths[VISION]
    assert path.is_file()
    assert not path.is_symlink()
    assert list((storage(card) / "blobs").iterdir()) == []
    hub.asked.clear()
    assert model_files(card, "onnx").paths[VISION] == path
    assert hub.asked == []


# ------------------------------------------------------------- true environment, own process


def test_offline_with_everything_there_asks_nothing(hub: Hub, card: ModelCard) -> None:
    """HF_HUB_OFFLINE=1 in the environment, the files here, the receipt lost."""
    path = model_files(card, "onnx").paths[VISION]
    receipts.forget("tiny-clip", "onnx")
    hub.asked.clear()
    assert worker(card, HF_HUB_OFFLINE="1").communicate(timeout=30) == (f"{path}\n", "")
    assert hub.asked == []


def test_offline_without_the_model_asks_nothing(hub: Hub, card: ModelCard) -> None:
    """HF_HUB_OFFLINE=1 and nothing here: the error, no request."""
    out, err = worker(card, HF_HUB_OFFLINE="1").communicate(timeout=30)
    assert out.startswith(
        "ModelNotFoundError the model 'tiny-clip' is not on this machine, and HF_HUB_OFFLINE"
    )
    assert err == ""
    assert hub.asked == []


def test_huggingface_hub_is_needed_only_for_a_download(hub: Hub, card: ModelCard) -> None:
    """Without it a known model works; an unknown one names what to install."""
    path = model_files(card, "onnx").paths[VISION]
    without = "import sys; sys.modules['huggingface_hub'] = None\n" + WORKER
    how = {"repo": card.onnx.repo, "commit": card.onnx.revision, "file": VISION}
    assert start(without, json.dumps(how)).communicate(timeout=30) == (f"{path}\n", "")
    out, _ = start(without, json.dumps({**how, "file": TEXT})).communicate(timeout=30)
    assert out.startswith("MissingDependencyError")
    assert 'pip install "reverie[clip]"' in out


def test_looking_for_models_does_not_load_huggingface_hub(hub: Hub, card: ModelCard) -> None:
    """A start with everything in place does not pay for the download code."""
    model_files(card, "onnx")
    how = {"repo": card.onnx.repo, "commit": card.onnx.revision, "file": VISION}
    script = WORKER + "print('huggingface_hub' in sys.modules, 'numpy' in sys.modules)"
    assert start(script, json.dumps(how)).communicate(timeout=30)[0].split()[-2:] == ["False", "False"]
