"""What the emulator's webhooks deliver, to a receiver on a socket."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web as server
from support import Running

from itwin_async.emulator import Emulator

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
PROJECT = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
SECRET = "0123456789abcdef0123456789abcdef"
READY = "iModels.changesReady.v1"


class Receiver:
    """Keeps what arrives, and answers with one status after the other."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.arrived = asyncio.Queue[tuple[dict, bytes]]()
        self.url = ""

    async def handle(self, request: server.BaseRequest) -> server.StreamResponse:
        await self.arrived.put((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            await asyncio.Event().wait()
        return server.Response(status=status, headers={"Location": "/elsewhere"})

    async def next(self) -> tuple[dict, dict]:
        headers, body = await asyncio.wait_for(self.arrived.get(), 60)
        digest = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
        assert headers["Signature"] == f"sha256={digest}"
        assert "Authorization" not in headers
        return headers, json.loads(body)


@contextlib.asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(*statuses)
    http = server.Server(receiver.handle, handler_cancellation=True)
    listening = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        listening.close()
        await http.shutdown(0)
        await listening.wait_closed()


@pytest.fixture
def subscribe(web) -> Callable:
    async def subscribe(emulator, url, *types, active=True, **other):
        body = {"callbackUrl": url, "scope": "iTwin", "scopeId": PROJECT, "secret": SECRET}
        body |= {"eventTypes": list(types or (READY,)), **other}
        status, created, _ = await web(emulator, "/webhooks/", "POST", json=body)
        assert status == 201, created
        path = f"/webhooks/{created['id']}"
        if active:
            assert (await web(emulator, path, "PATCH", json={"active": True}))[0] == 200
        return path

    return subscribe


def quick(**options) -> Emulator:
    return Emulator(imodels=3, changesets=2, webhook_spacing=0.001, **options)


async def test_a_push_is_delivered(web, subscribe):
    async with receiving() as receiver, quick() as emulator:
        path = await subscribe(emulator, receiver.url)
        index = emulator.push_changeset(SUN_CITY)
        headers, event = await receiver.next()
        assert headers["Content-Type"] == "application/json"
        assert re.fullmatch(r"\d+/\d+/\d{4} \d+:\d\d:\d\d [AP]M", event.pop("enqueuedDateTime"))
        assert event.pop("messageId")
        assert event == {
            "content": {
                "imodelId": SUN_CITY,
                "changesetId": emulator.changeset_id(SUN_CITY, index),
                "changesetIndex": "3",
            },
            "eventType": READY,
            "iTwinId": PROJECT,
            "webhookId": path.rpartition("/")[2],
        }
        # An answer of 200 ends it: the next message is another one.
        emulator.push_changeset(SUN_CITY)
        _, second = await receiver.next()
        assert second["content"]["changesetIndex"] == "4"


async def test_only_what_was_asked_for(web, subscribe):
    kinds = ["iModelCreated", "iModelDeleted"]
    async with receiving() as receiver, quick() as emulator:
        await subscribe(emulator, receiver.url, *(f"iModels.{kind}.v1" for kind in kinds))
        await subscribe(emulator, receiver.url, active=False)
        await subscribe(emulator, receiver.url, scopeId=list(emulator._state.itwins)[1])
        emulator.push_changeset(SUN_CITY)
        id = emulator.add_imodel(PROJECT)
        emulator.delete_imodel(id)
        found = [(await receiver.next())[1] for _ in kinds]
        assert {event["eventType"] for event in found} == {f"iModels.{kind}.v1" for kind in kinds}
        assert {event["content"]["imodelId"] for event in found} == {id}
        assert all(event["content"]["userId"] for event in found)
        assert receiver.arrived.empty()


async def test_a_named_version_is_delivered(web, subscribe):
    async with receiving() as receiver, quick() as emulator:
        await subscribe(emulator, receiver.url, "iModels.namedVersionCreated.v1")
        body = {"name": "Tender", "changesetId": emulator.changeset_id(SUN_CITY, 2)}
        path = f"/imodels/{SUN_CITY}/namedversions"
        _, created, _ = await web(emulator, path, "POST", json=body)
        _, event = await receiver.next()
        content = event["content"]
        assert (content["changesetId"], content["changesetIndex"]) == (body["changesetId"], "2")
        assert content["versionId"] == created["namedVersion"]["id"]
        assert content["userId"]


async def test_an_account_hears_of_all_its_itwins(web, subscribe):
    async with receiving() as receiver, quick() as emulator:
        await subscribe(emulator, receiver.url, scope="Account", scopeId=None)
        for id in list(emulator._state.imodels):
            emulator.push_changeset(id)
        found = [(await receiver.next())[1] for _ in range(3)]
        assert len({event["iTwinId"] for event in found}) == 3
        assert len({event["messageId"] for event in found}) == 3


async def test_a_message_comes_again_until_it_is_answered_with_200(web, subscribe):
    async with receiving(500, 302, 202) as receiver, quick(webhook_timeout=60) as emulator:
        await subscribe(emulator, receiver.url)
        emulator.push_changeset(SUN_CITY)
        messages = [await receiver.next() for _ in range(4)]
        assert len({event["messageId"] for _, event in messages}) == 1
        emulator.push_changeset(SUN_CITY)
        assert (await receiver.next())[1]["content"]["changesetIndex"] == "4"


async def test_a_message_comes_again_where_there_was_no_answer_in_time(web, subscribe):
    async with receiving(0) as receiver, quick(webhook_timeout=0.05) as emulator:
        await subscribe(emulator, receiver.url)
        emulator.push_changeset(SUN_CITY)
        messages = [await receiver.next() for _ in range(2)]
        assert len({event["messageId"] for _, event in messages}) == 1


async def test_a_repeat_waits_its_time(web, subscribe):
    async with receiving(*[500] * 9) as receiver, Emulator(webhook_spacing=1e6) as emulator:
        await subscribe(emulator, receiver.url)
        emulator.push_changeset(SUN_CITY)
        await receiver.next()
        for _ in range(20):  # time enough for one that does not wait
            await web(emulator, f"/imodels/{SUN_CITY}")
        assert receiver.arrived.empty()


async def test_nothing_is_sent_to_other_machines(web, subscribe):
    async with receiving() as receiver, quick() as emulator:
        path = await subscribe(emulator, receiver.url)
        # This address reaches a receiver on this machine as well, and is none of loopback.
        elsewhere = receiver.url.replace("127.0.0.1", "0.0.0.0")
        emulator._state.webhooks[path.rpartition("/")[2]].callback_url = elsewhere
        emulator.push_changeset(SUN_CITY)
        await asyncio.sleep(0)
        assert emulator._deliveries._tasks
        while emulator._deliveries._tasks:
            await asyncio.sleep(0)
        assert receiver.arrived.empty()


async def test_repeats_have_an_end(web, subscribe):
    async with receiving(*[500] * 9) as receiver, quick(webhook_attempts=3) as emulator:
        await subscribe(emulator, receiver.url)
        emulator.push_changeset(SUN_CITY)
        for _ in range(3):
            await receiver.next()
        while emulator._deliveries._tasks:
            await asyncio.sleep(0)
        assert receiver.arrived.empty()


async def test_a_webhook_that_is_gone_is_not_sent_to(web, subscribe):
    async with receiving(500) as receiver, quick(webhook_timeout=60) as emulator:
        path = await subscribe(emulator, receiver.url)
        emulator.push_changeset(SUN_CITY)
        await receiver.next()
        await web(emulator, path, "DELETE")
        while emulator._deliveries._tasks:
            await asyncio.sleep(0)
        assert receiver.arrived.qsize() <= 1  # one may have been on its way


async def test_a_silent_receiver_blocks_nothing(web, subscribe):
    async with receiving(*[0] * 99) as receiver:
        async with quick() as emulator:
            await subscribe(emulator, receiver.url)
            for _ in range(40):
                emulator.push_changeset(SUN_CITY)
            await receiver.next()
            assert (await web(emulator, f"/imodels/{SUN_CITY}/changesets/42"))[0] == 200
        assert not emulator._deliveries._tasks
        emulator.push_changeset(SUN_CITY)  # nobody is told any more


async def test_a_cancelled_emulator_ends_its_deliveries(web, subscribe, cancel_kind):
    async with receiving(*[0] * 9) as receiver:
        emulator = quick(webhook_timeout=30, webhook_attempts=1)

        async def run() -> None:
            async with emulator:
                await subscribe(emulator, receiver.url)
                emulator.push_changeset(SUN_CITY)
                await asyncio.Event().wait()

        running = Running(cancel_kind, run())
        await receiver.next()
        running.cancel()
        ended, _ = await asyncio.wait([running.task], timeout=60)
        assert ended
        assert not emulator._deliveries._tasks
        assert emulator._deliveries._http is None
        assert not emulator._listener.is_running


async def test_nobody_listens(web, subscribe):
    async with quick(webhook_attempts=2) as emulator:
        await subscribe(emulator, "http://127.0.0.1:9/hook")
        await subscribe(emulator, "https://example.com/hook")  # nothing is sent there
        emulator.push_changeset(SUN_CITY)
        await asyncio.sleep(0)
        while emulator._deliveries._tasks:
            await asyncio.sleep(0.001)


async def test_a_push_of_another_thread(web, subscribe):
    async with receiving() as receiver, quick() as emulator:
        await subscribe(emulator, receiver.url)
        await asyncio.to_thread(emulator.push_changeset, SUN_CITY)
        assert (await receiver.next())[1]["eventType"] == READY


@pytest.mark.parametrize("url", ["http://example.com/hook", "http://10.0.0.1/", "http:///x"])
async def test_plain_http_is_for_loopback(web, emulator, refused, url):
    body = {"callbackUrl": url, "scope": "Account", "eventTypes": [READY]}
    response = await web(emulator, "/webhooks/", "POST", json=body)
    detail = "InvalidRequestBody", "callbackUrl"
    refused(response, 422, "InvalidCreateWebhookRequest", detail=detail)


@pytest.mark.parametrize("wrong", ["webhook_timeout", "webhook_attempts", "webhook_spacing"])
def test_wrong_options(wrong):
    with pytest.raises(ValueError, match=wrong):
        Emulator(**{wrong: -1})
