"""The emulator: an HTTP server on loopback with the state of a platform."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from itwin_async.auth import ClientCredentials
from itwin_async.emulator._activity import Activity
from itwin_async.emulator._api.url_signing import StorageType, UrlSigner
from itwin_async.emulator._controls import Controls
from itwin_async.emulator._deliveries import Deliveries
from itwin_async.emulator._identity.clients import (
    DEFAULT_REDIRECT_URIS,
    SERVICE_CLIENT_ID,
    SERVICE_CLIENT_SECRET,
    USER_CLIENT_ID,
    WEB_CLIENT_ID,
    WEB_CLIENT_SECRET,
)
from itwin_async.emulator._identity.server import IdentityServer
from itwin_async.emulator._identity.users import DEFAULT_USERS
from itwin_async.emulator._listener import Listener
from itwin_async.emulator._pipeline import Pipeline
from itwin_async.emulator._rate_limit import RateLimit
from itwin_async.emulator._state.clock import Clock
from itwin_async.emulator._state.seed import Size
from itwin_async.emulator._state.state import State

_ENDINGS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
_DAY: Final = 86_400.0


class Emulator(Controls):
    """An iTwin Platform of your own: a real HTTP server with state, on loopback.

    The same arguments give the same data, but other tokens each time; dates depend on ``now``.
    ``itwins`` counts the iTwins that are listed, two of them accounts; the ``imodels`` belong in
    turn to the others. Each iModel has so many ``changesets``, and every
    ``extended_data_every``-th of them, from the first on, has extended data: of ``payload_bytes``
    bytes of JSON each, or small as the documented sample. ``extensions`` counts the public ones,
    and also the private ones of each account; each has so many ``versions``. ``packages`` counts
    integration packages, ``rows`` those of each of their entity sets. The documented examples are
    always among them.

    ``now`` starts the platform's clock at this time, and the changesets were pushed until a day
    before it: until yesterday where it is None. With ``push_every`` a changeset is pushed every so
    many seconds while the emulator runs, the data of every other one a moment later. An iModel that
    is created, cloned or forked is ready ``creation_time`` seconds later by that clock.

    ``per_minute`` is the rate limit: no sixty seconds hold more admitted API requests. ``latency``
    is the wait in seconds before each response of the API, ``token_lifetime`` and
    ``download_lifetime`` those of access tokens and signed addresses of files, which are spelled
    as those of the ``storage_type``, azure or google, are. A page has at most
    ``max_top`` items, and links then say so; or at most ``max_items``, while links repeat the
    ``$top`` that was asked for.

    Active webhooks are delivered to loopback only, ``webhook_attempts`` times at most: until one is
    answered with 200 within ``webhook_timeout`` seconds, and each ``webhook_spacing`` seconds after
    the one before. The platform demands https; here a receiver on loopback may have plain http.

    ``users`` are the people who can sign in, such as ``"ada"`` and ``"ray:reader"``: after the
    colon ``owner`` (the default), ``reader`` (403 on writes), ``viewer`` (nor downloads of iModels)
    or ``none`` (no iTwins, and 403 on everything else). ``redirect_uris`` are the registered ones,
    which must match exactly. A refresh token can be used once, within ``refresh_token_lifetime``
    seconds; using it again revokes all refresh tokens of that sign-in.

    ``requests`` are the records of all requests in the order of their arrival, ``faults`` the plan
    of faults, ``max_in_flight`` the most API requests there ever were between their arrival and the
    last byte of their response (those to the sign-in host and downloads do not count). Without
    ``record`` nothing is kept of requests, for an emulator that runs for long.

    Raises `TypeError` or `ValueError` for an argument that cannot be.

    Example::

        async with Emulator(imodels=3, changesets=200) as emulator:
            session = ITwinSession(emulator.credentials, base_url=emulator.url)
            async with session as itwin:
                print(await itwin.itwins.get_primary_account())
            print(emulator.count("token"))
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        per_minute: int | None = None,
        latency: float = 0.0,
        token_lifetime: float = 3600,
        refresh_token_lifetime: float = 30 * _DAY,
        download_lifetime: float = 3600,
        storage_type: StorageType = "azure",
        users: Sequence[str] = DEFAULT_USERS,
        redirect_uris: Sequence[str] = DEFAULT_REDIRECT_URIS,
        webhook_timeout: float = 5.0,
        webhook_attempts: int = 5,
        webhook_spacing: float = 5.0,
        max_top: int | None = None,
        max_items: int | None = None,
        itwins: int = 5,
        imodels: int = 40,
        changesets: int = 100,
        extended_data_every: int = 1,
        payload_bytes: int | None = None,
        extensions: int = 300,
        versions: int = 4,
        packages: int = 12,
        rows: int = 250,
        seed: int = 0,
        now: datetime | None = None,
        push_every: float | None = None,
        creation_time: float = 0.0,
        record: bool = True,
    ) -> None:
        size = Size(
            seed=seed,
            itwins=itwins,
            imodels=imodels,
            changesets=changesets,
            extended_data_every=extended_data_every,
            payload_bytes=payload_bytes,
            extensions=extensions,
            versions=versions,
            packages=packages,
            rows=rows,
        )
        clock = Clock(now)
        state = State(size, clock, creation_time=creation_time)
        identity = IdentityServer(
            users=users,
            redirect_uris=redirect_uris,
            token_lifetime=token_lifetime,
            refresh_token_lifetime=refresh_token_lifetime,
        )
        limit = RateLimit(per_minute)
        pipeline = Pipeline(
            state=state,
            identity=identity,
            signer=UrlSigner(seed, download_lifetime, clock, storage_type),
            rate_limit=limit,
            latency=latency,
            max_top=max_top,
            max_items=max_items,
            keeps_records=record,
        )
        super().__init__(state, identity, limit, pipeline)
        self._listener = Listener(pipeline, host, port)
        self._activity = Activity(state, push_every)
        self._deliveries = Deliveries(
            state, timeout=webhook_timeout, attempts=webhook_attempts, spacing=webhook_spacing
        )

    def __repr__(self) -> str:
        listener = getattr(self, "_listener", None)  # missing while it is being made
        return f"<Emulator {listener.url if listener and listener.is_running else 'not running'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        broken = self._pipeline.broken
        if broken is not None and isinstance(error, _ENDINGS):
            # A cancelled block stays cancelled.
            error.add_note(broken.summary)
            self._pipeline.broken = None
        await self.aclose()

    async def start(self) -> None:
        """Listen; ``url`` is known from now on. Raises `OSError` where that is not possible."""
        await self._listener.start()
        self._deliveries.start()
        self._activity.start()

    async def aclose(self) -> None:
        """Stop at once, also in the middle of responses; closing twice is fine.

        Raises, once, the first error of a function in ``faults``.
        """
        await self._stop()
        broken, self._pipeline.broken = self._pipeline.broken, None
        if broken is not None:
            broken.cause.add_note(str(broken))
            raise broken.cause

    async def _stop(self) -> None:
        self._activity.stop()
        try:
            await self._deliveries.stop()
        finally:
            await self._listener.stop()

    @property
    def url(self) -> str:
        """The base of the API, such as ``http://127.0.0.1:43211``."""
        if not self._listener.url:
            raise RuntimeError("the emulator has no address before it is started")
        return self._listener.url

    @property
    def token_url(self) -> str:
        """Where tokens come from."""
        return f"{self.url}/connect/token"

    @property
    def credentials(self) -> ClientCredentials:
        """What a session needs to get tokens here."""
        return ClientCredentials(SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET, token_url=self.token_url)

    @property
    def user_client_id(self) -> str:
        """The client id of the native application, with which people sign in."""
        return USER_CLIENT_ID

    @property
    def web_client(self) -> tuple[str, str]:
        """The client id and the secret of the web application, with which people sign in."""
        return WEB_CLIENT_ID, WEB_CLIENT_SECRET

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `ITwinSession.from_env` and other programs read, to be set or passed.

        They are ``ITWIN_BASE_URL``, ``ITWIN_TOKEN_URL``, ``ITWIN_CLIENT_ID`` and
        ``ITWIN_CLIENT_SECRET``; and for people who sign in ``ITWIN_AUTHORITY``,
        ``ITWIN_USER_CLIENT_ID``, ``ITWIN_WEB_CLIENT_ID`` and ``ITWIN_WEB_CLIENT_SECRET``.
        """
        return {
            "ITWIN_BASE_URL": self.url,
            "ITWIN_TOKEN_URL": self.token_url,
            "ITWIN_CLIENT_ID": SERVICE_CLIENT_ID,
            "ITWIN_CLIENT_SECRET": SERVICE_CLIENT_SECRET,
            "ITWIN_AUTHORITY": self.url,
            "ITWIN_USER_CLIENT_ID": USER_CLIENT_ID,
            "ITWIN_WEB_CLIENT_ID": WEB_CLIENT_ID,
            "ITWIN_WEB_CLIENT_SECRET": WEB_CLIENT_SECRET,
        }
