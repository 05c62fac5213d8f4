"""Progress on stderr, where stderr is a terminal and nothing else is written to it."""

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager

from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._stdio import Stderr


@contextmanager
def progress(
    itwin: CommandSession, title: str, meter: Meter, *, prints_lines: bool = False
) -> Generator[bool]:
    """Show a meter while this runs; whether it is shown.

    There is none where the log, or lines on the same terminal (``prints_lines``), would run into
    it.
    """
    logs = logging.getLogger("itwin_async").isEnabledFor(logging.INFO)
    if not Stderr().isatty() or logs or (prints_lines and sys.stdout.isatty()):
        yield False
        return
    # rich, which output to a pipe does not need.
    from itwin_async.cli._progress_bar import progress_bar  # noqa: PLC0415

    with progress_bar(itwin, title, meter):
        yield True
