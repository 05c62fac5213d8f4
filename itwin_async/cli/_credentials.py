"""Secrets for signing in, from the environment, a file, standard input or a prompt."""

import getpass
import os
import sys
import warnings
from pathlib import Path

from itwin_async import StaticToken
from itwin_async.cli._errors import CredentialsError
from itwin_async.cli._stdio import Stderr, read_stdin


def from_environment(variable: str) -> str:
    """The value of an environment variable, without space around it; empty if it is not set."""
    return os.environ.get(variable, "").strip()


def read_secret(option: str, name: str, label: str) -> str:
    """Read a secret from a file or, for ``-``, from standard input; a terminal gets a prompt.

    Raises `CredentialsError` if that is not one word.
    """
    if name == "-" and sys.stdin.isatty():
        return prompt_secret(label)
    try:
        text = read_stdin() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CredentialsError(f"{option} {name} cannot be read: {reason}") from None
    if len(text.split()) == 1:
        return text.strip()
    del text  # error reports show the locals of frames
    raise CredentialsError(f"{option} {name} must hold one word, and nothing else")


def prompt_secret(label: str) -> str:
    """Ask for a secret without echo; `CredentialsError` where that is not possible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would be echoed
            return getpass.getpass(f"{label}: ").strip()
    except (EOFError, UnicodeError, getpass.GetPassWarning) as error:
        if isinstance(error, EOFError) and Stderr().isatty():
            Stderr().write("\n")  # ends the line of the prompt
        raise CredentialsError(
            f"{label} was not given: type it on a terminal, or name a file that holds it"
        ) from None


def static_token(source: str, value: str) -> StaticToken:
    """A token from this source, which the error names where it cannot be one."""
    try:
        return StaticToken(value)
    except ValueError as error:
        raise CredentialsError(f"{source}: {error}") from None
    finally:
        del value  # error reports show the locals of frames
