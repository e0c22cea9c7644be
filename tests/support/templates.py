"""The templates that a package's code can say, read from its source.

A template is what stands as text in `Message("…")`, in `found.add(Rule.X, "…")`, or in the error of a `ToldError`. A
name stands for the text of the same module that it is defined as; for any other expression every text in the module's
tables that names the same values is taken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from runtime.language_catalogue import placeholders

ROOT = Path(__file__).parents[2]
_NO_VALUES = frozenset({"decision", "clause", "findings", "headers", "hint"})


@dataclass(frozen=True)
class Said:
    """A template where it is said, and the values that go with it (None: it is not seen which)."""

    template: str
    values: frozenset[str] | None
    place: str


def said_in(
    package: str,
    errors: frozenset[str] = frozenset(),
    *,
    but: frozenset[str] = frozenset(),
    at: Mapping[str, int] = MappingProxyType({}),
) -> list[Said]:
    """Everything that the code of `package` says; `errors` are the names of its `ToldError`s, `but` files left out.

    `at`: further functions by name, and which of their arguments is a sentence without values, where it is text.
    """
    files = [each for each in sorted((ROOT / package).rglob("*.py")) if each.name not in but]
    return [said for path in files for said in (*_in_file(path, errors), *_sentences(path, at))]


def _sentences(path: Path, at: Mapping[str, int]) -> Iterator[Said]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in at:
            continue
        place = at[node.func.id]
        argument = node.args[place] if len(node.args) > place else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield Said(argument.value, None, f"{path.relative_to(ROOT)}:{node.lineno}")


def _in_file(path: Path, errors: frozenset[str]) -> Iterator[Said]:
    tree = ast.parse(path.read_text())
    tables = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        argument = _template_of(node, errors)
        if argument is None:
            continue
        place = f"{path.relative_to(ROOT)}:{node.lineno}"
        values = _values(node)
        if isinstance(argument, ast.Name) and argument.id in tables:
            argument = tables[argument.id]
        if isinstance(argument, ast.Constant):
            yield Said(str(argument.value), values, place)
        elif isinstance(argument, ast.JoinedStr):
            yield Said(ast.unparse(argument), frozenset({"an f-string is no template"}), place)
        elif values:
            for text in _texts(tables.values()):
                if placeholders(text) == values:
                    yield Said(text, values, place)


def _template_of(node: ast.Call, errors: frozenset[str]) -> ast.expr | None:
    name = node.func.id if isinstance(node.func, ast.Name) else None
    if name == "Message" or (name in errors and node.args):
        return node.args[0]
    if isinstance(node.func, ast.Attribute) and node.func.attr == "add" and len(node.args) >= 2:
        return node.args[1]
    return None


def _values(node: ast.Call) -> frozenset[str] | None:
    if any(keyword.arg is None for keyword in node.keywords):
        return None
    named = frozenset(str(keyword.arg) for keyword in node.keywords)
    return named if isinstance(node.func, ast.Name) and node.func.id == "Message" else named - _NO_VALUES


def _texts(trees: object) -> Iterator[str]:
    for tree in trees:  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield node.value
