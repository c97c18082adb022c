"""What the sections of report.html are put together from; every text of the run is escaped here."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from reverie.report.charts import arm_slots
from reverie.report.drawing import cover
from reverie.report.run import Arm, Run

__all__ = ["arm_heading", "data_uri", "section", "table", "thumbnail", "times"]


def section(title: str, lead: str, content: str) -> str:
    """A section; title and lead are our own words, content is HTML."""
    return f'<section><h2>{title}</h2><p class="lead">{lead}</p>{content}</section>'


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def thumbnail(
    image: Image.Image | None, run: Run, width: int, words: str, *, style: str = "", quality: int = 72
) -> str:
    """A picture inside the page; a quiet field of its shape when there is none.

    Args:
        image: The picture.
        run: Says which shape its frames have.
        width: In pixels of the thumbnail; a smaller picture is not enlarged.
        words: What stands for it where it cannot be seen.
        style: Names of classes.
        quality: Of the WebP, 0 to 100.
    """
    size = (width, max(1, round(width * run.size[1] / run.size[0])))
    if image is None:
        return (
            f'<span class="gone {style}" role="img" aria-label="{escape(words)}: not kept" '
            f'style="aspect-ratio:{size[0]}/{size[1]}"></span>'
        )
    buffer = io.BytesIO()
    small = cover(image, size) if image.width > size[0] or image.size != run.size else image
    small.save(buffer, "WEBP", quality=quality, method=2)
    return (
        f'<img class="{style}" src="{data_uri(buffer.getvalue(), "image/webp")}" alt="{escape(words)}" '
        f'width="{size[0]}" height="{size[1]}">'
    )


def arm_heading(arm: Arm, slot: int, more: str = "") -> str:
    """The title of an arm beside its colour; ``more`` is HTML."""
    swatch = f'<span class="swatch arm{slot}"></span>'
    return f'<h3>{swatch}<span class="title">{escape(arm.title)}</span>{more}</h3>'


def table(run: Run, rows: Sequence[str]) -> str:
    """A table with a column an arm."""
    heads = "".join(
        f'<th scope="col"><span class="arm{slot}">{escape(arm.title)}</span></th>'
        for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True)
    )
    name = ' class="many"' if len(run.arms) > 2 else ""
    body = "".join(rows)
    return f"<table{name}><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table>"


def times(count: int) -> str:
    """How often, in words."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")
