"""The Persian texts of all packages: `messages.fa.yaml` in each that refuses things.

    messages:
      "no {kind} on file": "{kind} در پرونده نیست"      # the English template, word for word, and the Persian one
    terms:
      role: {auditor: حسابرس}                            # names that programs use, by their kind

Both templates name the same values. A test compares the catalogue of each package with its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Final

import yaml

PACKAGES: Final = (
    "runtime",
    "shetab",
    "pki",
    "cps",
    "ca",
    "ra",
    "gateway",
    "cli",
    "storefront.evidence",
    "storefront.wallet",
    "storefront.merchant.money",
)
"""The packages that have a catalogue."""

_Tree = str | dict[str, "_Tree"]


class CatalogueError(Exception):
    """A catalogue is not in its form, or two disagree; the text says where."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Persian templates by the English ones, and Persian names by kind and name."""

    messages: Mapping[str, str] = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@cache
def persian() -> Catalogue:
    """What all packages say in Persian. Raises CatalogueError."""
    messages: dict[str, str] = {}
    terms: dict[str, dict[str, str]] = {}
    for package in PACKAGES:
        own = of_package(package)
        _add(messages, own.messages)
        for kind, names in own.terms.items():
            _add(terms.setdefault(kind, {}), names)
    return Catalogue(messages, terms)


def _add(whole: dict[str, str], part: Mapping[str, str]) -> None:
    twice = sorted(key for key in part if whole.get(key, part[key]) != part[key])
    if twice:
        raise CatalogueError(f"translated in two ways: {twice[0]}")
    whole.update(part)


def of_package(package: str) -> Catalogue:
    """The catalogue of one package. Raises CatalogueError."""
    return load(files(package).joinpath("messages.fa.yaml").read_text(encoding="utf-8"))


def load(text: str) -> Catalogue:
    """Read a catalogue; raises CatalogueError for anything that is not exactly its form."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise CatalogueError(f"not YAML: {error}") from None
    tree = {} if root is None else _read(root)
    if isinstance(tree, str) or not tree.keys() <= {"messages", "terms"}:
        raise CatalogueError("a catalogue has messages and terms, and nothing else")
    messages = _texts(tree.get("messages", {}), "messages")
    terms = tree.get("terms", {})
    if isinstance(terms, str):
        raise CatalogueError("terms: names by kind are needed")
    for english, template in messages.items():
        if placeholders(english) != placeholders(template):
            raise CatalogueError(f"other values than in the English text: {english}")
    return Catalogue(messages, {kind: _texts(names, kind) for kind, names in terms.items()})


def placeholders(template: str) -> frozenset[str]:
    """The names of the values in a template. Raises CatalogueError if it is none."""
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise CatalogueError(f"{error}: {template}") from None
    if any(not str(name).isidentifier() or spec or conversion for _text, name, spec, conversion in parts):
        raise CatalogueError(f"a value has a name and nothing else: {template}")
    return frozenset(str(part[1]) for part in parts)


def _read(node: yaml.Node) -> _Tree:
    if isinstance(node, yaml.ScalarNode) and node.value:
        return str(node.value)
    if not isinstance(node, yaml.MappingNode):
        raise CatalogueError(f"a text or names of texts are needed{node.start_mark}")
    tree: dict[str, _Tree] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in tree:
            raise CatalogueError(f"a key is not text, or stands twice{key.start_mark}")
        tree[key.value] = _read(value)
    return tree


def _texts(tree: _Tree, where: str) -> dict[str, str]:
    if isinstance(tree, str) or not all(isinstance(text, str) for text in tree.values()):
        raise CatalogueError(f"{where}: texts by key are needed")
    return {key: text for key, text in tree.items() if isinstance(text, str)}
