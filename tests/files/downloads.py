"""A version of fifty files, and downloads of it."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import (
    Connection,
    RawServer,
    answer,
)

from itwin_async import (
    DownloadedVersion,
    ITwinSession,
    Retry,
)
from itwin_async.emulator import Edit, Emulator

EXTENSION = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"


NUMBER = "9.0.0"


FILES = {f"dist/{n % 5}/part {n}.js": b"%d\n" % n * (1 + n * 997) for n in range(50)}


QUICK = Retry(base=0.001, cap=0.002)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(extensions=3, itwins=3, imodels=1) as running:
        running.publish(EXTENSION, NUMBER, FILES)
        yield running


@pytest.fixture
async def itwin(emulator: Emulator) -> AsyncIterator[ITwinSession]:
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=QUICK) as session:
        yield session


def on_disk(directory: Path) -> dict[str, bytes]:
    """Every file there is, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if not path.is_dir()
    }


def is_untouched(directory: Path) -> bool:
    """Whether there is nothing at all, hidden or not."""
    return not directory.exists() or not list(directory.rglob("*"))


def download(
    itwin: ITwinSession, directory: Path, **options: Any
) -> Coroutine[Any, Any, DownloadedVersion]:
    return itwin.extensions.download_version(EXTENSION, NUMBER, directory, **options)


def edited(change: Callable[[Any], object]) -> Edit:
    """A version whose first file is changed."""
    return Edit(lambda body: change(body["version"]["files"][0]))


def server_of(content: bytes, broken: bytes, *, query: str = "?sig=x") -> RawServer:
    """Serves a version of one file, and then the record of the file, each on a connection."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    async def serve(connection: Connection) -> None:
        got = await connection.request()
        if not got.target.startswith("/blob"):
            file = {
                "downloadUrl": f"{server.url}/blob{query}",
                "downloadUrlExpiresAt": soon,
                "relativePath": "a.bin",
                "checksum": {"sha256": hashlib.sha256(content).hexdigest()},
            }
            body = json.dumps({"version": {"number": NUMBER, "files": [file]}}).encode()
            await connection.send(answer(body, "Connection: close"))
        else:
            await connection.send(broken)

    server = RawServer(serve)
    return server
