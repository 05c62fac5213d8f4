"""The benchmark's server: `GET …/changesets/extendeddata` and little else, as fast as may be.

A process of its own, so that the client's core does nothing but the client's work. Every response
is built once, headers included, and found again by the bytes of the request line, so that an
response costs a few dictionary look-ups and the kernel's share. It speaks just enough HTTP/1.1 for
clients that are known to be well-behaved: no request bodies, no chunks, always keep-alive.

Control paths, for the harness alone:

    POST /_prepare?imodel=ID&lists=N&top=T   drop all responses, build those of N lists
    POST /_prepare?imodel=ID&single=1        the same for the single entries of one iModel
    POST /_reset                             set the counts to zero
    GET  /_stats                             the counts since then
"""

import asyncio
import json
import socket
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from dataset import WARM_UP, Dataset

MAX_TOP = 1000
CHUNK = 256 << 10  # large bodies are written in pieces of this size, none of them copied


@dataclass(slots=True)
class Response:
    """A whole response: what is written at once, what follows, and what it counts as."""

    first: bytes
    rest: tuple[memoryview, ...] = ()
    latency: float = 0.0
    past_the_end: bool = False
    counted: bool = True


@dataclass(slots=True)
class Stats:
    """What happened since the last reset."""

    requests: int = 0
    past_the_end: int = 0
    connections: int = 0
    in_flight: int = 0
    max_in_flight: int = 0


@dataclass(slots=True)
class Site:
    """All responses built so far, and the counts."""

    stats: Stats = field(default_factory=Stats)
    responses: dict[tuple[bytes, bytes], Response] = field(default_factory=dict)
    blocks: dict[tuple[Dataset, int, int], bytes] = field(default_factory=dict)

    def build(self, target: bytes, host: bytes) -> Response:
        """Build the response for a request target that is requested for the first time."""
        path, _, query = target.decode().partition("?")
        match path.split("/"):
            case ["", "imodels", imodel_id, "changesets", "extendeddata"]:
                response = self.page(imodel_id, dict(parse_qsl(query)), host.decode())
            case ["", "itwins", ""]:  # for the command line
                response = as_json({"iTwins": [], "_links": {}})
            case ["", "imodels", imodel_id, "changesets", index, "extendeddata"]:
                response = self.single(imodel_id, index)
            case _:
                response = error(404, "NotFound")
        self.responses[target, host] = response
        return response

    def page(self, imodel_id: str, query: dict[str, str], host: str) -> Response:
        """One page of a list, with the links that the documents show."""
        try:
            data = Dataset.from_id(imodel_id)
            skip, top = int(query.get("$skip", "0")), int(query.get("$top", "100"))
        except ValueError:
            return error(404, "iModelNotFound")
        if skip < 0 or not 0 < top <= MAX_TOP:
            return error(422, "InvalidiModelsRequest")
        base = f"http://{host}/imodels/{imodel_id}/changesets/extendeddata"

        def link(at: int) -> dict[str, str]:
            return {"href": f"{base}?$skip={at}&$top={top}"}

        links = {
            "self": link(skip),
            "prev": link(max(0, skip - top)) if skip else None,
            "next": link(skip + top) if skip + top < data.total else None,
        }
        # Lists that hold the same share their entries; only their links differ.
        shared = (replace(data, number=0, latency_ms=0), skip, top)
        block = self.blocks.get(shared)
        if block is None:
            last = min(data.total, skip + top)
            block = b",".join(data.entry(index + 1) for index in range(skip, last))
            self.blocks[shared] = block
        tail = f'],"_links":{json.dumps(links, separators=(",", ":"))}}}'.encode()
        response = respond(b'{"extendedData":[', block, tail)
        response.latency = data.latency_ms / 1000
        response.past_the_end = skip >= data.total
        response.counted = data != WARM_UP
        return response

    def single(self, imodel_id: str, index: str) -> Response:
        """One entry, in the envelope that the documents show."""
        try:
            data = Dataset.from_id(imodel_id)
        except ValueError:
            return error(404, "iModelNotFound")
        if not (index.isdecimal() and 0 < int(index) <= data.total):
            return error(404, "ChangesetExtendedDataNotFound")
        response = respond(b'{"extendedData":', data.entry(int(index)), b"}")
        response.latency = data.latency_ms / 1000
        return response

    def control(self, method: bytes, target: bytes, host: bytes) -> Response:
        """Response the harness."""
        path, _, query = target.decode().partition("?")
        match method, path:
            case b"POST", "/_prepare":
                return self.prepare(dict(parse_qsl(query)), host)
            case b"POST", "/_reset":
                self.stats = Stats(connections=0, in_flight=self.stats.in_flight)
                return as_json({})
            case b"GET", "/_stats":
                stats = self.stats
                return as_json({name: getattr(stats, name) for name in Stats.__slots__})
            case _:
                return error(404, "NotFound")

    def prepare(self, query: dict[str, str], host: bytes) -> Response:
        """Build the responses of the next scenario; returns the counts that a client must reach."""
        self.responses.clear()
        self.blocks.clear()
        data = Dataset.from_id(query["imodel"])
        size = 0
        for target in targets(data, query):
            response = self.build(target, host)
            size += len(response.first) + sum(map(len, response.rest))
        lists = int(query.get("lists", "1"))
        return as_json(
            {
                "entries": data.total * lists,
                "items": data.items() * lists,
                "indexes": data.total * (data.total + 1) // 2 * lists,
                "bytes": size,
            }
        )


def targets(data: Dataset, query: dict[str, str]) -> Iterator[bytes]:
    """The request targets of a whole scenario, the first page's short form included."""
    if "single" in query:
        for index in range(1, data.total + 1):
            yield f"/imodels/{data.imodel_id}/changesets/{index}/extendeddata".encode()
        return
    top = int(query["top"])
    for number in range(int(query["lists"])):
        base = f"/imodels/{replace(data, number=number).imodel_id}/changesets/extendeddata"
        yield f"{base}?$top={top}".encode()
        for skip in range(top, data.total, top):
            yield f"{base}?$skip={skip}&$top={top}".encode()


def respond(head: bytes, block: bytes, tail: bytes, status: str = "200 OK") -> Response:
    """Put headers before a body; what is long is kept as it is and sent in pieces."""
    length = len(head) + len(block) + len(tail)
    headers = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
    if length <= CHUNK:
        return Response(headers + head + block + tail)
    view = memoryview(block)
    pieces = [view[at : at + CHUNK] for at in range(CHUNK, len(block), CHUNK)]
    return Response(headers + head + block[:CHUNK], (*pieces, memoryview(tail)))


def as_json(value: dict[str, object], status: str = "200 OK") -> Response:
    """Response with a small JSON object."""
    return respond(b"", json.dumps(value).encode(), b"", status)


def error(status: int, code: str) -> Response:
    """Response with the platform's error envelope."""
    return as_json({"error": {"code": code, "message": code}}, f"{status} Error")


class Connection(asyncio.Protocol):
    """One connection: reads request lines, writes responses."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.loop = asyncio.get_running_loop()
        self.received = b""
        self.unsent: deque[memoryview] = deque()
        self.paused = False
        self.open = 0  # requests of this connection that are counted as in flight

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.transport.set_write_buffer_limits(high=CHUNK)
        self.site.stats.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.unsent.clear()
        self.site.stats.in_flight -= self.open
        self.open = 0

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.unsent:
            self.pump()

    def data_received(self, data: bytes) -> None:
        if self.received:
            data = self.received + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            self.handle(data[:end])
            data = data[end + 4 :]
        self.received = data

    def handle(self, request: bytes) -> None:
        method, target, _ = request[: request.index(b"\r\n")].split(b" ")
        at = request.find(b"\r\nHost: ")
        if at < 0:  # header names have no case; all but odd clients write it like this
            at = request.lower().index(b"\r\nhost: ")
        host = request[at + 8 : (request + b"\r\n").index(b"\r\n", at + 8)]
        site = self.site
        if target.startswith(b"/_"):
            self.transport.write(site.control(method, target, host).first)
            return
        response = site.responses.get((target, host)) or site.build(target, host)
        stats = site.stats
        if response.counted:
            stats.requests += 1
            stats.past_the_end += response.past_the_end
        self.open += 1
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        if response.latency:
            self.loop.call_later(response.latency, self.send, response)
        else:
            self.send(response)

    def send(self, response: Response) -> None:
        if self.transport.is_closing():  # connection_lost has counted this request, or will
            return
        self.transport.write(response.first)
        if response.rest:
            self.unsent.extend(response.rest)
            self.pump()
        else:
            self.done()

    def pump(self) -> None:
        while self.unsent and not self.paused:
            self.transport.write(self.unsent.popleft())
        if not self.unsent:
            self.done()

    def done(self) -> None:
        self.open -= 1
        self.site.stats.in_flight -= 1


async def serve() -> None:
    """Serve on a free port of the loopback until standard input is closed by the harness."""
    site = Site()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(site), "127.0.0.1", 0, backlog=2048)
    if hasattr(socket, "TCP_CONGESTION"):
        # BBR, the default of some systems, takes a client that is busy decoding for a slow network,
        # and sends it a page of 1.4 MB at 100 Mbit/s: a tenth of a second on the loopback.
        server.sockets[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    print(server.sockets[0].getsockname()[1], flush=True)
    # The harness holds the other end: however it ends, this process does not outlive it.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
