"""Refusals of parameters and properties with 422, and the properties of a body."""

from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar, cast

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._response import error_detail, read_object, refuse
from itwin_async.emulator._state.seed import JSON

T = TypeVar("T")
_LONGEST_TEXT: Final = 255  # characters
_KINDS: Final[dict[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class InvalidRequest:
    """Refuses a request of one operation with 422. Call it with what is wrong, and why.

    ``code`` is that of the error, ``detail_code`` that of its detail where the call has none.
    """

    code: str
    message: str
    detail_code: str = "InvalidValue"

    def __call__(
        self, target: str | None, problem: str, detail_code: str | None = None
    ) -> NoReturn:
        """Refuse because of this parameter or property."""
        detail = error_detail(detail_code or self.detail_code, target, problem)
        refuse(422, self.code, self.message, None, detail)


def read_body(request: Request, invalid: InvalidRequest) -> JSON:
    """The JSON object of the body, which must be one."""
    body = read_object(request.body)
    return invalid(None, "Not a JSON object.") if body is None else body


def required_property(body: JSON, name: str, kind: type[T], invalid: InvalidRequest) -> T:
    """A property that must be there, and of this type."""
    value = optional_property(body, name, kind, invalid)
    if value is None:
        invalid(name, f"Required property '{name}' is missing.", "MissingRequiredProperty")
    return value


def optional_property(body: JSON, name: str, kind: type[T], invalid: InvalidRequest) -> T | None:
    """A property of this type, or None where it is missing or null."""
    value: Any = body.get(name)
    is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if value is not None and not is_kind:
        invalid(name, f"'{name}' must be {_KINDS[kind]}.")
    return cast("T | None", value)


def text_property(
    body: JSON, name: str, invalid: InvalidRequest, *, is_required: bool = False
) -> str | None:
    """Text of at most 255 characters, not blank where it is required, or None."""
    value = optional_property(body, name, str, invalid)
    if is_required and value is None:
        required_property(body, name, str, invalid)
    problem = f"Provided '{name}' value is not valid."
    if is_required and value is not None and not value.strip():
        invalid(name, f"{problem} The value is empty.")
    if value is not None and len(value) > _LONGEST_TEXT:
        invalid(name, f"{problem} The value exceeds allowed {_LONGEST_TEXT} characters.")
    return value


def exclude(body: JSON, invalid: InvalidRequest, *names: str) -> None:
    """Refuse a body that has more than one of these properties."""
    given = [name for name in names if body.get(name) is not None]
    if len(given) > 1:
        problem = f"{' and '.join(map(repr, given))} exclude each other."
        invalid(None, problem, "MutuallyExclusivePropertiesProvided")


def object_property(body: JSON, name: str, invalid: InvalidRequest) -> JSON | None:
    """A property that is an object, or None where it is missing or null."""
    return cast("JSON | None", optional_property(body, name, dict, invalid))


def required_object(body: JSON, name: str, invalid: InvalidRequest) -> JSON:
    """A property that must be there, and be an object."""
    return cast("JSON", required_property(body, name, dict, invalid))
