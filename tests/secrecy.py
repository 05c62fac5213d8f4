"""The whole suite looks for secrets: in every log record and in every error a call raises."""

import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest

from itwin_async._exchange import Exchange
from itwin_async.emulator._access import CLIENT_SECRET, Tokens
from itwin_async.errors import ITwinError

ALWAYS = (CLIENT_SECRET, "token-of-the-test", "canary-", "canary/")
_given_out: set[str] = set()  # by emulators, in this test
_standard = frozenset(vars(logging.makeLogRecord({})))


def found_in(text: str) -> list[str]:
    """The secrets that a text shows."""
    return [secret for secret in (*ALWAYS, *_given_out) if secret in text]


def shown(error: BaseException) -> str:
    """All that a log, a debugger or a report may show of an error, its causes and its copies."""
    parts, todo = [], [error]
    while todo:
        each = todo.pop()
        parts += [str(each), repr(each), repr(each.args), repr(vars(each))]
        parts += traceback.format_exception(each)
        todo += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "\n".join(parts) + pickle.dumps(error).decode("latin-1")


class Watch:
    """A filter on our logger that sees all records, and lets pass what passed without it."""

    def __init__(self) -> None:
        self.leaks: list[str] = []

    def look(self, text: str, where: str) -> None:
        """Note what a text shows."""
        for secret in found_in(text):
            self.leaks.append(f"{where} shows {secret[:12]}…")

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        said = f"{record.getMessage()} {vars(record)}"
        if record.exc_info:
            said += "".join(traceback.format_exception(record.exc_info[1]))
        self.look(said, f"a log record ({record.msg!r})")
        return record.levelno >= logging.getLogger().getEffectiveLevel()


@pytest.fixture(autouse=True)
def canaries() -> Iterator[Watch]:
    """No secret in what is logged, at any level, or raised by a call, handled or not."""
    watch, logger = Watch(), logging.getLogger("itwin_async")
    run, issue = Exchange.run, Tokens.issue

    async def watched(self: Exchange, *args, **options):
        try:
            return await run(self, *args, **options)
        except ITwinError as error:
            watch.look(shown(error), type(error).__name__)
            raise

    def issued(self: Tokens, *args, **options) -> str:
        token = issue(self, *args, **options)
        if len(_given_out) < 100:
            _given_out.add(token)
        return token

    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addFilter(watch)
    Exchange.run, Tokens.issue = watched, issued
    try:
        yield watch
    finally:
        Exchange.run, Tokens.issue = run, issue
        logger.removeFilter(watch)
        logger.setLevel(level)
        _given_out.clear()
    assert not watch.leaks


__all__ = ["Watch", "canaries", "found_in", "shown"]
