"""The reasons of refusals have a name in Persian, for those who quote them."""

from __future__ import annotations

import ast

from runtime.language_catalogue import of_package
from tests.support.templates import ROOT

_REFUSE = {"_refuse"}


def _reasons() -> set[str]:
    """Every text that is the first argument of an error of `pki`, or a status of the OCSP responder."""
    found = set()
    for path in (ROOT / "pki").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            named = node.func.id
            first = node.args[0]
            refuses = named in _REFUSE or (named.endswith("Error") and named not in {"ValueError", "TypeError"})
            if refuses and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_every_reason_is_known_and_none_besides() -> None:
    from pki.ocsp import _RESPONSE_STATUS

    assert of_package("pki").terms["reason"].keys() == _reasons() | set(_RESPONSE_STATUS.values())
