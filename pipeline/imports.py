"""Which code a stage can reach, read from the source without importing any of it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from smac_core.errors import ConfigError

# What these decide reaches a stage as its resolved section, which Snakemake compares by itself:
# a new default or check must not rerun the stages whose section stays the same.
COMPARED_BY_SECTION = {"pipeline.config", "pipeline.sections", "pipeline.strict"}
COMPARED_BY_SECTION |= {"pipeline.dag", "pipeline.imports", "pipeline.layers"}
COMPARED_BY_SECTION |= {"pipeline.methods", "pipeline.preset_checks", "pipeline.resolved_run"}
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # of a statement, in the syntax tree


def code_digest(module: str, extra_modules: Sequence[str] = ()) -> str:
    """Hashes the code that a stage can reach, without importing it.

    Comments, docstrings and layout do not change the digest. Installed packages are left out.

    Args:
        module: The stage's module.
        extra_modules: Modules it loads by import string, such as that of the environment.

    Returns:
        sha256 in hexadecimal.

    Raises:
        ConfigError: A module that does not exist or does not parse.
    """
    closure = import_closure((module, *extra_modules))
    total = hashlib.sha256()
    for name, path in sorted(closure.items()):
        total.update(f"{name}={_code_of(path, path.stat().st_mtime_ns)[0]}\n".encode())
    return total.hexdigest()


def declares(module: str, name: str) -> bool:
    """Tells whether a module sets a name to True at its top, without importing it.

    Args:
        module: Dotted name.
        name: The name.

    Returns:
        Whether a line there says `name = True`.
    """
    path = _source_file(module, {module.partition(".")[0]})
    if path is None:
        return False
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if name in names:
                return statement.value.value is True
    return False


def import_closure(roots: Sequence[str]) -> dict[str, Path]:
    """Finds every source file of ours, or of a plug-in, that modules import directly or indirectly.

    Args:
        roots: Dotted module names.

    Returns:
        Module name to file; packages on the way are included.

    Raises:
        ConfigError: A root that does not exist, or a file that does not parse.
    """
    importlib.invalidate_caches()
    tops = {root.partition(".")[0] for root in roots}
    closure: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in closure or (name in COMPARED_BY_SECTION and name not in roots):
            continue
        path = _source_file(name, tops)
        if path is None:
            if name in roots:
                raise ConfigError(
                    "unknown module",
                    found=name,
                    fix="install it, or put its folder on PYTHONPATH",
                )
            continue
        closure[name] = path
        waiting += _code_of(path, path.stat().st_mtime_ns)[1].resolve(name, path)
        waiting += [parent for parent in _parents(name) if parent not in closure]
    return closure


class _Imports:
    """The import statements of one file, as written.

    Args:
        tree: The parsed file.
        by_call: Whether it may also import by calling import_module.
    """

    def __init__(self, tree: ast.Module, *, by_call: bool) -> None:
        self.absolute: set[str] = set()
        self.relative: set[tuple[int, str]] = set()
        for statement in _statements(tree):
            if isinstance(statement, ast.Import):
                self.absolute |= {alias.name for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom):
                self._add_from(statement)
        if by_call:
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    self._add_call(node)

    def _add_from(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        # A name imported from a package may be a module of it.
        names = [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
        if node.level:
            self.relative |= {(node.level, name) for name in names}
        else:
            self.absolute |= set(names)

    def _add_call(self, node: ast.Call) -> None:
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        if called == "import_module" and node.args and isinstance(node.args[0], ast.Constant):
            self.absolute.add(str(node.args[0].value))

    def resolve(self, module: str, path: Path) -> list[str]:
        """Gives the imports as absolute names.

        Args:
            module: The module that holds them.
            path: Its file.

        Returns:
            Dotted names, of modules or of things in modules.
        """
        package = module.split(".")
        if path.name != "__init__.py":
            package = package[:-1]
        names = set(self.absolute)
        for level, name in self.relative:
            base = package[: len(package) - level + 1]
            names.add(".".join([*base, name]).strip("."))
        return sorted(name for name in names if not name.startswith("."))


def _statements(block: ast.AST) -> Iterator[ast.AST]:
    """Yields every statement under a block, which may be a handler or a case; no expressions."""
    if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test):
        inner = block.orelse  # the rest never runs, so it is no dependency
    else:
        inner = [part for name in _BLOCKS for part in getattr(block, name, ())]
    for part in inner:
        yield part
        yield from _statements(part)


def _drop_docstrings(tree: ast.Module) -> None:
    for node in (tree, *_statements(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]


@functools.cache
def _code_of(path: Path, _modified: int) -> tuple[str, _Imports]:
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except SyntaxError as fault:
        raise ConfigError("a module does not parse", where=path, found=fault) from None
    imports = _Imports(tree, by_call=b"import_module" in source)
    _drop_docstrings(tree)
    dump = ast.dump(tree, annotate_fields=False)
    return hashlib.sha256(dump.encode()).hexdigest(), imports


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:stop]) for stop in range(1, len(parts))]


def _source_file(name: str, tops: set[str]) -> Path | None:
    # find_spec of a dotted name would import its parents: only the top is looked up that way.
    top, *rest = name.split(".")
    spec = _top_spec(top)
    if spec is None or not (top in tops or _is_local(top, spec)):
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    if not rest:
        return _python_file(spec.origin)
    for index, part in enumerate(rest):
        for folder in folders:
            package, plain = folder / part / "__init__.py", folder / f"{part}.py"
            found = next((path for path in (package, plain) if path.is_file()), None)
            if found or (folder / part).is_dir():
                break
        else:
            return None
        if index == len(rest) - 1:
            return found
        folders = [folder / part]
    return None


def _top_spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def _python_file(origin: str | None) -> Path | None:
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _is_local(top: str, spec: ModuleSpec) -> bool:
    if top in sys.stdlib_module_names:
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or [])]
    return not any({"site-packages", "dist-packages"} & set(Path(p).parts) for p in places)
