"""A version with large files, and downloads of it that stop."""

from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from itwin_async import (
    DownloadedVersion,
    ITwinSession,
    Retry,
    TransportError,
)
from itwin_async.emulator import Cut, Emulator

EXTENSION = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"


NUMBER = "9.0.0"


QUICK = Retry(base=0.001, cap=0.002)


CONTENT = b"".join(b"%07d\n" % number for number in range(5_000))  # 40,000 bytes, none like another


TAG = '"abc"'


def download(
    itwin: ITwinSession, directory: Path, **options: Any
) -> Coroutine[Any, Any, DownloadedVersion]:
    return itwin.extensions.download_version(EXTENSION, NUMBER, directory, **options)


def on_disk(directory: Path) -> dict[str, bytes]:
    """Every file there is, by relative path."""
    found = (path for path in directory.rglob("*") if not path.is_dir())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


# With the emulator

LARGE = {"dist/large.bin": CONTENT * 10, "index.js": b"small"}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(extensions=3, itwins=3, imodels=1) as running:
        running.publish(EXTENSION, NUMBER, LARGE)
        yield running


def session(emulator: Emulator, **options: Any) -> ITwinSession:
    options.setdefault("retry", QUICK)
    return ITwinSession(emulator.credentials, base_url=emulator.url, **options)


def ranges(emulator: Emulator) -> list[str]:
    """The ranges that were asked for of files."""
    files = [item for item in emulator.requests if item.operation == "download"]
    return [item.headers["Range"] for item in files if "Range" in item.headers]


async def stopped(emulator: Emulator, directory: Path, at: int = 150_000, **options: Any) -> None:
    """A download that fails when so many bytes of each file have come."""
    fault = emulator.faults.add("download", Cut(at), times=None)
    async with session(emulator, retry=Retry(1)) as itwin:
        with pytest.raises(TransportError):
            await download(itwin, directory, **options)
    emulator.faults.clear()
    del fault
