"""Mutation testing of modules whose arithmetic decides: `make mutation`.

    python scripts/mutation.py [--seconds 600] [--jobs 2] [--line N] [target ...]

Each mutant is one small change of one expression or statement. The tests of its module run against
it in a copy of the checkout, and stop at the first failure. The mutants that pass the tests are
printed, and are no failure: some do the same as the original. ``target`` is a part of a module's
path.
"""

import argparse
import ast
import contextlib
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).parent.parent
MEMORY: Final = 4 << 30  # bytes that one run of the tests may take
COPIED: Final = ("itwin_async", "tests", "examples", "scripts", "pyproject.toml")
_LIMITER: Final = (
    "tests/http/test_rate_limiter.py",
    "tests/http/test_pauses.py",
    "tests/http/test_rate_windows.py",
    "-k=not ten_thousand_waiters",
)
# What tests each module, as arguments of pytest: without the slowest, for each runs many times.
TARGETS: Final = {
    "itwin_async/_core/urls.py": (
        "tests/core/test_urls.py",
        "--deselect=tests/core/test_urls.py::test_empty_pages_without_end_are_a_loop",
        "--deselect=tests/core/test_urls.py::test_no_link_ever_leads_to_another_origin",
    ),
    "itwin_async/_http/outages.py": (
        "tests/http/test_outages.py",
        "tests/http/test_outage_waiting.py",
    ),
    "itwin_async/_pagination/json_splitter.py": ("tests/pagination/test_json_splitter.py",),
    "itwin_async/_http/rate_limiter.py": _LIMITER,
    "itwin_async/_http/pause.py": _LIMITER,
    "itwin_async/_http/rate_window.py": _LIMITER,
    "itwin_async/limits.py": ("tests/test_limits.py",),
    "itwin_async/retries.py": (
        "tests/test_retries.py",
        "tests/http/test_retry_after.py",
        "tests/http/test_repeats.py",
        "tests/http/test_outages.py",
        "tests/http/test_outage_waiting.py",
        "tests/http/test_host_pauses.py",
    ),
    "itwin_async/_http/host_pauses.py": ("tests/http/test_host_pauses.py",),
}
# Loaded once, before a process is forked for each mutant.
PRELOADED: Final = (
    "aiohttp", "anyio._backends._asyncio", "blockbuster", "hypothesis.strategies", "msgspec",
    "_hypothesis_pytestplugin", "pytest", "pytest_asyncio.plugin",
)  # fmt: skip

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_Test = ast.If | ast.While | ast.IfExp | ast.Assert | ast.comprehension


@dataclass(frozen=True)
class Mutant:
    """One change of a module: the characters from ``start`` to ``end`` become ``new``."""

    line: int
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.line}: {old}  ->  {new}"


class Module:
    """A module's source, and its mutants."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_bytes()
        self._starts = [0]
        for line in self.source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def mutated(self, mutant: Mutant) -> bytes:
        """The source with one change."""
        return self.source[: mutant.start] + mutant.new.encode() + self.source[mutant.end :]

    def mutants(self) -> Iterator[Mutant]:
        """Every mutant, from top to bottom."""
        found = {
            (start, end, new): Mutant(node.lineno, start, end, self.source[start:end].decode(), new)
            for node, new in _changes(ast.parse(self.source))
            for start, end in [self._span(node)]
        }
        return iter([found[key] for key in sorted(found)])

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        last, column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[last - 1] + column


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Nodes, and the text that takes the place of each."""
    text = _ignored(tree)
    for node in ast.walk(tree):
        if id(node) in text:
            continue
        if isinstance(node, ast.expr):
            for changed in _expressions(node):
                yield node, f"({ast.unparse(changed)})"
        elif isinstance(node, ast.stmt) and _removable(node):
            yield node, "pass"
        if isinstance(node, _Test):
            for test in node.ifs if isinstance(node, ast.comprehension) else [node.test]:
                yield test, f"(not ({ast.unparse(test)}))"


def _ignored(tree: ast.Module) -> set[int]:
    """Nodes that decide nothing: annotations, and the text of what is raised."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg):
            roots.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots += [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            roots += node.decorator_list
        elif isinstance(node, ast.JoinedStr):
            roots.append(node)
    return {id(inner) for root in roots if root is not None for inner in ast.walk(root)}


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    changed = deepcopy(node)
    match changed:
        case ast.Compare():
            for index, operator in enumerate(changed.ops):
                other = deepcopy(changed)
                other.ops[index] = _COMPARISONS[type(operator)]()
                yield other
        case ast.BoolOp():
            changed.op = ast.Or() if isinstance(changed.op, ast.And) else ast.And()
            yield changed
        case ast.BinOp() if type(changed.op) in _ARITHMETIC:
            changed.op = _ARITHMETIC[type(changed.op)]()
            yield changed
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield changed.operand
        case ast.Constant(value=bool()):
            changed.value = not changed.value
            yield changed
        case ast.Constant(value=int() | float()):
            changed.value += 1
            yield changed
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            changed.func = ast.Name(_CALLS[name])
            yield changed


def _removable(node: ast.stmt) -> bool:
    match node:
        case (
            ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise() | ast.Delete()
        ):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            return True
        case ast.Return(value=value):
            return value is None
    return False


class Copy:
    """A copy of the checkout in which tests run against one mutant at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in COPIED:
            source, target = ROOT / name, directory / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def passes(self, target: str, source: bytes, tests: Sequence[str], seconds: float) -> bool:
        """Whether the tests pass, in time, with that source of a module."""
        path = self.directory / target
        original = path.read_bytes()
        path.write_bytes(source)
        try:
            child = os.fork()
            if child == 0:
                self._run(tests, seconds)
            _, status = os.waitpid(child, 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what the tests have started
            return status == 0
        finally:
            path.write_bytes(original)

    def _run(self, tests: Sequence[str], seconds: float) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.alarm(max(1, round(seconds)))  # ends this process
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            output = os.open(self.directory / "output", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.directory)
            sys.path.insert(0, str(self.directory))
            sys.dont_write_bytecode = True
            options = ("-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist")
            options += ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # for what is loaded
            code = int(pytest.main([*options, *tests]))
        except Exception:  # noqa: BLE001 - this process ends here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


@dataclass(frozen=True)
class Job:
    """One mutant to try."""

    target: str
    source: bytes
    mutant: Mutant
    seconds: float
    until: float


_copies: list[Copy] = []  # that of this worker


def _prepare(directory: str) -> None:
    _copies.append(Copy(Path(tempfile.mkdtemp(dir=directory))))


def _try(job: Job) -> tuple[Job, bool | None]:
    """Whether a mutant survives; None when there was no time left to see."""
    if time.monotonic() > job.until:
        return job, None
    return job, _copies[0].passes(job.target, job.source, TARGETS[job.target], job.seconds)


def _jobs(targets: Sequence[str], directory: Path, until: float, line: int) -> list[Job]:
    """The mutants of some modules, in a fixed random order, each with a limit of its time."""
    jobs: list[Job] = []
    copy = Copy(directory)
    for target in targets:
        module = Module(ROOT / target)
        begun = time.monotonic()
        if not copy.passes(target, module.source, TARGETS[target], 600):
            print((copy.directory / "output").read_text())
            sys.exit(f"the tests of {target} fail without a mutant")
        seconds = 10 + 3 * (time.monotonic() - begun)
        jobs += [
            Job(target, module.mutated(mutant), mutant, seconds, until)
            for mutant in module.mutants()
            if line in {0, mutant.line}
        ]
    random.Random(0).shuffle(jobs)  # noqa: S311 - so that a bound in time leaves a fair sample
    return jobs


def main() -> None:
    """Try the mutants, and print those that survive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("targets", nargs="*", help="parts of the paths of modules; all without any")
    parser.add_argument("--seconds", type=float, default=1_800, help="after which no more is begun")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--line", type=int, default=0, help="mutants of this line alone")
    options = parser.parse_args()
    targets = [
        target
        for target in TARGETS
        if not options.targets or any(part in target for part in options.targets)
    ]
    for name in PRELOADED:
        importlib.import_module(name)
    until = time.monotonic() + options.seconds
    survivors: dict[str, list[Mutant]] = {target: [] for target in targets}
    tried = 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        jobs = _jobs(targets, Path(tempfile.mkdtemp(dir=directory)), until, options.line)
        context = multiprocessing.get_context("fork")
        with context.Pool(options.jobs, _prepare, (directory,)) as pool:
            for job, survived in pool.imap_unordered(_try, jobs):
                tried += survived is not None
                if survived:
                    survivors[job.target].append(job.mutant)
                    print(f"{job.target}:{job.mutant}", file=sys.stderr, flush=True)
    for target, mutants in survivors.items():
        print(f"{target}: {len(mutants)} survive")
        for mutant in sorted(mutants, key=lambda mutant: mutant.start):
            print(f"  {mutant}")
    print(f"{tried} of {len(jobs)} mutants tried, {sum(map(len, survivors.values()))} survive")


if __name__ == "__main__":
    main()
