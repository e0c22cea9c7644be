"""What `docs/protocol` holds of the code: the ASN.1 module KWBP-2, `oids.txt`, and the tables of checks and codes.

The structures are read where they are defined, annotations and docstrings, so that nobody keeps a second list of
fields. `tests/kwbp/test_specification.py` sees that the files are those of the code, and has a foreign compiler read
messages by the module.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from kwbp import codes
from kwbp.checks import CHECKS
from kwbp.oids_txt import oids_txt
from pki.oids import ID_KWBP, NAMES
from scripts import visibility

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "protocol"
MODULES: Final = (
    "kwbp.money",
    "kwbp.wrapper",
    "kwbp.messages",
    "kwbp.inquiry.messages",
    "kwbp.gateway_certificates",
    "kwbp.password.messages",
    "kwbp.receipt_ack",
    "kwbp.contract",
    "kwbp.settling.messages",
    "kwbp.settling.statements",
    "kwbp.registration.messages",
    "kwbp.holder.messages",
)
_ENUMERATIONS: Final = (
    codes.ErrorCode,
    codes.AuthCode,
    codes.CompletionCode,
    codes.SaleKind,
    codes.PurchaseStatus,
    codes.RegistrationStatus,
    codes.CertificateStatus,
    codes.RevocationReason,
    codes.ReversalReason,
    codes.EntryKind,
    codes.BatchOperation,
    codes.BatchStatus,
)
_CAPITALS: Final = {
    "id": "ID",
    "oi": "OI",
    "pi": "PI",
    "bin": "BIN",
    "ca": "CA",
    "cca": "CCA",
    "ee": "EE",
    "spki": "SPKI",
}
_SIMPLE: Final = {
    "int": "INTEGER",
    "str": "UTF8String",
    "bool": "BOOLEAN",
    "bytes": "OCTET STRING",
    "Id20": "OCTET STRING (SIZE (20))",
    "Hash32": "OCTET STRING (SIZE (32))",
    "Der": "OCTET STRING (SIZE (1..262144))",
    "asn1.GeneralizedTime": "GeneralizedTime",
    "x509.ObjectIdentifier": "OBJECT IDENTIFIER",
}


def field_name(name: str) -> str:
    """`mer_cert_hash` as the protocol spells it: `merCertHash`; `h_oi_data`: `hOIData`."""
    first, *rest = name.split("_")
    return first + "".join(_CAPITALS.get(word, word.capitalize()) for word in rest)


def asn1_module() -> str:
    """The ASN.1 module (ITU-T X.680), with what the docstrings say of each structure as comments."""
    arc = " ".join(ID_KWBP.dotted_string.split("."))
    parts = [
        "-- KWBP, version 2: what is signed, sealed and sent. DER throughout. Written by scripts/protocol.",
        f"KWBP-2 {{ {arc} 0 }}",
        "DEFINITIONS IMPLICIT TAGS ::= BEGIN",
        "\n".join(_identifiers()),
        *(_enumeration(each) for each in _ENUMERATIONS),
        *(_structure(node, constants) for node, constants in _structures()),
        "END",
    ]
    return "\n\n".join(parts) + "\n"


def _identifiers() -> Iterator[str]:
    arc = ID_KWBP.dotted_string
    yield f"id-kwbp OBJECT IDENTIFIER ::= {{ {' '.join(arc.split('.'))} }}"
    for oid, name in sorted(NAMES.items(), key=lambda each: [int(arm) for arm in each[0].dotted_string.split(".")]):
        if oid.dotted_string.startswith(arc + "."):
            below = oid.dotted_string.removeprefix(arc + ".").split(".")
            yield f"{name} OBJECT IDENTIFIER ::= {{ id-kwbp {' '.join(below)} }}"


def _enumeration(enumeration: type[IntEnum]) -> str:
    names = ", ".join(f"{_camel(member.name)} ({member.value})" for member in enumeration)
    text = f"{enumeration.__name__} ::= INTEGER {{ {names} }} ({_constraint([each.value for each in enumeration])})"
    return "\n".join(textwrap.wrap(text, 116, subsequent_indent="  ", break_long_words=False))


def _constraint(values: Collection[int]) -> str:
    """These values and no others, as ranges: 0..6 | 9."""
    first = [each for each in sorted(values) if each - 1 not in values]
    last = [each for each in sorted(values) if each + 1 not in values]
    return " | ".join(str(low) if low == high else f"{low}..{high}" for low, high in zip(first, last, strict=True))


def _structures() -> Iterator[tuple[ast.ClassDef, Mapping[str, Any]]]:
    for name in MODULES:
        module = import_module(name)
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(each) == "asn1.sequence" for each in node.decorator_list
            ):
                yield node, vars(module)


def _structure(node: ast.ClassDef, constants: Mapping[str, Any]) -> str:
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    lines = [
        f"  {field_name(each.target.id):<20} {_type(each.annotation, constants)}"  # type: ignore[union-attr]
        for each in fields
    ]
    said = textwrap.wrap(_as_specified(ast.get_docstring(node) or ""), 113)
    comment = "".join(f"-- {line}\n" for line in said)
    return f"{comment}{node.name} ::= SEQUENCE {{\n" + ",\n".join(lines) + "\n}"


def _as_specified(docstring: str) -> str:
    """A docstring on one line, the names of fields as the module spells them."""
    text = re.sub(r"`([a-z]+(?:_[a-z0-9]+)+)`", lambda found: field_name(found[1]), docstring)
    return re.sub(r"\s+", " ", text).replace("`", "").replace("--", "-")


def _type(annotation: ast.expr, constants: Mapping[str, Any]) -> str:
    """The ASN.1 type of a field's annotation; an annotation of a form that is not known here is an error."""
    match annotation:
        case ast.BinOp(left=inner, right=ast.Constant(value=None)):
            return f"{_type(inner, constants)} OPTIONAL"
        case ast.Subscript(value=ast.Name(id="list"), slice=element):
            return f"SEQUENCE OF {_type(element, constants)}"
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[inner, ast.Call() as mark])):
            return _marked(_type(inner, constants), mark, constants)
        case _:
            name = ast.unparse(annotation)
            return _SIMPLE.get(name, name)


def _marked(inner: str, mark: ast.Call, constants: Mapping[str, Any]) -> str:
    arguments = [constants[each.id] if isinstance(each, ast.Name) else ast.literal_eval(each) for each in mark.args]
    match ast.unparse(mark.func):
        case "asn1.Implicit":
            return f"[{arguments[0]}] {inner}"
        case "asn1.Size":
            size = f"SIZE ({arguments[0]}..{arguments[1]})"
            if inner.startswith("SEQUENCE OF"):
                return inner.replace("SEQUENCE OF", f"SEQUENCE ({size}) OF", 1)
            return f"{inner} ({size})"
        case other:
            raise ValueError(f"{other} has no ASN.1 here")


def tables() -> str:
    """Markdown: every check in its order, every code, every content type."""
    rows = [
        "# KWBP-2 in tables",
        "Written by `scripts/protocol` from the code; do not edit.",
        "## Checks",
        "A refusal names its check by this id (`clause` of the Error message). Letters: see the specification.",
        _table(("check", "what must hold"), CHECKS.items()),
    ]
    for each in _ENUMERATIONS:
        rows += [f"## {each.__name__}", _table(("number", "name"), ((str(m.value), _camel(m.name)) for m in each))]
    own = {
        oid.dotted_string: name for oid, name in NAMES.items() if oid.dotted_string.startswith(ID_KWBP.dotted_string)
    }
    rows += ["## Object identifiers", _table(("identifier", "name"), sorted(own.items(), key=_arms))]
    rows.append("## Need to know\n\nThe data are `visibility.yaml`; where nothing else is said, never.")
    for title, head, body in visibility.tables(visibility.load_matrix()):
        rows += [f"### {title}", _table(head, body)]
    return "\n\n".join(rows) + "\n"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _arms(item: tuple[str, str]) -> list[int]:
    return [int(arm) for arm in item[0].split(".")]


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def files() -> dict[str, str]:
    """Name and content of each file."""
    return {"KWBP-2.asn1": asn1_module(), "oids.txt": oids_txt(), "tables.md": tables()}


def main() -> None:
    """Write the files."""
    for name, content in files().items():
        (FOLDER / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
