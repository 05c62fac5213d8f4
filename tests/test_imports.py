"""What a start loads, by name: each module takes time before the first request."""

import asyncio
import subprocess
import sys

import pytest
from declared import GROUPS

import itwin_async
from itwin_async.emulator import Emulator

# Beside the modules that aiohttp, anyio and msgspec load, and our own.
STANDARD_LIBRARY = {"_queue", "concurrent.futures.thread", "dataclasses", "encodings.idna", "gc",
                    "hmac", "html", "html.entities", "queue", "secrets", "stringprep"}  # fmt: skip
ANYIO = {"anyio._core", "anyio._core._eventloop", "anyio._core._exceptions", "anyio._core._tasks",
         "anyio.abc", "anyio.abc._tasks"}  # fmt: skip
# Submodules that a user imports by name, and this import does not.
BY_NAME = {"cli", "distributed", "emulator", "export", "sync", "tables", "telemetry", "webhooks"}
APIS = set(GROUPS)
MOST_MODULES = 85  # of our own; each takes a third of a millisecond
CLI = {"_app", "_credentials", "_errors", "_login", "_options", "_stdio", "_text"}
ENDED = "print(*sys.modules, file=sys.stderr)"

pytestmark = pytest.mark.unmeasured


def modules(code: str, *arguments: str, **variables: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after ``code``."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{ENDED}", *arguments],
        env={"PYTHONPATH": ":".join(sys.path), **variables},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    return set(ended.stderr.split())


def command(*arguments: str, **variables: str) -> set[str]:
    code = (
        "from itwin_async.cli import main\ntry: main()\nexcept SystemExit as e: assert not e.code"
    )
    return modules(code, *arguments, **variables)


def of(package: str, loaded: set[str]) -> set[str]:
    """What is loaded of a package, as its submodules' names."""
    return {name.removeprefix(f"{package}.").partition(".")[0]
            for name in loaded if name.startswith(f"{package}.")}  # fmt: skip


def test_the_import_loads_its_dependencies_and_little_else():
    dependencies = modules("import aiohttp, anyio, msgspec")
    loaded = modules("import aiohttp, anyio, msgspec, itwin_async") - dependencies
    own = {name for name in loaded if name.partition(".")[0] == "itwin_async"}
    assert loaded - own <= STANDARD_LIBRARY | ANYIO
    assert not of("itwin_async", own) & BY_NAME
    assert len(own) <= MOST_MODULES
    assert not of("itwin_async", own) & APIS


def test_an_api_is_loaded_when_a_public_name_or_an_attribute_of_a_session_is_used():
    use = "itwin_async.ITwinSession(itwin_async.StaticToken('t')).packages"
    assert of("itwin_async", modules(f"import itwin_async; {use}")) & APIS == {"packages"}
    loaded = modules("from itwin_async import IModel; assert IModel.__module__ == 'itwin_async'")
    assert of("itwin_async", loaded) & APIS == {"imodels"}
    found = "assert not {*itwin_async.__all__} - {*dir(itwin_async)}; from itwin_async import *"
    assert of("itwin_async", modules(f"import itwin_async; {found}")) & APIS == APIS


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'itwin_async' has no attribute 'IModle'"):
        _ = itwin_async.IModle
    with pytest.raises(ImportError, match="IModle"):
        exec("from itwin_async import IModle")


def test_help_loads_no_command():
    loaded = command("--help")
    assert of("itwin_async.cli", loaded) == CLI | {"_cells", "_screen", "_tables"}
    assert of("itwin_async", loaded) & BY_NAME == {"cli"}
    assert "aiohttp.web" not in loaded


async def test_a_list_in_a_pipe_loads_nothing_for_people_and_no_emulator(emulator: Emulator):
    loaded = await asyncio.to_thread(command, "itwins", "list", **emulator.environment)
    needed = {"_cells", "_discovery", "_meter", "_output", "_progress", "_running", "_session"}
    assert of("itwin_async.cli", loaded) == CLI | needed
    assert of("itwin_async", loaded) & BY_NAME == {"cli"}
    assert not {"rich", "pyarrow", "aiohttp.web", "argparse"} & loaded


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("itwin_async.tables", "pyarrow", "arrow"),
        ("itwin_async.telemetry", "opentelemetry", "otel"),
        ("itwin_async.distributed", "distributed", "dask"),
    ],
)
def test_a_module_whose_extra_is_missing_names_it(module, missing, extra):
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
try:
    import {module}
except ImportError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'itwin-async[{extra}]'" in ended.stdout
