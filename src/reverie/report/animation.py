"""The arms side by side as a moving picture: WebP, GIF, or MP4 through ffmpeg.

Frames are drawn one at a time. WebP frames are compressed one by one and put into the container here,
so that memory holds compressed bytes only and a file over its budget loses frames, not quality.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

from reverie.errors import InputError, MissingDependencyError, StorageError
from reverie.report.charts import arm_slots
from reverie.report.drawing import INK, PAPER, QUIET, SOFT, arm_colour, cover, font, rounded, shorten
from reverie.report.run import Arm, Run
from reverie.storage import replace_file

__all__ = ["FORMATS", "animation_webp", "find_ffmpeg", "write_animation"]

FORMATS = (".gif", ".mp4", ".webp")
FPS = 12.0
BUDGET = 6_000_000
"""Most bytes of a WebP or GIF; past it frames are left out and the others are shown for longer."""

MOST_FRAMES = 400
"""A longer run is shown as a time lapse of at most this many frames (WebP and GIF)."""

HOLD_MS = 1000
"""The last frame stays for so much longer before the animation begins again."""

PANEL = 256
GIF_PANEL = 176
MARGIN = 16
GAP = 16
HEAD = 34
FOOT = 40
MOST_COLUMNS = 4
AFTERGLOW = 4
"""For so many frames after an injection the frame of the picture is lit."""


def find_ffmpeg() -> str:
    """Where ffmpeg is.

    Raises:
        MissingDependencyError: It is not on PATH; the message says how to install it.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise MissingDependencyError(
            "an MP4 is written by ffmpeg, which is not on PATH: install it (apt install ffmpeg, "
            "brew install ffmpeg), or choose .webp or .gif"
        )
    return program


def write_animation(run: Run, path: str | Path, *, fps: float = FPS, budget: int = BUDGET) -> Path:
    """Write the arms side by side, with titles, a frame counter and a time line with the injections.

    Args:
        run: What to show; a frame that is missing leaves the one before it standing.
        path: Its suffix says the format: ``.webp``, ``.gif`` or ``.mp4``. Replaced in one step.
        fps: Frames of the loop a second, above 0 and at most 50.
        budget: Most bytes of a WebP or GIF. Every second, third ... frame is left out to keep it.

    Returns:
        The path.

    Raises:
        InputError: Another suffix, or ``fps`` out of range.
        MissingDependencyError: MP4 without ffmpeg on PATH, or with one that cannot write H.264.
        StorageError: The disk refused; an older file is untouched.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    writers: dict[str, Callable[[Run, float, int], bytes]] = {".gif": _gif, ".mp4": _mp4, ".webp": _webp}
    if suffix not in writers:
        raise InputError(f"an animation ends in {', '.join(FORMATS)}; {target.name!r} does not")
    if not 0 < fps <= 50:
        raise InputError(f"fps must be above 0 and at most 50, got {fps}")
    replace_file(target, [writers[suffix](run, fps, budget)], durable=False)
    return target


# ------------------------------------------------------------------------------ what is drawn


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where everything stands, in pixels; width and height are even, as H.264 wants them."""

    panel: tuple[int, int]
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        width = 2 * MARGIN + self.columns * (self.panel[0] + GAP) - GAP
        height = self.rows * (HEAD + self.panel[1]) + FOOT + (self.rows - 1) * GAP
        return width + width % 2, height + height % 2

    def place(self, at: int) -> tuple[int, int]:
        row, column = divmod(at, self.columns)
        return MARGIN + column * (self.panel[0] + GAP), HEAD + row * (HEAD + self.panel[1] + GAP)


def _stage(run: Run, panel: int) -> _Stage:
    width, height = run.size
    columns = min(len(run.arms), MOST_COLUMNS)
    tall = round(panel * min(1.8, max(0.5, height / width)))
    return _Stage((panel, tall), columns, -(-len(run.arms) // columns))


def film(run: Run, numbers: Sequence[int], panel: int = PANEL) -> Iterator[Image.Image]:
    """Draw the frames of those numbers, one at a time, RGB, each arm ``panel`` pixels wide."""
    stage = _stage(run, panel)
    slots = arm_slots(run.arms)
    ground = _ground(run, stage, slots)
    shown: list[Image.Image | None] = [None] * len(run.arms)
    for number in numbers:
        canvas = ground.copy()
        for at, (arm, slot) in enumerate(zip(run.arms, slots, strict=True)):
            picture = arm.picture(number)
            if picture is not None:
                shown[at] = cover(picture, stage.panel)
            _show(canvas, shown[at], stage, at, _glow(arm, slot, number))
        _time(canvas, run, stage, number)
        yield canvas


def _ground(run: Run, stage: _Stage, slots: Sequence[int]) -> Image.Image:
    """What stands still: paper, titles, empty panels, the time line with its injections."""
    canvas = Image.new("RGB", stage.size, PAPER)
    draw = ImageDraw.Draw(canvas)
    y = stage.size[1] - 13
    draw.line((MARGIN, y, stage.size[0] - MARGIN - 1, y), fill=QUIET, width=2)
    for at, (arm, slot) in enumerate(zip(run.arms, slots, strict=True)):
        x, top = stage.place(at)
        draw.bitmap((x, top - 19), rounded((8, 8), 4), fill=arm_colour(slot))
        draw.text((x + 14, top - 10), shorten(arm.title, 14, stage.panel[0] - 14), INK, font(14), anchor="ls")
        draw.bitmap((x, top), rounded(stage.panel, 6), fill=QUIET)
        for record in arm.injections:
            mark = _along(stage, run, record.frame)
            draw.line((mark, y - 6, mark, y - 2), fill=arm_colour(slot))
    return canvas


def _glow(arm: Arm, slot: int, number: int) -> str | None:
    recent = any(0 < number - record.frame <= AFTERGLOW for record in arm.injections)
    return arm_colour(slot) if recent else None


def _show(canvas: Image.Image, picture: Image.Image | None, stage: _Stage, at: int, glow: str | None) -> None:
    x, y = stage.place(at)
    if glow is not None:
        box = (x - 3, y - 3, x + stage.panel[0] + 2, y + stage.panel[1] + 2)
        ImageDraw.Draw(canvas).rounded_rectangle(box, 8, outline=glow, width=2)
    if picture is not None:
        canvas.paste(picture, (x, y), rounded(stage.panel, 6))


def _along(stage: _Stage, run: Run, number: int) -> int:
    return MARGIN + round((stage.size[0] - 2 * MARGIN - 2) * number / max(1, run.last))


def _time(canvas: Image.Image, run: Run, stage: _Stage, number: int) -> None:
    draw = ImageDraw.Draw(canvas)
    y = stage.size[1] - 13
    draw.line((MARGIN, y, _along(stage, run, number), y), fill=SOFT, width=2)
    draw.text((stage.size[0] - MARGIN, y - 11), f"frame {number:,}", SOFT, font(12), anchor="rs")


# ------------------------------------------------------------------------------------ formats


def _numbers(run: Run, most: int) -> list[int]:
    """Every k-th frame with the smallest k that gives at most ``most``; the last frame is always there."""
    step = -(-(run.last + 1) // most)
    return list(range(run.last % step, run.last + 1, step))


def _durations(count: int, fps: float, step: int) -> list[int]:
    """Milliseconds of every frame, the last one held; rounded so that no error adds up."""
    edges = [round(at * step * 1000 / fps) for at in range(count + 1)]
    times = [after - before for before, after in pairwise(edges)]
    times[-1] += HOLD_MS
    return times


def animation_webp(
    run: Run, *, fps: float = FPS, budget: int = BUDGET, most: int = MOST_FRAMES
) -> tuple[bytes, int]:
    """The WebP animation as bytes, and how many frames it has.

    Args:
        run: What to show.
        fps: Frames a second.
        budget: Most bytes; frames are left out, and the others shown for longer, until they fit.
        most: Most frames; a longer run becomes a time lapse at the same ``fps``.
    """
    numbers = _numbers(run, most)
    frames = [_webp_frame(image) for image in film(run, numbers)]
    step = 1
    while step < len(frames) and sum(map(len, _every(frames, step))) > budget:
        step += 1
    kept = _every(frames, step)
    data = _webp_file(_stage(run, PANEL).size, kept, _durations(len(kept), fps, step))
    return data, len(kept)


def _webp(run: Run, fps: float, budget: int) -> bytes:
    return animation_webp(run, fps=fps, budget=budget)[0]


def _every(frames: Sequence[bytes], step: int) -> Sequence[bytes]:
    """Every ``step``-th, counted back from the last."""
    return frames[(len(frames) - 1) % step :: step]


def _webp_frame(image: Image.Image) -> bytes:
    """One picture as the ``VP8`` chunk of a lossy WebP file."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=62, method=2)
    return buffer.getvalue()[12:]


def _webp_file(size: tuple[int, int], frames: Sequence[bytes], durations: Sequence[int]) -> bytes:
    """An animation that repeats for ever, from ready frames.

    The extended layout of the WebP container: VP8X, ANIM, and one ANMF a frame
    (RFC 9649, sections 2.7.1.1 and 2.7.1.2).
    """
    extent = _u24(size[0] - 1) + _u24(size[1] - 1)
    chunks = [_chunk(b"VP8X", b"\x02\0\0\0" + extent), _chunk(b"ANIM", _GROUND + b"\0\0")]
    for frame, duration in zip(frames, durations, strict=True):
        # At the left top corner, without blending, left standing.
        chunks.append(_chunk(b"ANMF", bytes(6) + extent + _u24(duration) + b"\x02" + frame))
    return _chunk(b"RIFF", b"WEBP" + b"".join(chunks))


_GROUND = bytes(reversed(bytes.fromhex(PAPER[1:]))) + b"\xff"  # blue, green, red, alpha


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _u24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _gif(run: Run, fps: float, budget: int) -> bytes:
    numbers = _numbers(run, MOST_FRAMES)
    step = 1
    while True:
        kept = numbers[(len(numbers) - 1) % step :: step]
        data = _gif_file(film(run, kept, GIF_PANEL), _durations(len(kept), fps, step))
        if len(data) <= budget or len(kept) == 1:
            return data
        step = max(step + 1, round(step * len(data) / budget))


def _gif_file(frames: Iterator[Image.Image], durations: Sequence[int]) -> bytes:
    # A GIF counts hundredths of a second.
    edges = [round(sum(durations[:at]) / 10) * 10 for at in range(len(durations) + 1)]
    times = [after - before for before, after in pairwise(edges)]
    reduced = (image.quantize(128, Image.Quantize.FASTOCTREE) for image in frames)
    buffer = io.BytesIO()
    next(reduced).save(
        buffer, "GIF", save_all=True, append_images=reduced, duration=times, loop=0, optimize=False
    )
    return buffer.getvalue()


def _mp4(run: Run, fps: float, _budget: int) -> bytes:
    program = find_ffmpeg()
    width, height = _stage(run, PANEL).size
    with tempfile.TemporaryDirectory(prefix="reverie-") as scratch:
        film_file = Path(scratch) / "film.mp4"
        command = [
            *(program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y"),
            *(
                "-f",
                "rawvideo",
                "-pix_fmt",
                "rgb24",
                "-s",
                f"{width}x{height}",
                "-r",
                f"{fps:g}",
                "-i",
                "pipe:0",
            ),
            *(
                "-an",
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-crf",
                "22",
                "-pix_fmt",
                "yuv420p",
                "-movflags",
                "+faststart",
            ),
            *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", str(film_file)),
        ]
        _pipe(command, film(run, range(run.last + 1)))
        try:
            return film_file.read_bytes()
        except OSError as exc:
            raise StorageError(f"cannot read what ffmpeg wrote: {exc.strerror or exc}") from exc


def _pipe(command: Sequence[str], frames: Iterator[Image.Image]) -> None:
    """Feed the frames to ffmpeg; what it says goes to a file, so that neither side waits for the other."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - a fixed program with arguments of ours, no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            with process:
                assert process.stdin is not None  # noqa: S101 - tells mypy what PIPE means
                for frame in frames:
                    process.stdin.write(frame.tobytes())
        except BrokenPipeError:
            process.wait()  # it ended early: its own words below say why
        if process.returncode != 0:
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise MissingDependencyError(
                f"ffmpeg could not write an MP4 ({words[0]}): it needs the encoder libx264 and free disk "
                "space; .webp and .gif work without it"
            )
