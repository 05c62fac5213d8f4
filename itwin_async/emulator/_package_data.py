"""Integration packages: the documented ones first, then as many more as are wanted."""

from functools import cached_property
from typing import Final

from itwin_async.emulator._seed import JSON, Size

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


class Packages:
    """Integration packages by unique name."""

    def __init__(self, size: Size) -> None:
        self._size = size

    @cached_property
    def by_name(self) -> dict[str, JSON]:
        """Packages as the list shows them."""
        made = [
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
        for nth in range(self._size.packages - len(made)):
            stage = ("Current", "Preview", "Obsolete")[nth % 3]
            odata = nth % 2 == 1
            made.append(
                _package(
                    f"FEDERATED_SET_{nth}",
                    f"Federated Set {nth}",
                    f"A package for retrieving data set {nth}",
                    projectStage=stage,
                    isOdata=odata,
                )
            )
        return {item["uniqueName"]: item for item in made}

    def details(self, unique_name: str) -> JSON:
        """One package with the three fields that only its own page has."""
        item = {**self.by_name[unique_name], "lastChange": _WHEN}
        item |= {"inputExample": None, "responseExample": None}
        if unique_name == "SQL_CUSTOMERS_TABLE":
            item |= {
                "description": "A package to interact with Sql Server"
                " and retrieve data from a table",
                "inputExample": '{ "variables": [ { "name": "Parameter", "value": "Value" },'
                ' { "name": "TableNames", "value": "Translator" },'
                ' { "name": "CustomerID", "value": "ACME" } ], "returnAsXml": false }',
                "responseExample": '{"DATA": [{ "CustomerID" : "ACME ",'
                '"CompanyName" : "ACME Ltd.","ContactName" : "Joe Bloggs"}] }',
            }
        return item

    def rows(self) -> list[JSON]:
        """The rows of any entity set."""
        return [
            {"Field1": f"value{2 * nth + 1}", "Field2": f"value{2 * nth + 2}"}
            for nth in range(self._size.rows)
        ]
