"""The emulator's responses against the client's structs, so that neither is wrong alone."""

from datetime import datetime, timedelta
from types import NoneType
from typing import Any

import msgspec
import pytest
from declared import GROUPS, OPERATIONS

from itwin_async import ITwinSession
from itwin_async.emulator import ROUTES, Edit
from itwin_async.emulator._state import seed
from itwin_async.users import GET_ME

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
ACCOUNT = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
ODATA = {"unique_name": "SAP_WORK_ORDERS", "entity_set": "SAP_Work_Orders_Read"}
EXAMPLES = {
    "imodel_id": IMODEL,
    "itwin_id": ITWIN,
    "changeset": "2",
    "changeset_id": "78c09f3337370b26acabead1790d77b2a6ebc6ee",
    "briefcase_id": "2",
    "unique_name": "SQL_CUSTOMERS_TABLE",
    "number": "1.0.0",
    "user_id": seed.guid("user", 0),
}
SYSTEM = {
    "name": "n", "systemId": "s", "systemType": "EDF.Sql", "credentials": {"User": "a"},
}  # fmt: skip
TIMER = {
    "name": "n",
    "packageUniqueName": "SQL_CUSTOMERS_TABLE",
    "cronStr": "0 6 * * 1",
    "parameters": [{"name": "a", "value": "b"}],
}
BODIES = {
    "create_extension": {"name": "n", "iTwinId": ACCOUNT, "description": "d"},
    "execute_package": {"variables": [{"name": "CustomerID", "value": "ACME"}]},
    "create_webhook": {
        "callbackUrl": "https://example.com/webhook",
        "scope": "Account",
        "eventTypes": ["iModels.changesReady.v1"],
    },
    "update_webhook": {"active": True},
    "create_imodel": {"iTwinId": ITWIN, "name": "n", "description": "d"},
    "update_imodel": {"description": "d"},
    "create_named_version": {"name": "n", "description": "d"},
    "update_named_version": {"description": "d"},
    "create_changeset_group": {"description": "d"},
    "update_changeset_group": {"state": "completed"},
    "acquire_briefcase": {"deviceName": "d"},
    "update_locks": {
        "briefcaseId": 2,
        "lockedObjects": [{"lockLevel": "shared", "objectIds": ["0x1"]}],
    },
    "release_locks": {"briefcaseId": 2},
    "create_changeset": {"id": "ab" * 20, "briefcaseId": 2, "fileSize": 3},
    "clone_imodel": {"iTwinId": ITWIN, "name": "n"},
    "fork_imodel": {"iTwinId": ITWIN, "name": "n"},
    "create_system": SYSTEM,
    "create_timer": TIMER,
    "add_role_assignments": {
        "assignments": [{"iTwinRoleId": ACCOUNT, "packageRoleIds": [seed.guid(0, "role")]}]
    },
}
QUERIES = {name: {"iTwinId": ITWIN} for name in ("list_imodels", "list_favorites", "list_recents")}


def test_every_operation_has_the_route_of_its_name():
    for name, operation in OPERATIONS.items():
        assert ROUTES[name] == (operation.method, operation.path)


def test_every_operation_has_a_method_of_its_name():
    methods = {name for group in GROUPS.values() for name in dir(group) if not name.startswith("_")}
    assert set(OPERATIONS) <= methods


async def first_id(itwin, path: str, key: str) -> str:
    """The id of the first of a list of the iModel."""
    found = await itwin.request("GET", f"/imodels/{IMODEL}/{path}", version="v2")
    return found[key][0]["id"]


async def fetch(itwin, name: str) -> Any:
    operation, body = OPERATIONS[name], BODIES.get(name)
    path = operation.path
    if "{named_version_id}" in path:
        id = await first_id(itwin, "namedversions", "namedVersions")
        path = path.replace("{named_version_id}", id)
    if "{group_id}" in path:
        path = path.replace(
            "{group_id}", await first_id(itwin, "changesetgroups", "changesetGroups")
        )
    if name == "create_changeset":
        last = await itwin.imodels.list_changesets(IMODEL, order="desc").first()
        body = {**body, "parentId": last.id}
    if "{extension_id}" in path:
        found = await itwin.request("GET", "/extensions/", query={"$top": 1})
        path = path.replace("{extension_id}", found["extensions"][0]["id"])
    if "{number}" in path:
        found = await itwin.request("GET", path.rpartition("/")[0])
        path = path.replace("{number}", found["versions"][0]["number"])
    if name in {"list_timers", "toggle_timer"}:
        timers = f"/edfs/itwins/{ITWIN}/timers"
        found = await itwin.request("POST", timers, body=TIMER)
        path = path.replace("{timer_id}", found["id"])
    if name == "list_systems":
        await itwin.request("POST", f"/edfs/itwins/{ITWIN}/systems", body=SYSTEM)
    if name == "list_role_assignments":
        await fetch(itwin, "add_role_assignments")
    if "{webhook_id}" in path:
        webhooks, created = "/webhooks/", BODIES["create_webhook"]
        found = await itwin.request("POST", webhooks, body=created, version="v2")
        path = path.replace("{webhook_id}", found["id"])
    path = path.format_map({**EXAMPLES, **(ODATA if "/odata" in path else {})})
    query = QUERIES.get(name)
    version = operation.version
    return await itwin.request(
        operation.method, path, query=query, body=body, version=version, returns=bytes
    )


def lost(sent: Any, decoded: Any, where: str = "") -> list[str]:
    """The fields of a response that the struct does not have, or has with another value."""
    if isinstance(sent, dict):
        if not isinstance(decoded, dict):
            return [where]
        return [
            one
            for name, value in sent.items()
            for one in (
                lost(value, decoded[name], f"{where}.{name}")
                if name in decoded
                else [f"{where}.{name}"]
            )
        ]
    if isinstance(sent, list):
        if not isinstance(decoded, list) or len(sent) != len(decoded):
            return [where]
        pairs = zip(sent, decoded, strict=True)
        return [one for pair in pairs for one in lost(*pair, where)]
    if sent == decoded:
        return []
    try:  # datetimes know microseconds; the platform goes beyond
        apart = abs(datetime.fromisoformat(sent) - datetime.fromisoformat(decoded))
        same = apart <= timedelta(microseconds=1)
    except (TypeError, ValueError):
        same = False
    return [] if same else [f"{where}: {sent!r} became {decoded!r}"]


# Extended data becomes another type; `test_operations` holds its fields against the samples.
DECLARED = [
    name
    for name, operation in OPERATIONS.items()
    if not name.endswith("extended_data") and operation.returns not in {NoneType, bytes}
]
# What is in them is their package's business, and all of it is decoded.
FREE = {"execute_package", "list_entities"}


@pytest.mark.parametrize("name", DECLARED)
async def test_no_field_of_a_response_is_lost(itwin, name):
    text = await fetch(itwin, name)
    sent = msgspec.json.decode(text)
    decoded = msgspec.json.decode(msgspec.json.encode(OPERATIONS[name].decode(text)))
    assert lost(sent, decoded) == []


async def test_no_field_of_the_caller_is_lost(itwin: ITwinSession) -> None:
    data = await itwin.request(GET_ME.method, GET_ME.path, returns=bytes)
    sent = msgspec.json.decode(data)
    assert len(sent["user"]) == 12
    assert lost(sent, msgspec.json.decode(msgspec.json.encode(GET_ME.decode(data)))) == []


@pytest.mark.parametrize("name", ["list_imodels", "list_changesets", "list_itwins"])
async def test_no_field_of_a_representation_is_lost(emulator, itwin, name):
    calls = {
        "list_imodels": itwin.imodels.list_imodels(ITWIN, representation=True),
        "list_changesets": itwin.imodels.list_changesets(IMODEL, representation=True),
        "list_itwins": itwin.itwins.list_itwins(representation=True),
    }
    seen = []
    emulator.faults.add(name, Edit(seen.append))
    items = [item async for item in calls[name]]
    key = {"list_imodels": "iModels", "list_changesets": "changesets", "list_itwins": "iTwins"}
    sent = seen[0][key[name]]
    decoded = msgspec.json.decode(msgspec.json.encode(items))
    assert lost(sent, decoded) == []


@pytest.mark.parametrize("name", [name for name in DECLARED if name not in FREE])
async def test_a_response_with_more_fields_than_documented_is_read(emulator, itwin, name):
    text = await fetch(itwin, name)

    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {"brandNew": [{"deep": None}], **{k: grown(v) for k, v in value.items()}}
        return [grown(item) for item in value] if isinstance(value, list) else value

    plain = OPERATIONS[name].decode(text)
    more = OPERATIONS[name].decode(msgspec.json.encode(grown(msgspec.json.decode(text))))
    ours = [msgspec.to_builtins(one) for one in (plain, more)]
    for one in ours:
        if isinstance(one, dict):
            one.pop("_links", None)
    assert ours[0] == ours[1]


async def test_extended_data_with_more_fields_than_documented_is_read(emulator, itwin):
    plain = [entry async for entry in itwin.imodels.list_extended_data(IMODEL)]

    def grow(page: Any) -> None:
        page["new"] = {"a": 1}
        for entry in page["extendedData"]:
            entry["author"] = {"id": None}

    emulator.faults.add("list_extended_data", Edit(grow), times=None)
    assert [entry async for entry in itwin.imodels.list_extended_data(IMODEL)] == plain
