"""What a list is, as values: its first request, its pages' style, a place in it. No I/O."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import unquote

import msgspec

from itwin_async._core.operation import Request
from itwin_async._core.urls import Origin, follow, next_href, skip_of, with_skip
from itwin_async.errors import LinkError

T = TypeVar("T")
E = TypeVar("E")
T_co = TypeVar("T_co", covariant=True)


class PageProtocol(Protocol[T_co]):
    """What a page struct knows: its entries, and what comes after it."""

    def entries(self) -> Sequence[T_co]:
        """The page's entries as they were decoded."""
        ...

    def following(self, base: Origin, target: str) -> str | None:
        """Path and query of the page after the one at ``target``, or None; `LinkError` if bad."""
        ...


class LinkedPage(msgspec.Struct, Generic[T], kw_only=True):
    """A page that names the next one in ``_links``."""

    links: Any = msgspec.field(name="_links", default=None)

    def following(self, base: Origin, target: str) -> str | None:
        """Where ``_links.next`` leads, byte for byte."""
        href = next_href(self.links)
        return None if href is None else follow(base, target, href)


class SinglePage(msgspec.Struct, Generic[T]):
    """A whole list in one answer."""

    def following(self, base: Origin, target: str) -> str | None:  # noqa: ARG002 - a page's style
        """Nothing follows."""
        return None


_OFFERED: Final = frozenset({"$select", "$filter", "$orderby", "$top", "$skip"})


class ODataPage(msgspec.Struct, kw_only=True):
    """A page of OData rows, each still JSON.

    No page documents a next link: it is followed if it appears, else `$skip` counts the rows, until
    an empty page.
    """

    value: list[msgspec.Raw]
    context: Any = msgspec.field(name="@odata.context", default=None)  # shown, and never followed
    next_link: Any = msgspec.field(name="@odata.nextLink", default=None)

    def entries(self) -> list[msgspec.Raw]:
        """The rows."""
        return self.value

    def following(self, base: Origin, target: str) -> str | None:
        """Where the next link leads, else the same list behind this page's rows."""
        href = self.next_link
        if href is not None:
            if not isinstance(href, str) or not href:
                raise LinkError("the next link of a page is not a URL")
            return follow(base, target, href)
        query = target.partition("?")[2]
        names = {unquote(pair.partition("=")[0]) for pair in query.split("&") if pair}
        if not self.value or names - _OFFERED:
            return None  # a chain of links of the server's own ends without one
        before = skip_of(target)
        if before is not None:
            return with_skip(target, before + len(self.value))
        return f"{target}{'&' if query else '?'}$skip={len(self.value)}"

    def mark(self) -> int | None:
        """What tells this page from another; None where a link, or nothing, follows."""
        if self.next_link is not None or not self.value:
            return None
        return hash(tuple(map(bytes, self.value)))


@dataclass(frozen=True, slots=True)
class Streaming(Generic[E]):
    """How a page is taken apart while it arrives.

    ``opening`` finds its list; ``whole`` and ``run`` decode a page and a list of entries and raise
    msgspec's errors; ``key`` is what tells an entry from another when a page is read again.
    """

    opening: "re.Pattern[bytes]"
    whole: Callable[[bytes | bytearray], PageProtocol[E]]
    run: Callable[[memoryview], list[E]]
    key: Callable[[E], object]


@dataclass(frozen=True, slots=True)
class ListSpec(Generic[E, T]):
    """A list as its operation declares it: the first request, and how entries become items."""

    request: Request[PageProtocol[E]]
    build: Callable[[Sequence[E]], list[T]]
    streaming: Streaming[E] | None = None

    @property
    def digest(self) -> str:
        """What tells this list's cursors from another's: path and filters, not the page size."""
        path, _, query = self.request.target.partition("?")
        filters = sorted(pair for pair in query.split("&") if pair and not pair.startswith("$top="))
        text = "\0".join([path.rstrip("/").lower(), *filters])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def request_for(self, target: str) -> Request[PageProtocol[E]]:
        """The request for another page of the list, with the same headers."""
        return Request(self.request.operation, target, self.request.headers)
