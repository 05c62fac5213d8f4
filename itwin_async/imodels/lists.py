"""What the lists of the iModels API have in common."""

from collections.abc import Mapping, Sequence
from typing import Final, cast

from itwin_async._core.operation import MINIMAL, REPRESENTATION
from itwin_async._core.validation import check_count, check_flag, check_text

_MAX_PAGE_SIZE: Final = 1_000


def check_page_size(page_size: object) -> None:
    """`TypeError` or `ValueError` for a page size that the API does not have."""
    check_count("page_size", page_size, most=_MAX_PAGE_SIZE, optional=True)


def joined_order(order_by: str | Sequence[str] | None) -> str | None:
    """The value of ``$orderBy``, for one order or several."""
    orders: object = order_by
    if isinstance(orders, str) or not isinstance(orders, Sequence):
        check_text("order_by", orders)
        return order_by if isinstance(order_by, str) else None
    for order in cast("Sequence[object]", orders):
        check_text("order_by", order, optional=False)
    return ",".join(order_by or ()) or None


def prefer(representation: object) -> Mapping[str, str]:
    """The header that asks for all fields, or for the few of a list."""
    check_flag("representation", representation)
    return {"Prefer": REPRESENTATION if representation else MINIMAL}
