"""Named versions, changeset groups and checkpoints, against the emulator."""

import json

import aiohttp
import pytest
from known import IMODEL, UNKNOWN, every

from itwin_async import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    ITwinSession,
    NotFoundError,
    StaticToken,
    plain,
)
from itwin_async.emulator import Emulator, Status


async def named(itwin, index=5, name="Tender", **more):
    changeset = await itwin.imodels.get_changeset(IMODEL, index)
    return await itwin.imodels.create_named_version(IMODEL, name, changeset_id=changeset.id, **more)


async def test_named_versions_are_listed_filtered_and_sorted(itwin):
    imodels = itwin.imodels
    found = await every(imodels.list_named_versions(IMODEL, page_size=2, representation=True))
    assert [version.changeset_index for version in found] == [1, 11, 21]
    assert all(version.links.creator.href and version.created_date_time.tzinfo for version in found)
    minimal = await imodels.list_named_versions(IMODEL).first()
    assert (minimal.id, minimal.display_name) == (found[0].id, "Milestone 1")
    assert minimal.state is None
    newest = await imodels.list_named_versions(IMODEL, order_by="changesetIndex desc").first()
    assert newest.changeset_index == 21
    hidden = await every(imodels.list_named_versions(IMODEL, state="hidden"))
    assert 0 < len(hidden) < len(found)
    (only,) = await every(imodels.list_named_versions(IMODEL, name="Milestone 2"))
    assert await imodels.get_named_version(IMODEL, only.id) == found[1]
    assert len(await every(imodels.list_named_versions(IMODEL, search="STEP 3"))) == 1


async def test_a_named_version_is_made_and_changed(itwin):
    created = await named(itwin, 5, description="As sent")
    assert (created.name, created.description, created.changeset_index) == ("Tender", "As sent", 5)
    assert created.state == "visible"
    changeset = await itwin.imodels.get_changeset(IMODEL, 5)
    assert changeset.links.named_version.href.endswith(created.id)
    changed = await itwin.imodels.update_named_version(
        IMODEL, created.id, name="Bid", state="hidden", description=""
    )
    assert (changed.name, changed.state, changed.description) == ("Bid", "hidden", "")
    assert changed in await every(itwin.imodels.list_named_versions(IMODEL, representation=True))
    baseline = await itwin.imodels.create_named_version(IMODEL, "Start")
    assert (baseline.changeset_id, baseline.changeset_index) == (None, 0)
    assert baseline.links.changeset is None


async def test_a_changeset_has_one_named_version(itwin):
    await named(itwin)
    with pytest.raises(ConflictError, match="409 NamedVersionOnChangesetExists"):
        await named(itwin, name="Other")
    with pytest.raises(ConflictError, match="409 NamedVersionExists"):
        await named(itwin, 6)
    other = await named(itwin, 7, "Other")
    with pytest.raises(ConflictError, match="409 NamedVersionExists"):
        await itwin.imodels.update_named_version(IMODEL, other.id, name="Tender")
    await itwin.imodels.update_named_version(IMODEL, other.id, name="Other")  # its own


REFUSED = {
    "a named version": (lambda i: i.get_named_version(IMODEL, UNKNOWN), "NamedVersionNotFound"),
    "an update": (
        lambda i: i.update_named_version(IMODEL, UNKNOWN, state="hidden"),
        "NamedVersionNotFound",
    ),
    "a name for a changeset": (
        lambda i: i.create_named_version(IMODEL, "a", changeset_id="f" * 40),
        "ChangesetNotFound",
    ),
    "a name in an iModel": (lambda i: i.create_named_version(UNKNOWN, "a"), "iModelNotFound"),
    "versions": (lambda i: i.list_named_versions(UNKNOWN).first(), "iModelNotFound"),
    "a group": (lambda i: i.get_changeset_group(IMODEL, UNKNOWN), "ChangesetGroupNotFound"),
    "closing a group": (
        lambda i: i.update_changeset_group(IMODEL, UNKNOWN),
        "ChangesetGroupNotFound",
    ),
    "groups": (lambda i: i.list_changeset_groups(UNKNOWN).first(), "iModelNotFound"),
    "a new group": (lambda i: i.create_changeset_group(UNKNOWN, "a"), "iModelNotFound"),
    "a checkpoint": (lambda i: i.get_changeset_checkpoint(IMODEL, 999), "ChangesetNotFound"),
    "a named checkpoint": (
        lambda i: i.get_named_version_checkpoint(IMODEL, UNKNOWN),
        "NamedVersionNotFound",
    ),
    "generating it": (lambda i: i.generate_checkpoint(IMODEL, UNKNOWN), "NamedVersionNotFound"),
    "the latest checkpoint": (lambda i: i.get_latest_checkpoint(UNKNOWN), "iModelNotFound"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_unknown_is_not_found(itwin, name):
    use, code = REFUSED[name]
    with pytest.raises(NotFoundError, match=f"404 {code}"):
        await use(itwin.imodels)


@pytest.mark.parametrize(
    ("use", "error", "sentence"),
    [
        (lambda i: i.create_named_version(IMODEL, " "), ValueError, "name must not be empty"),
        (lambda i: i.create_named_version(IMODEL, "n" * 256), ValueError, "name"),
        (lambda i: i.create_named_version(IMODEL, "n", changeset_id=""), ValueError, "changeset"),
        (lambda i: i.update_named_version(IMODEL, UNKNOWN), ValueError, "nothing to change"),
        (
            lambda i: i.update_named_version(IMODEL, UNKNOWN, state="gone"),
            ValueError,
            "visible, hidden",
        ),
        (lambda i: i.list_named_versions(IMODEL, state="gone"), ValueError, "visible, hidden"),
        (lambda i: i.list_named_versions(IMODEL, page_size=1001), ValueError, "page_size"),
        (lambda i: i.create_changeset_group(IMODEL, ""), ValueError, "description"),
        (lambda i: i.update_changeset_group(IMODEL, "a", state="open"), ValueError, "completed"),
    ],
)
async def test_what_cannot_be_is_refused_unsent(emulator, itwin, use, error, sentence):
    with pytest.raises(error, match=sentence):
        result = use(itwin.imodels)
        await result
    assert not emulator.requests


async def test_the_platform_refuses_bad_bodies(itwin):
    for path, body in [
        ("namedversions", {"name": "x" * 256}),
        ("namedversions", {"name": " "}),
        ("namedversions", {}),
        ("changesetgroups", {}),
    ]:
        with pytest.raises(InvalidRequestError, match="422 InvalidiModelsRequest: Cannot create"):
            await itwin.request("POST", f"/imodels/{IMODEL}/{path}", body=body, version="v2")
    version = await itwin.imodels.list_named_versions(IMODEL).first()
    group = await itwin.imodels.list_changeset_groups(IMODEL).first()
    for path, body in [
        (f"namedversions/{version.id}", {}),
        (f"namedversions/{version.id}", {"state": "gone"}),
        (f"changesetgroups/{group.id}", {"state": "inProgress"}),
    ]:
        with pytest.raises(InvalidRequestError, match="422 InvalidiModelsRequest: Cannot update"):
            await itwin.request("PATCH", f"/imodels/{IMODEL}/{path}", body=body, version="v2")


async def test_groups_lead_from_changesets_to_runs(itwin):
    groups = await every(itwin.imodels.list_changeset_groups(IMODEL, page_size=2))
    assert len(groups) == 3
    changesets = await every(itwin.imodels.list_changesets(IMODEL))
    assert {changeset.group_id for changeset in changesets} == {None, *(g.id for g in groups)}
    assert sum(changeset.group_id == groups[0].id for changeset in changesets) == 5
    created = await itwin.imodels.create_changeset_group(IMODEL, "Tonight")
    assert (created.state, created.description) == ("inProgress", "Tonight")
    closed = await itwin.imodels.update_changeset_group(IMODEL, created.id)
    assert closed.state == "completed"
    assert await itwin.imodels.get_changeset_group(IMODEL, created.id) == closed


async def test_a_checkpoint_is_the_one_at_or_before(itwin):
    imodels = itwin.imodels
    for changeset, expected in [(1, 1), (10, 1), (11, 11), (25, 21)]:
        checkpoint = await imodels.get_changeset_checkpoint(IMODEL, changeset)
        assert (checkpoint.changeset_index, checkpoint.state) == (expected, "successful")
        assert checkpoint.directory_access_info.azure.sas_token
    assert checkpoint.size > 0
    assert await imodels.get_latest_checkpoint(IMODEL)
    version = await imodels.list_named_versions(IMODEL).first()
    found = await imodels.get_named_version_checkpoint(IMODEL, version.id)
    assert found.changeset_index == version.changeset_index
    async with (
        aiohttp.ClientSession() as plain_http,
        plain_http.get(found.links.download.href) as response,
    ):
        assert len(await response.read()) == found.size


async def test_a_new_checkpoint_is_generated(emulator, itwin):
    version = await named(itwin, 5)
    scheduled = await itwin.imodels.get_named_version_checkpoint(IMODEL, version.id)
    assert (scheduled.state, scheduled.size) == ("scheduled", 0)
    assert scheduled.directory_access_info is scheduled.links.download is None
    assert (await itwin.imodels.get_changeset_checkpoint(IMODEL, 6)).state == "successful"
    emulator._state.imodels[IMODEL].checkpoints[5] = "failed"
    assert (await itwin.imodels.get_changeset_checkpoint(IMODEL, 6)).state == "failed"
    again = await itwin.imodels.generate_checkpoint(IMODEL, version.id)
    assert again.state == "scheduled"
    request = emulator.requests[-1]
    assert (request.method, request.body) == ("PUT", b"")


async def test_an_imodel_without_changesets_has_a_checkpoint(emulator, itwin):
    checkpoint = await itwin.imodels.get_latest_checkpoint(emulator.add_imodel())
    assert (checkpoint.changeset_index, checkpoint.state) == (0, "successful")


async def test_a_missing_checkpoint_is_told(emulator, itwin):
    emulator.faults.add("get_latest_checkpoint", Status(404, code="CheckpointNotFound"))
    with pytest.raises(NotFoundError, match="404 CheckpointNotFound"):
        await itwin.imodels.get_latest_checkpoint(IMODEL)


async def test_a_checkpoint_needs_the_right_to_read_files():
    async with Emulator(users=["vic:viewer"]) as emulator:
        token = StaticToken(emulator.issue_token(user="vic"))
        async with ITwinSession(token, base_url=emulator.url) as itwin:
            assert await itwin.imodels.list_named_versions(IMODEL).first()
            with pytest.raises(ForbiddenError, match="InsufficientPermissions"):
                await itwin.imodels.get_latest_checkpoint(IMODEL)


@pytest.mark.parametrize("kind", ["azure", "google"])
async def test_nothing_shows_the_access_to_a_checkpoint(kind):
    async with (
        Emulator(storage_type=kind) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        checkpoint = await itwin.imodels.get_latest_checkpoint(IMODEL)
        access = getattr(checkpoint.directory_access_info, kind)
        secret = access.sas_token if kind == "azure" else access.authorization
        signature = secret.rpartition("=")[2]
        shown = "".join(
            show(value)
            for value in (checkpoint, checkpoint.directory_access_info, access, checkpoint.links)
            for show in (repr, lambda value: value._repr_html_(), lambda value: str(plain(value)))
        )
        assert signature
        assert signature not in shown
        assert signature in json.dumps(plain(checkpoint, signed_links=True))
