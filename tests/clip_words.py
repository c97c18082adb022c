"""Small tokenizers in the layout of the Hub, made here: CLIP's byte-pair encoding and Gemma's."""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from types import SimpleNamespace

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.convert_slow_tokenizer import CLIPConverter, bytes_to_unicode

START, END = "<|startoftext|>", "<|endoftext|>"
START_ID, END_ID, VOCABULARY = 49_406, 49_407, 49_408
_WORD_END = "</w>"


def write_clip_tokenizer(folder: Path) -> Path:
    """``vocab.json``, ``merges.txt``, ``tokenizer.json`` and its settings as openai's repository has them.

    49,408 entries, start 49406, end (and padding) 49407; the merges are made up. Converted by
    transformers' own converter.

    Returns:
        The path of ``tokenizer.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(bytes_to_unicode().values())
    symbols = [*letters, *(letter + _WORD_END for letter in letters)]
    merges = list(islice(_merges(), VOCABULARY - 2 - len(symbols)))
    words = [*symbols, *(left + right for left, right in merges), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    tokenizer = CLIPConverter(_slow_tokenizer(vocabulary, merges)).converted()
    tokenizer.add_special_tokens(
        [AddedToken(word, normalized=word == START, single_word=False) for word in (START, END)]
    )
    names = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    return _save(tokenizer, folder, "CLIPTokenizer", names)


def _merges() -> list[tuple[str, str]]:
    """Pairs of letters, then pairs with a letter or a pair behind them; each also at the end of a word."""
    pairs = ["".join(two) for two in product(ascii_lowercase, repeat=2)]
    found = [(pair[0], pair[1] + end) for end in (_WORD_END, "") for pair in pairs]
    for tail in (ascii_lowercase, pairs):
        found += [(pair, last + end) for end in (_WORD_END, "") for pair, last in product(pairs, tail)]
    return found


def _slow_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> SimpleNamespace:
    """What the converter looks at in a tokenizer of transformers 4."""
    return SimpleNamespace(
        encoder=vocabulary,
        bpe_ranks=dict.fromkeys(merges),
        unk_token=END,
        bos_token=START,
        bos_token_id=START_ID,
        eos_token=END,
        eos_token_id=END_ID,
    )


def write_gemma_tokenizer(folder: Path) -> Path:
    """A small tokenizer of the kind that SigLIP 2 has: no start token, ``<eos>`` 1, padding 0, capitals kept.

    Returns:
        The path of ``tokenizer.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["\u2581", *map(chr, range(0x21, 0x7F))]
    merges = [("\u2581", letter) for letter in ascii_lowercase] + [("a", "n"), ("o", "f"), ("\u2581a", "n")]
    words = [
        *special,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        *map("".join, merges),
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, fuse_unk=True, unk_token=special[3], byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in special])
    names: dict[str, object] = dict(
        zip(("pad_token", "eos_token", "bos_token", "unk_token", "mask_token"), special, strict=True)
    )
    names |= {"add_bos_token": False, "add_eos_token": True, "padding_side": "right"}
    return _save(tokenizer, folder, "Siglip2Tokenizer", names)


def _save(tokenizer: Tokenizer, folder: Path, kind: str, settings: dict[str, object]) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": kind, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "tokenizer.json"
