"""The models that reverie knows by name: what each is, where it comes from, how its inputs are made.

Revisions and SHA-256 digests stand here only where independent public sources agree on them; a file
without one is checked against the digest that the Hub states for the pinned revision. The table is
printed anew by ``tools/pin_models.py`` on a connected machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from reverie.errors import UnknownNameError

__all__ = ["CARDS", "ModelCard", "Preprocessing", "Source", "TextSettings", "card_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """One repository on the Hub with the files of one family of engines.

    Attributes:
        repo: Its name, such as ``openai/clip-vit-base-patch32``.
        revision: A commit of 40 hexadecimal digits; or a branch, whose commit is recorded at the first
            pull and used from then on.
        vision: Files needed for pictures; the first is the network.
        text: Files needed for texts; the first is the network. Empty for a model without texts. A file
            may be in both.
        sha256: Known digests by file name.
        size: Bytes by file name.
    """

    repo: str
    revision: str
    vision: tuple[str, ...]
    text: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict, hash=False)
    size: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes the input of the network.

    Attributes:
        size: Pixels the shortest edge is scaled to; both edges when ``crop`` is None.
        crop: Side of the square cut from the centre after that; None for no cut.
        resample: ``"bicubic"`` or ``"bilinear"``, with antialias.
        mean: Subtracted from each of R, G, B in 0..1.
        std: What the result is divided by.
    """

    size: int
    crop: int | None
    resample: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How a text becomes the input of the network, and a cosine a probability.

    Attributes:
        context: Tokens that the network reads, special ones included.
        pad_id: Token that fills a short text.
        logit_scale: What a cosine is multiplied by.
        sigmoid: Whether each pair has a probability of its own; else softmax over the texts.
        logit_bias: Added after the multiplication.
    """

    context: int
    pad_id: int
    logit_scale: float
    sigmoid: bool = False
    logit_bias: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model by name.

    Attributes:
        name: Its name in reverie, which is also that of its vectors.
        title: What people call it.
        dimensions: Length of a vector.
        licence: SPDX identifier of the weights' licence.
        onnx: Files for onnxruntime and OpenVINO.
        torch: Files for torch.
        preprocessing: Of pictures.
        text: Of texts; None for a model that knows none.
        vision_output: Output of the ONNX network that is the vector; for ``"last_hidden_state"`` its
            first token (the class token).
        text_output: The same of the text network; empty without one.
    """

    name: str
    title: str
    dimensions: int
    licence: str
    onnx: Source
    torch: Source
    preprocessing: Preprocessing
    text: TextSettings | None
    vision_output: str
    text_output: str


_VISION, _TEXT, _TOKENS = "onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"
_CONFIG, _SAFE, _PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"

# https://github.com/openai/CLIP, clip/clip.py
_CLIP_PIXELS = Preprocessing(
    size=224,
    crop=224,
    resample="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
_CLIP_TEXTS = TextSettings(context=77, pad_id=49407, logit_scale=100.0)

_B32 = ModelCard(
    name="clip-vit-b32",
    title="CLIP ViT-B/32",
    dimensions=512,
    licence="MIT",
    onnx=Source(
        repo="Xenova/clip-vit-base-patch32",
        revision="d15189d7028b43f1d3e65039190477f6af591c2a",
        vision=(_VISION,),
        text=(_TEXT, _TOKENS),
        sha256={
            _VISION: "fd6e1402a588279d1723c7534d4bcba5bc0b14b47dfab0e46f8c47b8270d7d40",
            _TEXT: "3f6571f5bad13a97c469c1622e1cfc4d9aef78b79fdbfcff804ca357bfada8cc",
            _TOKENS: "f7f3b7af117d467b58374797691a6438d3e6b9e9cef800dfd5dced7f697a90cd",
        },
        size={_VISION: 351_685_709, _TEXT: 254_058_553, _TOKENS: 2_224_119},
    ),
    torch=Source(
        repo="openai/clip-vit-base-patch32",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        vision=(_PICKLED, _CONFIG),
        text=(_PICKLED, _CONFIG, _TOKENS),
        sha256={
            _PICKLED: "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            _CONFIG: "b575ef3c36f2a057fa19e221650105052d61cc9c1a972ec15019c6261ec98770",
            _TOKENS: "b556ac8c99757ffb677208af34bc8c6721572114111a6e0aaf5fa69ff0b8d842",
        },
        size={_PICKLED: 605_247_071, _CONFIG: 4_186, _TOKENS: 2_224_041},
    ),
    preprocessing=_CLIP_PIXELS,
    text=_CLIP_TEXTS,
    vision_output="image_embeds",
    text_output="text_embeds",
)

_L14 = ModelCard(
    name="clip-vit-l14",
    title="CLIP ViT-L/14",
    dimensions=768,
    licence="MIT",
    onnx=Source(
        repo="Xenova/clip-vit-large-patch14",
        revision="c307790166907339eed5a9a53a249af534102536",
        vision=(_VISION,),
        text=(_TEXT, _TOKENS),
        sha256={_VISION: "ff49f8aa57c7abfd26e382eb083e4dbf988505223a9bd3767dbfd4e729206709"},
        size={_VISION: 1_216_438_437, _TEXT: 494_947_485, _TOKENS: 2_224_081},
    ),
    torch=Source(
        repo="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        vision=(_SAFE, _CONFIG),
        text=(_SAFE, _CONFIG, _TOKENS),
        sha256={
            _SAFE: "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            _CONFIG: "8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a",
            _TOKENS: "a83e0809aa4c3af7208b2df632a7a69668c6d48775b3c3fe4e1b1199d1f8b8f4",
        },
        size={_SAFE: 1_710_540_580, _CONFIG: 4_519, _TOKENS: 2_224_003},
    ),
    preprocessing=_CLIP_PIXELS,
    text=_CLIP_TEXTS,
    vision_output="image_embeds",
    text_output="text_embeds",
)

_DINO = ModelCard(
    name="dinov2-base",
    title="DINOv2 ViT-B/14",
    dimensions=768,
    licence="Apache-2.0",
    onnx=Source(
        repo="onnx-community/dinov2-base",
        revision="31ef06cac16d5d301c5930d147002a058c85a5e4",
        vision=("onnx/model.onnx",),
        sha256={"onnx/model.onnx": "320d1012a6fc65b101fc85ca30ee7a47b2e4f6a2e8bd78fb9d7036def0e30cb0"},
        size={"onnx/model.onnx": 346_627_111},
    ),
    torch=Source(
        repo="facebook/dinov2-base",
        revision="f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        vision=(_SAFE, _CONFIG),
        sha256={
            _SAFE: "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
            _CONFIG: "f7ff4cfa73d2f70647dbf6950541ad25d73082d54c2e7e9bded160c7656b2a70",
        },
        size={_SAFE: 346_345_912, _CONFIG: 548},
    ),
    preprocessing=Preprocessing(
        size=256, crop=224, resample="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    text=None,
    vision_output="last_hidden_state",
    text_output="",
)

_SIGLIP2 = ModelCard(
    name="siglip2-base",
    title="SigLIP 2 ViT-B/16, 256 px",
    dimensions=768,
    licence="Apache-2.0",
    onnx=Source(
        repo="onnx-community/siglip2-base-patch16-256-ONNX",
        revision="d1114256522a37ffa257a0a58017348ab0058db2",
        vision=(_VISION,),
        text=(_TEXT, _TOKENS),
        sha256={
            _VISION: "f5cb16728a704703f05516ded628397e11dbca4de2eb5db04b0c0bcee988aa7a",
            _TEXT: "d3de4a6bbbfcb429b6615ac496790353cf4a4fc0f19fbbe7179e523ae60daaef",
            _TOKENS: "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322",
        },
        size={_VISION: 371_992_072, _TEXT: 1_129_469_657, _TOKENS: 34_363_039},
    ),
    torch=Source(
        repo="google/siglip2-base-patch16-256",
        revision="3f9f96cb90da5dbc758b01813f2f6f1aee24c1ab",
        vision=(_SAFE, _CONFIG),
        text=(_SAFE, _CONFIG, _TOKENS),
        sha256={
            _SAFE: "6125cacc01fa93bdc98a0c5101cefcd69b2ed1f8ab4f38d86f4ad5984f5dc863",
            _CONFIG: "7b5aedcb8893e31376e129c1ffd7a5392f1a806dbc793ce53eda220c2ec59edf",
        },
        size={_SAFE: 1_500_985_224, _CONFIG: 276, _TOKENS: 34_363_039},
    ),
    preprocessing=Preprocessing(
        size=256, crop=None, resample="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ),
    # Scale and bias of the sister model for 224 px (the one for 384 px has 112.85 and -16.77): the
    # network files of this one do not hold them. Order and cosines do not depend on them.
    text=TextSettings(context=64, pad_id=0, logit_scale=112.67, sigmoid=True, logit_bias=-16.77),
    vision_output="pooler_output",
    text_output="pooler_output",
)

CARDS: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in (_B32, _L14, _DINO, _SIGLIP2)})
"""Every card by name."""


_SHORT = {"clip": "clip-vit-b32"}  # what people say; the encoders of the registry have it too


def card_of(name: str) -> ModelCard:
    """The card of a name; ``"clip"`` is ``"clip-vit-b32"``.

    Raises:
        UnknownNameError: There is none; the message lists the names that exist.
    """
    card = CARDS.get(_SHORT.get(name, name))
    if card is None:
        raise UnknownNameError(f"no model is called {name!r}; there are: {', '.join(CARDS)}")
    return card
