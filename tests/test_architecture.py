"""The import directions of docs/architecture.md, on the syntax tree of every file.

`UNITS` is the whole rule. A part of the package that it does not name is a violation,
so that a new part states what it may import before it imports anything.
"""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = frozenset(
    {"torch", "jax", "flax", "haiku", "tensorflow", "keras", "transformers", "optax"}
)
MAX_FILE, MAX_FUNCTION = 600, 60

ARRAYS = frozenset({"numpy", "ml_dtypes"})
JAX = frozenset({"jax", "flax"})
HAIKU = frozenset({"haiku"})


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one part of the package may import.

    units: other parts of ivyport.
    packages: third-party packages.
    eager: those frameworks that it may import at module level; the others only inside
        functions, so that a port works where other frameworks are not installed.
    """

    units: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    eager: frozenset[str] = frozenset()


def unit(units: str, packages: frozenset[str], eager: frozenset[str] | None = None):
    return Unit(frozenset(units.split()), packages, eager or frozenset())


TORCH = frozenset({"torch"})
ENGINE = "core weights modules backends backends.jax backends.numpy frontends frontends.torch"
UNITS = {
    "core": unit("", ARRAYS),
    "frontends": unit("core", ARRAYS),
    # transformers: its configurations are switched for the capture, if it is loaded.
    "frontends.torch": unit(
        "core frontends", ARRAYS | TORCH | {"sympy", "transformers"}, TORCH
    ),
    # haiku: in the file that is loaded when a haiku function is the source.
    "frontends.jax": unit("core frontends", ARRAYS | JAX | {"haiku"}, JAX | {"haiku"}),
    "backends": unit("core", ARRAYS | {"ruff"}),
    # safetensors: helpers that are copied into the emitted file load its weights.
    "backends.jax": unit(
        "core backends", ARRAYS | JAX | HAIKU | {"safetensors"}, JAX | HAIKU
    ),
    "backends.torch": unit("core backends", ARRAYS | TORCH | {"safetensors"}, TORCH),
    "backends.numpy": unit("core backends", ARRAYS | {"safetensors"}),
    "folder": unit("core", frozenset()),
    "weights": unit("core folder", ARRAYS | {"safetensors"}),
    "modules": unit(
        "core backends backends.jax backends.numpy backends.torch weights",
        ARRAYS | JAX | HAIKU | TORCH,
    ),
    "targets": unit("core", frozenset()),
    "record": unit("core folder weights", frozenset()),
    "sources": unit(
        "core frontends frontends.torch frontends.jax", ARRAYS | TORCH | JAX
    ),
    "porting": unit(
        "core weights modules record saving sources targets __init__",
        ARRAYS,
    ),
    "verification": unit(
        f"{ENGINE} frontends.jax targets",
        ARRAYS | TORCH | JAX | HAIKU,
        TORCH | JAX | HAIKU,
    ),
    "guard": unit("core", frozenset({"numpy"})),  # whose random generator it keeps
    "saving": unit("core folder record targets", frozenset()),
    "card": unit("core record targets", frozenset()),
    "structure": unit(
        "core made porting sources targets weights", frozenset({"numpy"})
    ),
    "made": unit("core folder record weights saving porting targets", frozenset()),
    "home": unit("core folder guard made porting saving weights", frozenset()),
    "api": unit(
        "card core folder guard home made structure weights verification saving sources "
        "porting targets __init__",
        TORCH | JAX,
    ),
    "zoo": unit(
        "core folder record weights targets api zoo.haiku __init__",
        ARRAYS
        | TORCH
        | JAX
        | {"transformers", "safetensors", "huggingface_hub", "msgpack", "orbax"},
    ),
    "zoo.haiku": unit("core weights targets zoo", ARRAYS | JAX | HAIKU, JAX | HAIKU),
    "bench": unit(
        "core api record zoo targets __init__",
        ARRAYS | TORCH | JAX | {"transformers", "matplotlib", "psutil"},
    ),
    "cli": unit(
        f"{ENGINE} folder saving structure api zoo zoo.haiku bench targets cli_bench "
        "cli_jax cli_port cli_render __init__",
        frozenset({"typer"}),
    ),
    "cli_port": unit(
        "core folder api zoo targets cli_render __init__", frozenset({"typer"})
    ),
    "cli_jax": unit("core zoo cli_port cli_render", frozenset({"typer"})),
    "cli_bench": unit("core bench targets cli_render", frozenset({"typer", "rich"})),
    "cli_render": unit("core", frozenset({"typer", "rich"})),
    "__init__": unit("core api", frozenset()),
    "__main__": unit("cli", frozenset()),
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module, by its full dotted name, and how it is imported."""

    module: str
    line: int
    eager: bool


def imports_of(tree: ast.Module, package: str) -> Iterator[Import]:
    """Every import in a file of `package`, calls of `import_module("...")` included."""
    todo: list[tuple[ast.AST, bool]] = [(tree, True)]
    while todo:
        node, eager = todo.pop()
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, eager)
            case ast.ImportFrom(names=names):
                base = resolve(node, package)
                for alias in names:
                    yield Import(f"{base}.{alias.name}", node.lineno, eager)
            case ast.Call(args=[ast.Constant(value=str(name)), *_], func=func):
                if ast.unparse(func).endswith(("import_module", "__import__")):
                    yield Import(name, node.lineno, eager)
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += [(child, False) for child in node.body]
            todo += [(child, eager) for child in node.orelse]
        else:
            children = ast.iter_child_nodes(node)
            todo += [(child, eager and not in_function) for child in children]


def resolve(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of the module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def unit_of(module: str) -> str:
    """The part of the package that a dotted name below `ivyport` belongs to."""
    parts = module.split(".")[1:]
    pair = ".".join(parts[:2])
    if parts and pair in UNITS:
        return pair
    is_unit = parts and (parts[0] in UNITS or len(parts) > 1)
    return parts[0] if is_unit else "__init__"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    is_package_file = parts[-1] == "__init__" and len(parts) > 2
    return ".".join(parts[:-1] if is_package_file else parts)


def direction_violations(root: Path) -> list[str]:
    """Imports under `root`/ivyport that `UNITS` does not allow, one line each."""
    found = []
    for path in sorted((root / "ivyport").rglob("*.py")):
        own = module_name(path, root)
        where = path.relative_to(root)
        name = ".".join(own.split(".")[1:3])
        name = name if name in UNITS else own.split(".")[1]
        if name not in UNITS:
            found.append(f"{where}: {name} is no part that UNITS names")
            continue
        package = ".".join(path.parent.relative_to(root).parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for item in imports_of(tree, package):
            problem = judge(name, UNITS[name], item)
            if problem:
                found.append(f"{where}:{item.line}: {name} {problem}")
    return found


def judge(own: str, rule: Unit, item: Import) -> str | None:
    """What is wrong with one import, if anything."""
    top = item.module.split(".")[0]
    if top == "ivyport":
        other = unit_of(item.module)
        if other != own and other not in rule.units:
            return f"imports ivyport's {other} ({item.module})"
        return None
    if top in sys.stdlib_module_names:
        return None
    if top not in rule.packages:
        return f"imports {top}"
    if item.eager and top in FRAMEWORKS and top not in rule.eager:
        return f"imports {top} at module level"
    return None


def size_violations(root: Path, folders: tuple[str, ...]) -> list[str]:
    """Files and functions that are too long, and files named utils.py."""
    found = []
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    for path in sorted(paths):
        where = path.relative_to(root)
        if "golden" in where.parts:  # emitted, with a standard of its own
            continue
        if any(part.startswith(".") for part in where.parts):  # caches
            continue
        if path.name == "utils.py":
            found.append(f"{where}: name the file by what it does")
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_FILE:
            found.append(f"{where}: {lines} lines, at most {MAX_FILE}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    found.append(
                        f"{where}:{node.lineno}: {node.name} has {length} lines, "
                        f"at most {MAX_FUNCTION}"
                    )
    return found


def neutral_modules() -> list[str]:
    """Modules of every part that may import no framework at module level."""
    names = [module_name(p, ROOT) for p in sorted((ROOT / "ivyport").rglob("*.py"))]
    names = [name for name in names if not name.endswith(("__init__", "__main__"))]
    return [name for name in names if not UNITS[unit_of(name)].eager]


def test_import_directions():
    violations = direction_violations(ROOT)
    assert not violations, "\n".join(violations)


def test_sizes_and_names():
    violations = size_violations(ROOT, ("ivyport", "tests", "examples", "benchmarks"))
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize(
    "modules",
    [["ivyport"], ["ivyport", "ivyport.cli"], ["ivyport", *neutral_modules()]],
    ids=["package", "cli", "every neutral module"],
)
def test_imports_load_no_framework(modules):
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"print(sorted({set(FRAMEWORKS)!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_public_names_are_there():
    import ivyport

    assert set(dir(ivyport)) == set(ivyport.__all__)
    assert [getattr(ivyport, name) for name in ivyport.__all__]
    with pytest.raises(AttributeError, match="no attribute 'transpil'"):
        _ = ivyport.transpil


#: What only the records of targets and sources may ask for by name.
NAMED = FRAMEWORKS | {"nnx", "linen", "flax.nnx", "flax.linen", "pytorch"}
REGISTRIES = ("targets", "sources.py")


def name_comparisons(root: Path) -> list[str]:
    """Comparisons of a value with the name of a framework, outside of the registries."""
    found = []
    for path in sorted((root / "ivyport").rglob("*.py")):
        where = path.relative_to(root)
        # A frontend knows the framework that it is of.
        if where.parts[1] in (*REGISTRIES, "frontends"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                if any(NAMED & set(constants(side)) for side in sides):
                    found.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    return found


def constants(expr: ast.expr) -> Iterator[object]:
    if isinstance(expr, ast.Constant):
        yield expr.value
    if isinstance(expr, ast.Tuple | ast.List | ast.Set):
        for item in expr.elts:
            yield from constants(item)


def test_frameworks_are_told_apart_by_their_records():
    assert not name_comparisons(ROOT)


def test_checker_sees_a_comparison_with_a_name(tmp_path):
    for name in ("api.py", "targets/a.py"):
        path = tmp_path / "ivyport" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def f(to):\n    return 1 if to in ('jax', 'linen') else 2\n")
    [found] = name_comparisons(tmp_path)
    assert found == "ivyport/api.py:2: to in ('jax', 'linen')"


def test_every_record_names_what_there_is():
    pytest.importorskip("torch")
    pytest.importorskip("flax")
    from ivyport.targets import TARGETS

    for target in TARGETS.values():
        form, live = target.open_form(), target.open_live()
        assert form.language.rules
        assert target.open_side()
        needed = {
            "compile_source",
            "factory",
            "fill",
            "load_source",
            "names",
            "namespace",
        }
        assert needed | {"on_save", "settle_names", "state", "train_modules"} <= set(
            dir(live)
        )
        assert not target.holds(object())
        assert {e.port for e in target.engines} <= {target.name}


BAD = {
    "core/a.py": ("import torch", "core imports torch"),
    "core/b.py": ("from ivyport import weights", "core imports ivyport's weights"),
    "core/c.py": (
        "def f():\n    import importlib\n    importlib.import_module('jax.numpy')",
        "core imports jax",
    ),
    "core/d.py": ("from ..api import port", "core imports ivyport's api"),
    "frontends/torch/a.py": (
        "from ivyport.backends.jax import rules",
        "frontends.torch imports ivyport's backends.jax",
    ),
    "frontends/torch/b.py": ("import jax", "frontends.torch imports jax"),
    "backends/jax/a.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        "backends.jax imports torch",
    ),
    "weights/a.py": (
        "class A:\n    from ivyport.zoo.hf import load",
        "weights imports ivyport's zoo",
    ),
    "zoo/a.py": ("import torch.nn as nn", "zoo imports torch at module level"),
    "helpers.py": ("", "helpers is no part that UNITS names"),
    "helpers/a.py": ("", "helpers is no part that UNITS names"),
}
GOOD = {
    "core/ok.py": "import numpy as np\nfrom ivyport.core.errors import IvyportError",
    "core/__init__.py": "",
    "frontends/torch/ok.py": "import torch\nfrom ivyport.frontends import shared",
    "zoo/ok.py": (
        "from typing import TYPE_CHECKING\nfrom ivyport.api import port\n"
        "if TYPE_CHECKING:\n    import torch\ndef f():\n    import transformers"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_checker_sees_a_wrong_import(tmp_path, name):
    source, message = BAD[name]
    for other, text in {**GOOD, name: source}.items():
        path = tmp_path / "ivyport" / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    [violation] = direction_violations(tmp_path)
    assert violation.startswith(f"ivyport/{name}")
    assert message in violation


def test_checker_sees_sizes_and_names(tmp_path):
    (tmp_path / "ivyport").mkdir()
    body = "\n".join(["    x = 1"] * MAX_FUNCTION)
    (tmp_path / "ivyport/utils.py").write_text(f"class A:\n  def f():\n{body}\n")
    (tmp_path / "ivyport/long.py").write_text("x = 1\n" * (MAX_FILE + 1))
    (tmp_path / "ivyport/fits.py").write_text("x = 1\n" * MAX_FILE)
    assert size_violations(tmp_path, ("ivyport",)) == [
        "ivyport/long.py: 601 lines, at most 600",
        "ivyport/utils.py: name the file by what it does",
        "ivyport/utils.py:2: f has 61 lines, at most 60",
    ]
