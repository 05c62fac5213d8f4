"""The iTwins API, as far as discovery needs it."""

from typing import Final

from itwin_async.emulator._api.odata import (
    read_filter,
    read_order,
    read_parameter,
    read_select,
    sort,
)
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import InvalidRequest
from itwin_async.emulator._response import Response, is_guid, read_flag
from itwin_async.emulator._state.extensions import PRIMARY_ACCOUNT
from itwin_async.emulator._state.seed import JSON

_ITWIN: Final = Resource(
    key="iTwin",
    list_key="iTwins",
    noun="iTwin",
    missing="iTwinNotFound",
    invalid="InvalidiTwinsRequest",
    max_top=1000,
)
_MINIMAL: Final = ("id", "class", "subClass", "type", "number", "displayName")
_EXACT: Final = ("type", "number", "displayName", "parentId", "iTwinAccountId")
_SUB_CLASSES: Final = frozenset(
    {"Account", "Asset", "Project", "Portfolio", "Program", "WorkPackage"}
)
_STATUSES: Final = frozenset({"Active", "Inactive", "Trial"})
_SCOPES: Final = frozenset({"memberOfItwin", "all", "OrganizationAdmin"})
_SEARCHED: Final = ("number", "displayName")


def _choose(request: Request, invalid: InvalidRequest) -> list[JSON]:
    sub_classes = {part.strip() for part in (request.get("subClass") or "").split(",")} - {""}
    if sub_classes - _SUB_CLASSES:
        invalid("subClass", f"'{request.get('subClass')}' is not a valid 'subClass' value.")
    status, inactive = request.get("status"), read_flag(request.get("includeInactive"))
    if status is not None and status not in _STATUSES:
        invalid("status", f"'{status}' is not a valid 'status' value.")
    if inactive is None or (inactive and status):
        invalid("includeInactive", "'includeInactive' is no boolean, or combined with 'status'.")
    exact = {name: value for name in _EXACT if (value := request.get(name)) is not None}
    search = (request.get("$search") or "").lower()
    if search and exact.keys() & set(_SEARCHED):
        invalid("$search", "'$search' excludes 'number' and 'displayName'.")
    if request.get("$filter") and (exact or status or inactive):
        invalid("$filter", "'$filter' excludes all other filters but 'subClass'.")
    itwins = list(request.state.itwins.values())
    fields = list(itwins[0])
    test = read_parameter(request, invalid, "$filter", read_filter, fields)
    order = read_parameter(request, invalid, "$orderby", read_order, fields)
    found = [
        itwin
        for itwin in itwins
        if request.user.can_read
        and (not sub_classes or itwin["subClass"] in sub_classes)
        and (inactive or itwin["status"] == (status or "Active"))
        and all(_is_same(itwin[name], value) for name, value in exact.items())
        and any(search in itwin[name].lower() for name in _SEARCHED)
        and test(itwin)
    ]
    sort(found, order)
    return found


def _is_same(value: str | None, wanted: str) -> bool:
    if value is not None and is_guid(wanted):
        return value.lower() == wanted.lower()
    return value == wanted


def list_itwins(request: Request) -> Response:
    """The iTwins the caller may see, cut at `X-Max-Return` without a word."""
    invalid = _ITWIN.invalid_request("Cannot get iTwins.")
    text = request.headers.get("X-Max-Return", "1000").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 10_000):
        invalid("X-Max-Return", "'X-Max-Return' must be from 1 to 10000.")
    if request.headers.get("X-iTwin-Query-Scope", "all") not in _SCOPES:
        invalid("X-iTwin-Query-Scope", "'X-iTwin-Query-Scope' has an unknown value.")
    found = _choose(request, invalid)[: int(text)]
    fields = next(iter(request.state.itwins.values())) if request.prefers_full else _MINIMAL
    chosen = read_parameter(request, invalid, "$select", read_select, tuple(fields))

    def render(itwin: JSON) -> JSON:
        return {name: itwin[name] for name in chosen}

    return _ITWIN.page(request, found, render, invalid, headers={"X-Max-Return": text})


def _account(request: Request, id: str) -> Response:
    account = request.state.itwins[id]
    return _ITWIN.one({name: account[name] for name in _MINIMAL})


def get_primary_account(request: Request) -> Response:
    """The caller's own account."""
    return _account(request, PRIMARY_ACCOUNT)


def get_account(request: Request) -> Response:
    """The account an iTwin belongs to."""
    itwin = _ITWIN.find(request.state.itwins, request.params["itwin_id"])
    return _account(request, itwin["iTwinAccountId"])
