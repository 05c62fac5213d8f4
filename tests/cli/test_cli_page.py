"""The page on the command line is true: its commands run, its exit codes are those of `main`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from terminal import environment

import itwin_async.cli
from itwin_async.emulator import Emulator

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line for block in BLOCKS for line in block.splitlines() if "itwin-async " in line]
COMMANDS = [line for line in LINES if not line.startswith("pip ")]


def test_there_are_commands():
    assert len(COMMANDS) >= 14


@pytest.mark.slow
async def test_commands_run(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    async with Emulator(imodels=6, changesets=30) as emulator:
        variables = emulator.environment | {"PATH": path, "HOME": str(tmp_path)}
        for command in COMMANDS:
            ended = await anyio.to_thread.run_sync(
                lambda command=command: subprocess.run(
                    command, shell=True, cwd=tmp_path, env=environment(variables),
                    capture_output=True, text=True, timeout=60, check=False,
                )
            )  # fmt: skip
            assert ended.returncode == 0, (command, ended.stderr)
            assert ended.stdout or re.search(r" > | --output packages| completion ", command)


@pytest.mark.parametrize(
    "documented",
    [
        dict(re.findall(r"^\| (\d+) \| ([^|]+) \|$", PAGE, re.MULTILINE)),
        dict(re.findall(r"^(\d+) +(.+)$", itwin_async.cli.__doc__, re.MULTILINE)),
    ],
)
def test_exit_codes_are_documented(documented):
    assert list(documented) == ["0", "1", "2", "3", "4", "5", "6", "130", "141", "143"]
    assert documented["6"] == "done, but some extended data was left out"
