"""Models that the user brought, the cards, and what is taken away again."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir

from hub_server import Hub, sha256
from reverie.errors import ModelCorruptError, ModelNotFoundError, StorageError, UnknownNameError
from reverie.models import receipts, removal
from reverie.models.cards import CARDS, ModelCard, card_of
from reverie.models.store import FAMILIES, find, model_files, source_of

VISION, TEXT, TOKENS = "onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"


@pytest.fixture
def brought(tmp_path: Path, hub: Hub, card: ModelCard) -> Path:
    """A folder with the model's files, laid out as the repository."""
    folder = tmp_path / "brought"
    for name, data in hub.repos["tiny/clip-onnx"][card.onnx.revision].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# ----------------------------------------------------------------------------- a local folder


def test_a_folder_laid_out_as_the_repository(hub: Hub, pinned: ModelCard, brought: Path) -> None:
    """Its files are used where they are, with no request; the card's own weights need no stamp."""
    files = model_files(pinned, "onnx", text=True, model_dir=brought)
    assert files.paths == {name: brought / name for name in (VISION, TEXT, TOKENS)}
    assert files.weights == ""
    assert hub.asked == []


def test_a_flat_folder(pinned: ModelCard, brought: Path) -> None:
    """The files without their folder, as people keep them; a path in text works too."""
    for path in (brought / "onnx").iterdir():
        path.rename(brought / path.name)
    files = model_files(pinned, "onnx", text=True, model_dir=str(brought))
    assert files.paths[VISION] == brought / "vision_model.onnx"


def test_a_file_is_the_vision_network(pinned: ModelCard, brought: Path) -> None:
    """Whatever its name; other files are looked for beside it."""
    mine = (brought / VISION).rename(brought / "mine.onnx")
    assert model_files(pinned, "onnx", model_dir=mine).paths == {VISION: mine}
    assert model_files(pinned, "onnx", text=True, model_dir=mine).paths[TOKENS] == brought / TOKENS


def test_missing_files_are_named(pinned: ModelCard, brought: Path) -> None:
    """With both names that were looked for, and what they are needed for."""
    (brought / VISION).unlink()
    (brought / TOKENS).unlink()
    with pytest.raises(ModelNotFoundError) as caught:
        model_files(pinned, "onnx", text=True, model_dir=brought)
    message = str(caught.value)
    assert f"'{VISION}' (or 'vision_model.onnx') and '{TOKENS}', needed for the model 'tiny-clip'" in message
    assert TEXT not in message


def test_a_folder_that_is_not_there(pinned: ModelCard, tmp_path: Path) -> None:
    """Said with its name; nothing is downloaded in its place."""
    with pytest.raises(ModelNotFoundError, match="there is no folder or file"):
        model_files(pinned, "onnx", model_dir=tmp_path / "nowhere")


def test_a_pointer_of_git_is_no_network(pinned: ModelCard, brought: Path) -> None:
    """What a clone without Git LFS holds is named, with the way out; an empty file too."""
    (brought / VISION).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    with pytest.raises(ModelCorruptError, match=r"vision_model\.onnx' is the pointer .* `git lfs pull`"):
        model_files(pinned, "onnx", model_dir=brought)
    (brought / VISION).write_bytes(b"")
    with pytest.raises(ModelCorruptError, match=r"vision_model\.onnx' is empty"):
        model_files(pinned, "onnx", model_dir=brought)


def test_a_file_that_may_not_be_read(
    pinned: ModelCard, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without permission the error names the file and what the system says."""
    opened = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == TOKENS:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelNotFoundError, match=r"cannot read '.*tokenizer\.json': Permission denied"):
        model_files(pinned, "onnx", text=True, model_dir=brought)


def test_other_weights_get_a_stamp(pinned: ModelCard, brought: Path) -> None:
    """Eight digits of the SHA-256 of the network that is there; the tokenizer does not count."""
    (brought / VISION).write_bytes(b"trained further")
    (brought / TOKENS).write_bytes(b"{}")
    expected = sha256(b"trained further")[:8]
    assert model_files(pinned, "onnx", model_dir=brought).weights == expected
    assert model_files(pinned, "onnx", text=True, model_dir=brought).weights == expected
    assert model_files(pinned, "onnx", text=True, vision=False, model_dir=brought).weights == ""


def test_weights_known_from_a_pull_need_no_stamp(hub: Hub, card: ModelCard, brought: Path) -> None:
    """Where the card has no digest, the one of the receipt tells that they are the same."""
    assert re.fullmatch(r"[0-9a-f]{8}", model_files(card, "onnx", model_dir=brought).weights)
    model_files(card, "onnx")
    assert model_files(card, "onnx", model_dir=brought).weights == ""


def test_a_local_network_is_read_once(
    pinned: ModelCard, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest is remembered as long as size and time stay."""
    before = model_files(pinned, "onnx", model_dir=brought)
    monkeypatch.setattr(receipts, "sha256_of", pytest.fail)
    assert model_files(pinned, "onnx", model_dir=brought) == before
    monkeypatch.setattr(receipts, "sha256_of", lambda _path: "ab" * 32)
    os.utime(brought / VISION, ns=(1, 1))
    assert model_files(pinned, "onnx", model_dir=brought).weights == "abababab"


def test_a_local_network_where_nothing_can_be_remembered(
    pinned: ModelCard, brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder for receipts: it is read each time."""
    monkeypatch.setenv("REVERIE_MODELS", str(brought / TOKENS / "receipts"))
    assert model_files(pinned, "onnx", model_dir=brought).weights == ""


def test_only_so_many_local_files_are_remembered(hub: Hub, tmp_path: Path) -> None:
    """The list of digests stays short."""
    for number in range(70):
        (tmp_path / f"{number}.onnx").write_bytes(b"%d" % number)
        receipts.local_digest(tmp_path / f"{number}.onnx")
    text = (receipts.receipt_folder() / "local-files.json").read_text()
    assert text.count(".onnx") == 64
    assert "69.onnx" in text


def test_receipts_have_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without REVERIE_MODELS it is beside the user's own cache."""
    monkeypatch.delenv("REVERIE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert receipts.receipt_folder().parts[-2:] == ("reverie", "models")


# ----------------------------------------------------------------------------------- removal


def test_removal_takes_the_model_and_its_receipt(hub: Hub, card: ModelCard) -> None:
    """Links, blobs and empty folders go; the bytes are counted; a later use downloads again."""
    model_files(card, "onnx", text=True)
    leaving = removal.plan(card)
    assert leaving.byte_count == 273_000
    removal.remove(card, leaving)
    storage = Path(constants.HF_HUB_CACHE) / "models--tiny--clip-onnx"
    assert [path for path in storage.rglob("*") if path.is_file() or path.is_symlink()] == []
    assert not (storage / "snapshots" / card.onnx.revision).exists()
    assert find(card, "onnx") == {}
    assert removal.plan(card).files == ()
    hub.asked.clear()
    model_files(card, "onnx")
    assert hub.fetched(VISION) == [None]


def test_removal_leaves_what_others_need(hub: Hub, card: ModelCard) -> None:
    """Other files of the commit stay, and blobs that another commit uses; the cache stays readable."""
    model_files(card, "onnx", text=True)
    readme = Path(hf_hub_download("tiny/clip-onnx", "README.md", revision=card.onnx.revision))
    hub.add("tiny/clip-onnx", {TEXT: b"newer"})
    newer = Path(hf_hub_download("tiny/clip-onnx", VISION))
    removal.remove(card, removal.plan(card))
    assert readme.read_bytes() == b"# tiny"
    assert newer.stat().st_size == 200_000
    assert not (readme.parent / VISION).exists()
    assert not (readme.parent / TEXT).exists()
    assert scan_cache_dir(constants.HF_HUB_CACHE).warnings == []


def test_removal_takes_what_was_kept_aside_and_unfinished(
    hub: Hub, pinned: ModelCard, tmp_path: Path
) -> None:
    """Damaged copies of the model's files and an unfinished download of them are the model's too."""
    path = model_files(pinned, "onnx").paths[VISION]
    path.resolve().write_bytes(b"cut")
    model_files(pinned, "onnx")
    blobs = path.resolve().parent
    (blobs / f"{pinned.onnx.sha256[TEXT]}.reverie.incomplete").write_bytes(b"half")
    (blobs / f"{pinned.onnx.sha256[TEXT]}.0badf00d.incomplete").write_bytes(b"of another program")
    leaving = removal.plan(pinned)
    assert leaving.byte_count == 200_000 + len(b"cut") + len(b"half")
    removal.remove(pinned, leaving)
    assert [path.read_bytes() for path in blobs.iterdir()] == [b"of another program"]


def test_removal_lets_the_branch_go_with_its_last_file(hub: Hub, card: ModelCard) -> None:
    """A reference to a snapshot that is gone would make the cache look broken."""
    moving = dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, revision="main"))
    model_files(moving, "onnx")
    removal.remove(moving, removal.plan(moving))
    assert list((Path(constants.HF_HUB_CACHE) / "models--tiny--clip-onnx" / "refs").iterdir()) == []


def test_removal_never_takes_a_file_outside_of_a_snapshot(hub: Hub, card: ModelCard, brought: Path) -> None:
    """A receipt that leads elsewhere is no reason to delete what is there."""
    record = receipts.checked(brought / VISION, "00")
    receipt = receipts.Receipt(
        "tiny-clip", "onnx", "tiny/clip-onnx", card.onnx.revision, files={VISION: record}
    )
    receipts.save(receipt, card.onnx)
    assert removal.plan(card).files == ()


def test_removal_without_symbolic_links(hub: Hub, card: ModelCard) -> None:
    """A file in the snapshot itself goes."""
    path = model_files(card, "onnx").paths[VISION]
    blob = path.resolve()
    path.unlink()
    shutil.move(blob, path)
    leaving = removal.plan(card)
    assert (leaving.files, leaving.byte_count) == ((path,), 200_000)
    removal.remove(card, leaving)
    assert not path.exists()


def test_removal_that_the_system_refuses(hub: Hub, card: ModelCard) -> None:
    """A file that cannot be deleted is named."""
    path = model_files(card, "onnx").paths[VISION]
    folder = removal.Removal("tiny-clip", (path.parent,), 0)
    with pytest.raises(StorageError, match="cannot delete"):
        removal.remove(card, folder)


# ------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_cards_are_complete(name: str, family: str) -> None:
    """Each file has a size, each digest is one, each revision is a commit, texts have what they need."""
    card = card_of(name)
    source = source_of(card, family)
    needed = {*source.vision, *source.text}
    assert card.name == name
    assert set(source.size) == needed
    assert set(source.sha256) <= needed
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in source.sha256.values())
    assert source.vision[0] in source.sha256
    assert re.fullmatch(r"[0-9a-f]{40}", source.revision)
    assert bool(source.text) == (card.text is not None) == ("tokenizer.json" in source.text)
    assert (card.text is None) == (card.text_output == "")


def test_the_default_model_is_the_one_of_the_specification() -> None:
    """CLIP ViT-B/32: 512 numbers, 224 pixels, 77 tokens, about 600 MB."""
    card = card_of("clip-vit-b32")
    assert (card.dimensions, card.preprocessing.crop, card.text and card.text.context) == (512, 224, 77)
    assert 600_000_000 < sum(card.onnx.size.values()) < 620_000_000
    assert hash(card) == hash(dataclasses.replace(card))


def test_an_unknown_model_lists_the_known_ones() -> None:
    """As every unknown name."""
    with pytest.raises(
        UnknownNameError, match="there are: clip-vit-b32, clip-vit-l14, dinov2-base, siglip2-base"
    ):
        card_of("clip-vit-h14")
