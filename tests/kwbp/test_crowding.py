"""No list of a structure is longer than what is counted before objects are made of it, and none shorter is refused."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import kwbp
from kwbp.errors import ProtocolError
from kwbp.messages import MAX_LINES, BasketLine, InvoiceReqTBS
from kwbp.settling.statements import MAX_ADVICE_LINES
from kwbp.structure import Structure, decode
from pki.der import encode, tlv
from tests.kwbp.world import Purchase

NUMBERS = {"MAX_LINES": MAX_LINES, "MAX_ADVICE_LINES": MAX_ADVICE_LINES}


def structures() -> list[type[Structure]]:
    for module in walk_packages(kwbp.__path__, "kwbp."):
        import_module(module.name)
    return sorted(Structure.__subclasses__(), key=lambda each: each.__name__)


def longest_list(cls: type[Structure]) -> int:
    """The upper bound of the largest list of the class, out of its source: `Annotated[list[…], asn1.Size(a, b)]`."""
    source = Path(inspect.getsourcefile(cls) or "").read_text("utf-8")
    [node] = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == cls.__name__]
    bounds = [0]
    for each in ast.walk(node):
        if isinstance(each, ast.AnnAssign) and "list[" in (text := ast.unparse(each.annotation)):
            bound = text.split("asn1.Size(")[1].split(",")[1].split(")")[0].strip()
            bounds.append(NUMBERS.get(bound) or int(bound))
    return max(bounds)


def test_every_structure_counts_as_many_as_its_lists_may_have() -> None:
    found = structures()
    assert len(found) > 50
    for cls in found:
        assert longest_list(cls) <= cls.most, cls
        assert len(fields(cls)) <= cls.most, cls  # type: ignore[arg-type]  # the decorator makes dataclasses of them
    assert {cls.most for cls in found} == {Structure.most, MAX_LINES, MAX_ADVICE_LINES}


def test_the_longest_basket_is_read_and_one_line_more_is_not(purchase: Purchase) -> None:
    body: InvoiceReqTBS = purchase.request.body
    lines = [BasketLine(sku="book-of-many-letters", quantity=1)] * MAX_LINES
    most = InvoiceReqTBS(**{each.name: getattr(body, each.name) for each in fields(body)} | {"basket": lines})  # type: ignore[arg-type]
    assert len(decode(InvoiceReqTBS, encode(most)).basket) == MAX_LINES
    more = encode(most).replace(tlv(0x30, b"".join(map(encode, lines))), tlv(0x30, encode(lines[0]) * (MAX_LINES + 1)))
    with pytest.raises(ProtocolError):
        decode(InvoiceReqTBS, more)
