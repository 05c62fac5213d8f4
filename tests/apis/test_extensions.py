"""Operations of extensions against the emulated platform."""

import pytest
from known import ACCOUNT, every, first

from itwin_async import (
    ITwinSession,
    NotFoundError,
    Retry,
    ServerError,
)
from itwin_async.emulator import Reset, Status


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
    extension = await itwin.extensions.create_extension("n", ACCOUNT, description="d")
    assert (extension.name, extension.description, extension.itwin_id) == ("n", "d", ACCOUNT)
    found = await every(itwin.extensions.list_extensions(itwin_id=ACCOUNT))
    assert extension.id in {item.id for item in found}


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


async def test_create_extension_is_not_repeated_when_its_outcome_is_unknown(emulator):
    emulator.faults.add("create_extension", Status(500), times=None)
    retry = Retry(attempts=9, base=0)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        with pytest.raises(ServerError, match="may have been carried out"):
            await itwin.extensions.create_extension("n", ACCOUNT)
    assert emulator.count("create_extension") == 1
