"""A raw server that sends anything, a clock that can be put forward, both kinds of cancellation."""

import asyncio
import itertools
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import anyio
import pytest

from itwin_async import ITwinSession, StaticToken

T = TypeVar("T")

LINKS = b'"_links":{}'
EMPTY_PAGE = b'{"extensions":[],"_links":{}}'
PACKAGE = b'{"uniqueName":"P","name":"Package"}'


def answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer with its length."""
    return head(f"Content-Length: {len(body)}", *headers, status=status) + body


def head(*headers: str, status: str = "200 OK") -> bytes:
    """The head of an answer alone."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; an empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass(frozen=True)
class Got:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection, as its handler sees it. ``number`` counts from 0."""

    def __init__(
        self,
        server: "RawServer",
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.server = server
        self.number = number
        self.reader: asyncio.StreamReader = reader
        self.writer: asyncio.StreamWriter = writer

    async def request(self) -> Got:
        """The next request, whole; ends the handler quietly when there is none."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}

        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        method, target, _ = first.split(" ")
        got = Got(method, target, headers, body)
        self.server.requests.append(got)
        return got

    async def send(self, *pieces: bytes) -> None:
        """Send pieces."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        """Answer with RST."""
        found = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client closed its side."""
        while await self.reader.read(65_536):
            pass


Handler = Callable[[Connection], Awaitable[None]]


class RawServer:
    """A coroutine per connection, which may send anything; the connection ends with it.

    ``RawServer(b"...")`` sends these bytes to every request; of several, each in its turn and the
    last one from then on.
    """

    def __init__(
        self, *answers: bytes | Handler, port: int = 0, ssl: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[Got] = []
        self.opened = 0
        self.open = 0
        self.port = port
        self._ssl = ssl
        self._tasks: set[asyncio.Task[None]] = set()
        self._handler: Handler
        if callable(answers[0]):
            self._handler = answers[0]
        else:
            self._turns = itertools.chain(answers, itertools.repeat(answers[-1]))
            self._handler = self._in_turn

    async def _in_turn(self, connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(next(self._turns))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._ssl, backlog=1_024
        )
        scheme = "https" if self._ssl else "http"
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for _ in range(10):  # what was accepted just now begins, so that it can be ended
            await asyncio.sleep(0)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        connection = Connection(self, self.opened, reader, writer)
        self.opened += 1
        self.open += 1
        try:
            await self._handler(connection)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client is gone
        except asyncio.CancelledError:
            pass  # the server closes; raising would be reported as an error of the server
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()


def session_at(server: Any, **options: Any) -> ITwinSession:
    """A session with a token that never ends."""
    return ITwinSession(StaticToken("token-of-the-test"), base_url=server.url, **options)


class Clock:
    """The running loop's clock from now on; `forward` lets time pass at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._ahead = 0.0

    def __enter__(self) -> Self:
        self._loop.time = lambda: self._time() + self._ahead
        return self

    def __exit__(self, *_: object) -> None:
        del self._loop.time

    def forward(self, seconds: float) -> None:
        """So many seconds pass."""
        self._ahead += seconds


async def time_out(waiting: Coroutine[Any, Any, T], polls: Callable[[], int]) -> T:
    """Run what polls with a timeout of 60 s, which pass once a poll is answered."""
    with Clock() as clock:
        task = asyncio.create_task(waiting)
        while polls() < 2 and not task.done():  # at the second one it knows the first one's answer
            clock.forward(0.1)
            await asyncio.sleep(0.002)
        clock.forward(60)
        return await task


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a fact; far longer than it takes on any machine."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def run_script(script: str, *arguments: str, strict: bool = True) -> None:
    """Run a program; it must end well, and silently."""
    flags = ["-W", "error"] if strict else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, *flags, "-c", script, *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (output, process.returncode) == (b"", 0), output.decode()


CancelKind = Literal["native", "level"]


@pytest.fixture(params=["native", "level"])
def cancel_kind(request: pytest.FixtureRequest) -> CancelKind:
    """How `Running` is cancelled: by `Task.cancel`, or at each await by a scope of anyio."""
    return request.param


class Running:
    """A coroutine in a task, which ``cancel`` cancels in one kind or the other.

    ``native`` is `Task.cancel`: one await raises `CancelledError`. ``level`` is anyio's: each await
    does until the scope is left, as in a task group that fails or a web client that disconnects.
    Either way the task ends as cancelled, unless its coroutine returns.
    """

    def __init__(self, kind: CancelKind, work: Coroutine[Any, Any, Any]) -> None:
        self._scope = anyio.CancelScope() if kind == "level" else None
        self.task = asyncio.create_task(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._scope is None:
            return await work
        with self._scope:
            return await work
        raise asyncio.CancelledError  # which the scope kept to itself

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.task.__await__()

    def cancel(self, *_: object) -> None:
        """Cancel it; also fit to be a callback."""
        if self._scope is None:
            self.task.cancel()
        else:
            self._scope.cancel()

    def done(self) -> bool:
        """Whether it ended."""
        return self.task.done()


async def cancelled_at_each_await(
    kind: CancelKind,
    make: Callable[[], Coroutine[Any, Any, Any]],
    check: Callable[[int], Awaitable[object]],
    *,
    when: Literal["waiting", "ready"] = "waiting",
    step: int = 1,
) -> tuple[int, Any]:
    """Run what ``make`` gives again and again, cancelled at its first await, its second, and so on.

    A ``step`` of 7 takes each seventh alone. Awaits of the tasks that it starts count as well.
    ``ready`` cancels as what is awaited has just come and is not taken yet. Each end must be a
    cancellation or a result; ``check`` is awaited after each. Gives how many awaits there were at
    least, and the result of the run that was over before.
    """
    for number in range(0, 10_000, step):
        with _Awaits(number, when) as awaits:
            running = Running(kind, make())
            awaits.cancel = running.cancel
            await asyncio.wait([running.task])
        if not awaits.reached:
            return number, await running
        if not running.task.cancelled():
            running.task.result()  # or its error
        await check(number)
    raise AssertionError("it has no end")


class _Awaits:
    """Cancels at one of the awaits of all tasks that are started inside, and of theirs."""

    cancel: Callable[..., None]

    def __init__(self, number: int, when: str) -> None:
        self.reached = False
        self._left = number
        self._when = when
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._token = _AWAITS.set(self)  # tasks inherit it
        self._factory = self._loop.get_task_factory()
        self._loop.set_task_factory(_start)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.set_task_factory(self._factory)
        _AWAITS.reset(self._token)

    def look(self, awaited: Any) -> Any:
        """One await more."""
        self._left -= 1
        if self._left == -1:
            self.reached = True
            if self._when == "ready" and awaited is not None:
                awaited.add_done_callback(self.cancel)  # called before the task is woken
            else:
                self._loop.call_soon(self.cancel)
        return awaited


_AWAITS: ContextVar[_Awaits | None] = ContextVar("awaits", default=None)


def _start(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task:
    awaits = _AWAITS.get()
    return asyncio.Task(work if awaits is None else _Watched(work, awaits), loop=loop, **options)


class _Watched(Coroutine):
    """A coroutine that tells of each of its awaits."""

    def __init__(self, work: Coroutine[Any, Any, Any], awaits: _Awaits) -> None:
        self._work = work
        self._awaits = awaits

    def send(self, value: Any) -> Any:
        return self._awaits.look(self._work.send(value))

    def throw(self, *error: Any) -> Any:
        return self._awaits.look(self._work.throw(*error))

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)  # its state, which anyio looks at
