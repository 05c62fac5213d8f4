"""The options that every command takes: who asks, where, how fast, and what comes out."""

import getpass
import logging
import os
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from itwin_async import ClientCredentials, ITwinSession, Limiter, StaticToken, TokenProvider
from itwin_async.cli._progress import rate_limit
from itwin_async.cli._running import run
from itwin_async.cli._stdio import Stderr, read_stdin
from itwin_async.emulator import Delay, Emulator, Throttle

T = TypeVar("T")
_GROUP: Final = Group("Common options", sort_key=10)
_AT_LEAST_ONE: Final = Parameter(validator=Number(gte=1))
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
Count: TypeAlias = Annotated[int | None, _AT_LEAST_ONE]
_File: TypeAlias = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


class CredentialsError(ValueError):
    """There is nothing to sign in with."""


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, kw_only=True)
class Options:
    """What every command takes.

    Attributes:
        client_id: Id of the service application, instead of ITWIN_CLIENT_ID.
        client_secret_file: File with its secret (-: stdin), instead of ITWIN_CLIENT_SECRET.
        ask_secret: Ask for the secret.
        token_file: File with a token (-: stdin), instead of id and secret.
        base_url: Where the platform is, instead of ITWIN_BASE_URL or production.
        token_url: Where tokens come from, instead of ITWIN_TOKEN_URL.
        proxy: URL of an http or https proxy for every request, such as http://proxy.example:8080.
        ca_file: File of certificate authorities (PEM) to trust besides the system's own.
        emulator: Use an emulated platform, the same each time, for as long as the command runs.
        per_minute: Most requests in any minute.
        per_hour: Most requests in any hour.
        concurrency: Most requests at once.
        timeout: Seconds to wait for an answer, and for each further KiB of its body.
        json: JSON lines also on a terminal.
        verbose: Show the log.
    """

    client_id: str | None = None
    client_secret_file: _File = None
    ask_secret: Flag = False
    token_file: _File = None
    base_url: str | None = None
    token_url: str | None = None
    proxy: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    emulator: Flag = False
    per_minute: Count = None
    per_hour: Count = None
    concurrency: Annotated[int, _AT_LEAST_ONE] = 16
    timeout: float = 60.0
    json: Flag = False
    verbose: Flag = False

    @property
    def for_programs(self) -> bool:
        """Whether JSON lines are wanted, and not tables."""
        return self.json or not sys.stdout.isatty()

    def token_provider(self) -> TokenProvider | None:
        """Who signs in; None with the emulator. May ask, so call it before the loop runs.

        Raises `CredentialsError` where that is nobody.
        """
        mine = (self.client_id, self.client_secret_file, self.token_file, self.base_url)
        if self.emulator:
            if any((*mine, self.token_url, self.ask_secret, self.proxy, self.ca_file)):
                raise ValueError(
                    "--emulator brings its own platform and credentials: leave out others"
                )
            return None
        if sum(map(bool, (self.client_secret_file, self.ask_secret, self.token_file))) > 1:
            raise ValueError("give one of --client-secret-file, --ask-secret and --token-file")
        if self.token_file:
            return StaticToken(_word("--token-file", self.token_file, "Token"))
        client_id = self.client_id or os.environ.get("ITWIN_CLIENT_ID", "").strip()
        if self.client_secret_file:
            secret = _word("--client-secret-file", self.client_secret_file, "Client secret")
        elif self.ask_secret:
            secret = _asked("Client secret")
        else:
            secret = os.environ.get("ITWIN_CLIENT_SECRET", "").strip()
        if not client_id or not secret:
            also = "secret (ITWIN_CLIENT_SECRET or --client-secret-file)"
            missing = also if client_id else "id (ITWIN_CLIENT_ID or --client-id)"
            raise CredentialsError(
                f"no client {missing}: set it, or try --emulator, which needs no account"
            )
        token_url = self.token_url or os.environ.get("ITWIN_TOKEN_URL", "").strip() or None
        return ClientCredentials(client_id, secret, token_url=token_url)


DEFAULTS: Final = Options()
SWITCHES: Final = {
    f"--{each.name.replace('_', '-')}": isinstance(each.default, bool) for each in fields(Options)
}


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE arguments by name; `ValueError` for what is none."""
    found: dict[str, str] = {}
    for each in given:
        name, mark, value = each.partition("=")
        if not name or not mark:
            raise ValueError(f"{option} must be NAME=VALUE, not {each!r}")
        if name in found:
            raise ValueError(f"{option} {name} is given twice")
        found[name] = value
    return found


def _asked(what: str) -> str:
    """What is typed, unseen; `CredentialsError` where nobody can be asked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it could be seen
            return getpass.getpass(f"{what}: ").strip()
    except (EOFError, UnicodeError, getpass.GetPassWarning) as error:
        if isinstance(error, EOFError) and Stderr().isatty():
            Stderr().write("\n")  # the prompt's line
        raise CredentialsError(
            f"{what} was not given: type it on a terminal, or name a file that holds it"
        ) from None


def _word(option: str, name: str, what: str) -> str:
    if name == "-" and sys.stdin.isatty():
        return _asked(what)
    try:
        text = read_stdin() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CredentialsError(f"{option} {name} cannot be read: {why}") from None
    if len(text.split()) == 1:
        return text.strip()
    del text  # a report of an error shows the locals of its frames
    raise CredentialsError(f"{option} {name} must hold one word, and nothing else")


def with_session(
    options: Options,
    work: Callable[[ITwinSession], Coroutine[Any, Any, T]],
    *,
    advice: str = "",
) -> T:
    """The result of work that needs a session; see `run`."""
    provider = options.token_provider()

    async def opened() -> T:
        async with _session(options, provider) as itwin:
            return await work(itwin)

    with _log_on_stderr() if options.verbose else nullcontext():
        return run(opened, advice=advice)


@contextmanager
def _log_on_stderr() -> Generator[None]:
    """Show the whole log while this runs."""
    handler = logging.StreamHandler(Stderr())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("itwin_async")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@asynccontextmanager
async def _session(
    options: Options, provider: TokenProvider | None
) -> AsyncGenerator[ITwinSession]:
    limiter = Limiter(options.concurrency, per_minute=options.per_minute, per_hour=options.per_hour)
    if provider is None:
        async with (
            _emulator() as emulator,
            ITwinSession(
                emulator.credentials,
                base_url=emulator.url,
                limiter=limiter,
                timeout=options.timeout,
                on_event=rate_limit.on_event,
            ) as itwin,
        ):
            yield itwin
        return
    async with ITwinSession.from_env(
        token_provider=provider,
        base_url=options.base_url,
        limiter=limiter,
        timeout=options.timeout,
        on_event=rate_limit.on_event,
        proxy=options.proxy,
        ca_file=options.ca_file,
    ) as itwin:
        yield itwin


def _emulator() -> Emulator:
    """A platform with extended data that takes its time, once says "later", and can be watched."""
    emulator = Emulator(changesets=2_000, latency=0.02, max_top=100, record=False)
    emulator.faults.add("list_extended_data", Throttle(2), after=180)
    emulator.faults.add("list_extended_data", Delay(0.3), times=None)
    return emulator
