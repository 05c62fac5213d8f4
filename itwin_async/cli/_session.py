"""A session for one command, against the platform or an emulated one."""

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, Final, TypeVar

from itwin_async import (
    Limiter,
    RateLimitError,
    ServerError,
    TokenProvider,
    TransportError,
    UserSignIn,
)
from itwin_async.cli._login import Login, find_login
from itwin_async.cli._meter import CommandSession, RateLimitWatch
from itwin_async.cli._options import Options
from itwin_async.cli._running import run
from itwin_async.cli._stdio import Stderr

T = TypeVar("T")
_RESUME_ADVICE: Final = "Run the same command again to go on."


def with_session(
    options: Options,
    work: Callable[[CommandSession], Coroutine[Any, Any, T]],
    *,
    advice: str = "",
    login: Login | None = None,
    prefer_login: bool = False,
) -> T:
    """Run work in a session and return its result; see `run`.

    The session signs in with ``login``, if there is one; ``prefer_login`` prefers a stored login to
    other credentials.
    """
    if prefer_login and not options.token_file and not options.emulator:
        login = options.stored_login()
    provider = options.token_provider() if login is None else login.provider()
    if login is None and isinstance(provider, UserSignIn):
        login = find_login(options.profile, options.client_id, options.base_url)
    base_url = options.base_url if login is None else login.base_url

    async def in_session() -> T:
        async with _session(options, provider, base_url) as itwin:
            return await work(itwin)

    with _log_on_stderr() if options.verbose else nullcontext():
        return run(in_session, advice=advice)


def with_resumable_session(
    options: Options, work: Callable[[CommandSession], Coroutine[Any, Any, T]]
) -> T:
    """`with_session` for work that goes on where it was when the same command is run again.

    It says so after a signal, and of errors that may be over by then.
    """
    try:
        return with_session(options, work, advice=_RESUME_ADVICE)
    except (TransportError, ServerError, RateLimitError) as error:
        error.add_note(_RESUME_ADVICE)
        raise


@contextmanager
def _log_on_stderr() -> Generator[None]:
    """Show the whole log while this runs."""
    handler = logging.StreamHandler(Stderr())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("itwin_async")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@asynccontextmanager
async def _session(
    options: Options, provider: TokenProvider | None, base_url: str | None
) -> AsyncGenerator[CommandSession]:
    limiter = Limiter(options.concurrency, per_minute=options.per_minute, per_hour=options.per_hour)
    watch = RateLimitWatch()
    if provider is None:
        # Only --emulator needs a web server.
        from itwin_async.cli import _emulated  # noqa: PLC0415

        async with (
            _emulated.emulator() as emulator,
            CommandSession(
                emulator.credentials,
                base_url=emulator.url,
                limiter=limiter,
                timeout=options.timeout,
                on_event=watch.on_event,
            ) as itwin,
        ):
            itwin.rate_limit = watch
            yield itwin
        return
    async with CommandSession.from_env(
        token_provider=provider,
        base_url=base_url,
        limiter=limiter,
        timeout=options.timeout,
        on_event=watch.on_event,
        proxy=options.proxy,
        ca_file=options.ca_file,
    ) as itwin:
        itwin.rate_limit = watch
        yield itwin
