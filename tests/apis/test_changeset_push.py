"""Pushing changesets: announced, uploaded without the token, confirmed."""

import pytest
from known import IMODEL, UNKNOWN, every
from support import cancelled_at_each_await

from itwin_async import (
    ConflictError,
    ForbiddenError,
    ITwinSession,
    NewerChangesError,
    NotFoundError,
    ResponseError,
    StaticToken,
    SynchronizationInfo,
    UploadProgress,
)
from itwin_async.emulator import Edit, Emulator, Reset, Status

ID = "ab" * 20
CONTENT = bytes(range(256)) * 2_000


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "changeset.cs"
    file.write_bytes(CONTENT)
    return file


async def last_id(itwin):
    return (await itwin.imodels.list_changesets(IMODEL, order="desc").first()).id


async def push(itwin, path, **given):
    parent_id = await last_id(itwin)
    given = {"changeset_id": ID, "briefcase_id": 2, "parent_id": parent_id, **given}
    return await itwin.imodels.push_changeset(IMODEL, path, **given)


async def announce(itwin, **given):
    parent_id = await last_id(itwin)
    given = {
        "changeset_id": ID,
        "briefcase_id": 2,
        "file_size": 3,
        "parent_id": parent_id,
        **given,
    }
    return await itwin.imodels.create_changeset(IMODEL, **given)


def files(emulator):
    return emulator._state.storage.find(IMODEL, f"changesets/{ID}.cs")


async def test_a_changeset_is_pushed(emulator, itwin, path, tmp_path):
    group = await itwin.imodels.create_changeset_group(IMODEL, "Tonight")
    run = SynchronizationInfo(task_id="t", changed_files=("A.dgn",))
    seen: list[UploadProgress] = []
    pushed = await push(
        itwin,
        path,
        description="By hand",
        containing_changes=5,
        synchronization_info=run,
        group_id=group.id,
        on_progress=seen.append,
    )
    assert (pushed.id, pushed.index, pushed.state) == (ID, 26, "fileUploaded")
    assert pushed.synchronization_info is pushed.links.download is None
    found = await itwin.imodels.get_changeset(IMODEL, ID)
    assert (found.description, found.containing_changes, found.group_id) == (
        "By hand",
        5,
        group.id,
    )
    assert (found.synchronization_info, found.file_size) == (run, len(CONTENT))
    assert found.links.download.href
    assert emulator.now.timestamp() - found.push_date_time.timestamp() < 60
    downloaded = await itwin.imodels.download_changeset(IMODEL, 26, tmp_path / "down")
    assert downloaded.read_bytes() == CONTENT
    assert seen[-1].bytes_done == len(CONTENT)
    (upload,) = (request for request in emulator.requests if request.operation == "upload")
    assert "Authorization" not in upload.headers
    assert upload.headers["x-ms-blob-type"] == "BlockBlob"
    locked = [request.operation for request in emulator.requests if request.method != "GET"]
    assert locked[-3:] == ["create_changeset", "upload", "confirm_changeset"]


async def test_google_gets_the_file_too(path):
    async with (
        Emulator(changesets=25, storage_type="google") as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
    ):
        assert (await push(itwin, path)).index == 26
        assert files(emulator).content == CONTENT


async def test_the_first_changeset_has_no_parent(emulator, itwin, path):
    imodel_id = emulator.add_imodel()
    briefcase = await itwin.imodels.acquire_briefcase(imodel_id)
    number = briefcase.briefcase_id
    for parent_id, id in [(None, ID), (ID, "cd" * 20)]:
        pushed = await itwin.imodels.push_changeset(
            imodel_id, path, id, number, parent_id=parent_id
        )
    assert (pushed.index, pushed.parent_id) == (2, ID)
    again = await itwin.imodels.confirm_changeset(imodel_id, ID, number)
    assert again.index == 1  # confirming twice does no harm


async def test_an_upload_that_fails_is_sent_again(emulator, itwin, path):
    emulator.faults.add("upload", Reset())
    emulator.faults.add("upload", Status(503))
    assert (await push(itwin, path)).index == 26
    assert emulator.count("upload") == 3
    assert files(emulator).content == CONTENT


async def test_a_storage_that_refuses_ends_the_push(emulator, itwin, path):
    emulator.faults.add("upload", Status(403, body=b"<Error/>"), times=None)
    with pytest.raises(ResponseError) as caught:
        await push(itwin, path)
    assert "sig=" not in str(caught.value)
    assert emulator.count("confirm_changeset") == 0
    emulator.faults.clear()
    assert (await push(itwin, path)).index == 26  # announced anew


async def test_newer_changesets_than_the_parent(emulator, itwin, path):
    parent_id = await last_id(itwin)
    emulator.push_changeset(IMODEL)
    with pytest.raises(NewerChangesError, match="409 NewerChangesExist"):
        await push(itwin, path, parent_id=parent_id)
    assert emulator.count("upload") == 0


async def test_a_changeset_that_exists(itwin, path):
    await push(itwin, path)
    with pytest.raises(ConflictError, match="409 ChangesetExists"):
        await push(itwin, path)


async def test_another_user_is_pushing(path):
    async with Emulator(changesets=25, users=["ada"]) as emulator:
        token = StaticToken(emulator.issue_token(user="ada"))
        async with (
            ITwinSession(token, base_url=emulator.url) as hers,
            ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
        ):
            await announce(hers)
            with pytest.raises(ConflictError, match="409 AnotherUserPushing"):
                await push(itwin, path, changeset_id="cd" * 20)
            emulator.advance(3601)  # she never confirms
            pushed = await push(itwin, path, changeset_id="cd" * 20)
            with pytest.raises(NotFoundError, match="404 ChangesetNotFound"):
                await hers.imodels.confirm_changeset(IMODEL, ID, 2)
            assert (await push(hers, path)).parent_id == pushed.id


async def test_a_push_of_the_test_itself_comes_between(emulator, itwin):
    await announce(itwin)
    emulator.push_changeset(IMODEL)
    emulator._state.storage.put(IMODEL, f"changesets/{ID}.cs", b"new")
    pushed = await itwin.imodels.confirm_changeset(IMODEL, ID, 2)
    assert (pushed.index, pushed.parent_id) == (27, emulator.changeset_id(IMODEL, 26))


async def test_a_confirmation_needs_the_file(itwin, emulator):
    announced = await announce(itwin)
    assert (announced.state, announced.links.upload.storage_type) == ("waitingForFile", "azure")
    assert "sig=" not in repr(announced) + repr(announced.links) + announced.links._repr_html_()
    assert ID not in [item.id for item in await every(itwin.imodels.list_changesets(IMODEL))]
    with pytest.raises(NotFoundError, match="404 FileNotFound"):
        await itwin.imodels.confirm_changeset(IMODEL, ID, 2)
    emulator._state.storage.put(IMODEL, f"changesets/{ID}.cs", b"four")
    with pytest.raises(ConflictError, match="409 DataConflict"):
        await itwin.imodels.confirm_changeset(IMODEL, ID, 2)
    with pytest.raises(ResponseError, match="422 InvalidiModelsRequest: Cannot update"):
        await itwin.imodels.confirm_changeset(IMODEL, ID, 3)


REFUSED = {
    "an iModel": (
        lambda i: i.create_changeset(UNKNOWN, ID, 2, 3),
        "iModelNotFound",
    ),
    "a briefcase": (lambda i: i.create_changeset(IMODEL, ID, 99, 3), "BriefcaseNotFound"),
    "a group": (
        lambda i: i.create_changeset(IMODEL, ID, 2, 3, group_id=UNKNOWN),
        "ChangesetGroupNotFound",
    ),
    "a changeset": (lambda i: i.confirm_changeset(IMODEL, ID, 2), "ChangesetNotFound"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_unknown_is_not_found(itwin, name):
    use, code = REFUSED[name]
    with pytest.raises(NotFoundError, match=f"404 {code}"):
        await use(itwin.imodels)


WRONG = {
    "an id": ({"changeset_id": "abc"}, ValueError, "40 hexadecimal digits"),
    "bytes": ({"changeset_id": b"abc"}, TypeError, "changeset_id must be a str"),
    "a parent": ({"parent_id": "abc"}, ValueError, "parent_id must have 40 hexadecimal digits"),
    "a briefcase": ({"briefcase_id": 0}, ValueError, "briefcase_id must be at least 1"),
    "flags": ({"containing_changes": -1}, ValueError, "containing_changes must be at least 0"),
    "a text": ({"description": "x" * 256}, ValueError, "description"),
    "a run": ({"synchronization_info": {}}, TypeError, "must be a SynchronizationInfo"),
    "no task": ({"synchronization_info": SynchronizationInfo()}, ValueError, "needs a task_id"),
    "a group": ({"group_id": ""}, ValueError, "group_id must not be empty"),
    "a callback": ({"on_progress": 5}, TypeError, "on_progress"),
}


@pytest.mark.parametrize(("given", "error", "sentence"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_is_refused_unsent(emulator, itwin, path, given, error, sentence):
    every_given = {"changeset_id": ID, "briefcase_id": 2, **given}
    with pytest.raises(error, match=sentence):
        await itwin.imodels.push_changeset(IMODEL, path, **every_given)
    assert not emulator.requests


async def test_a_file_that_cannot_be_read(emulator, itwin, tmp_path):
    with pytest.raises(FileNotFoundError):
        await itwin.imodels.push_changeset(IMODEL, tmp_path / "none", ID, 2)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty"):
        await itwin.imodels.push_changeset(IMODEL, tmp_path / "empty", ID, 2)
    assert not emulator.requests


async def test_an_upload_link_that_is_missing(emulator, itwin, path):
    def without_upload(body):
        body["changeset"]["_links"].pop("upload")

    emulator.faults.add("create_changeset", Edit(without_upload))
    with pytest.raises(Exception, match="https URL"):
        await push(itwin, path)


async def test_a_push_without_the_right(path):
    async with Emulator(users=["ray:reader"]) as emulator:
        token = StaticToken(emulator.issue_token(user="ray"))
        async with ITwinSession(token, base_url=emulator.url) as itwin:
            with pytest.raises(ForbiddenError, match="InsufficientPermissions"):
                await itwin.imodels.push_changeset(IMODEL, path, ID, 2)


async def test_a_cancelled_push_leaves_nothing_behind(emulator, itwin, path, cancel_kind):
    parent_id, imodel = await last_id(itwin), emulator._state.imodels[IMODEL]

    async def check(_: int) -> None:
        assert itwin.limiter.in_use == 0
        imodel.pushed.clear()
        imodel.pending = None

    awaits, pushed = await cancelled_at_each_await(
        cancel_kind, lambda: push(itwin, path, parent_id=parent_id), check, step=3
    )
    assert awaits > 5
    assert pushed.index == 26
