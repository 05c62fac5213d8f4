"""The EDFS API answers as its pages describe it: packages, their execution and their OData."""

from collections.abc import Sequence
from typing import Final, cast
from xml.sax.saxutils import escape

from itwin_async.emulator import _seed
from itwin_async.emulator._answers import Answer, detail, is_guid, read_object, refuse
from itwin_async.emulator._call import Call
from itwin_async.emulator._odata import checked, read_filter, read_order, read_select, sort
from itwin_async.emulator._package_data import ENTITY_SETS
from itwin_async.emulator._paging import refusal, window
from itwin_async.emulator._seed import JSON

_FIELDS: Final = ("Field1", "Field2")
_LONGEST_NAME: Final = 150
_EXECUTE: Final = "Execute Integration Package"
_CUSTOMER: Final = {"customerID": "ACME ", "companyName": "ACME Ltd.", "contactName": "Joe Bloggs"}
_CSDL: Final = "http://docs.oasis-open.org/odata/ns/edm"


def list_packages(call: Call) -> Answer:
    """All packages; this list has no pages."""
    return Answer(data={"packages": list(call.world.packages.by_name.values())})


def list_package_roles(call: Call) -> Answer:
    """The roles of packages; its path hides a package of the name ``roles``."""
    role = {"roleId": _seed.guid(call.world.size.seed, "role"), "name": _EXECUTE}
    return Answer(data={"packageRoles": [{**role, "description": _EXECUTE}]})


def _find(call: Call, entity: str, verb: str) -> str:
    """The package's name, after the iTwin's id was checked where the path has one."""
    invalid, cannot = f"Invalid{entity}Request", f"Cannot {verb} {entity}."
    name, itwin_id = call.params["unique_name"], call.params.get("itwin_id")
    if len(name) > _LONGEST_NAME:
        what = detail("InvalidValue", "uniqueName", "'uniqueName' is too long.")
        refuse(422, invalid, cannot, None, what)
    if itwin_id is not None and not is_guid(itwin_id):
        what = detail("InvalidValue", "iTwinId", f"'{itwin_id}' is not a valid 'iTwinId' value.")
        refuse(422, invalid, cannot, None, what)
    known = name in call.world.packages.by_name
    if not known or (itwin_id is not None and call.world.itwin(itwin_id) is None):
        refuse(404, f"{entity}NotFound", f"Requested {entity} is not available.")
    return name


def get_package(call: Call) -> Answer:
    """One package, without an envelope."""
    return Answer(data=call.world.packages.details(_find(call, "Package", "retrieve")))


def execute_package(call: Call) -> Answer:
    """Runs a package; the rows are those of the documented sample."""
    _find(call, "Package", "execute")
    # The code of this page's 422 is not known; the API's pattern gives it.
    wrong = refusal("InvalidPackageRequest", "Cannot execute Package.")
    body = read_object(call.body) if call.body.strip() else {}
    if body is None:
        wrong("body", "The body must be a JSON object.")
    as_xml, variables = body.get("returnAsXml", False), body.get("variables", [])
    if not isinstance(as_xml, bool):
        wrong("returnAsXml", "'returnAsXml' must be a boolean.")
    if not isinstance(variables, list):
        wrong("variables", "'variables' must be a list of names and values.")
    values = _variables(cast("list[object]", variables))
    if values is None:
        wrong("variables", "'variables' must be a list of names and values.")
    rows = [_CUSTOMER] if values.get("CustomerID", "ACME").strip() == "ACME" else []
    if not as_xml:
        return Answer(data={"data": rows})
    cells = ("".join(f"<{key}>{escape(cell)}</{key}>" for key, cell in row.items()) for row in rows)
    text = f"<root>{''.join(f'<data>{row}</data>' for row in cells)}</root>"
    # No page says which content type the XML has.
    return Answer(raw=text.encode(), content_type="application/xml")


def _variables(given: Sequence[object]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for item in given:
        match item:
            case {"name": str(name), "value": str(value)}:
                values[name] = value
            case _:
                return None
    return values


def _find_odata(call: Call) -> str:
    name = _find(call, "Schema", "retrieve")
    if not call.world.packages.by_name[name]["isOdata"]:
        refuse(404, "SchemaNotFound", "Requested Schema is not available.")
    return name


def _metadata_url(call: Call) -> str:
    base, _, _ = call.url.partition("/odata")
    return f"{base}/odata/$metadata"


def list_entity_sets(call: Call) -> Answer:
    """The OData service document of a package."""
    _find_odata(call)
    sets = [{"name": name, "kind": "EntitySet", "url": name} for name in ENTITY_SETS]
    return Answer(data={"@odata.context": _metadata_url(call), "value": sets})


def get_odata_metadata(call: Call) -> Answer:
    """The OData schema of a package; its page was not seen, so this is plain CSDL."""
    name = _find_odata(call)
    fields = "".join(f'<Property Name="{field}" Type="Edm.String"/>' for field in _FIELDS)
    sets = "".join(f'<EntitySet Name="{each}" EntityType="{name}.Row"/>' for each in ENTITY_SETS)
    text = (
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">'
        f'<edmx:DataServices><Schema Namespace="{name}" xmlns="{_CSDL}">'
        f'<EntityType Name="Row">{fields}</EntityType>'
        f'<EntityContainer Name="Container">{sets}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    )
    return Answer(raw=text.encode(), content_type="application/xml")


def list_entities(call: Call) -> Answer:
    """The rows of one entity set; without `$top` all of them, for no default is documented."""
    _find_odata(call)
    entity_set = call.params["entity_set"]
    if entity_set not in ENTITY_SETS:
        refuse(404, "SchemaNotFound", "Requested Schema is not available.")
    wrong = refusal("InvalidSchemaRequest", "Cannot retrieve Schema.")
    part = window(call, wrong)
    rows: list[JSON] = call.world.packages.rows()
    test = checked(call, wrong, "$filter", read_filter, _FIELDS)
    order = checked(call, wrong, "$orderby", read_order, _FIELDS)
    fields = checked(call, wrong, "$select", read_select, _FIELDS)
    rows = [row for row in rows if test(row)]
    sort(rows, order)
    end = part.slice.stop if call.get("$top") or call.max_top or call.max_items else None
    value = [{name: row[name] for name in fields} for row in rows[part.skip : end]]
    return Answer(data={"@odata.context": f"{_metadata_url(call)}#{entity_set}", "value": value})
