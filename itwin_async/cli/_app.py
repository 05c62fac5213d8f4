"""The commands, imported when they are used, and the exit code of each."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Annotated, Any, Final, Literal, TextIO, cast

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from itwin_async import __version__
from itwin_async.cli._errors import (
    FAILED,
    INCOMPLETE,
    USAGE,
    exit_code,
    format_error,
    without_secrets,
)
from itwin_async.cli._options import DEFAULTS, IS_SWITCH, SHOWN, Flag, Options
from itwin_async.cli._stdio import Stderr, Stdout, as_file, open_streams, print_error

_EPILOGUE: Final = f"""Options of every command that sends requests: {", ".join(IS_SWITCH)}. \
itwin-async options explains them.

Exit codes: 0 done, {FAILED} failed, {USAGE} wrong usage, 3 not found, \
4 not authorised or no credentials, 5 rate limited, {INCOMPLETE} done but for bad extended data, \
130 Ctrl-C, 141 nobody read the output, 143 SIGTERM."""

app: Final = App(
    name="itwin-async",
    help="Bentley's iTwin Platform in a terminal. Try --emulator, which needs no account.",
    help_epilogue=_EPILOGUE,
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
for _name, _target, _help in (
    ("auth", "_auth:app", "Sign in and out as a person, and show who is signed in."),
    ("extensions", "_extensions:app", "List, create, download and delete iTwin.js extensions."),
    (
        "imodels",
        "_imodels:imodels",
        "List the iModels of an iTwin, show one, or what you may do with it.",
    ),
    (
        "changesets",
        "_imodels:changesets",
        "List or download the changesets of an iModel, or show one.",
    ),
    (
        "named-versions",
        "_imodel_parts:named_versions",
        "List the named versions of an iModel, or show one.",
    ),
    (
        "changeset-groups",
        "_imodel_parts:changeset_groups",
        "List the changeset groups of an iModel, or show one.",
    ),
    ("users", "_imodel_parts:users", "List the users of an iModel, or show one."),
    (
        "extended-data",
        "_extended_data:app",
        "List, show, export, sync or follow what is stored with changesets.",
    ),
    ("packages", "_discovery:packages", "List, show or run integration packages (EDFS)."),
    ("itwins", "_discovery:itwins", "List iTwins, or show one."),
    (
        "request",
        "_request:request",
        """Send any request to the platform, and print the JSON.

        Example: itwin-async request GET /itwins/myprimaryaccount --emulator""",
    ),
):
    app.command(f"itwin_async.cli.{_target}", name=_name, help=_help)


@app.command(help_flags=())
def emulator(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
) -> None:
    """Run an emulated platform until it is stopped; prints the variables to export."""
    from itwin_async.emulator.__main__ import main  # noqa: PLC0415 - argparse and a web server

    try:
        with redirect_stdout(as_file(Stdout())), redirect_stderr(as_file(Stderr())):
            main(arguments, prog="itwin-async emulator")
    except SystemExit as error:
        if not isinstance(error.code, str):
            raise
        Stderr().write(f"{error.code}\n")  # the interpreter's own write can fail
        raise SystemExit(FAILED) from None


@app.command(name="options")
def common_options(
    *,
    options: Annotated[Options, Parameter(name="*", group=SHOWN)] = DEFAULTS,  # noqa: ARG001
) -> None:
    """Explain the options that every command takes.

    Example: itwin-async options
    """
    from itwin_async.cli._screen import HelpScreen  # noqa: PLC0415 - rich, for people only

    app.help_print("options", console=HelpScreen())


@app.command
def demo() -> int:
    """Show the library at work on an emulated platform, throttled and faulty.

    Example: itwin-async demo
    """
    from itwin_async.cli._demo import main  # noqa: PLC0415 - the emulator and rich

    return main()


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: Flag = False) -> None:
    """Print the completion script for a shell, or install it.

    Example: itwin-async completion bash --install

    Args:
        shell: Which shell.
        install: Put it where the shell finds it, and name it in its startup file.
    """
    from itwin_async.cli._output import write  # noqa: PLC0415 - with all that a request needs

    if install:
        print_error(f"{app.install_completion(shell=shell)} is there: open a new shell")
    else:
        write(app.generate_completion(shell=shell).encode())


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0 only if every byte of the output was written."""
    with open_streams():
        if cast("TextIO | None", sys.stdout) is None or sys.stdout.closed:
            print_error("standard output is closed: send it to a file, or to /dev/null")
            return FAILED
        try:
            code: int | None = app(
                _move_options_last(arguments),
                result_action="return_value",
                exit_on_error=False,
                print_error=False,
                console=cast("Any", _LazyScreen()),
            )
            Stdout().finish()
            return code or 0
        except BrokenPipeError:
            return 141
        except CycloptsError as error:
            print_error(f"{without_secrets(_usage(error), arguments)} See --help.")
            return USAGE
        except KeyboardInterrupt:
            if Stderr().isatty():
                Stderr().write("Interrupted.\n")
            return 130
        except Exception as error:
            code = exit_code(error)
            if code is None:
                raise
            print_error(format_error(error))
            return code


def _usage(error: CycloptsError) -> str:
    """One sentence about a command line that the parser refuses."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"Unexpected argument: {error.unused_tokens[0]}."
    error.verbose = False
    message = str(error)
    return message if message.endswith((".", "?")) else f"{message}."


class _LazyScreen:
    """A screen that is created when something is printed on it: most commands print no help."""

    def __getattr__(self, name: str) -> object:
        from itwin_async.cli._screen import HelpScreen  # noqa: PLC0415 - rich, for people only

        return getattr(HelpScreen(), name)


def _move_options_last(arguments: Sequence[str]) -> list[str]:
    """Move common options behind the command: `itwin-async --emulator itwins list`."""
    rest, options = list(arguments), list[str]()
    while rest:
        name, equals, _ = rest[0].partition("=")
        if name not in IS_SWITCH:
            break
        values = 0 if equals or IS_SWITCH[name] else 1
        options += rest[: values + 1]
        del rest[: values + 1]
    names, apps, _ = app.parse_commands(rest)
    if apps[-1].default_command is None:  # no command yet: there is help, or an error
        if options and len(names) == len(rest):
            raise ValueError("give a command: see --help")
        return rest
    return rest[: len(names)] + options + rest[len(names) :]
