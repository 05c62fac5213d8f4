"""``changesets download``: files that are not fetched twice, a bar in bytes, and Ctrl-C."""

import asyncio
import json
import re
import signal
from types import SimpleNamespace

import pytest
from terminal import QUICK, environment, in_terminal, run

from itwin_async import DownloadProgress, Stats
from itwin_async.cli import _meter
from itwin_async.cli._meter import Meter, RateLimitWatch
from itwin_async.emulator import Edit, Emulator, Slow

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
DOWNLOAD = ("changesets", "download", IMODEL)


def no_links(body) -> None:
    for changeset in body["changesets"]:
        changeset["_links"]["download"] = None


@pytest.mark.slow  # four processes
async def test_a_download_says_what_is_there(tmp_path):
    directory = tmp_path / "changesets"
    async with Emulator(imodels=1, changesets=30) as emulator:
        words = (*DOWNLOAD, str(directory), "--after", "3", "--last", "9", "--workers", "2")
        first = await run(*words, variables=emulator.environment)
        assert (first.code, first.err) == (0, "")
        found = json.loads(first.out)
        size = sum(path.stat().st_size for path in directory.iterdir())
        assert found == {"directory": str(directory), "files": 6, "bytes": size, "existing": 0}
        assert len(list(directory.glob("*.cs"))) == 6
        second = await run(*DOWNLOAD, str(directory), variables=emulator.environment)
        assert json.loads(second.out)["existing"] == 6
        assert json.loads(second.out)["files"] == 30
        # Without a terminal nobody counts what there is to do.
        assert emulator.count("list_changesets") == 2

        emulator.faults.add("list_changesets", Edit(no_links), times=None)
        refused = await run(*DOWNLOAD, str(tmp_path / "no"), variables=emulator.environment)
        assert (refused.code, refused.out) == (4, "")
        assert re.fullmatch(
            r"itwin-async: 403: changeset \d+ \(\w+\) has no download link: the permission "
            r"imodels_read on the iModel is missing. This was about changeset [^\n]*\n",
            refused.err,
        )
        wrong = await run(*DOWNLOAD, "--workers", "0", variables=emulator.environment)
        assert wrong.code == 2


@pytest.mark.slow  # two processes
async def test_ctrl_c_keeps_what_has_arrived(tmp_path):
    async with Emulator(imodels=1, changesets=40) as emulator:
        emulator.faults.add("download", Slow(300_000, chunk=2_000), times=None)
        command = (*DOWNLOAD, str(tmp_path))
        process = await asyncio.create_subprocess_exec(
            *QUICK, *command, env=environment(emulator.environment), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            while len(list(tmp_path.glob("[!.]*.cs"))) < 5 or not any(tmp_path.glob(".*.part")):
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert process.returncode == 130
        assert err == b"Run the same command again to go on.\n"
        assert not list(tmp_path.glob(".*.lock"))
        emulator.faults.clear()
        ended = await run(*command, variables=emulator.environment)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["existing"] >= 5
    assert len(list(tmp_path.iterdir())) == 40


@pytest.mark.slow  # a terminal
def test_terminal_shows_a_bar_in_bytes(tmp_path):
    code, screen = in_terminal(*DOWNLOAD, str(tmp_path), "--last", "300", "--emulator")
    assert code == 0
    assert re.search(r"\d+/300 files · [\d.]+ MB of \d\d\.\d MB · [\d.]+ MB/s · 0:", screen)
    assert re.search(r"files +300", screen)


def test_meter_shows_bytes_and_the_rate_of_what_came(monkeypatch):
    monkeypatch.setattr(_meter.time, "monotonic", lambda: 1_065.0)
    meter = Meter("bytes", parts="files", started=1_000.0)
    itwin = SimpleNamespace(stats=Stats(bytes_received=6_500_000), rate_limit=RateLimitWatch())
    meter.show_download(DownloadProgress(20, 3, 999, None))
    assert meter.figures(itwin) == "3/20 files · 999 bytes · 100.0 kB/s · 1:05"
    assert meter.position == (3, 20)
    meter.show_download(DownloadProgress(20, 4, 12_345_678, 4_000_000_000))
    assert meter.figures(itwin) == "4/20 files · 12.3 MB of 4.0 GB · 100.0 kB/s · 1:05"
    assert meter.position == (12_345_678, 4_000_000_000)
