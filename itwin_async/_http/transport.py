"""The seam to the network: the only module that knows aiohttp's client and its exceptions."""

# A name is encoded, and looked up in a thread: nothing is to be imported there, for files may be
# short by then.
import asyncio
import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]
import encodings.idna  # noqa: F401  # pyright: ignore[reportUnusedImport]
import errno
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol

import aiohttp
import anyio
from yarl import URL

from itwin_async._aio.loops import LoopBinding
from itwin_async._aio.timeouts import Timeout
from itwin_async._core.redaction import one_line
from itwin_async._http.connections import Proxy
from itwin_async.errors import Reason, TransportError

ClientSession = aiohttp.ClientSession
CHUNK: Final = 256 * 1024  # bytes; a read gives up to twice as much. 64 KiB cost 4 % on 27 MB pages
_LONGEST_CLOSE: Final = 5.0  # seconds for which closing waits until the sockets are gone
_NO_LIMITS: Final = aiohttp.ClientTimeout(
    total=None
)  # time is bounded here, without the consumer's
# A body makes progress if so many bytes come within the session's `timeout` of waiting.
PROGRESS: Final = 1_024
# An entry of a large body is allocated and freed over and over. Freeing one large block first
# teaches glibc to keep such memory: pages of 1.4 MB ran at 0.75 of the speed without it.
_KEEP_MEMORY: Final = 8 << 20


class Response(Protocol):
    """An answer whose head is in, and whose body is read piece by piece."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, by name in any case."""
        ...

    async def read(self) -> bytes:
        """The next piece of the body as decompressed, empty at its end."""
        ...

    def close(self) -> None:
        """Be done with it, now: a connection whose body is not in is cut."""
        ...


class _HttpResponse:
    __slots__ = (
        "_response", "_room", "_since_progress", "_timeout", "_transport", "headers", "host",
        "status",
    )  # fmt: skip

    def __init__(
        self, transport: "Transport", response: aiohttp.ClientResponse, host: str, timeout: Timeout
    ) -> None:
        self._transport = transport
        self._response = response
        self._timeout = timeout
        self._since_progress = 0  # bytes
        timeout.restart()
        self._room = transport.max_body
        self.host = host
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        transport.open_responses.add(self)

    async def read(self) -> bytes:
        content = self._response.content
        failure: TransportError | None = None
        piece = b""
        try:
            piece = content.read_nowait()
            if not piece and not content.at_eof():
                timeout = self._timeout
                timeout.message = (
                    f"{self.host} kept us waiting for its body: less than {PROGRESS:,} bytes came "
                    f"within {timeout.seconds:g} s"
                )
                with timeout:
                    piece = await content.readany()
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp would throw away what arrived before the fault. A test guards this.
            piece = content._read_nowait(-1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if not piece:  # else the next read raises it
                failure = _translated(error, self.host, in_body=True)
        except BaseException:
            self.close()
            raise
        if failure is not None:  # raised here, it does not hold on to the foreign one
            self.close()
            raise failure
        if not piece:
            self.close()
        self._since_progress += len(piece)
        if self._since_progress >= PROGRESS:
            self._since_progress = 0
            self._timeout.restart()
        self._room -= len(piece)
        if self._room < 0:
            self.close()
            del piece  # no frame of an error shows what a body holds
            raise TransportError(
                f"the answer from {self.host} is larger than max_body, "
                f"{self._transport.max_body} bytes",
                "too large",
            )
        return piece

    def close(self) -> None:
        self._transport.open_responses.discard(self)
        self._timeout.cancel()
        if not self._transport.binding.lost:
            self._response.close()


class Transport:
    """Sends requests as they are: no redirects, cookies, netrc or resends of its own.

    ``proxy`` and ``tls`` are for its own pool; without them there is no proxy, and the system's
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
        self._tls = tls
        self._owned = http is None
        self._closed = False
        self.binding: Final = LoopBinding()
        self.timeout: Final = timeout
        self.max_body: Final = max_body
        self.open_responses: set[Response] = set()

    async def open(
        self, method: str, host: str, url: str, headers: Mapping[str, str], body: Any = None
    ) -> Response:
        """Send a request and wait for the head of its answer, for up to ``timeout`` seconds.

        ``url`` goes out byte for byte; ``host`` is what errors may show of it.

        Raises `TransportError`, or `RuntimeError` when the caller's own session is closed.
        """
        http = self._http or self._start()
        if http.closed:
            raise RuntimeError("the aiohttp.ClientSession given as http is closed")
        timeout = Timeout(self.timeout, f"{host} did not answer within {self.timeout:g} s")
        try:
            with timeout:
                response = await http.request(
                    method,
                    URL(url, encoded=True),
                    data=body,
                    allow_redirects=False,
                    raise_for_status=False,
                    timeout=_NO_LIMITS,
                    auto_decompress=True,
                    read_bufsize=CHUNK,
                    **self._sent_through(url, headers),
                )
            return _HttpResponse(self, response, host, timeout)
        except (aiohttp.ClientError, OSError) as error:
            timeout.cancel()
            failure = _translated(error, host, url=URL(url, encoded=True))
        except BaseException as error:
            timeout.cancel()
            if isinstance(error, asyncio.CancelledError):
                error.__traceback__ = None  # aiohttp's frames show the URL
            raise
        raise failure  # here it does not hold on to the foreign one, which shows headers

    def _sent_through(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """Headers, and what aiohttp wants to know of the proxy for a request."""
        proxy = self._proxy
        if proxy is None:
            return {"headers": headers}
        if proxy.authorization is None:
            return {"headers": headers, "proxy": proxy.url}
        own = {"Proxy-Authorization": proxy.authorization}
        if url.startswith("http:"):  # no tunnel: the proxy reads the request itself
            return {"headers": {**headers, **own}, "proxy": proxy.url}
        return {"headers": headers, "proxy": proxy.url, "proxy_headers": own}

    def _start(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the session was closed")
        bytes(_KEEP_MEMORY)
        self._http = http = aiohttp.ClientSession(
            # The limiter bounds requests; a pool with a bound would wait for paused bodies.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp would send a request again by itself, unseen by attempts, budget
        # and log. There is no public switch; a test guards this one.
        http._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return http

    def finalize(self) -> None:
        """Close what nobody uses any more: in a finalizer, and so in any thread or process."""
        if self.binding.lost:
            self._close()
        else:
            self.binding.call(self._close)

    def _close(self) -> None:
        """Close everything at once, without a loop to wait in: open bodies first, then the pool."""
        connector = self._take_pool()
        if connector is None:
            return
        if self.binding.lost:  # only said: a forked child would close the parent's sockets as well
            connector._closed = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        else:
            # `close()` wants a running loop; a test guards this one.
            connector._close(abort_ssl=True)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def _take_pool(self) -> aiohttp.BaseConnector | None:
        """Close the open bodies, and take what else is to be closed out of aiohttp's session."""
        http = self._end()
        if http is None:
            return None
        connector = http.connector
        http.detach()  # or it would complain that it was not closed
        return connector

    def _end(self) -> ClientSession | None:
        """Close the open bodies; aiohttp's session, if it is our own and was opened."""
        for response in list(self.open_responses):
            response.close()
        self._closed = True
        http, self._http = self._http, None
        return http if self._owned else None

    async def aclose(self) -> None:
        """Close everything, and wait until the sockets are gone."""
        http = self._end()
        if http is not None:
            # Where the caller is cancelled by a scope of anyio, this goes on all the same.
            with anyio.move_on_after(_LONGEST_CLOSE, shield=True):
                await http.close()


def _translated(
    error: Exception, host: str, *, url: URL | None = None, in_body: bool = False
) -> TransportError:
    """A foreign exception as one of ours, which names the host that it comes from."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return proxy_error(error.status, host)
    if isinstance(error, aiohttp.ClientConnectorError) and url is not None:
        connected = (error.host, error.port)
        if connected != (url.raw_host, url.port):
            host = f"the proxy {connected[0]}:{connected[1]}"
    reason = _reason(error, in_body=in_body)
    return TransportError(_SENTENCES[reason].format(host=host, why=_why(error)), reason)


def proxy_error(status: int, host: str) -> TransportError:
    """The error of a proxy that answered itself, instead of the host behind it."""
    if status >= 500:  # of a tunnel: nothing went through it
        why = f"{host} cannot be reached: the proxy answered {status}"
        return TransportError(why, "unreachable")
    hint = ", it wants credentials" if status == 407 else ""
    return TransportError(
        f"the proxy refused a request to {host}: it answered {status}{hint}", "proxy"
    )


# OpenSSL's codes of a chain that ends at a self-signed certificate or an unknown issuer.
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_SENTENCES: Final[dict[Reason, str]] = {
    "dns": "the name {host} cannot be resolved",
    "refused": "{host} refused the connection",
    "unreachable": "{host} cannot be reached: {why}",
    "tls": "no secure connection to {host}: {why}",
    "reset": "{host} closed the connection before it answered",
    "timeout": "{host} did not answer in time",
    "cut": "the answer from {host} was cut short",
    "malformed": "{host} answered with what is not HTTP: {why}",
}


def _reason(error: BaseException, *, in_body: bool) -> Reason:
    match error:
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch() | ssl.SSLError():
            return "tls"
        case aiohttp.ClientConnectorCertificateError():
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
    """What kind of fault it was. Never a foreign message: it may quote what a server echoed."""
    if isinstance(error, aiohttp.ClientResponseError):
        return type(error.__cause__ or error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        said = getattr(inner, "verify_message", None) or inner.strerror
        why = one_line(str(said), longest=120) if said else type(inner).__name__
        unknown = getattr(inner, "verify_code", None) in _UNKNOWN_AUTHORITY
        return f"{why} (trust its authority with SSL_CERT_FILE or ca_file)" if unknown else why
    return type(error).__name__
