"""Operations of EDFS packages against the emulated platform."""

import json

import msgspec
import pytest
from known import ITWIN, every

from itwin_async import (
    DecodeError,
    IntegrationPackage,
    NotFoundError,
    ServerError,
)
from itwin_async.emulator import Status


async def test_list_packages_gives_all_in_one_answer(itwin, emulator):
    found = await every(itwin.packages.list_packages())
    assert found[0].unique_name == "SQL_CUSTOMERS_TABLE"
    assert found[0].subscribed_on.utcoffset().total_seconds() == -4 * 3600
    assert emulator.count("list_packages") == 1


async def test_get_package_gives_its_examples(itwin):
    package = await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
    assert (package.project_stage, package.is_odata) == ("Preview", False)
    assert "CustomerID" in package.input_example
    assert package.last_change is not None


async def test_the_examples_of_a_package_are_decoded(itwin):
    package = await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
    assert package.input_example_decoded["returnAsXml"] is False
    assert package.input_example_decoded["variables"][2] == {"name": "CustomerID", "value": "ACME"}
    assert package.response_example_decoded["DATA"][0]["CustomerID"] == "ACME "


@pytest.mark.parametrize("example", [None, "", "not JSON", "{'a': 1}", '{"a": 1,}', "[" * 5_000])
def test_an_example_that_is_no_json_costs_nothing(example):
    package = IntegrationPackage(input_example=example, response_example=example)
    assert package.input_example_decoded is None
    assert package.response_example_decoded is None


class Customer(msgspec.Struct, rename={"customer_id": "customerID", "name": "companyName"}):
    customer_id: str
    name: str


class Customers(msgspec.Struct):
    data: list[Customer]


async def test_execute_package_gives_what_the_package_answers(itwin, emulator):
    found = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE")
    assert found["data"][0]["customerID"] == "ACME "  # neither names nor blanks are mended
    assert json.loads(emulator.requests[-1].body) == {"returnAsXml": False}


async def test_execute_package_sends_variables_as_a_list(itwin, emulator):
    variables = {"CustomerID": "NOBODY", "Empty": ""}
    found = await itwin.packages.execute_package(ITWIN, "SAP_WORK_ORDERS", variables=variables)
    assert found == {"data": []}
    assert json.loads(emulator.requests[-1].body)["variables"] == [
        {"name": "CustomerID", "value": "NOBODY"},
        {"name": "Empty", "value": ""},
    ]


async def test_execute_package_takes_the_example_of_the_package(itwin):
    package = await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
    example = {item["name"]: item["value"] for item in package.input_example_decoded["variables"]}
    found = await itwin.packages.execute_package(ITWIN, package.unique_name, variables=example)
    assert len(found["data"]) == 1


async def test_execute_package_decodes_to_a_type(itwin):
    found = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", returns=Customers)
    assert found == Customers([Customer("ACME ", "ACME Ltd.")])
    with pytest.raises(DecodeError):
        await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", returns=list[int])


async def test_execute_package_gives_bytes_where_wanted(itwin, emulator):
    as_json = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", returns=bytes)
    assert json.loads(as_json)["data"]
    as_xml = await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE", as_xml=True)
    assert as_xml.startswith(b"<root><data>")
    assert json.loads(emulator.requests[-1].body) == {"returnAsXml": True}


async def test_execute_package_is_not_repeated_when_its_outcome_is_unknown(emulator, itwin):
    emulator.faults.add("execute_package", Status(500), times=None)
    with pytest.raises(ServerError, match="may have been carried out"):
        await itwin.packages.execute_package(ITWIN, "SQL_CUSTOMERS_TABLE")
    assert emulator.count("execute_package") == 1


async def test_a_package_called_roles_can_be_executed_but_not_read(emulator, itwin):
    with pytest.raises(NotFoundError, match="PackageNotFound"):
        await itwin.packages.execute_package(ITWIN, "roles")
    with pytest.raises(ValueError, match="its URL is another operation"):
        await itwin.packages.get_package("roles")


async def test_list_entity_sets_gives_all_in_one_answer(itwin, emulator):
    found = await every(itwin.packages.list_entity_sets(ITWIN, "SAP_WORK_ORDERS"))
    assert [item.name for item in found] == [item.url for item in found]
    assert {item.kind for item in found} == {"EntitySet"}
    assert len(found) == 4
    assert emulator.count("list_entity_sets") == 1
