"""Where a data set lies, on a file system of fsspec. Everything here blocks.

A file is uploaded to the sibling and moved from there, which object stores do by a copy: a reader
of the directory sees it as a whole or not at all. Others are kept out by a lease, an object that
its owner replaces every few seconds. One that did not change for as long as it lasts, by the clock
of who waits, is over: so clocks need not agree, and a sync that was killed blocks nobody for long.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast
from uuid import uuid4

import msgspec

from itwin_async._core.redaction import unsigned
from itwin_async._core.secrets import SecretStr
from itwin_async.sync._storage import MARK, MARKER

try:
    import fsspec
except ModuleNotFoundError as error:
    raise ImportError("URLs need fsspec: pip install 'itwin-async[remote]'") from error

_url_to_fs: Final = cast("Any", fsspec).core.url_to_fs
LEASE_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.5  # between reads of the lease of another
_LEASE: Final = "lease"


class _Lease(msgspec.Struct, frozen=True):
    owner: str
    renewed: int


class RemoteStorage:
    """A directory of an fsspec file system."""

    can_replace = False  # readers that look at an object's tag refuse one that has changed

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.label: Final = unsigned(url.rstrip("/"))
        self._fs: Any
        found: str
        self._fs, found = _url_to_fs(url, **options)
        # Text that no frame shows: some file systems keep the password of the URL in their paths.
        self._path: Final = SecretStr(found.rstrip("/"))
        self._aside: Final = SecretStr(f"{self._path}.sync")
        self._owner = ""
        self._renewed = 0
        self._renewed_at = 0.0
        self._other: bytes | None = None  # the lease of another, and since when it is as it is
        self._seen_at = 0.0
        self._took_over = False
        if not self._path.strip("/") or (self._fs.protocol != "memory" and "/" not in self._path):
            raise ValueError(f"{self.label} cannot be a data set: choose a directory inside of it")

    # The lease

    def claim(self) -> bool:
        """Make both directories and take the lease; see `Storage`."""
        if not self._owner:
            self._prepare()
            self._owner, self._renewed = uuid4().hex, 0
        if not self._create():
            self._watch_other()
            return False
        if self._took_over:
            time.sleep(_POLL_SECONDS)  # somebody else may have found it over just now
        if not self._is_ours():
            raise self._running()
        for name in self.names_aside():
            if name.startswith("draft-"):
                self.remove_aside(name)
        return True

    def _prepare(self) -> None:
        for directory in (self._path, self._aside):
            if self._fs.isfile(directory):
                raise ValueError(f"{unsigned(directory)} is in the way, for it is no directory")
        marker = self.read_aside(MARKER)
        if marker != MARK and (marker is not None or self.names_aside()):
            raise ValueError(
                f"{unsigned(self._aside)} was not made by a sync of this version: move it away"
            )
        for directory in (self._path, self._aside):
            if not self._fs.exists(directory):
                # Without its parents: a bucket is not created, as its name may be misspelt.
                self._fs.mkdir(directory, create_parents=False)
        if marker is None:
            self.write_aside(MARKER, MARK)

    def _watch_other(self) -> None:
        """Read the lease of another: it is over if it did not change for long enough."""
        found = self.read_aside(_LEASE)
        if found != self._other:
            if found is not None and self._other is not None:
                raise self._running()
            self._other, self._seen_at = found, time.monotonic()
        elif found is not None and time.monotonic() - self._seen_at >= LEASE_SECONDS:
            self.remove_aside(_LEASE)
            self._took_over = True

    def _running(self) -> RuntimeError:
        self._owner = ""
        return RuntimeError(f"another sync to {self.label} is running")

    def _create(self) -> bool:
        """Create the lease; False if there is one."""
        if self._fs.exists(f"{self._aside}/{_LEASE}"):
            self._fs.invalidate_cache()
            return False
        began = time.monotonic()
        try:
            self._fs.pipe_file(f"{self._aside}/{_LEASE}", self._encoded(), mode="create")
        except FileExistsError:
            return False
        self._renewed_at = began
        return True

    def _encoded(self) -> bytes:
        return msgspec.json.encode(_Lease(self._owner, self._renewed))

    def _is_ours(self) -> bool:
        with suppress(msgspec.MsgspecError):
            found = msgspec.json.decode(self.read_aside(_LEASE) or b"null", type=_Lease)
            return found.owner == self._owner
        return False

    def renew(self) -> None:
        """Make the lease last longer. It is lost if it is another's by now."""
        if self._owner and self._is_ours():
            began = time.monotonic()
            self._renewed += 1
            self.write_aside(_LEASE, self._encoded())
            self._renewed_at = began
        else:
            self._owner = ""

    def is_claimed(self) -> bool:
        """Whether the lease is still ours; asks where it was not renewed in time."""
        if self._owner and time.monotonic() - self._renewed_at > LEASE_SECONDS / 2:
            self.renew()
        return bool(self._owner)

    def release(self) -> None:
        """Remove the lease."""
        if self._owner and self._is_ours():
            self.remove_aside(_LEASE)
        self._owner = ""

    # Files

    def names(self) -> list[str]:
        """The names of all that lies in the directory."""
        return self._names(self._path)

    def _names(self, directory: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            found: list[str] = self._fs.ls(directory, detail=False)
        except FileNotFoundError:
            return []
        names = (path.rstrip("/").rpartition("/")[2] for path in found)
        # Some stores list a directory as an entry of itself.
        own = directory.rpartition("/")[2]
        return [name for name in names if name and name != own]

    @contextmanager
    def open(self, name: str) -> Generator[Any]:
        """A file of the directory, open for reading."""
        with self._fs.open(f"{self._path}/{name}", "rb") as file:
            yield file

    def commit(self, name: str, data: bytes) -> None:
        """Add or replace a file of the directory, which is there as a whole or not at all."""
        self._write(f"{self._path}/{name}", data)

    def read_aside(self, name: str) -> bytes | None:
        """A file of the sibling; None if it is not there."""
        self._fs.invalidate_cache()
        try:
            return bytes(self._fs.cat_file(f"{self._aside}/{name}"))
        except FileNotFoundError:
            return None

    def write_aside(self, name: str, data: bytes) -> None:
        """Add or replace a file of the sibling."""
        self._write(f"{self._aside}/{name}", data)

    def _write(self, path: str, data: bytes) -> None:
        draft = f"{self._aside}/draft-{uuid4().hex}"
        self._fs.pipe_file(draft, data)
        self._fs.mv(draft, path)

    def remove_aside(self, name: str) -> None:
        """Remove a file of the sibling, if it is there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._aside}/{name}")

    def names_aside(self) -> list[str]:
        """The names of all that lies in the sibling."""
        return self._names(self._aside)
