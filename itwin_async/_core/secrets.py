"""Plain types whose repr shows nothing, for locals that hold secrets: docs/adr/0008."""

from typing import Any, Final

_HIDDEN: Final = "'…'"


class SecretStr(str):
    """Text that is as secret as a token: a header, or a signed URL. `str` of it is the text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _HIDDEN


class SecretStrs(tuple[str, ...]):
    """Secrets to be left out of what is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _HIDDEN


class SecretDict(dict[str, Any]):
    """Named values, such as those of a form or of a token endpoint's answer."""

    def __repr__(self) -> str:
        return _HIDDEN


class SecretBytes(bytearray):
    """A body, which may hold a token or a signed URL."""

    def __repr__(self) -> str:
        return _HIDDEN

    def take(self, piece: bytes) -> bool:
        """Add a piece; whether there was one."""
        self.extend(piece)
        return bool(piece)


class SecretValue:
    """Anything else, until it is known what it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
