"""The session: what its users hold. It puts the parts together and owns their life."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version as installed_version
from types import TracebackType
from typing import (
    Any,
    Final,
    Generic,
    NoReturn,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    overload,
)

import msgspec

from itwin_async._core.json import decoder
from itwin_async._core.operation import Method, Operation, QueryValue
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretDict, SecretStr, SecretValue
from itwin_async._core.urls import PRODUCTION, base_origin, follow, secure_origin
from itwin_async._core.validation import check_callback, check_count, check_flag
from itwin_async._http.body import Body, read_whole
from itwin_async._http.connections import parse_proxy, trusting
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.transport import ClientSession, Transport
from itwin_async._pagination.prefetch import ListContext, ReadAheadBudget
from itwin_async.auth import ClientCredentials, TokenProvider, TokenSource, environment
from itwin_async.errors import LinkError
from itwin_async.events import OnEvent, Stats
from itwin_async.extensions import Extensions
from itwin_async.imodels.imodels import IModels
from itwin_async.itwins import ITwins
from itwin_async.limits import Limiter, rate_limiter_of
from itwin_async.packages import Packages
from itwin_async.retries import Retry

T = TypeVar("T")
G = TypeVar("G")
VERSION: Final = installed_version("itwin-async")
_METHODS: Final[tuple[str, ...]] = get_args(Method)
_MIB: Final = 1 << 20


class SessionOptions(TypedDict, total=False):
    """The keywords of `ITwinSession` besides its token provider and base."""

    limiter: Limiter | None
    retry: Retry | None
    timeout: float
    buffer_bytes: int
    max_body: int
    http: ClientSession | None
    on_event: OnEvent | None
    proxy: str | None
    ca_file: str | os.PathLike[str] | None
    allow_plain_http: bool


class _Group(Generic[G]):
    """A group of operations. The class shows its type, so that mocks and tools find its methods."""

    def __init__(self, kind: Callable[[ListContext], G]) -> None:
        self._kind = kind

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, session: None, owner: type, /) -> Callable[[ListContext], G]: ...
    @overload
    def __get__(self, session: object, owner: type, /) -> G: ...
    def __get__(self, session: object, owner: type, /) -> Callable[[ListContext], G] | G:
        if session is None:
            return self._kind
        made = vars(session)
        group = made[self._name] = self._kind(made["_context"])  # found there from now on
        return group


class ITwinSession:
    """A client of the iTwin Platform: one token, one limiter, one pool of connections.

    Build it anywhere; from its first use on it belongs to that event loop and process. Close it
    with ``async with`` or `aclose`, once: a closed session is not opened again.

    Args:
        token_provider: `ClientCredentials`, `StaticToken`, another `TokenProvider`, or an async
            callable that returns a token.
        base_url: production, QA, dev, the emulator or a proxy of your own; https, or http on
            loopback.
        limiter: how many requests at once and how often; ``Limiter()`` where None. Share one
            between the sessions of an OAuth client.
        retry: how patient to be; ``Retry()`` where None.
        timeout: seconds an attempt may take up to its headers and, after that, seconds of waiting
            within which at least 1,024 bytes of its body must come. Never the consumer's own time.
        buffer_bytes: bytes that read-ahead may hold, over all lists; 64 MiB.
        max_body: bytes of a decompressed body beyond which it is a `TransportError`; 320 MiB, room
            for a page of a thousand of the largest extended data.
        http: your own ``aiohttp.ClientSession``, never closed here. Its pool, default headers,
            cookies, proxy, netrc and hidden resend are then yours; redirects, time limits and
            decompression are not. Give its connector ``limit=0``: the limiter bounds requests, and
            a full pool would make them wait behind paused pages.
        on_event: called with each `Event`, quickly; None costs nothing.
        proxy: URL of an http or https proxy through which every request goes, such as
            ``http://user:password@proxy.example:8080``; none where None, whatever the environment
            says. Not with ``http``.
        ca_file: file of certificate authorities (PEM) that are trusted besides the system's own,
            such as those of a proxy that reads TLS. Read once, here. The variable
            ``SSL_CERT_FILE`` replaces the system's own instead. Not with ``http``.
        allow_plain_http: let ``base_url``, token URLs and signed URLs be plain ``http://`` on any
            host, such as an emulator in another container. This gives up what https keeps: whoever
            is on the way reads the client secret, the tokens and all data, may change them, and may
            answer in the platform's place. Never for the platform itself.

    Raises `TypeError` or `ValueError` for what cannot be used, and `RuntimeError` when it is used
    closed, from a second event loop or in a forked process.
    """

    extensions: Final = _Group(Extensions)
    imodels: Final = _Group(IModels)
    packages: Final = _Group(Packages)
    itwins: Final = _Group(ITwins)

    def __init__(
        self,
        token_provider: TokenSource,
        *,
        base_url: str = PRODUCTION,
        limiter: Limiter | None = None,
        retry: Retry | None = None,
        timeout: float = 60.0,
        buffer_bytes: int = 64 * _MIB,
        max_body: int = 320 * _MIB,
        http: ClientSession | None = None,
        on_event: OnEvent | None = None,
        proxy: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        url, proxy_url = SecretValue(base_url), SecretValue(proxy)
        # They may have passwords in them, and errors show the locals of their frames.
        del base_url, proxy
        check_flag("allow_plain_http", allow_plain_http)
        base = base_origin(url, allow_plain_http=allow_plain_http)
        source: object = token_provider
        known = isinstance(source, TokenProvider) or callable(source)
        if not known or isinstance(source, type):
            raise TypeError(
                "token_provider must be a TokenProvider or an async callable, not "
                f"{source if isinstance(source, type) else type(source).__name__}: wrap a token in "
                "StaticToken"
            )
        if isinstance(token_provider, ClientCredentials):
            secure_origin(
                SecretValue(token_provider.endpoint(str(base))),
                "token_url",
                allow_plain_http=allow_plain_http,
            )
        _check_type("limiter", limiter, Limiter)
        _check_type("retry", retry, Retry)
        _check_type("http", http, ClientSession)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
        if http is not None and (proxy_url.value is not None or ca_file is not None):
            raise ValueError(
                "proxy and ca_file are for a pool of its own: give them to http instead"
            )
        check_count("buffer_bytes", buffer_bytes, least=0)
        check_count("max_body", max_body)
        check_callback("on_event", on_event)
        self._limiter: Final = limiter or Limiter()
        self._executor: Final = RequestExecutor(
            token_provider,
            base,
            Transport(
                http,
                timeout=timeout,
                max_body=max_body,
                proxy=None if proxy_url.value is None else parse_proxy(proxy_url),
                tls=None if ca_file is None else trusting(ca_file),
            ),
            rate_limiter_of(self._limiter),
            retry or Retry(),
            user_agent=f"itwin-async/{VERSION}",
            on_event=on_event,
            allow_plain_http=allow_plain_http,
        )
        self._context: Final = ListContext(self._executor, ReadAheadBudget(buffer_bytes))

    @classmethod
    def from_env(
        cls,
        *,
        token_provider: TokenSource | None = None,
        base_url: str | None = None,
        **options: Unpack[SessionOptions],
    ) -> Self:
        """A session from the environment; keywords win.

        Reads ``ITWIN_CLIENT_ID``, ``ITWIN_CLIENT_SECRET`` and, where set, ``ITWIN_BASE_URL``,
        ``ITWIN_TOKEN_URL`` and ``ITWIN_ALLOW_PLAIN_HTTP`` (``1`` or ``true``, see
        ``allow_plain_http``). Raises `ValueError` that names a variable which is missing or wrong.
        """
        if "allow_plain_http" not in options:
            options["allow_plain_http"] = _plain_http_allowed()
        url = SecretValue(base_url or environment("ITWIN_BASE_URL") or PRODUCTION)
        given = SecretDict(options)  # a proxy's URL may have a password in it
        del base_url, options
        return cls(token_provider or ClientCredentials.from_env(), base_url=url.value, **given)

    def __repr__(self) -> str:
        if not hasattr(self, "_executor"):  # a report of an error in its making
            return "ITwinSession()"
        state = "closed" if self._executor.lifecycle.closed else "open"
        return f"ITwinSession({self._executor.base_url}, {state})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ITwinSession does not pickle: make one in each process")

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self._executor.base_url

    @property
    def limiter(self) -> Limiter:
        """The limiter, to share it with another session."""
        return self._limiter

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return self._executor.lifecycle.closed

    @property
    def stats(self) -> Stats:
        """What the session has done so far, as it is now."""
        return self._executor.instrumentation.stats

    async def __aenter__(self) -> Self:
        self._executor.lifecycle.check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close: running calls and lists raise `RuntimeError`. Doing it twice is fine."""
        await self._executor.lifecycle.aclose()

    @overload
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: None = None,
    ) -> Any: ...
    @overload
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: type[T],
    ) -> T: ...
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: Any = None,
    ) -> Any:
        """The way out: an operation that has no method here yet.

        Goes through the same token, limiter, retries and errors. ``path`` is on the session's base
        and goes out as it is written; ``query`` is encoded; ``body`` becomes JSON; ``version`` is
        the API's, ``v1`` or ``v2``. Gives the decoded JSON, or ``returns`` decoded to (``bytes`` is
        the body as it is), or None for an empty answer without ``returns``.
        Raises `ValueError` for a path on another origin.
        """
        if method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, not {method!r}")
        if query is not None and not isinstance(query, Mapping):
            raise TypeError(f"query must be a mapping, not {type(query).__name__}")
        given: object = path
        if not isinstance(given, str):
            raise TypeError(f"path must be a str, not {type(given).__name__}")
        given = path = SecretStr(path)  # somebody may try a signed URL
        if not path.startswith(("/", "http:", "https:")):
            raise ValueError(
                f"path must be one that starts with '/', such as /edfs/packages/roles, not "
                f"{one_line(path)!r}"
            )
        try:
            target = follow(self._executor.base, "/", path)
        except LinkError as error:
            raise ValueError(
                f"path must be a percent-encoded path on {self.base_url}: {error.message}"
            ) from None
        if not re.fullmatch(r"v[0-9]{1,3}", version):
            raise ValueError(f"version must be such as 'v1', not {version!r}")
        if returns is not None and returns is not bytes:
            decoder(returns)
        return await self._request(method, target, query or {}, body, version, returns)

    async def _request(  # noqa: PLR0917 - the arguments of `request`, checked
        self,
        method: Method,
        target: str,
        query: Mapping[str, QueryValue],
        body: object,
        version: str,
        returns: Any,
    ) -> Any:
        path, _, written = target.partition("?")
        kind = Any if returns is None else returns
        operation: Operation[Any] = Operation(method, _verbatim(path), kind, version=version)
        request = operation.request(query=query, body=msgspec.UNSET if body is None else body)
        if written:
            joint = "&" if "?" in request.target else "?"
            request = replace(request, target=f"{request.target}{joint}{written}")

        async def decoded(answer: Body) -> Any:
            text = await read_whole(answer)
            if not text and returns is None:
                return None
            return operation.decode(text, answer)

        return await self._executor.execute(request, decoded)


def _plain_http_allowed() -> bool:
    """What the environment says, which must be clear about it."""
    said = environment("ITWIN_ALLOW_PLAIN_HTTP")
    if said is not None and said not in {"1", "true"}:
        raise ValueError("ITWIN_ALLOW_PLAIN_HTTP must be 1 or true, or not be set")
    return said is not None


def _verbatim(path: str) -> str:
    """A path that stands for itself as a template."""
    return path.replace("{", "{{").replace("}", "}}")


def _check_type(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
