"""RFC 8649: the root that follows is the one whose key the pinned root names; every other is refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import CertificateError, DerError, RolloverError
from pki.extensions import HashedRootKey
from pki.names import name
from pki.roles import Role
from pki.rollover import check_next_root, next_roots
from tests.support.pki_factory import DAY, NOW, p256, role_extensions

KEYS = [p256() for _generation in range(5)]
SPARE = p256()


def root(
    generation: int,
    *,
    names: ec.EllipticCurvePrivateKey | str | None = "next",
    signed_by: ec.EllipticCurvePrivateKey | None = None,
    role: Role = Role.ROOT,
    start: datetime = NOW - DAY,
    extension: x509.UnrecognizedExtension | None = None,
) -> x509.Certificate:
    """The root certificate of a generation, which names the key of the next; or one thing about it otherwise."""
    key = KEYS[generation]
    subject = name(cn=f"Root {generation}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + 30 * DAY)
    )
    for value, critical in role_extensions(role).values():
        builder = builder.add_extension(value, critical=critical)
    named = KEYS[generation + 1] if names == "next" else names
    if isinstance(named, ec.EllipticCurvePrivateKey):
        extension = HashedRootKey.of(named.public_key()).to_extension()
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signed_by or key, hashes.SHA256())


FIRST, SECOND, THIRD, FOURTH = (root(generation) for generation in range(4))


def test_the_root_that_the_pinned_one_names_is_accepted() -> None:
    check_next_root(FIRST, SECOND, now=NOW)
    check_next_root(SECOND, THIRD, now=NOW, known=[FIRST, SECOND])


@dataclass(frozen=True)
class Refused:
    pinned: x509.Certificate
    candidate: x509.Certificate
    reason: str
    known: tuple[x509.Certificate, ...] = ()
    now: datetime = NOW


REFUSED = {
    "the same root": Refused(SECOND, SECOND, "same_root"),
    "the same key in another certificate": Refused(SECOND, root(1, names=SPARE), "same_root"),
    "another root": Refused(FIRST, FOURTH, "not_next_root"),
    "a root that was skipped to": Refused(FIRST, THIRD, "root_skipped", (SECOND,)),
    "a root two generations on": Refused(FIRST, FOURTH, "root_skipped", (THIRD, SECOND)),
    "a generation before": Refused(SECOND, FIRST, "older_root"),
    "two generations before": Refused(THIRD, FIRST, "older_root", (SECOND,)),
    "a root that names itself": Refused(root(0), root(1, names=KEYS[1]), "next_root_missing"),
    "roots that name each other in a ring": Refused(
        FIRST, root(3, names=SPARE), "not_next_root", (root(1, names=KEYS[2]), root(2, names=KEYS[1]))
    ),
    "after a root that names none": Refused(root(0, names=None), SECOND, "no_next_root"),
    "a root that names none": Refused(FIRST, root(1, names=None), "next_root_missing"),
    "a root that another key signed": Refused(FIRST, root(1, signed_by=SPARE), "not_self_signed"),
    "no root at all": Refused(FIRST, root(1, role=Role.BRAND), "not_self_signed"),
    "too early": Refused(FIRST, root(1, start=NOW + DAY), "not_yet_valid"),
    "too late": Refused(FIRST, SECOND, "expired", now=NOW + 31 * DAY),
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_other_root_is_refused_with_its_reason(case: str) -> None:
    given = REFUSED[case]

    with pytest.raises(RolloverError) as refusal:
        check_next_root(given.pinned, given.candidate, now=given.now, known=given.known)

    assert refusal.value.reason == given.reason
    assert refusal.value.clause


def test_a_weak_or_malformed_root_is_refused() -> None:
    malformed = root(1, names=None, extension=x509.UnrecognizedExtension(HashedRootKey.OID, b"\x30\x00"))

    with pytest.raises(CertificateError, match="bad_extension"):
        check_next_root(FIRST, malformed, now=NOW)


def test_roots_are_followed_in_their_order_and_none_is_skipped() -> None:
    assert next_roots(FIRST, [FOURTH, THIRD, SECOND], now=NOW) == (SECOND, THIRD, FOURTH)
    assert next_roots(FIRST, [FOURTH, THIRD], now=NOW) == ()
    assert next_roots(FIRST, [], now=NOW) == ()
    assert next_roots(SECOND, [root(2, names=None), FIRST], now=NOW) == ()


# --- the extension


def test_the_extension_is_read_as_it_was_written() -> None:
    named = HashedRootKey.from_certificate(FIRST)

    assert named == HashedRootKey.of(KEYS[1].public_key())
    assert HashedRootKey.from_certificate(root(0, names=None)) is None
    assert not FIRST.extensions.get_extension_for_oid(HashedRootKey.OID).critical


def test_a_hash_with_null_parameters_is_a_second_spelling_that_is_read() -> None:
    """RFC 5754 2: receivers take SHA-256 with NULL parameters as well as without."""
    assert HashedRootKey.from_der(bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32)).digest == bytes(
        32
    )


@pytest.mark.parametrize(
    "der",
    {
        "SHA-1": "3021300906052b0e03021a05000414" + "00" * 20,
        "SHA-256, but too short": "302e300b0609608648016503040201041f" + "00" * 31,
        "nothing": "",
        "bytes behind": "302f300b0609608648016503040201" + "0420" + "00" * 32 + "00",
    }.values(),
)
def test_an_extension_that_names_no_sha256_is_malformed(der: str) -> None:
    with pytest.raises((DerError, ValueError)):
        HashedRootKey.from_der(bytes.fromhex(der))
