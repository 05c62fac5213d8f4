"""The options that every command takes: credentials, platform, limits and output."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from itwin_async import ClientCredentials, TokenProvider
from itwin_async.cli._credentials import (
    from_environment,
    prompt_secret,
    read_secret,
    static_token,
)
from itwin_async.cli._errors import CredentialsError
from itwin_async.cli._login import RUN_LOGIN, Login, find_login

_GROUP: Final = Group("Common options", show=False)  # `itwin-async options` explains them
SHOWN: Final = Group("Common options")


def _whole_number(_: object, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)  # cyclopts would round 2.7
    except ValueError:
        raise ValueError(f"a whole number is needed, not {tokens[0].value!r}") from None


AT_LEAST_ZERO: Final = Parameter(converter=_whole_number, validator=Number(gte=0))
AT_LEAST_ONE: Final = Parameter(converter=_whole_number, validator=Number(gte=1))
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
Count: TypeAlias = Annotated[int | None, AT_LEAST_ONE]
_File: TypeAlias = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that every command takes.

    Attributes:
        profile: Use the login of this name (ITWIN_PROFILE), see itwin-async auth login.
        client_id: Id of the application, instead of ITWIN_CLIENT_ID; for auth login, of one of the
            type Desktop/Mobile, instead of ITWIN_USER_CLIENT_ID.
        client_secret_file: File with a service's secret (-: stdin), instead of ITWIN_CLIENT_SECRET.
        ask_secret: Ask for the secret.
        token_file: File with a token (-: stdin), instead of id and secret.
        base_url: URL of the platform, instead of ITWIN_BASE_URL or production.
        token_url: URL that issues tokens, instead of ITWIN_TOKEN_URL.
        proxy: URL of an http or https proxy for every request, such as http://proxy.example:8080.
        ca_file: File of certificate authorities (PEM) to trust besides the system's own.
        emulator: Use an emulated platform, the same each time, for as long as the command runs.
        per_minute: Most requests in any minute.
        per_hour: Most requests in any hour.
        concurrency: Most requests at once.
        timeout: Seconds to wait for a response, and for each further KiB of its body.
        json: Print JSON lines also on a terminal.
        verbose: Show the log.
    """

    profile: str | None = None
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
    concurrency: Annotated[int, AT_LEAST_ONE] = 16
    timeout: float = 60.0
    json: Flag = False
    verbose: Flag = False

    @property
    def for_programs(self) -> bool:
        """Whether to print JSON lines instead of tables."""
        return self.json or not sys.stdout.isatty()

    def token_provider(self) -> TokenProvider | None:
        """The credentials; None with the emulator, which has its own.

        May prompt, so call it before the event loop runs. Raises `CredentialsError` if there are
        none.
        """
        own = (self.client_id, self.client_secret_file, self.token_file, self.base_url)
        if self.emulator:
            if any((*own, self.profile, self.token_url, self.ask_secret, self.proxy, self.ca_file)):
                raise ValueError(
                    "--emulator brings its own platform and credentials: leave out others"
                )
            return None
        if sum(map(bool, (self.client_secret_file, self.ask_secret, self.token_file))) > 1:
            raise ValueError("give one of --client-secret-file, --ask-secret and --token-file")
        if self.token_file:
            source = f"--token-file {self.token_file}"
            return static_token(source, read_secret("--token-file", self.token_file, "Token"))
        if self.profile:
            login = self.stored_login()
            if login is None:
                raise CredentialsError(
                    f"nobody is signed in with --profile {self.profile}: {RUN_LOGIN} --profile "
                    f"{self.profile}"
                )
            return login.provider()
        client_id = self.client_id or from_environment("ITWIN_CLIENT_ID")
        if self.client_secret_file:
            secret = read_secret("--client-secret-file", self.client_secret_file, "Client secret")
        elif self.ask_secret:
            secret = prompt_secret("Client secret")
        else:
            secret = from_environment("ITWIN_CLIENT_SECRET")
        if not client_id or not secret:
            access_token = from_environment("ITWIN_ACCESS_TOKEN")
            if access_token:
                return static_token("ITWIN_ACCESS_TOKEN", access_token)
            login = self.stored_login()
            if login is not None:
                return login.provider()
            missing = (
                "secret (ITWIN_CLIENT_SECRET or --client-secret-file)"
                if client_id
                else "id (ITWIN_CLIENT_ID or --client-id)"
            )
            raise CredentialsError(
                f"no client {missing}, and nobody is signed in: set it, or {RUN_LOGIN} (or try "
                "--emulator, which needs no account)"
            )
        token_url = self.token_url or from_environment("ITWIN_TOKEN_URL") or None
        return ClientCredentials(client_id, secret, token_url=token_url)

    def stored_login(self) -> Login | None:
        """The login of a person that is stored; None where there is none."""
        try:
            login = find_login(self.profile, self.client_id, self.base_url)
        except CredentialsError:
            return None
        return login if login.is_stored else None


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, kw_only=True)
class ListOptions(Options):
    """The options of a command that prints a list.

    Attributes:
        output: Print a table, JSON lines or CSV; by default a table on a terminal, else JSON lines.
    """

    output: Annotated[
        Literal["table", "jsonl", "csv"] | None, Parameter(group="Parameters", show_default=False)
    ] = None

    @property
    def list_format(self) -> Literal["table", "jsonl", "csv"]:
        """What to print of a list."""
        if self.output is not None and self.json:
            raise ValueError("give one of --output and --json")
        return self.output or ("jsonl" if self.for_programs else "table")


DEFAULTS: Final = Options()
LIST_DEFAULTS: Final = ListOptions()
IS_SWITCH: Final = {
    f"--{option.name.replace('_', '-')}": isinstance(option.default, bool)
    for option in fields(Options)
}


def pairs(option: str, arguments: Sequence[str]) -> dict[str, str]:
    """Split NAME=VALUE arguments; raises `ValueError` for anything else, or a name given twice."""
    found: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name or not equals:
            raise ValueError(f"{option} must be NAME=VALUE, not {argument!r}")
        if name in found:
            raise ValueError(f"{option} {name} is given twice")
        found[name] = value
    return found
