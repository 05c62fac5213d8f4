"""The session: it builds the parts of the client from its arguments, and closes them."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self, Unpack

from itwin_async._core.headers import check_headers
from itwin_async._core.misuse import explain_misuse
from itwin_async._core.secrets import SecretDict, SecretValue
from itwin_async._core.urls import PRODUCTION, base_origin, secure_origin
from itwin_async._core.validation import (
    check_callback,
    check_count,
    check_flag,
    check_seconds,
    check_type,
)
from itwin_async._http.connections import parse_proxy, trusting
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.transport import ClientSession, Transport
from itwin_async._pagination.custom_calls import CustomCalls
from itwin_async._pagination.list_context import ListContext, ReadAheadBudget
from itwin_async._pagination.operation_group import GroupAttribute, OperationGroup
from itwin_async.auth import ClientCredentials, TokenProvider, TokenSource, environment
from itwin_async.environment import SessionOptions, plain_http_allowed, provider_of_environment
from itwin_async.events import Event, OnEvent, Stats
from itwin_async.limits import Limiter, rate_limiter_of
from itwin_async.retries import Retry
from itwin_async.sign_in import SignInCalls, UserSignIn

if TYPE_CHECKING:  # imported when an attribute is first used: `GroupAttribute`
    from itwin_async.extensions import Extensions
    from itwin_async.imodels import IModels
    from itwin_async.itwins import ITwins
    from itwin_async.packages import Packages
    from itwin_async.webhooks import Webhooks

VERSION: Final = "0.1.0"
_MIB: Final = 1 << 20


class ITwinSession(CustomCalls, SignInCalls):
    """A client of the iTwin Platform: one token, one limiter, one pool of connections.

    Build it anywhere; from its first use on it belongs to that event loop and process. Close it
    with ``async with`` or `aclose`, once: a closed session is not opened again.

    Example::

        provider = ClientCredentials(client_id, client_secret)
        async with ITwinSession(provider, limiter=Limiter(16, per_minute=500)) as itwin:
            account = await itwin.itwins.get_primary_account()
            print(account.display_name)

    Args:
        token_provider: `ClientCredentials`, `StaticToken`, another `TokenProvider`, or an async
            callable that returns a token; `UserSignIn` for a person, `ShareKey` for a share.
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

    extensions: Final["GroupAttribute[Extensions]"] = GroupAttribute("extensions", "Extensions")
    """Extensions: their versions and files."""
    imodels: Final["GroupAttribute[IModels]"] = GroupAttribute("imodels", "IModels")
    """iModels: changesets, extended data, named versions and all else of the iModels API."""
    packages: Final["GroupAttribute[Packages]"] = GroupAttribute("packages", "Packages")
    """Integration packages (EDFS): their execution and their rows."""
    itwins: Final["GroupAttribute[ITwins]"] = GroupAttribute("itwins", "ITwins")
    """iTwins: accounts, projects and assets."""
    webhooks: Final["GroupAttribute[Webhooks]"] = GroupAttribute("webhooks", "Webhooks")
    """Webhooks: who is told of events."""

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
        _check_token_provider(token_provider)
        if isinstance(token_provider, ClientCredentials):
            secure_origin(
                SecretValue(token_provider.endpoint(str(base))),
                "token_url",
                allow_plain_http=allow_plain_http,
            )
        if isinstance(token_provider, UserSignIn):
            token_provider.authority_at(str(base))
        self._token_provider = token_provider
        check_type("limiter", limiter, Limiter)
        check_type("retry", retry, Retry)
        check_type("http", http, ClientSession)
        check_seconds("timeout", timeout)
        if http is not None and (proxy_url.value is not None or ca_file is not None):
            raise ValueError(
                "proxy and ca_file are for a pool of its own: give them to http instead"
            )
        check_count("buffer_bytes", buffer_bytes, least=0)
        check_count("max_body", max_body)
        check_callback("on_event", on_event)
        self._options: dict[str, object] = {}  # of a view, for its repr
        self._limiter: Final = limiter or Limiter()
        self._executor = RequestExecutor(
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
        self._context = ListContext(self._executor, ReadAheadBudget(buffer_bytes))

    @classmethod
    def from_env(
        cls,
        *,
        token_provider: TokenSource | None = None,
        base_url: str | None = None,
        **options: Unpack[SessionOptions],
    ) -> Self:
        """A session from the environment; keywords win.

        Who asks is the first of: ``ITWIN_CLIENT_ID`` with ``ITWIN_CLIENT_SECRET``, a service;
        ``ITWIN_ACCESS_TOKEN``; and the login that ``itwin-async auth login`` stored, of
        ``ITWIN_CLIENT_ID``, ``ITWIN_USER_CLIENT_ID`` or the profile that ``ITWIN_PROFILE`` names.
        Where the platform is, say ``ITWIN_BASE_URL``, ``ITWIN_TOKEN_URL``, ``ITWIN_AUTHORITY`` and
        ``ITWIN_ALLOW_PLAIN_HTTP`` (``1`` or ``true``, see ``allow_plain_http``). No browser is
        opened. Raises `ValueError` that names what is missing or wrong.

        Example::

            async with ITwinSession.from_env(timeout=30.0) as itwin:
                itwins = [found async for found in itwin.itwins.list_itwins()]
        """
        if "allow_plain_http" not in options:
            options["allow_plain_http"] = plain_http_allowed()
        url = SecretValue(base_url or environment("ITWIN_BASE_URL"))
        secret_options = SecretDict(options)  # a proxy's URL may have a password in it
        del base_url, options
        if token_provider is None:
            token_provider, url.value = provider_of_environment(url.value)
        return cls(token_provider, base_url=url.value or PRODUCTION, **secret_options)

    def __repr__(self) -> str:
        if not hasattr(self, "_executor"):  # a report of an error in its making
            return "ITwinSession()"
        state = "closed" if self._executor.lifecycle.closed else "open"
        if not self._options:
            return f"ITwinSession({self._executor.base_url}, {state})"
        shown = ", ".join(f"{name}={value}" for name, value in self._options.items())
        return f"ITwinSession({self._executor.base_url}, {state}, {shown})"

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

    def with_options(
        self,
        *,
        timeout: float | None = None,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "ITwinSession":
        """The same session with other options for what is called on the view that this returns.

        ``timeout`` and ``retry`` replace those of the session where they are given; ``headers`` are
        sent with each request to the platform, besides those of the session. A header that a
        method sets itself, such as ``Prefer``, stays. The view shares token, pool, limiter,
        statistics and outages, and closing either closes both. Signing in and renewing the token
        keep the options of the session itself.

        Raises `ValueError` for an ``Authorization`` header.

        Example::

            quick = itwin.with_options(timeout=5.0, retry=Retry(attempts=1))
            print(await quick.itwins.get_primary_account())
        """
        given = SecretValue(headers)
        del headers
        check_seconds("timeout", timeout, optional=True)
        check_type("retry", retry, Retry)
        executor = self._executor.with_options(timeout, retry, check_headers(given))
        options: dict[str, object] = {"timeout": timeout, "retry": retry}
        options = {name: value for name, value in options.items() if value is not None}
        if executor.headers:
            options["headers"] = "(" + ", ".join(executor.headers) + ")"
        view = object.__new__(type(self))
        groups = (name for name, value in vars(self).items() if isinstance(value, OperationGroup))
        vars(view).update({name: vars(self)[name] for name in vars(self).keys() - set(groups)})
        view._executor = executor
        view._context = ListContext(executor, self._context.budget)
        view._options = {**self._options, **options}
        return view

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


explain_misuse(
    ITwinSession,
    dict.fromkeys(("__enter__", "__exit__"), "a session is entered with `async with`, not `with`"),
)


def _check_token_provider(value: object) -> None:
    if isinstance(value, type) or not (isinstance(value, TokenProvider) or callable(value)):
        raise TypeError(
            "token_provider must be a TokenProvider or an async callable, not "
            f"{value if isinstance(value, type) else type(value).__name__}: wrap a token in "
            "StaticToken"
        )


def emit_event(itwin: ITwinSession, event: Event) -> None:
    """Call the listener of a session; for the library's own modules."""
    # A friend of the class.
    itwin._executor.instrumentation.emit(event)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
