"""docs/faults.md is true: it has all eighty cases, and the tests it names are there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
ROWS = re.findall(
    r"^\| (\d+) \| (.+?) \| (.+) \|$",
    (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def there() -> set[tuple[str, str]]:
    """File and name of every test."""
    return {
        (path.name, node.name)
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


THERE = there()


def test_there_are_eighty_cases():
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 81))


@pytest.mark.parametrize(("number", "case", "tests"), ROWS, ids=[row[0] for row in ROWS])
def test_a_case_has_tests_that_exist(number, case, tests):
    named = NAMED.findall(tests)
    assert named or tests.startswith("Does not apply: ")
    assert not set(named) - THERE


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/faults.md"])
def test_a_document_names_only_tests_that_exist(document):
    named = NAMED.findall((ROOT / document).read_text(encoding="utf-8"))
    assert named
    assert not set(named) - THERE
