"""What is imported, and the message when that fails."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from terminal import environment

import itwin_async

pytestmark = pytest.mark.slow  # a process for each test

EXTRAS = {
    "cyclopts", "rich", "pyarrow", "pandas", "numpy", "opentelemetry", "distributed", "dask",
    "fsspec", "fastapi", "uvicorn", "matplotlib", "tqdm", "IPython", "playwright",
}  # fmt: skip
LOADED = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
HELP = """
import sys
from itwin_async.cli import main
try:
    main([*sys.argv[1:], "--help"])
except SystemExit:
    pass
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import itwin_async", set()),
        ("import itwin_async.cli", set()),
        (HELP, {"cyclopts", "rich"}),
    ],
)
def test_no_extra_is_loaded_before_it_is_needed(code, loaded):
    ended = python(f"{code}\n{LOADED}")
    assert ended.returncode == 0
    assert set(ended.stderr.split()) & EXTRAS == loaded


@pytest.mark.parametrize("command", [["extended-data", "export"], ["emulator"], ["demo"]])
def test_help_of_a_command_loads_no_other_extra(command):
    ended = python(f"{HELP}\n{LOADED}", *command)
    assert not set(ended.stderr.split()) & EXTRAS - {"cyclopts", "rich"}


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
@pytest.mark.parametrize("start", ["script", "module"])
def test_a_missing_extra_is_named_with_the_way_to_install_it(missing, start):
    run = {
        "script": "from itwin_async.cli import main; main()",
        "module": "import runpy; runpy.run_module('itwin_async', run_name='__main__')",
    }[start]
    ended = python(f"import sys; sys.modules[{missing!r}] = None; {run}", "--help")
    assert ended.returncode == 1
    assert ended.stderr == (
        f"itwin-async: the command line needs {missing}: pip install 'itwin-async[cli]'\n"
    )


def test_another_missing_module_is_not_taken_for_the_extra():
    ended = python("import sys; sys.modules['getpass'] = None; import itwin_async.cli as cli; "
                   "cli.main(['--help'])")  # fmt: skip
    assert "ModuleNotFoundError" in ended.stderr


def test_the_version_is_that_of_the_distribution():
    ended = python("from itwin_async.cli import main; main(['--version'])")
    assert ended.stdout.strip() == itwin_async.__version__ == version("itwin-async")
