"""A list is cut by `$skip` and `$top`, and its links name the page before and the page after."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import quote

from itwin_async.emulator._answers import detail, refuse
from itwin_async.emulator._call import Call
from itwin_async.emulator._seed import JSON

_PAGING: Final = frozenset({"$skip", "$top", "$continuationToken"})
_DEFAULT_TOP: Final = 100

Refuse = Callable[[str, str], NoReturn]


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is wanted; ``by_token`` when the client pages by token."""

    skip: int
    top: int
    items: int
    token: str | None = None

    @property
    def slice(self) -> slice:
        """The part to show."""
        return slice(self.skip, self.skip + self.items)


def _number(call: Call, name: str, least: int, most: int | None, refuse: Refuse) -> int | None:
    text = call.get(name)
    if text is None:
        return None
    kind = "a positive" if least else "a non-negative"
    wrong = f"'{text}' is not a valid '{name}' value. '{name}' must be {kind} integer"
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < least:
        refuse(name, f"{wrong}.")
    if most is not None and int(text) > most:
        refuse(name, f"{wrong} of at most {most}.")
    return int(text)


def window(call: Call, refuse: Refuse, *, most: int | None = None, tokens: bool = False) -> Window:
    """The part of a list that the query asks for; ``refuse(target, message)`` must raise."""
    skip = _number(call, "$skip", 0, None, refuse)
    top = _number(call, "$top", 1, most, refuse) or _DEFAULT_TOP
    top = min(top, call.max_top or top)
    items = min(top, call.max_items or top)
    pairs = dict(call.query)
    token = pairs.get("$continuationToken") if tokens else None
    if token is None:
        return Window(skip or 0, top, items)
    if skip is not None:
        refuse("$skip", "'$skip' and '$continuationToken' exclude each other.")
    try:
        text = base64.urlsafe_b64decode(token).decode() if token else "0"
    except (ValueError, binascii.Error):
        text = ""
    if not text.isdecimal() or len(text) > 18:
        refuse("$continuationToken", f"'{token}' is not a valid '$continuationToken' value.")
    return Window(int(text), top, items, token)


def links(call: Call, part: Window, total: int, *, style: str = "") -> JSON:
    """`self`, `prev` and `next` of a page; ``style`` is that of the iModels or of Extensions.

    The iModels write `$skip` first and `null` where there is no such page; Extensions write `$top`
    first and leave the link out.
    """
    kept = [(name, value) for name, value in call.query if name not in _PAGING]
    filters = "".join(f"{quote(name, safe='$')}={quote(value)}&" for name, value in kept)

    def link(skip: int) -> JSON:
        paging = [f"$skip={skip}", f"$top={part.top}"]
        if style == "extensions":
            paging.reverse()
        return {"href": f"{call.url}?{filters}{'&'.join(paging)}"}

    def token_link(token: str) -> JSON:
        return {"href": f"{call.url}?{filters}$continuationToken={token}&$top={part.top}"}

    after = part.skip + part.items
    found: dict[str, JSON | None]
    if part.token is not None:
        # No page says what `prev` is here; null is what the other lists of the iModels allow.
        following = base64.urlsafe_b64encode(str(after).encode()).decode()
        found = {
            "self": token_link(quote(part.token)),
            "prev": None,
            "next": token_link(quote(following)) if after < total else None,
        }
    else:
        found = {
            "self": link(part.skip),
            "prev": link(max(0, part.skip - part.items)) if part.skip else None,
            "next": link(after) if after < total else None,
        }
    if style == "imodels":
        return found
    return {name: href for name, href in found.items() if href is not None}


def refusal(code: str, message: str, detail_code: str = "InvalidValue") -> Refuse:
    """What refuses a query parameter of one operation with 422."""

    def raise_it(target: str, text: str) -> NoReturn:
        refuse(422, code, message, None, detail(detail_code, target, text))

    return raise_it
