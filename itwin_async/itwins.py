"""The iTwins API: finding iTwins and the account they belong to."""

import logging
from datetime import datetime
from typing import ClassVar, Final, Literal, TypeAlias, get_args

import msgspec

from itwin_async._core.operation import MINIMAL, REPRESENTATION, Operation
from itwin_async._core.records import Record, assume_utc, wire_name
from itwin_async._core.urls import Origin, skip_of
from itwin_async._core.validation import (
    Id,
    check_choice,
    check_count,
    check_flag,
    check_id,
    check_text,
)
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager

_MAX_PAGE_SIZE: Final = 1_000
# The platform ends a list silently at 1,000 iTwins unless it is asked for more, and always here.
_MAX_ITWINS: Final = 10_000
_logger = logging.getLogger("itwin_async")
ITwinStatus: TypeAlias = Literal["Active", "Inactive", "Trial"]
QueryScope: TypeAlias = Literal["memberOfItwin", "all", "OrganizationAdmin"]
_SCOPES: Final[tuple[str, ...]] = get_args(QueryScope)


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

    _repr_fields: ClassVar = ("display_name", "id", "sub_class", "number")

    def __post_init__(self) -> None:
        assume_utc(self, "created_date_time", "last_modified_date_time")


class ITwinPage(LinkedPage[ITwin]):
    """A page of iTwins."""

    itwins: list[ITwin] = msgspec.field(name="iTwins")

    def next_target(self, base: Origin, target: str) -> str | None:
        """Path and query of ``_links.next``; logs a warning where the list is cut off."""
        next_target = super().next_target(base, target)
        if next_target is None and (skip_of(target) or 0) + len(self.itwins) >= _MAX_ITWINS:
            _logger.warning(
                "%s ends at %d iTwins, the most the platform lists: narrow the list by its filters",
                LIST_ITWINS, _MAX_ITWINS,
            )  # fmt: skip
        return next_target


class ITwinBody(msgspec.Struct):
    """The response with one iTwin."""

    itwin: ITwin = msgspec.field(name="iTwin")


LIST_ITWINS: Final = Operation("GET", "/itwins/", ITwinPage)
GET_PRIMARY_ACCOUNT: Final = Operation("GET", "/itwins/myprimaryaccount", ITwinBody)
GET_ACCOUNT: Final = Operation("GET", "/itwins/{itwin_id}/account", ITwinBody)


class ITwins(OperationGroup):
    """Operations on iTwins: ``itwin.itwins``."""

    def list_itwins(
        self,
        *,
        sub_class: str | None = None,
        search: str | None = None,
        status: ITwinStatus | None = None,
        type: str | None = None,
        number: str | None = None,
        display_name: str | None = None,
        parent_id: Id | None = None,
        itwin_account_id: Id | None = None,
        filter: str | None = None,
        orderby: str | None = None,
        select: str | None = None,
        include_inactive: bool = False,
        query_scope: QueryScope | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[ITwin]:
        """iTwins the caller is a member of, at most 10,000: a warning is logged for a longer list.

        ``sub_class`` is one or several of Account, Asset, Project, Portfolio, Program and
        WorkPackage, joined by commas; it makes the list faster. ``search`` looks in texts,
        ``status`` is Active, Inactive or Trial (not with ``include_inactive``). ``type``,
        ``number``, ``display_name``, ``parent_id`` and ``itwin_account_id`` are exact; the second
        and third exclude ``search``. ``filter``, ``orderby`` and ``select`` are OData, such as
        ``type eq 'Bridge'``, ``displayName desc`` and ``id,number``; ``filter`` excludes all before
        it but ``sub_class`` and ``search``, and ``select`` always brings ``id``. ``query_scope`` is
        memberOfItwin by default. ``representation`` asks for all fields. ``page_size`` is 100 by
        default and at most 1,000.
        Platform page: https://developer.bentley.com/apis/itwins/operations/get-my-itwins/
        """
        exact = {
            "type": type,
            "number": number,
            "display_name": display_name,
        }
        ids = {"parent_id": parent_id, "itwin_account_id": itwin_account_id}
        texts = {"sub_class": sub_class, "search": search, "status": status, **exact}
        texts |= {"filter": filter, "orderby": orderby, "select": select}
        for argument, value in texts.items():
            check_text(argument, value)
        for argument, id in ids.items():
            check_id(argument, id)
        check_count("page_size", page_size, most=_MAX_PAGE_SIZE, optional=True)
        check_flag("include_inactive", include_inactive)
        check_flag("representation", representation)
        check_choice("query_scope", query_scope, _SCOPES)
        inactive = include_inactive or None
        _check_exclusive("status", status, include_inactive=inactive)
        _check_exclusive("search", search, number=number, display_name=display_name)
        _check_exclusive("filter", filter, status=status, include_inactive=inactive, **exact, **ids)
        if select is not None and "id" not in (name.strip() for name in select.split(",")):
            select = f"id,{select}"
        headers = {
            "Prefer": REPRESENTATION if representation else MINIMAL,
            "X-Max-Return": str(_MAX_ITWINS),
        }
        if query_scope is not None:
            headers["X-iTwin-Query-Scope"] = query_scope
        request = LIST_ITWINS.request(
            query={
                "subClass": sub_class,
                "$search": search,
                "status": status,
                **{wire_name(name): value for name, value in {**exact, **ids}.items()},
                "$filter": filter,
                "$orderby": orderby,
                "$select": select,
                "includeInactive": inactive,
                "$top": page_size,
            },
            headers=headers,
        )
        return self._list(request)

    async def get_primary_account(self) -> ITwin:
        """The caller's own account, the iTwin that extensions belong to.

        Platform page: https://developer.bentley.com/apis/itwins/operations/get-my-primary-account/
        """
        body = await self._call(GET_PRIMARY_ACCOUNT.request())
        return body.itwin

    async def get_account(self, itwin_id: Id) -> ITwin:
        """The account of an iTwin. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/itwins/operations/get-itwin-account/
        """
        body = await self._call(GET_ACCOUNT.request(itwin_id=itwin_id))
        return body.itwin


def _check_exclusive(name: str, value: object, **others: object) -> None:
    """`ValueError` if the platform does not take these arguments together."""
    for other, other_value in others.items():
        if value is not None and other_value is not None:
            raise ValueError(f"{name} and {other} exclude each other: give one of them")
