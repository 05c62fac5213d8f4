"""Redaction: text from outside without tokens, secrets and queries of URLs."""

import re
from typing import Final

_SECRETS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 …"),
    (re.compile(r"\beyJ[\w-]+\.[\w.-]+"), "…"),
    (
        re.compile(
            r"(?i)\b(access_token|refresh_token|client_secret|sig)([\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"
        ),
        r"\1\2…",
    ),
)


_USERINFO: Final = re.compile(r"(://)[^\s/?#@:]*:[^\s/?#]*@")


_URL: Final = re.compile(r"(?i)\s*https?:")


# Greedy without a query as well, so that no text is looked at twice. A quote ends a query only
# where it closes something: a URL may hold one.
_SIGNED: Final = re.compile(
    r"""(?i)(https?:\\?/\\?/[^\s?]*)(\?(?:\\.|[^\s"'\\]|["'](?![\s,;:)\]}]|$))*)?"""
)


def one_line(text: str, *, longest: int = 300, secrets: tuple[str, ...] = ()) -> str:
    """One short printable line of a text from outside, without tokens, secrets and URL queries."""
    for secret in secrets:
        if len(secret) >= 6:  # shorter ones are no secrets, and stand in any word
            text = text.replace(secret, "…")
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    text = unsigned(text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def unsigned(text: str) -> str:
    """Text without the queries and passwords of its URLs: a query may be a signature."""
    text = _USERINFO.sub(r"\1…@", text)
    return _SIGNED.sub(lambda found: f"{found[1]}?…" if found[2] else found[1], text)


def unsigned_value(text: str) -> str:
    """The same for a value: what begins as a URL is one, and may hold anything."""
    if _URL.match(text):
        address, mark, _ = _USERINFO.sub(r"\1…@", text).partition("?")
        return f"{address}?…" if mark else address
    return unsigned(text)
