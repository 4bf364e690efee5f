"""The house: folders that one can take in at a glance, short files and functions, no circles between folders."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from .test_architecture import imported_modules, sources

CODE = ["nodes", "tim_model", "training", "benchmarks", "devtools"]
FILES_IN_A_FOLDER = 14
LINES_IN_A_FILE = 250
LINES_IN_A_FUNCTION = 45
PARAMETERS = 8
METHODS = 15
NODE_SCHEMA = {"execute", "validate_inputs", "fingerprint_inputs"}  # their parameters are the inputs of a node


def code_files(root: Path) -> list[Path]:
    return [path for folder in CODE for path in sources(root, folder)]


def folder_sizes(root: Path) -> dict[str, int]:
    """Code files in each folder; `__init__.py` says what the folder is and does not count."""
    folders = {path.parent for path in code_files(root)}
    names = {folder: [path for path in folder.glob("*.py") if path.name != "__init__.py"] for folder in folders}
    return {folder.relative_to(root).as_posix(): len(files) for folder, files in names.items()}


def too_large(source: str) -> list[str]:
    """Functions and classes of a file that are over the limits."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += over(node.name, "lines", node.end_lineno - node.lineno + 1, LINES_IN_A_FUNCTION)
            if node.name not in NODE_SCHEMA:
                found += over(node.name, "parameters", parameter_count(node), PARAMETERS)
        elif isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            found += over(node.name, "methods", len(methods), METHODS)
    return found


def parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return len([name for name in names if name is not None and name.arg not in ("self", "cls")])


def over(name: str, what: str, count: int, limit: int) -> list[str]:
    return [f"{name}: {count} {what}, at most {limit}"] if count > limit else []


def folder_arrows(root: Path, files: list[Path]) -> dict[str, set[str]]:
    """Which folders the files of a folder import from; a folder's own files do not count.

    A file that joins the parts of its package, such as `tim_model/pipeline.py`, is in the folder above them, which may
    therefore import from them; they may import files of the folder above, too, as long as no circle of files arises.
    """
    arrows: dict[str, set[str]] = {}
    for path in files:
        here = path.parent.relative_to(root).as_posix()
        for name in imported_modules(root, path):
            target = root.joinpath(*name.split("."))
            folder = (target if target.is_dir() else target.parent).relative_to(root).as_posix()
            if folder.split("/")[0] in CODE and not is_top(folder) and not is_top(here) and folder != here:
                arrows.setdefault(here, set()).add(folder)
    return arrows


def is_top(folder: str) -> bool:
    """Packages' top folders hold commands and public names, which are the last to import the others."""
    return folder in CODE


def file_arrows(root: Path, files: list[Path]) -> dict[str, set[str]]:
    modules = {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}
    return {name: imported_modules(root, path) & modules.keys() - {name} for name, path in modules.items()}


def circles(arrows: dict[str, set[str]]) -> Iterator[str]:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        yield " -> ".join(error.args[1])


def test_folders_can_be_taken_in(root):
    assert {folder: count for folder, count in folder_sizes(root).items() if count > FILES_IN_A_FOLDER} == {}


def test_files_are_short(root):
    lengths = {path.relative_to(root): len(path.read_text(encoding="utf-8").splitlines()) for path in code_files(root)}
    assert {path: length for path, length in lengths.items() if length > LINES_IN_A_FILE} == {}


def test_functions_and_classes_are_small(root):
    found = {path.relative_to(root): too_large(path.read_text(encoding="utf-8")) for path in code_files(root)}
    assert {path: names for path, names in found.items() if names} == {}


def test_folders_import_each_other_one_way(root):
    assert list(circles(folder_arrows(root, code_files(root)))) == []


def test_files_import_each_other_one_way(root):
    assert list(circles(file_arrows(root, code_files(root)))) == []


@pytest.mark.parametrize("folder", ["training", "tim_model", "nodes"])
def test_parts_import_nothing_from_commands(root, folder):
    """What is in a folder of a package is imported by the files at the package's top, not the reverse."""
    commands = {"__main__", "train", "export", "evaluate", "demo", "pipeline", "arguments"}
    for path in sources(root, folder):
        if path.parent != root / folder:
            names = {name for name in imported_modules(root, path) if name.count(".") == 1}
            assert not {name for name in names if name.split(".")[1] in commands}, path


def test_checker_sees_what_is_too_large():
    long = "def f(a, b, c, d, e, *, g, h, i, j):\n" + "    pass\n" * 45
    assert too_large(long) == ["f: 46 lines, at most 45", "f: 9 parameters, at most 8"]
    methods = "".join(f"    def m{i}(self): ...\n" for i in range(16))
    assert too_large(f"class A:\n{methods}") == ["A: 16 methods, at most 15"]
    assert too_large("def execute(cls, a, b, c, d, e, f, g, h, i): ...") == []


def test_checker_sees_circles(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        file = tmp_path / "training" / name / "part.py"
        file.parent.mkdir(parents=True)
        file.write_text(f"def f():\n    from ..{other} import part\n")
    files = sources(tmp_path, "training")
    assert list(circles(folder_arrows(tmp_path, files)))
    assert list(circles(file_arrows(tmp_path, files)))
