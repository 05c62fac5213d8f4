"""Pages of lists that the library does not declare: their type is made of the caller's."""

import functools
from typing import Any, Final, cast

import msgspec

from itwin_async._core.json import decoder
from itwin_async._core.urls import Origin, follow
from itwin_async._core.validation import check_text
from itwin_async._pagination.page_types import LinkedPage
from itwin_async.errors import LinkError

_LINKS: Final = ("_links", "@odata.nextLink")


class CustomPage(LinkedPage[Any]):
    """A page whose list has a key of its own, which a derived type declares as ``items_``."""

    odata_next: Any = msgspec.field(name="@odata.nextLink", default=None)

    def entries(self) -> Any:
        """The items."""
        return self.items_  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]

    def next_target(self, base: Origin, target: str) -> str | None:
        """Path and query of ``_links.next``, else of ``@odata.nextLink``; None without either."""
        href = self.odata_next
        if href is None or self.links is not None:
            return super().next_target(base, target)
        if not isinstance(href, str) or not href:
            raise LinkError("the next link of a page is not a URL")
        return follow(base, target, href)


def custom_page(items: str, returns: Any) -> type[CustomPage]:
    """The type of a page with a list of ``returns`` at the key ``items``.

    `TypeError` or `ValueError` for what cannot be one.
    """
    check_text("items", items, optional=False)
    if items in _LINKS:
        raise ValueError(f"items must be the key of the list, such as 'iTwins', not {items!r}")
    decoder(returns)
    return _page_type(items, returns)


@functools.lru_cache(maxsize=256)
def _page_type(items: str, returns: Any) -> type[CustomPage]:
    field: tuple[str, Any, Any] = ("items_", list[returns], msgspec.field(name=items))
    page = msgspec.defstruct(
        "CustomPage", [field], bases=(CustomPage,), module=__name__, kw_only=True
    )
    return cast("type[CustomPage]", page)
