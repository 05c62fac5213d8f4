"""The recipe of CONTRIBUTING.md works: followed in a copy of the checkout, it passes all guards."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from snippets import ROOT

_CODE = r"```\w+\n(?P<{}>.*?)^```$"
STEP = re.compile(
    r"[Ii]n `(?P<file>[^`]+)`, (?P<how>after|instead of) `(?P<place>[^`]+)`:\n\n"
    + _CODE.format("code")
    + r"|A new file `(?P<new>[^`]+)`:\n\n"
    + _CODE.format("text"),
    re.MULTILINE | re.DOTALL,
)
STEPS = list(STEP.finditer((ROOT / "CONTRIBUTING.md").read_text()))
GUARDS = (
    "tests/apis/test_recorded.py",
    "tests/core/test_records.py",
    "tests/emulator/test_emulator_responses.py",
    "tests/test_papers.py",
    "tests/test_public_api.py",
    "tests/test_readme.py::test_what_is_generated_is_up_to_date",
    "tests/test_readme.py::test_every_operation_has_a_documented_method",
)


def definition(tree, place):
    """The statement that defines a name, such as ``GET_ACCOUNT`` or ``ITwins.get_account``."""
    found = None
    for name in place.split("."):
        body = tree.body if found is None else found.body
        named = {getattr(node, "name", ast.unparse(node).partition(":")[0]): node for node in body}
        found = named[name]
    return found


def insert(text, how, place, code):
    """A source with a step's code in its place."""
    if how == "instead of" or not re.fullmatch(r"[\w.]+", place):
        assert text.count(place) == 1, f"{place} is not there once"
        return text.replace(
            place, code.strip() if how == "instead of" else f"{place}\n{code.rstrip()}"
        )
    node = definition(ast.parse(text), place)
    lines = text.splitlines(keepends=True)
    blank = 0 if isinstance(node, ast.AnnAssign) else 1 if "." in place else 2
    lines.insert(node.end_lineno, "\n" * blank + code)
    return "".join(lines)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The checkout without what git ignores."""
    directory = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", ".*cache", ".venv*", ".matrix", ".hypothesis", ".work",
                                     ".typescript", "__pycache__", "_build", "dist")  # fmt: skip
    shutil.copytree(ROOT, directory, ignore=ignored)
    return directory


def run(*command, cwd):
    """A program of the copy, with the copy's package: its code and what it printed."""
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env={**os.environ, "PYTHONPATH": str(cwd)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def succeed(*command, cwd):
    code, out = run(*command, cwd=cwd)
    assert code == 0, out
    return out


def test_steps_are_found():
    assert {step["how"] for step in STEPS} == {"after", "instead of", None}
    assert len(STEPS) >= 8


def follow(steps, directory):
    for step in steps:
        path = directory / (step["new"] or step["file"])
        text = step["new"] and step["text"]
        path.write_text(text or insert(path.read_text(), step["how"], step["place"], step["code"]))


@pytest.mark.slow
def test_an_operation_that_is_added_as_the_recipe_says_passes_all_guards(copy):
    follow(STEPS, copy)
    succeed("scripts/generate.py", cwd=copy)
    assert "`itwins.list_repositories`" in (copy / "docs/reference/operations.md").read_text()
    for command in (("format", "--check"), ("check", "--no-cache")):
        succeed("-m", "ruff", *command, "itwin_async", cwd=copy)
    out = succeed("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", *GUARDS, cwd=copy)
    assert re.search(r"^\d+ passed", out, re.MULTILINE), out


@pytest.mark.slow
def test_what_is_left_out_of_the_recipe_is_seen(copy):
    follow([step for step in STEPS if step["file"] == "itwin_async/itwins.py"], copy)
    code, out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *GUARDS, cwd=copy)
    assert code == 1, out
    assert {
        "test_every_operation_of_the_client_has_a_route_of_the_same_method_and_path",
        "test_every_error_record_and_event_is_public",
        "test_what_is_generated_is_up_to_date",
    } <= set(re.findall(r"^FAILED \S+::(\w+)", out, re.MULTILINE)), out
