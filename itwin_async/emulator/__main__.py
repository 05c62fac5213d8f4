"""The command: prints the variables that lead to the emulator, and serves until it is stopped."""

import argparse
import asyncio
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO, cast

from itwin_async.emulator._emulator import Emulator

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_OPTIONS: Final[dict[str, tuple[type, str]]] = {
    "port": (int, "port, 0 for any free one"),
    "per-minute": (int, "API requests admitted in a minute"),
    "latency": (float, "seconds before each response of the API"),
    "token-lifetime": (float, "seconds"),
    "refresh-token-lifetime": (float, "seconds"),
    "download-lifetime": (float, "seconds"),
    "webhook-attempts": (int, "how often an event is sent to a webhook that does not answer"),
    "webhook-spacing": (float, "seconds between these attempts"),
    "max-top": (int, "most items of a page"),
    "itwins": (int, "iTwins"),
    "imodels": (int, "iModels"),
    "changesets": (int, "changesets of each iModel"),
    "extended-data-every": (int, "which changesets have extended data"),
    "payload-bytes": (int, "size of each extended data"),
    "extensions": (int, "extensions, public and of each account"),
    "versions": (int, "versions of each extension"),
    "packages": (int, "integration packages"),
    "rows": (int, "rows of each entity set"),
    "seed": (int, "seed of all data"),
    "push-every": (float, "seconds between changesets that are pushed while it runs"),
    "creation-time": (float, "seconds until a new iModel is initialized"),
}


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        """Print the help, or raise: `argparse` hides that it could not."""
        (file or sys.stdout).write(self.format_help())


def _line(name: str, value: str) -> str:
    return f"{name}={value}\n"


def _export_line(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}\n"


async def _serve(emulator: Emulator, line: Callable[[str, str], str]) -> str | None:
    """Serve until a signal; give the reason where it cannot listen.

    ``line`` makes one of a variable's name and value.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            loop.add_signal_handler(number, stopped.set)
    try:
        await emulator.start()
    except UnicodeError:
        return "the name of the host is no name"
    except OSError as error:
        # The event loop wraps the system's message; a name that is not found has a number below 0.
        code = error.errno or 0
        return os.strerror(code) if code > 0 else error.strerror or str(error)
    try:
        sys.stdout.writelines(line(name, value) for name, value in emulator.environment.items())
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await emulator.aclose()
    return None


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m itwin_async.emulator"
) -> None:
    """Serve until SIGINT or SIGTERM; exits with 2 for a wrong argument, 1 when it cannot listen.

    ``arguments`` are those of the process where None.
    """
    parser = _Parser(
        prog=prog,
        usage="%(prog)s [options]",
        description="An iTwin Platform of your own, on loopback.",
        epilog="Example: %(prog)s --port 8080 --push-every 5",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--export", action="store_true", help="print lines of a shell: export NAME=VALUE"
    )
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument(
        "--storage-type", choices=("azure", "google"), help="how addresses of files are spelled"
    )
    parser.add_argument(
        "--user",
        action="append",
        dest="users",
        metavar="NAME[:RIGHTS]",
        help="somebody who can sign in; rights are owner (the default), reader, viewer or none; may"
        " be repeated",
    )
    parser.add_argument(
        "--redirect-uri",
        action="append",
        dest="redirect_uris",
        metavar="URI",
        help="where a browser may be sent after signing in; may be repeated",
    )
    for name, (kind, text) in _OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=text)
    options = vars(parser.parse_args(arguments))
    line = _export_line if options.pop("export", False) else _line
    try:
        emulator = Emulator(record=False, **options)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            reason = runner.run(_serve(emulator, line))
    finally:  # the loop leaves the default ones behind
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
    if reason is not None:
        where = f"{options.get('host', '127.0.0.1')} port {options.get('port', 0)}"
        sys.exit(f"{parser.prog}: cannot listen on {where}: {reason}")


def _main_of_the_process() -> None:
    """As `main`; says in one line where its output cannot be written."""
    prog = "python -m itwin_async.emulator"
    stdout = cast("TextIO | None", sys.stdout)
    if stdout is None:
        sys.exit(f"{prog}: standard output is closed: send it to a file, or to /dev/null")
    try:
        main(prog=prog)
    except OSError as error:
        # Python would write what is left at its exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        sys.exit(f"{prog}: standard output cannot be written: {error.strerror}")


if __name__ == "__main__":
    _main_of_the_process()
