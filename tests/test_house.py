"""The limits of the house: sizes of files, functions and folders, unique class names, plain words, test names."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_PRODUCT = ("tests", "benchmarks")
#: One command a module, so this folder may have more modules.
MANY_MODULES = Path("cli/commands")
#: Words that hide who acts.
VAGUE = re.compile(r"\b(nobody|somebody|whoever|anybody)\b", re.IGNORECASE)


def modules(*, product: bool) -> Iterator[tuple[Path, str]]:
    """Path and text of every module of the product, or of every test."""
    for room in sorted(path.parent for path in ROOT.glob("*/__init__.py")):
        if (room.name not in NOT_PRODUCT) if product else room.name == "tests":
            for path in sorted(room.rglob("*.py")):
                yield path.relative_to(ROOT), path.read_text()


def functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_product_files_have_at_most_300_lines() -> None:
    assert [str(path) for path, text in modules(product=True) if len(text.splitlines()) > 300] == []


def test_product_functions_have_at_most_40_lines() -> None:
    lengths = {
        f"{path}:{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path, text in modules(product=True)
        for function in functions(text)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}


def test_product_folders_have_at_most_14_modules() -> None:
    folders = Counter(path.parent for path, _ in modules(product=True) if path.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > 14 and folder != MANY_MODULES} == {}


def test_no_class_name_stands_twice_in_the_product() -> None:
    places = defaultdict(list)
    for path, text in modules(product=True):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_product_code_says_who_acts() -> None:
    lines = [
        f"{path}: {line.strip()}" for path, text in modules(product=True) for line in text.splitlines() if VAGUE.search(line)
    ]
    assert len(lines) <= 10, "\n".join(lines)


def test_test_names_have_at_most_70_characters() -> None:
    names = [function.name for _, text in modules(product=False) for function in functions(text)]
    assert [name for name in names if name.startswith("test_") and len(name) > 70] == []
