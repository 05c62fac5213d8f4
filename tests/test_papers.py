"""What the papers say of versions and commands is what the project declares."""

import re
import tomllib

import matrix
from snippets import ROOT, snippets

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STABILITY = (ROOT / "STABILITY.md").read_text()
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
VERSION = r"\b3\.\d\d\b"


def declared_pythons():
    """Those of the classifiers."""
    classifiers = " ".join(PROJECT["project"]["classifiers"])
    return set(re.findall(rf"Python :: ({VERSION})", classifiers))


def test_stability_names_the_pythons_of_the_classifiers():
    assert (
        set(re.findall(rf"^\| Python ({VERSION})", STABILITY, re.MULTILINE)) == declared_pythons()
    )


def test_every_python_of_the_classifiers_has_a_row_of_the_matrix():
    assert declared_pythons() <= {row.name for row in matrix.ROWS}


def test_lowest_python_is_the_required_one():
    assert PROJECT["project"]["requires-python"] == f">={min(declared_pythons())}"


def test_stability_names_the_lowest_dependencies():
    for lowest in PROJECT["project"]["dependencies"]:
        name, _, version = lowest.partition(">=")
        assert re.search(rf"^\| {name} {re.escape(version)}", STABILITY, re.MULTILINE), lowest


def test_targets_of_make_in_the_papers_are_there():
    for paper in ROOT.glob("*.md"):
        named = re.findall(r"`make ([a-z-]+)", paper.read_text())
        shown = [
            line.split()[1]
            for block in snippets(paper, "sh")
            for line in block.text.splitlines()
            if line.startswith("make ")
        ]
        assert {*named, *shown} <= TARGETS, paper.name


def test_extras_of_the_papers_are_there():
    extras = PROJECT["project"]["optional-dependencies"]
    for paper in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for named in re.findall(r"itwin-async\[([a-z,]+)\]", paper.read_text()):
            assert set(named.split(",")) <= set(extras), paper.name
