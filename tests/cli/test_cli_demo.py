"""The demo succeeds, and fails when an entry is missing."""

import pytest
from terminal import run

from itwin_async.cli import _demo, main
from itwin_async.emulator import Emulator, Throttle


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten iModels are enough, and a throttle that asks for no wait."""

    def throttle(emulator: Emulator, _: float) -> None:
        emulator.faults.add("list_extended_data", Throttle(0))

    monkeypatch.setattr(Emulator, "throttle", throttle)
    monkeypatch.setattr(_demo, "_IMODELS", 10)
    monkeypatch.setattr(_demo, "_ENTRIES", 2_500)


def demo(capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    return ended.value.code, capsys.readouterr().out


@pytest.mark.slow
def test_demo_ends_well_where_every_entry_came_once(small, capsys):
    code, out = demo(capsys)
    assert code == 0
    assert "Every entry came exactly once." in out


def test_demo_fails_where_one_is_missing(small, monkeypatch, capsys):
    monkeypatch.setattr(_demo, "_ENTRIES", 2_501)
    monkeypatch.setattr(_demo, "_inject_faults", lambda *_: None)
    code, out = demo(capsys)
    assert code == 1
    assert "1 entries are missing" in out


@pytest.mark.slow
async def test_demo_runs_whole():
    ended = await run("demo")
    assert (ended.code, ended.err) == (0, "")
    assert "10,000" in ended.out
