"""The web example's webhook, and what it tells the pages that show an iModel."""

import asyncio
import json
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import anyio
import create_webhook
import fastapi_app
import live_changes
import pytest
from deliveries import ENVELOPE, SECRET, delivery, sign
from serving import FOREVER, SUN_CITY, serving, under_way
from support import cancelled_at_each_await, until
from test_web_app import web_client

from itwin_async.emulator import Delay, Emulator, Status
from itwin_async.webhooks import WebhookEvent

LIVE = f"/api/imodels/{SUN_CITY}/live"
NEW = {"data": {"changedFiles": ["New.dgn"], "taskId": "t"}}


@pytest.fixture
async def client(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[aiohttp.ClientSession]:
    monkeypatch.setenv("ITWIN_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(live_changes, "EVERY", FOREVER)
    async with web_client(emulator, monkeypatch) as browser:
        yield browser


@asynccontextmanager
async def events(client, after=25, path=LIVE) -> AsyncIterator[AsyncIterator[dict]]:
    """The events of the stream, decoded."""

    async def read(response):
        async for line in response.content:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))

    async with client.get(path, params={"after": after}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield read(response)


async def deliver(client, body=None, signature=None, **fields) -> int:
    """The status of the answer to a delivery."""
    if body is None:
        body, signature = delivery(**fields)
    headers = {} if signature is None else {"Signature": signature}
    async with client.post("/webhook", data=body, headers=headers) as response:
        await response.read()
        return response.status


def changes_ready(message: str = "m", imodel_id: str = SUN_CITY) -> dict:
    return {"messageId": message, "content": {"imodelId": imodel_id, "changesetIndex": "26"}}


def read(emulator: Emulator, operation: str) -> bool:
    """Whether a request of this operation was answered, and none is under way."""
    return emulator.count(operation) > 0 and not under_way(emulator, operation)


# The delivery


async def test_a_signed_event_is_taken(client):
    assert await deliver(client) == 200


@pytest.mark.parametrize(
    "signature", [None, "", "sha256=0", sign(b"other"), delivery()[1].partition("=")[2]]
)
async def test_a_missing_or_wrong_signature_is_a_401(client, signature):
    body = delivery()[0]
    async with client.post(
        "/webhook", data=body, headers={} if signature is None else {"Signature": signature}
    ) as response:
        assert response.status == 401
        text = await response.text()
    assert "signature" in text
    assert SECRET not in text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}"])
async def test_a_signed_body_that_is_no_event_is_refused(client, body):
    assert await deliver(client, body, sign(body)) == 401


async def test_a_long_body_is_refused_before_it_is_there(client):
    body = bytes(200_000)
    assert await deliver(client, body, sign(body)) == 413


async def test_without_a_secret_nothing_is_taken(client, monkeypatch):
    monkeypatch.delenv("ITWIN_WEBHOOK_SECRET")
    assert await deliver(client) == 401
    body = delivery()[0]
    assert await deliver(client, body, sign(body, "")) == 401


async def test_an_event_is_answered_while_the_platform_does_not_answer(client, emulator):
    async with events(client):
        emulator.faults.add("list_changesets", Delay(FOREVER), times=None)
        async with asyncio.timeout(5):  # as long as the platform waits
            assert await deliver(client, **changes_ready()) == 200
        await until(lambda: under_way(emulator, "list_changesets"))
    await until(lambda: not under_way(emulator, "list_changesets"))


async def test_a_message_that_comes_again_is_handled_once():
    handled = []
    inbox = live_changes.Inbox(handled.append)
    event = WebhookEvent(event_type="a", message_id="1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.run)
        for message in ("1", "1", "2", "1"):
            inbox.put(WebhookEvent(event_type="a", message_id=message))
            await until(lambda: not inbox._events.qsize())
        tasks.cancel_scope.cancel()
    assert handled == [event, WebhookEvent(event_type="a", message_id="2")]


async def test_a_message_that_was_refused_is_taken_when_it_comes_again(monkeypatch):
    monkeypatch.setattr(live_changes, "MOST_EVENTS", 1)
    handled = []
    inbox = live_changes.Inbox(handled.append)
    first, second = (WebhookEvent(event_type="a", message_id=item) for item in "12")
    inbox.put(first)
    with pytest.raises(asyncio.QueueFull):
        inbox.put(second)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.run)
        await until(lambda: handled == [first])
        inbox.put(second)
        await until(lambda: handled == [first, second])
        tasks.cancel_scope.cancel()


async def test_a_full_inbox_is_a_503(client, monkeypatch):
    def full(*_):
        raise asyncio.QueueFull

    monkeypatch.setattr(live_changes.Inbox, "put", full)
    assert await deliver(client) == 503


async def test_what_is_remembered_of_messages_is_bounded(monkeypatch):
    monkeypatch.setattr(live_changes, "MOST_MESSAGES", 3)
    inbox = live_changes.Inbox(print)
    for number in range(10):
        inbox.put(WebhookEvent(event_type="a", message_id=str(number)))
    assert list(inbox._messages) == ["7", "8", "9"]


async def test_an_event_that_fails_costs_no_other(caplog):
    handled = []

    def handle(event):
        handled.append(event.message_id)
        assert event.message_id != "1"

    inbox = live_changes.Inbox(handle)
    for message in "12":
        inbox.put(WebhookEvent(event_type="a", message_id=message))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.run)
        await until(lambda: handled == ["1", "2"])
        tasks.cancel_scope.cancel()
    assert "was not handled" in caplog.text


async def test_events_of_other_kinds_and_imodels_ask_nothing(client, emulator):
    before = len(emulator.requests)
    assert await deliver(client, **changes_ready(imodel_id="other")) == 200
    assert await deliver(client, messageId="2", eventType="forms.formCreated.v1") == 200
    assert await deliver(client, **{**ENVELOPE, "messageId": "3", "content": None}) == 200
    async with client.get("/health") as response:
        assert response.ok
    assert len(emulator.requests) == before


def test_the_script_says_what_it_needs(monkeypatch):
    monkeypatch.setenv("ITWIN_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(sys, "argv", [create_webhook.__file__])
    with pytest.raises(SystemExit, match=r"create_webhook\.py https://example\.com/webhook"):
        runpy.run_path(create_webhook.__file__, run_name="__main__")


async def test_the_webhook_is_created_once_and_activated_again(client, itwin, emulator, capsys):
    url = str(client._base_url / "webhook")
    for _ in range(2):
        await create_webhook.main(url)
        assert "active=True" in capsys.readouterr().out
        (webhook,) = [entry async for entry in itwin.webhooks.list_webhooks()]
        assert webhook.callback_url == url
        await itwin.webhooks.update_webhook(webhook.id, active=False)
    await create_webhook.main(url)
    async with events(client) as new:
        await until(lambda: read(emulator, "list_extended_data"))
        emulator.push_changeset(SUN_CITY, NEW)  # and the emulator's own delivery
        assert {(await anext(new))["kind"] for _ in range(2)} == {"pushed", "files"}


# What is new


async def test_a_push_comes_when_its_webhook_did(client, emulator):
    async with events(client) as new:
        await until(lambda: read(emulator, "list_extended_data"))
        emulator.push_changeset(SUN_CITY, NEW, description="Bridge")
        assert await deliver(client, **changes_ready()) == 200
        found = [await anext(new), await anext(new)]
    lines = {line["kind"]: line for line in found}
    assert (lines["pushed"]["index"], lines["files"]["index"]) == (26, 26)
    assert lines["pushed"]["description"] == "Bridge"
    assert lines["files"]["files"] == ["New.dgn"]


async def test_extended_data_that_is_stored_late_comes_as_well(client, emulator, monkeypatch):
    monkeypatch.setattr(live_changes, "EVERY", 0.01)
    before = emulator.push_changeset(SUN_CITY)
    async with events(client) as new:
        assert (await anext(new))["kind"] == "pushed"
        index = emulator.push_changeset(SUN_CITY)
        assert await deliver(client, **changes_ready()) == 200
        assert (await anext(new))["kind"] == "pushed"
        looked = emulator.count("list_extended_data")
        await until(lambda: emulator.count("list_extended_data") >= looked + 2)
        for number in (index, before):
            emulator.store_extended_data(SUN_CITY, number, NEW)
            line = await anext(new)
            assert (line["kind"], line["index"]) == ("files", number)
            assert line["files"] == ["New.dgn"]


async def test_who_looks_again_costs_no_second_reading_of_all(itwin, emulator):
    async with anyio.create_task_group() as tasks:
        live = live_changes.LiveChanges(itwin, tasks)
        async with live.subscribe(SUN_CITY, 0) as lines:
            for _ in range(75):  # what was behind, and the files once more from the feed
                await anext(lines)
        emulator.push_changeset(SUN_CITY, NEW)
        async with live.subscribe(SUN_CITY, 25):
            await until(lambda: emulator.count("list_extended_data") == 2)
        tasks.cancel_scope.cancel()
    listed = [entry for entry in emulator.requests if entry.operation == "list_extended_data"]
    skips = [int(entry.query.get("$skip", "0")) for entry in listed]
    assert skips[0] == 0
    assert skips[1] > 0


async def test_what_was_pushed_before_the_page_connected_comes_first(client, emulator):
    for _ in range(3):
        emulator.push_changeset(SUN_CITY, NEW)
    async with events(client) as new:
        kinds = [await anext(new) for _ in range(6)]
    for kind in ("pushed", "files"):
        assert [item["index"] for item in kinds if item["kind"] == kind] == [26, 27, 28]


async def test_all_pages_of_an_imodel_share_a_look(client, emulator):
    other_case = LIVE.replace(SUN_CITY, SUN_CITY.upper())
    async with events(client) as one, events(client, path=other_case) as other:
        await until(lambda: read(emulator, "list_extended_data"))
        before = emulator.count("list_changesets"), emulator.count("list_extended_data")
        emulator.push_changeset(SUN_CITY, NEW)
        assert await deliver(client, **changes_ready()) == 200
        for new in (one, other):
            found = {(await anext(new))["kind"] for _ in range(2)}
            assert found == {"pushed", "files"}
        after = emulator.count("list_changesets"), emulator.count("list_extended_data")
        assert after == (before[0] + 1, before[1] + 1)


async def test_a_lost_delivery_is_made_up_for_by_a_look_now_and_then(client, emulator, monkeypatch):
    monkeypatch.setattr(live_changes, "EVERY", 0.01)
    async with events(client) as new:
        emulator.push_changeset(SUN_CITY, NEW)
        assert (await anext(new))["index"] == 26


async def test_the_platform_may_fail_for_a_while(client, emulator, monkeypatch):
    monkeypatch.setattr(live_changes, "EVERY", 0.01)
    monkeypatch.setattr(live_changes, "AGAIN", 0.01)
    async with events(client) as new:
        for operation in ("list_changesets", "list_extended_data", "get_imodel"):
            emulator.faults.add(operation, Status(409), times=5)
        emulator.push_changeset(SUN_CITY, NEW)
        found = [await anext(new), await anext(new)]
    assert {(line["kind"], line["index"]) for line in found} == {("pushed", 26), ("files", 26)}


async def test_a_failure_behind_the_beginning_ends_the_stream(client, emulator):
    emulator.push_changeset(SUN_CITY, NEW)
    emulator.faults.add("get_extended_data", Status(403))
    async with events(client) as new:
        assert [line["kind"] async for line in new] == ["pushed"]
    async with events(client) as new:
        assert [(await anext(new))["kind"] for _ in range(2)] == ["pushed", "files"]


async def test_an_unknown_imodel_is_a_404_and_a_bad_one_a_422(client):
    path = "/api/imodels/00000000-0000-0000-0000-000000000000/live"
    for wanted, status in (
        (f"{path}?after=0", 404),
        (path, 422),
        (f"{path}?after=-1", 422),
        ("/api/imodels/none/live?after=0", 422),
    ):
        async with client.get(wanted) as response:
            assert response.status == status


async def test_nothing_is_asked_when_the_last_page_is_gone(client, emulator, monkeypatch):
    monkeypatch.setattr(live_changes, "EVERY", 0.01)
    async with events(client) as new:
        emulator.push_changeset(SUN_CITY, NEW)
        assert await anext(new)
        emulator.faults.add("list_changesets", Delay(FOREVER), times=None)
        await until(lambda: under_way(emulator, "list_changesets"))
    await until(lambda: not under_way(emulator, "list_changesets"))
    before = len(emulator.requests)
    assert await deliver(client, **changes_ready()) == 200
    assert len(emulator.requests) == before


async def test_a_page_that_takes_nothing_is_cut_off(itwin, emulator, monkeypatch):
    monkeypatch.setattr(live_changes, "MOST_LINES", 2)
    async with anyio.create_task_group() as tasks:
        live = live_changes.LiveChanges(itwin, tasks)
        async with live.subscribe(SUN_CITY, 25) as lines:
            for _ in range(4):
                emulator.push_changeset(SUN_CITY)
            live.notify(SUN_CITY)
            await until(lambda: not live._watched[SUN_CITY].pages)
            assert [line.index async for line in lines] == [26, 27]
        tasks.cancel_scope.cancel()


async def test_a_page_without_news_hears_that_it_is_connected(itwin, emulator, monkeypatch):
    monkeypatch.setattr(live_changes, "HEARTBEAT", 0.01)
    async with anyio.create_task_group() as tasks:
        live = live_changes.LiveChanges(itwin, tasks)
        async with live.subscribe(SUN_CITY, 25) as lines:
            assert await anext(lines) is None
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_page_that_goes_at_any_await_leaves_nothing(cancel_kind, when, emulator, itwin):
    emulator.push_changeset(SUN_CITY, NEW)
    async with anyio.create_task_group() as tasks:
        live = live_changes.LiveChanges(itwin, tasks)

        async def read() -> list[int]:
            async with live.subscribe(SUN_CITY, 25) as lines:
                return [line.index for line in (await anext(lines), await anext(lines))]

        async def check(_: int) -> None:
            assert not live._watched
            await until(lambda: not itwin.limiter.in_use)

        awaits, found = await cancelled_at_each_await(cancel_kind, read, check, when=when)
        tasks.cancel_scope.cancel()
    assert awaits >= 3
    assert found == [26, 26]


async def test_the_app_ends_while_pages_are_open(emulator, monkeypatch):
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    async with fastapi_app.lifespan(fastapi_app.app) as state:
        live = state["live"]
        async with live.subscribe(SUN_CITY, 25):
            await until(lambda: read(emulator, "list_extended_data"))
    assert state["itwin"].closed


async def test_two_apps_have_live_changes_of_their_own(client, emulator):
    """As workers have."""
    async with (
        serving(fastapi_app.app) as url,
        aiohttp.ClientSession(url) as other,
        events(client) as one,
        events(other) as two,
    ):
        emulator.push_changeset(SUN_CITY, NEW)
        for item in (client, other):
            assert await deliver(item, **changes_ready()) == 200
        assert (await anext(one))["index"] == (await anext(two))["index"] == 26
