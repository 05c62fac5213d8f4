"""Headers as values: those that a caller gives, checked, and those of a response that are shown."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretDict, SecretStr, SecretValue

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "content-length", "host", "proxy-authorization", "te", "transfer-encoding",
     "upgrade"}
)  # fmt: skip
# Names that the library itself sends, as it spells them.
_OWN_NAMES: Final = {
    name.lower(): name
    for name in ("Accept", "Content-Type", "Prefer", "User-Agent", "X-Correlation-Id")
}
_SHOWN: Final = {
    name.lower(): name
    for name in ("Content-Type", "Date", "ETag", "Last-Modified", "Location", "Retry-After")
}
_RATE_LIMIT: Final = re.compile(r"(?i)(x-|itwinplatform-)?ratelimit(ed)?(-.*)?|itwinplatform-tier")


def check_headers(headers: SecretValue) -> Mapping[str, str]:
    """Headers that a caller gives, in a mapping whose repr is empty: a value may be a secret.

    `TypeError` or `ValueError`, which never show a value, for what cannot be sent.
    """
    checked = SecretDict()
    if headers.value is None:
        return checked
    if not issubclass(type(headers.value), Mapping):  # `isinstance` would make its items unknown
        raise TypeError(f"headers must be a mapping, not {type(headers.value).__name__}")
    given = SecretDict(headers.value)
    names = set[str]()
    for name in tuple(given):
        _check_header(name, given)
        if name.lower() in names:
            raise ValueError(f"headers has {name!r} twice, in another case")
        names.add(name.lower())
        checked[_OWN_NAMES.get(name.lower(), name)] = SecretStr(given[name])
    return checked


def _check_header(name: object, given: SecretDict) -> None:
    if not isinstance(name, str) or not isinstance(given[name], str):
        raise TypeError("headers must have names and values of str")
    if not _NAME.fullmatch(name):
        shown = one_line(name, longest=80)
        raise ValueError(f"headers must have names of ASCII letters, digits and '-', not {shown!r}")
    if name.lower() == "authorization":
        raise ValueError(
            "headers must not have Authorization: the session sends its own token, and another one "
            "needs a session with another token_provider"
        )
    if name.lower() in _OF_THE_CONNECTION:
        raise ValueError(f"headers must not have {name}, which the connection sets")
    if not _VALUE.fullmatch(given[name]):
        raise ValueError(f"the value of header {name} must be ASCII without line breaks")


def merge_headers(defaults: Mapping[str, str], own: Mapping[str, str]) -> Mapping[str, str]:
    """Both, where ``own`` wins; names are the same in any case."""
    if not defaults:
        return own
    names = {name.lower() for name in own}
    others = {name: defaults[name] for name in defaults if name.lower() not in names}
    return SecretDict({**others, **own})


class ResponseHeaders(Mapping[str, str]):
    """The headers of a response that say something of it, by name in any case; never cookies."""

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._values: dict[str, tuple[str, str]] = {}
        for name, value in headers.items():
            key = name.lower()
            if key in _SHOWN or _RATE_LIMIT.fullmatch(key):
                self._values.setdefault(key, (_SHOWN.get(key, name), value))

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # A link may be signed: its query is left out.
        shown = {name: one_line(value.partition("?")[0]) for name, value in self.items()}
        return f"ResponseHeaders({shown})"
