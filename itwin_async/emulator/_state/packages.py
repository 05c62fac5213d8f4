"""Integration packages: the documented ones first, then as many more as the size says."""

from typing import Final

from itwin_async.emulator._state.seed import JSON, Size

_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_WHEN: Final = "2024-04-24T13:03:26.24-04:00"
ENTITY_SETS: Final = (
    "SAP_Equipments_Read",
    "SAP_Funcloc_Read",
    "SAP_Material_Read",
    "SAP_Work_Orders_Read",
)


def _package(unique_name: str, name: str, description: str, **other: object) -> JSON:
    return {
        "subscriptionId": _NOBODY,
        "version": "1.0.0",
        "uniqueName": unique_name,
        "name": name,
        "description": description,
        "subscribedBy": _NOBODY,
        "subscribedByName": "System",
        "subscribedOn": _WHEN,
        "projectStage": "Current",
        "isOdata": False,
        **other,
    }


def seed_packages(size: Size) -> list[tuple[str, JSON]]:
    """All packages as their list shows them, with their unique names."""
    packages = [
        _package(
            "SQL_CUSTOMERS_TABLE",
            "Sql Customers",
            "A package for retrieving data from an SQL Database table",
            version="0.0.1",
            projectStage="Preview",
        ),
        _package(
            "SAP_WORK_ORDERS",
            "SAP Work Orders",
            "A package for retrieving Work Orders from SAP",
            version="1.0.2",
            subscribedByName="Owen Shaw",
            isOdata=True,
        ),
        _package("ODT_APIM_TEST", "OData Test", "A package with OData sets", isOdata=True),
    ]
    for number in range(size.packages - len(packages)):
        stage = ("Current", "Preview", "Obsolete")[number % 3]
        odata = number % 2 == 1
        packages.append(
            _package(
                f"FEDERATED_SET_{number}",
                f"Federated Set {number}",
                f"A package for retrieving data set {number}",
                projectStage=stage,
                isOdata=odata,
            )
        )
    return [(package["uniqueName"], package) for package in packages]


def package_details(package: JSON) -> JSON:
    """A package with the three fields that its list does not have."""
    item = {**package, "lastChange": _WHEN}
    item |= {"inputExample": None, "responseExample": None}
    if package["uniqueName"] == "SQL_CUSTOMERS_TABLE":
        item |= {
            "description": "A package to interact with Sql Server and retrieve data from a table",
            "inputExample": '{ "variables": [ { "name": "Parameter", "value": "Value" },'
            ' { "name": "TableNames", "value": "Translator" },'
            ' { "name": "CustomerID", "value": "ACME" } ], "returnAsXml": false }',
            "responseExample": '{"DATA": [{ "CustomerID" : "ACME ",'
            '"CompanyName" : "ACME Ltd.","ContactName" : "Joe Bloggs"}] }',
        }
    return item


def entity_rows(size: Size) -> list[JSON]:
    """The rows of any entity set."""
    return [
        {"Field1": f"value{2 * at + 1}", "Field2": f"value{2 * at + 2}"} for at in range(size.rows)
    ]
