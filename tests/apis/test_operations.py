"""Every operation against the emulated platform: what it gives, and each documented refusal."""

import base64
import json
import logging
import pickle
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest

from itwin_async import (
    ConflictError,
    DecodeError,
    ExtendedData,
    ForbiddenError,
    IntegrationPackage,
    InvalidRequestError,
    ITwin,
    ITwinError,
    ITwinSession,
    NotFoundError,
    RateLimitError,
    Retry,
    ServerError,
    TransportError,
    UnauthorizedError,
    itwins,
)
from itwin_async._core.urls import split
from itwin_async.emulator import Emulator, Reset, Status, Throttle

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"  # the documented examples
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
ACCOUNT = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
ENTITIES = "SAP_Work_Orders_Read"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def first(pager):
    async with aiter(pager) as items:
        return await anext(items)


async def every(pager):
    return [item async for item in pager]


# Extensions


async def test_list_extensions_gives_the_public_ones(itwin):
    found = await every(itwin.extensions.list_extensions(page_size=7))
    assert len({item.id for item in found}) == 30
    assert all(item.itwin_id for item in found)


async def test_list_extensions_gives_the_private_ones_of_an_account(itwin):
    public = {item.id for item in await every(itwin.extensions.list_extensions())}
    private = await every(itwin.extensions.list_extensions(itwin_id=ACCOUNT))
    assert private
    assert not public & {item.id for item in private}
    assert {item.itwin_id for item in private} == {ACCOUNT}


async def test_list_extensions_searches_names(itwin):
    found = await every(itwin.extensions.list_extensions(search="Clash"))
    assert found
    assert all("clash" in item.name for item in found)


async def test_list_extensions_can_be_restricted_to_studio_apps(itwin, emulator):
    studio = await every(itwin.extensions.list_extensions(is_itwin_studio_app=True))
    assert 0 < len(studio) < 30
    assert emulator.requests[-1].query["isITwinStudioApp"] == "true"


async def test_create_extension_gives_what_was_created(itwin):
    made = await itwin.extensions.create_extension("n", ACCOUNT, description="d")
    assert (made.name, made.description, made.itwin_id) == ("n", "d", ACCOUNT)
    found = await every(itwin.extensions.list_extensions(itwin_id=ACCOUNT))
    assert made.id in {item.id for item in found}


async def test_create_extension_sends_the_documented_body(itwin, emulator):
    await itwin.extensions.create_extension("n", ACCOUNT)
    sent = emulator.requests[-1]
    assert sent.path == "/extensions/"
    assert sent.body == b'{"name":"n","iTwinId":"%s"}' % ACCOUNT.encode()


async def test_delete_extension_removes_it_with_its_versions(itwin, emulator):
    extension = await first(itwin.extensions.list_extensions())
    assert await itwin.extensions.delete_extension(extension.id) is None
    assert extension.id not in {i.id for i in await every(itwin.extensions.list_extensions())}
    with pytest.raises(NotFoundError, match="ExtensionsNotFound"):
        await first(itwin.extensions.list_versions(extension.id))
    deleted = next(got for got in emulator.requests if got.operation == "delete_extension")
    assert (deleted.method, deleted.body) == ("DELETE", b"")


async def test_delete_extension_tells_when_it_may_have_been_this_very_call(emulator):
    retry = Retry(base=0)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        extension = await first(itwin.extensions.list_extensions())
        emulator.faults.add("delete_extension", Reset())
        with pytest.raises(NotFoundError, match="may have been carried out") as caught:
            await itwin.extensions.delete_extension(extension.id)
    assert caught.value.outcome_unknown


async def test_list_versions_leaves_out_deprecated_ones_unless_asked(itwin):
    extension = await first(itwin.extensions.list_extensions())
    some = await every(itwin.extensions.list_versions(extension.id))
    everything = await every(itwin.extensions.list_versions(extension.id, include_deprecated=True))
    assert not any(version.deprecated for version in some)
    assert len(some) <= len(everything)
    assert all(version.links.self_.href for version in everything)


async def test_get_version_gives_its_files(itwin):
    extension = await first(itwin.extensions.list_extensions())
    listed = await first(itwin.extensions.list_versions(extension.id))
    version = await itwin.extensions.get_version(extension.id, listed.number)
    assert version.number == listed.number
    assert version.extension.name == extension.name
    assert [file.relative_path for file in version.files if file.is_main] == ["dist/index.js"]
    assert all(len(file.checksum.sha256) == 64 for file in version.files)
    assert all(file.download_url_expires_at.tzinfo for file in version.files)
    assert version.archive_file.relative_path is None
    assert version.links.self_.href.endswith(f"/versions/{version.number}")


# iModels


async def test_list_imodels_gives_ids_and_names(itwin):
    found = await every(itwin.imodels.list_imodels(ITWIN, page_size=2))
    assert len(found) == 6
    assert found[0].display_name == "Sun City Renewable-energy Plant"
    assert found[0].itwin_id is None


async def test_list_imodels_gives_everything_by_representation(itwin):
    found = await every(itwin.imodels.list_imodels(ITWIN, representation=True, page_size=2))
    assert {item.itwin_id for item in found} == {ITWIN}
    assert found[0].extent.south_west.latitude < found[0].extent.north_east.latitude
    assert found[0].created_date_time.tzinfo


async def test_list_imodels_filters_and_orders(itwin):
    name = "Sun City Renewable-energy Plant"
    assert [i.id for i in await every(itwin.imodels.list_imodels(ITWIN, name=name))] == [IMODEL]
    assert [i.id for i in await every(itwin.imodels.list_imodels(ITWIN, search="sun c"))] == [
        IMODEL
    ]
    assert not await every(itwin.imodels.list_imodels(ITWIN, state="notInitialized"))
    names = [
        i.display_name for i in await every(itwin.imodels.list_imodels(ITWIN, order_by="name desc"))
    ]
    assert names == sorted(names, reverse=True)


async def test_get_imodel_gives_the_whole_of_it(itwin):
    imodel = await itwin.imodels.get_imodel(IMODEL)
    assert (imodel.id, imodel.itwin_id, imodel.state) == (IMODEL, ITWIN, "initialized")
    assert imodel.links.changesets.href.endswith("/changesets")


async def test_list_changesets_gives_them_in_order(itwin):
    found = await every(itwin.imodels.list_changesets(IMODEL, page_size=10))
    assert [item.index for item in found] == list(range(1, 26))
    assert [item.parent_id for item in found[1:]] == [item.id for item in found[:-1]]
    assert found[0].application is None


async def test_list_changesets_gives_a_part_of_them(itwin):
    part = itwin.imodels.list_changesets(IMODEL, after_index=5, last_index=9, order="desc")
    assert [item.index for item in await every(part)] == [9, 8, 7, 6]


async def test_list_changesets_after_none_is_all_of_them(itwin):
    assert len(await every(itwin.imodels.list_changesets(IMODEL, after_index=0))) == 25


async def test_list_changesets_gives_everything_by_representation(itwin):
    found = await first(itwin.imodels.list_changesets(IMODEL, representation=True))
    assert found.application.name
    assert found.synchronization_info.task_id


async def test_get_changeset_takes_an_id_or_an_index(itwin):
    by_index = await itwin.imodels.get_changeset(IMODEL, 2)
    assert by_index.id == "a1ecbdc8c4f6173004f9f881914a57c5511a362b"
    assert by_index == await itwin.imodels.get_changeset(IMODEL, by_index.id)
    assert by_index == await itwin.imodels.get_changeset(IMODEL, "2")


async def test_list_extended_data_gives_the_payloads(itwin):
    found = await every(itwin.imodels.list_extended_data(IMODEL, page_size=10))
    assert [entry.changeset_index for entry in found] == list(range(1, 26))
    assert found[0].data["data"]["changedFiles"] == ["A.dgn", "B.dgn"]
    assert {entry.imodel_id for entry in found} == {IMODEL}


async def test_get_extended_data_is_the_entry_of_the_list(itwin):
    listed = await first(itwin.imodels.list_extended_data(IMODEL))
    found = await itwin.imodels.get_extended_data(IMODEL, listed.changeset_id)
    assert isinstance(found, ExtendedData)
    assert found == listed
    assert found == await itwin.imodels.get_extended_data(IMODEL, 1)


class Files(msgspec.Struct, rename="camel"):
    changed_files: list[str]


@dataclass
class Plain:
    a: int


class Typed(TypedDict):
    a: int


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"a": [1, None, "é"]}, {"a": [1, None, "é"]}),
        (Files(["A.dgn"]), {"changedFiles": ["A.dgn"]}),
        (Plain(1), {"a": 1}),
        (Typed(a=1), {"a": 1}),
        (msgspec.Raw(b' {"a": 1} '), {"a": 1}),
        ({}, {}),
    ],
)
async def test_create_extended_data_stores_an_object(itwin, emulator, data, kept):
    index = emulator.push_changeset(IMODEL)
    made = await itwin.imodels.create_extended_data(IMODEL, index, data)
    assert isinstance(made, ExtendedData)
    assert (made.changeset_index, made.imodel_id, made.data) == (index, IMODEL, kept)
    assert await itwin.imodels.get_extended_data(IMODEL, index) == made
    (sent,) = (got for got in emulator.requests if got.operation == "create_extended_data")
    body = json.loads(sent.body)
    assert list(body) == ["data"]
    assert json.loads(base64.b64decode(body["data"], validate=True)) == kept
    assert sent.headers["Content-Type"] == "application/json"


async def test_create_extended_data_takes_a_changeset_id(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    changeset = await itwin.imodels.get_changeset(IMODEL, index)
    made = await itwin.imodels.create_extended_data(IMODEL, changeset.id, {"a": 1})
    assert (made.changeset_id, made.changeset_index) == (changeset.id, index)


async def test_create_extended_data_stores_it_once(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    await itwin.imodels.create_extended_data(IMODEL, index, {"a": 1})
    with pytest.raises(ConflictError) as caught:
        await itwin.imodels.create_extended_data(IMODEL, index, {"a": 2})
    assert not caught.value.outcome_unknown
    assert "may have been stored" not in str(caught.value)
    assert (await itwin.imodels.get_extended_data(IMODEL, index)).data == {"a": 1}


async def test_create_extended_data_takes_as_much_as_the_platform(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    around = len(b'{"a":""}')
    most = {"a": "x" * (204_800 - around)}
    made = await itwin.imodels.create_extended_data(IMODEL, index, most)
    assert len(made.payload) == 204_800
    sent = len(emulator.requests)
    with pytest.raises(ValueError, match=r"204,801 bytes as JSON, and may have 204,800"):
        await itwin.imodels.create_extended_data(IMODEL, index, {"a": most["a"] + "x"})
    assert len(emulator.requests) == sent


@pytest.mark.parametrize("fault", [Status(500), Status(408), Reset(), Status(201, body={})])
async def test_create_extended_data_in_doubt_says_that_it_may_have_been_stored(
    emulator, itwin, fault
):
    index = emulator.push_changeset(IMODEL)
    emulator.faults.add("create_extended_data", fault, times=None)
    with pytest.raises((ServerError, TransportError, DecodeError, ITwinError)) as caught:
        await itwin.imodels.create_extended_data(IMODEL, index, {"a": 1})
    assert caught.value.outcome_unknown
    assert "can be set only once, and may have been stored" in str(caught.value)
    assert emulator.count("create_extended_data") == 1
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


# Packages and iTwins


async def test_list_packages_gives_all_in_one_answer(itwin, emulator):
    found = await every(itwin.packages.list_packages())
    assert found[0].unique_name == "SQL_CUSTOMERS_TABLE"
    assert found[0].subscribed_on.utcoffset().total_seconds() == -4 * 3600
    assert emulator.count("list_packages") == 1


async def test_get_package_gives_its_examples(itwin):
    package = await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
    assert (package.project_stage, package.is_odata) == ("Preview", False)
    assert "CustomerID" in package.input_example
    assert package.last_change is not None


async def test_the_examples_of_a_package_are_decoded(itwin):
    package = await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
    assert package.input_example_decoded["returnAsXml"] is False
    assert package.input_example_decoded["variables"][2] == {"name": "CustomerID", "value": "ACME"}
    assert package.response_example_decoded["DATA"][0]["CustomerID"] == "ACME "


@pytest.mark.parametrize("example", [None, "", "not JSON", "{'a': 1}", '{"a": 1,}', "[" * 5_000])
def test_an_example_that_is_no_json_costs_nothing(example):
    package = IntegrationPackage(input_example=example, response_example=example)
    assert package.input_example_decoded is None
    assert package.response_example_decoded is None


class Customer(msgspec.Struct, rename={"customer_id": "customerID", "name": "companyName"}):
    customer_id: str
    name: str


class Customers(msgspec.Struct):
    data: list[Customer]


async def test_execute_package_gives_what_the_package_answers(itwin, emulator):
    found = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE")
    assert found["data"][0]["customerID"] == "ACME "  # neither names nor blanks are mended
    assert json.loads(emulator.requests[-1].body) == {"returnAsXml": False}


async def test_execute_package_sends_variables_as_a_list(itwin, emulator):
    variables = {"CustomerID": "NOBODY", "Empty": ""}
    found = await itwin.packages.execute_package(ITWIN, "SAP_WORK_ORDERS", variables=variables)
    assert found == {"data": []}
    assert json.loads(emulator.requests[-1].body)["variables"] == [
        {"name": "CustomerID", "value": "NOBODY"},
        {"name": "Empty", "value": ""},
    ]


async def test_execute_package_takes_the_example_of_the_package(itwin):
    package = await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
    example = {each["name"]: each["value"] for each in package.input_example_decoded["variables"]}
    found = await itwin.packages.execute_package(ITWIN, package.unique_name, variables=example)
    assert len(found["data"]) == 1


async def test_execute_package_decodes_to_a_type(itwin):
    found = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", returns=Customers)
    assert found == Customers([Customer("ACME ", "ACME Ltd.")])
    with pytest.raises(DecodeError):
        await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", returns=list[int])


async def test_execute_package_gives_bytes_where_wanted(itwin, emulator):
    as_json = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", returns=bytes)
    assert json.loads(as_json)["data"]
    as_xml = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", as_xml=True)
    assert as_xml.startswith(b"<root><data>")
    assert json.loads(emulator.requests[-1].body) == {"returnAsXml": True}


async def test_execute_package_is_never_sent_twice_in_doubt(emulator, itwin):
    emulator.faults.add("execute_package", Status(500), times=None)
    with pytest.raises(ServerError, match="may have been carried out"):
        await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE")
    assert emulator.count("execute_package") == 1


async def test_a_package_called_roles_can_be_executed_but_not_read(emulator, itwin):
    with pytest.raises(NotFoundError, match="PackageNotFound"):
        await itwin.packages.execute_package(ITWIN, "roles")
    with pytest.raises(ValueError, match="its URL is another operation"):
        await itwin.packages.get_package("roles")


async def test_list_entity_sets_gives_all_in_one_answer(itwin, emulator):
    found = await every(itwin.packages.list_entity_sets(ITWIN, "SAP_WORK_ORDERS"))
    assert [each.name for each in found] == [each.url for each in found]
    assert {each.kind for each in found} == {"EntitySet"}
    assert len(found) == 4
    assert emulator.count("list_entity_sets") == 1


async def test_list_itwins_gives_those_of_the_caller(itwin, emulator):
    found = await every(itwin.itwins.list_itwins(page_size=2))
    assert [item.class_ for item in found] == ["Endeavor", "Account", "Account"]
    assert found[0].status is None
    assert emulator.requests[-1].headers["X-Max-Return"] == "10000"


async def test_list_itwins_filters(itwin):
    accounts = await every(itwin.itwins.list_itwins(sub_class="Account"))
    assert {item.sub_class for item in accounts} == {"Account"}
    assert [i.id for i in await every(itwin.itwins.list_itwins(search="white"))] == [ITWIN]
    assert len(await every(itwin.itwins.list_itwins(include_inactive=True))) == 3
    assert not await every(itwin.itwins.list_itwins(status="Trial"))


async def test_list_itwins_gives_everything_by_representation(itwin):
    found = await first(itwin.itwins.list_itwins(representation=True))
    assert found.itwin_account_id == ACCOUNT
    assert found.created_date_time.year == 2016


@pytest.mark.parametrize(
    ("filters", "query", "found"),
    [
        ({"type": "Construction Project"}, {"type": "Construction Project"}, 1),
        ({"number": "00001-ds-3902795"}, {"number": "00001-ds-3902795"}, 1),
        ({"display_name": "White River"}, {"displayName": "White River"}, 1),
        ({"display_name": "White"}, {"displayName": "White"}, 0),
        ({"parent_id": ACCOUNT}, {"parentId": ACCOUNT}, 1),
        ({"itwin_account_id": ACCOUNT}, {"iTwinAccountId": ACCOUNT}, 2),
        ({"filter": "contains(number, 'ds')"}, {"$filter": "contains(number, 'ds')"}, 1),
        ({"filter": "number ne 'x'", "sub_class": "Account"}, {"subClass": "Account"}, 2),
        ({"orderby": "displayName desc"}, {"$orderby": "displayName desc"}, 3),
    ],
)
async def test_list_itwins_takes_each_documented_filter(itwin, emulator, filters, query, found):
    assert len(await every(itwin.itwins.list_itwins(**filters))) == found
    sent = emulator.requests[-1].query
    assert {name: sent[name] for name in query} == query


async def test_list_itwins_orders(itwin):
    names = [i.display_name for i in await every(itwin.itwins.list_itwins(orderby="displayName"))]
    assert names == sorted(names)


async def test_list_itwins_selects_fields_and_always_the_id(itwin, emulator):
    found = await first(itwin.itwins.list_itwins(select="displayName"))
    assert (found.id, found.display_name, found.number) == (ITWIN, "White River", None)
    assert emulator.requests[-1].query["$select"] == "id,displayName"
    await first(itwin.itwins.list_itwins(select="number, id"))
    assert emulator.requests[-1].query["$select"] == "number, id"


@pytest.mark.parametrize("scope", [None, "memberOfItwin", "all", "OrganizationAdmin"])
async def test_list_itwins_asks_in_a_scope(itwin, emulator, scope):
    await first(itwin.itwins.list_itwins(query_scope=scope))
    assert emulator.requests[-1].headers.get("X-iTwin-Query-Scope") == scope


async def test_list_itwins_asks_for_a_representation_on_every_page(itwin, emulator):
    for wanted, prefer in ((False, "return=minimal"), (True, "return=representation")):
        emulator.requests.clear()
        await every(itwin.itwins.list_itwins(representation=wanted, page_size=1))
        listed = [got for got in emulator.requests if got.operation == "list_itwins"]
        assert len(listed) == 3
        assert {got.headers["Prefer"] for got in listed} == {prefer}
        assert {got.headers["X-Max-Return"] for got in listed} == {"10000"}


@pytest.mark.parametrize(("count", "warned"), [(9_999, False), (10_000, True), (10_050, True)])
@pytest.mark.parametrize("ahead", [0, pytest.param(4, marks=pytest.mark.slow)])
async def test_a_list_of_itwins_that_is_cut_off_warns_in_the_log(caplog, count, warned, ahead):
    caplog.set_level(logging.WARNING, "itwin_async")
    async with (
        Emulator(itwins=count, imodels=0, extensions=3) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        found = await every(itwin.itwins.list_itwins(page_size=1_000).ahead(ahead))
    assert len(found) == min(count, 10_000)
    warnings = [each for each in caplog.records if "10000 iTwins" in each.getMessage()]
    assert len(warnings) == warned


def test_a_list_of_itwins_that_goes_on_warns_of_nothing(caplog):
    links = {"next": {"href": "/itwins/?$skip=10000"}}
    page = itwins.ITwinPage(itwins=[ITwin(id="1")] * 10, links=links)
    base = split("https://api.bentley.com/")[0]
    assert page.following(base, "/itwins/?$skip=9990") == "/itwins/?$skip=10000"
    assert not caplog.records


async def test_get_primary_account_is_the_callers_own(itwin):
    assert (await itwin.itwins.get_primary_account()).id == ACCOUNT


async def test_get_account_is_that_of_an_itwin(itwin):
    assert (await itwin.itwins.get_account(ITWIN)).id == ACCOUNT


# Refusals

REFUSED = {
    "ExtensionsNotFound of a list": (
        lambda i: first(i.extensions.list_extensions(itwin_id=UNKNOWN)),
        (404, "ExtensionsNotFound", "iTwinId"),
    ),
    "InvalidExtensionsRequest of a list": (
        lambda i: first(i.extensions.list_extensions(itwin_id="x")),
        (422, "InvalidExtensionsRequest", None),
    ),
    "iTwinNotFound of create": (
        lambda i: i.extensions.create_extension("n", UNKNOWN),
        (404, "iTwinNotFound", "iTwinId"),
    ),
    "ExtensionExists": (
        lambda i: create_twice(i),
        (409, "ExtensionExists", None),
    ),
    "InvalidExtensionsRequest of create": (
        lambda i: i.extensions.create_extension("n", ITWIN),
        (422, "InvalidExtensionsRequest", None),
    ),
    "ExtensionNotFound of delete": (
        lambda i: i.extensions.delete_extension(UNKNOWN),
        (404, "ExtensionNotFound", "extensionId"),
    ),
    "InvalidExtensionsRequest of delete": (
        lambda i: i.extensions.delete_extension("x"),
        (422, "InvalidExtensionsRequest", None),
    ),
    "ExtensionsNotFound of a wait": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1.0.0"),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "ExtensionsNotFound of a download": (
        lambda i: i.extensions.download_version(UNKNOWN, "1.0.0", "unused"),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "ExtensionsNotFound of versions": (
        lambda i: first(i.extensions.list_versions(UNKNOWN)),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "ExtensionsNotFound of a version": (
        lambda i: i.extensions.get_version(UNKNOWN, "1.0.0"),
        (404, "ExtensionsNotFound", "extensionId"),
    ),
    "InvalidExtensionsRequest of a version": (
        lambda i: i.extensions.get_version("x", "1.0.0"),
        (422, "InvalidExtensionsRequest", None),
    ),
    "VersionNotFound": (
        lambda i: missing_version(i),
        (404, "VersionNotFound", None),
    ),
    "iTwinNotFound of iModels": (
        lambda i: first(i.imodels.list_imodels(UNKNOWN)),
        (404, "iTwinNotFound", None),
    ),
    "InvalidiModelsRequest of iModels": (
        lambda i: first(i.imodels.list_imodels(ITWIN, state="odd")),
        (422, "InvalidiModelsRequest", None),
    ),
    "iModelNotFound": (
        lambda i: i.imodels.get_imodel(UNKNOWN),
        (404, "iModelNotFound", None),
    ),
    "iModelNotFound of changesets": (
        lambda i: first(i.imodels.list_changesets(UNKNOWN)),
        (404, "iModelNotFound", None),
    ),
    "ChangesetNotFound": (
        lambda i: i.imodels.get_changeset(IMODEL, 999),
        (404, "ChangesetNotFound", None),
    ),
    "iModelNotFound of extended data": (
        lambda i: first(i.imodels.list_extended_data(UNKNOWN)),
        (404, "iModelNotFound", None),
    ),
    "iModelNotFound of an entry": (
        lambda i: i.imodels.get_extended_data(UNKNOWN, 1),
        (404, "iModelNotFound", None),
    ),
    "ChangesetNotFound of an entry": (
        lambda i: i.imodels.get_extended_data(IMODEL, "f" * 40),
        (404, "ChangesetNotFound", None),
    ),
    "iModelNotFound of writing": (
        lambda i: i.imodels.create_extended_data(UNKNOWN, 1, {}),
        (404, "iModelNotFound", None),
    ),
    "ChangesetNotFound of writing": (
        lambda i: i.imodels.create_extended_data(IMODEL, 999, {}),
        (404, "ChangesetNotFound", None),
    ),
    "DataConflict": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, {}),
        (409, "DataConflict", None),
    ),
    "PackageNotFound of execute": (
        lambda i: i.packages.execute_package(ITWIN, "NONE"),
        (404, "PackageNotFound", None),
    ),
    "PackageNotFound of execute for an unknown iTwin": (
        lambda i: i.packages.execute_package(UNKNOWN, "SQL_CUSTOMERS_TABLE"),
        (404, "PackageNotFound", None),
    ),
    "InvalidPackageRequest of execute": (
        lambda i: i.packages.execute_package("x", "SQL_CUSTOMERS_TABLE"),
        (422, "InvalidPackageRequest", None),
    ),
    "SchemaNotFound": (
        lambda i: first(i.packages.list_entity_sets(ITWIN, "SQL_CUSTOMERS_TABLE")),
        (404, "SchemaNotFound", None),
    ),
    "SchemaNotFound for an unknown iTwin": (
        lambda i: first(i.packages.list_entity_sets(UNKNOWN, "SAP_WORK_ORDERS")),
        (404, "SchemaNotFound", None),
    ),
    "InvalidSchemaRequest": (
        lambda i: first(i.packages.list_entity_sets("x", "SAP_WORK_ORDERS")),
        (422, "InvalidSchemaRequest", None),
    ),
    "SchemaNotFound of rows": (
        lambda i: first(i.packages.list_entities(ITWIN, "SAP_WORK_ORDERS", "None")),
        (404, "SchemaNotFound", None),
    ),
    "InvalidSchemaRequest of rows": (
        lambda i: first(
            i.packages.list_entities(ITWIN, "SAP_WORK_ORDERS", ENTITIES, filter="what")
        ),
        (422, "InvalidSchemaRequest", None),
    ),
    "InvalidiTwinsRequest of a filter": (
        lambda i: first(i.itwins.list_itwins(filter="what")),
        (422, "InvalidiTwinsRequest", None),
    ),
    "PackageNotFound": (
        lambda i: i.packages.get_package("NONE"),
        (404, "PackageNotFound", None),
    ),
    "InvalidPackageRequest": (
        lambda i: i.packages.get_package("N" * 151),
        (422, "InvalidPackageRequest", None),
    ),
    "InvalidiTwinsRequest": (
        lambda i: first(i.itwins.list_itwins(sub_class="Odd")),
        (422, "InvalidiTwinsRequest", None),
    ),
    "iTwinNotFound of an account": (
        lambda i: i.itwins.get_account(UNKNOWN),
        (404, "iTwinNotFound", None),
    ),
}
CLASSES = {404: NotFoundError, 409: ConflictError, 422: InvalidRequestError}


def in_itself():
    data: dict[str, Any] = {}
    data["a"] = data
    return data


async def create_twice(itwin):
    await itwin.extensions.create_extension("same", ACCOUNT)
    await itwin.extensions.create_extension("same", ACCOUNT)


async def missing_version(itwin):
    extension = await first(itwin.extensions.list_extensions())
    await itwin.extensions.get_version(extension.id, "99.0.0")


@pytest.mark.parametrize(("use", "expected"), REFUSED.values(), ids=REFUSED)
async def test_a_documented_refusal_is_told_with_its_code(itwin, use, expected):
    status, code, _target = expected
    with pytest.raises(CLASSES[status], match=f"^{status} {code}: ") as caught:
        await use(itwin)
    error = caught.value
    assert (error.status, error.code, error.target) == expected
    assert error.request_id
    if status == 422:
        assert error.details[0].message


async def test_a_changeset_without_extended_data_is_told(itwin, emulator):
    index = emulator.push_changeset(IMODEL)
    with pytest.raises(NotFoundError, match="ChangesetExtendedDataNotFound"):
        await itwin.imodels.get_extended_data(IMODEL, index)


FORBIDDEN = {
    "create_extension": lambda i: i.extensions.create_extension("n", ACCOUNT),
    "create_extended_data": lambda i: i.imodels.create_extended_data(IMODEL, 1, {}),
    "execute_package": lambda i: i.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_an_operation_without_permission_is_forbidden(emulator, itwin, name):
    emulator.faults.add(name, Status(403, code="InsufficientPermissions"), times=None)
    with pytest.raises(ForbiddenError, match="403 InsufficientPermissions") as caught:
        await FORBIDDEN[name](itwin)
    assert not caught.value.outcome_unknown
    assert emulator.count(name) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [("InvalidValue", "'data' is not valid."), ("MissingRequiredProperty", "'data' is missing.")],
)
async def test_what_the_platform_says_of_written_data_is_told(emulator, itwin, code, message):
    detail = {"code": code, "message": message, "target": "data"}
    error = {"code": "InvalidiModelsRequest", "message": "Cannot create.", "details": [detail]}
    emulator.faults.add("create_extended_data", Status(422, body={"error": error}))
    with pytest.raises(InvalidRequestError, match="422 InvalidiModelsRequest") as caught:
        await itwin.imodels.create_extended_data(IMODEL, 1, {})
    (said,) = caught.value.details
    assert (said.code, said.target) == (code, "data")


CALLS = {
    "delete_extension": lambda i: i.extensions.delete_extension(UNKNOWN),
    "create_extended_data": lambda i: i.imodels.create_extended_data(IMODEL, 1, {}),
    "execute_package": lambda i: i.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE"),
    "list_entity_sets": lambda i: first(i.packages.list_entity_sets(ITWIN, "SAP_WORK_ORDERS")),
    "list_entities": lambda i: first(i.packages.list_entities(ITWIN, "SAP_WORK_ORDERS", ENTITIES)),
    "list_extensions": lambda i: first(i.extensions.list_extensions()),
    "create_extension": lambda i: i.extensions.create_extension("n", ACCOUNT),
    "list_versions": lambda i: first(i.extensions.list_versions(UNKNOWN)),
    "get_version": lambda i: i.extensions.get_version(UNKNOWN, "1.0.0"),
    "list_imodels": lambda i: first(i.imodels.list_imodels(ITWIN)),
    "get_imodel": lambda i: i.imodels.get_imodel(IMODEL),
    "list_changesets": lambda i: first(i.imodels.list_changesets(IMODEL)),
    "get_changeset": lambda i: i.imodels.get_changeset(IMODEL, 1),
    "list_extended_data": lambda i: first(i.imodels.list_extended_data(IMODEL)),
    "get_extended_data": lambda i: i.imodels.get_extended_data(IMODEL, 1),
    "list_packages": lambda i: first(i.packages.list_packages()),
    "get_package": lambda i: i.packages.get_package("SQL_CUSTOMERS_TABLE"),
    "list_itwins": lambda i: first(i.itwins.list_itwins()),
    "get_primary_account": lambda i: i.itwins.get_primary_account(),
    "get_account": lambda i: i.itwins.get_account(ITWIN),
}


@pytest.mark.parametrize("name", CALLS)
async def test_an_operation_without_a_valid_token_is_unauthorized(emulator, itwin, name):
    emulator.faults.add(name, Status(401, code="HeaderNotFound"), times=None)
    with pytest.raises(UnauthorizedError, match="401 HeaderNotFound"):
        await CALLS[name](itwin)
    assert emulator.count(name) == 2


@pytest.mark.parametrize("name", CALLS)
async def test_an_operation_that_is_throttled_for_too_long_is_told(emulator, itwin, name):
    emulator.faults.add(name, Throttle(9_999), times=None)
    code = "TooManyRequests|RateLimitExceeded"
    with pytest.raises(RateLimitError, match=f"429 ({code})"):
        await CALLS[name](itwin)
    assert emulator.count(name) == 1


@pytest.mark.parametrize("name", CALLS)
async def test_an_operation_asks_for_the_version_of_its_api(emulator, itwin, name):
    emulator.faults.add(name, Status(400), times=None)
    with pytest.raises(InvalidRequestError):
        await CALLS[name](itwin)
    (sent,) = (got for got in emulator.requests if got.operation == name)
    version = "v2" if sent.path.startswith("/imodels") else "v1"
    assert sent.headers["Accept"] == f"application/vnd.bentley.itwin-platform.{version}+json"
    assert sent.headers["Authorization"].startswith("Bearer ")


# Arguments, checked before anything is sent

BAD_IDS = ["", " ", ".", "..", "a/b", "../x", "a\\b", "a\x00b", "a\r\nb", "\ud800"]
BY_ID = {
    "list_versions": lambda i, bad: i.extensions.list_versions(bad),
    "delete_extension": lambda i, bad: i.extensions.delete_extension(bad),
    "wait_until_ready": lambda i, bad: i.extensions.wait_until_ready(bad, "1.0.0"),
    "download_version": lambda i, bad: i.extensions.download_version(bad, "1.0.0", "x"),
    "download_version number": lambda i, bad: i.extensions.download_version(UNKNOWN, bad, "x"),
    "create_extended_data": lambda i, bad: i.imodels.create_extended_data(bad, 1, {}),
    "create_extended_data changeset": lambda i, bad: i.imodels.create_extended_data(
        IMODEL, bad, {}
    ),
    "execute_package": lambda i, bad: i.packages.execute_package(bad, "P"),
    "execute_package name": lambda i, bad: i.packages.execute_package(ITWIN, bad),
    "list_entity_sets": lambda i, bad: i.packages.list_entity_sets(bad, "P"),
    "list_entity_sets name": lambda i, bad: i.packages.list_entity_sets(ITWIN, bad),
    "list_entities": lambda i, bad: i.packages.list_entities(bad, "P", "S"),
    "list_entities name": lambda i, bad: i.packages.list_entities(ITWIN, bad, "S"),
    "list_entities set": lambda i, bad: i.packages.list_entities(ITWIN, "P", bad),
    "get_version": lambda i, bad: i.extensions.get_version(bad, "1.0.0"),
    "get_version number": lambda i, bad: i.extensions.get_version(UNKNOWN, bad),
    "list_imodels": lambda i, bad: i.imodels.list_imodels(bad),
    "get_imodel": lambda i, bad: i.imodels.get_imodel(bad),
    "list_changesets": lambda i, bad: i.imodels.list_changesets(bad),
    "get_changeset": lambda i, bad: i.imodels.get_changeset(bad, 1),
    "get_changeset changeset": lambda i, bad: i.imodels.get_changeset(IMODEL, bad),
    "list_extended_data": lambda i, bad: i.imodels.list_extended_data(bad),
    "get_extended_data": lambda i, bad: i.imodels.get_extended_data(bad, 1),
    "get_extended_data changeset": lambda i, bad: i.imodels.get_extended_data(IMODEL, bad),
    "get_package": lambda i, bad: i.packages.get_package(bad),
    "get_account": lambda i, bad: i.itwins.get_account(bad),
}


async def refuses(use, itwin, bad, error) -> None:
    with pytest.raises(error) as caught:
        found = use(itwin, bad)
        if hasattr(found, "__await__"):
            await found
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", BY_ID)
async def test_an_id_that_could_name_another_path_is_refused_unsent(emulator, itwin, name):
    for bad in BAD_IDS:
        await refuses(BY_ID[name], itwin, bad, ValueError)
    for bad in (None, b"x", 1.5, True):
        await refuses(BY_ID[name], itwin, bad, TypeError)
    assert not emulator.requests


async def test_an_id_with_characters_of_a_url_stays_one_segment(emulator, itwin):
    with pytest.raises(NotFoundError, match="iModelNotFound"):
        await itwin.imodels.get_imodel("a?x=1#y%2Fz&é ~")
    assert emulator.requests[-1].target == "/imodels/a%3Fx%3D1%23y%252Fz%26%C3%A9%20~"


WRONG = {
    "page_size 0": (lambda i: i.extensions.list_extensions(page_size=0), ValueError),
    "page_size text": (lambda i: i.extensions.list_extensions(page_size="9"), TypeError),
    "page_size bool": (lambda i: i.imodels.list_imodels(ITWIN, page_size=True), TypeError),
    "page_size 1001": (lambda i: i.imodels.list_imodels(ITWIN, page_size=1_001), ValueError),
    "changesets 1001": (lambda i: i.imodels.list_changesets(IMODEL, page_size=1_001), ValueError),
    "data 1001": (lambda i: i.imodels.list_extended_data(IMODEL, page_size=1_001), ValueError),
    "itwins 1001": (lambda i: i.itwins.list_itwins(page_size=1_001), ValueError),
    "after_index": (lambda i: i.imodels.list_changesets(IMODEL, after_index=-1), ValueError),
    "last_index": (lambda i: i.imodels.list_changesets(IMODEL, last_index="5"), TypeError),
    "order": (lambda i: i.imodels.list_changesets(IMODEL, order="up"), ValueError),
    "changeset -1": (lambda i: i.imodels.get_changeset(IMODEL, -1), ValueError),
    "search": (lambda i: i.extensions.list_extensions(search=5), TypeError),
    "studio": (lambda i: i.extensions.list_extensions(is_itwin_studio_app="no"), TypeError),
    "deprecated": (
        lambda i: i.extensions.list_versions(UNKNOWN, include_deprecated="no"),
        TypeError,
    ),
    "representation": (lambda i: i.imodels.list_imodels(ITWIN, representation="no"), TypeError),
    "include_inactive": (lambda i: i.itwins.list_itwins(include_inactive="no"), TypeError),
    "status and inactive": (
        lambda i: i.itwins.list_itwins(status="Active", include_inactive=True),
        ValueError,
    ),
    "data_type": (lambda i: i.imodels.list_extended_data(IMODEL, 5), TypeError),
    "data_type list": (lambda i: i.imodels.list_extended_data(IMODEL, list[int]), TypeError),
    "data_type of one": (lambda i: i.imodels.get_extended_data(IMODEL, 1, int), TypeError),
    "name": (lambda i: i.extensions.create_extension("", ACCOUNT), ValueError),
    "name type": (lambda i: i.extensions.create_extension(5, ACCOUNT), TypeError),
    "name none": (lambda i: i.extensions.create_extension(None, ACCOUNT), TypeError),
    "itwin_id": (lambda i: i.extensions.create_extension("n", " "), ValueError),
    "description": (
        lambda i: i.extensions.create_extension("n", ACCOUNT, description=5),
        TypeError,
    ),
    "timeout 0": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1", timeout=0),
        ValueError,
    ),
    "timeout nan": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1", timeout=float("nan")),
        ValueError,
    ),
    "timeout text": (
        lambda i: i.extensions.wait_until_ready(UNKNOWN, "1", timeout="1"),
        TypeError,
    ),
    "directory": (lambda i: i.extensions.download_version(UNKNOWN, "1", 5), TypeError),
    "directory empty": (lambda i: i.extensions.download_version(UNKNOWN, "1", ""), ValueError),
    "archive": (
        lambda i: i.extensions.download_version(UNKNOWN, "1", "x", archive="no"),
        TypeError,
    ),
    "overwrite": (
        lambda i: i.extensions.download_version(UNKNOWN, "1", "x", overwrite=1),
        TypeError,
    ),
    "data list": (lambda i: i.imodels.create_extended_data(IMODEL, 1, [1]), TypeError),
    "data text": (lambda i: i.imodels.create_extended_data(IMODEL, 1, "{}"), TypeError),
    "data none": (lambda i: i.imodels.create_extended_data(IMODEL, 1, None), TypeError),
    "data set": (lambda i: i.imodels.create_extended_data(IMODEL, 1, {1}), TypeError),
    "data object": (lambda i: i.imodels.create_extended_data(IMODEL, 1, object()), TypeError),
    "data with an object": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, {"a": object()}),
        TypeError,
    ),
    "data raw": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, msgspec.Raw(b"{bad")),
        ValueError,
    ),
    "data surrogate": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, {"a": "\ud800"}),
        ValueError,
    ),
    "data in itself": (
        lambda i: i.imodels.create_extended_data(IMODEL, 1, in_itself()),
        ValueError,
    ),
    "changeset of data": (lambda i: i.imodels.create_extended_data(IMODEL, -1, {}), ValueError),
    "variables": (lambda i: i.packages.execute_package(ITWIN, "P", variables=[]), TypeError),
    "variable": (lambda i: i.packages.execute_package(ITWIN, "P", variables={"a": 1}), TypeError),
    "variable name": (
        lambda i: i.packages.execute_package(ITWIN, "P", variables={1: "a"}),
        TypeError,
    ),
    "variable without a name": (
        lambda i: i.packages.execute_package(ITWIN, "P", variables={"": "a"}),
        ValueError,
    ),
    "as_xml": (lambda i: i.packages.execute_package(ITWIN, "P", as_xml=1), TypeError),
    "as_xml and returns": (
        lambda i: i.packages.execute_package(ITWIN, "P", as_xml=True, returns=Files),
        ValueError,
    ),
    "returns": (lambda i: i.packages.execute_package(ITWIN, "P", returns=5), TypeError),
    "row_type": (lambda i: i.packages.list_entities(ITWIN, "P", "S", 5), TypeError),
    "rows page_size": (
        lambda i: i.packages.list_entities(ITWIN, "P", "S", page_size=0),
        ValueError,
    ),
    "rows select": (lambda i: i.packages.list_entities(ITWIN, "P", "S", select=["a"]), TypeError),
    "rows filter": (lambda i: i.packages.list_entities(ITWIN, "P", "S", filter=5), TypeError),
    "rows orderby": (lambda i: i.packages.list_entities(ITWIN, "P", "S", orderby=5), TypeError),
    "itwins type": (lambda i: i.itwins.list_itwins(type=5), TypeError),
    "itwins scope": (lambda i: i.itwins.list_itwins(query_scope="mine\r\nX: y"), ValueError),
    "search and number": (lambda i: i.itwins.list_itwins(search="a", number="b"), ValueError),
    "search and name": (lambda i: i.itwins.list_itwins(search="a", display_name="b"), ValueError),
    "filter and type": (lambda i: i.itwins.list_itwins(filter="a", type="b"), ValueError),
    "filter and status": (lambda i: i.itwins.list_itwins(filter="a", status="b"), ValueError),
    "filter and inactive": (
        lambda i: i.itwins.list_itwins(filter="a", include_inactive=True),
        ValueError,
    ),
    "roles": (lambda i: i.packages.get_package("roles"), ValueError),
    "itwin_id of extensions": (lambda i: i.extensions.list_extensions(itwin_id=""), ValueError),
}


@pytest.mark.parametrize(("use", "error"), WRONG.values(), ids=WRONG)
async def test_an_argument_that_cannot_be_is_refused_unsent(emulator, itwin, use, error):
    await refuses(lambda i, _: use(i), itwin, None, error)
    assert not emulator.requests


async def test_create_extension_is_never_sent_twice_in_doubt(emulator):
    emulator.faults.add("create_extension", Status(500), times=None)
    retry = Retry(attempts=9, base=0)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        with pytest.raises(ServerError, match="may have been carried out"):
            await itwin.extensions.create_extension("n", ACCOUNT)
    assert emulator.count("create_extension") == 1
