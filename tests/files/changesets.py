"""A server of an iModel's changesets, and of their files as a storage serves them."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support import Connection, Got, RawServer, answer, head

from itwin_async import Retry

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
# Patient: where the server ends a connection, one that was kept may meet its end as well.
QUICK = Retry(12, base=0.001, cap=0.002)
TAG = '"tag-{}"'


def contents(number: int, seed: int = 1) -> list[bytes]:
    """The files of so many changesets, from empty ones to some of many pieces."""
    source = random.Random(seed)
    return [source.randbytes(source.choice([0, 1, 800, 3_000, 70_000])) for _ in range(number)]


def id_of(index: int) -> str:
    """The id of the changeset with this index."""
    return hashlib.sha1(str(index).encode()).hexdigest()


class ChangesetServer(RawServer):
    """The changesets 1, 2, … with these files. ``broken`` may answer for the storage instead.

    It gets the index, the request, and how many requests for this file came before; its bytes are
    sent, and the connection ends.
    """

    def __init__(self, files: Sequence[bytes], *, page: int = 100) -> None:
        super().__init__(self._serve)
        self.files = list(files)
        self.page = page
        self.broken: Callable[[int, Got, int], bytes | None] = lambda *_: None
        self.change: Callable[[dict[str, Any]], object] = lambda _: None  # of each changeset
        self.stall_at: int | None = None  # where each file stops to arrive
        self.signature = 0  # those of earlier numbers have ended
        self.asked: list[tuple[int, Got]] = []  # the requests of files

    async def _serve(self, connection: Connection) -> None:
        while True:
            got = await connection.request()
            if not got.target.startswith("/account/"):
                await connection.send(self._platform(got))
                continue
            index = int(urlsplit(got.target).path.rpartition("/")[2])
            before = sum(asked == index for asked, _ in self.asked)
            self.asked.append((index, got))
            broken = self.broken(index, got, before)
            if broken is not None:
                await connection.send(broken)
                return
            if self.stall_at is not None:
                await connection.send(self.stored(index, got, at=self.stall_at))
                await connection.gone()
            await connection.send(self.stored(index, got))

    def stored(self, index: int, got: Got, at: int | None = None) -> bytes:
        """What the storage answers; cut at a place of the body."""
        assert "authorization" not in got.headers
        if parse_qs(urlsplit(got.target).query)["sig"] != [str(self.signature)]:
            return refused()
        content, tag = self.files[index - 1], TAG.format(index)
        cut = None if at is None or at >= len(content) else at - len(content)
        match = re.fullmatch(r"bytes=(\d+)-", got.headers.get("range", ""))
        if match is None or got.headers.get("if-range", tag) != tag:
            return answer(content, f"ETag: {tag}")[:cut]
        start = int(match[1])
        if start >= len(content):
            return answer(b"", f"Content-Range: bytes */{len(content)}", status="416 No")
        lines = (f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}", f"ETag: {tag}")
        return answer(content[start:], *lines, status="206 Partial Content")[:cut]

    def _platform(self, got: Got) -> bytes:
        assert got.headers["authorization"] == "Bearer token-of-the-test"
        path, _, query = got.target.partition("?")
        words = {name: values[0] for name, values in parse_qs(query).items()}
        full = "representation" in got.headers.get("prefer", "")
        if (last := path.rpartition("/")[2]) != "changesets":
            (index,) = [n for n in range(1, len(self.files) + 1) if last in {id_of(n), str(n)}]
            return answer(json.dumps({"changeset": self._changeset(index, full=True)}).encode())
        first = int(words.get("afterIndex", 0)) + 1
        end = min(int(words.get("lastIndex", len(self.files))), len(self.files)) + 1
        skip = int(words.get("$skip", 0))
        size = int(words.get("$top", self.page))
        indexes = range(first, end)
        if words.get("$orderBy") != "index asc":  # which nobody promises
            indexes = indexes[::-1]
        page = [self._changeset(n, full=full) for n in indexes[skip : skip + size]]
        links: dict[str, Any] = {"next": None}
        if skip + size < len(indexes):
            words["$skip"] = str(skip + size)
            query = "&".join(f"{name}={value}" for name, value in words.items())
            links["next"] = {"href": f"{self.url}{path}?{query.replace(' ', '%20')}"}
        return answer(json.dumps({"changesets": page, "_links": links}).encode())

    def _changeset(self, index: int, *, full: bool) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": id_of(index),
            "index": index,
            "state": "fileUploaded",
            "fileSize": len(self.files[index - 1]),
            "_links": {},
        }
        if full:
            href = f"{self.url}/account/container/{index}?sig={self.signature}"
            found["_links"] = {"download": {"href": href, "storageType": "azure"}}
            self.change(found)
        return found

    def ranges(self, index: int) -> list[str | None]:
        """The ranges that were asked for of a file."""
        return [got.headers.get("range") for asked, got in self.asked if asked == index]

    def expected(self, *indexes: int) -> dict[str, bytes]:
        """The files by name; of all changesets where none is named."""
        wanted = indexes or range(1, len(self.files) + 1)
        return {f"{id_of(index)}.cs": self.files[index - 1] for index in wanted}


def refused() -> bytes:
    """What Azure answers to a signed URL that has ended."""
    body = b"<Error><Code>AuthenticationFailed</Code></Error>"
    return answer(body, "Content-Type: application/xml", status="403 Forbidden")


def cut_off(content: bytes, at: int, tag: str) -> bytes:
    """A whole file that is cut at a place."""
    return head(f"Content-Length: {len(content)}", f"ETag: {tag}") + content[:at]


def on_disk(directory: Path) -> dict[str, bytes]:
    """Every file there is by name, hidden ones as well."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def named(directory: Path) -> dict[str, bytes]:
    """The files with final names."""
    return {name: data for name, data in on_disk(directory).items() if not name.startswith(".")}
