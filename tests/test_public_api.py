"""What is public is listed, complete and described."""

import importlib
import importlib.resources
import inspect
import pkgutil

import pytest
from declared import GROUPS

import itwin_async
from itwin_async import emulator, webhooks
from itwin_async._core.records import Record
from itwin_async.errors import ITwinError

PUBLIC = [(name, getattr(itwin_async, name)) for name in itwin_async.__all__]


def modules():
    for info in pkgutil.iter_modules(itwin_async.__path__):
        if info.name not in {"emulator", "export", "distributed", "cli", "webhooks"}:
            yield importlib.import_module(f"itwin_async.{info.name}")


def sorted_as_ruff(names):
    constants = [name for name in names if name.isupper()]
    classes = [name for name in names if name[0].isupper() and name not in constants]
    rest = [name for name in names if name not in constants and name not in classes]
    return sorted(constants) + sorted(classes) + sorted(rest)


@pytest.mark.parametrize("module", [itwin_async, emulator, webhooks])
def test_all_is_sorted_and_has_nothing_twice(module):
    assert list(module.__all__) == sorted_as_ruff(set(module.__all__))


@pytest.mark.parametrize("module", [itwin_async, emulator, webhooks])
def test_all_that_is_listed_is_there(module):
    for name in module.__all__:
        assert hasattr(module, name), name


def test_what_is_imported_into_the_package_is_listed():
    ours = {
        name
        for name, value in vars(itwin_async).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert ours | {"__version__"} == set(itwin_async.__all__)


def test_every_error_record_and_event_is_public():
    found = set()
    for module in modules():
        for name, value in vars(module).items():
            if not inspect.isclass(value) or name.startswith("_"):
                continue
            if value.__module__ != module.__name__ or value is Record:
                continue
            public_module = module.__name__.endswith((".auth", ".events", ".limits", ".retries"))
            if issubclass(value, Record | ITwinError) or public_module:
                found.add(name)
    assert found - set(itwin_async.__all__) == {"RetryState"}


@pytest.mark.parametrize(
    "name",
    [
        "ITwinSession", "TokenProvider", "Token", "StaticToken", "ClientCredentials", "Limiter",
        "Retry", "Pager", "Page", "merged", "ExtendedData", "Extension", "ExtensionVersion",
        "ExtensionFile", "IModel", "Changeset", "IntegrationPackage", "ITwin", "ITwinError",
        "TransportError", "ResponseError", "InvalidRequestError", "UnauthorizedError",
        "ForbiddenError", "NotFoundError", "ConflictError", "RateLimitError", "ServerError",
        "LinkError", "DecodeError", "PayloadError", "DownloadProgress",
    ],
)  # fmt: skip
def test_the_contracts_names_are_public(name):
    assert name in itwin_async.__all__


def own_methods(kind):
    """The methods of a class, with those of bases that are not public themselves."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("itwin_async.")]
    for name, value in [item for base in (kind, *own) for item in vars(base).items()]:
        made_by_library = name.startswith("_")
        if not made_by_library and (inspect.isfunction(value) or isinstance(value, property)):
            yield name, value.fget if isinstance(value, property) else value
        elif isinstance(value, classmethod) and not made_by_library:
            yield name, value.__func__


def test_every_public_name_is_described():
    missing = []
    for name, value in PUBLIC:
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__):
            missing.append(name)
        if inspect.isclass(value):
            missing += [f"{name}.{method}" for method, it in own_methods(value) if not it.__doc__]
    assert missing == []


def test_every_operation_names_its_page_of_the_platform():
    for group in GROUPS.values():
        for name, method in own_methods(group):
            if name.partition("_")[0] in {"list", "get", "create", "delete", "execute"}:
                assert "https://developer.bentley.com/apis/" in method.__doc__, (
                    f"{group.__name__}.{name}"
                )


def test_public_classes_say_where_they_are_public():
    for name, value in PUBLIC:
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.startswith("itwin_async"), name
            assert value.__name__ == name


def test_the_version_is_that_of_the_distribution():
    assert itwin_async.__version__.count(".") >= 2


def test_the_package_is_typed():
    assert (importlib.resources.files("itwin_async") / "py.typed").is_file()
