"""iModels are created, cloned, forked, changed and deleted."""

import asyncio

import anyio
import pytest
from known import IMODEL, ITWIN, UNKNOWN, every
from support import Running, cancelled_at_each_await, time_out, until

from itwin_async import (
    ConflictError,
    DecodeError,
    Extent,
    IModel,
    InvalidRequestError,
    ITwinError,
    ITwinSession,
    NotFoundError,
    Point,
)
from itwin_async.emulator import Edit, Emulator, Reset, Status

EXTENT = Extent(
    south_west=Point(latitude=46.1, longitude=7.6), north_east=Point(latitude=46.3, longitude=7.8)
)


@pytest.fixture
async def slow():
    """A platform on which a creation takes 20 seconds."""
    async with Emulator(imodels=3, changesets=8, creation_time=20) as running:
        yield running


@pytest.fixture
async def itwin_of_slow(slow):
    async with ITwinSession(slow.credentials, base_url=slow.url) as session:
        yield session


@pytest.fixture
def pauses(slow, monkeypatch):
    """The pauses between requests, which pass on the platform's clock at once."""
    found = []

    async def sleep(seconds):
        found.append(seconds)
        slow.advance(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    return found


async def test_an_imodel_is_created_with_what_was_given(emulator, itwin):
    created = await itwin.imodels.create_imodel(
        ITWIN, "Bridge", description="Draft", extent=EXTENT, containers_enabled=3,
        horizontal_crs_id="EPSG:25832",
    )  # fmt: skip
    assert (created.name, created.description, created.state) == ("Bridge", "Draft", "initialized")
    assert (created.extent, created.containers_enabled) == (EXTENT, 3)
    assert created.last_changeset_push_date_time is None
    assert await itwin.imodels.get_imodel(created.id) == created
    assert await every(itwin.imodels.list_changesets(created.id)) == []
    sent = next(got for got in emulator.requests if got.operation == "create_imodel")
    assert b'"creationMode":"empty"' in sent.body
    assert b'"geographicCoordinateSystem":{"horizontalCRSId":"EPSG:25832"}' in sent.body
    assert emulator.count("get_creation") == 0  # it was there at once


async def test_an_imodel_begins_with_the_content_of_another(emulator, itwin):
    last = emulator.changeset_id(IMODEL, 3)
    created = await itwin.imodels.create_imodel(
        ITWIN, "Copy", template_id=IMODEL, template_changeset_id=last
    )
    assert created.state == "initialized"
    body = next(got.body for got in emulator.requests if got.operation == "create_imodel")
    assert f'"template":{{"iModelId":"{IMODEL}","changesetId":"{last}"}}'.encode() in body
    assert b'"creationMode":"fromiModelVersion"' in body


async def test_a_creation_is_waited_for_at_growing_intervals(slow, itwin_of_slow, pauses):
    created = await itwin_of_slow.imodels.create_imodel(ITWIN, "Bridge")
    assert created.state == "initialized"
    assert pauses == [1, 2, 4, 8, 10]
    assert slow.count("get_creation") == 6


async def test_who_does_not_wait_gets_what_is_known(slow, itwin_of_slow, pauses):
    imodels = itwin_of_slow.imodels
    created = await imodels.create_imodel(ITWIN, "Bridge", wait=False)
    assert created.state == "notInitialized"
    copy = await imodels.clone_imodel(IMODEL, ITWIN, name="Copy", wait=False)
    assert copy == IModel(id=copy.id)
    assert slow.count("get_creation") == 0
    assert (await imodels.get_creation(copy.id)).state == "scheduled"
    waiting = await every(imodels.list_imodels(ITWIN, state="notInitialized"))
    assert {imodel.id for imodel in waiting} == {created.id, copy.id}
    assert (await imodels.wait_until_created(copy.id)).name == "Copy"


@pytest.mark.parametrize("changeset", [None, 3, "3", "id"])
async def test_a_clone_has_the_changesets(emulator, itwin, changeset):
    given = emulator.changeset_id(IMODEL, 3) if changeset == "id" else changeset
    clone = await itwin.imodels.clone_imodel(IMODEL, ITWIN, name="Copy", changeset=given)
    original = await itwin.imodels.get_imodel(IMODEL)
    assert (clone.description, clone.extent) == (original.description, original.extent)
    count = 25 if changeset is None else 3
    copied = [(one.index, one.id) for one in await every(itwin.imodels.list_changesets(clone.id))]
    assert copied == [
        (index, emulator.changeset_id(IMODEL, index)) for index in range(1, count + 1)
    ]
    creation = await itwin.imodels.get_creation(clone.id)
    assert creation.state == "successful"
    assert creation.forked_from is None
    assert creation.cloned_from.imodel_id == IMODEL
    assert creation.cloned_from.changeset_id == copied[-1][1]


@pytest.mark.parametrize("changeset", [0, "", "0"])
async def test_a_clone_of_the_baseline_has_no_changesets(itwin, changeset):
    clone = await itwin.imodels.clone_imodel(IMODEL, ITWIN, name="Copy", changeset=changeset)
    assert await every(itwin.imodels.list_changesets(clone.id)) == []
    assert (await itwin.imodels.get_creation(clone.id)).cloned_from.changeset_id == ""


async def test_a_clone_keeps_the_name_in_another_itwin(itwin):
    other = next(one.id for one in await every(itwin.itwins.list_itwins()) if one.id != ITWIN)
    clone = await itwin.imodels.clone_imodel(IMODEL, other)
    assert clone.name == (await itwin.imodels.get_imodel(IMODEL)).name
    assert clone.itwin_id == other


@pytest.mark.parametrize(("keep", "count"), [(False, 0), (True, 25)])
async def test_a_fork_has_its_history_where_asked_for(itwin, keep, count):
    fork = await itwin.imodels.fork_imodel(IMODEL, ITWIN, name="Variant", preserve_history=keep)
    assert len(await every(itwin.imodels.list_changesets(fork.id))) == count
    creation = await itwin.imodels.get_creation(fork.id)
    assert creation.forked_from.imodel_id == IMODEL
    assert creation.forked_from.relationship_id
    assert creation.cloned_from is None


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("failed", "its state is failed$"),
        ("mainIModelIsMissingFederationGuids", "elements of the original have no FederationGuid"),
        ("what\nis this", "its state is what is this$"),
        (None, "its state is None$"),
    ],
)
async def test_a_creation_that_fails_is_told(emulator, itwin, state, words):
    emulator.faults.add(
        "get_creation",
        Edit(lambda body: {"createOperation": {**body["createOperation"], "state": state}}),
    )
    with pytest.raises(ITwinError, match=words) as caught:
        await itwin.imodels.fork_imodel(IMODEL, ITWIN, name="Variant")
    assert caught.value.operation == "GET /imodels/{imodel_id}/operations/create"
    assert len(str(caught.value).splitlines()) == 1


async def test_a_creation_that_waits_for_its_file_goes_on(slow, itwin_of_slow, pauses):
    edit = Edit(lambda body: body["createOperation"].update(state="waitingForFile"))
    slow.faults.add("get_creation", edit, times=2)
    assert (await itwin_of_slow.imodels.create_imodel(ITWIN, "Bridge")).state == "initialized"


@pytest.mark.slow
async def test_a_creation_that_takes_too_long_is_told_with_its_state(slow, itwin_of_slow):
    waiting = itwin_of_slow.imodels.clone_imodel(IMODEL, ITWIN, name="Copy", timeout=60)
    with pytest.raises(TimeoutError, match="was not created in 60 s: its state is scheduled"):
        await time_out(waiting, lambda: slow.count("get_creation"))
    found = await every(itwin_of_slow.imodels.list_imodels(ITWIN, name="Copy"))
    assert len(found) == 1  # it goes on


async def test_waiting_ends_with_its_cancellation(slow, itwin_of_slow, cancel_kind):
    created = await itwin_of_slow.imodels.create_imodel(ITWIN, "Bridge", wait=False)
    task = Running(cancel_kind, itwin_of_slow.imodels.wait_until_created(created.id))
    await until(lambda: slow.count("get_creation"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_clone_that_is_cancelled_at_any_await_is_made_once_or_not(
    emulator, itwin, cancel_kind, when
):
    copies = []

    async def clone():
        return await itwin.imodels.clone_imodel(IMODEL, ITWIN, name=f"Copy {len(copies)}")

    async def check(number):
        bodies = [got.body for got in emulator.requests if got.operation == "clone_imodel"]
        assert len(bodies) == len(set(bodies)), number
        copies.append(number)

    awaits, result = await cancelled_at_each_await(cancel_kind, clone, check, when=when)
    assert awaits > 4
    assert result.name == f"Copy {len(copies)}"


@pytest.mark.parametrize("fault", [Status(502), Reset(), Edit(headers={"Location": "/nowhere"})])
async def test_a_clone_whose_outcome_is_unknown_is_not_sent_again(emulator, itwin, fault):
    emulator.faults.add("clone_imodel", fault, times=None)
    with pytest.raises(ITwinError) as caught:
        await itwin.imodels.clone_imodel(IMODEL, ITWIN, name="Copy")
    assert caught.value.outcome_unknown
    assert emulator.count("clone_imodel") == 1


async def test_a_clone_without_its_url_is_told(emulator, itwin):
    emulator.faults.add("clone_imodel", Status(202))
    with pytest.raises(DecodeError, match="without the new iModel's URL") as caught:
        await itwin.imodels.clone_imodel(IMODEL, ITWIN, name="Copy")
    assert caught.value.outcome_unknown
    assert caught.value.request_id


async def test_the_url_of_a_clone_matches_in_any_case_and_on_any_host(emulator, itwin):
    url = f"https://api.example.com/iModels/{IMODEL}?x=1"
    emulator.faults.add("clone_imodel", Status(202, headers={"Location": url}))
    clone = await itwin.imodels.clone_imodel(UNKNOWN, ITWIN)
    assert clone.id == IMODEL
    assert {got.headers["Host"] for got in emulator.requests} == {emulator.url.partition("//")[2]}


async def test_what_is_given_is_changed_and_the_rest_stays(emulator, itwin):
    before = await itwin.imodels.get_imodel(IMODEL)
    changed = await itwin.imodels.update_imodel(IMODEL, name="Bridge")
    assert (changed.name, changed.description) == ("Bridge", before.description)
    changed = await itwin.imodels.update_imodel(IMODEL, description="", extent=EXTENT)
    assert (changed.name, changed.description, changed.extent) == ("Bridge", "", EXTENT)
    assert await itwin.imodels.get_imodel(IMODEL) == changed
    assert await itwin.imodels.update_imodel(IMODEL, name="Bridge") == changed


async def test_a_deleted_imodel_is_gone_everywhere(itwin):
    await itwin.imodels.add_favorite(IMODEL)
    await itwin.imodels.add_recent(IMODEL)
    await itwin.imodels.delete_imodel(IMODEL)
    for listed in (itwin.imodels.list_imodels, itwin.imodels.list_favorites,
                   itwin.imodels.list_recents):  # fmt: skip
        assert IMODEL not in {imodel.id for imodel in await every(listed(ITWIN))}
    i = itwin.imodels
    for use in (i.get_imodel, i.get_creation, i.delete_imodel, i.remove_favorite):
        with pytest.raises(NotFoundError, match="iModelNotFound"):
            await use(IMODEL)


REFUSED = {
    "iTwinNotFound": (lambda i: i.create_imodel(UNKNOWN, "n"), NotFoundError),
    "iTwinNotFound of a clone": (lambda i: i.clone_imodel(IMODEL, UNKNOWN), NotFoundError),
    "iModelNotFound of a clone": (lambda i: i.clone_imodel(UNKNOWN, ITWIN), NotFoundError),
    "iModelNotFound of a fork": (lambda i: i.fork_imodel(UNKNOWN, ITWIN), NotFoundError),
    "iModelNotFound of a template": (
        lambda i: i.create_imodel(ITWIN, "n", template_id=UNKNOWN),
        NotFoundError,
    ),
    "iModelNotFound of a creation": (lambda i: i.get_creation("odd"), NotFoundError),
    "iModelNotFound of a change": (lambda i: i.update_imodel("odd", name="n"), NotFoundError),
    "iModelNotFound of a favorite": (lambda i: i.add_favorite("odd"), NotFoundError),
    "ChangesetNotFound of a clone": (
        lambda i: i.clone_imodel(IMODEL, ITWIN, name="n", changeset=999),
        NotFoundError,
    ),
    "ChangesetNotFound of a template": (
        lambda i: i.create_imodel(ITWIN, "n", template_id=IMODEL, template_changeset_id="f" * 40),
        NotFoundError,
    ),
    "iModelExists": (
        lambda i: i.create_imodel(ITWIN, "Sun City Renewable-energy Plant"),
        ConflictError,
    ),
    "iModelExists of a clone": (lambda i: i.clone_imodel(IMODEL, ITWIN), ConflictError),
    "iModelExists of a fork": (lambda i: i.fork_imodel(IMODEL, ITWIN), ConflictError),
    "InvalidiModelsRequest": (lambda i: i.create_imodel("odd", "n"), InvalidRequestError),
    "InvalidiModelsRequest of favorites": (
        lambda i: i.list_favorites("odd").first(),
        InvalidRequestError,
    ),
    "iTwinNotFound of recents": (lambda i: i.list_recents(UNKNOWN).first(), NotFoundError),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_documented_refusal_is_told_with_its_code(itwin, name):
    use, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        await use(itwin.imodels)
    assert caught.value.code == name.partition(" ")[0]
    assert not caught.value.outcome_unknown


WRONG = {
    "name empty": (lambda i: i.create_imodel(ITWIN, " "), ValueError),
    "name none": (lambda i: i.create_imodel(ITWIN, None), TypeError),
    "name long": (lambda i: i.create_imodel(ITWIN, "n" * 256), ValueError),
    "description": (lambda i: i.create_imodel(ITWIN, "n", description="d" * 256), ValueError),
    "extent": (lambda i: i.create_imodel(ITWIN, "n", extent={}), TypeError),
    "containers": (lambda i: i.create_imodel(ITWIN, "n", containers_enabled=-1), ValueError),
    "changeset alone": (
        lambda i: i.create_imodel(ITWIN, "n", template_changeset_id="a"),
        ValueError,
    ),
    "template empty": (lambda i: i.create_imodel(ITWIN, "n", template_id=""), ValueError),
    "template and system": (
        lambda i: i.create_imodel(ITWIN, "n", template_id=IMODEL, horizontal_crs_id="a"),
        ValueError,
    ),
    "wait": (lambda i: i.create_imodel(ITWIN, "n", wait=1), TypeError),
    "timeout": (lambda i: i.clone_imodel(IMODEL, ITWIN, timeout=0), ValueError),
    "timeout of a wait": (lambda i: i.wait_until_created(IMODEL, timeout="1"), TypeError),
    "changeset": (lambda i: i.clone_imodel(IMODEL, ITWIN, changeset=-1), ValueError),
    "changeset type": (lambda i: i.fork_imodel(IMODEL, ITWIN, changeset=1.5), TypeError),
    "history": (lambda i: i.fork_imodel(IMODEL, ITWIN, preserve_history=1), TypeError),
    "nothing to change": (lambda i: i.update_imodel(IMODEL), ValueError),
    "name of a change": (lambda i: i.update_imodel(IMODEL, name=""), ValueError),
    "page_size": (lambda i: i.list_favorites(ITWIN, page_size=1_001), ValueError),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_argument_that_cannot_be_is_refused_unsent(emulator, itwin, name):
    use, kind = WRONG[name]
    with pytest.raises(kind) as caught:
        await use(itwin.imodels)
    assert len(str(caught.value).splitlines()) == 1
    assert not emulator.requests


async def test_favorites_and_recents_are_the_callers(emulator, itwin):
    ids = [imodel.id for imodel in await every(itwin.imodels.list_imodels(ITWIN))]
    for id in (ids[1], ids[0], ids[1]):
        await itwin.imodels.add_favorite(id)
        await itwin.imodels.add_recent(id)
    favorites = await every(itwin.imodels.list_favorites(ITWIN))
    assert [imodel.id for imodel in favorites] == [ids[1], ids[0]]
    assert favorites[0].itwin_id is None  # the few fields of a list
    recents = await every(itwin.imodels.list_recents(ITWIN, representation=True))
    assert [(imodel.id, imodel.itwin_id) for imodel in recents] == [
        (ids[1], ITWIN),
        (ids[0], ITWIN),
    ]
    await itwin.imodels.remove_favorite(ids[1])
    await itwin.imodels.remove_recent(ids[1])
    assert [imodel.id async for imodel in itwin.imodels.list_favorites(ITWIN)] == [ids[0]]
    assert [imodel.id async for imodel in itwin.imodels.list_recents(ITWIN)] == [ids[0]]


async def test_at_most_25_recents_are_kept(emulator, itwin):
    ids = [emulator.add_imodel(ITWIN, name=f"n{number}") for number in range(27)]
    for id in ids:
        await itwin.imodels.add_recent(id)
    recents = await every(itwin.imodels.list_recents(ITWIN, page_size=10))
    assert [imodel.id for imodel in recents] == ids[:1:-1]
