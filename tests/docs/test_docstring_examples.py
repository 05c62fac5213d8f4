"""The examples in docstrings run, against an emulator and with the names that they use."""

import ast
import hashlib
import hmac
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declared import GROUPS

import itwin_async
import itwin_async.emulator
import itwin_async.export
import itwin_async.telemetry
import itwin_async.webhooks
from itwin_async import ITwinSession
from itwin_async.emulator import Emulator

_EXAMPLE = re.compile(r"^Example::\n\n((?:    .*\n|\n)+)", re.MULTILINE)
# What people call most has an example.
EXPECTED = {
    "ITwinSession", "ITwinSession.from_env", "ITwinSession.list", "ITwinSession.request",
    "ITwinSession.with_options", "Pager", "Pager.ahead",
    "Pager.first", "Pager.pages", "Pager.resume", "Pager.take", "merged",
    "Extensions.list_extensions", "IModels.list_imodels",
    "IModels.list_changesets", "IModels.download_changesets", "IModels.list_extended_data",
    "IModels.get_extended_data",
    "Emulator", "Emulator.sign_in_as", "Faults.add", "Limiter", "Retry",
    "export_extended_data", "Spans", "Webhooks.create_webhook", "verify",
}  # fmt: skip


PUBLIC = {
    name: getattr(module, name)
    for module in (itwin_async.emulator, itwin_async.export, itwin_async.webhooks, itwin_async)
    for name in module.__all__
} | {"Spans": itwin_async.telemetry.Spans}


def documented():
    """Every public class and function with its methods, by name."""
    for name, value in PUBLIC.items():
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value):
            for attribute, member in inspect.getmembers(value, inspect.isroutine):
                if not attribute.startswith("_"):
                    yield f"{name}.{attribute}", member


EXAMPLES = {
    name: textwrap.dedent(found[1])
    for name, value in documented()
    if (found := _EXAMPLE.search((inspect.getdoc(value) or "") + "\n"))
}


def test_what_is_called_most_has_an_example():
    assert set(EXAMPLES) >= EXPECTED
    assert set(GROUPS) >= {"extensions", "imodels"}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_example_runs(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # for the files that they write
    Path("thumbnail.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    async with Emulator(imodels=3, changesets=8) as emulator:
        for variable, value in emulator.environment.items():
            monkeypatch.setenv(variable, value)
        async with ITwinSession.from_env() as itwin:
            itwin_id = (await anext(aiter(itwin.itwins.list_itwins()))).id
            imodel_id = (await anext(aiter(itwin.imodels.list_imodels(itwin_id)))).id
            names: dict[str, Any] = {
                **PUBLIC,
                "Any": Any,
                "json": json,
                "msgspec": msgspec,
                "itwin": itwin,
                "emulator": emulator,
                "itwin_id": itwin_id,
                "imodel_id": imodel_id,
                "path": tmp_path / "file",
                "Path": Path,
                "client_id": emulator.environment["ITWIN_CLIENT_ID"],
                "client_secret": emulator.environment["ITWIN_CLIENT_SECRET"],
                **delivery(imodel_id),
                **await parts_of(itwin, imodel_id),
            }
            if name == "ITwinSession":
                # The example is for the platform itself, whose base is the default.
                names["ITwinSession"] = lambda provider, **options: ITwinSession.from_env(
                    token_provider=emulated(provider, emulator), **options
                )
            code = compile(EXAMPLES[name], name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if inspect.isawaitable(running):
                await running


async def parts_of(itwin: ITwinSession, imodel_id: str) -> dict[str, Any]:
    """What belongs to an iModel, by the names that examples have for it."""
    imodels = itwin.imodels
    return {
        "named_version_id": (await imodels.list_named_versions(imodel_id).first()).id,
        "group_id": (await imodels.list_changeset_groups(imodel_id).first()).id,
        "briefcase": await imodels.list_briefcases(imodel_id).first(),
        "changeset_id": (await imodels.get_changeset(imodel_id, 8)).id,
    }


def delivery(imodel_id: str) -> dict[str, Any]:
    """A request of the platform to a webhook's callback, and the webhook's secret."""
    secret, content = "0123456789abcdef0123456789abcdef", {"imodelId": imodel_id}
    event = {"eventType": "iModels.changesReady.v1", "messageId": "m", "content": content}
    body = json.dumps(event).encode()
    signature = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return {"body": body, "headers": {"Signature": signature}, "secret": secret}


def emulated(provider, emulator):
    """The same credentials at the emulator."""
    return type(provider)(
        provider.client_id,
        provider.client_secret,
        token_url=emulator.environment["ITWIN_TOKEN_URL"],
    )
