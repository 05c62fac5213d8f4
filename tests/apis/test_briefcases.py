"""Briefcases and locks, against the emulator."""

import pytest
from known import IMODEL, UNKNOWN, every
from support import cancelled_at_each_await

from itwin_async import (
    Briefcase,
    ConflictError,
    ConflictingLock,
    ForbiddenError,
    InvalidRequestError,
    ITwinSession,
    LockConflictError,
    LockedObjects,
    NewerChangesError,
    NotFoundError,
    ServerError,
    StaticToken,
)
from itwin_async.emulator import Emulator, Status


def objects(level: str, *ids: str) -> LockedObjects:
    return LockedObjects(lock_level=level, object_ids=ids)


def exclusive(*ids: str) -> LockedObjects:
    return objects("exclusive", *ids)


def by_briefcase(locks):
    return {lock.briefcase_id: set(lock.locked_objects) for lock in locks}


async def changeset_id(itwin, index):
    return (await itwin.imodels.get_changeset(IMODEL, index)).id


async def test_briefcases_come_and_go(itwin):
    imodels = itwin.imodels
    seeded = await every(imodels.list_briefcases(IMODEL, representation=True, page_size=2))
    assert [briefcase.briefcase_id for briefcase in seeded] == [2, 3, 4, 5, 6]
    assert all(briefcase.file_size > 0 and briefcase.links.checkpoint for briefcase in seeded)
    minimal = await imodels.list_briefcases(IMODEL).first()
    assert minimal == Briefcase(id="2", display_name="2")
    acquired = await imodels.acquire_briefcase(IMODEL, device_name="build server")
    assert (acquired.id, acquired.briefcase_id, acquired.device_name) == ("7", 7, "build server")
    (mine,) = await every(
        imodels.list_briefcases(IMODEL, owner_id="me", order_by="acquiredDateTime desc")
    )
    assert mine.id == acquired.id
    assert await imodels.get_briefcase(IMODEL, 7) == await imodels.get_briefcase(IMODEL, "7")
    theirs = await every(imodels.list_briefcases(IMODEL, owner_id=seeded[0].owner_id))
    assert "2" in {briefcase.id for briefcase in theirs}
    await imodels.release_briefcase(IMODEL, acquired.id)
    with pytest.raises(NotFoundError, match="404 BriefcaseNotFound"):
        await imodels.get_briefcase(IMODEL, 7)
    # A number is not used twice.
    assert (await imodels.acquire_briefcase(IMODEL)).briefcase_id == 8


async def test_a_user_has_so_many_briefcases(itwin):
    with pytest.raises(ConflictError, match="409 MaximumNumberOfBriefcasesPerUser"):
        for _ in range(99):
            await itwin.imodels.acquire_briefcase(IMODEL)


@pytest.mark.parametrize("code", ["MaximumNumberOfBriefcasesPerUserPerMinute", "CannotAcquire"])
async def test_briefcases_that_cannot_be_acquired(emulator, itwin, code):
    emulator.faults.add("acquire_briefcase", Status(409, code=code))
    with pytest.raises(ConflictError, match=f"409 {code}"):
        await itwin.imodels.acquire_briefcase(IMODEL)


async def test_briefcases_need_the_right_to_read_files():
    async with Emulator(users=["vic:viewer"]) as emulator:
        token = StaticToken(emulator.issue_token(user="vic"))
        async with ITwinSession(token, base_url=emulator.url) as itwin:
            with pytest.raises(ForbiddenError, match="InsufficientPermissions"):
                await itwin.imodels.list_briefcases(IMODEL).first()


async def test_locks_are_held_by_briefcases(itwin):
    imodels = itwin.imodels
    assert await every(imodels.list_locks(IMODEL)) == []
    asked = [exclusive("0x1", "0x2"), objects("shared", "0x3")]
    lock = await imodels.update_locks(IMODEL, 2, asked)
    assert (lock.briefcase_id, lock.locked_objects) == (2, tuple(asked))
    await imodels.update_locks(IMODEL, 3, [objects("shared", "0x3")])
    assert by_briefcase(await every(imodels.list_locks(IMODEL, page_size=1))) == {
        2: set(asked),
        3: {objects("shared", "0x3")},
    }
    assert by_briefcase(await every(imodels.list_locks(IMODEL, briefcase_id=3))).keys() == {3}
    (held,) = await every(imodels.list_locks(IMODEL, lock_level="exclusive"))
    assert held.locked_objects == (exclusive("0x1", "0x2"),)


async def test_locks_conflict(itwin):
    imodels = itwin.imodels
    await imodels.update_locks(IMODEL, 2, [exclusive("0x1"), objects("shared", "0x2")])
    with pytest.raises(LockConflictError, match="owned by another Briefcase") as caught:
        await imodels.update_locks(IMODEL, 3, [exclusive("0x1", "0x2", "0x9")])
    assert caught.value.conflicting_locks == (
        ConflictingLock(object_id="0x1", lock_level="exclusive", briefcase_ids=(2,)),
        ConflictingLock(object_id="0x2", lock_level="shared", briefcase_ids=(2,)),
    )
    assert by_briefcase(await every(imodels.list_locks(IMODEL))).keys() == {2}  # none was taken
    with pytest.raises(LockConflictError):
        await imodels.update_locks(IMODEL, 3, [objects("shared", "0x1")])
    # Its own lock stands against nobody.
    await imodels.update_locks(IMODEL, 2, [exclusive("0x1", "0x2")])


async def test_locks_are_released_one_by_one(itwin):
    imodels = itwin.imodels
    await imodels.update_locks(IMODEL, 2, [exclusive("0x1", "0x2")])
    at = await changeset_id(itwin, 20)
    await imodels.update_locks(IMODEL, 2, [objects("none", "0x1")], changeset_id=at)
    assert by_briefcase(await every(imodels.list_locks(IMODEL))) == {2: {exclusive("0x2")}}
    with pytest.raises(NotFoundError, match="404 LockNotFound"):
        await imodels.update_locks(IMODEL, 2, [objects("none", "0x1")])
    with pytest.raises(ConflictError, match="409 LockOwnedByAnotherBriefcase"):
        await imodels.update_locks(IMODEL, 3, [objects("none", "0x2")])
    released = await every(imodels.list_released_locks(IMODEL, 19))
    assert released == [exclusive("0x1")]
    assert await every(imodels.list_released_locks(IMODEL, 20)) == []


async def test_objects_that_were_changed_since_cannot_be_locked(itwin):
    imodels = itwin.imodels
    await imodels.update_locks(IMODEL, 2, [exclusive("0x1", "0x2")])
    await imodels.release_locks(IMODEL, 2, changeset_id=await changeset_id(itwin, 20))
    wanted = [exclusive("0x1", "0x3")]
    with pytest.raises(NewerChangesError, match="409 NewerChangesExist") as caught:
        await imodels.update_locks(IMODEL, 3, wanted, changeset_id=await changeset_id(itwin, 19))
    assert caught.value.object_ids == ("0x1",)
    await imodels.update_locks(IMODEL, 3, wanted, changeset_id=await changeset_id(itwin, 20))


async def test_all_locks_are_released_in_chunks(emulator, itwin):
    ids = [f"0x{number:x}" for number in range(250)]
    await itwin.imodels.update_locks(IMODEL, 2, [exclusive(*ids)])
    await itwin.imodels.update_locks(IMODEL, 3, [objects("shared", "0xfff")])
    await itwin.imodels.release_locks(IMODEL, 2)
    assert emulator.count("release_locks") == 3
    assert by_briefcase(await every(itwin.imodels.list_locks(IMODEL))).keys() == {3}
    await itwin.imodels.release_locks(IMODEL, 2)  # nothing is left
    assert emulator.count("release_locks") == 4


async def test_a_release_of_unknown_outcome_can_be_called_again(emulator, itwin):
    ids = [f"0x{number:x}" for number in range(150)]
    await itwin.imodels.update_locks(IMODEL, 2, [exclusive(*ids)])
    emulator.faults.add("release_locks", Status(502), after=1)
    with pytest.raises(ServerError, match="it may have been carried out"):
        await itwin.imodels.release_locks(IMODEL, 2)
    await itwin.imodels.release_locks(IMODEL, 2)
    assert await every(itwin.imodels.list_locks(IMODEL)) == []


async def test_a_cancelled_release_leaves_nothing_behind(emulator, itwin, cancel_kind):
    ids = [f"0x{number:x}" for number in range(250)]

    async def release() -> None:
        await itwin.imodels.update_locks(IMODEL, 2, [exclusive(*ids)])
        await itwin.imodels.release_locks(IMODEL, 2)

    async def check(_: int) -> None:
        assert itwin.limiter.in_use == 0

    awaits, _ = await cancelled_at_each_await(cancel_kind, release, check, step=3)
    assert awaits > 5
    assert await every(itwin.imodels.list_locks(IMODEL)) == []


async def test_a_briefcase_goes_with_its_locks(itwin):
    await itwin.imodels.update_locks(IMODEL, 2, [exclusive("0x1")])
    await itwin.imodels.release_briefcase(IMODEL, 2)
    assert await every(itwin.imodels.list_locks(IMODEL)) == []


REFUSED = {
    "a briefcase": (lambda i: i.get_briefcase(IMODEL, "99"), "BriefcaseNotFound"),
    "releasing it": (lambda i: i.release_briefcase(IMODEL, "99"), "BriefcaseNotFound"),
    "briefcases": (lambda i: i.list_briefcases(UNKNOWN).first(), "iModelNotFound"),
    "acquiring": (lambda i: i.acquire_briefcase(UNKNOWN), "iModelNotFound"),
    "locks": (lambda i: i.list_locks(UNKNOWN).first(), "iModelNotFound"),
    "locks of no briefcase": (
        lambda i: i.update_locks(IMODEL, 99, [exclusive("0x1")]),
        "BriefcaseNotFound",
    ),
    "locks at no changeset": (
        lambda i: i.update_locks(IMODEL, 2, [exclusive("0x1")], changeset_id="f" * 40),
        "ChangesetNotFound",
    ),
    "releases": (lambda i: i.release_locks(IMODEL, 99), "BriefcaseNotFound"),
    "released locks": (lambda i: i.list_released_locks(UNKNOWN, 0).first(), "iModelNotFound"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_unknown_is_not_found(itwin, name):
    use, code = REFUSED[name]
    with pytest.raises(NotFoundError, match=f"404 {code}"):
        await use(itwin.imodels)


WRONG = {
    "no objects": (lambda i: i.update_locks(IMODEL, 2, []), ValueError),
    "text": (lambda i: i.update_locks(IMODEL, 2, "0x1"), TypeError),
    "one": (lambda i: i.update_locks(IMODEL, 2, exclusive("0x1")), TypeError),
    "a dict": (lambda i: i.update_locks(IMODEL, 2, [{"lockLevel": "shared"}]), TypeError),
    "number": (lambda i: i.update_locks(IMODEL, 2, 5), TypeError),
    "a level": (lambda i: i.update_locks(IMODEL, 2, [objects("odd", "0x1")]), ValueError),
    "no ids": (lambda i: i.update_locks(IMODEL, 2, [exclusive()]), ValueError),
    "an id": (lambda i: i.update_locks(IMODEL, 2, [exclusive("")]), ValueError),
    "a briefcase": (lambda i: i.update_locks(IMODEL, "2", [exclusive("0x1")]), TypeError),
    "zero": (lambda i: i.release_locks(IMODEL, 0), ValueError),
    "a level to list": (lambda i: i.list_locks(IMODEL, lock_level="odd"), ValueError),
    "an index": (lambda i: i.list_released_locks(IMODEL, -1), ValueError),
    "an owner": (lambda i: i.list_briefcases(IMODEL, owner_id=5), TypeError),
    "a device": (lambda i: i.acquire_briefcase(IMODEL, device_name="x" * 256), ValueError),
}


@pytest.mark.parametrize(("use", "error"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_is_refused_unsent(emulator, itwin, use, error):
    with pytest.raises(error) as caught:
        await use(itwin.imodels)
    assert len(str(caught.value).splitlines()) == 1
    assert not emulator.requests


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "locks", {"lockedObjects": []}),
        ("PATCH", "locks", {"briefcaseId": 2}),
        ("PATCH", "locks", {"briefcaseId": 2, "lockedObjects": [5]}),
        (
            "PATCH",
            "locks",
            {"briefcaseId": 2, "lockedObjects": [{"lockLevel": "odd", "objectIds": []}]},
        ),
        (
            "PATCH",
            "locks",
            {"briefcaseId": 2, "lockedObjects": [{"lockLevel": "shared", "objectIds": ["5"]}]},
        ),
        ("POST", "locks/release-chunk", {}),
        ("GET", "locks?lockLevel=odd", None),
        ("GET", "locks?briefcaseId=x", None),
        ("GET", "locks/released-locks?afterChangesetIndex=x", None),
        ("GET", "briefcases?$orderBy=size", None),
        ("POST", "briefcases", {"deviceName": 5}),
    ],
)
async def test_the_platform_refuses_bad_requests(itwin, method, path, body):
    more = {} if body is None else {"body": body}
    path, _, pair = path.partition("?")
    if pair:
        more["query"] = dict([pair.split("=")])
    with pytest.raises(InvalidRequestError, match="422 InvalidiModelsRequest") as caught:
        await itwin.request(method, f"/imodels/{IMODEL}/{path}", version="v2", **more)
    assert caught.value.details[0].message
