"""A span for each operation, whole and truthful, and nothing of it where nobody asked."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import PACKAGE, RawServer, Running, answer, session_at, until

from itwin_async import (
    DecodeError,
    ITwinSession,
    Limiter,
    NotFoundError,
    OperationFinished,
    Retry,
    merged,
)
from itwin_async.emulator import Cut, Delay, Edit, Emulator, Reset, Slow, Status, Throttle
from itwin_async.telemetry import Spans

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
GET_IMODEL = "GET /imodels/{imodel_id}"
LIST = "GET /imodels/{imodel_id}/changesets/extendeddata"


class Traced:
    """Spans in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.listener = Spans(self.provider)

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    def named(self, name):
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture
async def itwin(emulator: Emulator, traced: Traced) -> AsyncIterator[ITwinSession]:
    async with ITwinSession(
        emulator.credentials,
        base_url=emulator.url,
        retry=Retry(base=0.001),
        on_event=traced.listener,
    ) as session:
        yield session


async def test_an_operation_is_a_span_with_its_numbers(itwin, traced):
    await itwin.imodels.get_imodel(IMODEL)
    (span,) = traced.named(GET_IMODEL)
    (token,) = traced.named("token")
    found = span.attributes
    assert span.kind is trace.SpanKind.CLIENT
    assert span.status.is_unset
    assert (found["itwin.attempts"], found["itwin.throttled"]) == (1, 0)
    assert found["itwin.bytes_received"] == itwin.stats.bytes_received
    assert found["http.request.method"] == "GET"
    assert found["url.template"] == "/imodels/{imodel_id}"
    assert found["http.response.status_code"] == 200
    assert "http.request.resend_count" not in found
    assert token.attributes["itwin.attempts"] == 1
    assert span.start_time <= token.start_time <= token.end_time <= span.end_time
    assert span.instrumentation_scope.name == "itwin_async"


@pytest.mark.slow
async def test_attempts_and_pauses_are_in_the_span_of_their_operation(emulator, itwin, traced):
    emulator.faults.add("get_imodel", Reset())
    emulator.faults.add("get_imodel", Throttle(1))
    await itwin.imodels.get_imodel(IMODEL)
    (span,) = traced.named(GET_IMODEL)
    assert span.attributes["itwin.attempts"] == 3
    assert span.attributes["http.request.resend_count"] == 2
    assert span.attributes["itwin.throttled"] == 1
    assert span.attributes["itwin.waited"] >= 0.9
    assert span.end_time - span.start_time >= 0.9e9
    assert span.status.is_unset


async def test_an_error_is_named_and_an_id_is_not(itwin, traced):
    with pytest.raises(NotFoundError):
        await itwin.imodels.get_imodel("00000000-0000-0000-0000-000000000000")
    (span,) = traced.named(GET_IMODEL)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "NotFoundError"
    assert span.attributes["http.response.status_code"] == 404
    assert "0000-0000" not in span.to_json().replace(span.attributes["itwin.request_id"], "")


async def test_a_cancelled_operation_ends_its_span(cancel_kind, emulator, itwin, traced):
    emulator.faults.add("get_imodel", Status(500))
    emulator.faults.add("get_imodel", Delay(60))
    running = Running(cancel_kind, itwin.imodels.get_imodel(IMODEL))
    await until(lambda: emulator.count("get_imodel") == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert traced.named(GET_IMODEL)[-1].attributes["error.type"] == "CancelledError"


async def test_each_page_is_a_span_and_all_its_bytes_are_counted(itwin, traced):
    await itwin.imodels.get_imodel(IMODEL)
    before = itwin.stats.bytes_received
    async for _ in itwin.imodels.list_extended_data(IMODEL, page_size=10):
        pass
    spans = traced.named(LIST)
    assert len(spans) == 3
    got = sum(span.attributes["itwin.bytes_received"] for span in spans)
    assert got == itwin.stats.bytes_received - before


async def test_pages_read_ahead_are_spans_too(itwin, traced):
    await itwin.imodels.get_imodel(IMODEL)
    before = itwin.stats.bytes_received
    entries = itwin.imodels.list_extended_data(IMODEL, page_size=5).ahead(4)
    assert len([entry async for entry in entries]) == 25
    spans = [span for span in traced.named(LIST) if span.status.is_unset]
    got = sum(span.attributes["itwin.bytes_received"] for span in traced.named(LIST))
    assert len(spans) >= 5
    assert got == itwin.stats.bytes_received - before


async def test_a_large_page_is_a_span_until_it_is_all_read(traced):
    async with (
        Emulator(imodels=1, changesets=40, payload_bytes=60_000) as emulator,
        ITwinSession(
            emulator.credentials, base_url=emulator.url, on_event=traced.listener
        ) as itwin,
    ):
        seen = 0
        async for _ in itwin.imodels.list_extended_data(IMODEL):
            seen += 1
            if seen < 30:
                assert not traced.named(LIST)
        (span,) = traced.named(LIST)
        assert span.attributes["itwin.bytes_received"] > 40 * 60_000
        assert span.status.is_unset

        async for _ in itwin.imodels.list_extended_data(IMODEL):
            break  # its span ends where its connection does
        assert len(traced.named(LIST)) == 2
        assert traced.named(LIST)[1].attributes["itwin.bytes_received"] < 40 * 60_000


async def test_a_large_page_that_is_cut_is_two_spans(traced):
    async with (
        Emulator(imodels=1, changesets=40, payload_bytes=60_000) as emulator,
        ITwinSession(
            emulator.credentials,
            base_url=emulator.url,
            retry=Retry(base=0.001),
            on_event=traced.listener,
        ) as itwin,
    ):
        emulator.faults.add("list_extended_data", Cut(1_500_000))
        assert len([entry async for entry in itwin.imodels.list_extended_data(IMODEL)]) == 40
    first, second = traced.named(LIST)
    assert first.attributes["error.type"] == "TransportError"
    assert second.status.is_unset


async def test_a_span_is_a_child_of_where_its_operation_began(itwin, traced):
    tracer = traced.provider.get_tracer("test")

    async def one(name):
        with tracer.start_as_current_span(name):
            await itwin.imodels.get_imodel(IMODEL)

    await asyncio.gather(one("a"), one("b"))
    parents = {span.context.span_id: span.name for span in traced.spans if span.name in "ab"}
    found = [parents[span.parent.span_id] for span in traced.named(GET_IMODEL)]
    assert sorted(found) == ["a", "b"]


async def test_a_body_closed_by_another_task_is_reported_in_its_own_context(traced):
    tracer = traced.provider.get_tracer("test")
    async with (
        Emulator(imodels=1, changesets=40, payload_bytes=60_000) as emulator,
        ITwinSession(
            emulator.credentials, base_url=emulator.url, on_event=traced.listener
        ) as itwin,
    ):
        with tracer.start_as_current_span("reading"):
            entries = aiter(itwin.imodels.list_extended_data(IMODEL))
            await anext(entries)
        with tracer.start_as_current_span("closing"):
            await entries.aclose()
    (reading,) = traced.named("reading")
    (span,) = traced.named(LIST)
    assert span.parent.span_id == reading.context.span_id


async def test_many_lists_at_once_keep_their_own_numbers(emulator, itwin, traced):
    imodels = [
        imodel.id
        async for owner in itwin.itwins.list_itwins()
        async for imodel in itwin.imodels.list_imodels(owner.id)
    ]
    lists = (itwin.imodels.list_extended_data(imodel, page_size=5) for imodel in imodels)
    async with merged(lists) as entries:
        async for _ in entries:
            pass
    spans = traced.named(LIST)
    assert len(spans) == 5 * len(imodels)
    assert {span.attributes["itwin.attempts"] for span in spans} == {1}


async def test_waiting_for_a_slot_is_reported():
    events: list[OperationFinished] = []

    def listen(event):
        if isinstance(event, OperationFinished):
            events.append(event)

    async with (
        RawServer(answer(PACKAGE), answer(PACKAGE)) as server,
        session_at(server, limiter=Limiter(1), on_event=listen) as itwin,
    ):
        await asyncio.gather(*(itwin.packages.get_package("P") for _ in range(2)))
    assert sorted(event.waited > 0 for event in events) == [False, True]
    assert all(event.waited <= event.seconds for event in events)


async def test_nothing_of_it_is_imported_without_being_asked_for():
    code = "import sys, itwin_async; sys.exit('opentelemetry' in ' '.join(sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_nothing_is_recorded_where_nobody_listens(emulator):
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        await itwin.imodels.get_imodel(IMODEL)
        assert itwin._executor.instrumentation.start_span("GET /") is None


@pytest.fixture
async def large(traced: Traced) -> AsyncIterator[tuple[Emulator, ITwinSession]]:
    """A platform of large pages, and a session with it."""
    async with (
        Emulator(imodels=1, changesets=40, payload_bytes=60_000) as emulator,
        ITwinSession(
            emulator.credentials,
            base_url=emulator.url,
            retry=Retry(base=0.001),
            on_event=traced.listener,
        ) as session,
    ):
        yield emulator, session


async def test_a_large_page_that_is_cancelled_is_no_success(cancel_kind, large, traced):
    emulator, itwin = large
    emulator.faults.add("list_extended_data", Slow(1_000_000), times=None)

    async def take() -> None:
        async for _ in itwin.imodels.list_extended_data(IMODEL):
            running.cancel()  # the rest of the page takes seconds

    running = Running(cancel_kind, take())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert traced.named(LIST)[0].attributes["error.type"] == "CancelledError"


async def test_a_large_page_that_does_not_decode_is_no_success(large, traced):
    emulator, itwin = large

    def spoil(page):
        page["extendedData"][30] = 5

    emulator.faults.add("list_extended_data", Edit(spoil), times=None)
    with pytest.raises(DecodeError):
        async for _ in itwin.imodels.list_extended_data(IMODEL):
            pass
    errors = {span.attributes.get("error.type") for span in traced.named(LIST)}
    assert errors == {"DecodeError"}


async def test_a_large_page_whose_session_is_closed_is_no_success(large, traced):
    _, itwin = large
    entries = aiter(itwin.imodels.list_extended_data(IMODEL))
    await anext(entries)
    await itwin.aclose()
    with pytest.raises(RuntimeError):
        while True:
            await anext(entries)
    assert traced.named(LIST)[0].attributes["error.type"] == "RuntimeError"


async def test_a_listener_may_be_empty():
    class Events(list):
        """Falsy at first, as any list."""

        def __call__(self, event):
            self.append(event)

    events = Events()
    async with RawServer(answer(PACKAGE)) as server, session_at(server, on_event=events) as itwin:
        await itwin.packages.get_package("P")
    assert isinstance(events[-1], OperationFinished)


async def test_an_operation_without_a_path_has_no_template(traced):
    event = OperationFinished(
        operation="GET (signed URL)", seconds=0.5, waited=0.0, attempts=1, throttled=0,
        bytes_received=10, status=200, error=None, request_id="id",
    )  # fmt: skip
    traced.listener(event)
    (span,) = traced.spans
    assert span.attributes["http.request.method"] == "GET"
    assert "url.template" not in span.attributes
