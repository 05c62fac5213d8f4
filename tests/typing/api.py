"""Never run: what mypy and pyright, both strict, make of the public names."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_type
from uuid import UUID

import msgspec

from itwin_async import (
    Answered,
    Changeset,
    ClientCredentials,
    ConflictingLock,
    DownloadedVersion,
    EntitySet,
    ErrorDetail,
    Event,
    ExtendedData,
    Extension,
    ExtensionFile,
    ExtensionVersion,
    IModel,
    IModelOrigin,
    IModelUser,
    IntegrationPackage,
    ITwin,
    ITwinError,
    ITwinSession,
    Limiter,
    LockConflictError,
    Merged,
    NotFoundError,
    PackageTimer,
    Page,
    Pager,
    PayloadError,
    RateLimitError,
    ResponseError,
    Retry,
    StaticToken,
    Stats,
    Token,
    TokenProvider,
    TransportError,
    Webhook,
    merged,
    plain,
)
from itwin_async.sync import ChangeFeed, Row, Synced, sync_extended_data
from itwin_async.webhooks import ChangesReady, WebhookEvent, verify


class Files(msgspec.Struct):
    """A payload."""

    task_id: str


class Other(msgspec.Struct):
    """Another one."""

    x: int


async def from_nowhere() -> str:
    """An async callable is a provider."""
    return "t"


def listen(event: Event) -> None:
    """An event is one of four things."""
    assert_type(event.__class__.__name__, str)


def sessions() -> None:
    """All ways of making one."""
    provider: TokenProvider = ClientCredentials("id", "secret", token_url=None, scope="x")
    provider = StaticToken("t")
    ITwinSession(provider)
    ITwinSession(from_nowhere, base_url="https://qa-api.bentley.com", on_event=listen)
    limiter = Limiter(4, per_minute=500, per_hour=5_000)
    session = ITwinSession.from_env(limiter=limiter, retry=Retry(2, base=1), timeout=5.0)
    assert_type(session, ITwinSession)
    assert_type(session.limiter, Limiter)
    assert_type(session.stats, Stats)
    assert_type(session.stats.requests, int)
    assert_type(session.closed, bool)
    assert_type(Token("t").expires_in, float | None)
    ITwinSession("t")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ITwinSession.from_env(tiemout=5.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retry(2, 0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def imodels(itwin: ITwinSession) -> None:
    """The operations of an API that is imported on first use have their types."""
    assert_type(await itwin.imodels.create_imodel("a", "b", extent=None), IModel)
    assert_type(await itwin.imodels.create_imodel_from_baseline("a", "b", Path("c")), IModel)
    assert_type(await itwin.imodels.clone_imodel("a", "b", changeset=3), IModel)
    assert_type((await itwin.imodels.get_creation("a")).forked_from, IModelOrigin | None)
    assert_type(itwin.imodels.list_favorites("a"), Pager[IModel])
    assert_type(itwin.imodels.list_users("a"), Pager[IModelUser])
    assert_type(await itwin.imodels.get_permissions("a"), frozenset[str])
    assert_type((await itwin.imodels.get_thumbnail("a")).data, bytes)
    assert_type(itwin.packages.list_timers("a"), Pager[PackageTimer])
    try:
        await itwin.imodels.delete_imodel("a")
    except LockConflictError as error:
        assert_type(error.conflicting_locks, tuple[ConflictingLock, ...])
    itwin.imodels.list_favorits("a")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def lists(itwin: ITwinSession) -> None:
    """A list is a value that is not awaited."""
    extensions = itwin.extensions.list_extensions(itwin_id="a", page_size=5)
    assert_type(extensions, Pager[Extension])
    assert_type(itwin.extensions.list_versions("a"), Pager[ExtensionVersion])
    assert_type(itwin.imodels.list_imodels("a"), Pager[IModel])
    assert_type(itwin.imodels.list_changesets("a", order="asc"), Pager[Changeset])
    assert_type(itwin.packages.list_packages(), Pager[IntegrationPackage])
    assert_type(itwin.itwins.list_itwins(type="a", query_scope="all"), Pager[ITwin])
    itwin.itwins.list_itwins(query_scope="mine")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(itwin.packages.list_entity_sets("a", "P"), Pager[EntitySet])
    assert_type(itwin.packages.list_entities("a", "P", "S"), Pager[dict[str, Any]])
    assert_type(itwin.packages.list_entities("a", "P", "S", None), Pager[dict[str, Any]])
    assert_type(itwin.packages.list_entities("a", "P", "S", Files, select="x"), Pager[Files])
    assert_type(extensions.ahead(3), Pager[Extension])
    assert_type(extensions.resume("cursor"), Pager[Extension])
    assert_type(extensions.take(3), Pager[Extension])
    assert_type(await extensions.first(), Extension | None)
    async for extension in extensions:
        assert_type(extension, Extension)
        assert_type(extension.itwin_id, str | None)
    async for page in extensions.pages():
        assert_type(page, Page[Extension])
        assert_type(page.items, list[Extension])
        assert_type(page.next_url, str | None)
        for item in page:
            assert_type(item, Extension)
    async with aiter(extensions) as items:
        assert_type(items.cursor, str)
        assert_type(await anext(items), Extension)
        usual: AsyncIterator[Extension] = items
        assert_type(await anext(usual), Extension)
    await extensions  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


async def single(itwin: ITwinSession) -> None:
    """Everything else is awaited."""
    assert_type(await itwin.extensions.create_extension("n", "i", description="d"), Extension)
    version = await itwin.extensions.get_version("a", "1.0.0")
    assert_type(version, ExtensionVersion)
    assert_type(version.files, tuple[ExtensionFile, ...])
    assert_type(version.files[0].is_main, bool)
    assert_type(await itwin.extensions.wait_until_ready("a", "1", timeout=5), ExtensionVersion)
    found = await itwin.extensions.download_version("a", "1", Path("x"), archive=True)
    assert_type(found, DownloadedVersion)
    assert_type(found.files, tuple[Path, ...])
    assert_type(found.main, Path | None)
    assert_type(found.archive, Path | None)
    await itwin.extensions.download_version("a", "1", b"x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await itwin.extensions.delete_extension("a")
    assert_type(await itwin.imodels.get_imodel("a"), IModel)
    assert_type(await itwin.imodels.get_changeset("a", 5), Changeset)
    assert_type(await itwin.imodels.get_changeset("a", "0f"), Changeset)
    assert_type(await itwin.packages.get_package("a"), IntegrationPackage)
    assert_type((await itwin.packages.get_package("a")).input_example_decoded, Any)
    packages = itwin.packages
    assert_type(await packages.execute_package("a", "P", variables={"a": "b"}), Any)
    assert_type(await packages.execute_package("a", "P", as_xml=True), bytes)
    assert_type(await packages.execute_package("a", "P", returns=Files), Files)
    assert_type(await packages.execute_package("a", "P", returns=bytes), bytes)
    await packages.execute_package("a", "P", variables={"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert_type(await itwin.itwins.get_primary_account(), ITwin)
    assert_type(await itwin.itwins.get_account("a"), ITwin)
    webhook = await itwin.webhooks.create_webhook("https://a", "iTwin", ["a"], scope_id="b")
    assert_type(webhook, Webhook)
    assert_type(webhook.secret, str | None)
    assert_type(await itwin.webhooks.update_webhook("a", event_types=("b",)), Webhook)
    assert_type(itwin.webhooks.list_webhooks(), Pager[Webhook])
    await itwin.webhooks.create_webhook("https://a", "World", ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def deliveries(body: bytes, signature: str | None) -> None:
    """An event has the fields of its class."""
    event = verify(body, signature, "secret")
    assert_type(event, WebhookEvent)
    assert_type(event.enqueued_date_time, datetime | None)
    if isinstance(event, ChangesReady):
        assert_type(event.imodel_id, str)
        assert_type(event.changeset_index, int | None)
    assert_type(plain(event), dict[str, Any])


async def payloads(itwin: ITwinSession) -> None:
    """A payload is what was asked for."""
    imodels = itwin.imodels
    assert_type(imodels.list_extended_data("a"), Pager[ExtendedData[dict[str, Any]]])
    assert_type(imodels.list_extended_data("a", None), Pager[ExtendedData[dict[str, Any]]])
    assert_type(imodels.list_extended_data("a", Files), Pager[ExtendedData[Files]])
    assert_type(
        imodels.list_extended_data("a", dict[str, int]), Pager[ExtendedData[dict[str, int]]]
    )
    assert_type(await imodels.get_extended_data("a", 1), ExtendedData[dict[str, Any]])
    assert_type(await imodels.get_extended_data("a", 1, Files), ExtendedData[Files])
    assert_type((await imodels.get_extended_data("a", 1, Files | Other)).changeset_index, int)
    async for entry in imodels.list_extended_data("a", Files, page_size=5):
        assert_type(entry.data, Files)
        assert_type(entry.data.task_id, str)
        assert_type(entry.payload, bytes)
        assert_type(entry.imodel_id, str)
    created = await imodels.create_extended_data("a", 1, Files("t"))
    assert_type(created, ExtendedData[dict[str, Any]])
    async for untyped in imodels.list_extended_data("a"):
        assert_type(untyped.data, dict[str, Any])


async def anything(itwin: ITwinSession) -> None:
    """The way out gives what is asked for."""
    assert_type(await itwin.request("GET", "/x"), Any)
    assert_type(await itwin.request("GET", "/x", query={"$top": 1, "a": None}, returns=None), Any)
    assert_type(await itwin.request("POST", "/x", body={"a": 1}, returns=Files), Files)
    assert_type(await itwin.request("GET", "/x", version="v2", returns=list[Files]), list[Files])
    assert_type(await itwin.request("GET", "/x", returns=bytes), bytes)
    full = await itwin.request("GET", "/x", headers={"Prefer": "x"}, returns=Files, full=True)
    assert_type(full, Answered[Files])
    assert_type(full.data, Files)
    assert_type(full.status, int)
    assert_type(full.request_id, str)
    assert_type(full.headers["ETag"], str)
    assert_type(await itwin.request("GET", "/x", full=True), Answered[Any])
    assert_type(await itwin.request("GET", "/x", returns=bytes, full=False), bytes)
    assert_type(itwin.list("/x", items="a"), Pager[dict[str, Any]])
    assert_type(itwin.list("/x", items="a", returns=Files, query={"$top": 1}), Pager[Files])
    assert_type(itwin.list("/x", items="a", returns=IModel, version="v2"), Pager[IModel])
    itwin.list("/x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    view = itwin.with_options(timeout=5, retry=Retry(1), headers={"X-A": "b"})
    assert_type(view, ITwinSession)
    assert_type(view.imodels.list_imodels("a"), Pager[IModel])
    await itwin.request("TRACE", "/x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def streams(itwin: ITwinSession, ids: AsyncIterator[str]) -> None:
    """Many lists are one stream of the same items."""

    def left_out(pager: Pager[Changeset], error: Exception) -> None:
        assert_type(pager, Pager[Changeset])
        assert_type(error, Exception)

    pagers = (itwin.imodels.list_changesets(one) for one in ("a", "b"))
    async with merged(pagers, workers=2, buffer=5, on_error=left_out) as items:
        assert_type(items, Merged[Changeset])
        async for item in items:
            assert_type(item, Changeset)
    async with merged(itwin.imodels.list_extended_data(one, Files) async for one in ids) as found:
        async for entry in found:
            assert_type(entry.data, Files)


async def misused(itwin: ITwinSession, id: UUID, imodel: IModel) -> None:
    """What a list refuses at run time with advice is an error of types too; ids may be UUIDs."""
    pager = itwin.imodels.list_changesets(id)
    for _ in pager:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue]
        pass
    await pager  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await anext(pager)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async with pager:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue]
        pass
    await itwin.imodels.get_imodel(imodel)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    itwin.imodels.list_extended_data(id, "Files")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    itwin.packages.list_entities(id, "P", "E", "Files")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    itwin.imodels.list_imodels(id, state="new")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    itwin.imodels.list_imodels(id, order_by="size")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    itwin.imodels.list_imodels(id, state="initialized", order_by=("name", "createdDateTime desc"))
    itwin.itwins.list_itwins(status="active")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await itwin.imodels.get_imodel(id), IModel)
    await itwin.request("GET", "/x", query={"iTwinId": id})


class Sink:
    """A sink as a user writes one."""

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *error: object) -> None: ...
    async def checkpoint(self) -> str | None: ...
    async def write(self, rows: Sequence[Row], checkpoint: str) -> None: ...


async def incremental(itwin: ITwinSession, id: UUID) -> None:
    """A feed gives entries of its type, and a plain class is a sink."""
    async with ChangeFeed(itwin, itwin_id=id, data_type=Files) as feed:
        async for entry in feed:
            assert_type(entry, ExtendedData[Files])
        assert_type(feed.checkpoint, str)
    async with ChangeFeed(itwin, imodel_ids=["a", id], every=None) as plain:
        assert_type(await anext(plain), ExtendedData[dict[str, Any]])
    assert_type(await sync_extended_data(itwin, Sink(), itwin_id="a"), Synced)


async def errors(itwin: ITwinSession) -> None:
    """Errors are told apart by class, and know what they know."""
    try:
        await itwin.imodels.get_imodel("a")
    except NotFoundError as error:
        assert_type(error.status, int)
        assert_type(error.code, str | None)
        assert_type(error.details, tuple[ErrorDetail, ...])
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
    except ResponseError as error:
        assert_type(error.target, str | None)
    except TransportError as error:
        reasons: Literal[
            "dns", "refused", "unreachable", "proxy", "tls", "reset", "timeout", "cut", "malformed",
            "too large",
        ] = error.reason  # fmt: skip
        assert_type(error.sent, bool)
        print(reasons)  # noqa: T201 - used
    except PayloadError as error:
        assert_type(error.changeset_index, int)
    except ITwinError as error:
        assert_type(error.request_id, str | None)
        assert_type(error.operation, str | None)
        assert_type(error.outcome_unknown, bool)
