"""One recorded answer per operation: nothing that the documents show is lost on the way.

The answers are the documented samples. Fields that only a field table names are added with a value
of their kind.
"""

import base64
import inspect
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from calling import call
from declared import GROUPS, OPERATIONS

from itwin_async import ExtendedData, Operation, Pager
from itwin_async._core.records import Record
from itwin_async.emulator import ROUTES, Garbage, Status

RECORDED = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).parents[1] / "recorded").glob("*.json")
}
METHODS = {
    name
    for group in GROUPS.values()
    for name, value in inspect.getmembers(group, inspect.isfunction)
    if not name.startswith("_")
}
# What the contract names besides single operations.
LONGER = {
    "wait_until_ready",
    "download_version",
    "download_changeset",
    "download_changesets",
    "wait_until_created",
    "create_imodel_from_baseline",
    "push_changeset",
}


def envelope(operation: Operation[Any], body: Any) -> str | None:
    """Where an answer has its items or its value; None where all of it is the value."""
    kind = operation.returns
    if not (inspect.isclass(kind) and issubclass(kind, msgspec.Struct)) or issubclass(kind, Record):
        return None
    names = {field.encode_name for field in msgspec.structs.fields(kind)}
    (key,) = (name for name in body if name in names and name[0].isalpha())  # no links, no context
    return key


def snake(name: str) -> str:
    """The Python name of a platform's field, by the rules of the contract."""
    if name in {"class", "self"}:
        return f"{name}_"
    name = name.lstrip("_").replace("iTwin", "Itwin").replace("ITwin", "Itwin")
    name = name.replace("iModel", "Imodel").replace("IModel", "Imodel")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def compare(answer: Any, found: Any, place: str) -> None:
    """Everything in the answer is found."""
    if isinstance(answer, dict) and isinstance(found, dict):
        assert answer == found, place  # what no page describes stays what it is
    elif isinstance(answer, dict):
        for name, value in answer.items():
            if isinstance(found, ExtendedData) and name == "data":
                assert found.payload == base64.b64decode(value), place
                assert found.data == json.loads(base64.b64decode(value)), place
                continue
            assert hasattr(found, snake(name)), f"{place}.{name} is lost"
            compare(value, getattr(found, snake(name)), f"{place}.{name}")
    elif isinstance(found, frozenset):
        assert {name.replace("-", "_") for name in answer} == found, place
    elif isinstance(answer, list):
        assert len(answer) == len(found), place
        for index, (one, other) in enumerate(zip(answer, found, strict=True)):
            compare(one, other, f"{place}[{index}]")
    elif isinstance(found, datetime):
        assert abs((datetime.fromisoformat(answer) - found).total_seconds()) < 2e-6, place
    else:
        assert answer == found, place
        assert type(answer) is type(found), place


def test_every_operation_of_the_emulator_has_a_recorded_answer():
    assert set(RECORDED) == set(ROUTES)


def test_recorded_answers_name_the_same_methods_and_paths_as_the_emulator():
    for name, recorded in RECORDED.items():
        assert recorded["request"] == " ".join(ROUTES[name])


def test_every_operation_of_the_client_has_a_route_of_the_same_method_and_path():
    assert len(OPERATIONS) >= 15
    for name, operation in OPERATIONS.items():
        assert str(operation) == " ".join(ROUTES[name])


def test_every_operation_of_the_client_asks_for_the_recorded_version():
    for name, operation in OPERATIONS.items():
        assert operation.version == RECORDED[name]["version"], name


def test_operations_and_methods_are_the_same():
    assert set(OPERATIONS) == METHODS - LONGER


def test_the_client_has_every_operation():
    assert set(ROUTES) | LONGER == METHODS


@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_of_a_recorded_answer_is_lost(emulator, itwin, name):
    recorded = RECORDED[name]
    body, headers = recorded["body"], recorded.get("headers")
    if media_type := recorded.get("mediaType"):  # a file, as base64
        emulator.faults.add(name, Garbage(base64.b64decode(body), media_type))
        value = await call(itwin, name)
        assert (value.data, value.media_type) == (base64.b64decode(body), media_type)
        return
    emulator.faults.add(name, Status(recorded["status"], body=body, headers=headers))
    key = envelope(OPERATIONS[name], body)
    answer = body if key is None else body[key]
    value = call(itwin, name)
    if isinstance(value, Pager):
        page = await anext(value.pages())
        assert answer  # comparing nothing shows nothing
        compare(answer, page.items, name)
        following = body.get("_links", {}).get("next")
        if name == "list_entities":  # whose documents know no links
            assert page.next_url == f"{page.url}?$skip={len(answer)}"
        elif following is None:
            assert page.next_url is None
        else:
            assert page.next_url == following["href"].replace(
                "https://api.bentley.com", emulator.url
            )
    elif headers:
        assert (await value).id == headers["Location"].rpartition("/")[2]
    elif body is None or name == "release_locks":  # which asks until the last chunk
        assert await value is None
    else:
        links = {"_links": body["_links"]} if "_links" in body else {}
        compare(answer if isinstance(answer, list) else {**answer, **links}, await value, name)
    request = emulator.requests[-1]
    assert request.operation == name
    assert request.headers["Accept"] == (
        f"application/vnd.bentley.itwin-platform.{recorded['version']}+json"
    )


@pytest.mark.parametrize(
    ("wire", "python"),
    [
        ("iTwinId", "itwin_id"), ("iModel", "imodel"), ("class", "class_"), ("_links", "links"),
        ("self", "self_"), ("ianaTimeZone", "iana_time_zone"), ("sha256", "sha256"),
        ("iTwinAccountId", "itwin_account_id"), ("isITwinX", "is_itwin_x"), ("iTwin", "itwin"),
    ],
)  # fmt: skip
def test_the_rule_for_names_is_the_contracts(wire, python):
    assert snake(wire) == python
