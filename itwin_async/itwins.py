"""The iTwins API: finding iTwins and the account they belong to."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from itwin_async._exchange import Exchange
from itwin_async._operation import (
    MINIMAL,
    REPRESENTATION,
    Operation,
    check_count,
    check_flag,
    check_text,
)
from itwin_async._pages import LinkedPage, Listing
from itwin_async._paging import Pager
from itwin_async._records import Record, make_aware

_LARGEST_PAGE: Final = 1_000
# The platform ends a list silently at 1,000 iTwins unless told otherwise, and always here.
_MOST: Final = 10_000


class ITwin(Record, frozen=True, kw_only=True):
    """An iTwin. From ``status`` on, fields come by representation only.

    ``class_`` is Account, Thing or Endeavor, so far.
    """

    id: str
    class_: str | None = None
    sub_class: str | None = None
    type: str | None = None
    number: str | None = None
    display_name: str | None = None
    status: str | None = None
    parent_id: str | None = None
    itwin_account_id: str | None = None
    geographic_location: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    iana_time_zone: str | None = None
    data_center_location: str | None = None
    image_name: str | None = None
    image: str | None = None
    created_date_time: datetime | None = None
    created_by: str | None = None
    last_modified_date_time: datetime | None = None
    last_modified_by: str | None = None

    _shown: ClassVar = ("display_name", "id", "sub_class", "number")

    def __post_init__(self) -> None:
        make_aware(self, "created_date_time", "last_modified_date_time")


class ITwinPage(LinkedPage[ITwin]):
    """A page of iTwins."""

    itwins: list[ITwin] = msgspec.field(name="iTwins")

    def entries(self) -> list[ITwin]:
        """The iTwins."""
        return self.itwins


class ITwinBody(msgspec.Struct):
    """The answer with one iTwin."""

    itwin: ITwin = msgspec.field(name="iTwin")


LIST_ITWINS: Final = Operation("GET", "/itwins/", ITwinPage)
GET_PRIMARY_ACCOUNT: Final = Operation("GET", "/itwins/myprimaryaccount", ITwinBody)
GET_ACCOUNT: Final = Operation("GET", "/itwins/{itwin_id}/account", ITwinBody)


class ITwins:
    """Operations on iTwins: ``itwin.itwins``."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def list_itwins(
        self,
        *,
        sub_class: str | None = None,
        search: str | None = None,
        status: str | None = None,
        include_inactive: bool = False,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[ITwin]:
        """iTwins the caller is a member of.

        ``sub_class`` is one or several of Account, Asset, Project, Portfolio, Program and
        WorkPackage, joined by commas; it makes the list faster. ``search`` looks in texts,
        ``status`` is Active, Inactive or Trial (not with ``include_inactive``). ``representation``
        asks for all fields. ``page_size`` is 100 by default and at most 1,000.
        Platform page: https://developer.bentley.com/apis/itwins/operations/get-my-itwins/
        """
        for argument, value in (("sub_class", sub_class), ("search", search), ("status", status)):
            check_text(argument, value)
        check_count("page_size", page_size, most=_LARGEST_PAGE, optional=True)
        check_flag("include_inactive", include_inactive)
        check_flag("representation", representation)
        if status is not None and include_inactive:
            raise ValueError("status and include_inactive exclude each other: give one of them")
        request = LIST_ITWINS.at(
            query={
                "subClass": sub_class,
                "$search": search,
                "status": status,
                "includeInactive": include_inactive or None,
                "$top": page_size,
            },
            headers={
                "Prefer": REPRESENTATION if representation else MINIMAL,
                "X-Max-Return": str(_MOST),
            },
        )
        return Pager(self._exchange, Listing(request, list))

    async def get_primary_account(self) -> ITwin:
        """The caller's own account, the iTwin that extensions belong to.

        Platform page: https://developer.bentley.com/apis/itwins/operations/get-my-primary-account/
        """
        answer = await self._exchange.call(GET_PRIMARY_ACCOUNT.at())
        return answer.itwin

    async def get_account(self, itwin_id: str) -> ITwin:
        """The account of an iTwin. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/itwins/operations/get-itwin-account/
        """
        answer = await self._exchange.call(GET_ACCOUNT.at(itwin_id=itwin_id))
        return answer.itwin
