"""What is given away: the wheel is the package alone, and the source archive can test itself."""

import asyncio
import re
import sys
import tarfile
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from snippets import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
GENERATED = {"__pycache__", "_build"}


async def run(*command, cwd):
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, command),
        cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out = (await process.communicate())[0].decode()
    assert process.returncode == 0, out
    return out


@pytest.fixture
async def build(tmp_path: Path) -> Callable[[str], Awaitable[Path]]:
    """Build one of the two from this checkout, without the network."""

    async def built(target):
        await run("-m", "hatchling", "build", "-t", target, "-d", tmp_path / "dist", cwd=ROOT)
        (path,) = (tmp_path / "dist").iterdir()
        return path

    return built


@pytest.fixture
async def source(build: Callable[[str], Awaitable[Path]], tmp_path: Path) -> Path:
    """The source archive, unpacked."""
    with tarfile.open(await build("sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (directory,) = (tmp_path / "unpacked").iterdir()
    return directory


def files(directory):
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and not GENERATED & set(path.parts)
    }


async def test_wheel_holds_the_package_and_nothing_else(build):
    with zipfile.ZipFile(await build("wheel")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {f"itwin_async/{name}" for name in files(ROOT / "itwin_async")}
    assert "itwin_async/py.typed" in names


def test_links_of_the_papers_hold_outside_a_repository():
    """They are absolute, or lead to a file of the source archive, never to a place on a host."""
    for paper in ROOT.glob("*.md"):
        text = re.sub(r"^```.*?^```$", "", paper.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in LINK.findall(text):
            path = link.partition("#")[0]
            if not link.startswith("https://") and path:
                assert (ROOT / path).is_file(), f"{paper.name} links to {link}"
                assert ".." not in Path(path).parts, f"{paper.name} links to {link}"


@pytest.mark.slow
async def test_source_archive_has_what_its_papers_link_to_and_tests_itself(source):
    for paper in source.glob("*.md"):
        text = re.sub(r"^```.*?^```$", "", paper.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in LINK.findall(text):
            if "://" not in link and not link.startswith("#"):
                assert (source / link.partition("#")[0]).is_file(), f"{paper.name} links to {link}"
    assert files(source / "tests") == files(ROOT / "tests")
    where = await run("-c", "import itwin_async; print(itwin_async.__file__)", cwd=source)
    assert Path(where.strip()).is_relative_to(source)
    tests = ("tests/apis/test_recorded.py", "tests/test_public_api.py", "tests/test_papers.py")
    out = await run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=source)
    assert re.search(r"^\d+ passed", out, re.MULTILINE), out
