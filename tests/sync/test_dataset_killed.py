"""Killed at any moment and started again, a data set has each entry once, and never a wrong one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import msgspec
import pytest
from datasets import A, B, Files, bad, expected, row, stored, sync_rows
from killing import Killed, Killer, kill_after

from itwin_async.sync import ParquetDataset, Row
from itwin_async.sync import _dataset as dataset

TOTAL, BAD = 7, 5


class More(msgspec.Struct):
    n: int
    task: str | None = None


def few(imodel_id: str, index: int) -> Row:
    return row(imodel_id, index, Files(index))


def more(imodel_id: str, index: int) -> Row:
    return bad(imodel_id, index) if index == BAD else row(imodel_id, index, More(index, "t"))


def is_prefix(found: list[tuple[str, int]]) -> bool:
    """Each entry once, and of each iModel those that come first."""
    return found == [
        (imodel_id, index)
        for imodel_id in sorted((A, B))
        for index in [item for item in range(1, TOTAL + 1) if item != BAD][
            : sum(item[0] == imodel_id for item in found)
        ]
    ]


@pytest.mark.parametrize(
    ("begun", "step"),
    [
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
        (True, 11),  # a few of them
    ],
)
async def test_killed_at_each_thing_it_does_to_a_file(begun, step, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "SMALL_ROWS", 3)
    monkeypatch.setattr(dataset, "HINT_SECONDS", 0.0)
    home, work, before = tmp_path / "work" / "set", tmp_path / "work", tmp_path / "before"
    work.mkdir()
    if begun:  # files without a field that rows have later
        await sync_rows(ParquetDataset(home), 3, make=few)
    shutil.copytree(work, before)
    killer = Killer(monkeypatch)
    kills = 0
    # Halves: before the act, and right behind it.
    for half in range(0, 2_000, step):
        killer.at = None
        shutil.rmtree(work)
        shutil.copytree(before, work)
        killer.done, killer.at = 0, half / 2 + 0.25
        try:
            await sync_rows(ParquetDataset(home), TOTAL, step=2, make=more)
        except Killed:
            kills += 1
        else:
            break
        finally:
            killer.at = None
        assert is_prefix(stored(home) if home.exists() else []), f"killed at {half / 2}"
        await sync_rows(ParquetDataset(home), TOTAL, step=2, make=more)
        assert is_prefix(stored(home)), f"killed at {half / 2}"
        assert len(stored(home)) == 2 * (TOTAL - 1)
        for imodel_id in (A, B):
            lines = (work / "set.sync" / f"{imodel_id}.bad.jsonl").read_text().splitlines()
            assert [json.loads(line)["changeset_index"] for line in lines] == [BAD]
    assert kills > 60 / step


CHILD = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from datasets import sync_rows, row
from itwin_async.sync import ParquetDataset, _dataset

_dataset.SMALL_ROWS = 40

def make(imodel_id, index):
    print(index, flush=True)
    return row(imodel_id, index)

asyncio.run(sync_rows(ParquetDataset(sys.argv[1]), 300, step=7, make=make))
"""


def start(home: Path) -> subprocess.Popen[str]:
    """A process that syncs, and prints a line for each entry on the way."""
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home), str(here), str(here.parent)],
        env=dict(os.environ), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow  # six processes
async def test_killed_for_real_again_and_again(tmp_path):
    home = tmp_path / "set"
    kills = 0
    for lines in (3, 80, 41, 97, 150, 10_000):
        ended = await anyio.to_thread.run_sync(kill_after, start(home), lines)
        kills += not ended
        found = stored(home) if home.exists() else []
        assert len(found) == len(set(found))
        assert set(found) <= set(expected(300))
    assert kills >= 4
    assert stored(home) == expected(300)
