"""The demo shows what it says, and fails where that is not so."""

import pytest
from terminal import run

from itwin_async.cli import _demo, main


@pytest.fixture
def small(monkeypatch):
    """Ten iModels are enough."""
    monkeypatch.setattr(_demo, "_IMODELS", 10)
    monkeypatch.setattr(_demo, "_ENTRIES", 2_500)


def demo(capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    return ended.value.code, capsys.readouterr().out


def test_demo_ends_well_where_every_entry_came_once(small, capsys):
    code, out = demo(capsys)
    assert code == 0
    assert "Every entry came exactly once." in out


def test_demo_fails_where_one_is_missing(small, monkeypatch, capsys):
    monkeypatch.setattr(_demo, "_ENTRIES", 2_501)
    code, out = demo(capsys)
    assert code == 1
    assert "1 entries are missing" in out


async def test_demo_runs_whole():
    ended = await run("demo")
    assert (ended.code, ended.err) == (0, "")
    assert "10,000" in ended.out
