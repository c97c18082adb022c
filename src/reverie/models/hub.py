"""The Hugging Face Hub: what it states of files, its cache on this machine, downloads that go on.

Only this module imports huggingface_hub, which takes about a second. Addresses, tokens, proxies,
offline mode and the cache folder are its business: HF_ENDPOINT, HF_TOKEN, HTTPS_PROXY, HF_HUB_OFFLINE,
HF_HOME, HF_HUB_CACHE.

Files land in the Hub's own cache, in its own layout, so transformers and others find them and we find
theirs. The transfer is huggingface_hub's; the unfinished file is ours: since 1.0 huggingface_hub deletes
it when a download ends early, and 600 MB on a weak line should not begin again.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import IO, Any, TypeVar

import filelock
from huggingface_hub import HfApi, constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is in no __all__
    HTTPError,  # its transport's, be it requests (before 1.0), httpx or httpx2 (from 2.0)
    OfflineModeIsEnabled,
)
from huggingface_hub.file_download import are_symlinks_supported, http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # public, in no __all__
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from reverie.errors import DownloadError, ModelCorruptError, ModelNotFoundError
from reverie.models.digests import aside_name, git_blob_id, set_aside, sha256_of
from reverie.models.progress import Arrived, listener
from reverie.storage import flush_file, partial_name, sync_folder

__all__ = ["Stated", "Statement", "cached", "cached_commit", "download", "endpoint", "statement"]

T = TypeVar("T")

_PAUSES = (1.0, 3.0)  # seconds before the second and the third try
_CHUNK = 1 << 20  # bytes between two reports, and what a broken connection loses at most
_LOOK_AGAIN = 0.5  # seconds between two looks at a file that another process downloads
_BARS = "huggingface_hub.http_get"
_ONE_TRANSFER = threading.Lock()  # a transfer changes settings that all of huggingface_hub shares
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionError"}  # httpx: the first two; requests
_BUSY = {408, 429, 500, 502, 503, 504}
_REFUSED = {401, 403}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class Stated:
    """What the Hub states of a file.

    Attributes:
        size: Bytes.
        git: Its git blob id.
        sha256: Of its bytes; empty for a small file that is in git itself.
    """

    size: int
    git: str
    sha256: str = ""

    @property
    def blob(self) -> str:
        """What the cache names it."""
        return self.sha256 or self.git

    def fits(self, path: Path, sha256: str) -> bool:
        """Whether a file is this one; ``sha256`` is of its bytes."""
        return sha256 == self.sha256 if self.sha256 else git_blob_id(path) == self.git


@dataclass(frozen=True, slots=True)
class Statement:
    """What the Hub states of a revision.

    Attributes:
        repo: Repository.
        revision: As asked.
        commit: What that is.
        files: By name, those asked for.
    """

    repo: str
    revision: str
    commit: str
    files: Mapping[str, Stated]


def endpoint() -> str:
    """The address of the Hub."""
    return str(constants.ENDPOINT)


# ------------------------------------------------------------------------- the cache on disk


def cached(repo: str, revision: str, name: str) -> Path | None:
    """A file of a commit or branch in the Hub's cache, whoever downloaded it; None when it is not there."""
    found = try_to_load_from_cache(repo, name, cache_dir=constants.HF_HUB_CACHE, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached_commit(repo: str, branch: str) -> str:
    """The commit that a branch was when somebody last downloaded from it; empty when nobody did."""
    try:
        return (_storage(repo) / "refs" / branch).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _storage(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


# ------------------------------------------------------------------------------- one request


def statement(repo: str, revision: str, names: Sequence[str]) -> Statement:
    """What the Hub states of files: one request.

    Raises:
        ModelNotFoundError: No request is allowed, or nobody answers.
        DownloadError: The Hub is busy, refuses, or has no such file.
    """
    with _mapped(repo):
        info = _patiently(
            lambda: HfApi(library_name="reverie").model_info(
                repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
        )
    listed = {file.rfilename: file for file in info.siblings or ()}
    absent = [name for name in names if name not in listed]
    if absent:
        raise DownloadError(
            f"{endpoint()} has no {', '.join(absent)} in {repo} at {revision}: install a newer reverie, "
            "or give the files yourself with --model-dir"
        )
    return Statement(repo, revision, str(info.sha), {name: _stated(repo, listed[name]) for name in names})


def _stated(repo: str, file: Any) -> Stated:
    sha256 = file.lfs["sha256"] if file.lfs else ""
    if file.size is None or not (sha256 or file.blob_id):
        raise DownloadError(f"{endpoint()} states no size or no digest of {file.rfilename} in {repo}")
    return Stated(file.size, file.blob_id or "", sha256)


# ---------------------------------------------------------------------------------- download


def download(stated: Statement, name: str) -> tuple[Path, str]:
    """Bring a file into the Hub's cache; what an earlier try left is gone on with.

    A file that another process downloads at this moment is waited for. The bytes are compared with
    what the Hub states; wrong ones are kept aside and fetched once more.

    Returns:
        Where it is, in the snapshot of the commit, and the SHA-256 of its bytes.

    Raises:
        ModelNotFoundError: No request is allowed.
        DownloadError: The connection, the server or the disk failed; what arrived is kept.
        ModelCorruptError: The bytes are not those that the Hub states, twice.
    """
    job = _Download(stated, name)
    with _mapped(stated.repo, begun=True), job.alone():
        digest = job.sound() or job.fetch()
        job.publish()
    return job.pointer, digest


class _Download:
    """One file on its way: unfinished, then a blob named after its digest, then a name in a snapshot."""

    def __init__(self, stated: Statement, name: str) -> None:
        self.repo, self.name, self.commit = stated.repo, name, stated.commit
        self.branch = stated.revision if stated.revision != stated.commit else ""
        self.expected = stated.files[name]
        storage = _storage(self.repo)
        self.refs = storage / "refs"
        self.blob = storage / "blobs" / self.expected.blob
        self.partial = self.blob.with_name(f"{self.blob.name}.reverie.incomplete")
        self.pointer = storage / "snapshots" / self.commit / name
        self.lock = Path(constants.HF_HUB_CACHE) / ".locks" / storage.name / f"{self.blob.name}.lock"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock that huggingface_hub uses for this file too; report while another has it."""
        for path in (self.blob, self.pointer, self.lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.lock, mode=0o664)
        while True:
            try:
                lock.acquire(timeout=_LOOK_AGAIN)
            except filelock.Timeout:
                self.report()
            else:
                break
        try:
            yield
        finally:
            lock.release()

    def sound(self) -> str:
        """The digest of a file that is here already, for instance of another commit; empty without one."""
        for path in (self.blob, self.pointer):
            if path.exists():
                digest = sha256_of(path)
                if self.expected.fits(path, digest):
                    return digest
                set_aside(path)
        return ""

    def fetch(self) -> str:
        """Fill the unfinished file and check it; its digest."""
        for _ in range(2):
            self.transfer()
            digest = sha256_of(self.partial)
            if self.expected.fits(self.partial, digest):
                return digest
            aside = self.partial.rename(aside_name(self.blob))
        raise ModelCorruptError(
            f"{self.name} of {self.repo} arrived twice with other bytes than {endpoint()} states: a proxy or "
            f"mirror may change them. They were kept as {aside}"
        )

    def transfer(self) -> None:
        """Bring what is missing, for as long as tries bring more or pauses are left."""
        failures = 0
        while True:
            before = self.arrived()
            if before > self.expected.size:
                self.partial.rename(aside_name(self.blob))
                before = 0
            try:
                self.once(before)
            except (OSError, HTTPError) as exc:
                failures = 1 if self.arrived() > before else failures + 1
                if not _passes(exc) or failures > len(_PAUSES):
                    raise
                time.sleep(_PAUSES[failures - 1])
            else:
                return

    def once(self, have: int) -> None:
        """Ask for what is missing, once."""
        room = shutil.disk_usage(self.partial.parent).free
        if room < self.expected.size - have:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.report()
        with self.partial.open("ab") as file, _transferring():
            http_get(
                hf_hub_url(self.repo, self.name, revision=self.commit, endpoint=constants.ENDPOINT),
                _Reporting(file, self.report),  # type: ignore[arg-type]
                resume_size=have,
                headers=build_hf_headers(library_name="reverie"),
                expected_size=self.expected.size,
                displayed_filename=self.name,
            )

    def publish(self) -> None:
        """Give the finished file its names, in the layout of huggingface_hub."""
        if self.partial.exists() and not self.blob.exists() and not self.pointer.exists():
            flush_file(self.partial)
            links = are_symlinks_supported(constants.HF_HUB_CACHE)
            self.partial.replace(self.blob if links else self.pointer)
            sync_folder(self.blob.parent)
        if not self.pointer.exists():
            _point(self.pointer, self.blob)
        if self.branch:
            self.refs.joinpath(self.branch).parent.mkdir(parents=True, exist_ok=True)
            self.refs.joinpath(self.branch).write_text(self.commit, encoding="utf-8")

    def arrived(self) -> int:
        """Bytes of the unfinished file."""
        try:
            return self.partial.stat().st_size
        except FileNotFoundError:
            return 0

    def report(self, done: int | None = None) -> None:
        """Tell the listener."""
        tell = listener()
        if tell is not None:
            have = self.arrived() if done is None else done
            tell(Arrived(self.repo, self.name, min(have, self.expected.size), self.expected.size))


def _point(pointer: Path, blob: Path) -> None:
    """Make a name in a snapshot mean a blob: by a link, else by a copy; replaces a link to nothing."""
    temporary = pointer.with_name(partial_name())
    try:
        temporary.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # a system or file system without symbolic links
        shutil.copyfile(blob, temporary)
    temporary.replace(pointer)


class _Reporting:
    """A file that tells how long it is after every write; the rest is the file's own."""

    def __init__(self, file: IO[bytes], report: Callable[[int], None]) -> None:
        self._file, self._report = file, report

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._report(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _transferring() -> Iterator[None]:
    """Transfer in pieces small enough to report; where somebody listens, no second bar and no log lines."""
    with _ONE_TRANSFER, _settings():
        yield


@contextmanager
def _settings() -> Iterator[None]:
    chunk, level = constants.DOWNLOAD_CHUNK_SIZE, hub_logging.get_verbosity()
    silence = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled(_BARS)
    silence = silence and listener() is not None
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    hub_logging.set_verbosity(ERROR)
    if silence:
        disable_progress_bars(_BARS)
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = chunk
        hub_logging.set_verbosity(level)
        if silence:
            enable_progress_bars(_BARS)


# ------------------------------------------------------------------------------------ errors


def _status(exc: BaseException) -> int:
    """The HTTP status an error is about, 0 for none; before 1.0 some are requests' own, not the Hub's."""
    return int(getattr(getattr(exc, "response", None), "status_code", 0))


def _passes(exc: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(exc, OfflineModeIsEnabled) or type(exc).__name__ in _UNREACHABLE:
        return False
    if status := _status(exc):
        return status in _BUSY
    return getattr(exc, "errno", None) not in _DISK


def _patiently(request: Callable[[], T]) -> T:
    for pause in _PAUSES:
        try:
            return request()
        except (OSError, HTTPError) as exc:
            if not _passes(exc):
                raise
            time.sleep(pause)
    return request()


@contextmanager
def _mapped(repo: str, *, begun: bool = False) -> Iterator[None]:
    """Turn the errors of huggingface_hub, of its transport and of the disk into ours.

    ``begun``: the Hub answered before, so it is there.
    """
    try:
        yield
    except (ModelNotFoundError, ModelCorruptError, DownloadError):
        raise
    except (OSError, HTTPError) as exc:
        raise _ours(repo, exc, begun) from exc


def _ours(repo: str, exc: Exception, begun: bool) -> ModelNotFoundError | DownloadError:
    if isinstance(exc, OfflineModeIsEnabled):
        return ModelNotFoundError("HF_HUB_OFFLINE forbids every request")
    if type(exc).__name__ in _UNREACHABLE and not begun:
        return ModelNotFoundError(f"nobody answers at {endpoint()} ({_words(exc)})")
    status = _status(exc)
    if status in _REFUSED:
        return DownloadError(
            f"{endpoint()} refuses {repo} (HTTP {status}): if HF_TOKEN is set or you once said "
            "`hf auth login`, that token may have ended; a mirror may want one of its own"
        )
    if status and status not in _BUSY:
        return DownloadError(
            f"{endpoint()} has no such file or revision of {repo} (HTTP {status}): install a newer reverie, "
            "or give the files yourself with --model-dir"
        )
    why = f"HTTP {status}, the server is busy" if status else _disk(exc) or _words(exc)
    return DownloadError(
        f"the download of {repo} stopped: {why}. What arrived is kept; the next try goes on there"
    )


def _disk(exc: Exception) -> str:
    number = getattr(exc, "errno", None)
    if number not in _DISK:
        return ""
    where = constants.HF_HUB_CACHE
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {where} is full; free some space, or name another folder with HF_HOME"
    return f"{where} cannot be written ({os.strerror(number)}); name another folder with HF_HOME"


def _words(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
