"""Each blocking lint refuses exactly the certificate that breaks its rule; every golden certificate keeps them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID, NameOID

from ca.errors import LintError
from ca.lint_rule import Lint, binding
from ca.lints import LINTS, lint, require_clean, twin
from ca.prepare import Issuer, new_serial, prepare
from ca.profile import Profile, profiles
from ca.publication import Publication
from cps.entitlement import Holder
from pki import oids
from pki.builder import tbs_certificate
from pki.der import tlv
from pki.extensions import (
    AccountBinding,
    CertificateType,
    GatewayData,
    IdentityChecked,
    MerchantData,
    OfficerData,
    RoleGrant,
    SealingSuites,
)
from pki.names import name
from pki.oids import POLICY_GATEWAY
from pki.roles import Role
from tests.support.cps_cases import DAY
from tests.support.der_surgery import parse
from tests.support.pki_factory import IBAN, NOW, PkiFactory, key_usage, p256, rsa_key

PUBLICATION = Publication("http://repository.example", "urn:kwbp:cps:1.0.0")
SERIAL = 1 << 100
COMMITMENT = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"
HOUR = timedelta(hours=1)

Extensions = dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]]


@dataclass(frozen=True)
class Parts:
    """A certificate in pieces, each of which a hostile twin may have otherwise."""

    subject: x509.Name
    issuer: x509.Name
    serial: int
    not_before: datetime
    not_after: datetime
    key: Any
    extensions: Extensions
    issuer_key: Any

    @classmethod
    def of(cls, certificate: x509.Certificate, issuer_key: Any) -> Parts:
        return cls(
            subject=certificate.subject,
            issuer=certificate.issuer,
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            key=certificate.public_key(),
            extensions={each.oid: (each.value, each.critical) for each in certificate.extensions},
            issuer_key=issuer_key,
        )

    def with_extension(self, value: x509.ExtensionType, critical: bool = False) -> Parts:
        return replace(self, extensions={**self.extensions, value.oid: (value, critical)})

    def without(self, oid: x509.ObjectIdentifier) -> Parts:
        return replace(self, extensions={key: value for key, value in self.extensions.items() if key != oid})

    def tbs(self) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.issuer)
            .serial_number(self.serial)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .public_key(self.key)
        )
        for value, critical in self.extensions.values():
            builder = builder.add_extension(value, critical)
        return tbs_certificate(builder, self.issuer_key)


class Shop:
    """An honest merchant certificate before it is signed, and how it is judged."""

    def __init__(self, pki: PkiFactory, now: datetime) -> None:
        self.now = now
        self.issuer = Issuer("merchant-ca", pki.merchant_ca.certificate)
        self.profile = profiles()["merchant-signing"]
        holder = Holder(
            public_key=p256().public_key(),
            subject=name(cn="Bookshop", o="Bookshop Co"),
            identity="urn:kwbp:merchant:M-1",
            origins=("https://bookshop.example",),
            extensions=(MerchantData("M-1", "603799", "Bookshop", 364, True), AccountBinding.of(IBAN, b"\x01" * 16)),
        )
        self.tbs = prepare(self.profile, holder, issuer=self.issuer, serial=SERIAL, now=now, publication=PUBLICATION)
        self.parts = Parts.of(twin(self.tbs, self.issuer.public_key), self.issuer.public_key)

    def codes(self, tbs: bytes, profile: Profile | None = None, issuer: Issuer | None = None) -> list[str]:
        issuer = issuer or self.issuer
        findings = lint(
            tbs,
            profile or self.profile,
            issuer=issuer,
            issuer_key=issuer.public_key,
            publication=PUBLICATION,
            now=self.now,
        )
        return [finding.code for finding in findings]


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.fixture(scope="module")
def shop(pki: PkiFactory) -> Shop:
    return Shop(pki, pki.now)


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def uri(value: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(value)


IDENTITY = uri("urn:kwbp:merchant:M-1")
SERVICE = uri("urn:kwbp:service:ca")
CPS = "urn:kwbp:cps:1.0.0"
CA_ELSEWHERE = x509.AuthorityInformationAccess(
    [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri("http://elsewhere.example/ca.cer"))]
)
CRL_ELSEWHERE = x509.CRLDistributionPoints(
    [x509.DistributionPoint([uri("http://elsewhere.example/x.crl")], None, None, None)]
)
P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
OTHER_ISSUER = x509.AuthorityKeyIdentifier(bytes(20), None, None)
LOGIN = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
GATEWAY_TYPE = CertificateType(frozenset({"pgwy"})).to_extension()
SIGN_AND_SEAL = key_usage(["digital_signature", "content_commitment", "key_encipherment"])
NEAR_PRIMES = rsa.RSAPublicNumbers(65537, (2**1536 + 2**768 * 3 + 1) * (2**1536 + 2**768 * 3 + 3))


def called(parts: Parts, **names: Any) -> Parts:
    return replace(parts, subject=name(**names))


def also_called(parts: Parts, oid: x509.ObjectIdentifier, value: str) -> Parts:
    return replace(parts, subject=x509.Name([*parts.subject, x509.NameAttribute(oid, value)]))


def named(parts: Parts, *names: x509.GeneralName) -> Parts:
    return parts.with_extension(san(*names))


def lived(parts: Parts, earlier: timedelta, until: datetime) -> Parts:
    return replace(parts, not_before=parts.not_before + earlier, not_after=until)


def flipped(parts: Parts, oid: x509.ObjectIdentifier) -> Parts:
    value, critical = parts.extensions[oid]
    return parts.with_extension(value, not critical)


def with_key(parts: Parts, key: Any) -> Parts:
    return replace(parts, key=key).with_extension(x509.SubjectKeyIdentifier.from_public_key(key))


def policy(oid: x509.ObjectIdentifier, cps: str | None) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(oid, None if cps is None else [cps])])


UNKNOWN = x509.ObjectIdentifier("1.2.3.4")
MERCHANT_2 = MerchantData("M-2", "603799", "Bookshop", 364, True)


def garbled(oid: x509.ObjectIdentifier) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(oid, b"\x30\x03\x04\x01\x00")


def one_suite_more(parts: Parts) -> x509.UnrecognizedExtension:
    """The gateway's capabilities, and one that nobody here knows."""
    known, _critical = parts.extensions[oids.SMIME_CAPABILITIES]
    members = parse(known.public_bytes()).encode()
    return x509.UnrecognizedExtension(oids.SMIME_CAPABILITIES, tlv(0x30, members[2:] + bytes.fromhex("300406022a03")))


def together(subject: x509.Name) -> x509.Name:
    """The last two attributes in one relative distinguished name."""
    *first, second, last = subject
    return x509.Name(
        [*(x509.RelativeDistinguishedName([each]) for each in first), x509.RelativeDistinguishedName([second, last])]
    )


def printable(parts: Parts, common_name: str) -> Parts:
    attribute = x509.NameAttribute(NameOID.COMMON_NAME, common_name, _ASN1Type.PrintableString)
    return replace(parts, subject=x509.Name([*list(parts.subject)[:-1], attribute]))


# code of the lint → what is wrong, and the one change that makes it so
HOSTILE: list[tuple[str, str, Callable[[Parts], Parts]]] = [
    ("serial", "63 bits", lambda p: replace(p, serial=(1 << 63) - 1)),
    ("signature-algorithm", "named for a P-384 issuer", lambda p: replace(p, issuer_key=P384)),
    ("issuer-name", "another organisation", lambda p: replace(p, issuer=name(cn="Merchant CA", o="Other"))),
    ("validity-period", "a day over the profile", lambda p: replace(p, not_after=p.not_after + timedelta(days=1))),
    ("validity-period", "ended an hour ago", lambda p: lived(p, -9 * HOUR, p.not_before - HOUR)),
    ("validity-period", "set back an hour", lambda p: lived(p, -HOUR, p.not_after - HOUR)),
    ("subject-attributes", "no organisation", lambda p: called(p, cn="Bookshop")),
    ("subject-attributes", "an attribute that no profile knows", lambda p: also_called(p, NameOID.TITLE, "Dr")),
    ("subject-attributes", "two common names", lambda p: also_called(p, NameOID.COMMON_NAME, "Two")),
    ("subject-text", "only a space", lambda p: called(p, cn=" ", o="Bookshop Co")),
    ("subject-text", "right-to-left override", lambda p: called(p, cn="shop\u202egnp", o="Bookshop Co")),
    ("subject-text", "country in small letters", lambda p: called(p, cn="Bookshop", o="Bookshop Co", c="ir")),
    ("key", "RSA of 2048 bits", lambda p: with_key(p, rsa_key(9, 2048).public_key())),
    ("key", "primes next to each other", lambda p: with_key(p, NEAR_PRIMES.public_key())),
    ("key", "a curve that merchants do not use", lambda p: with_key(p, P384)),
    ("critical-extensions", "keyUsage not critical", lambda p: flipped(p, ExtensionOID.KEY_USAGE)),
    ("critical-extensions", "a critical SET extension", lambda p: flipped(p, oids.SET_CERTIFICATE_TYPE)),
    ("known-extensions", "no merchant data", lambda p: p.without(oids.SET_MERCHANT_DATA)),
    ("known-extensions", "an extension nobody asked for", lambda p: p.with_extension(x509.OCSPNoCheck())),
    ("known-extensions", "an extended key usage to log in with", lambda p: p.with_extension(LOGIN)),
    ("subject-key-identifier", "another key's", lambda p: p.with_extension(x509.SubjectKeyIdentifier(bytes(20)))),
    ("authority-key-identifier", "another key's", lambda p: p.with_extension(OTHER_ISSUER)),
    ("key-usage", "may encipher, too", lambda p: p.with_extension(SIGN_AND_SEAL, True)),
    ("certificate-policies", "a gateway's policy", lambda p: p.with_extension(policy(POLICY_GATEWAY, CPS))),
    ("certificate-policies", "without the CPS", lambda p: p.with_extension(policy(oids.POLICY_MERCHANT_ONLINE, None))),
    ("subject-alternative-name", "an officer's identity", lambda p: named(p, uri("urn:kwbp:officer:officer-1"))),
    ("subject-alternative-name", "two identities", lambda p: named(p, IDENTITY, uri("urn:kwbp:merchant:M-2"))),
    (
        "subject-alternative-name",
        "an origin with a path",
        lambda p: named(p, IDENTITY, uri("https://bookshop.example/pay")),
    ),
    (
        "subject-alternative-name",
        "a host in a payment certificate",
        lambda p: named(p, IDENTITY, x509.DNSName("bookshop.example")),
    ),
    (
        "subject-alternative-name",
        "an e-mail address",
        lambda p: named(p, IDENTITY, x509.RFC822Name("shop@example.com")),
    ),
    ("crl-distribution-point", "elsewhere", lambda p: p.with_extension(CRL_ELSEWHERE)),
    ("authority-information-access", "elsewhere", lambda p: p.with_extension(CA_ELSEWHERE)),
    ("set-certificate-type", "a gateway's", lambda p: p.with_extension(GATEWAY_TYPE)),
    ("subject-not-issuer", "the issuer's name", lambda p: replace(p, subject=p.issuer)),
    ("subject-single-valued", "two values in one", lambda p: replace(p, subject=together(p.subject))),
    ("subject-order", "common name first", lambda p: replace(p, subject=x509.Name(reversed(list(p.subject))))),
    ("subject-string-type", "a printable name", lambda p: printable(p, "Bookshop")),
    ("subject-spaces", "two in a row", lambda p: called(p, cn="Book  shop", o="Bookshop Co")),
    ("subject-spaces", "one at the end", lambda p: called(p, cn="Bookshop ", o="Bookshop Co")),
    ("subject-normalised", "a letter in two parts", lambda p: called(p, cn="Cafe\u0301", o="Bookshop Co")),
    ("subject-normalised", "Arabic ye", lambda p: called(p, cn="بازرگان\u064a", o="Bookshop Co")),
    ("subject-script", "a Cyrillic letter among Latin ones", lambda p: called(p, cn="B\u043eokshop", o="Bookshop Co")),
    ("subject-script", "Greek", lambda p: called(p, cn="Βιβλία", o="Bookshop Co")),
    ("merchant-data", "another merchant", lambda p: p.with_extension(MERCHANT_2.to_extension())),
    ("merchant-data", "not DER", lambda p: p.with_extension(garbled(oids.SET_MERCHANT_DATA))),
    ("account-binding", "a short salt", lambda p: p.with_extension(garbled(oids.EXT_ACCOUNT_BINDING))),
    ("size", "ten thousand bytes", lambda p: p.with_extension(x509.UnrecognizedExtension(UNKNOWN, bytes(10_000)))),
    ("own-key", "the issuer's key", lambda p: with_key(p, p.issuer_key)),
]


# A rule that sees the same thing from another side: relying parties' reading of the role.
ALSO: Mapping[str, set[str]] = {
    "key-usage": {"role"},
    "certificate-policies": {"role"},
    "set-certificate-type": {"role"},
    # The merchant's data and its identity must agree: either may be the one that is wrong.
    "subject-alternative-name": {"merchant-data"},
    "size": {"known-extensions"},
    "own-key": {"subject-key-identifier"},
    "subject-single-valued": {"subject-order"},  # DER sorts the values of one name
}


def test_an_honest_certificate_keeps_every_rule(shop: Shop) -> None:
    assert shop.codes(shop.tbs) == []
    assert shop.codes(shop.parts.tbs()) == []


@pytest.mark.parametrize(("code", "wrong", "change"), HOSTILE, ids=[f"{code}: {wrong}" for code, wrong, _ in HOSTILE])
def test_a_twin_with_one_thing_wrong_is_refused_by_its_rule(
    shop: Shop, code: str, wrong: str, change: Callable[[Parts], Parts]
) -> None:
    codes = set(shop.codes(change(shop.parts).tbs()))

    assert code in codes, wrong
    assert codes <= {code} | ALSO.get(code, set())


def leaf_codes(
    pki: PkiFactory, shop: Shop, profile_name: str, holder: Holder, change: Callable[[Parts], Parts]
) -> set[str]:
    """The rules that a golden certificate of this profile breaks after one change."""
    profile = profiles()[profile_name]
    authorities = {authority.role.value: authority.certificate for authority in pki.authorities}
    issuer = Issuer(profile.issuer, authorities[profile.issuer])
    tbs = prepare(profile, holder, issuer=issuer, serial=SERIAL, now=shop.now, publication=PUBLICATION)
    parts = Parts.of(twin(tbs, issuer.public_key), issuer.public_key)
    return set(shop.codes(change(parts).tbs(), profile, issuer))


def granted(begins: datetime, ends: datetime) -> x509.UnrecognizedExtension:
    """An officer's data with a role for a time."""
    return OfficerData("officer-1", "RA", (), (RoleGrant("vetting_officer", None, begins, ends),)).to_extension()


def checked(at: datetime) -> x509.UnrecognizedExtension:
    """When registers were last asked about the holder of a re-keyed certificate."""
    return IdentityChecked(at).to_extension()


@pytest.mark.parametrize("profile_name", ["merchant-signing", "gateway-signing", "gateway-encryption", "service-tls"])
def test_a_rekeyed_certificate_says_when_its_holder_was_checked(pki: PkiFactory, shop: Shop, profile_name: str) -> None:
    holder = GOLDEN[profile_name](p256().public_key())
    assert leaf_codes(pki, shop, profile_name, holder, lambda p: p.with_extension(checked(NOW - 99 * DAY))) == set()


def test_a_role_may_be_granted_for_a_part_of_the_validity(pki: PkiFactory, shop: Shop) -> None:
    holder = GOLDEN["officer"](p256().public_key())
    extension = granted(NOW + DAY, NOW + 9 * DAY)
    assert leaf_codes(pki, shop, "officer", holder, lambda p: p.with_extension(extension)) == set()


@pytest.mark.parametrize(
    ("profile_name", "code", "change"),
    [
        ("gateway-signing", "gateway-data", lambda p: p.with_extension(GatewayData("GW-2", "603799").to_extension())),
        ("gateway-signing", "gateway-data", lambda p: p.with_extension(garbled(oids.EXT_GATEWAY_DATA))),
        (
            "officer",
            "officer-data",
            lambda p: p.with_extension(OfficerData("officer-2", "RA", ("vetting_officer",)).to_extension()),
        ),
        ("officer", "officer-data", lambda p: p.with_extension(garbled(oids.EXT_OFFICER_DATA))),
        ("officer", "officer-data", lambda p: p.with_extension(granted(NOW - 9 * DAY, NOW - 8 * DAY))),
        ("officer", "officer-data", lambda p: p.with_extension(granted(NOW + 900 * DAY, NOW + 901 * DAY))),
        ("gateway-encryption", "sealing-suites", lambda p: p.with_extension(garbled(oids.SMIME_CAPABILITIES))),
        ("gateway-encryption", "sealing-suites", lambda p: p.with_extension(one_suite_more(p))),
        ("merchant-signing", "identity-checked", lambda p: p.with_extension(garbled(oids.EXT_IDENTITY_CHECKED))),
        ("gateway-signing", "identity-checked", lambda p: p.with_extension(checked(NOW + DAY))),
        ("service-tls", "identity-checked", lambda p: p.with_extension(checked(NOW + DAY))),
        ("service-tls", "host-names", lambda p: named(p, SERVICE, x509.DNSName("*.example.com"))),
        ("service-tls", "host-names", lambda p: named(p, SERVICE, x509.DNSName("Host.example.com"))),
        ("service-tls", "host-names", lambda p: named(p, SERVICE, x509.IPAddress(ip_address(0)))),
    ],
)
def test_what_a_certificate_says_of_its_holder_must_hold_together(
    pki: PkiFactory, shop: Shop, profile_name: str, code: str, change: Callable[[Parts], Parts]
) -> None:
    holder = GOLDEN[profile_name](p256().public_key())

    assert leaf_codes(pki, shop, profile_name, holder, lambda parts: parts) == set()
    assert leaf_codes(pki, shop, profile_name, holder, change) == {code}


def test_keys_on_curves_do_not_encipher_keys(pki: PkiFactory, shop: Shop) -> None:
    codes = leaf_codes(
        pki,
        shop,
        "gateway-encryption",
        GOLDEN["gateway-encryption"](None),
        lambda parts: with_key(parts, p256().public_key()),
    )

    assert codes == {"key", "key-usage-fits-key"}


def test_a_key_in_another_encoding_is_refused(shop: Shop) -> None:
    tree = parse(shop.tbs)
    point = tree.at(6, 1)
    x, y = point.content[2:34], point.content[34:]
    point.content = bytes([0, 2 + y[-1] % 2]) + x  # the same point, compressed

    assert shop.codes(tree.encode()) == ["public-key-encoding"]


def test_unique_identifiers_are_refused(shop: Shop) -> None:
    tree = parse(shop.tbs)
    tree.children.insert(7, type(tree)(0x81, b"\x00\x01"))  # issuerUniqueID

    assert "tbs-form" in shop.codes(tree.encode())


def test_a_rule_binds_what_is_made_once_it_is_in_effect(shop: Shop) -> None:
    rule = Lint("later", "CPS 7.1", lambda _subject: "broken", date(2027, 1, 1))

    assert binding([rule], datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == ()
    assert binding([rule], datetime(2027, 1, 1, tzinfo=UTC)) == (rule,)
    assert binding(LINTS, shop.now) == LINTS


def test_a_subject_longer_than_the_standard_allows_is_refused(shop: Shop) -> None:
    # cryptography itself only warns of it; the rule is RFC 5280's upper bound of 64 characters
    long = x509.Name(
        [*list(name(cn="Bookshop", o="x"))[:-1], x509.NameAttribute(NameOID.COMMON_NAME, "y" * 65, _validate=False)]
    )

    assert shop.codes(replace(shop.parts, subject=long).tbs()) == ["subject-text"]


def test_a_version_1_certificate_is_refused(shop: Shop) -> None:
    tree = parse(shop.tbs)
    del tree.children[0]  # the version: absent means 1

    assert shop.codes(tree.encode()) == ["version-3"]


def test_a_version_that_never_was_is_refused(shop: Shop) -> None:
    tree = parse(shop.tbs)
    tree.at(0, 0).content = b"\x07"

    assert shop.codes(tree.encode()) == ["readable"]


def test_an_extension_that_stands_twice_is_refused(shop: Shop) -> None:
    tree = parse(shop.tbs)
    extensions = tree.children[-1].at(0).children
    extensions.append(extensions[0])

    assert shop.codes(tree.encode()) == ["readable"]


@pytest.mark.parametrize("wrong", ["cut", "trailing byte", "not DER"])
def test_what_is_not_one_tbs_certificate_is_refused(shop: Shop, wrong: str) -> None:
    tbs = {"cut": shop.tbs[:-1], "trailing byte": shop.tbs + b"\0", "not DER": b"\x30\x80" + shop.tbs[4:]}[wrong]

    assert shop.codes(tbs) == ["readable"]


@pytest.mark.parametrize("place", [(6, 1), (6, 0, 0), (5, 0, 0, 1)], ids=["key", "kind of key", "name"])
def test_what_cannot_be_read_inside_one_is_refused(shop: Shop, place: tuple[int, ...]) -> None:
    tree = parse(shop.tbs)
    node = tree.at(*place)
    node.content = bytes(len(node.content) - 1) + b"\xff"

    assert shop.codes(tree.encode()) == ["readable"]


def test_dates_are_written_as_the_standard_says(shop: Shop) -> None:
    tree = parse(shop.tbs)
    end = tree.at(4, 1)  # notAfter
    end.tag, end.content = 0x18, b"20" + end.content  # GeneralizedTime of the same instant, long before 2050

    assert shop.codes(tree.encode()) == ["validity-encoding"]


def test_a_certificate_outside_its_issuers_life_is_refused(pki: PkiFactory, shop: Shop) -> None:
    short = pki.authority(Role.MERCHANT_CA, pki.brand, path_length=0, not_after=pki.now + timedelta(days=30))
    issuer = Issuer("merchant-ca", short.certificate)
    own = short.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    parts = replace(shop.parts, issuer_key=issuer.public_key).with_extension(
        x509.AuthorityKeyIdentifier(own, None, None)
    )

    assert shop.codes(parts.tbs(), issuer=issuer) == ["validity-nested"]


def test_an_authority_below_one_that_leaves_no_room_is_refused(pki: PkiFactory, shop: Shop) -> None:
    profile = profiles()["merchant-ca"]
    brand = Issuer("brand", pki.brand.certificate)
    tight = Issuer("brand", pki.authority(pki.brand.role, pki.root, path_length=0).certificate)
    holder = Holder(p256().public_key(), name(cn="KWBP Merchant CA", o="KWBP"))

    def codes(issuer: Issuer) -> list[str]:
        tbs = prepare(profile, holder, issuer=issuer, serial=SERIAL, now=shop.now, publication=PUBLICATION)
        return shop.codes(tbs, profile, issuer)

    assert codes(brand) == []
    assert codes(tight) == ["path-length"]


def cardholder_tbs(pki: PkiFactory, now: datetime, common_name: str) -> bytes:
    holder = Holder(p256().public_key(), name(cn=common_name))
    issuer = Issuer("cardholder-ca", pki.cardholder_ca.certificate)
    return prepare(profiles()["cardholder"], holder, issuer=issuer, serial=SERIAL, now=now, publication=PUBLICATION)


@pytest.mark.parametrize(
    ("common_name", "codes"),
    [
        (COMMITMENT, []),
        ("6037701000000007", ["subject-privacy", "cardholder-name"]),
        ("card 6037-7010-0000-0007", ["subject-privacy", "cardholder-name"]),
        ("۶۰۳۷۷۰۱۰۰۰۰۰۰۰۰۷", ["subject-privacy", "cardholder-name"]),
        ("6037701000000008", ["cardholder-name"]),  # fails the Luhn check: no card number
        ("someone@example.com", ["subject-privacy", "cardholder-name"]),
        ("n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCg", ["cardholder-name"]),  # a character short
    ],
)
def test_a_cardholders_name_holds_neither_card_number_nor_address(
    pki: PkiFactory, shop: Shop, common_name: str, codes: list[str]
) -> None:
    issuer = Issuer("cardholder-ca", pki.cardholder_ca.certificate)

    assert shop.codes(cardholder_tbs(pki, shop.now, common_name), profiles()["cardholder"], issuer) == codes


def test_a_cardholder_is_not_reachable_by_mail(pki: PkiFactory, shop: Shop) -> None:
    issuer = Issuer("cardholder-ca", pki.cardholder_ca.certificate)
    parts = Parts.of(twin(cardholder_tbs(pki, shop.now, COMMITMENT), issuer.public_key), issuer.public_key)
    tbs = parts.with_extension(san(x509.RFC822Name("someone@example.com"))).tbs()

    assert set(shop.codes(tbs, profiles()["cardholder"], issuer)) == {"subject-privacy", "known-extensions"}


def test_every_rule_cites_what_it_enforces_and_has_a_twin_that_breaks_it() -> None:
    by_name = {
        "validity-encoding", "validity-nested", "path-length", "subject-privacy", "basic-constraints",
        "extended-key-usage", "version-3", "role", "tbs-form", "public-key-encoding", "key-usage-fits-key",
        "cardholder-name", "host-names", "gateway-data", "officer-data", "sealing-suites",
        "identity-checked",
    }  # fmt: skip
    assert {rule.code for rule in LINTS} == {code for code, _, _ in HOSTILE} | by_name
    assert len({rule.code for rule in LINTS}) == len(LINTS) >= 40
    assert all(rule.clause.startswith(("RFC ", "CPS ", "SET ")) for rule in LINTS)


def test_a_leaf_that_claims_to_be_an_authority_is_refused(shop: Shop) -> None:
    codes = shop.codes(shop.parts.with_extension(x509.BasicConstraints(True, 0), True).tbs())

    assert set(codes) == {"basic-constraints", "role"}


def test_a_service_that_may_do_more_than_its_profile_is_refused(pki: PkiFactory, shop: Shop) -> None:
    profile = profiles()["service-tls"]
    issuer = Issuer("operations-ca", pki.operations_ca.certificate)
    holder = Holder(
        p256().public_key(), name(cn="KWBP ca", o="KWBP"), identity="urn:kwbp:service:ca", hosts=("localhost",)
    )
    tbs = prepare(profile, holder, issuer=issuer, serial=SERIAL, now=shop.now, publication=PUBLICATION)
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING])
    more = Parts.of(twin(tbs, issuer.public_key), issuer.public_key).with_extension(usages)

    assert shop.codes(tbs, profile, issuer) == []
    assert shop.codes(more.tbs(), profile, issuer) == ["extended-key-usage"]


def test_refusing_names_every_broken_rule_with_its_clause(shop: Shop) -> None:
    tbs = replace(shop.parts, serial=5).without(oids.SET_MERCHANT_DATA).tbs()

    with pytest.raises(LintError) as refusal:
        require_clean(
            tbs,
            shop.profile,
            issuer=shop.issuer,
            issuer_key=shop.issuer.public_key,
            publication=PUBLICATION,
            now=shop.now,
        )
    assert [finding.code for finding in refusal.value.findings] == ["serial", "known-extensions"]
    assert refusal.value.clause == "RFC 5280 4.1.2.2; CPS 7.1"


def test_a_twin_is_believed_by_nobody(pki: PkiFactory, shop: Shop) -> None:
    certificate = twin(shop.tbs, shop.issuer.public_key)

    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(pki.merchant_ca.certificate)


GOLDEN: dict[str, Callable[[Any], Holder]] = {
    "brand": lambda key: Holder(key, name(cn="KWBP Brand CA", o="KWBP")),
    "geopolitical": lambda key: Holder(key, name(cn="KWBP Western CA", o="KWBP")),
    "cardholder-ca": lambda key: Holder(key, name(cn="KWBP Cardholder CA", o="KWBP")),
    "merchant-ca": lambda key: Holder(key, name(cn="KWBP Merchant CA", o="KWBP")),
    "gateway-ca": lambda key: Holder(key, name(cn="KWBP Gateway CA", o="KWBP")),
    "operations-ca": lambda key: Holder(key, name(cn="KWBP Operations CA", o="KWBP")),
    "cardholder": lambda key: Holder(key, name(cn=COMMITMENT)),
    "merchant-signing": lambda key: Holder(
        key,
        name(cn="فروشگاه کتاب", o="Bookshop Co"),
        identity="urn:kwbp:merchant:M-1",
        extensions=(MerchantData("M-1", "603799", "کتاب", 364, True),),
    ),
    "gateway-signing": lambda key: Holder(
        key,
        name(cn="Gateway", o="Acquirer"),
        identity="urn:kwbp:gateway:GW-1",
        extensions=(GatewayData("GW-1", "603799"),),
    ),
    "gateway-encryption": lambda _key: Holder(
        rsa_key(0).public_key(),
        name(cn="Gateway", o="Acquirer"),
        identity="urn:kwbp:gateway:GW-1",
        extensions=(GatewayData("GW-1", "603799"), SealingSuites(("oaep-sha1",))),
    ),
    "officer": lambda key: Holder(
        key,
        name(cn="Vetting Officer One", o="RA"),
        identity="urn:kwbp:officer:officer-1",
        extensions=(OfficerData("officer-1", "RA", ("vetting_officer",)),),
    ),
    "service-tls": lambda key: Holder(
        key, name(cn="KWBP ca", o="KWBP"), identity="urn:kwbp:service:ca", hosts=("localhost", "127.0.0.1", "::1")
    ),
    "service-signing": lambda key: Holder(key, name(cn="KWBP RA", o="KWBP"), identity="urn:kwbp:service:ra"),
    **{
        each: lambda key: Holder(key, name(cn="KWBP Status", o="KWBP"))
        for each in profiles()
        if each.startswith("ocsp-")
    },
    "timestamp-authority": lambda key: Holder(key, name(cn="KWBP Time", o="KWBP")),
}


@pytest.mark.parametrize("profile_name", GOLDEN)
def test_each_profile_makes_a_certificate_that_keeps_every_rule(pki: PkiFactory, shop: Shop, profile_name: str) -> None:
    profile = profiles()[profile_name]
    authorities = {authority.role.value: authority.certificate for authority in pki.authorities}
    authorities["brand"] = pki.authority(Role.BRAND, pki.root, path_length=2).certificate
    authorities["geopolitical"] = pki.authority(Role.GEOPOLITICAL, pki.brand, path_length=0).certificate
    issuer = Issuer(profile.issuer, authorities[profile.issuer])
    holder = GOLDEN[profile_name](p256().public_key())

    tbs = prepare(
        profile, holder, issuer=issuer, serial=new_serial(lambda n: b"\x42" * n), now=shop.now, publication=PUBLICATION
    )

    assert shop.codes(tbs, profile, issuer) == []


def test_a_root_keeps_every_rule_and_is_signed_by_its_own_key() -> None:
    key = rsa_key(8, 4096).public_key()
    profile = profiles()["root"]
    now = datetime(2026, 3, 21, tzinfo=UTC)
    holder = Holder(key, name(cn="KWBP Root CA", o="KWBP"))
    tbs = prepare(profile, holder, issuer=None, serial=SERIAL, now=now, publication=PUBLICATION)

    assert lint(tbs, profile, issuer=None, issuer_key=key, publication=PUBLICATION, now=now) == ()


def test_all_profiles_are_shown_golden() -> None:
    assert GOLDEN.keys() | {"root"} == profiles().keys()
