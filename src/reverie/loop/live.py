"""What a loop shows right now, as files that a widget can watch.

``current_frame.png`` is always whole: it is replaced in one step. ``status.json`` begins with the keys that
the widget of the specification's project looks for, in its order, and goes on with ours. Its ``status`` is
``live`` while the loop runs and ``stopped`` after it.
"""

from __future__ import annotations

import io
import json
import os
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from reverie.errors import StorageError
from reverie.loop.observed import Observed
from reverie.pixels import Pixels
from reverie.storage import replace_file, storage_error

if TYPE_CHECKING:
    from reverie.loop.observing import Observing

__all__ = ["FRAME", "STATUS", "LiveFolder", "LiveWarning"]

FRAME = "current_frame.png"
"""Name of the picture that is shown."""

STATUS = "status.json"
"""Name of what is said of it."""

_PROMPT = 100  # characters of a prompt that a widget has room for
_MEASURES = ("effective_images", "pairwise", "novelty", "displacement")


class LiveWarning(UserWarning):
    """The display cannot be written; the loop goes on without it."""


class LiveFolder:
    """Keeps a folder's picture and status at what a loop shows.

    Args:
        folder: Made when it is not there.

    Raises:
        StorageError: It cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._begun = self._last = time.monotonic()
        self._injections = 0
        self._status: dict[str, Any] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise storage_error(f"make the folder {self.folder}", exc) from exc

    def show(
        self,
        pixels: Pixels,
        prompt: str,
        observed: Observed,
        observer: Observing,
    ) -> None:
        """Replace both files; what the disk refuses is warned of, once, and tried again at the next frame.

        Args:
            pixels: What is shown, ``(h, w, 3)`` uint8 RGB.
            prompt: It was made with.
            observed: What was seen in it.
            observer: Who observed it.
        """
        now = time.monotonic()
        took, self._last = now - self._last, now
        self._injections += observed.set_out
        measures = {name: observed.measures.get(name) for name in _MEASURES}
        state = observed.state
        self._status = {
            "frame_number": observed.frame,
            "generation_time": round(took, 3),
            "status": "live",
            "current_mode": "img2img" if observed.target is None else "injection",
            "current_prompt": " ".join(prompt[:_PROMPT].split()),
            "cache_size": len(observer.memory),
            "uptime_hours": round((now - self._begun) / 3600, 4),
            "daemon_status": "running",
            "comfyui_status": "none",
            "controller_status": "generating",
            "is_buffering": False,
            "cache_hits": self._injections,
            "cache_injections": self._injections,
            "policy": observer.policy_name,
            "injected": observed.set_out,
            "reason": observed.decision.reason,
            "state": None if state is None else state.name,
            "state_why": None if state is None else state.why,
            "alarm": observed.measures.get("since_alarm") == 0,
            **measures,
        }
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
        self._write(FRAME, buffer.getvalue())
        self._say()

    def _say(self) -> None:
        self._status["last_update"] = datetime.now().isoformat(timespec="milliseconds")
        text = json.dumps(self._status, indent=2, ensure_ascii=False)  # with a space after each colon
        self._write(STATUS, text.encode("utf-8", "replace"))

    def _write(self, name: str, data: bytes) -> None:
        try:
            replace_file(self.folder / name, [data], durable=False)
        except StorageError as exc:
            warnings.warn(f"the display is not up to date: {exc}", LiveWarning, stacklevel=2)

    def close(self) -> None:
        """Say that the loop has stopped; calling it twice is fine."""
        if self._status.get("status") == "live":
            self._status |= {"status": "stopped", "controller_status": "stopped"}
            self._say()
