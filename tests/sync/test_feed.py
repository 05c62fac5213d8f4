"""The change feed: each entry once, and only what moved is asked for."""

import logging
import uuid
from datetime import UTC, datetime

import msgspec
import pytest
from feeds import DATA, IMODELS, imodels_of, one_pass, platform, project, sent, there
from support import RawServer, answer, session_at

from itwin_async import (
    ForbiddenError,
    IModelGone,
    ITwinSession,
    NotFoundError,
    PayloadError,
    UnauthorizedError,
)
from itwin_async.emulator import Cut, Status
from itwin_async.sync import ChangeFeed


class Payload(msgspec.Struct):
    data: dict


async def test_the_first_pass_gives_all_and_the_next_one_nothing_for_one_request():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        sent(emulator)
        given, checkpoint = await one_pass(itwin, itwin_id=scope)
        assert given == there(emulator, imodels)
        assert sent(emulator) == {IMODELS: 1, DATA: len(imodels)}
        assert await one_pass(itwin, checkpoint, itwin_id=scope) == ([], checkpoint)
        assert sent(emulator) == {IMODELS: 1}


@pytest.mark.slow(reason="a thousand iModels")
async def test_the_second_pass_over_a_thousand_imodels_costs_what_moved():
    async with platform(imodels=1_000, changesets=25) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given, checkpoint = await one_pass(itwin, itwin_id=scope)
        assert len(given) == 25_000
        assert len(checkpoint) < 64 * 1_000
        new = [(imodel, emulator.push_changeset(imodel, {"n": 1})) for imodel in imodels[::100]]
        sent(emulator)
        found, _ = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert found == sorted(new)
        assert sum(sent(emulator).values()) == 1 + len(new)


async def test_only_what_moved_is_asked_and_from_the_window_on():
    async with platform(changesets=80) as (emulator, itwin):
        scope = await project(itwin)
        first, second, *_ = await imodels_of(itwin, scope)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        new = emulator.push_changeset(first, {"a": 1})
        emulator.push_changeset(second)  # without data
        sent(emulator)
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == [(first, new)]
        targets = [request.target for request in emulator.requests if request.operation == DATA]
        assert [target.partition("?")[2] for target in targets] == ["$skip=60&$top=1000"] * 2


async def test_an_imodel_is_asked_again_until_its_push_has_settled():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        index = emulator.push_changeset(first)
        sent(emulator)
        for seconds in (0, 100, 150, 100):  # the last look is behind the 300 seconds
            emulator.advance(seconds)
            given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
            assert given == []
            assert sent(emulator) == {IMODELS: 1, DATA: 1}
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert sent(emulator) == {IMODELS: 1}
        emulator.store_extended_data(first, index, {"late": 1})  # too late, until it moves again
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == []
        emulator.push_changeset(first)
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == [(first, index)]


async def test_data_that_came_between_the_last_look_and_the_end_of_settle_is_found():
    """A nightly job looks a second after the push, and the next time a day later."""
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        index = emulator.push_changeset(first)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        emulator.advance(30)
        emulator.store_extended_data(first, index, {"soon": 1})
        emulator.advance(86_400)
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == [(first, index)]
        sent(emulator)
        assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == []
        assert sent(emulator) == {IMODELS: 1}


async def test_without_settle_an_imodel_is_asked_once_a_push():
    """A date has whole seconds, and a push may lie behind it."""
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        options = {"itwin_id": scope, "settle": 0}
        _, checkpoint = await one_pass(itwin, **options)
        index = emulator.push_changeset(first, {"n": 1})
        given, checkpoint = await one_pass(itwin, checkpoint, **options)
        assert given == [(first, index)]
        sent(emulator)
        assert (await one_pass(itwin, checkpoint, **options))[0] == []
        assert sent(emulator) == {IMODELS: 1}


async def test_the_clock_of_the_platform_counts_not_ours():
    async with platform(now=datetime(2001, 2, 3, tzinfo=UTC)) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        index = emulator.push_changeset(first)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        sent(emulator)
        emulator.store_extended_data(first, index, {"late": 1})
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == [(first, index)]


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("look_back", [1, 4, 20])
async def test_late_data_within_look_back_is_found(every, look_back):
    async with platform(imodels=3, changesets=60, extended_data_every=every) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        for _ in range(look_back):
            emulator.push_changeset(first)
        options = {"itwin_id": scope, "look_back": look_back}
        _, checkpoint = await one_pass(itwin, **options)
        newest = 60 + look_back + 1
        assert emulator.push_changeset(first) == newest
        late = [(first, index) for index in range(newest - look_back + 1, newest)][::3]
        for _, index in late:
            emulator.store_extended_data(first, index, {"late": index})
        found, checkpoint = await one_pass(itwin, checkpoint, **options)
        assert found == late
        assert (await one_pass(itwin, checkpoint, **options))[0] == []


async def test_data_stored_before_the_window_moves_it_and_doubles_nothing():
    async with platform(imodels=3, changesets=300, extended_data_every=3) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        _, checkpoint = await one_pass(itwin, itwin_id=scope, look_back=5)
        for index in range(2, 120, 3):
            emulator.store_extended_data(first, index, {"old": index})
        new = emulator.push_changeset(first, {"new": 1})
        found, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope, look_back=5)
        assert found == [(first, new)]
        sent(emulator)
        found, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope, look_back=5)
        targets = [request.target for request in emulator.requests if request.operation == DATA]
        assert found == []
        assert targets[0].endswith("?$skip=136&$top=1000")  # 100 + 40 + 1 entries by now


async def test_a_list_that_is_shorter_than_it_was_is_read_from_further_ahead():
    async with platform(imodels=3, changesets=0) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        for index in range(1, 401):
            emulator.push_changeset(first, {"n": index})
        _, checkpoint = await one_pass(itwin, itwin_id=scope, look_back=3)
        imodel = emulator._state.imodels[first]
        for index in range(1, 351):  # as no platform should
            del imodel.written[index]
        new = emulator.push_changeset(first, {"new": 1})
        sent(emulator)
        found, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope, look_back=3)
        assert found == [(first, new)]
        assert sent(emulator)[DATA] <= 4
        found, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope, look_back=3)
        assert sent(emulator)[DATA] == 1


@pytest.mark.parametrize("top", [1, 7, 1_000])
async def test_pages_of_any_size_give_the_same(top):
    async with platform(max_items=top, imodels=3, changesets=9) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given, checkpoint = await one_pass(itwin, itwin_id=scope)
        assert given == there(emulator, imodels)
        new = [(imodel, emulator.push_changeset(imodel, {"n": 1})) for imodel in imodels]
        assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == sorted(new)


async def test_new_imodels_are_found_and_deleted_ones_are_told_and_left(caplog):
    events: list[IModelGone] = []
    async with platform() as (emulator, first_session):
        scope = await project(first_session)
        gone, *_ = await imodels_of(first_session, scope)
        async with ITwinSession(
            emulator.credentials,
            base_url=emulator.url,
            on_event=lambda event: events.append(event) if isinstance(event, IModelGone) else None,
        ) as itwin:
            _, checkpoint = await one_pass(itwin, itwin_id=scope)
            emulator.delete_imodel(gone)
            added = emulator.add_imodel(scope)
            index = emulator.push_changeset(added, {"n": 1})
            with caplog.at_level(logging.WARNING, "itwin_async"):
                given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
            assert given == [(added, index)]
            assert events == [IModelGone(gone)]
            assert [record.message for record in caplog.records] == [
                f"iModel {gone} is gone: it is left out from now on"
            ]
            sent(emulator)
            assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == []
            assert sent(emulator) == {IMODELS: 1, DATA: 1}  # the added one has not settled
            assert events == [IModelGone(gone)]


async def test_an_imodel_without_changesets_is_asked_once():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        empty = emulator.add_imodel(scope)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        sent(emulator)
        assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == []
        assert sent(emulator) == {IMODELS: 1}
        index = emulator.push_changeset(empty, {"n": 1})
        assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == [(empty, index)]


async def test_ids_alone_cost_a_request_each():
    async with platform() as (emulator, itwin):
        imodels = (await imodels_of(itwin, await project(itwin)))[:3]
        options = {"imodel_ids": [*imodels, imodels[0].upper()]}
        given, checkpoint = await one_pass(itwin, **options)
        assert given == there(emulator, imodels)
        sent(emulator)
        new = emulator.push_changeset(imodels[1], {"n": 1})
        emulator.delete_imodel(imodels[2])
        given, checkpoint = await one_pass(itwin, checkpoint, **options)
        assert given == [(imodels[1], new)]
        assert sent(emulator) == {"get_imodel": 3, DATA: 1}


async def test_one_id_may_be_a_str():
    async with platform() as (emulator, itwin):
        first, *_ = await imodels_of(itwin, await project(itwin))
        assert (await one_pass(itwin, imodel_ids=first))[0] == there(emulator, [first])


async def test_ids_may_be_uuids():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given, checkpoint = await one_pass(itwin, itwin_id=uuid.UUID(scope))
        assert given == there(emulator, imodels)
        assert (await one_pass(itwin, checkpoint, itwin_id=scope.upper()))[0] == []
        first = uuid.UUID(imodels[0])
        for ids in (first, [first]):
            assert (await one_pass(itwin, imodel_ids=ids))[0] == there(emulator, imodels[:1])


async def test_an_id_that_is_nowhere_is_left_out(caplog):
    async with platform() as (_, itwin):
        given, checkpoint = await one_pass(itwin, imodel_ids=str(uuid.UUID(int=7)))
        assert given == []
        assert "is gone" in caplog.text
        assert (await one_pass(itwin, checkpoint, imodel_ids=str(uuid.UUID(int=7))))[0] == []


async def test_an_unknown_itwin_is_an_error():
    async with platform() as (_, itwin):
        with pytest.raises(NotFoundError):
            await one_pass(itwin, itwin_id=str(uuid.UUID(int=7)))


async def test_an_imodel_that_may_not_be_read_is_left_out_until_it_may(caplog):
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *others = await imodels_of(itwin, scope)
        emulator.faults.add(f"/imodels/{first}/changesets", Status(403), None)
        given, checkpoint = await one_pass(itwin, itwin_id=scope)
        assert given == there(emulator, others)
        assert f"no access to iModel {first}" in caplog.text
        emulator.faults.clear()
        assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == there(emulator, [first])


async def test_an_imodel_that_fails_is_raised_behind_the_others():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *others = await imodels_of(itwin, scope)
        emulator.faults.add(f"/imodels/{first}/changesets", Status(422), None)
        given = []
        async with ChangeFeed(itwin, itwin_id=scope, every=None) as feed:
            with pytest.raises(Exception, match="422") as caught:
                async for entry in feed:
                    given.append((entry.imodel_id, entry.changeset_index))
            assert sorted(given) == there(emulator, others)
            assert f"iModel {first}" in caught.value.__notes__[0]
            emulator.faults.clear()
            rest = [(entry.imodel_id, entry.changeset_index) async for entry in feed]
        assert rest == there(emulator, [first])


async def test_where_many_imodels_fail_the_rest_is_not_asked():
    async with platform(imodels=40) as (emulator, itwin):
        scope = await project(itwin)
        emulator.faults.add(DATA, Status(422), None)
        with pytest.raises(Exception, match="422"):
            await one_pass(itwin, itwin_id=scope)
        assert 10 <= emulator.count(DATA) < 25


async def test_the_first_of_some_failures_says_how_many_there_were():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        for imodel in (await imodels_of(itwin, scope))[:3]:
            emulator.faults.add(f"/imodels/{imodel}/changesets", Status(422), None)
        with pytest.raises(Exception, match="422") as caught:
            await one_pass(itwin, itwin_id=scope)
        assert "3 iModels failed; this is the first one." in caught.value.__notes__


async def test_a_token_that_is_refused_ends_it_at_once():
    async with platform(imodels=40) as (emulator, itwin):
        scope = await project(itwin)
        emulator.faults.add(DATA, Status(401), None)
        with pytest.raises(UnauthorizedError):
            await one_pass(itwin, itwin_id=scope)
        assert emulator.count(DATA) < 25


async def test_an_id_that_may_not_be_read_is_left_out(caplog):
    async with platform() as (emulator, itwin):
        first, second, *_ = await imodels_of(itwin, await project(itwin))
        emulator.faults.add(f"/imodels/{first}", Status(403), None)
        assert (await one_pass(itwin, imodel_ids=[first, second]))[0] == there(emulator, [second])
        assert f"no access to iModel {first}" in caplog.text


async def test_a_payload_is_decoded_to_the_type_and_a_bad_one_is_handed_over():
    async with platform(imodels=3, changesets=2) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        emulator._state.imodels[first].written[2] = "!"
        async with ChangeFeed(itwin, imodel_ids=first, data_type=Payload, every=None) as feed:
            entries = [entry async for entry in feed]
        assert isinstance(entries[0].data, Payload)
        with pytest.raises(PayloadError, match="not base64"):
            _ = entries[1].data


async def test_a_checkpoint_belongs_to_its_scope():
    async with platform() as (_, itwin):
        scope = await project(itwin)
        first, second, *_ = await imodels_of(itwin, scope)
        _, checkpoint = await one_pass(itwin, imodel_ids=[second, first])
        ChangeFeed(itwin, imodel_ids=[first, second.upper()], checkpoint=checkpoint)
        for other in ({"itwin_id": scope}, {"imodel_ids": first}):
            with pytest.raises(ValueError, match="checkpoint belongs to another iTwin"):
                ChangeFeed(itwin, checkpoint=checkpoint, **other)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "exactly one of itwin_id and imodel_ids"),
        ({"itwin_id": "a", "imodel_ids": ["b"]}, ValueError, "exactly one"),
        ({"itwin_id": ""}, ValueError, "itwin_id must"),
        ({"imodel_ids": ["a", ""]}, ValueError, "imodel_ids must"),
        ({"imodel_ids": ["a", 5]}, TypeError, "imodel_ids must"),
        ({"itwin_id": 5}, TypeError, "itwin_id must"),
        ({"itwin_id": "a", "every": 0}, ValueError, "every must"),
        ({"itwin_id": "a", "every": "5"}, TypeError, "every must"),
        ({"itwin_id": "a", "look_back": -1}, ValueError, "look_back must"),
        ({"itwin_id": "a", "look_back": 1_000_001}, ValueError, "look_back must"),
        ({"itwin_id": "a", "look_back": 1.5}, TypeError, "look_back must"),
        ({"itwin_id": "a", "settle": -1}, ValueError, "settle must"),
        ({"itwin_id": "a", "checkpoint": "x"}, ValueError, "checkpoint must"),
        ({"itwin_id": "a", "checkpoint": 5}, TypeError, "checkpoint must"),
        ({"itwin_id": "a", "data_type": int}, TypeError, "data_type must"),
    ],
)
async def test_bad_arguments_are_refused_before_anything_is_sent(options, error, match):
    async with platform() as (emulator, itwin):
        with pytest.raises(error, match=match):
            ChangeFeed(itwin, **options)
        assert emulator.requests == []


async def test_a_session_is_needed():
    with pytest.raises(TypeError, match="itwin must be a ITwinSession"):
        ChangeFeed("https://api.bentley.com", itwin_id="a")  # type: ignore[call-overload]


async def test_without_a_date_an_imodel_is_asked_again():
    page = msgspec.json.encode(
        {
            "iModels": [{"id": "m", "lastChangesetPushDateTime": "2020-01-01T00:00:00Z"}],
            "_links": {},
        }
    )
    empty = b'{"extendedData":[],"_links":{}}'
    async with RawServer(*map(answer, (page, empty) * 2)) as server, session_at(server) as itwin:
        _, checkpoint = await one_pass(itwin, itwin_id="a")
        await one_pass(itwin, checkpoint, itwin_id="a")
        assert [request.target.partition("?")[0] for request in server.requests] == [
            "/imodels/",
            "/imodels/m/changesets/extendeddata",
        ] * 2


async def test_an_imodel_that_a_shifted_page_hides_is_not_taken_for_gone(caplog):
    """It is asked for by itself before it counts as gone, and its entries do not come again."""
    async with platform(max_items=2) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        state = emulator._state.imodels
        hidden = state[imodels[3]]
        owner, hidden.itwin_id = hidden.itwin_id, "elsewhere"
        sent(emulator)
        given, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == []
        assert sent(emulator) == {IMODELS: 3, "get_imodel": 1}
        hidden.itwin_id = owner
        assert (await one_pass(itwin, checkpoint, itwin_id=scope))[0] == []
        assert caplog.records == []


async def test_access_that_comes_back_goes_on_where_it_was():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        _, checkpoint = await one_pass(itwin, itwin_id=scope)
        imodel = emulator._state.imodels.pop(first)
        _, checkpoint = await one_pass(itwin, checkpoint, itwin_id=scope)
        emulator._state.imodels[first] = imodel
        index = emulator.push_changeset(first, {"n": 1})
        given, _ = await one_pass(itwin, checkpoint, itwin_id=scope)
        assert given == [(first, index)]


async def test_an_error_of_all_loses_nothing():
    async with platform() as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        emulator.faults.add(IMODELS, Status(403))
        async with ChangeFeed(itwin, itwin_id=scope, every=None) as feed:
            with pytest.raises(ForbiddenError):
                await anext(feed)
            emulator.faults.clear()
            given = sorted([(entry.imodel_id, entry.changeset_index) async for entry in feed])
        assert given == there(emulator, imodels)


async def test_a_large_page_that_is_cut_and_changes_meanwhile_is_read_again():
    """Its second copy has another entry than the first one in the middle."""
    options = {"imodels": 1, "changesets": 20, "extended_data_every": 2, "payload_bytes": 100_000}
    async with platform(**options) as (emulator, itwin):
        imodels = await imodels_of(itwin, await project(itwin))
        emulator.faults.add(DATA, Cut(1_000_000))
        given = []
        async with ChangeFeed(itwin, imodel_ids=imodels, every=None) as feed:
            async for entry in feed:
                given.append((entry.imodel_id, entry.changeset_index))
                if len(given) == 1:
                    emulator.store_extended_data(imodels[0], 2, {"late": 1})
        assert sorted(given) == there(emulator, imodels)
