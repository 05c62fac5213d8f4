"""The kinds of pages: linked by `_links`, OData, and a whole list in one response."""

from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import unquote

import msgspec

from itwin_async._core.urls import Origin, follow, next_href, skip_of, with_skip
from itwin_async.errors import LinkError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class PageProtocol(Protocol[T_co]):
    """A decoded page: its entries, and the link to the next page."""

    def entries(self) -> Sequence[T_co]:
        """The page's entries as they were decoded."""
        ...

    def next_target(self, base: Origin, target: str) -> str | None:
        """Path and query of the page after the one at ``target``, or None; `LinkError` if bad."""
        ...


class _ListPage(msgspec.Struct, Generic[T]):
    """A page whose subclass declares its list, as the first field."""

    def entries(self) -> Sequence[T]:
        """The entries of the list."""
        found: list[T] = getattr(self, self.__struct_fields__[0])
        return found


class LinkedPage(_ListPage[T], Generic[T], kw_only=True):
    """A page that names the next one in ``_links``."""

    links: Any = msgspec.field(name="_links", default=None)

    def next_target(self, base: Origin, target: str) -> str | None:
        """Path and query of ``_links.next``, byte for byte; None where there is none."""
        href = next_href(self.links)
        return None if href is None else follow(base, target, href)


class SinglePage(_ListPage[T], Generic[T]):
    """A whole list in one response."""

    def next_target(self, base: Origin, target: str) -> str | None:  # noqa: ARG002 - as the protocol
        """None: no page follows."""
        return None


_OWN_PARAMETERS: Final = frozenset({"$select", "$filter", "$orderby", "$top", "$skip"})


class ODataPage(msgspec.Struct, kw_only=True):
    """A page of OData rows, which stay undecoded JSON.

    The platform documents no next link for these pages. One that appears is followed; else `$skip`
    counts the rows, until an empty page.
    """

    value: list[msgspec.Raw]
    context: Any = msgspec.field(name="@odata.context", default=None)  # never followed
    next_link: Any = msgspec.field(name="@odata.nextLink", default=None)

    def entries(self) -> list[msgspec.Raw]:
        """The rows."""
        return self.value

    def next_target(self, base: Origin, target: str) -> str | None:
        """Path and query of the next link, else of the same list behind this page's rows."""
        href = self.next_link
        if href is not None:
            if not isinstance(href, str) or not href:
                raise LinkError("the next link of a page is not a URL")
            return follow(base, target, href)
        query = target.partition("?")[2]
        names = {unquote(pair.partition("=")[0]) for pair in query.split("&") if pair}
        if not self.value or names - _OWN_PARAMETERS:
            return None  # the server's own links led here, and their chain ends without one
        skipped = skip_of(target)
        if skipped is not None:
            return with_skip(target, skipped + len(self.value))
        return f"{target}{'&' if query else '?'}$skip={len(self.value)}"

    def fingerprint(self) -> int | None:
        """A hash of the rows, to notice a page that repeats; None where `$skip` is not counted."""
        if self.next_link is not None or not self.value:
            return None
        return hash(tuple(map(bytes, self.value)))
