"""The README is true: its snippets run. The table of operations is what the code declares."""

import asyncio
import inspect
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import generate
import pytest
import uvicorn
from declared import DECLARED, GROUPS
from snippets import ROOT, missing, snippets

from itwin_async.emulator import Emulator

OPERATIONS = (ROOT / "docs" / "reference" / "operations.md").read_text()
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
SNIPPETS = snippets(ROOT / "README.md", "python")


@pytest.fixture
async def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Emulator]:
    monkeypatch.chdir(tmp_path)  # where downloads go
    async with Emulator(imodels=3, changesets=30) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def test_there_are_snippets():
    assert len(SNIPPETS) >= 8


async def run_command(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "itwin_async", *arguments)
    assert await process.wait() == 0


async def run_file(path: Path, text: str) -> None:
    """Save a snippet and run it, as its reader does."""
    path.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "White River" in output


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
async def test_snippet_runs(snippet, environment, capsys):
    if snippet.file is not None:
        await run_file(Path(snippet.file), snippet.text)
        return
    if without := missing([snippet]):
        pytest.skip(
            f"{snippet} needs {', '.join(sorted(without))}: make test-dataframes installs it"
        )
    if "'changes/*.parquet'" in snippet.text:  # which the command before it makes
        await run_command("extended-data", "sync", "changes", "--itwin", ITWIN, "--changesets")
    names = {"__name__": "snippet"}
    await snippet.run(names)
    assert "app" in names or "print" not in snippet.text or capsys.readouterr().out


async def test_web_backend_answers_each_time_it_is_started(environment):
    """As a test client starts it: again and again, each time in a loop of its own."""
    snippet = next(snippet for snippet in SNIPPETS if "FastAPI" in snippet.text)
    names = {"__name__": "snippet"}
    await snippet.run(names)
    for _ in range(2):
        await asyncio.to_thread(asyncio.run, web_backend_answers(names))


async def web_backend_answers(names) -> None:
    server = uvicorn.Server(uvicorn.Config(names["app"], port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    imodel = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
    unknown = "00000000-0000-4000-8000-000000000000"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}/imodels/") as client:
        async with client.get(f"{imodel}/files/1") as answer:
            assert await answer.json() == ["A.dgn", "B.dgn"]
        async with client.get(f"{imodel}/changes") as answer:
            lines = [json.loads(line) async for line in answer.content]
        assert [line["changesetIndex"] for line in lines] == list(range(1, 31))
        for path in (f"{imodel}/files/9999", f"{unknown}/files/1", f"{unknown}/changes"):
            async with client.get(path) as answer:
                assert answer.status == 404
                assert "NotFound" in (await answer.json())["detail"]
        for path in (f"{imodel}/files/0", f"{imodel}/files/-1", f"{imodel}/files/first",
                     "none/files/1", "%20/files/1", "none/changes"):  # fmt: skip
            async with client.get(path) as answer:
                assert answer.status == 422
    server.should_exit = True
    await serving


def declared() -> dict[str, str]:
    """Method and path of each operation, by the method that binds it."""
    return {
        f"{group}.{name}": str(operation)
        for group, found in DECLARED.items()
        for name, operation in found.items()
    }


def test_what_is_generated_is_up_to_date():
    """`make generate` writes it."""
    assert sorted(str(path) for path in generate.stale()) == []


def test_operation_table_is_what_is_declared():
    rows = re.findall(r"^\| `(\w+\.\w+)` \| `([A-Z]+ /\S*)` \|$", OPERATIONS, re.MULTILINE)
    assert dict(rows) == declared()
    assert len(rows) == len(declared())


def test_every_operation_has_a_documented_method():
    for name in declared():
        group, _, method = name.partition(".")
        assert "https://developer.bentley.com/" in inspect.getdoc(getattr(GROUPS[group], method))
