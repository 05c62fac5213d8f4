"""Through a proxy, and with certificate authorities of one's own."""

import sys

import pytest
from http_proxy import USER, HttpProxy
from terminal import run

from itwin_async.cli import main

ID = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
async def test_every_request_goes_through_the_proxy(emulator, before):
    async with HttpProxy(password=True) as proxy:
        options = ("--proxy", f"http://{USER}@{proxy.address}")
        command = ("itwins", "list")
        arguments = (*options, *command) if before else (*command, *options)
        ended = await run(*arguments, variables=emulator.environment)
        assert (ended.code, ended.err) == (0, "")
        targets = [head.split(" ")[1] for head in proxy.heads]
        assert targets[0] == emulator.token_url
        assert targets[1].startswith(f"{emulator.url}/itwins")


async def test_a_proxy_that_refuses_is_code_1_and_a_line_without_its_password(emulator):
    async with HttpProxy(status=407) as proxy:
        ended = await run(
            "itwins", "list", "--proxy", f"http://{USER}@{proxy.address}", "--verbose",
            variables=emulator.environment,
        )  # fmt: skip
    assert ended.code == 1
    assert "proxy" in ended.err.splitlines()[-1]
    assert "canary" not in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--proxy", "me:canary-1@proxy"], "proxy must be an http or https URL such as"),
        (["--proxy=http://me:canary-1@proxy/path"], "proxy must be an http or https URL such as"),
        (["--prox=http://me:canary-1@proxy"], ""),
        (["--ca-file", "nowhere.pem"], "ca_file nowhere.pem cannot be read: No such file"),
        (["--ca-file", __file__], f"ca_file {__file__} holds no certificates"),
        (["--emulator", "--proxy", "http://proxy"], "--emulator brings its own platform"),
        (["--emulator", "--ca-file", __file__], "--emulator brings its own platform"),
    ],
)
def test_what_cannot_be_used_is_wrong_usage(options, message, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if "--emulator" not in options:
        monkeypatch.setenv("ITWIN_CLIENT_ID", "me")
        monkeypatch.setenv("ITWIN_CLIENT_SECRET", "secret")
    monkeypatch.setattr(sys, "argv", ["itwin-async", "imodels", "show", ID, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith(f"itwin-async: {message}")
    assert err.count("\n") == 1
    assert "canary" not in err
