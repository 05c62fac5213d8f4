"""The commands put together, and how each ends: with a line and an exit code."""

import math
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeAlias, cast

import msgspec
from cyclopts import App, CycloptsError, Parameter

from itwin_async import (
    ForbiddenError,
    ITwinError,
    ITwinSession,
    NotFoundError,
    RateLimitError,
    UnauthorizedError,
    __version__,
)
from itwin_async.cli import _extended_data, _extensions
from itwin_async.cli._discovery import itwins, packages
from itwin_async.cli._imodels import changesets, imodels
from itwin_async.cli._options import (
    DEFAULTS,
    SWITCHES,
    CredentialsError,
    Flag,
    Options,
    pairs,
    with_session,
)
from itwin_async.cli._output import BAD, Screen, write, write_file, write_json
from itwin_async.cli._stdio import Stderr, Stdout, as_file, open_streams, read_stdin, say

_FAILED: Final = 1
_USAGE: Final = 2
_ERRORS: Final[tuple[tuple[type[Exception], int], ...]] = (  # the first that fits
    (NotFoundError, 3),
    (UnauthorizedError, 4),
    (ForbiddenError, 4),
    (CredentialsError, 4),
    (RateLimitError, 5),
    (ITwinError, _FAILED),
    (OSError, _FAILED),
    (ImportError, _FAILED),
    (RuntimeError, _FAILED),  # a session that is closed, an export that runs already
)
_SECRET: Final = re.compile(r"(?i)secret|token|password")
_EPILOGUE: Final = f"""Exit codes: 0 done, {_FAILED} failed, {_USAGE} wrong usage, 3 not found, \
4 not authorised or no credentials, 5 rate limited, {BAD} done but for bad extended data, \
130 Ctrl-C, 141 nobody read the output, 143 SIGTERM."""

app: Final = App(
    name="itwin-async",
    help="Bentley's iTwin Platform in a terminal. Try --emulator, which needs no account.",
    help_epilogue=_EPILOGUE,
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
for _group in (_extensions.app, imodels, changesets, _extended_data.app, packages, itwins):
    app.command(_group)
_Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


@app.command
def request(
    method: str,
    path: str,
    /,
    *,
    query: Annotated[list[str] | None, Parameter(negative="")] = None,
    body: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    version: str = "v1",
    output: Path | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Any request to the platform, with its token, limits and retries; prints the answer's JSON.

    Args:
        method: GET, POST, PUT, PATCH, DELETE or HEAD.
        path: Its path, such as /itwins/myprimaryaccount.
        query: NAME=VALUE, once for each.
        body: JSON, or @FILE, or - for standard input.
        version: Version of the API: v1 or v2.
        output: File to write the answer's bytes to.
        options: See `Options`.
    """
    parameters, sent = pairs("--query", query or ()), _body(body)

    async def work(session: ITwinSession) -> bytes:
        return await session.request(
            cast("_Method", method.upper()),
            path,
            query=parameters,
            body=sent,
            version=version,
            returns=bytes,
        )

    answer = with_session(options, work)
    if output is not None:
        write_file(output, answer)
    elif answer:
        write_json(options, answer)


def _body(given: str | None) -> object:
    if given is None:
        return None
    text = given
    try:
        if given == "-":
            text = read_stdin()
        elif given.startswith("@"):
            text = Path(given[1:]).read_text(encoding="utf-8-sig")
        return msgspec.json.decode(text)
    except UnicodeError:
        raise ValueError("--body is not UTF-8 text") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"--body is no JSON: {error}") from None


@app.command(help_flags=())
def emulator(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
) -> None:
    """An emulated platform that runs until it is stopped, and says which variables to export."""
    from itwin_async.emulator.__main__ import main  # noqa: PLC0415 - argparse, needed here alone

    try:
        with redirect_stdout(as_file(Stdout())), redirect_stderr(as_file(Stderr())):
            main(arguments, prog="itwin-async emulator")
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            raise
        Stderr().write(f"{ended.code}\n")  # the interpreter would, and fail where it cannot
        raise SystemExit(_FAILED) from None


@app.command
def demo() -> int:
    """The library at work on an emulated platform, throttled and faulty."""
    from itwin_async.cli._demo import main  # noqa: PLC0415 - needed here alone

    return main()


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: Flag = False) -> None:
    """Completion for a shell: the script, or where it was installed.

    Args:
        shell: Which shell.
        install: Put it where the shell finds it, and name it in its startup file.
    """
    if install:
        say(f"{app.install_completion(shell=shell)} is there: open a new shell")
    else:
        write(app.generate_completion(shell=shell).encode())


def run(tokens: Sequence[str]) -> int:
    """Run a command; the exit code. Only a success whose every byte is out is one."""
    with open_streams():
        if cast("TextIO | None", sys.stdout) is None or sys.stdout.closed:
            say("standard output is closed: send it to a file, or to /dev/null")
            return _FAILED
        try:
            code: int | None = app(
                _options_last(tokens),
                result_action="return_value",
                exit_on_error=False,
                print_error=False,
                console=Screen(),
            )
            Stdout().finish()
            return code or 0
        except BrokenPipeError:
            return 141
        except CycloptsError as error:
            error.verbose = False
            say(f"{_without_secrets(str(error), tokens)} See --help.")
            return _USAGE
        except KeyboardInterrupt:
            if Stderr().isatty():
                Stderr().write("Interrupted.\n")
            return 130
        except Exception as error:
            code = _exit_code(error)
            if code is None:
                raise
            say(_words(error))
            return code


def _exit_code(error: Exception) -> int | None:
    """The code that an error ends with; None for what can only be a fault of this program."""
    if isinstance(error, ValueError) and not isinstance(error, CredentialsError | OSError):
        return _USAGE if _is_refused_argument(error) else _FAILED
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), None)


def _is_refused_argument(error: ValueError) -> bool:
    """Whether a check of ours refused an argument: codecs and Arrow raise `ValueError` as well."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else str(last.tb_frame.f_globals.get("__name__"))
    return type(error) is ValueError and where.partition(".")[0] == "itwin_async"


def _words(error: Exception) -> str:
    words = str(error)
    if isinstance(error, OSError) and error.strerror:
        # Only the current directory is looked for without a name.
        unnamed = "the current directory" if isinstance(error, FileNotFoundError) else ""
        name = error.filename or unnamed
        words = f"{name}: {error.strerror}" if name else error.strerror
    advice = list[str](getattr(error, "__notes__", ()))
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        advice.insert(0, f"Try again in {math.ceil(error.retry_after):,} s.")
    return " ".join((f"{words.rstrip('.')}.", *advice)) if advice else words


def _without_secrets(text: str, tokens: Sequence[str]) -> str:
    """No option takes a secret, but somebody may have tried."""
    for token in tokens:
        name, mark, _ = token.partition("=")
        if mark and _SECRET.search(name):
            text = text.replace(token, f"{name}=…")
    return text


def _options_last(tokens: Sequence[str]) -> list[str]:
    """Common options may stand before the command, too: `itwin-async --emulator itwins list`."""
    rest, options = list(tokens), list[str]()
    while rest:
        name, mark, _ = rest[0].partition("=")
        if name not in SWITCHES:
            break
        values = 0 if mark or SWITCHES[name] else 1
        options += rest[: values + 1]
        del rest[: values + 1]
    names, apps, _ = app.parse_commands(rest)
    if apps[-1].default_command is None:  # no command yet: there is help, or an error
        if options and len(names) == len(rest):
            raise ValueError("give a command: see --help")
        return rest
    return rest[: len(names)] + options + rest[len(names) :]
