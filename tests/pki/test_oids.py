"""The table of object identifiers."""

from __future__ import annotations

from cryptography.x509 import ObjectIdentifier

from pki import oids
from tests.support.judges import certtool, openssl


def test_no_two_identifiers_are_the_same() -> None:
    values = [value for value in vars(oids).values() if isinstance(value, ObjectIdentifier)]
    assert len(values) == len(set(values))
    assert len(oids.NAMES) == len(set(oids.NAMES.values()))


def test_every_kwbp_identifier_has_a_name() -> None:
    arc = oids.ID_KWBP.dotted_string
    own = [v for v in vars(oids).values() if isinstance(v, ObjectIdentifier) and v.dotted_string.startswith(arc)]
    assert len(own) > 20
    assert all(oid in oids.NAMES for oid in own)


def test_the_tools_that_judge_us_can_read_the_arc(invoice: bytes) -> None:
    assert oids.CT_INVOICE.dotted_string.encode() in openssl("asn1parse", "-inform", "DER", stdin=invoice)
    assert b"Signers:" in certtool("--p7-info", "--inder", stdin=invoice)
