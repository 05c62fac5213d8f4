"""What the lists of the iModels API have in common."""

from collections.abc import Mapping
from typing import Final

from itwin_async._core.operation import MINIMAL, REPRESENTATION
from itwin_async._core.validation import check_count, check_flag

_MAX_PAGE_SIZE: Final = 1_000


def check_page_size(page_size: object) -> None:
    """`TypeError` or `ValueError` for a page size that the API does not have."""
    check_count("page_size", page_size, most=_MAX_PAGE_SIZE, optional=True)


def prefer(representation: object) -> Mapping[str, str]:
    """The header that asks for all fields, or for the few of a list."""
    check_flag("representation", representation)
    return {"Prefer": REPRESENTATION if representation else MINIMAL}
