"""What source files import and which private names they touch, read from their syntax trees without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

LAYERS = ("adapters", "app", "containers")
FOREIGN_PACKAGES = ("lightning", "torch", "lightning_fabric", "pytorch_lightning")
PUBLIC = frozenset({"os._exit"})  # documented, and named so to be noticed
IMPORTERS = frozenset({"__import__", "import_attribute", "import_module", "resolve_name"})


@dataclass(frozen=True)
class SourceModule:
    """One Python file of the three folders."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The folder it stands in, such as ``"app"``."""
        return self.name.split(".")[1]

    def at(self, node: ast.expr | ast.stmt) -> str:
        """The place of a node, for a message."""
        return f"{self.path}:{node.lineno}"


def source_modules(root: Path) -> list[SourceModule]:
    """Read every Python file of the three folders under ``root``."""
    modules = []
    for layer in LAYERS:
        for path in sorted((root / layer).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules.append(SourceModule(".".join(("phasewire", *parts)), path, ast.parse(path.read_text("utf-8"))))
    return modules


def imported_names(module: SourceModule) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the dotted name of everything imported: at the top, in functions, and for type checkers only."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(part for part in (_base_of_relative(module, node.level), node.module or "") if part)
            for alias in node.names:
                yield f"{source}.{alias.name}", node


def loaded_with(name: str, modules: Iterable[SourceModule]) -> set[str]:
    """Give the names of the modules that are loaded when one of them is imported: what stands in no function."""
    by_name = {module.name.removesuffix(".__init__"): module for module in modules}
    loaded: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in loaded:
            loaded.add(name)
            module = by_name[name]
            waiting += [name.rpartition(".")[0]]
            for imported, node in imported_names(module):
                if node in module.tree.body:
                    waiting += [imported, imported.rpartition(".")[0]]
    return loaded


def imports_by_path(module: SourceModule) -> Iterator[tuple[str, ast.Call]]:
    """Yield what is imported by a dotted path in text, as in ``import_module("phasewire.app")``."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and _last_name(node.func) in IMPORTERS and node.args:
            path = node.args[0]
            if isinstance(path, ast.Constant) and isinstance(path.value, str):
                yield path.value, node


def wrong_way_imports(module: SourceModule) -> Iterator[str]:
    """Yield each import that runs against containers, to app, to adapters."""
    allowed = LAYERS[: LAYERS.index(module.layer) + 1]
    for name, node in imported_names(module):
        parts = name.split(".")
        if parts[0] == "phasewire" and (len(parts) == 1 or parts[1] not in allowed):
            yield f"{module.at(node)} imports {name}"


def private_imports(module: SourceModule) -> Iterator[str]:
    """Yield each import of a private module or name of Lightning or torch."""
    for name, node in imported_names(module):
        first, *rest = name.split(".")
        if first in FOREIGN_PACKAGES and any(_is_private(part) for part in rest):
            yield f"{module.at(node)} imports {name}"


def private_attributes_of_others(module: SourceModule) -> Iterator[str]:
    """Yield each use of a private attribute of anything but ``self``, ``cls`` or ``super()``."""
    for node in ast.walk(module.tree):
        name = None
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and _last_name(node.func) in {"getattr", "setattr", "hasattr", "delattr"}:
            owner, name = node.args[0], getattr(node.args[1], "value", None)
        if isinstance(name, str) and _is_private(name) and not _is_own(owner) and ast.unparse(node) not in PUBLIC:
            yield f"{module.at(node)} uses {ast.unparse(node)}"


def private_attributes_of_bases(module: SourceModule) -> Iterator[str]:
    """Yield each private name of a Lightning or torch base class that a subclass of ours uses or replaces."""
    imported = dict(_imported_aliases(module))
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        inherited = set()
        for base in node.bases:
            dotted = _resolve(base, imported)
            if dotted is not None and dotted.split(".")[0] in FOREIGN_PACKAGES:
                inherited |= _private_names_of(dotted)
        for name, place in _own_names(node):
            if name in inherited:
                yield f"{module.at(place)} uses {name} of a base class of {node.name}"


def _base_of_relative(module: SourceModule, level: int) -> str:
    if level == 0:
        return ""
    parts = module.name.split(".")
    in_package = parts[:-1]  # `phasewire.app.__init__` stands for the package, so one level up is right for it too
    return ".".join(in_package[: len(in_package) - (level - 1)])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _is_own(owner: ast.expr) -> bool:
    if isinstance(owner, ast.Call):
        return _last_name(owner.func) == "super"
    return isinstance(owner, ast.Name) and owner.id in {"self", "cls"}


def _last_name(expression: ast.expr) -> str | None:
    if isinstance(expression, ast.Name):
        return expression.id
    return expression.attr if isinstance(expression, ast.Attribute) else None


def _imported_aliases(module: SourceModule) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _resolve(expression: ast.expr, imported: dict[str, str]) -> str | None:
    if isinstance(expression, ast.Subscript):
        return _resolve(expression.value, imported)
    if isinstance(expression, ast.Attribute):
        owner = _resolve(expression.value, imported)
        return f"{owner}.{expression.attr}" if owner else None
    return imported.get(expression.id) if isinstance(expression, ast.Name) else None


def _private_names_of(dotted_class: str) -> set[str]:
    module_name, _, class_name = dotted_class.rpartition(".")
    base = getattr(import_module(module_name), class_name)
    names: set[str] = set()
    for ancestor in base.__mro__:
        if ancestor.__module__.split(".")[0] in FOREIGN_PACKAGES:
            names |= {name for name in vars(ancestor) if _is_private(name)}
            names |= set(ancestor.__init__.__code__.co_names) if hasattr(ancestor.__init__, "__code__") else set()
    return {name for name in names if _is_private(name)}


def _own_names(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and _is_own(inner.value):
            yield inner.attr, inner
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name, statement
