"""Which names a CA may certify, kind by kind."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509

from pki.errors import PathError
from pki.name_constraints import NameConstraints, comparable

CN, OTHER = x509.NameOID.COMMON_NAME, x509.ObjectIdentifier("1.2.3")
DNS, MAIL, URI = x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier
IP = x509.IPAddress


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def holds(
    names: list[x509.GeneralName],
    *,
    permitted: list[x509.GeneralName] | None = None,
    excluded: list[x509.GeneralName] | None = None,
    subject: x509.Name = x509.Name([]),
) -> bool:
    constraints = NameConstraints()
    constraints.add(x509.NameConstraints(permitted, excluded))
    try:
        constraints.check(subject, x509.SubjectAlternativeName(names) if names else None)
    except PathError as error:
        return error.reason != "name_refused"
    return True


@pytest.mark.parametrize(
    ("asked", "subtree", "within"),
    [
        (DNS("example"), DNS("example"), True),
        (DNS("a.example."), DNS("EXAMPLE"), True),
        (DNS("aexample"), DNS("example"), False),
        (DNS("example"), DNS(".example"), False),
        (DNS("a.example"), DNS(".example"), True),
        (DNS("anything"), DNS(""), True),
        (MAIL("me@example"), MAIL("example"), True),
        (MAIL("me@a.example"), MAIL("example"), False),
        (MAIL("me@a.example"), MAIL(".example"), True),
        (MAIL("me@Example"), MAIL("me@example"), True),
        (MAIL("Me@example"), MAIL("me@example"), False),
        (URI("https://example/x"), URI("example"), True),
        (URI("https://a.example:8443/x"), URI(".example"), True),
        (URI("https://b.invalid"), URI("example"), False),
        (IP(ip_address("10.1.2.3")), IP(ip_network("10.0.0.0/8")), True),
        (IP(ip_address("11.1.2.3")), IP(ip_network("10.0.0.0/8")), False),
        (IP(ip_address("::1")), IP(ip_network("10.0.0.0/8")), False),
        (x509.DirectoryName(name((CN, "A"), (CN, "B"))), x509.DirectoryName(name((CN, "a"))), True),
        (x509.DirectoryName(name((CN, "A"))), x509.DirectoryName(name((CN, "A"), (CN, "B"))), False),
    ],
)
def test_a_name_is_within_a_subtree_or_not(asked: x509.GeneralName, subtree: x509.GeneralName, within: bool) -> None:
    assert holds([asked], permitted=[subtree]) == within
    assert holds([asked], excluded=[subtree]) != within


@pytest.mark.parametrize(
    "asked",
    [
        URI("urn:kwbp:service:x"),
        URI("https://10.0.0.1/x"),
        URI("https://[::1"),
        x509.RegisteredID(OTHER),
        x509.OtherName(OTHER, b"\x05\x00"),
    ],
)
def test_a_name_that_cannot_be_judged_is_refused_by_any_constraint_of_its_kind(asked: x509.GeneralName) -> None:
    subtree = URI("example") if isinstance(asked, URI) else asked
    assert not holds([asked], permitted=[subtree])
    assert not holds([asked], excluded=[subtree])
    assert holds([asked], permitted=[DNS("example")], excluded=[DNS("example")])


def test_constraints_of_all_cas_hold_together() -> None:
    constraints = NameConstraints()
    constraints.add(x509.NameConstraints([DNS("example")], None))
    constraints.add(x509.NameConstraints([DNS("a.example"), DNS("b.invalid")], None))
    constraints.check(x509.Name([]), x509.SubjectAlternativeName([DNS("a.example")]))
    for refused in ("b.example", "b.invalid"):
        with pytest.raises(PathError):
            constraints.check(x509.Name([]), x509.SubjectAlternativeName([DNS(refused)]))


def test_a_mail_address_in_the_subject_is_a_mail_address() -> None:
    subject = name((x509.NameOID.EMAIL_ADDRESS, "me@example"))
    assert not holds([], excluded=[MAIL("example")], subject=subject)
    assert holds([MAIL("me@other")], excluded=[MAIL("example")], subject=subject)


def test_names_compare_by_what_people_read() -> None:
    def bits(value: bytes) -> x509.Name:
        kind = x509.NameOID.X500_UNIQUE_IDENTIFIER
        return x509.Name([x509.NameAttribute(kind, value, x509.name._ASN1Type.BitString)])  # type: ignore[attr-defined]

    assert comparable(name((CN, " Good  CA "))) == comparable(name((CN, "good ca")))
    assert comparable(name((CN, "a"), (CN, "b"))) != comparable(name((CN, "b"), (CN, "a")))
    assert comparable(bits(b"\x00A")) != comparable(bits(b"\x00a"))
