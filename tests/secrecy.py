"""The whole suite looks for secrets: in log records, and in errors with the locals of their frames.

Every error that a call raises is looked at, and whatever a test catches with ``pytest.raises``.
"""

import inspect
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import itwin_async
from itwin_async._http.executor import RequestExecutor
from itwin_async.emulator._identity.clients import SERVICE_CLIENT_SECRET, WEB_CLIENT_SECRET
from itwin_async.emulator._identity.tokens import IssuedTokens
from itwin_async.errors import ITwinError

ALWAYS = (SERVICE_CLIENT_SECRET, WEB_CLIENT_SECRET, "token-of-the-test", "canary-", "canary/")
_given_out: set[str] = set()  # by emulators, in this test
_standard = frozenset(vars(logging.makeLogRecord({})))


CLIENT = str(Path(itwin_async.__file__).parent)
OTHERS = (str(Path(__file__).parent), str(Path(CLIENT, "emulator")))


def found_in(text: str) -> list[str]:
    """The secrets that a text shows."""
    return [secret for secret in (*ALWAYS, *_given_out) if secret in text]


def chain(error: BaseException) -> list[BaseException]:
    """An error and all that led to it, also where a report would leave that out."""
    found, todo = [], [error]
    while todo:
        member = todo.pop()
        if member is None or any(member is other for other in found):
            continue
        found.append(member)
        todo += [member.__cause__, member.__context__]
        if isinstance(member, BaseExceptionGroup):
            todo += member.exceptions
    return found


def shown(error: BaseException) -> str:
    """All that a log, a debugger or a report may show of an error, its causes and its copies."""
    parts = []
    for member in chain(error):
        parts += [str(member), repr(member), repr(member.args), repr(vars(member))]
        parts += traceback.format_exception(member)
    return "\n".join(parts) + pickle.dumps(error).decode("latin-1") + frames(error)


def frames(error: BaseException) -> str:
    """What a report that captures locals shows of our frames, and of those they lead to.

    Not so of the tests' own and the emulator's, nor of errors that our client has no part in.
    """
    lines, client_was_there = [], False
    for member in chain(error):
        trace = traceback.TracebackException(
            type(member), member, member.__traceback__, capture_locals=True, compact=True
        )
        files = [frame.filename for frame in trace.stack if not frame.filename.startswith(OTHERS)]
        client_was_there |= any(name.startswith(CLIENT) for name in files)
        lines += [
            f"{frame.filename}:{frame.lineno} {frame.name} {name} = {value}"
            for frame in trace.stack
            if not frame.filename.startswith(OTHERS)
            for name, value in (frame.locals or {}).items()
        ]
        for frame, _ in traceback.walk_tb(member.__traceback__):
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(frame.f_locals, dict):
                frame.f_locals.clear()  # before 3.13 a copy, which would keep what it holds alive
    return "\n".join(lines) if client_was_there else ""


class Watch:
    """A filter on our logger that sees all records, and lets pass what passed without it."""

    def __init__(self) -> None:
        self.leaks: list[str] = []

    def look(self, text: str, where: str) -> None:
        """Note what a text shows."""
        for secret in found_in(text):
            self.leaks.append(f"{where} shows {secret[:12]}…")

    def look_at_frames(self, error: BaseException) -> None:
        """Note what the frames of an error show, and where."""
        for line in frames(error).splitlines():
            self.look(line, f"{type(error).__name__}, {line.partition(' = ')[0]}")

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        text = f"{record.getMessage()} {vars(record)}"
        if record.exc_info:
            text += "".join(traceback.format_exception(record.exc_info[1]))
        self.look(text, f"a log record ({record.msg!r})")
        return record.levelno >= logging.getLogger().getEffectiveLevel()


@pytest.fixture(autouse=True)
def canaries() -> Iterator[Watch]:
    """No secret in what is logged, at any level, or raised by a call, handled or not."""
    watch, logger = Watch(), logging.getLogger("itwin_async")
    run, issue, leave = RequestExecutor.execute, IssuedTokens.issue, pytest.RaisesExc.__exit__

    async def watched(self: RequestExecutor, *args: Any, **options: Any) -> Any:
        try:
            return await run(self, *args, **options)
        except ITwinError as error:
            watch.look(shown(error), type(error).__name__)
            raise

    def issued(self: IssuedTokens, *args: Any, **options: Any) -> str:
        token = issue(self, *args, **options)
        if len(_given_out) < 100:
            _given_out.add(token)
        return token

    def left(self: Any, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is not None and not isinstance(error, SystemExit):  # which nobody reports
            watch.look_at_frames(error)
        return leave(self, kind, error, trace)

    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addFilter(watch)
    RequestExecutor.execute, IssuedTokens.issue, pytest.RaisesExc.__exit__ = watched, issued, left
    try:
        yield watch
    finally:
        RequestExecutor.execute, IssuedTokens.issue, pytest.RaisesExc.__exit__ = run, issue, leave
        logger.removeFilter(watch)
        logger.setLevel(level)
        _given_out.clear()
    assert not watch.leaks, watch.leaks


__all__ = ["Watch", "canaries", "chain", "found_in", "frames", "shown"]
