"""The command in processes of its own: with pipes, or in a terminal."""

import asyncio
import contextlib
import os
import pty
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "itwin_async")
QUICK = (sys.executable, str(Path(__file__).with_name("quick.py")))
_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what signs in, and with these."""
    left_out = ("ITWIN_", "PYTHONUNBUFFERED")  # the second would hide a missing flush
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"COLUMNS": "120"} | dict(variables or {})


async def run(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    stdin: str = "",
    command: Sequence[str] = COMMAND,
) -> Ended:
    """A process with pipes."""
    process = await asyncio.create_subprocess_exec(
        *command, *arguments,
        env=environment(variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return Ended(process.returncode, out.decode(), err.decode())


def in_terminal(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    react: Callable[[str], bytes | None] = lambda _: None,
    command: Sequence[str] = COMMAND,
) -> tuple[int, str]:
    """Exit code and screen in a terminal; ``react`` gets the screen and returns keys to press.

    Blocks: an emulator in the same loop does not respond meanwhile.
    """
    child, screen = pty.fork()
    if child == 0:
        os.execvpe(command[0], [*command, *arguments], environment(variables))
    seen, until = b"", time.monotonic() + 60
    try:
        while time.monotonic() < until:
            try:
                more = os.read(screen, 1 << 16)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not more:
                break
            seen += more
            keys = react(_STYLE.sub("", seen.decode(errors="replace")))
            if keys:
                os.write(screen, keys)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9) if time.monotonic() >= until else None
        _, status = os.waitpid(child, 0)
        os.close(screen)
    return os.waitstatus_to_exitcode(status), _STYLE.sub("", seen.decode(errors="replace"))
