"""Sentences for objects that are used as what they are not, such as a list in a plain `for`."""

from collections.abc import Mapping
from typing import Any, NoReturn


def explain_misuse(cls: type[Any], sentences: Mapping[str, str]) -> None:
    """Let special methods that a class lacks raise a `TypeError` that says what to write instead.

    At run time alone: type checkers go on to refuse these uses.
    """
    for name, sentence in sentences.items():
        setattr(cls, name, _fail_with(sentence))


def _fail_with(sentence: str) -> Any:
    def fail(*_: object) -> NoReturn:
        raise TypeError(sentence)

    return fail
