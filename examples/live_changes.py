"""New changesets for the pages that show an iModel, soon after a webhook said that there are some.

`Inbox` takes what a webhook delivers, at once and once, and hands it on later. `LiveChanges` asks
the platform what is new, once for all pages of an iModel: when it is notified, and every minute or
so, for a delivery may get lost. Its `ChangeFeed` also finds extended data that is stored late.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from itwin_async import (
    Changeset,
    ExtendedData,
    ITwinError,
    ITwinSession,
    NotFoundError,
    PayloadError,
)
from itwin_async.sync import ChangeFeed
from itwin_async.webhooks import WebhookEvent

MOST_EVENTS: Final = 1_000  # that wait to be worked on
MOST_MESSAGES: Final = 10_000  # whose ids are remembered
MOST_LINES: Final = 1_000  # that wait for a page to take them
MOST_CHECKPOINTS: Final = 1_000
EVERY: Final = 60.0  # seconds between looks without a webhook
AGAIN: Final = 5.0  # seconds after a look that failed
HEARTBEAT: Final = 15.0  # seconds after which a page hears that there is nothing new
_logger = logging.getLogger(__name__)


class Changes(msgspec.Struct, rename="camel"):
    """The files that a changeset changed, and the task that did."""

    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    """The extended data of a changeset."""

    data: Changes


Item: TypeAlias = Changeset | ExtendedData[Payload]


class Line(msgspec.Struct, tag_field="kind", tag=str.lower, omit_defaults=True):
    """A line of a stream: what one of the two lists holds about a changeset."""

    index: int


class Pushed(Line):
    """The changeset itself; ``size`` is in bytes."""

    id: str
    description: str | None = None
    pushed: datetime | None = None
    size: int | None = None


class Files(Line):
    """The files it changed, or what is wrong with its extended data; the stream goes on."""

    files: list[str] | None = None
    problem: str | None = None


def line_of(item: Item) -> Line:
    """The line for an item of either list."""
    if isinstance(item, Changeset):
        return Pushed(item.index, item.id, item.description, item.push_date_time, item.file_size)
    try:
        return Files(item.changeset_index, files=item.data.data.changed_files)
    except PayloadError as error:
        return Files(item.changeset_index, problem=str(error))


class Inbox:
    """The events of a webhook: taken at once, handed on later by a task, each message once."""

    def __init__(self, handle: Callable[[WebhookEvent], None]) -> None:
        self._handle = handle
        self._events: asyncio.Queue[WebhookEvent] = asyncio.Queue(MOST_EVENTS)
        self._messages: OrderedDict[str, None] = OrderedDict()

    def put(self, event: WebhookEvent) -> None:
        """Take an event, unless its message was here before; `asyncio.QueueFull` if many wait."""
        if event.message_id in self._messages:
            return
        self._events.put_nowait(event)  # before it is remembered: what was refused comes again
        self._messages[event.message_id] = None
        if len(self._messages) > MOST_MESSAGES:
            self._messages.popitem(last=False)

    async def run(self) -> None:
        """Hand on what arrives, until cancelled; an event that fails costs no other."""
        while True:
            event = await self._events.get()
            try:
                self._handle(event)
            except Exception:
                _logger.exception("%s was not handled", event)


@dataclass(eq=False)
class _Watched:
    """An iModel that pages show: the feed of its files, and the changeset that was told last."""

    feed: ChangeFeed[Payload]
    start: int  # pages have what is up to here
    last: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    pages: set[MemoryObjectSendStream[Line]] = field(
        default_factory=set[MemoryObjectSendStream[Line]]
    )
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    started: bool = False

    def publish(self, item: Item) -> None:
        """Send an item to all pages; one that takes nothing for long is cut off, and asks again."""
        for page in list(self.pages):
            try:
                page.send_nowait(line_of(item))
            except anyio.WouldBlock:
                page.close()
                self.pages.discard(page)


class LiveChanges:
    """What is new in iModels, for as long as somebody looks at them."""

    def __init__(self, itwin: ITwinSession, tasks: TaskGroup) -> None:
        self._itwin = itwin
        self._tasks = tasks
        self._watched: dict[str, _Watched] = {}
        self._checkpoints: OrderedDict[str, str] = OrderedDict()  # of feeds that ended

    def notify(self, imodel_id: str) -> None:
        """Look now for what is new in an iModel, if a page shows it."""
        if watched := self._watched.get(imodel_id.lower()):
            watched.woken.set()
            watched.feed.notify(imodel_id)

    @asynccontextmanager
    async def subscribe(self, imodel_id: str, after: int) -> AsyncGenerator["Subscription"]:
        """The lines behind this index: those that are there, and those to come."""
        send, receive = anyio.create_memory_object_stream[Line](MOST_LINES)
        key = imodel_id.lower()
        watched = self._watched.get(key) or self._begin(key, after)
        watched.start = min(watched.start, after)
        watched.pages.add(send)  # before the list is read, so that nothing falls between
        try:
            behind = self._itwin.imodels.list_changesets(imodel_id, after_index=after, order="asc")
            changesets = [changeset async for changeset in behind]
            watched.last = max([watched.last, *(changeset.index for changeset in changesets)])
            if not watched.started:
                watched.started = True
                self._tasks.start_soon(self._watch, imodel_id, watched)
            yield Subscription(self._itwin, imodel_id, changesets, receive)
        finally:
            send.close()
            receive.close()
            watched.pages.discard(send)
            if not watched.pages:
                self._end(key)

    def _begin(self, key: str, after: int) -> _Watched:
        feed = ChangeFeed(
            self._itwin,
            imodel_ids=key,
            data_type=Payload,
            checkpoint=self._checkpoints.get(key),
            every=EVERY,
        )
        return self._watched.setdefault(key, _Watched(feed, after, after))

    def _end(self, key: str) -> None:
        watched = self._watched.pop(key)
        watched.scope.cancel()
        self._checkpoints[key] = watched.feed.checkpoint
        if len(self._checkpoints) > MOST_CHECKPOINTS:
            self._checkpoints.popitem(last=False)

    async def _watch(self, imodel_id: str, watched: _Watched) -> None:
        """Publish what is new in an iModel, until its last page is gone."""
        with watched.scope:
            async with watched.feed, anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_files, watched)
                while True:
                    with anyio.move_on_after(EVERY):
                        await watched.woken.wait()
                    watched.woken.clear()
                    try:
                        await self._publish_changesets(imodel_id, watched)
                    except ITwinError as error:
                        _logger.warning("no changesets of %s for now: %s", imodel_id, error)

    async def _publish_changesets(self, imodel_id: str, watched: _Watched) -> None:
        async for changeset in self._itwin.imodels.list_changesets(
            imodel_id, after_index=watched.last, order="asc"
        ):
            watched.last = changeset.index
            watched.publish(changeset)

    async def _watch_files(self, watched: _Watched) -> None:
        """Publish the files of changesets as they are stored, which may be after the push."""
        while True:
            try:
                async for entry in watched.feed:
                    if entry.changeset_index > watched.start:
                        watched.publish(entry)
                    if entry.changeset_index > watched.last:
                        watched.woken.set()  # its delivery was lost
                return
            except ITwinError as error:  # the feed goes on where it was
                _logger.warning("no files of %s for now: %s", watched.feed, error)
                await anyio.sleep(AGAIN)


class Subscription:
    """The lines for one page, as an iterator; None now and then, while there is nothing new."""

    def __init__(
        self,
        itwin: ITwinSession,
        imodel_id: str,
        behind: list[Changeset],
        arriving: MemoryObjectReceiveStream[Line],
    ) -> None:
        self._itwin = itwin
        self._imodel_id = imodel_id
        self._behind: deque[Changeset | int] = deque(behind)
        self._arriving = arriving

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Line | None:
        if self._behind:
            return await self._line_behind()
        with anyio.move_on_after(HEARTBEAT):
            try:
                return await self._arriving.receive()
            except anyio.EndOfStream:
                raise StopAsyncIteration from None
        return None

    async def _line_behind(self) -> Line | None:
        """The next line of what was pushed after the page read the lists, and before this."""
        changeset = self._behind[0]
        if isinstance(changeset, Changeset):
            self._behind[0] = changeset.index
            return line_of(changeset)
        self._behind.popleft()
        try:
            imodels = self._itwin.imodels
            return line_of(await imodels.get_extended_data(self._imodel_id, changeset, Payload))
        except NotFoundError:
            return None  # the feed finds it when it is stored
