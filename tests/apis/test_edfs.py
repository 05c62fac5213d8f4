"""EDFS besides packages: external systems, timers, and the roles of packages."""

import pytest
from known import ACCOUNT, ITWIN, UNKNOWN, every

from itwin_async import ConflictError, InvalidRequestError, NotFoundError

PACKAGE = "SQL_CUSTOMERS_TABLE"
SECRET = "canary-password-5512"


def create_system(itwin, name="Customers", **options):
    return itwin.packages.create_system(
        ITWIN,
        name,
        **{
            "system_id": "dev_sql_server",
            "system_type": "EDF.Sql",
            "credentials": {"User": "a", "Password": SECRET, "Encrypt": "false"},
            **options,
        },
    )


def create_timer(itwin, **options):
    return itwin.packages.create_timer(ITWIN, "Mondays", PACKAGE, "0 6 * * 1", **options)


async def test_a_system_is_added_listed_and_deleted(emulator, itwin):
    created = await create_system(itwin)
    assert created.system_name == "Customers"
    assert emulator.requests[-1].body.count(SECRET.encode()) == 1
    (found,) = await every(itwin.packages.list_systems(ITWIN))
    assert (found.id, found.system_type) == (created.id, "EDF.Sql")
    assert found.last_change.tzinfo is not None
    with pytest.raises(ConflictError, match="SystemExists") as caught:
        await create_system(itwin)
    assert SECRET not in str(caught.value)
    await itwin.packages.delete_system(ITWIN, created.id)
    assert await every(itwin.packages.list_systems(ITWIN)) == []


async def test_a_timer_is_added_toggled_and_deleted(itwin):
    created = await create_timer(itwin, parameters={"CustomerID": "ACME"})
    assert (created.cron_str, created.enabled) == ("0 6 * * 1", True)
    assert [(one.name, one.value) for one in created.parameters] == [("CustomerID", "ACME")]
    assert (await itwin.packages.toggle_timer(ITWIN, created.id)).enabled is False
    (found,) = await every(itwin.packages.list_timers(ITWIN))
    assert found.enabled is False
    assert (await itwin.packages.toggle_timer(ITWIN, created.id)).enabled is True
    assert (await create_timer(itwin, enabled=False)).enabled is False
    await itwin.packages.delete_timer(ITWIN, created.id)
    assert created.id not in {timer.id for timer in await every(itwin.packages.list_timers(ITWIN))}


async def test_a_role_gets_a_package_role(itwin):
    (role,) = await every(itwin.packages.list_package_roles())
    assert await every(itwin.packages.list_role_assignments(ITWIN, PACKAGE)) == []
    (added,) = await itwin.packages.add_role_assignments(ITWIN, PACKAGE, {ACCOUNT: [role.role_id]})
    assert added.itwin_role_id == ACCOUNT
    assert [one.package_role_id for one in added.package_roles] == [role.role_id]
    assert await every(itwin.packages.list_role_assignments(ITWIN, PACKAGE)) == [added]


REFUSED = {
    "SystemListNotFound": (lambda p: p.list_systems(UNKNOWN).first(), NotFoundError),
    "InvalidSystemListRequest": (lambda p: p.list_systems("odd").first(), InvalidRequestError),
    "SystemNotFound": (lambda p: p.delete_system(ITWIN, UNKNOWN), NotFoundError),
    "InvalidSystemRequest": (lambda p: p.delete_system(ITWIN, "odd"), InvalidRequestError),
    "TimerListNotFound": (lambda p: p.list_timers(UNKNOWN).first(), NotFoundError),
    "InvalidTimerListRequest": (lambda p: p.list_timers("odd").first(), InvalidRequestError),
    "TimerNotFound of a toggle": (lambda p: p.toggle_timer(ITWIN, UNKNOWN), NotFoundError),
    "TimerNotFound": (lambda p: p.delete_timer(ITWIN, UNKNOWN), NotFoundError),
    "InvalidTimerRequest": (
        lambda p: p.create_timer(ITWIN, "n", PACKAGE, "now"),
        InvalidRequestError,
    ),
    "InvalidTimerRequest of a package": (
        lambda p: p.create_timer(ITWIN, "n", "NONE", "0 6 * * 1"),
        InvalidRequestError,
    ),
    "AssignmentListNotFound": (
        lambda p: p.list_role_assignments(ITWIN, "NONE").first(),
        NotFoundError,
    ),
    "AssignmentListNotFound of adding": (
        lambda p: p.add_role_assignments(UNKNOWN, PACKAGE, {ACCOUNT: [ACCOUNT]}),
        NotFoundError,
    ),
    "InvalidAssignmentListRequest": (
        lambda p: p.add_role_assignments(ITWIN, PACKAGE, {ACCOUNT: [UNKNOWN]}),
        InvalidRequestError,
    ),
    "InvalidAssignmentListRequest of a role": (
        lambda p: p.add_role_assignments(ITWIN, PACKAGE, {"odd": [UNKNOWN]}),
        InvalidRequestError,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_documented_refusal_is_told_with_its_code(itwin, name):
    use, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        await use(itwin.packages)
    assert caught.value.code == name.partition(" ")[0]


WRONG = {
    "name": (lambda i: create_system(i, ""), ValueError),
    "system_id": (lambda i: create_system(i, system_id=5), TypeError),
    "system_type": (lambda i: create_system(i, system_type=" "), ValueError),
    "credentials": (lambda i: create_system(i, credentials=[SECRET]), TypeError),
    "credentials name": (lambda i: create_system(i, credentials={"": SECRET}), ValueError),
    "credentials value": (lambda i: create_system(i, credentials={"a": 5}), TypeError),
    "cron": (lambda i: i.packages.create_timer(ITWIN, "n", "P", ""), ValueError),
    "enabled": (lambda i: create_timer(i, enabled=1), TypeError),
    "parameters": (lambda i: create_timer(i, parameters=["a"]), TypeError),
    "assignments": (lambda i: i.packages.add_role_assignments(ITWIN, "P", ["a"]), TypeError),
    "no assignments": (lambda i: i.packages.add_role_assignments(ITWIN, "P", {}), ValueError),
    "one text": (lambda i: i.packages.add_role_assignments(ITWIN, "P", {"a": "b"}), TypeError),
    "no role": (lambda i: i.packages.add_role_assignments(ITWIN, "P", {"": ["b"]}), ValueError),
    "no id": (lambda i: i.packages.add_role_assignments(ITWIN, "P", {"a": [5]}), TypeError),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_argument_that_cannot_be_is_refused_unsent(emulator, itwin, name):
    use, kind = WRONG[name]
    with pytest.raises(kind) as caught:
        await use(itwin)
    assert SECRET not in str(caught.value)
    assert not emulator.requests
