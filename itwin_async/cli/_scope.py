"""What `sync` and `follow` have in common: what they read, and which errors end them."""

from typing import Annotated, Final

from cyclopts import Parameter
from cyclopts.validators import Number

from itwin_async import ForbiddenError, NotFoundError, UnauthorizedError
from itwin_async.cli._options import AT_LEAST_ZERO

# Errors that the next pass would meet as well.
LASTING: Final = (UnauthorizedError, ForbiddenError, NotFoundError)
Ids = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]
RepeatedIds = Annotated[list[str] | None, Parameter(negative="")]  # where an argument may follow
Seconds = Annotated[float, Parameter(validator=Number(gte=0))]
LookBack = Annotated[int, AT_LEAST_ZERO]


def check_scope(itwin: str | None, imodel: list[str] | None) -> None:
    """`ValueError` unless exactly one of the two is given."""
    if (itwin is None) == (not imodel):
        raise ValueError("give either --itwin or --imodel")
