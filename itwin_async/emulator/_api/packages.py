"""The EDFS API: integration packages, their execution and their OData."""

from collections.abc import Sequence
from typing import Final, cast
from xml.sax.saxutils import escape

from itwin_async.emulator._api.odata import (
    read_filter,
    read_order,
    read_parameter,
    read_select,
    sort,
)
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._response import Response, is_guid, read_object
from itwin_async.emulator._state.packages import ENTITY_SETS, entity_rows, package_details
from itwin_async.emulator._state.seed import JSON

_FIELDS: Final = ("Field1", "Field2")
_LONGEST_NAME: Final = 150
_CUSTOMER: Final = {"customerID": "ACME ", "companyName": "ACME Ltd.", "contactName": "Joe Bloggs"}
_CSDL: Final = "http://docs.oasis-open.org/odata/ns/edm"


_PACKAGE: Final = Resource(
    key="package",
    list_key="packages",
    noun="Package",
    missing="PackageNotFound",
    # The code of the 422 of an execution is not known; the API's pattern gives it.
    invalid="InvalidPackageRequest",
)
_SCHEMA: Final = Resource(
    key="schema",
    list_key="value",
    noun="Schema",
    missing="SchemaNotFound",
    invalid="InvalidSchemaRequest",
)


def list_packages(request: Request) -> Response:
    """All packages; this list has no pages."""
    return Response(json={"packages": list(request.state.packages.values())})


def _find(request: Request, resource: Resource, verb: str) -> JSON:
    """The package that the path names; the iTwin is checked where the path has one."""
    invalid = resource.invalid_request(f"Cannot {verb} {resource.noun}.")
    name, itwin_id = request.params["unique_name"], request.params.get("itwin_id")
    if len(name) > _LONGEST_NAME:
        invalid("uniqueName", "'uniqueName' is too long.")
    if itwin_id is not None and not is_guid(itwin_id):
        invalid("iTwinId", f"'{itwin_id}' is not a valid 'iTwinId' value.")
    if itwin_id is not None and itwin_id not in request.state.itwins:
        resource.not_found()
    return resource.find(request.state.packages, name)


def get_package(request: Request) -> Response:
    """One package, without an envelope."""
    return Response(json=package_details(_find(request, _PACKAGE, "retrieve")))


def execute_package(request: Request) -> Response:
    """Execute a package; the rows are those of the documented sample."""
    _find(request, _PACKAGE, "execute")
    invalid = _PACKAGE.invalid_request("Cannot execute Package.")
    body = read_object(request.body) if request.body.strip() else {}
    if body is None:
        invalid("body", "The body must be a JSON object.")
    as_xml, variables = body.get("returnAsXml", False), body.get("variables", [])
    if not isinstance(as_xml, bool):
        invalid("returnAsXml", "'returnAsXml' must be a boolean.")
    if not isinstance(variables, list):
        invalid("variables", "'variables' must be a list of names and values.")
    values = _read_variables(cast("list[object]", variables))
    if values is None:
        invalid("variables", "'variables' must be a list of names and values.")
    rows = [_CUSTOMER] if values.get("CustomerID", "ACME").strip() == "ACME" else []
    if not as_xml:
        return Response(json={"data": rows})
    cells = ("".join(f"<{key}>{escape(cell)}</{key}>" for key, cell in row.items()) for row in rows)
    text = f"<root>{''.join(f'<data>{row}</data>' for row in cells)}</root>"
    # No page says which content type the XML has.
    return Response(raw=text.encode(), content_type="application/xml")


def _read_variables(items: Sequence[object]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for item in items:
        match item:
            case {"name": str(name), "value": str(value)}:
                values[name] = value
            case _:
                return None
    return values


def _find_odata(request: Request) -> JSON:
    package = _find(request, _SCHEMA, "retrieve")
    return package if package["isOdata"] else _SCHEMA.not_found()


def _metadata_url(request: Request) -> str:
    base, _, _ = request.url.partition("/odata")
    return f"{base}/odata/$metadata"


def list_entity_sets(request: Request) -> Response:
    """The OData service document of a package."""
    _find_odata(request)
    sets = [{"name": name, "kind": "EntitySet", "url": name} for name in ENTITY_SETS]
    return Response(json={"@odata.context": _metadata_url(request), "value": sets})


def get_odata_metadata(request: Request) -> Response:
    """The OData schema of a package; its page was not seen, so this is plain CSDL."""
    name = _find_odata(request)["uniqueName"]
    fields = "".join(f'<Property Name="{field}" Type="Edm.String"/>' for field in _FIELDS)
    sets = "".join(
        f'<EntitySet Name="{set_name}" EntityType="{name}.Row"/>' for set_name in ENTITY_SETS
    )
    text = (
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">'
        f'<edmx:DataServices><Schema Namespace="{name}" xmlns="{_CSDL}">'
        f'<EntityType Name="Row">{fields}</EntityType>'
        f'<EntityContainer Name="Container">{sets}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    )
    return Response(raw=text.encode(), content_type="application/xml")


def list_entities(request: Request) -> Response:
    """The rows of one entity set; without `$top` all of them, for no default is documented."""
    _find_odata(request)
    entity_set = request.params["entity_set"]
    if entity_set not in ENTITY_SETS:
        _SCHEMA.not_found()
    invalid = _SCHEMA.invalid_request("Cannot retrieve Schema.")
    window = _SCHEMA.window(request, invalid)
    rows = entity_rows(request.state.size)
    test = read_parameter(request, invalid, "$filter", read_filter, _FIELDS)
    order = read_parameter(request, invalid, "$orderby", read_order, _FIELDS)
    fields = read_parameter(request, invalid, "$select", read_select, _FIELDS)
    rows = [row for row in rows if test(row)]
    sort(rows, order)
    end = window.slice.stop if request.get("$top") or request.max_top or request.max_items else None
    value = [{name: row[name] for name in fields} for row in rows[window.skip : end]]
    return Response(
        json={"@odata.context": f"{_metadata_url(request)}#{entity_set}", "value": value}
    )
