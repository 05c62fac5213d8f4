"""Run the tests on every supported Python, with several dependency versions: `make matrix`.

    python scripts/matrix.py [--all] [only ...]

Each row has a virtualenv of its own under .matrix/, which is kept. Without --all it leaves out the
tests of the emulator itself, of the README and of the documentation. ``only`` names rows, or parts
of their names. A row whose Python is not installed is reported, and is not a failure.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".matrix"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEVELOPMENT = ("--group", "dev", "--editable", ".[arrow,cli,otel]")
LOWEST = [bound.replace(">=", "==") for bound in PROJECT["dependencies"]]
CLIENT = ("--ignore=tests/emulator", "--ignore=tests/docs", "--ignore=tests/test_readme.py")
PLAIN_ASSERTS = "ignore:assertions not in test modules:pytest.PytestConfigWarning"


@dataclass(frozen=True)
class Row:
    """One way to run the suite."""

    name: str
    python: str
    install: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()  # of the interpreter
    pytest: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    constrained: bool = True


ROWS = (
    Row("3.11", "3.11"),
    Row("3.12", "3.12"),
    Row("3.13", "3.13"),
    Row("3.14", "3.14"),
    Row("3.11 lowest dependencies", "3.11", tuple(LOWEST), constrained=False),
    Row("3.13 newest dependencies", "3.13", ("--upgrade",), constrained=False),
    Row("3.12 -O", "3.12", flags=("-O",), pytest=("-W", PLAIN_ASSERTS)),
    Row("3.13 PYTHONDEVMODE=1", "3.13", environment={"PYTHONDEVMODE": "1"}),
    Row(
        "3.12 uvloop",
        "3.12",
        ("uvloop",),
        pytest=("-p", "with_uvloop"),
        environment={"PYTHONPATH": str(ROOT / "scripts")},
    ),
)


def interpreter(required: str) -> str | None:
    """A Python of this version: from pyenv, on PATH, or the running one."""
    versions = Path.home() / ".pyenv" / "versions"
    names = [str(path) for path in sorted(versions.glob(f"{required}.*/bin/python"))]
    for name in (*names, shutil.which(f"python{required}"), sys.executable):
        if name is not None and version(name) == required:
            return name
    return None


def version(python: str) -> str:
    """Its version, such as 3.12; empty if it does not run, as a pyenv shim without a version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return run.stdout.strip()


def installed(row: Row, python: str) -> Path | str:
    """Install everything for a row: its interpreter, or why that failed."""
    home = HOME / re.sub(r"[^\w.]+", "-", row.name)
    own = home / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", str(home)], check=True)
    pip = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)  # older ones do not know groups
    if row.constrained:
        pip += ["--constraint", "constraints.txt"]
    if "--upgrade" in row.install:
        pip += ["--upgrade", "--upgrade-strategy", "eager"]
    more = [name for name in row.install if name != "--upgrade"]
    run = subprocess.run(
        [*pip, *DEVELOPMENT, *more], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return own if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


def run(row: Row, *, everything: bool) -> tuple[str, str]:
    """Run the tests of a row: its result, and the last lines of the output."""
    python = interpreter(row.python)
    if python is None:
        return "not run", f"no Python {row.python} is installed"
    own = installed(row, python)
    if isinstance(own, str):
        return "not run", own
    command = [
        str(own),
        *row.flags,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        *row.pytest,
    ]
    command += [] if everything else CLIENT
    log = HOME / f"{own.parent.parent.name}.log"
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **row.environment},
            stdout=out, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    lines = log.read_text(encoding="utf-8").strip().splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "FAILED" if done.returncode else "passed", "\n    ".join([lines[-1], *failed[:20]])


def main() -> int:
    """Run the rows; how many of them failed."""
    arguments = sys.argv[1:]
    everything = "--all" in arguments
    only = [word for word in arguments if word != "--all"]
    rows = [row for row in ROWS if not only or any(word in row.name for word in only)]
    results = []
    for row in rows:
        result, text = run(row, everything=everything)
        results.append(result)
        print(f"{result:9} {row.name}: {text}", flush=True)
    suite = "all tests" if everything else "the client's tests, without the emulator's own"
    print(
        f"{suite}: " + ", ".join(f"{results.count(item)} {item}" for item in sorted(set(results)))
    )
    return results.count("FAILED")


if __name__ == "__main__":
    sys.exit(min(1, main()))
