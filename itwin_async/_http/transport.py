"""Transport: sends requests through aiohttp; the only module that imports its client.

What it uses of aiohttp's private parts, and why: docs/adr/0005.
"""

# Looking up a name imports these in a thread, which fails when the process is out of files.
import asyncio
import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]
import encodings.idna  # noqa: F401  # pyright: ignore[reportUnusedImport]
import errno
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import anyio
from yarl import URL

from itwin_async._aio.loops import LoopBinding
from itwin_async._core.allocator import raise_malloc_threshold
from itwin_async._http.connections import Proxy
from itwin_async._http.response import (
    PROGRESS,
    Response,
    ResponseTimeout,
    ResponseTimeouts,
    timed_body,
)
from itwin_async._http.transport_errors import proxy_error, transport_error, why_not_connected
from itwin_async.errors import Reason, TransportError

ClientSession = aiohttp.ClientSession
CHUNK: Final = 256 * 1024  # bytes; a read gives up to twice as much. 64 KiB cost 4 % on 27 MB pages
_CLOSE_TIMEOUT: Final = 5.0  # seconds


class _HttpResponse:
    """A `Response` of aiohttp's."""

    __slots__ = (
        "_bytes_left", "_max_body", "_response", "_since_progress", "_timeout", "_transport",
        "ended", "headers", "host", "status",
    )  # fmt: skip

    def __init__(
        self,
        transport: "Transport",
        response: aiohttp.ClientResponse,
        host: str,
        timeout: ResponseTimeout,
        max_body: int,
    ) -> None:
        self._transport = transport
        self._response = response
        self._timeout: ResponseTimeout | None = timeout
        self._since_progress = 0  # bytes
        self._bytes_left = self._max_body = max_body
        self.host = host
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.ended: bool = False
        timeout.in_body = True
        timeout.restart()
        transport.open_responses.add(self)

    async def read(self) -> bytes:
        content = self._response.content
        failure: TransportError | None = None
        piece = b""
        try:
            piece = content.read_nowait()
            if not piece and not content.at_eof():
                if self._timeout is None:
                    raise RuntimeError("this response is closed")  # noqa: TRY301
                with self._timeout:
                    piece = await content.readany()
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp would throw away what arrived before the fault. A test guards this.
            piece = content._read_nowait(-1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if not piece:  # else the next read raises it
                failure = transport_error(_reason(error, in_body=True), self.host, _why(error))
        except BaseException:
            self.close()
            raise
        if failure is not None:  # raised here, its context is not the foreign error
            self.close()
            raise failure
        self._bytes_left -= len(piece)
        if self._bytes_left < 0:
            self.close()
            del piece  # no frame of an error shows what a body holds
            raise TransportError(
                f"the answer from {self.host} is larger than max_body, {self._max_body} bytes",
                "too large",
            )
        if content.at_eof():  # aiohttp has released the connection
            self.ended = True
            self._release()
        else:
            self._count_progress(len(piece))
        return piece

    def _count_progress(self, size: int) -> None:
        self._since_progress += size
        if self._since_progress >= PROGRESS and self._timeout is not None:
            self._since_progress = 0
            self._timeout.restart()

    def close(self) -> None:
        self._release()
        if not self._transport.binding.lost:
            self._response.close()

    def _release(self) -> None:
        """Give back the timeout, once."""
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            self._transport.open_responses.discard(self)
            self._transport.timeouts.give_back(timeout)


class Transport:
    """Sends requests as they are, without redirects, cookies, netrc or resends of its own.

    ``proxy`` and ``tls`` configure its own pool; without them there is no proxy, and the system's
    certificates are trusted.
    """

    def __init__(
        self,
        http: ClientSession | None,
        *,
        timeout: float,
        max_body: int,
        proxy: Proxy | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._http = http
        self._proxy = proxy
        self.proxy: Final = None if proxy is None else proxy.url.partition("://")[2]
        self._tls = tls
        self._owned = http is None
        self._closed = False
        self.binding: Final = LoopBinding()
        self.timeouts: Final = ResponseTimeouts(timeout)
        self.timeout: Final = timeout
        self.max_body: Final = max_body
        self.open_responses: set[Response] = set()

    async def open(
        self,
        method: str,
        host: str,
        url: str,
        headers: Mapping[str, str],
        body: Any = None,
        *,
        seconds: float | None = None,
        max_body: int | None = None,
        advice: str = "",
    ) -> Response:
        """Send a request and wait for the headers of its response, for up to ``timeout`` seconds.

        Of a ``body`` that is an async iterator of bytes, each piece has that time to be sent.
        ``seconds`` and ``max_body`` are other limits for this request and its body. ``url`` is sent
        byte for byte; ``host`` is what errors may show of it, and ``advice`` what they say where
        there is no connection to it.

        Raises `TransportError`, or `RuntimeError` when the caller's own session is closed.
        """
        http = self._http or self._start()
        if http.closed:
            raise RuntimeError("the aiohttp.ClientSession given as http is closed")
        timeout = self.timeouts.take(host, seconds)
        try:
            options: dict[str, Any] = {"headers": headers, **_OPTIONS}
            if self._proxy is not None:
                options.update(self._proxy.options(url, headers))
            with timeout:
                response = await http.request(
                    method, URL(url, encoded=True), data=timed_body(body, timeout), **options
                )
            limit = self.max_body if max_body is None else max_body
            return _HttpResponse(self, response, host, timeout, limit)
        except (aiohttp.ClientError, OSError) as error:
            failure = _translate_unsent(error, host, URL(url, encoded=True), self.proxy, advice)
            self.timeouts.give_back(timeout)
        except BaseException as error:
            self.timeouts.give_back(timeout)
            if isinstance(error, asyncio.CancelledError):
                error.__traceback__ = None  # aiohttp's frames show the URL
            raise
        finally:
            del body  # secrets in frames: docs/adr/0008
        raise failure  # here, its context is not the foreign error, which shows headers

    def _start(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the session was closed")
        raise_malloc_threshold()
        self._http = http = aiohttp.ClientSession(
            # The limiter bounds requests; a pool with a bound would wait for paused bodies.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp would send a request again by itself, unseen by attempts, statistics and log.
        http._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return http

    def finalize(self) -> None:
        """Close, from a finalizer: in any thread or process, without a loop to wait in."""
        if self.binding.lost:
            self._close()
        else:
            self.binding.call(self._close)

    def _close(self) -> None:
        """Close open responses, then the pool, at once."""
        http = self._end()
        if http is None:
            return
        connector = http.connector
        http.detach()  # else it would warn that it was not closed
        if connector is None:
            return
        if self.binding.lost:  # only marked: a forked child would close the parent's sockets
            connector._closed = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        else:
            # `close()` wants a running loop.
            connector._close(abort_ssl=True)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def _end(self) -> ClientSession | None:
        """Close open responses; aiohttp's session, if it is our own and was opened."""
        self._closed = True
        for response in list(self.open_responses):
            response.close()
        self.timeouts.close()
        http, self._http = self._http, None
        return http if self._owned else None

    async def aclose(self) -> None:
        """Close everything, and wait until the sockets are gone."""
        http = self._end()
        if http is not None:
            # Shielded: a cancelled scope of anyio would cancel it at once.
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await http.close()


# A dict: passing a mapping of another type as keywords took 1 µs more for each request.
_OPTIONS: Final[Mapping[str, Any]] = {
    "allow_redirects": False,
    "raise_for_status": False,
    # aiohttp's own limits would count the time in which a consumer thinks.
    "timeout": aiohttp.ClientTimeout(total=None),
    "auto_decompress": True,
    "read_bufsize": CHUNK,
}


def _translate_unsent(
    error: Exception, host: str, url: URL, proxy: str | None, advice: str
) -> TransportError:
    """The error of a request without an answer; it names whom there was no connection to."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return proxy_error(error.status, host, proxy)
    if isinstance(error, aiohttp.ClientConnectorError):
        if (error.host, error.port) != (url.raw_host, url.port):
            host, advice = f"the proxy {error.host}:{error.port}", ""
        elif not isinstance(error, aiohttp.ClientConnectorDNSError):
            host = f"{host}:{error.port}"
    return transport_error(_reason(error, in_body=False), host, _why(error), advice)


def _reason(error: BaseException, *, in_body: bool) -> Reason:
    match error:
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch() | ssl.SSLError():
            return "tls"
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientConnectorError():
            return "refused" if error.os_error.errno == errno.ECONNREFUSED else "unreachable"
        case aiohttp.ClientPayloadError():
            return "cut"
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return "malformed"
        case TimeoutError():
            return "timeout"
        case _:
            return "cut" if in_body else "reset"


def _why(error: BaseException) -> str:
    """The kind of fault. Never the message of an exception, which may quote what a server sent."""
    if isinstance(error, aiohttp.ClientResponseError):
        return type(error.__cause__ or error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        return why_not_connected(error.os_error)
    return type(error).__name__
