"""Each command, in this process, on the platform that `--emulator` starts."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from terminal import in_terminal

from itwin_async.cli import main
from itwin_async.cli._output import write_file

ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
ACCOUNT = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
EXTENSION = "41d94bd4-46b8-48e9-a29a-7c7704a7e662"
USER = "29f08030-52ec-4864-b572-f7ecb632b346"
PERMISSIONS = [
    "imodels_delete", "imodels_manage", "imodels_read", "imodels_webview", "imodels_write",
]  # fmt: skip
CHANGESET = "78c09f3337370b26acabead1790d77b2a6ebc6ee"


@pytest.fixture
def command(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, bytes, str]]:
    for name in ("ID", "SECRET"):
        monkeypatch.delenv(f"ITWIN_CLIENT_{name}", raising=False)

    def run(*arguments: str) -> tuple[int, bytes, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsysbinary.readouterr()
        return ended.value.code, out, err.decode()

    return run


@pytest.fixture
def lines(command: Callable[..., tuple[int, bytes, str]]) -> Callable[..., list[Any]]:
    def run(*arguments: str) -> list:
        code, out, err = command(*arguments, "--emulator")
        assert (code, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    return run


@pytest.mark.parametrize(
    ("arguments", "count", "key", "value"),
    [
        (["itwins", "list"], 5, "id", ITWIN),
        (["itwins", "list", "--sub-class", "Account"], 2, "class", "Account"),
        (["imodels", "list", ITWIN], 14, "id", IMODEL),
        (["imodels", "list", ITWIN, "--search", "Sun"], 1, "id", IMODEL),
        (["imodels", "show", IMODEL], 1, "iTwinId", ITWIN),
        (["imodels", "favorites", ITWIN], 0, "", None),
        (["imodels", "recents", ITWIN, "--representation"], 0, "", None),
        (["imodels", "permissions", IMODEL], 1, "permissions", PERMISSIONS),
        (["named-versions", "list", IMODEL, "--limit", "1"], 1, "changesetIndex", 1),
        (["users", "list", IMODEL, "--order-by", "givenName", "--limit", "1"], 1, "id", USER),
        (["users", "show", IMODEL, USER], 1, "surname", "Example"),
        (["changeset-groups", "list", IMODEL, "--limit", "1"], 1, "state", "completed"),
        (["changesets", "list", IMODEL, "--after", "1990"], 10, "index", 1991),
        (["changesets", "list", IMODEL, "--order", "desc", "--last", "7"], 7, "index", 7),
        (["changesets", "show", IMODEL, "1"], 1, "id", CHANGESET),
        (["changesets", "show", IMODEL, CHANGESET], 1, "index", 1),
        (["extensions", "list"], 300, "name", "clash-viewer-0"),
        (["extensions", "list", "--search", "clash-viewer-0"], 1, "name", "clash-viewer-0"),
        (["extensions", "list", "--limit", "3"], 3, "name", "clash-viewer-0"),
        (["extensions", "versions", EXTENSION, "--limit", "1"], 1, "status", "Valid"),
        (["extensions", "show", EXTENSION, "2.0.0"], 1, "number", "2.0.0"),
        (["extensions", "create", "new", "--itwin", ACCOUNT], 1, "name", "new"),
        (["extensions", "delete", EXTENSION, "--yes"], 0, "", None),
        (["packages", "list"], 12, "uniqueName", "SQL_CUSTOMERS_TABLE"),
        (["packages", "show", "SQL_CUSTOMERS_TABLE"], 1, "uniqueName", "SQL_CUSTOMERS_TABLE"),
        (["extended-data", "show", IMODEL, "1"], 1, "changeset_id", CHANGESET),
        (["request", "GET", "/itwins/", "--query", "$top=1"], 1, "iTwins", None),
    ],
)  # fmt: skip
def test_command_gives_lines_in_the_platforms_spelling(lines, arguments, count, key, value):
    found = lines(*arguments)
    assert len(found) == count
    assert not found or found[0][key] == (value or found[0][key])


@pytest.mark.parametrize("kind", ["named-versions", "changeset-groups"])
def test_what_is_listed_of_an_imodel_is_shown_by_its_id(lines, kind):
    (listed,) = lines(kind, "list", IMODEL, "--limit", "1")
    (shown,) = lines(kind, "show", IMODEL, listed["id"])
    assert shown["id"] == listed["id"]


def test_extended_data_is_a_row_of_ids_and_data(lines):
    first, second = lines("extended-data", "list", IMODEL, "--limit", "2")
    assert list(first) == ["imodel_id", "changeset_index", "changeset_id", "data"]
    assert (first["imodel_id"], first["changeset_index"]) == (IMODEL, 1)
    assert first["data"]["data"]["changedFiles"] == ["A.dgn", "B.dgn"]
    assert second["changeset_index"] == 2


def test_the_emulated_platform_is_the_same_each_time(lines):
    assert lines("imodels", "list", ITWIN) == lines("imodels", "list", ITWIN)


def test_common_options_may_stand_before_the_command(command):
    code, out, _ = command("--emulator", "--per-minute", "50", "--timeout=9", "itwins", "list")
    assert (code, len(out.splitlines())) == (0, 5)


def test_package_runs_with_variables(command, lines):
    package = ("packages", "execute", "SQL_CUSTOMERS_TABLE", "--itwin", ITWIN)
    (found,) = lines(*package, "--variable", "CustomerID=ACME")
    assert found["data"][0]["customerID"].strip() == "ACME"
    code, out, _ = command(*package, "--variable", "CustomerID=ACME", "--xml", "--emulator")
    assert code == 0
    assert out.startswith(b"<")


def test_download_puts_the_files_where_they_belong(lines, tmp_path):
    (found,) = lines("extensions", "download", EXTENSION, "2.0.0", str(tmp_path / "files"))
    assert found["main"] == str(tmp_path / "files/dist/index.js")
    assert all((tmp_path / file).is_file() for file in found["files"])


def test_an_output_that_does_not_fit_leaves_what_was_there(tmp_path):
    limited = """
import resource, signal, sys
from pathlib import Path
from itwin_async.cli._output import write_file

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    write_file(Path(sys.argv[1]), b"x" * 2_000)
except OSError as error:
    print(error.filename)
"""
    output = tmp_path / "response.json"
    output.write_bytes(b"of yesterday")
    ended = subprocess.run(
        [sys.executable, "-c", limited, str(output)], capture_output=True, check=True, text=True
    )
    assert ended.stdout.strip() == str(output)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "response.json": b"of yesterday"
    }


def test_an_output_is_replaced_where_a_link_leads_and_keeps_its_mode(tmp_path):
    output, link = tmp_path / "response.json", tmp_path / "link"
    output.write_bytes(b"of yesterday")
    output.chmod(0o640)
    link.symlink_to(output)
    write_file(link, b"new")
    assert link.is_symlink()
    assert output.read_bytes() == b"new"
    assert output.stat().st_mode & 0o777 == 0o640
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("form", ["JSON", "file", "stdin"])
def test_request_sends_a_body(lines, form, tmp_path, monkeypatch):
    body = json.dumps({"name": "mine", "iTwinId": ACCOUNT})
    (tmp_path / "body.json").write_text(body)
    monkeypatch.setattr(sys, "stdin", io.StringIO(body))
    argument = {"JSON": body, "file": f"@{tmp_path}/body.json", "stdin": "-"}[form]
    (found,) = lines("request", "post", "/extensions/", "--body", argument)
    assert found["extension"]["name"] == "mine"


@pytest.mark.parametrize("items", [[], ["--items", "iTwins"]])
def test_request_prints_the_items_of_all_pages(lines, items):
    query = ["--query", "$top=2"]
    found = lines("request", "get", "/itwins/", *query, "--paginate", *items)
    assert [item["id"] for item in found] == [item["id"] for item in lines("itwins", "list")]
    assert len(found) == 5


@pytest.mark.slow
@pytest.mark.parametrize("items", [[], ["--items", "a"]])
def test_no_page_of_a_list_is_requested_twice(command, monkeypatch, items):
    pages = {
        "/x?n=1": b'{"a": [1, 2], "_links": {"next": {"href": "?n=2"}}}',
        "/x?n=2": b'{"a": [3], "@odata.nextLink": "/x?n=3"}',
        "/x?n=3": b'{"a": [4], "_links": {"next": null}}',
    }
    asked: list[str] = []
    arguments = ("--query", "n=1", "--paginate", *items)
    code, out, err = _requested(command, monkeypatch, pages, *arguments, asked=asked)
    assert (code, out, err) == (0, b"1\n2\n3\n4\n", "")
    assert asked == list(pages)


@pytest.mark.slow
@pytest.mark.parametrize("href", ['"https://elsewhere.example/x"', "3", '{"href": []}'])
def test_a_next_link_that_leads_elsewhere_is_refused_after_its_page(command, monkeypatch, href):
    body = b'{"a": [1], "_links": {"next": {"href": %s}}}' % href.encode()
    code, out, err = _requested(command, monkeypatch, body, "--paginate")
    assert (code, out) == (1, b"1\n")
    assert "next link" in err


@pytest.mark.slow
def test_the_items_of_a_request_are_lines_digit_for_digit(command, monkeypatch):
    body = b'{"a": [{"n": 1.10,\n "x": 123456789012345678901234567890}], "_links": {}, "b": 1}'
    code, out, err = _requested(command, monkeypatch, body, "--paginate")
    assert (code, err) == (0, "")
    assert out == b'{"n":1.10,"x":123456789012345678901234567890}\n'


@pytest.mark.slow
def test_a_request_with_several_lists_asks_for_the_key(command, monkeypatch):
    body = b'{"a": [1], "b": [2, 3]}'
    code, out, err = _requested(command, monkeypatch, body, "--paginate")
    assert (code, out) == (2, b"")
    assert "--paginate needs --items, for the response has several lists: a, b" in err
    code, out, _ = _requested(command, monkeypatch, body, "--paginate", "--items", "b")
    assert (code, out) == (0, b"2\n3\n")
    code, out, err = _requested(command, monkeypatch, body, "--paginate", "--items", "c")
    assert (code, out) == (2, b"")
    assert err == "itwin-async: --items c is no list of the response, which has a, b\n"


def _requested(command, monkeypatch, answers, *arguments, asked=None):
    """What a request prints that a server in another thread answers with a body, or one of some."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers if isinstance(answers, bytes) else answers[self.path]
            if asked is not None:
                asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("ITWIN_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("ITWIN_ACCESS_TOKEN", "token")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            return command("request", "GET", "/x", *arguments)
        finally:
            server.shutdown()
            thread.join()


def test_request_writes_bytes_to_a_file(command, tmp_path):
    output = tmp_path / "response"
    code, out, _ = command("request", "GET", "/itwins/", "--output", str(output), "--emulator")
    assert (code, out) == (0, b"")
    assert len(json.loads(output.read_bytes())["iTwins"]) == 5


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(command, shell):
    code, out, _ = command("completion", shell)
    assert code == 0
    for word in (b"extended-data", b"export", b"no-resume", b"client-secret-file", b"per-minute"):
        assert word in out


def test_completion_is_installed_where_the_shell_looks(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    code, _, err = command("completion", "bash", "--install")
    assert code == 0
    where = err.split()[1]
    assert where.startswith(str(tmp_path))
    assert where in (tmp_path / ".bashrc").read_text()


def test_help_shows_exit_codes_and_common_options(command):
    _, out, _ = command("--help")
    assert b"Exit codes: 0 done" in out
    _, out, _ = command("imodels", "list", "--help")
    for option in (b"--client-secret-file", b"--emulator", b"--per-minute", b"--verbose"):
        assert option in out


def test_no_option_takes_a_secret_as_its_value(command):
    _, out, _ = command("itwins", "list", "--help")
    assert b"--client-secret-file" in out
    assert b"--client-secret " not in out
    assert b"--token " not in out


def test_emulator_is_the_emulators_own_command(command):
    with pytest.raises(SystemExit) as ended:
        main(["emulator", "--help"])
    assert ended.value.code == 0


def test_emulator_takes_the_emulators_options(command):
    code, _, err = command("emulator", "--itwins", "0")
    assert code == 2
    assert err == "itwin-async emulator: itwins must be at least 3, not 0\n"


@pytest.mark.slow
def test_terminal_shows_tables_with_whole_ids():
    code, screen = in_terminal("imodels", "list", ITWIN, "--emulator")
    assert code == 0
    assert "displayName" in screen
    assert IMODEL in screen
    assert "{" not in screen


@pytest.mark.slow
def test_terminal_shows_no_signature_of_a_url():
    code, screen = in_terminal("extensions", "show", EXTENSION, "2.0.0", "--emulator")
    assert code == 0
    assert "/archive.zip?…" in "".join(screen.split())
    assert "sig=" not in screen


def test_terminal_shows_lines_where_they_are_asked_for():
    code, screen = in_terminal("itwins", "list", "--emulator", "--json")
    assert code == 0
    assert next(json.loads(line)["id"] for line in screen.splitlines()) == ITWIN


@pytest.mark.slow
def test_terminal_cuts_extended_data_and_no_id():
    code, screen = in_terminal("extended-data", "list", IMODEL, "--emulator", "--limit", "1")
    assert code == 0
    row = screen.splitlines()[-1]
    assert row.startswith("1 ")
    assert CHANGESET in row
    assert row.rstrip().endswith("…")
