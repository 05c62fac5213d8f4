import base64
import json
import time

import pytest

from itwin_async.emulator import Emulator

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
PROJECT = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
DATA = f"/imodels/{SUN_CITY}/changesets/extendeddata"
SAMPLE = (
    "ewogICJkYXRhIjogewogICAgImNoYW5nZWRGaWxlcyI6IFsKICAgICAgIkEuZGduIiwKICAgICAgIkIuZGduIgogIC"
    "AgXSwKICAgICJ0YXNrSWQiOiAiZGIxNGY4MzUtOGQxYy00YjU2LTkyMzUtNzE1ZWJkMjMzODE0IgogIH0KfQ=="
)
INVALID = "InvalidiModelsRequest"
FULL = {"Prefer": "return=representation"}


def encoded(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


async def test_the_documented_extended_data_are_the_first_two(web, emulator):
    _, body, _ = await web(emulator, DATA)
    assert body["extendedData"][:2] == [
        {
            "changesetId": "78c09f3337370b26acabead1790d77b2a6ebc6ee",
            "changesetIndex": 1,
            "data": SAMPLE,
        },
        {
            "changesetId": "a1ecbdc8c4f6173004f9f881914a57c5511a362b",
            "changesetIndex": 2,
            "data": SAMPLE,
        },
    ]
    assert body["_links"]["next"] is None
    for item in body["extendedData"]:
        data = base64.b64decode(item["data"], validate=True)
        assert set(json.loads(data)["data"]) == {"changedFiles", "taskId"}
        assert b"\n" in data


async def test_extended_data_pages_as_its_example_does(web, emulator):
    _, body, _ = await web(emulator, f"{DATA}?$skip=30&$top=15")
    start = f"{emulator.url}{DATA}?$skip="
    assert body["_links"] == {
        "self": {"href": f"{start}30&$top=15"},
        "prev": {"href": f"{start}15&$top=15"},
        "next": {"href": f"{start}45&$top=15"},
    }
    found = await web.items(emulator, f"{DATA}?$top=15", "extendedData")
    assert [item["changesetIndex"] for item in found] == list(range(1, 101))
    # No continuation token is documented here, so one that is sent changes nothing.
    _, body, _ = await web(emulator, f"{DATA}?$continuationToken=&$top=15")
    assert "$skip=15" in body["_links"]["next"]["href"]
    _, body, _ = await web(emulator, f"{DATA}?$skip=5000")
    assert body["extendedData"] == []


@pytest.mark.parametrize(
    ("query", "target"), [("$skip=-1", "$skip"), ("$top=0", "$top"), ("$top=1001", "$top")]
)
async def test_a_wrong_window(web, emulator, refused, query, target):
    response = await web(emulator, f"{DATA}?{query}")
    message = "Cannot get Changesets Extended Data."
    refused(response, 422, INVALID, detail=("InvalidValue", target), message=message)
    if target == "$skip":
        assert response[1]["error"]["details"][0]["message"] == (
            "'-1' is not a valid '$skip' value. '$skip' must be a non-negative integer."
        )


async def test_one_by_index_and_by_id_in_any_case(web, emulator):
    path = f"/imodels/{SUN_CITY.upper()}/changesets"
    _, by_index, _ = await web(emulator, f"{path}/2/extendeddata")
    _, by_id, _ = await web(
        emulator, f"{path}/A1ECBDC8C4F6173004F9F881914A57C5511A362B/extendeddata/"
    )
    assert by_index == by_id
    assert by_id["extendedData"]["data"] == SAMPLE


async def test_what_is_missing_has_its_own_code(web, emulator, refused):
    for path in (f"/imodels/{UNKNOWN}", "/imodels/abc", f"/imodels/{UNKNOWN}/changesets/1"):
        message = "Requested iModel is not available."
        refused(await web(emulator, path), 404, "iModelNotFound", message=message)
    for changeset in ("0", "101", "f" * 40, "1" * 40):
        path = f"/imodels/{SUN_CITY}/changesets/{changeset}"
        refused(await web(emulator, path), 404, "ChangesetNotFound")
        refused(await web(emulator, f"{path}/extendeddata"), 404, "ChangesetNotFound")


async def test_extended_data_is_written_once(web, refused):
    async with Emulator(extended_data_every=2) as emulator:
        path = f"/imodels/{SUN_CITY}/changesets/4/extendeddata"
        refused(await web(emulator, path), 404, "ChangesetExtendedDataNotFound")
        new = {"data": encoded({"task": "é"})}
        status, body, _ = await web(emulator, path, "POST", json=new)
        assert status == 201
        assert body["extendedData"]["changesetIndex"] == 4
        assert body["extendedData"]["data"] == new["data"]
        assert (await web(emulator, path))[1] == body
        refused(await web(emulator, path, "POST", json=new), 409, "DataConflict")
        found = await web.items(emulator, f"{DATA}?$top=7", "extendedData")
        indexes = [item["changesetIndex"] for item in found]
        assert indexes == sorted([*range(1, 101, 2), 4])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "MissingRequiredProperty"),
        ({"data": 1}, "InvalidValue"),
        ({"data": "***"}, "InvalidValue"),
        ({"data": encoded([1])}, "InvalidValue"),
        ({"data": encoded({"x": "y" * 204_800})}, "InvalidValue"),
    ],
)
async def test_a_wrong_write(web, emulator, refused, body, code):
    index = emulator.push_changeset(SUN_CITY)
    assert index == 101
    response = await web(
        emulator, f"/imodels/{SUN_CITY}/changesets/{index}/extendeddata", "POST", json=body
    )
    message = "Cannot create Changeset Extended Data."
    refused(response, 422, INVALID, detail=(code, "data"), message=message)


async def test_imodels_of_an_itwin(web, emulator, refused):
    counts = []
    for itwin in await web.items(emulator, "/itwins/?subClass=Project,Asset", "iTwins"):
        found = await web.items(emulator, f"/imodels/?iTwinId={itwin['id']}&$top=3", "iModels")
        assert all(set(item) == {"id", "displayName"} for item in found)
        counts.append(len(found))
    assert sum(counts) == 40
    _, body, _ = await web(emulator, f"/imodels?iTwinId={PROJECT}&$top=1", headers=FULL)
    assert body["iModels"][0] == (await web(emulator, f"/imodels/{SUN_CITY}"))[1]["iModel"]
    assert body["iModels"][0]["dataCenterLocation"] == "East US"
    assert body["_links"]["prev"] is None
    detail = "MissingRequiredParameter", "iTwinId"
    refused(await web(emulator, "/imodels/"), 422, INVALID, detail=detail)
    response = await web(emulator, "/imodels?iTwinId=x")
    refused(response, 422, INVALID, detail=("InvalidValue", "iTwinId"))
    refused(await web(emulator, f"/imodels?iTwinId={UNKNOWN}"), 404, "iTwinNotFound")


async def test_imodels_are_searched_and_sorted(web, emulator, refused):
    start = f"/imodels?iTwinId={PROJECT}"
    every = await web.items(emulator, start, "iModels", headers=FULL)
    names = [item["name"] for item in every]
    found = await web.items(emulator, f"{start}&$orderBy=name%20desc&$top=4", "iModels")
    assert [item["displayName"] for item in found] == sorted(names, reverse=True)
    found = await web.items(emulator, f"{start}&$orderBy=createdDateTime,name", "iModels")
    assert len(found) == len(names)
    found = await web.items(emulator, f"{start}&$search=SUN%20city", "iModels")
    assert [item["id"] for item in found] == [SUN_CITY]
    found = await web.items(emulator, f"{start}&name=Sun%20City", "iModels")
    assert found == []
    assert await web.items(emulator, f"{start}&state=notInitialized", "iModels") == []
    for query in ("state=x", "$orderBy=size", "$orderBy=name%20up"):
        response = await web(emulator, f"{start}&{query}")
        refused(response, 422, INVALID, detail=("InvalidValue", query.partition("=")[0]))


async def test_changesets_by_skip_and_by_token(web, emulator, refused):
    start = f"/imodels/{SUN_CITY}/changesets"
    plain = await web.items(emulator, f"{start}?$top=30", "changesets")
    pages = [page async for page in web.pages(emulator, f"{start}?$continuationToken=&$top=30&x=1")]
    assert [item for page in pages for item in page["changesets"]] == plain
    assert "$skip" not in pages[0]["_links"]["next"]["href"]
    assert "x=1&" in pages[0]["_links"]["next"]["href"]
    assert [item["index"] for item in plain] == list(range(1, 101))
    assert [item["parentId"] for item in plain[1:]] == [item["id"] for item in plain[:-1]]
    assert plain[0]["parentId"] == ""
    for query in ("$continuationToken=zzz", "$continuationToken=LTU%3D"):
        response = await web(emulator, f"{start}?{query}")
        refused(response, 422, INVALID, detail=("InvalidValue", "$continuationToken"))
    response = await web(emulator, f"{start}?$continuationToken=&$skip=1")
    refused(response, 422, INVALID, detail=("InvalidValue", "$skip"))


async def test_changesets_between_indexes_in_both_orders(web, emulator, refused):
    start = f"/imodels/{SUN_CITY}/changesets?afterIndex=10&lastIndex=20"
    found = await web.items(emulator, f"{start}&$top=3", "changesets")
    assert [item["index"] for item in found] == list(range(11, 21))
    found = await web.items(emulator, f"{start}&$top=3&$orderBy=index%20desc", "changesets")
    assert [item["index"] for item in found] == list(range(20, 10, -1))
    response = await web(emulator, f"/imodels/{SUN_CITY}/changesets?afterIndex=x")
    refused(response, 422, INVALID, detail=("InvalidValue", "afterIndex"))


async def test_minimal_changesets_and_representations(web, emulator):
    start = f"/imodels/{SUN_CITY}/changesets"
    _, minimal, _ = await web(emulator, f"{start}?$top=1")
    _, full, _ = await web(emulator, f"{start}?$top=1", headers=FULL)
    _, one, _ = await web(emulator, f"{start}/1")
    links = [item["_links"].pop("download") for item in (one["changeset"], full["changesets"][0])]
    assert [link["storageType"] for link in links] == ["azure", "azure"]
    assert one["changeset"] == full["changesets"][0]
    assert set(one["changeset"]) - set(minimal["changesets"][0]) == {
        "application",
        "synchronizationInfo",
    }


async def test_the_documented_changeset(web):
    async with Emulator(changesets=300) as emulator:
        _, body, _ = await web(emulator, f"/imodels/{SUN_CITY}/changesets/256")
        found = body["changeset"]
        assert found["id"] == "1f2e04b666edce395e37a795e2231e995cbf8349"
        assert (found["displayName"], found["description"]) == ("256", "Changeset 15")
        assert found["parentId"] == "f7618612c572d7db8e3e6095d622d0d8aff22874"


async def test_a_huge_data_set_starts_at_once_and_is_always_the_same(web):
    def seconds(changesets: int) -> float:
        since = time.process_time()
        Emulator(imodels=200, changesets=changesets)
        return time.process_time() - since

    huge = min(seconds(1_000) for _ in range(3))
    assert huge < 5 * min(seconds(1) for _ in range(3))

    async def look():
        async with Emulator(imodels=200, changesets=1000) as emulator:
            imodels = await web.items(emulator, f"/imodels?iTwinId={PROJECT}", "iModels")
            path = f"/imodels/{imodels[-1]['id']}/changesets/extendeddata?$skip=900"
            _, body, _ = await web(emulator, path)
            return imodels, body["extendedData"]

    first, second = await look(), await look()
    assert first == second
    assert len(first[1]) == 100


@pytest.mark.parametrize("size", [300, 301, 1024, 204_800])
async def test_payloads_of_one_size(web, size):
    async with Emulator(payload_bytes=size) as emulator:
        _, body, _ = await web(emulator, f"{DATA}?$skip=5&$top=10")
        assert [item["changesetIndex"] for item in body["extendedData"]] == list(range(6, 16))
        assert body["_links"]["next"]["href"].endswith("?$skip=15&$top=10")
        for item in body["extendedData"]:
            data = base64.b64decode(item["data"])
            assert len(data) == size
            assert json.loads(data)["data"]["taskId"]


async def test_pages_smaller_than_requested(web):
    async with Emulator(max_top=7) as emulator:
        _, body, _ = await web(emulator, f"{DATA}?$top=50")
        assert body["_links"]["next"]["href"].endswith("?$skip=7&$top=7")
        assert len(await web.items(emulator, f"{DATA}?$top=50", "extendedData")) == 100
    async with Emulator(max_items=7) as emulator:
        _, body, _ = await web(emulator, f"{DATA}?$top=50")
        assert len(body["extendedData"]) == 7
        assert body["_links"]["next"]["href"].endswith("?$skip=7&$top=50")
        assert len(await web.items(emulator, f"{DATA}?$top=50", "extendedData")) == 100


@pytest.mark.parametrize(
    "wrong",
    [{"itwins": 2}, {"extended_data_every": 0}, {"payload_bytes": 10}, {"payload_bytes": 204_801}],
)
def test_impossible_sizes(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Emulator(**wrong)
