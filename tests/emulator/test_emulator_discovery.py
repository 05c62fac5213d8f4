"""Integration packages (EDFS) and iTwins."""

import pytest

from itwin_async.emulator import Emulator

PRIMARY = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
PROJECT = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
CUSTOMERS = f"/edfs/itwins/{PROJECT}/packages/SQL_CUSTOMERS_TABLE"
ODATA = f"/edfs/itwins/{PROJECT}/packages/SAP_WORK_ORDERS/odata"
INVALID = "InvalidiTwinsRequest"


async def test_packages_are_one_list(web, emulator):
    _, body, _ = await web(emulator, "/edfs/packages")
    assert set(body) == {"packages"}
    assert body["packages"][0] == {
        "subscriptionId": "00000000-0000-0000-0000-000000000000",
        "version": "0.0.1",
        "uniqueName": "SQL_CUSTOMERS_TABLE",
        "name": "Sql Customers",
        "description": "A package for retrieving data from an SQL Database table",
        "subscribedBy": "00000000-0000-0000-0000-000000000000",
        "subscribedByName": "System",
        "subscribedOn": "2024-04-24T13:03:26.24-04:00",
        "projectStage": "Preview",
        "isOdata": False,
    }
    assert body["packages"][1]["subscribedByName"] == "Owen Shaw"
    assert len(body["packages"]) == 12


async def test_a_package_is_flat_and_has_three_more_fields(web, emulator, refused):
    _, listed, _ = await web(emulator, "/edfs/packages")
    for item in listed["packages"]:
        _, body, _ = await web(emulator, f"/edfs/packages/{item['uniqueName']}")
        assert set(body) - set(item) == {"inputExample", "responseExample", "lastChange"}
        assert body["uniqueName"] == item["uniqueName"]
    message = "Requested Package is not available."
    response = await web(emulator, "/edfs/packages/NO_SUCH")
    refused(response, 404, "PackageNotFound", message=message)
    response = await web(emulator, f"/edfs/packages/{'X' * 151}")
    refused(response, 422, "InvalidPackageRequest", detail=("InvalidValue", "uniqueName"))
    _, body, _ = await web(emulator, "/edfs/packages/roles")
    assert body["packageRoles"][0]["name"] == "Execute Integration Package"


async def test_execution_takes_the_package_s_own_example(web, emulator):
    _, package, _ = await web(emulator, "/edfs/packages/SQL_CUSTOMERS_TABLE")
    kind = {"Content-Type": "application/json"}
    acme = {"customerID": "ACME ", "companyName": "ACME Ltd.", "contactName": "Joe Bloggs"}
    for body in (package["inputExample"], "", "{}"):
        response = await web(emulator, CUSTOMERS, "POST", data=body, headers=kind)
        assert response[:2] == (200, {"data": [acme]})
    other = {"variables": [{"name": "CustomerID", "value": "Other"}]}
    assert (await web(emulator, CUSTOMERS, "POST", json=other))[1] == {"data": []}
    status, text, headers = await web(emulator, CUSTOMERS, "POST", json={"returnAsXml": True})
    assert (status, headers["Content-Type"]) == (200, "application/xml")
    assert b"<customerID>ACME </customerID>" in text


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"variables": {"a": "b"}}, "variables"),
        ({"variables": [{"name": "a"}]}, "variables"),
        ({"returnAsXml": "yes"}, "returnAsXml"),
        ([], "body"),
    ],
)
async def test_a_wrong_execution(web, emulator, refused, body, target):
    response = await web(emulator, CUSTOMERS, "POST", json=body)
    refused(response, 422, "InvalidPackageRequest", detail=("InvalidValue", target))


async def test_execution_where_there_is_nothing(web, emulator, refused):
    for path in (CUSTOMERS.replace(PROJECT, UNKNOWN), CUSTOMERS + "X"):
        refused(await web(emulator, path, "POST"), 404, "PackageNotFound")
    response = await web(emulator, CUSTOMERS.replace(PROJECT, "abc"), "POST")
    refused(response, 422, "InvalidPackageRequest", detail=("InvalidValue", "iTwinId"))


async def test_the_service_document_and_the_schema(web, emulator, refused):
    _, body, _ = await web(emulator, ODATA)
    assert body["@odata.context"] == f"{emulator.url}{ODATA}/$metadata"
    assert {"name": "SAP_Equipments_Read", "kind": "EntitySet", "url": "SAP_Equipments_Read"} in (
        body["value"]
    )
    status, text, _ = await web(emulator, f"{ODATA}/$metadata")
    assert status == 200
    assert b'EntitySet Name="SAP_Work_Orders_Read"' in text
    message = "Requested Schema is not available."
    for path in (
        ODATA.replace(PROJECT, UNKNOWN),
        ODATA.replace("ORDERS", "X"),
        f"{CUSTOMERS}/odata",
        f"{ODATA}/Nothing",
    ):
        refused(await web(emulator, path), 404, "SchemaNotFound", message=message)
    response = await web(emulator, ODATA.replace(PROJECT, "abc"))
    refused(response, 422, "InvalidSchemaRequest", detail=("InvalidValue", "iTwinId"))


async def test_rows_page_by_skip_and_top(web, emulator):
    path = f"{ODATA}/SAP_Equipments_Read"
    _, body, _ = await web(emulator, path)
    assert body["@odata.context"].endswith("/odata/$metadata#SAP_Equipments_Read")
    assert body["value"][:2] == [
        {"Field1": "value1", "Field2": "value2"},
        {"Field1": "value3", "Field2": "value4"},
    ]
    rows = []
    for skip in range(0, 400, 100):
        _, page, _ = await web(emulator, f"{path}?$skip={skip}&$top=100")
        assert set(page) == {"@odata.context", "value"}
        rows += page["value"]
    assert page["value"] == []
    assert rows == body["value"]
    assert len(rows) == 250


async def test_rows_are_chosen_as_odata_does(web, emulator, refused):
    path = f"{ODATA}/SAP_Material_Read"

    async def rows(query):
        status, body, _ = await web(emulator, f"{path}?{query.replace(' ', '%20')}")
        assert status == 200, body
        return body["value"]

    assert await rows("$filter=Field1 eq 'value3'") == [{"Field1": "value3", "Field2": "value4"}]
    assert await rows("$filter=Field1 eq 'value3'&$select=Field2") == [{"Field2": "value4"}]
    either = "$filter=(Field1 eq 'value1' or endswith(Field2,'0')) and not contains(Field2, '9')"
    every = await rows("")
    assert await rows(either) == [
        row
        for row in every
        if (row["Field1"] == "value1" or row["Field2"].endswith("0")) and "9" not in row["Field2"]
    ]
    assert await rows("$filter=Field1 gt 5") == []
    assert (await rows("$orderby=Field1 desc&$top=1"))[0]["Field1"] == "value99"
    for query in (
        "$filter=Field1 is 'x'",
        "$filter=Field1 eq 'x",
        "$filter=Field3 eq 'x'",
        "$filter=Field1 eq 'x' Field2",
        "$select=Field3",
        "$orderby=Field1 up",
        "$top=x",
    ):
        response = await web(emulator, f"{path}?{query.replace(' ', '%20')}")
        detail = "InvalidValue", query.partition("=")[0]
        refused(response, 422, "InvalidSchemaRequest", detail=detail)


async def test_itwins_minimal_and_in_full(web, emulator):
    _, body, headers = await web(emulator, "/itwins/")
    assert body["iTwins"][0] == {
        "id": PROJECT,
        "class": "Endeavor",
        "subClass": "Project",
        "type": "Construction Project",
        "number": "00001-ds-3902795",
        "displayName": "White River",
    }
    assert len(body["iTwins"]) == 5
    assert headers["X-Max-Return"] == "1000"
    prefer = {"Prefer": "return=representation"}
    _, body, _ = await web(emulator, "/itwins?subClass=Project", headers=prefer)
    assert body["iTwins"][0]["createdDateTime"] == "2016-01-18T21:03:00.3704659Z"
    assert {item["subClass"] for item in body["iTwins"]} == {"Project"}
    assert body["iTwins"][0]["iTwinAccountId"] == PRIMARY


async def test_itwins_end_silently_at_the_maximum(web, refused):
    async with Emulator(itwins=1200) as emulator:
        assert len(await web.items(emulator, "/itwins/?$top=300", "iTwins")) == 1000
        for most in (1, 550, 5000):
            headers = {"X-Max-Return": str(most)}
            pages = [page async for page in web.pages(emulator, "/itwins/", headers=headers)]
            assert sum(len(page["iTwins"]) for page in pages) == min(most, 1200)
            assert "next" not in pages[-1]["_links"]
        _, body, _ = await web(emulator, "/itwins/?$skip=1100")
        assert body["iTwins"] == []
        for value in ("0", "10001", "x"):
            response = await web(emulator, "/itwins/", headers={"X-Max-Return": value})
            refused(response, 422, INVALID, detail=("InvalidValue", "X-Max-Return"))


async def test_itwins_are_chosen(web, emulator):
    async def names(query):
        path = f"/itwins/?{query.replace(' ', '%20')}"
        return [item.get("displayName") for item in await web.items(emulator, path, "iTwins")]

    assert await names("$search=river") == ["White River"]
    assert await names("displayName=White River") == ["White River"]
    assert await names("number=00001-ds-3902795&type=Construction Project") == ["White River"]
    assert len(await names(f"iTwinAccountId={PRIMARY.upper()}")) == 4
    assert len(await names(f"parentId={PRIMARY}")) == 3
    assert await names("subClass=Account&$orderby=displayName desc") == [
        "Sensor Works",
        "Acme Corp.",
    ]
    assert await names("$filter=contains(displayName,'River') and latitude gt 40") == [
        "White River"
    ]
    assert await names("status=Inactive") == []
    assert len(await names("includeInactive=true")) == 5
    _, body, _ = await web(emulator, "/itwins?$select=id,displayName&$top=1")
    assert set(body["iTwins"][0]) == {"id", "displayName"}


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("subClass=Bridge", "subClass"),
        ("status=Gone", "status"),
        ("status=Active&includeInactive=true", "includeInactive"),
        ("$search=a&number=1", "$search"),
        ("$filter=id%20eq%20'a'&number=1", "$filter"),
        ("$filter=id%20eq", "$filter"),
        ("$orderby=nothing", "$orderby"),
        ("$select=nothing", "$select"),
        ("$top=1001", "$top"),
    ],
)
async def test_a_wrong_choice(web, emulator, refused, query, target):
    response = await web(emulator, f"/itwins/?{query}")
    refused(response, 422, INVALID, detail=("InvalidValue", target))


async def test_a_wrong_scope(web, emulator, refused):
    response = await web(emulator, "/itwins/", headers={"X-iTwin-Query-Scope": "mine"})
    refused(response, 422, INVALID, detail=("InvalidValue", "X-iTwin-Query-Scope"))


async def test_accounts(web, emulator, refused):
    account = {
        "id": PRIMARY,
        "class": "Account",
        "subClass": "Account",
        "type": None,
        "number": "Acme Corp.",
        "displayName": "Acme Corp.",
    }
    for path in ("myprimaryaccount", f"{PROJECT.upper()}/account", f"{PRIMARY}/account"):
        assert (await web(emulator, f"/itwins/{path}"))[:2] == (200, {"iTwin": account})
    refused(await web(emulator, f"/itwins/{UNKNOWN}/account"), 404, "iTwinNotFound")
