"""The list of all readers of bytes from outside, and how it is known to be whole.

`outside()` finds, in the packages that take bytes from outside, every public function whose name says that it reads,
and that takes bytes or a received message. Each is run by a reader of the list, or `not_fuzzed.yaml` says why not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import yaml

from tests.fuzz import reading_pki, reading_protocol, reading_records
from tests.fuzz.decoder import Decoder

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("audit", "ca", "cps", "kwbp", "pki", "ra", "shetab", "storefront")
_READS: Final = re.compile(
    r"(decode|parse|receive|read|load|open|unwrap|unseal|split|verify|check|validate|from|media|take|element|any)(_.*)?"
    r"|[a-z].*_fault|of"
)
_BYTES: Final = re.compile(r"\bbytes\b|\bKwbpMessage\b")


@cache
def decoders() -> Mapping[str, Decoder]:
    """Every reader by its name."""
    found: dict[str, Decoder] = {}
    for part in (reading_protocol, reading_pki, reading_records):
        for each in part.decoders():
            if each.name in found:
                raise ValueError(f"two readers are called {each.name}")
            found[each.name] = each
    return found


def honest() -> dict[str, list[bytes]]:
    """Honest inputs that can be kept, by the name of the reader."""
    return {**reading_protocol.honest(), **reading_pki.honest(), **reading_records.honest()}


def covered() -> frozenset[str]:
    """The functions that some reader of the list runs."""
    return frozenset(each for decoder in decoders().values() for each in decoder.covers)


def not_fuzzed() -> dict[str, str]:
    """The functions that none runs, each with the reason."""
    document = yaml.safe_load(Path(__file__).with_name("not_fuzzed.yaml").read_text("utf-8"))
    return {name: group["why"] for group in document for name in group["functions"]}


def outside() -> Iterator[str]:
    """Every function that reads bytes, as `module:name`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield from (f"{module}:{name}" for name in _readers(ast.parse(path.read_text("utf-8")), ""))


def _readers(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                yield from _readers(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _READS.fullmatch(node.name):
            arguments = [each for each in node.args.args if each.arg != "self" and each.annotation is not None]
            asked = arguments[:1] + [each for each in arguments[1:] if each.arg in ("data", "signed")]
            if any(_BYTES.search(ast.unparse(each.annotation)) for each in asked if each.annotation is not None):
                yield f"{prefix}{node.name}"
