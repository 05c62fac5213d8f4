"""Deliveries of webhooks: signed, and repeated until they are answered with 200 in time."""

import asyncio
import contextlib
import hashlib
import hmac
import uuid
from datetime import datetime
from typing import Final

import aiohttp
import msgspec

from itwin_async._aio.threads import completed
from itwin_async.emulator._arguments import check_int, check_number
from itwin_async.emulator._state.events import PlatformEvent
from itwin_async.emulator._state.state import State
from itwin_async.emulator._state.webhooks import Webhook, is_loopback

_MAX_AT_ONCE: Final = 32


class Deliveries:
    """Sends events to the webhooks that ask for them, while it runs.

    It sends to loopback only. Each delivery is made ``attempts`` times at most, each of which may
    take ``timeout`` seconds, ``spacing`` seconds after the last one.
    """

    def __init__(self, state: State, *, timeout: float, attempts: int, spacing: float) -> None:
        check_number("webhook_timeout", timeout, above=True)
        check_int("webhook_attempts", attempts, 1)
        check_number("webhook_spacing", spacing)
        self._state = state
        self._timeout, self._attempts, self._spacing = timeout, attempts, spacing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to send what happens from now on."""
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._state.on_event = self._on_event

    async def stop(self) -> None:
        """Send no more, and end what is being sent."""
        self._state.on_event = None
        self._loop = None
        await completed(asyncio.create_task(self._end()))

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _on_event(self, event: PlatformEvent) -> None:
        """Send an event in the emulator's loop; whoever caused it may be in another thread."""
        loop = self._loop
        if loop is not None and self._state.webhooks:
            loop.call_soon_threadsafe(self._send_to_all, event)

    def _send_to_all(self, event: PlatformEvent) -> None:
        itwin = self._state.itwins.get(event.itwin_id)
        if self._loop is None or itwin is None:
            return
        scopes = {"iTwin": itwin["id"], "Account": itwin["iTwinAccountId"]}
        for webhook in list(self._state.webhooks.values()):
            in_scope = webhook.scope_id.lower() == scopes[webhook.scope].lower()
            if webhook.active and in_scope and event.type in webhook.event_types:
                body = _encode(event, webhook.id, self._state.clock.now())
                task = asyncio.create_task(self._deliver(webhook.id, body))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, id: str, body: bytes) -> None:
        """Send one message until it is accepted, or its webhook is gone."""
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(self._spacing)
            async with self._slots:
                webhook = self._state.webhooks.get(id)
                if webhook is None or not webhook.active or not is_loopback(webhook.callback_url):
                    return
                if await self._post(webhook, body):
                    return

    async def _post(self, webhook: Webhook, body: bytes) -> bool:
        """Send a message, and say whether it was accepted in time."""
        if self._http is None:
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers = {"Content-Type": "application/json", "Signature": sign(webhook, body)}
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
            async with (
                asyncio.timeout(self._timeout),
                self._http.post(
                    webhook.callback_url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    ssl=False,
                ) as response,
            ):
                return response.status == 200
        return False


def sign(webhook: Webhook, body: bytes) -> str:
    """The ``Signature`` header of a message."""
    return f"sha256={hmac.digest(webhook.secret.encode(), body, hashlib.sha256).hex()}"


def _encode(event: PlatformEvent, webhook_id: str, now: datetime) -> bytes:
    """The body of a message; the platform writes its time as people in the US do."""
    hour, half = (now.hour % 12 or 12), "AM" if now.hour < 12 else "PM"
    return msgspec.json.encode(
        {
            "content": event.content,
            "eventType": event.type,
            "enqueuedDateTime": f"{now.month}/{now.day}/{now.year} {hour}:{now:%M:%S} {half}",
            "iTwinId": event.itwin_id,
            "messageId": str(uuid.uuid4()),
            "webhookId": webhook_id,
        }
    )
