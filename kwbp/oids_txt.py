"""The file that lets `openssl asn1parse -oid oids.txt` call our object identifiers by name."""

from __future__ import annotations

from pki.oids import NAMES


def oids_txt() -> str:
    """ASCII lines `dotted short-name long-name`, sorted by identifier, each ended by a line feed (asn1parse(1))."""
    lines = [f"{oid.dotted_string} {name} {name}\n" for oid, name in NAMES.items()]
    return "".join(sorted(lines))
