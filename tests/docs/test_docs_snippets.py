"""The pages are true: their code runs, what they say it prints it prints, their commands are there.

A page is read from its top: names and files of one snippet are there in the next. A snippet that
begins with ``# name.py`` is that file; the tests among those files are run by pytest. A block of
``output`` is all that the snippet before it prints.
"""

import asyncio
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from snippets import ROOT, Snippet, missing, snippets

from itwin_async.emulator import Emulator

PAGES = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.relative_to(ROOT).parts
)
WITH_CODE = [page for page in PAGES if snippets(page, "python")]
COMPLETE = find_spec("furo") is not None  # `make docs` installs all that pages use


def name(page):
    return str(page.relative_to(ROOT))


def is_for_pytest(block: Snippet) -> bool:
    file = (block.file or "").rpartition("/")[2]
    return file == "conftest.py" or file.startswith("test_")


async def run_pytest(directory, tests):
    """Run the tests of a page as its reader would, in a process of their own."""
    define = re.compile(r"^(?:async )?def test_", re.MULTILINE)
    expected = sum(len(define.findall(item.text)) for item in tests)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert re.search(rf"^{expected} passed in", output, re.MULTILINE), output


def test_pages_are_found():
    assert {"docs/tutorial.md", "docs/how-to/testing.md"} <= {name(page) for page in WITH_CODE}


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
async def test_page_runs(page, monkeypatch, tmp_path, capsys):
    blocks = snippets(page, "python", "output", "toml")
    without = missing(blocks)
    if without and not COMPLETE:
        pytest.skip(f"{name(page)} needs {', '.join(sorted(without))}: run `make docs`")
    home = tmp_path / "page"
    home.mkdir()
    monkeypatch.chdir(home)
    tests: dict[Path, list[Snippet]] = {}
    names: dict[str, object] = {"__name__": "page"}
    async with Emulator() as emulator:
        for variable, value in emulator.environment.items():
            monkeypatch.setenv(variable, value)
        before = None
        for block in blocks:
            if block.file is not None:
                # A directory is a project of its own, beside the page's.
                path = (tmp_path if "/" in block.file else home) / block.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
                if is_for_pytest(block):
                    tests.setdefault(path.parent, []).append(block)
            if block.kind == "output":
                assert before is not None, f"{block}: there is no snippet before this output"
                assert capsys.readouterr().out == block.text, f"{before} prints something else"
                before = None
            elif block.kind == "python" and not is_for_pytest(block):
                capsys.readouterr()
                await block.run(names)
                before = block
    names.clear()
    for directory, blocks in tests.items():
        await run_pytest(directory, blocks)


def test_code_that_needs_a_scheduler_compiles():
    blocks = [block for page in PAGES for block in snippets(page, "text") if "@task" in block.text]
    assert blocks
    for block in blocks:
        compile(block.text, str(block), "exec")


def commands() -> dict[str, list[str]]:
    """Each command of a page, without what stands in front of it, and where."""
    found: dict[str, list[str]] = {}
    for page in [ROOT / "README.md", *PAGES]:
        for block in snippets(page, "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                command = line.partition(" #")[0].strip()
                if command and not command.startswith("#"):
                    found.setdefault(command, []).append(str(block))
    return found


COMMANDS = commands()
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("command", [item for item in COMMANDS if item.startswith("make ")])
def test_target_of_make_is_there(command):
    assert set(command.split()[1:]) <= TARGETS, COMMANDS[command]


def usages() -> set[tuple[str, ...]]:
    """The commands of ours, down to their subcommand, with the options that are given to them."""
    found = set()
    for command in COMMANDS:
        words = re.sub(r"^([A-Z_]+=\S+ +)+", "", command).split()
        if words[:1] == ["itwin-async"]:
            words = ["-m", "itwin_async", *words[1:]]
        elif words[:2] == ["python", "-m"] and words[2].startswith("itwin_async"):
            words = words[1:]
        else:
            continue
        plain = []
        for word in words[2:]:
            if not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            plain.append(word)
        options = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}
        found.add((*words[:2], *plain, *sorted(options)))
    return found


@pytest.mark.parametrize("usage", sorted(usages()), ids=" ".join)
def test_command_and_its_options_are_there(usage):
    words = [word for word in usage if not word.startswith("--")]
    run = subprocess.run(
        [sys.executable, *words, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for option in set(usage) - set(words):
        assert option in run.stdout, f"{' '.join(words)} has no {option}"
