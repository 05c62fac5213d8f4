"""Text that is safe to write: no control characters for a terminal, nothing undecodable."""

import json
import os


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Text in one line: a space for a control character, ``\xfc`` for what cannot be encoded."""
    shown = "".join(c if c.isprintable() or _is_lone_byte(c) else " " for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def path_text(path: os.PathLike[str]) -> str:
    r"""A path as text that can be encoded; a byte that is not UTF-8 is shown as ``\xff``."""
    return os.fsencode(path).decode(errors="backslashreplace")


def escaped(text: str, encoding: str = "utf-8") -> str:
    r"""Escape control characters, and what cannot be encoded, as JSON does: ``\u009b``.

    Newlines and tabs stay.
    """
    return "".join(
        c if c in "\n\t" or (c.isprintable() and _can_encode(c, encoding)) else json.dumps(c)[1:-1]
        for c in text
    )


def _can_encode(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _is_lone_byte(character: str) -> bool:
    """Whether it stands for a byte of a path or an argument that is not UTF-8."""
    return "\udc80" <= character <= "\udcff"
