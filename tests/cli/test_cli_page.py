"""The page on the command line is true: its commands run, its exit codes are those of `main`."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from sign_in_host import visit
from terminal import environment

import itwin_async.cli
from itwin_async.emulator import Emulator

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line for block in BLOCKS for line in block.splitlines() if "itwin-async " in line]
ENDLESS = re.compile(r" --every | follow (?!.* --once)")  # run where they are stopped
COMMANDS = [line for line in LINES if not line.startswith("pip ") and not ENDLESS.search(line)]


def test_there_are_commands():
    assert len(COMMANDS) >= 14


async def choose_a_user(emulator: Emulator, opened: Path) -> None:
    """Do what a person does in a browser, once it was told an address to open."""
    while not opened.exists():
        await asyncio.sleep(0.05)
    await visit(emulator.sign_in_as("owner", opened.read_text()))


@pytest.mark.slow
async def test_commands_run(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o700)
    async with Emulator(imodels=6, changesets=30) as emulator:
        variables = emulator.environment | {
            "PATH": path, "HOME": str(tmp_path), "BROWSER": str(browser),
        }  # fmt: skip
        person = asyncio.create_task(choose_a_user(emulator, opened))
        for command in COMMANDS:
            line = command.replace("native-abc123", emulator.user_client_id)
            ended = await anyio.to_thread.run_sync(
                lambda line=line: subprocess.run(
                    line, shell=True, cwd=tmp_path, env=environment(variables),
                    capture_output=True, text=True, timeout=60, check=False,
                )
            )  # fmt: skip
            assert ended.returncode == 0, (line, ended.stderr)
            assert ended.stdout or re.search(
                r" > | --output packages| completion | auth login", line
            )
        await person


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
