"""The iTwins API answers as far as discovery needs it."""

from typing import Final

from itwin_async.emulator._answers import (
    Answer,
    is_guid,
    read_flag,
    refuse,
)
from itwin_async.emulator._call import Call, prefers_full
from itwin_async.emulator._extension_data import PRIMARY_ACCOUNT
from itwin_async.emulator._odata import checked, read_filter, read_order, read_select, sort
from itwin_async.emulator._paging import links, refusal, window
from itwin_async.emulator._seed import JSON

_INVALID: Final = "InvalidiTwinsRequest"
_MINIMAL: Final = ("id", "class", "subClass", "type", "number", "displayName")
_EXACT: Final = ("type", "number", "displayName", "parentId", "iTwinAccountId")
_SUB_CLASSES: Final = frozenset(
    {"Account", "Asset", "Project", "Portfolio", "Program", "WorkPackage"}
)
_STATUSES: Final = frozenset({"Active", "Inactive", "Trial"})
_SCOPES: Final = frozenset({"memberOfItwin", "all", "OrganizationAdmin"})
_SEARCHED: Final = ("number", "displayName")


def _choose(call: Call) -> list[JSON]:
    wrong = refusal(_INVALID, "Cannot get iTwins.")
    sub_classes = {part.strip() for part in (call.get("subClass") or "").split(",")} - {""}
    if sub_classes - _SUB_CLASSES:
        wrong("subClass", f"'{call.get('subClass')}' is not a valid 'subClass' value.")
    status, inactive = call.get("status"), read_flag(call.get("includeInactive"))
    if status is not None and status not in _STATUSES:
        wrong("status", f"'{status}' is not a valid 'status' value.")
    if inactive is None or (inactive and status):
        wrong("includeInactive", "'includeInactive' is no boolean, or combined with 'status'.")
    exact = {name: value for name in _EXACT if (value := call.get(name)) is not None}
    search = (call.get("$search") or "").lower()
    if search and exact.keys() & set(_SEARCHED):
        wrong("$search", "'$search' excludes 'number' and 'displayName'.")
    if call.get("$filter") and (exact or status or inactive):
        wrong("$filter", "'$filter' excludes all other filters but 'subClass'.")
    every = list(call.world.itwins.values())
    fields = list(every[0])
    test = checked(call, wrong, "$filter", read_filter, fields)
    order = checked(call, wrong, "$orderby", read_order, fields)
    shown = [
        item
        for item in every
        if (not sub_classes or item["subClass"] in sub_classes)
        and (inactive or item["status"] == (status or "Active"))
        and all(_same(item[name], value) for name, value in exact.items())
        and any(search in item[name].lower() for name in _SEARCHED)
        and test(item)
    ]
    sort(shown, order)
    return shown


def _same(value: str | None, wanted: str) -> bool:
    if value is not None and is_guid(wanted):
        return value.lower() == wanted.lower()
    return value == wanted


def list_itwins(call: Call) -> Answer:
    """The iTwins the caller may see, at most `X-Max-Return` of them, which ends silently."""
    wrong = refusal(_INVALID, "Cannot get iTwins.")
    text = call.headers.get("X-Max-Return", "1000").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 10_000):
        wrong("X-Max-Return", "'X-Max-Return' must be from 1 to 10000.")
    if call.headers.get("X-iTwin-Query-Scope", "all") not in _SCOPES:
        wrong("X-iTwin-Query-Scope", "'X-iTwin-Query-Scope' has an unknown value.")
    shown = _choose(call)[: int(text)]
    part = window(call, wrong, most=1000)
    fields = next(iter(call.world.itwins.values())) if prefers_full(call) else _MINIMAL
    chosen = checked(call, wrong, "$select", read_select, tuple(fields))
    items = [{name: item[name] for name in chosen} for item in shown[part.slice]]
    return Answer(
        data={"iTwins": items, "_links": links(call, part, len(shown))},
        headers={"X-Max-Return": text},
    )


def _account(call: Call, id: str) -> Answer:
    account = call.world.itwins[id]
    return Answer(data={"iTwin": {name: account[name] for name in _MINIMAL}})


def get_primary_account(call: Call) -> Answer:
    """The caller's own account."""
    return _account(call, PRIMARY_ACCOUNT)


def get_account(call: Call) -> Answer:
    """The account an iTwin belongs to."""
    itwin = call.world.itwin(call.params["itwin_id"])
    if itwin is None:
        refuse(404, "iTwinNotFound", "Requested iTwin is not available.")
    return _account(call, itwin["iTwinAccountId"])
