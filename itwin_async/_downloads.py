"""Files behind signed URLs: fetched side by side and without the token, all of them or none.

Everything that touches the disk runs in threads. Files are gathered in a hidden directory beside
their places, and moved there only when all of them are whole.
"""

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import anyio

from itwin_async._elsewhere import Pull
from itwin_async._exchange import Exchange
from itwin_async._links import Origin, split
from itwin_async._silent import SilentStr
from itwin_async._threads import in_thread
from itwin_async.errors import DecodeError, ForbiddenError, LinkError, one_line

# Names that Windows keeps for devices, with any extension.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the platform offers it. ``path`` is relative, with slashes, and not to be trusted.

    ``sha256`` is hexadecimal; without one, a file is whole when its answer is.
    """

    path: str
    url: SilentStr | None
    expires_at: datetime | None = None
    sha256: str | None = None


def signed(
    base: Origin, url: SilentStr | None, *, allow_plain_http: bool = False
) -> tuple[Origin, str]:
    """Origin and target, byte for byte, of a URL to fetch without the token; `LinkError` if bad."""
    parts = split(url or "")
    if parts is None:
        raise LinkError("a download URL is not an absolute https URL with a plain host")
    origin, parts = parts[0], (parts[0], SilentStr(parts[1]))
    if origin.is_loopback and not base.is_loopback:
        raise LinkError("a download URL leads to this machine")
    plain = allow_plain_http or (origin.is_loopback and base.scheme == "http")
    if origin.scheme != "https" and not plain:
        raise LinkError(f"a download URL is not https: {origin}")
    return parts


def inside(path: str) -> list[str]:
    """The parts of a relative path; `DecodeError` for one that could lead out of its directory."""
    parts = path.split("/")
    for part in parts:
        if (
            part in {"", ".", ".."}
            or not part.isprintable()
            or "\\" in part
            or ":" in part
            or part.endswith((".", " "))  # which Windows drops
            or _RESERVED.fullmatch(part)
        ):
            raise _leaves(path)
    return parts


def _leaves(path: str) -> DecodeError:
    return DecodeError(
        f"a file has the relativePath {one_line(repr(path), longest=100)}, which may lead out of "
        "the directory"
    )


def _by_path(offered: Sequence[Remote]) -> dict[str, Remote]:
    offers = {remote.path: remote for remote in offered}
    if len(offers) < len(offered):
        raise DecodeError("two files have the same relativePath")
    return offers


class _Place:
    """Where files go, and the hidden directory where they are gathered. All of it blocks."""

    def __init__(self, directory: Path, paths: Sequence[str], *, overwrite: bool) -> None:
        self._directory = directory
        self._overwrite = overwrite
        self._parts = {path: str(nth) for nth, path in enumerate(paths)}
        self._hidden: Path | None = None
        self._made: list[Path] = []  # directories that were not there
        self._placed: list[Path] = []  # files that were not there

    def open(self) -> None:
        """See that all files may go where they shall, before anything is fetched."""
        self._make(self._directory)
        for path in self._parts:
            self._final(path)
        self._hidden = Path(tempfile.mkdtemp(".part", ".itwin-", self._directory))

    def write(self, path: str, mode: Literal["wb", "ab"], piece: bytes, digest: Any) -> None:
        """Write a piece of a file, from its beginning or on."""
        with self._part(path).open(mode) as file:
            file.write(piece)
        digest.update(piece)

    def settle(self) -> dict[str, Path]:
        """Give all files their names."""
        found: dict[str, Path] = {}
        for path in self._parts:
            final = found[path] = self._final(path)
            self._make(final.parent)
            is_new = not os.path.lexists(final)
            self._part(path).replace(final)
            if is_new:
                self._placed.append(final)
        self._clear()
        return found

    def discard(self) -> None:
        """Leave nothing that was not there."""
        self._clear()
        for file in self._placed:
            file.unlink(missing_ok=True)
        for directory in reversed(self._made):
            with suppress(OSError):  # somebody else uses it by now
                directory.rmdir()

    def _part(self, path: str) -> Path:
        if self._hidden is None:
            raise RuntimeError("the place of a download is not open")
        return self._hidden / self._parts[path]

    def _clear(self) -> None:
        if self._hidden is not None:
            shutil.rmtree(self._hidden, ignore_errors=True)

    def _final(self, path: str) -> Path:
        final = self._directory
        for part in inside(path):
            final /= part
            if final.is_symlink():
                raise _leaves(path)
        if not self._overwrite and os.path.lexists(final):
            raise FileExistsError(f"{final} is there already: give overwrite=True to replace it")
        if final.is_dir():
            raise IsADirectoryError(f"{final} is a directory, and a file is to go there")
        return final

    def _make(self, directory: Path) -> None:
        missing: list[Path] = []
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for each in reversed(missing):
            with suppress(FileExistsError):  # by another download, just now
                each.mkdir()
                self._made.append(each)


class Download:
    """Files on their way to a directory.

    ``renew`` asks for the same files again, with fresh URLs: at most once for each file, and for
    all whose URLs ended together.
    """

    def __init__(
        self,
        exchange: Exchange,
        offered: Sequence[Remote],
        renew: Callable[[], Awaitable[Sequence[Remote]]],
        directory: Path,
        *,
        overwrite: bool,
    ) -> None:
        self._exchange = exchange
        self._offers = self._first = _by_path(offered)
        for path, remote in self._offers.items():
            inside(path)
            self._signed(remote)
        self._renew = renew
        self._renewing = asyncio.Lock()
        self._place = _Place(directory, list(self._offers), overwrite=overwrite)

    async def run(self) -> dict[str, Path]:
        """Fetch all files; where they are, by relative path. If one fails, none is there."""
        place = self._place
        try:
            await in_thread(place.open)
            await self._fetch_all()
            return await in_thread(place.settle)
        except BaseException:
            await in_thread(place.discard)
            raise

    async def _fetch_all(self) -> None:
        waiting = iter(self._offers)

        async def work() -> None:
            for path in waiting:
                await self._fetch(path)

        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(len(self._offers), self._exchange.limiter.concurrency)):
                    group.start_soon(work)
        except ExceptionGroup as failures:
            failure = failures.exceptions[0]
        if failure is not None:  # raised here, it does not hold on to the others
            raise failure

    async def _fetch(self, path: str) -> None:
        sha256, write = self._offers[path].sha256, self._place.write
        renewed = False

        async def store(pull: Pull) -> None:
            digest = hashlib.sha256()
            await in_thread(write, path, "wb", b"", digest)
            while piece := await pull():
                await in_thread(write, path, "ab", piece, digest)
            if sha256 is not None and digest.hexdigest() != sha256.lower():
                raise DecodeError(f"{one_line(path)} has another SHA-256 than the platform says")

        while True:
            offers = self._offers
            remote = offers[path]
            if renewed or not self._has_ended(remote):
                url = self._signed(remote)
                try:
                    return await self._exchange.elsewhere.fetch(url, store)
                except ForbiddenError:
                    if renewed:
                        raise
            renewed = True
            async with self._renewing:
                if self._offers is offers:
                    fresh = _by_path(await self._renew())
                    if fresh.keys() != offers.keys():
                        raise DecodeError("the files changed while they were downloaded")
                    self._offers = fresh

    def _signed(self, remote: Remote) -> tuple[Origin, str]:
        exchange = self._exchange
        allowed = exchange.elsewhere.allow_plain_http
        return signed(exchange.base, remote.url, allow_plain_http=allowed)

    def _has_ended(self, remote: Remote) -> bool:
        """Whether a URL has ended by our clock, which is believed once: it may be wrong."""
        return (
            self._offers is self._first
            and remote.expires_at is not None
            and remote.expires_at <= datetime.now(UTC)
        )
