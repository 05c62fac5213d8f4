"""Each command's help: short, with an example that works, and the common options folded."""

import inspect
import re
import shlex

import pytest

from itwin_async.cli import main
from itwin_async.cli._app import app
from itwin_async.cli._options import IS_SWITCH

SLOW = {"extended-data export", "extended-data follow", "extended-data sync"}
SILENT = {"extensions delete", "imodels favorites", "imodels recents"}  # nobody has any
NO_DOCSTRING = {"emulator"}  # its help is argparse's


def commands(parent, *names):
    """Every command with its words."""
    for name in parent:
        if name.startswith("-"):
            continue
        command = parent[name]
        if command.default_command is not None:
            yield (*names, name), command.default_command
        else:
            yield from commands(command, *names, name)


COMMANDS = {" ".join(names): function for names, function in commands(app)}
EXAMPLES = {
    name: " ".join(found[1].split())
    for name, function in COMMANDS.items()
    if (found := re.search(r"^Example: (.+(?:\n.+)*)", inspect.getdoc(function), re.MULTILINE))
}


def test_every_command_has_an_example_of_itself():
    assert len(COMMANDS) >= 24
    assert set(COMMANDS) - set(EXAMPLES) == NO_DOCSTRING
    for name, example in EXAMPLES.items():
        assert f"itwin-async {name}" in example


@pytest.mark.parametrize(
    "name",
    [
        # The emulator of the command is as slow as the platform.
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name, example in EXAMPLES.items()
        if "--emulator" in example
    ],
)
def test_an_example_works(name, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(EXAMPLES[name])[1:])
    out, err = capsysbinary.readouterr()
    assert (ended.value.code, err) == (0, b"")
    assert out or name in SILENT


def test_most_examples_need_no_account():
    others = {name for name, example in EXAMPLES.items() if "--emulator" not in example}
    assert others == {
        "auth login", "auth logout", "auth whoami", "auth token", "completion", "demo", "options",
    }  # fmt: skip


def test_a_paragraph_of_help_folds_at_the_width_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["extended-data", "sync", "--help"])
    text = capsys.readouterr().out
    assert "stored once.\nUnchanged iModels cost nothing but their share of a list.\n\n" in text


def test_help_of_a_flag_names_no_default():
    flags = {
        f"{name} --{parameter.name}"
        for name, function in COMMANDS.items()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is False and "show_default=False" not in repr(parameter.annotation)
    }
    assert not flags


@pytest.mark.parametrize("name", ["changesets list", "request"])
def test_help_names_the_common_options_at_its_end_and_explains_its_own(name, capsys):
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert f"Example: itwin-async {name} " in text
    own, _, rest = text.partition("Options of every command that sends requests:")
    assert not [option for option in IS_SWITCH if f"{option} " in own.partition("╭")[2]]
    assert all(option in rest for option in IS_SWITCH)


def test_options_explains_the_common_options(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["options"])
    assert ended.value.code == 0
    text = capsys.readouterr().out.partition("Options of every command")[0]
    assert all(f"│ {option} " in text for option in IS_SWITCH)
