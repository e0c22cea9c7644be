"""The next certificate of a responder: signed on the CA's word alone if it says nothing new, and then only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from hsm_service.service import SignCommand
from hsm_service.vault import Vault
from pki.builder import tbs_certificate
from pki.names import name
from tests.support.pki_factory import DAY, NOW, p256
from tests.support.signing_site import CA, World, refusal
from tests.support.signing_site import tbs as merchant_tbs

MINUTE = timedelta(minutes=1)
KEY = "ocsp-responder"
LIFE = 30 * DAY
MERCHANT_CA = "merchant-ca"


@pytest.fixture
def vault(world: World) -> Any:
    """The services' vault, in which `KEY` was certified by the CA key that is in custody."""
    with world.vault() as opened:
        authority = opened.key(MERCHANT_CA).pair()
        model = opened.key(KEY).pair().certificate
        ends = NOW - DAY + LIFE
        tbs = _tbs(opened, model, authority.certificate, not_before=NOW - DAY, not_after=ends)
        signed = opened.sign("ceremony", MERCHANT_CA, SignCommand("certificate", tbs)).signed
        chain = [signed, *(each.public_bytes(Encoding.DER) for each in authority.chain)]
        opened.attach_certificate("ceremony", KEY, chain)
        yield opened


def _tbs(
    vault: Vault,
    last: x509.Certificate,
    issuer: x509.Certificate,
    *,
    not_before: Any = NOW - MINUTE,
    not_after: Any = NOW - MINUTE + LIFE,
    subject: x509.Name | None = None,
    key: Any = None,
    drop: type[x509.ExtensionType] | None = None,
    add: tuple[x509.ExtensionType, ...] = (),
) -> bytes:
    public = key or last.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or last.subject)
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number() | 1 << 100)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    for each in last.extensions:
        skipped = (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier, *((drop,) if drop else ()))
        if not isinstance(each.value, skipped):
            builder = builder.add_extension(each.value, each.critical)
    for value in add:
        builder = builder.add_extension(value, critical=False)
    public_key: Any = issuer.public_key()
    return tbs_certificate(builder, public_key)


def renewed(vault: Vault, **changes: Any) -> bytes:
    issuer = vault.key(MERCHANT_CA).pair().certificate
    return _tbs(vault, vault.key(KEY).pair().certificate, issuer, **changes)


def sign(vault: Vault, tbs: bytes, caller: str = CA) -> bytes:
    return vault.sign(caller, MERCHANT_CA, SignCommand("certificate", tbs)).signed


def test_the_next_certificate_is_signed_and_attached_on_the_word_of_the_ca(world: World, vault: Vault) -> None:
    before = vault.key(KEY).pair()
    der = sign(vault, renewed(vault))
    assert world.journal()[-2]["renewal"] is True
    vault.attach_certificate(CA, KEY, [der, *(each.public_bytes(Encoding.DER) for each in before.chain[1:])])
    assert vault.key(KEY).pair().certificate == x509.load_der_x509_certificate(der)


def test_addresses_may_have_moved(vault: Vault) -> None:
    moved = x509.UniformResourceIdentifier("http://elsewhere.example/cas/merchant-ca.cer")
    access = x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, moved)])
    sign(vault, renewed(vault, add=(access,)))


def lists_at(**changes: Any) -> x509.CRLDistributionPoints:
    """Where lists are found; with more than an address in it, if given."""
    address = x509.UniformResourceIdentifier("http://elsewhere.example/crls/merchant-ca.crl")
    fields: dict[str, Any] = {"full_name": [address], "relative_name": None, "reasons": None, "crl_issuer": None}
    return x509.CRLDistributionPoints([x509.DistributionPoint(**{**fields, **changes})])


def test_lists_may_have_moved_but_stay_the_authoritys(vault: Vault) -> None:
    sign(vault, renewed(vault, add=(lists_at(),)))
    somebody = [x509.DirectoryName(name(cn="Somebody"))]
    for changes in (
        {"crl_issuer": somebody},
        {"reasons": frozenset({x509.ReasonFlags.superseded})},
        {"full_name": somebody},
    ):
        tbs = renewed(vault, add=(lists_at(**changes),))
        refusal(lambda: sign(vault, tbs), 422, "extension-not-renewed")  # noqa: B023  # called at once


TWINS: dict[str, tuple[Callable[[Vault], bytes], str]] = {
    "another key": (lambda vault: renewed(vault, key=p256().public_key()), "foreign-subject-key"),
    "the key of the time-stamp authority": (
        lambda vault: renewed(vault, key=vault.key("timestamp-authority").pair().public_key),
        "foreign-subject-key",
    ),
    "another name": (lambda vault: renewed(vault, subject=name(cn="Somebody")), "subject-not-renewed"),
    "without ocsp-nocheck": (lambda vault: renewed(vault, drop=x509.OCSPNoCheck), "extension-not-renewed"),
    "a name more": (
        lambda vault: renewed(vault, add=(x509.SubjectAlternativeName([x509.DNSName("shop.example")]),)),
        "extension-not-renewed",
    ),
    "a longer life": (lambda vault: renewed(vault, not_after=NOW + LIFE + DAY), "validity-not-renewed"),
    "begins tomorrow": (
        lambda vault: renewed(vault, not_before=NOW + DAY, not_after=NOW + DAY + LIFE),
        "validity-not-renewed",
    ),
    "began yesterday": (
        lambda vault: renewed(vault, not_before=NOW - DAY, not_after=NOW - DAY + LIFE),
        "validity-not-renewed",
    ),
}


@pytest.mark.parametrize("twin", TWINS)
def test_whatever_says_something_new_needs_its_approval(vault: Vault, twin: str) -> None:
    make, slug = TWINS[twin]
    tbs = make(vault)
    refusal(lambda: sign(vault, tbs), 422, slug)


def test_no_other_role_and_no_other_caller_comes_without_approval(vault: Vault) -> None:
    refusal(lambda: sign(vault, merchant_tbs(vault)), 422, "approval-missing")
    refusal(lambda: sign(vault, renewed(vault), "service:repository"), 403, "caller-not-allowed")
    refusal(lambda: vault.attach_certificate("service:repository", KEY, []), 403, "caller-not-allowed")


def test_a_responder_of_another_authority_is_not_renewed_here(vault: Vault) -> None:
    other = vault.key("merchant-ca-ec").pair().certificate
    tbs = _tbs(vault, vault.key(KEY).pair().certificate, other)
    refusal(lambda: vault.sign(CA, "merchant-ca-ec", SignCommand("certificate", tbs)), 422, "issuer-not-renewed")


def test_a_key_that_was_taken_out_of_service_gets_no_next_certificate(vault: Vault) -> None:
    tbs = renewed(vault)
    vault.life.disable("ceremony", KEY, 1)
    refusal(lambda: sign(vault, tbs), 422, "foreign-subject-key")
