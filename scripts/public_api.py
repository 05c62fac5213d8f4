"""The public API as text, with signatures, so that a change of it is a change of a file.

Read from the source and not from the imported package, so that it is the same on every Python and
without the extras. `make generate` writes it to tests/public_api.txt, and `make check` compares.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "itwin_async"
MODULES = (
    "itwin_async",
    *(
        f"itwin_async.{name}"
        for name in (
            "emulator",
            "export",
            "sync",
            "tables",
            "telemetry",
            "webhooks",
            "distributed",
        )
    ),
)
# Those that a caller uses by syntax.
_SYNTAX = {
    "__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__call__", "__enter__",
    "__eq__", "__exit__", "__getitem__", "__init__", "__iter__", "__len__",
}  # fmt: skip
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A top-level name and the module that defines it."""

    module: str
    node: ast.stmt


def _path(module: str) -> Path | None:
    parts = module.split(".")[1:]
    base = PACKAGE.joinpath(*parts)
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.exists():
            return path
    return None


class Source:
    """The package's modules, parsed once."""

    def __init__(self) -> None:
        self._trees: dict[str, ast.Module] = {}

    def tree(self, module: str) -> ast.Module:
        """A module of the package; an empty one for what is not its own."""
        if module not in self._trees:
            path = _path(module) if module.partition(".")[0] == "itwin_async" else None
            text = "" if path is None else path.read_text(encoding="utf-8")
            tree = self._trees[module] = ast.parse(text)
            # What is imported on first use, or needs an extra, stands in a block.
            tree.body = [inner for node in tree.body for inner in _unblocked(node)]
        return self._trees[module]

    def find(self, module: str, name: str) -> Definition | None:
        """Where a name of a module is defined, through all imports."""
        for node in self.tree(module).body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.find(str(node.module), alias.name)
            elif name in _names(node):
                return Definition(module, node)
        return None

    def exported(self, module: str) -> list[str]:
        """What a module offers: its ``__all__``, else what it defines without an underscore."""
        body = self.tree(module).body
        for node in body:
            if "__all__" in _names(node) and isinstance(node, ast.Assign):
                return sorted(ast.literal_eval(node.value))
        return sorted(name for node in body for name in _names(node) if not name.startswith("_"))


def _unblocked(node: ast.stmt) -> list[ast.stmt]:
    """The statements of a block for type checkers, or of a ``try``; else the statement itself."""
    if isinstance(node, ast.Try):
        return node.body
    is_block = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    return node.body if is_block else [node]


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | _Function):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _signature(node: _Function) -> str:
    """``def name(arguments) -> result``, with its decorators, on one line."""
    prefix = "".join(f"@{ast.unparse(item)} " for item in node.decorator_list)
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{prefix}{kind} {node.name}({ast.unparse(node.args)}){result}"


def _attributes(node: _Function) -> list[str]:
    """The public attributes that a constructor sets."""
    found = []
    for statement in ast.walk(node):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        for target in targets:
            own = isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
            if own and not target.attr.startswith("_"):
                kind = (
                    f": {ast.unparse(statement.annotation)}"
                    if isinstance(statement, ast.AnnAssign)
                    else ""
                )
                found.append(f"{target.attr}{kind}")
    return found


class Dump:
    """The text, made once."""

    def __init__(self) -> None:
        self._source = Source()
        self._public = {name for module in MODULES for name in self._source.exported(module)}

    def text(self) -> str:
        """All public modules."""
        lines = [
            "# The public API. `make generate` writes this file; a change of it is for review."
        ]
        for module in MODULES:
            for name in self._source.exported(module):
                lines += ["", *self._name(module, name)]
        return "\n".join(lines) + "\n"

    def _name(self, module: str, name: str) -> list[str]:
        found = self._source.find(module, name)
        whole = f"{module}.{name}"
        if found is None:
            return [whole]
        if isinstance(found.node, ast.ClassDef):
            shown = (
                base for base in found.node.bases if self._internal_base(found.module, base) is None
            )
            bases = [ast.unparse(item) for item in (*shown, *found.node.keywords)]
            head = f"class {whole}({', '.join(bases)})" if bases else f"class {whole}"
            decorators = [f"@{ast.unparse(item)}" for item in found.node.decorator_list]
            fields, methods = self._members(found.module, found.node)
            members = [*dict.fromkeys(fields), *sorted(methods)]
            return [*decorators, head, *(f"    {item}" for item in members)]
        if isinstance(found.node, _Function):
            before = [_signature(item) for item in self._overloads(found.module, name)]
            return [item.replace(f"def {name}(", f"def {whole}(") for item in before]
        if not isinstance(found.node, ast.AnnAssign):
            return [whole]
        kind, value = ast.unparse(found.node.annotation), found.node.value
        alias = "Alias" in kind and value is not None
        return [f"{whole} = {ast.unparse(value)}" if alias else f"{whole}: {kind}"]

    def _overloads(self, module: str, name: str) -> list[_Function]:
        body = self._source.tree(module).body
        return [node for node in body if isinstance(node, _Function) and node.name == name]

    def _members(self, module: str, node: ast.ClassDef) -> tuple[list[str], set[str]]:
        """A class's attributes in their order, which may be that of its arguments, and its methods.

        Those of a base that is not public itself are among them.
        """
        fields: list[str] = []
        methods: set[str] = set()
        for base in node.bases:
            internal = self._internal_base(module, base)
            if internal is not None:
                inherited = self._members(*internal)
                fields += inherited[0]
                methods |= inherited[1]
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                default = f" = {ast.unparse(item.value)}" if item.value is not None else ""
                if not item.target.id.startswith("_"):
                    fields.append(f"{item.target.id}: {ast.unparse(item.annotation)}{default}")
            elif isinstance(item, ast.Assign):
                fields += [name for name in _names(item) if not name.startswith("_")]
            elif isinstance(item, _Function):
                constructor = item.name == "__init__"
                fields += _attributes(item) if constructor else []
                public = not item.name.startswith("_") or item.name in _SYNTAX
                if public and not (constructor and self._is_internal(module, item)):
                    methods.add(_signature(item))
        return fields, methods

    def _internal_base(self, module: str, base: ast.expr) -> tuple[str, ast.ClassDef] | None:
        """A base class that only the library has: its module and definition."""
        name = ast.unparse(base).partition("[")[0]
        found = None if name in self._public else self._source.find(module, name)
        if found is None or not isinstance(found.node, ast.ClassDef):
            return None
        return found.module, found.node

    def _is_internal(self, module: str, node: _Function) -> bool:
        """Whether a constructor takes what only the library has."""
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        names = {
            item.id
            for argument in arguments
            if argument.annotation is not None
            for item in ast.walk(argument.annotation)
            if isinstance(item, ast.Name)
        }
        private = (self._source.find(module, name) for name in names - self._public)
        return any(found is not None and isinstance(found.node, ast.ClassDef) for found in private)


def public_api() -> str:
    """The text."""
    return Dump().text()
