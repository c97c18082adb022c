"""How a picture was made, as its file says: read whatever wrote it; written so that it can be read back."""

from __future__ import annotations

from collections.abc import Callable

from reverie.metadata import a1111, comfyui, others, own
from reverie.metadata.comfyui import read_graph
from reverie.metadata.own import exif_and_xmp, own_texts
from reverie.metadata.picture import PictureMetadata, Texts, cleaned
from reverie.metadata.texts import texts_of

__all__ = ["PictureMetadata", "exif_and_xmp", "own_texts", "read_graph", "read_metadata", "texts_of"]

_READERS: tuple[Callable[[Texts], PictureMetadata | None], ...] = (
    own.read,
    others.invokeai,
    others.novelai,
    others.swarmui,
    others.fooocus,
    a1111.read,
    comfyui.read,  # last: A1111's text beside a graph is of a node that says more plainly what was meant
)


def read_metadata(data: bytes) -> PictureMetadata | None:
    """What a picture file says of how it was made.

    Args:
        data: All bytes of a PNG, JPEG or WebP.

    Returns:
        None when it says nothing that is known here. Never raises for what a file holds: of a damaged or
        hostile one there is what could be read, in bounded time and memory.
    """
    texts = texts_of(data)
    if not texts:
        return None
    for reader in _READERS:
        found = reader(texts)
        if found is not None:
            parents = {cleaned(name): weight for name, weight in found.parents.items()}
            return PictureMetadata(found.source, cleaned(found.prompt), cleaned(dict(found.params)), parents)
    return None
