"""What a test changes in the emulator's data: pushes, late data, new and deleted iModels."""

import asyncio
import base64
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from uuid import UUID

import msgspec
import pytest

from itwin_async.emulator import Emulator

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
PROJECT = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
IMODEL = f"/imodels/{SUN_CITY}"
FULL = {"Prefer": "return=representation"}
NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


async def pushes(web, emulator):
    """When the changesets and the iModels were pushed, and the iModels made."""
    dates, imodels = [], []
    for itwin in await web.items(emulator, "/itwins/", "iTwins"):
        imodels += await web.items(
            emulator, f"/imodels?iTwinId={itwin['id']}", "iModels", headers=FULL
        )
    for imodel in imodels:
        changesets = await web.items(emulator, f"/imodels/{imodel['id']}/changesets", "changesets")
        pushed = [item["pushDateTime"] for item in changesets]
        assert pushed == sorted(pushed)
        assert imodel["lastChangesetPushDateTime"] == (pushed[-1] if pushed else None)
        dates += [*pushed, imodel["createdDateTime"]]
    return [datetime.fromisoformat(date) for date in dates]


@pytest.mark.parametrize("size", [(3, 7), (2, 0), (1, 1)])
async def test_seeded_dates_end_a_day_before_now(web, size):
    imodels, changesets = size
    async with Emulator(imodels=imodels, changesets=changesets, now=NOW) as emulator:
        dates = await pushes(web, emulator)
        assert len(dates) == imodels * (1 + changesets)
        day = timedelta(days=1)
        assert NOW - day - timedelta(seconds=2) < max(dates) <= NOW - day


async def test_seeded_dates_end_yesterday_by_default(web):
    async with Emulator(imodels=2, changesets=3) as emulator:
        age = datetime.now(UTC) - max(await pushes(web, emulator))
        assert timedelta(days=1) <= age < timedelta(days=1, minutes=1)


async def test_a_push_is_dated_by_the_clock_like_the_response(web):
    async with Emulator(now=NOW) as emulator:
        emulator.advance(3600)
        index = emulator.push_changeset(SUN_CITY)
        _, body, _ = await web(emulator, f"{IMODEL}/changesets/{index}")
        _, imodel, headers = await web(emulator, IMODEL)
        pushed = body["changeset"]["pushDateTime"]
        assert imodel["iModel"]["lastChangesetPushDateTime"] == pushed
        for date in (datetime.fromisoformat(pushed), parsedate_to_datetime(headers["Date"])):
            assert timedelta(0) <= date - NOW - timedelta(hours=1) < timedelta(minutes=1)
        assert emulator.now >= NOW + timedelta(hours=1)


async def test_a_push_has_what_it_was_given(web):
    class Payload(msgspec.Struct):
        a: int

    async with Emulator(imodels=2, changesets=3, extended_data_every=9) as emulator:
        index = emulator.push_changeset(
            SUN_CITY.upper(),
            Payload(1),
            description="Night run",
            file=b"abc",
            containing_changes=5,
            task_id="t",
            changed_files=("A.dgn",),
            group_id="g",
        )
        _, body, _ = await web(emulator, f"{IMODEL}/changesets/{index}")
        found = body["changeset"]
        assert (index, found["index"], found["displayName"]) == (4, 4, "4")
        assert found["id"] == emulator.changeset_id(SUN_CITY, 4)
        assert re.fullmatch("[0-9a-f]{40}", found["id"])
        assert found["parentId"] == emulator.changeset_id(SUN_CITY, 3)
        assert found["synchronizationInfo"] == {"taskId": "t", "changedFiles": ["A.dgn"]}
        fields = ("description", "fileSize", "containingChanges", "groupId", "state")
        assert [found[name] for name in fields] == ["Night run", 3, 5, "g", "fileUploaded"]
        _, by_id, _ = await web(emulator, f"{IMODEL}/changesets/{found['id'].upper()}")
        assert by_id["changeset"]["id"] == found["id"]
        path = f"{IMODEL}/changesets/extendeddata"
        stored = await web.items(emulator, path, "extendedData")
        assert [item["changesetIndex"] for item in stored] == [1, 4]
        assert json.loads(base64.b64decode(stored[-1]["data"])) == {"a": 1}
        assert emulator.push_changeset(SUN_CITY, file_size=9) == 5
        listed = await web.items(emulator, f"{IMODEL}/changesets?$top=2", "changesets")
        assert [item["index"] for item in listed] == [1, 2, 3, 4, 5]
        assert listed[4]["fileSize"] == 9
        assert listed[4]["parentId"] == found["id"]


async def test_data_is_stored_later_and_again(web, refused):
    async with Emulator(imodels=1, changesets=2) as emulator:
        index = emulator.push_changeset(SUN_CITY)
        path = f"{IMODEL}/changesets/{index}/extendeddata"
        refused(await web(emulator, path), 404, "ChangesetExtendedDataNotFound")
        for changeset in (index, emulator.changeset_id(SUN_CITY, index)):
            emulator.store_extended_data(SUN_CITY, changeset, {"by": changeset})
            _, body, _ = await web(emulator, path)
            assert json.loads(base64.b64decode(body["extendedData"]["data"])) == {"by": changeset}


async def test_data_that_is_stored_over_seeded_data_is_listed_once(web):
    async with Emulator(imodels=1, changesets=3) as emulator:
        emulator.store_extended_data(SUN_CITY, 2, {"new": True})
        path = f"{IMODEL}/changesets/extendeddata"
        stored = await web.items(emulator, path, "extendedData")
        assert [entry["changesetIndex"] for entry in stored] == [1, 2, 3]
        assert json.loads(base64.b64decode(stored[1]["data"])) == {"new": True}


async def test_an_imodel_comes_and_goes(web, refused):
    async with Emulator(imodels=2, changesets=2, now=NOW) as emulator:
        id = emulator.add_imodel(PROJECT, name="New", description="Built next year")
        _, body, _ = await web(emulator, f"/imodels/{id}")
        imodel = body["iModel"]
        assert (imodel["name"], imodel["iTwinId"]) == ("New", PROJECT)
        assert imodel["lastChangesetPushDateTime"] is None
        assert datetime.fromisoformat(imodel["createdDateTime"]) >= NOW
        assert emulator.push_changeset(id, {}) == 1
        _, body, _ = await web(emulator, f"/imodels/{id}/changesets/1")
        assert body["changeset"]["parentId"] == ""
        assert id != emulator.add_imodel()
        emulator.delete_imodel(id)
        path = f"/imodels?iTwinId={PROJECT}"
        assert id not in [item["id"] for item in await web.items(emulator, path, "iModels")]
        for gone in (f"/imodels/{id}", f"/imodels/{id}/changesets/1"):
            refused(await web(emulator, gone), 404, "iModelNotFound")
        assert emulator.add_imodel(PROJECT) != id  # ids are not used twice


async def test_pushes_while_it_runs(web):
    async with (
        asyncio.timeout(5),
        Emulator(imodels=2, changesets=1, push_every=0.001) as emulator,
    ):
        for id in list(emulator._state.imodels):
            # The data of the second iModel is late, but comes.
            for path in ("changesets/4", "changesets/4/extendeddata"):
                while (await web(emulator, f"/imodels/{id}/{path}"))[0] != 200:
                    await asyncio.sleep(0)
        task = emulator._activity._task
    assert task.cancelled()


async def test_the_program_pushes_while_it_runs(web):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "itwin_async.emulator", "--imodels", "1", "--changesets", "1"),
        *("--push-every", "0.01", "--storage-type", "google"),
        stdout=asyncio.subprocess.PIPE,
    )
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(4)]
    base, token_url, id, secret = (line.partition("=")[2] for line in lines)
    form = {"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
    async with web.session.post(token_url, data=form) as response:
        headers = {"Authorization": f"Bearer {(await response.json())['access_token']}"}
    path = f"{base}{IMODEL}/changesets/5"
    async with asyncio.timeout(10):
        while (found := await web(None, path, token=False, headers=headers))[0] != 200:
            await asyncio.sleep(0)
    assert found[1]["changeset"]["_links"]["download"]["storageType"] == "google"
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda it: it.push_changeset(SUN_CITY, object()), TypeError, "data must be what JSON"),
        (lambda it: it.push_changeset(SUN_CITY, "x" * 204_799), ValueError, "not 204,801"),
        (lambda it: it.push_changeset(SUN_CITY, file="a"), TypeError, "file must be bytes"),
        (lambda it: it.push_changeset(SUN_CITY, file=b"", file_size=1), ValueError, "exclude"),
        (lambda it: it.push_changeset(SUN_CITY, file_size=0), ValueError, "at least 1, not 0"),
        (lambda it: it.push_changeset(SUN_CITY, description=1), TypeError, "description must be"),
        (lambda it: it.push_changeset(SUN_CITY, group_id=""), ValueError, "group_id must not be"),
        (lambda it: it.push_changeset(SUN_CITY, changed_files="A"), TypeError, "sequence of str"),
        (lambda it: it.push_changeset(SUN_CITY, changed_files=[1]), TypeError, "each of changed_"),
        (lambda it: it.store_extended_data(SUN_CITY, 101, {}), ValueError, "no changeset 101"),
        (lambda it: it.store_extended_data(SUN_CITY, None, {}), TypeError, "an id or an index"),
        (lambda it: it.changeset_id("nope", 1), ValueError, "no iModel 'nope'"),
        (lambda it: it.add_imodel("nope"), ValueError, "no iTwin 'nope'"),
        (lambda it: it.add_imodel(name=""), ValueError, "name must not be empty"),
        (lambda it: it.delete_imodel("nope"), ValueError, "no iModel 'nope'"),
        (lambda it: it.advance(-1), ValueError, "seconds must be at least 0"),
        (lambda _: Emulator(now=5), TypeError, "now must be a datetime or None, not int"),
        (lambda _: Emulator(now=datetime(2026, 1, 1)), ValueError, "time zone"),  # noqa: DTZ001
        (lambda _: Emulator(push_every=0), ValueError, "push_every must be above 0"),
    ],
)
def test_wrong_calls(call, kind, sentence):
    emulator = Emulator()
    with pytest.raises(kind, match=re.escape(sentence)):
        call(emulator)
    assert emulator._state.imodels[SUN_CITY].changeset_count == 100


async def test_ids_may_be_uuids(web):
    group = UUID(int=7)
    async with Emulator() as emulator:
        imodel_id = UUID(emulator.add_imodel(UUID(PROJECT.upper()), name="Bridge"))
        path = f"/imodels/{imodel_id}"
        assert (await web(emulator, path))[1]["iModel"]["iTwinId"] == PROJECT
        index = emulator.push_changeset(imodel_id, group_id=group)
        emulator.store_extended_data(imodel_id, index, {"a": 1})
        _, body, _ = await web(emulator, f"{path}/changesets/{index}")
        assert body["changeset"]["id"] == emulator.changeset_id(imodel_id, index)
        assert body["changeset"]["groupId"] == str(group)
        _, body, _ = await web(emulator, f"{path}/changesets/{index}/extendeddata")
        assert json.loads(base64.b64decode(body["extendedData"]["data"])) == {"a": 1}
        emulator.delete_imodel(imodel_id)
        assert (await web(emulator, path))[0] == 404
        with pytest.raises(ValueError, match=f"no extension '{imodel_id}'"):
            emulator.publish(imodel_id, "1.0.0")
        with pytest.raises(ValueError, match=f"no iModel '{imodel_id}'"):
            emulator.push_changeset(imodel_id)
