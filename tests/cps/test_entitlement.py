"""What the certificates of an approved case say: all of it from the revision, nothing from the PKCS#10 requests."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cps.dossier import Dossier
from cps.entitlement import KINDS, Entitlement, entitlement, entitlements, require_issuer
from cps.errors import EntitlementError, IssuerError, PackError
from cps.model import Pack, load_pack
from cps.rules import Rule
from pki.extensions import AccountBinding, GatewayData, MerchantData, OfficerData, SealingSuites
from pki.keys import spki_der
from pki.names import name
from pki.roles import Role
from tests.cps.test_model import TEXT
from tests.support.cps_cases import COMMITMENT, GATEWAY, MERCHANT, Office, csr
from tests.support.pki_factory import NOW, p256, rsa_key

PACK = load_pack(TEXT)
LIMIT = NOW + timedelta(days=3)


def only(dossier: Dossier, pack: Pack = PACK) -> Entitlement:
    (found,) = entitlements(dossier, pack, not_after=LIMIT)
    return found


def uris(*values: str) -> tuple[x509.GeneralName, ...]:
    return tuple(map(x509.UniformResourceIdentifier, values))


def test_a_cardholders_certificate_says_the_commitment_and_nothing_else(office: Office) -> None:
    found = only(office.cardholder_case())

    assert found.kind.role is Role.CARDHOLDER
    assert found.holder.subject == name(cn=COMMITMENT)
    assert (found.holder.alternative_names, found.holder.extensions) == ((), ())
    assert found.holder.not_after == LIMIT


def test_a_merchants_signing_certificate_names_shop_account_and_origin(office: Office) -> None:
    found = only(office.merchant_case())

    assert (found.purpose, found.kind.role) == ("signing", Role.MERCHANT)
    assert found.holder.subject == name(cn="Bookshop", o="Bookshop Co", c="IR")
    assert found.holder.alternative_names == uris("urn:kwbp:merchant:M-1", "https://bookshop.example")
    assert found.holder.extensions == (
        MerchantData("M-1", MERCHANT.acquirer_bin, "Bookshop", 364, True),
        AccountBinding.of(MERCHANT.iban, MERCHANT.iban_salt),
    )
    assert spki_der(found.holder.public_key) == spki_der(office.signing_key.public_key())


def test_a_merchant_without_shop_on_the_web_has_no_origin(office: Office) -> None:
    subject = MERCHANT.model_copy(update={"origin": None})
    assert only(office.merchant_case(subject=subject)).holder.alternative_names == uris("urn:kwbp:merchant:M-1")


@pytest.mark.parametrize("subject", [MERCHANT, GATEWAY], ids=["merchant", "gateway"])
def test_a_tls_certificate_names_hosts_and_carries_no_payment_data(office: Office, subject: Any) -> None:
    subject = subject.model_copy(update={"hosts": ("shop.example", "127.0.0.1")})
    found = only(office.case(subject, {"tls": csr(p256())}))

    assert found.kind.role is Role.SERVICE
    assert found.kind.extended_key_usage == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert found.holder.alternative_names[1:] == (
        x509.DNSName("shop.example"),
        x509.IPAddress(ip_address("127.0.0.1")),
    )
    assert found.holder.extensions == ()


def test_a_gateway_gets_one_certificate_a_request_in_the_order_of_purposes(office: Office) -> None:
    encryption, signing = entitlements(office.gateway_case(), office.pack, not_after=None)

    assert (encryption.purpose, signing.purpose) == ("encryption", "signing")
    data = GatewayData(GATEWAY.gateway_id, GATEWAY.acquirer_bin)
    assert signing.holder.extensions == (data,)
    assert encryption.holder.extensions == (data, SealingSuites(GATEWAY.suites))
    assert spki_der(encryption.holder.public_key) == spki_der(rsa_key(0).public_key())


def test_an_officers_certificate_carries_person_employer_and_roles(office: Office) -> None:
    found = only(office.officer_case())

    assert found.kind.role is Role.OFFICER
    assert found.holder.extensions == (OfficerData("officer-9", "RA", ("vetting_officer",)),)
    assert found.holder.alternative_names == uris("urn:kwbp:officer:officer-9")


def test_a_class_has_no_certificate_for_a_purpose_that_is_not_its_own(office: Office) -> None:
    case = office.case(MERCHANT, {"encryption": csr(rsa_key(0))})

    with pytest.raises(EntitlementError, match="a merchant has no certificate for encryption") as caught:
        entitlement(case, office.pack, "encryption", not_after=None)
    assert caught.value.clause == "CPS 7.1"
    assert ("merchant", "encryption") not in KINDS


@pytest.mark.parametrize(
    ("changes", "clause"),
    [({"country": 840}, "CPS 3.1.1"), ({"name": "B" * 65}, "CPS 3.1.1")],
    ids=["country of no member", "name longer than X.520 allows"],
)
def test_a_subject_that_fits_no_certificate_is_refused(office: Office, changes: dict[str, Any], clause: str) -> None:
    subject = MERCHANT.model_copy(update=changes)
    with pytest.raises(EntitlementError) as caught:
        entitlements(office.merchant_case(subject=subject), office.pack, not_after=None)
    assert caught.value.clause == clause


def test_a_request_that_proves_no_possession_is_refused(office: Office) -> None:
    request = bytearray(office.signing_csr)
    request[-1] ^= 1
    case = office.merchant_case()

    with pytest.raises(EntitlementError, match="the signing request") as caught:
        entitlements(case.model_copy(update={"csrs": {"signing": bytes(request)}}), office.pack, not_after=None)
    assert caught.value.clause == "CPS 3.2.1"


# What the statement says of it


def test_the_statement_names_who_issues_each_certificate(office: Office) -> None:
    named = {
        (each.purpose, each.issuer)
        for case in (office.gateway_case(), office.merchant_case(), office.cardholder_case(), office.officer_case())
        for each in entitlements(case, office.pack, not_after=None)
    }
    assert named == {
        *(("signing", f"{each}-ca") for each in ("cardholder", "merchant", "gateway", "operations")),
        ("encryption", "gateway-ca"),
    }


def test_nobody_else_issues_it(office: Office) -> None:
    twin = load_pack(TEXT.replace("{signing: merchant-ca, tls", "{signing: gateway-ca, tls"))
    for pack, right, wrong in ((office.pack, "merchant-ca", "gateway-ca"), (twin, "gateway-ca", "merchant-ca")):
        approved = entitlement(office.merchant_case(), pack, "signing", not_after=None)
        require_issuer(approved, right, pack)
        with pytest.raises(IssuerError, match=f"issued by {right}, and not by {wrong}") as caught:
            require_issuer(approved, wrong, pack)
        assert (caught.value.rule, caught.value.clause) == (Rule.CERT_ISSUER, "CPS 7.1")


def test_the_common_name_is_what_the_template_of_the_class_yields(office: Office) -> None:
    twin = load_pack(TEXT.replace('cn: "{name}"', 'cn: "{merchant_id}"', 1))
    assert only(office.merchant_case()).holder.subject == name(cn="Bookshop", o="Bookshop Co", c="IR")
    assert only(office.merchant_case(), twin).holder.subject == name(cn="M-1", o="Bookshop Co", c="IR")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('cn: "{commitment}"', 'cn: "{name}"', "classes.cardholder.subject.cn is {name}"),
        ('cn: "{name}"', 'cn: "{commitment}"', "classes.merchant.subject.cn is {commitment}"),
        ("issuer: {signing: cardholder-ca}", "issuer: {}", "classes.cardholder.issuer names who issues"),
        ("issuer: {signing: cardholder-ca}", "issuer: {signing: brand}", "classes.cardholder.issuer.signing"),
        ("{signing: merchant-ca, tls: operations-ca}", "{signing: merchant-ca}", "classes.merchant.issuer names who"),
    ],
)
def test_a_statement_names_an_issuer_and_a_name_for_every_certificate(old: str, new: str, fault: str) -> None:
    with pytest.raises(PackError, match=re.escape(fault)):
        load_pack(TEXT.replace(old, new, 1))
