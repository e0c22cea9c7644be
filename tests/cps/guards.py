"""The guards of a piece of code, each of which can be taken out: to show that a test would miss it.

A guard is an `if` whose whole body refuses: it returns a rule of the statement, or says that something is in the way.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import FunctionType
from typing import Any

import pytest

import cps.decide
from cps.model import Pack
from cps.verdict import Findings
from pki.errors import PkiError


@dataclass(frozen=True)
class Guard:
    """The `place`-th guard of a function, which refuses by `rule`."""

    of: FunctionType
    place: int
    rule: str

    def __str__(self) -> str:
        return f"{self.of.__name__}-{self.place}-{self.rule}"

    def take_out(self, patched: pytest.MonkeyPatch) -> None:
        """Have the function's module use it without this guard."""
        tree = _tree(self.of)
        parent, guard = list(_found(tree))[self.place]
        parent.remove(guard)
        made: dict[str, Any] = {}
        code = compile(ast.fix_missing_locations(tree), f"<{self}>", "exec")
        exec(code, self.of.__globals__, made)  # noqa: S102  # our own code, less one statement
        patched.setitem(self.of.__globals__, self.of.__name__, made[self.of.__name__])


def guards_of(*functions: Callable[..., Any]) -> list[Guard]:
    """Every guard of these functions, in the order of their text."""
    found = []
    for function in functions:
        assert isinstance(function, FunctionType)
        for place, (_parent, guard) in enumerate(_found(_tree(function))):
            found.append(Guard(function, place, _rule(guard)))
    return found


def _tree(function: FunctionType) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _found(tree: ast.Module) -> Iterator[tuple[list[ast.stmt], ast.If]]:
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    for statement in definition.body:
        if isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Return):
            yield definition.body, statement


def _rule(guard: ast.If) -> str:
    """The rule that is named in what is returned."""
    named = [
        each.attr
        for each in ast.walk(guard)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "Rule"
    ]
    return named[0] if named else ""


_remembered: dict[Any, Any] = {}


def remember_what_is_verified(patched: pytest.MonkeyPatch) -> None:
    """Have `decide` verify signatures, evidence and requests of one case once, however often it is judged."""
    opened, identified = cps.decide.open_signed, cps.decide.identify

    def once(key: tuple[Any, ...], work: Callable[[], Any]) -> Any:
        if key not in _remembered:
            try:
                _remembered[key] = work(), None
            except PkiError as error:
                _remembered[key] = None, error
        result, raised = _remembered[key]
        if raised is not None:
            raise raised
        return result

    def open_signed(der: bytes, content_type: Any) -> Any:
        return once(("opened", der, content_type), lambda: opened(der, content_type))

    def identify(signed: Any, *, pack: Pack, trust: Any, now: datetime) -> Any:
        # The objects are kept, so no other has their ids.
        key = ("identified", id(signed), pack.digest, id(trust), now)
        return once(key, lambda: (identified(signed, pack=pack, trust=trust, now=now), signed, trust))[0]

    def checked(check: Callable[..., Any]) -> Callable[..., Any]:
        def noted(dossier: Any, pack: Pack, *arguments: Any, found: Any, now: datetime, **named: Any) -> Any:
            def look() -> Any:
                fresh = Findings(pack)
                return check(dossier, pack, *arguments, found=fresh, now=now, **named), fresh.all(), named

            revision = dossier.revision.digest, dossier.evidence_digest
            rest = tuple(each if name == "known_keys" else id(each) for name, each in sorted(named.items()))
            result, findings, _kept = once((check.__name__, *revision, pack.digest, now, rest), look)
            for each in findings:
                found.add(each.code, "{finding}", finding=each.told)
            return result

        return noted

    patched.setattr(cps.decide, "open_signed", open_signed)
    patched.setattr(cps.decide, "identify", identify)
    patched.setattr(cps.decide, "check_application", checked(cps.decide.check_application))
    patched.setattr(cps.decide, "check_evidence", checked(cps.decide.check_evidence))
