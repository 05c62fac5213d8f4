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


def test_an_interruption_is_no_error_of_the_listener():
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    listener = ProgressListener(interrupted, "export")
    with pytest.raises(KeyboardInterrupt):
        listener.report(1)
    assert listener.is_listening


def test_the_result_of_a_cancelled_future_is_an_error_of_the_listener(caplog):
    def fail(_: int) -> None:
        raise asyncio.CancelledError  # as the result of a cancelled future does

    listener = ProgressListener(fail, "export")
    listener.report(1)
    assert not listener.is_listening
    assert "on_progress failed" in caplog.text


def test_without_a_function_nobody_listens():
    listener = ProgressListener[int](None, "export")
    assert not listener.is_listening
    listener.report(1)
