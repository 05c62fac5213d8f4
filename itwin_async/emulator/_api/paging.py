"""Paging: the part of a list that `$skip` and `$top` ask for, and the links of its page."""

import base64
import binascii
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import quote

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.validation import InvalidRequest
from itwin_async.emulator._state.seed import JSON

_PAGING: Final = frozenset({"$skip", "$top", "$continuationToken"})
_DEFAULT_TOP: Final = 100


class LinkStyle(Enum):
    """How an API spells the links of a page.

    The iModels write `$skip` first and `null` where there is no such page; Extensions write `$top`
    first and leave the link out; others write `$skip` first and leave the link out.
    """

    PLAIN = "plain"
    IMODELS = "imodels"
    EXTENSIONS = "extensions"


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is wanted; ``token`` is that of the query where it pages by token."""

    skip: int
    top: int
    items: int
    token: str | None = None

    @property
    def slice(self) -> slice:
        """The part to show."""
        return slice(self.skip, self.skip + self.items)


def _number(
    request: Request, name: str, least: int, most: int | None, invalid: InvalidRequest
) -> int | None:
    text = request.get(name)
    if text is None:
        return None
    kind = "a positive" if least else "a non-negative"
    problem = f"'{text}' is not a valid '{name}' value. '{name}' must be {kind} integer"
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < least:
        invalid(name, f"{problem}.")
    if most is not None and int(text) > most:
        invalid(name, f"{problem} of at most {most}.")
    return int(text)


def read_window(
    request: Request, invalid: InvalidRequest, *, most: int | None = None, tokens: bool = False
) -> Window:
    """The part of a list that the query asks for; ``invalid`` refuses what it cannot be."""
    skip = _number(request, "$skip", 0, None, invalid)
    top = _number(request, "$top", 1, most, invalid) or _DEFAULT_TOP
    top = min(top, request.max_top or top)
    items = min(top, request.max_items or top)
    pairs = dict(request.query)
    token = pairs.get("$continuationToken") if tokens else None
    if token is None:
        return Window(skip or 0, top, items)
    if skip is not None:
        invalid("$skip", "'$skip' and '$continuationToken' exclude each other.")
    try:
        text = base64.urlsafe_b64decode(token).decode() if token else "0"
    except (ValueError, binascii.Error):
        text = ""
    if not text.isdecimal() or len(text) > 18:
        invalid("$continuationToken", f"'{token}' is not a valid '$continuationToken' value.")
    return Window(int(text), top, items, token)


def page_links(request: Request, window: Window, total: int, style: LinkStyle) -> JSON:
    """`self`, `prev` and `next` of a page of a list with so many records."""
    kept = [(name, value) for name, value in request.query if name not in _PAGING]
    filters = "".join(f"{quote(name, safe='$')}={quote(value)}&" for name, value in kept)

    def link(skip: int) -> JSON:
        paging = [f"$skip={skip}", f"$top={window.top}"]
        if style is LinkStyle.EXTENSIONS:
            paging.reverse()
        return {"href": f"{request.url}?{filters}{'&'.join(paging)}"}

    def token_link(token: str) -> JSON:
        return {"href": f"{request.url}?{filters}$continuationToken={token}&$top={window.top}"}

    end = window.skip + window.items
    links: dict[str, JSON | None]
    if window.token is not None:
        # No page says what `prev` is here; null is what the other lists of the iModels allow.
        token = base64.urlsafe_b64encode(str(end).encode()).decode()
        links = {
            "self": token_link(quote(window.token)),
            "prev": None,
            "next": token_link(quote(token)) if end < total else None,
        }
    else:
        links = {
            "self": link(window.skip),
            "prev": link(max(0, window.skip - window.items)) if window.skip else None,
            "next": link(end) if end < total else None,
        }
    if style is LinkStyle.IMODELS:
        return links
    return {name: href for name, href in links.items() if href is not None}
