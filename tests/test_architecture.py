"""Data flows one way, tim_model <- nodes and tim_model <- training, and only nodes knows the host."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

OURS = {"nodes", "tim_model", "training"}
HOST = {"comfy", "comfy_api", "comfy_execution", "comfy_extras"}
HOST |= {"execution", "folder_paths", "latent_preview", "node_helpers", "server"}
CARRIED_BY_HOST = {"torch", "safetensors", "einops", "numpy", "kornia", "transformers", "tokenizers"}
CARRIED_BY_HOST |= {"sentencepiece", "PIL", "tqdm", "psutil"}
OPTIONAL = {"diffusers"}
HEAVY = {"diffusers", "transformers"}  # seconds to import
ALLOWED = {
    "nodes": {"nodes", "tim_model"} | HOST | CARRIED_BY_HOST | OPTIONAL,
    "tim_model": {"tim_model"} | CARRIED_BY_HOST | OPTIONAL,
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
FORBIDDEN_MODULES = {"subprocess", "socket"}
FORBIDDEN_CALLS = {"eval", "exec"}
FORBIDDEN_ATTRIBUTES = {"os.environ", "os.getenv", "os.system", "os.popen", "torch.float64", "torch.double"}
FORBIDDEN_METHODS = {"double", "cuda"}  # of tensors and modules


@dataclass(frozen=True)
class Import:
    """`package` is the top-level package; a relative import is resolved from the checkout's root."""

    package: str
    relative: bool
    at_import: bool  # runs when the file is imported, not when a function is called
    place: str


def sources(root: Path, folder: str) -> list[Path]:
    return sorted((root / folder).rglob("*.py"))


def shipped(root: Path) -> list[Path]:
    return [*root.glob("__init__.py"), *sources(root, "nodes"), *sources(root, "tim_model")]


def nodes_with_scope(tree: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node under `tree`, and whether it runs when the file is imported."""
    for node in ast.iter_child_nodes(tree):
        later = isinstance(node, FUNCTION) or is_for_type_checkers(node)
        yield node, at_import
        yield from nodes_with_scope(node, at_import and not later)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(root: Path, path: Path) -> Iterator[Import]:
    for node, at_import in nodes_with_scope(ast.parse(path.read_text(encoding="utf-8"))):
        place = f"{path.relative_to(root).as_posix()}:{getattr(node, 'lineno', 0)}"
        for name in imported_names(node, path.relative_to(root).parts[:-1]):
            yield Import(name.split(".")[0], getattr(node, "level", 0) > 0, at_import, place)


def imported_names(node: ast.AST, folders: tuple[str, ...]) -> list[str]:
    """What an import statement in a file of that folder names, from the checkout's root: package.module.name."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = folders[: len(folders) - node.level + 1] if node.level else ()
    module = node.module.split(".") if node.module else []
    return [".".join([*base, *module, name.name]) for name in node.names]


def imported_modules(root: Path, path: Path) -> set[str]:
    """The modules of this checkout that a file imports, and the packages of which it imports names."""
    names = {name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             for name in imported_names(node, path.relative_to(root).parts[:-1])}  # fmt: skip
    return {name if is_module(root, name) else name.rpartition(".")[0] for name in names}


def is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def misuses(source: str) -> list[str]:
    """What a shipped file must not do: read the environment, run text as code, use float64, name CUDA."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            owner, _, method = name.rpartition(".")
            bad = name in FORBIDDEN_CALLS or (owner and method in FORBIDDEN_METHODS)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            bad = name in FORBIDDEN_ATTRIBUTES
        else:
            continue
        if bad:
            found.append(f"line {node.lineno}: {name}")
    return found


@pytest.mark.parametrize("folder", sorted(OURS))
def test_packages_are_not_empty(root, folder):
    if not (root / folder).exists():
        pytest.skip(f"{folder}/ is not part of this copy")
    assert sources(root, folder), f"{folder}/ holds no Python file"


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_only_what_every_host_has(root, folder):
    allowed = ALLOWED[folder] | (sys.stdlib_module_names - FORBIDDEN_MODULES)
    found = [i for path in sources(root, folder) for i in imports(root, path)]
    assert [i for i in found if i.package not in allowed] == []


def test_training_knows_neither_host_nor_nodes(root):
    found = [i for path in sources(root, "training") for i in imports(root, path)]
    assert [i for i in found if i.package in HOST | {"nodes"}] == []


def test_shipped_files_import_each_other_relatively(root):
    """The host imports the pack under a name of its own, and has a module `nodes` itself."""
    found = [i for path in shipped(root) for i in imports(root, path)]
    assert [i for i in found if i.package in OURS and not i.relative] == []


def test_heavy_packages_are_imported_when_needed(root):
    found = [i for path in shipped(root) for i in imports(root, path)]
    assert [i for i in found if i.package in HEAVY and i.at_import] == []


def test_shipped_files_do_nothing_forbidden(root):
    found = {path.relative_to(root): misuses(path.read_text(encoding="utf-8")) for path in shipped(root)}
    assert {path: misuse for path, misuse in found.items() if misuse} == {}


BAD_LINES = ["eval('1')", "exec('')", "os.environ['HOME']", "os.getenv('HOME')"]
BAD_LINES += ["x.to(torch.float64)", "x.double()", "model.cuda()", "x.cuda(0)"]


@pytest.mark.parametrize("line", BAD_LINES)
def test_checker_sees_misuse(line):
    assert len(misuses(f"def f(x, model):\n    return {line}")) == 1


def test_checker_leaves_good_code_alone():
    assert misuses("model.eval()\nx = x.float()\nre.compile('a')\ntorch.cuda.is_available()") == []


def test_checker_resolves_imports(tmp_path):
    module = tmp_path / "tim_model" / "layers.py"
    module.parent.mkdir()
    module.write_text(
        "import os.path\nfrom . import rope\nfrom ..nodes import loaders\nfrom .. import training\n"
        "def f():\n    import comfy.ops\n"
        "if TYPE_CHECKING:\n    import diffusers\n"
    )
    found = [(i.package, i.relative, i.at_import) for i in imports(tmp_path, module)]
    assert found == [
        ("os", False, True),
        ("tim_model", True, True),
        ("nodes", True, True),
        ("training", True, True),
        ("comfy", False, False),
        ("diffusers", False, False),
    ]


def test_modules_with_a_command_run_it():
    """A `main` that nobody calls would make `python -m` do nothing, without a word."""
    root = Path(__file__).parents[1]
    files = [path for folder in (*sorted(OURS), "benchmarks", "devtools") for path in sources(root, folder)]
    commands = {path: ast.parse(path.read_text(encoding="utf-8")) for path in [*files, root / "dev.py"]}
    commands = {path: tree for path, tree in commands.items() if any(is_main(node) for node in tree.body)}
    assert len(commands) > 10
    silent = [path.name for path, tree in commands.items() if "__main__" not in ast.unparse(tree.body[-1])]
    assert not silent


def is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "main"
