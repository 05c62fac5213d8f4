"""Reports to a function of the caller's never change how a job ends."""

import asyncio

import pytest

from itwin_async._core.listener import ProgressListener


def test_the_first_error_is_logged_and_ends_the_reports(caplog):
    seen: list[int] = []

    def fail_at_2(progress: int) -> None:
        seen.append(progress)
        if progress == 2:
            raise LookupError("of the listener")

    listener = ProgressListener(fail_at_2, "download")
    for progress in (1, 2, 3):
        listener.report(progress)
    assert seen == [1, 2]
    assert not listener.is_listening
    (record,) = caplog.records
    assert record.name == "itwin_async"
    assert record.getMessage() == (
        "on_progress failed and is not called again; the download goes on"
    )
    assert "of the listener" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError])
def test_an_interruption_is_no_error_of_the_listener(kind):
    def interrupted(_: int) -> None:
        raise kind

    listener = ProgressListener(interrupted, "export")
    with pytest.raises(kind):
        listener.report(1)
    assert listener.is_listening


def test_without_a_function_nobody_listens():
    listener = ProgressListener[int](None, "export")
    assert not listener.is_listening
    listener.report(1)
