"""The message for an error, and the exit code."""

import math
import re
from collections.abc import Sequence
from typing import Final

from itwin_async import (
    ForbiddenError,
    ITwinError,
    NotFoundError,
    RateLimitError,
    UnauthorizedError,
)

FAILED: Final = 1
USAGE: Final = 2
INCOMPLETE: Final = 6  # done, but for bad extended data
_EXTRAS: Final = {"cyclopts", "rich"}
_SECRET: Final = re.compile(r"(?i)secret|token|password")


class CredentialsError(ValueError):
    """There is nothing to sign in with."""


_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (  # the first that fits
    (NotFoundError, 3),
    (UnauthorizedError, 4),
    (ForbiddenError, 4),
    (CredentialsError, 4),
    (RateLimitError, 5),
    (ITwinError, FAILED),
    (OSError, FAILED),
    (ImportError, FAILED),
    (RuntimeError, FAILED),  # a session that is closed, an export that runs already
)


def exit_code(error: Exception) -> int | None:
    """The exit code for an error; None for what can only be a bug of this program."""
    if isinstance(error, ValueError) and not isinstance(error, CredentialsError | OSError):
        return USAGE if _is_refused_argument(error) else FAILED
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def format_error(error: Exception) -> str:
    """One line about an error, with its notes as advice."""
    if isinstance(error, ModuleNotFoundError) and (hint := missing_extra(error)):
        return hint
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        # Only a look-up of the current directory fails without a file name.
        unnamed = "the current directory" if isinstance(error, FileNotFoundError) else ""
        name = error.filename or unnamed
        message = f"{name}: {error.strerror}" if name else error.strerror
    advice = list[str](getattr(error, "__notes__", ()))
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        advice.insert(0, f"Try again in {math.ceil(error.retry_after):,} s.")
    return " ".join((f"{message.rstrip('.')}.", *advice)) if advice else message


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """How to install what the command line needs, if that is what is missing."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRAS:
        return None
    return f"the command line needs {module}: pip install 'itwin-async[cli]'"


def without_secrets(message: str, arguments: Sequence[str]) -> str:
    """A message without the secrets on the command line: no option takes one, but people try."""
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if equals and _SECRET.search(name):
            message = message.replace(argument, f"{name}=…")
    return message


def _is_refused_argument(error: ValueError) -> bool:
    """Whether this library refused an argument: codecs and Arrow raise `ValueError` as well."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = "" if last is None else str(last.tb_frame.f_globals.get("__name__"))
    return type(error) is ValueError and module.partition(".")[0] == "itwin_async"
