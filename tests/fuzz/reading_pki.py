"""Readers of certificates, lists, status, time-stamps, signed and sealed objects, and of what officers sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from functools import cache, partial
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ocsp_request import MalformedRequestError
from ca.ocsp_request import read_request as read_ocsp_request
from ca.tsa import Rejection
from ca.tsa import read_request as read_tsa_request
from cps.acceptance import build_acceptance, parse_acceptance
from cps.card_confirmation import parse_card_confirmation
from cps.check_statement import CheckStatement
from cps.decision import parse_decision, parse_key_denial, parse_revocation
from cps.errors import StatementError
from cps.gateway_act import LASTS, GatewayAct, build_gateway_act, parse_gateway_act
from cps.publication import Publication, build_publication, parse_publication
from cps.rekey_statement import build_rekey, parse_rekey
from cps.review import Judgement, Review, build_review, parse_review
from cps.signatory import open_signed
from pki import der, oids
from pki.attestation import KeyAttestation
from pki.bci import Bci, NamedCrl
from pki.ceremony_seal import CeremonySeal
from pki.cms_enveloped import parse_auth_enveloped
from pki.cms_joined import parse_joined
from pki.cms_signed import parse_signed_data
from pki.crl import IndexedCrl
from pki.csr import parse_csr, requested_key
from pki.errors import (
    CertificateError,
    CmsError,
    CsrError,
    DerError,
    NoticeError,
    OcspError,
    PathError,
    PkiError,
    TimestampError,
)
from pki.extensions import (
    AccountBinding,
    CertificateType,
    GatewayData,
    HashedRootKey,
    IdentityChecked,
    MerchantData,
    OfficerData,
    SealingSuites,
)
from pki.names import identity_uris, name, parse_name
from pki.notice import Notice
from pki.ocsp import verify_ocsp
from pki.ocsp_structures import compose_request
from pki.path import Trust, validate_path
from pki.roles import Role
from pki.self_audit import SelfAudit
from pki.signed import check_octets
from pki.timestamp import build_query, grant, read_response, verify_token
from ra.statement import read_decision
from tests.fuzz.decoder import Decoder
from tests.fuzz.reading_protocol import catalogue
from tests.kwbp import test_contract as contracts
from tests.pki import test_ocsp as status
from tests.pki import test_timestamp as stamps
from tests.support.cps_cases import Office, csr
from tests.support.pki_factory import DAY, NOW, PkiFactory, p256

EXTENSIONS: Final[tuple[type[Any], ...]] = (
    CertificateType, MerchantData, GatewayData, AccountBinding, OfficerData, SealingSuites, IdentityChecked,
    HashedRootKey,
)  # fmt: skip
STATEMENTS: Final[tuple[Callable[[bytes], Any], ...]] = (
    parse_acceptance, parse_decision, parse_revocation, parse_key_denial, parse_publication, parse_rekey, parse_review,
    parse_gateway_act,
)  # fmt: skip
CONTENTS: Final[tuple[type[Any], ...]] = (Bci, CeremonySeal, KeyAttestation, SelfAudit)


def certificate(data: bytes) -> x509.Certificate:
    """A certificate, and everything that a path asks of it; no path leads anywhere."""
    found = der.decode(x509.Certificate, data)
    identity_uris(found)
    try:
        validate_path(found, trust=Trust(anchors=(found,)), now=NOW, roles=tuple(Role), check_revocation=False)
    except PathError as error:
        if error.reason == "internal":  # there is none of this name: all others say what is wrong with a certificate
            raise
    return found


def revocation_list(data: bytes) -> IndexedCrl:
    """A list, and who is on it."""
    found = IndexedCrl.from_der(data)
    found.revoked.get(1)
    return found


def _fields(statement: Any) -> list[Any]:
    """The fields of a statement, certificates as DER: one whose name cannot be read has no repr."""
    values = (getattr(statement, each.name) for each in fields(statement))
    return [_certificate_der(value) if isinstance(value, x509.Certificate) else value for value in values]


def _certificate_der(found: x509.Certificate) -> bytes:
    return found.public_bytes(Encoding.DER)


def decoders() -> Iterator[Decoder]:
    """All of them."""
    for each in EXTENSIONS:
        yield Decoder(
            f"extension.{each.__name__}",
            each.from_der,
            (DerError, ValueError),
            (f"pki.extensions:{each.__name__}.from_der",),
            each.to_der if each is not SealingSuites else None,  # other capabilities than suites are passed over
        )
    for parse in STATEMENTS:
        yield Decoder(
            f"statement.{parse.__name__.removeprefix('parse_')}",
            parse,
            (StatementError,),
            (f"{parse.__module__}:{parse.__name__}",),
            statement=_fields,
        )
    for content in CONTENTS:
        yield Decoder(
            f"content.{content.__name__}",
            content.from_der,
            (DerError,),
            (f"{content.__module__}:{content.__name__}.from_der",),
            content.to_der,
        )
    yield Decoder(
        "content.CheckStatement",
        CheckStatement.from_der,
        (DerError,),
        ("cps.check_statement:CheckStatement.from_der",),
        CheckStatement.to_der,
    )
    yield Decoder(
        "content.CardConfirmation",
        parse_card_confirmation,
        (DerError,),
        ("cps.card_confirmation:parse_card_confirmation",),
        der.encode,
        statement=der.encode,
    )
    yield Decoder(
        "content.Notice",
        Notice.from_json,
        (NoticeError,),
        ("pki.notice:Notice.from_json",),
        Notice.to_json,
        kind="text",
    )
    yield Decoder("der.element", der.any_value, (DerError,), ("pki.der:any_value",), der.encode, statement=der.encode)
    yield Decoder("name", parse_name, (DerError,), ("pki.names:parse_name",), lambda found: found.public_bytes())
    yield Decoder("octets", check_octets, (DerError,), ("pki.signed:check_octets",))
    yield Decoder(
        "certificate", certificate, (DerError, CertificateError), (), _certificate_der, statement=_certificate_der
    )
    yield Decoder(
        "crl",
        revocation_list,
        (CertificateError, PathError),
        ("pki.crl:IndexedCrl.from_der", "pki.crl_entries:element"),
        lambda found: found.crl.public_bytes(Encoding.DER),
        statement=lambda found: (found.number, len(found.revoked)),
    )
    yield Decoder(
        "csr", parse_csr, (CsrError,), ("pki.csr:parse_csr",), statement=lambda found: found.public_bytes(Encoding.DER)
    )
    yield Decoder("csr.key", requested_key, (CsrError,), ("pki.csr:requested_key",), statement=lambda f: f.spki_sha256)
    yield Decoder(
        "cms.signed",
        partial(parse_signed_data, content_type=oids.CT_INVOICE),
        (CmsError,),
        ("pki.cms_signed:parse_signed_data",),
        lambda found: found.der,
        statement=lambda found: (found.content, found.signed_attributes, found.signature, found.signing_time),
    )
    yield Decoder(
        "cms.joined",
        partial(parse_joined, content_type=oids.CT_INVOICE, mark=oids.AA_DUAL_LINK),
        (CmsError,),
        ("pki.cms_joined:parse_joined",),
        statement=lambda found: (found.first.signature, found.second.signature, found.second.further),
    )
    yield Decoder(
        "cms.enveloped",
        parse_auth_enveloped,
        (CmsError,),
        ("pki.cms_enveloped:parse_auth_enveloped",),
        statement=lambda found: (found.encrypted_key, found.nonce, found.ciphertext, found.tag, found.suite),
    )
    yield Decoder(
        "cms.officer",
        lambda data: open_signed(data, oids.CT_DECISION),
        (CmsError,),
        ("cps.signatory:open_signed",),
        statement=lambda found: found.content,
    )
    yield Decoder(
        "cms.decision",
        read_decision,
        (PkiError, StatementError),
        ("ra.statement:read_decision",),
        statement=lambda found: type(found).__name__,
    )
    yield Decoder(
        "ocsp.response",
        lambda data: verify_ocsp(data, certificate=status.SHOP, issuer=status.ISSUER.certificate, now=NOW),
        (OcspError,),
        ("pki.ocsp:verify_ocsp",),
        live=lambda: [
            status.Answer().der(),
            status.Answer((status.single(status.revoked(b"\xa0\x03\x0a\x01\x01")),)).der(),
            status.Answer(extensions=(status.nonce(bytes(16)),)).der(),
        ],
    )
    yield Decoder(
        "ocsp.request",
        partial(read_ocsp_request, octets=8192, certificates=16),
        (MalformedRequestError,),
        ("ca.ocsp_request:read_request",),
    )
    yield Decoder(
        "tsp.request",
        read_tsa_request,
        (Rejection,),
        ("ca.tsa:read_request",),
        statement=lambda found: (found.imprint.hashed_message, found.nonce, found.wants_certificates),
    )
    yield Decoder("tsp.response", read_response, (TimestampError,), ("pki.timestamp:read_response",))
    yield Decoder(
        "tsp.token",
        lambda data: verify_token(data, stamps.DATA, trust=stamps.PKI.trust(), nonce=stamps.NONCE),
        (TimestampError,),
        ("pki.timestamp:verify_token",),
        statement=lambda found: (found.gen_time, found.serial),
        live=lambda: [stamps.token()],
    )


@cache
def _office() -> Office:
    return Office()


def honest() -> dict[str, list[bytes]]:
    """Honest inputs to be kept, by the name of the reader."""
    c, office, pki = catalogue(), _office(), PkiFactory()
    w = c.world
    shop, officer = pki.merchant("M-1"), pki.officer("officer-1", roles=("vetting_officer",))
    pki.revoke(shop)
    lists = tuple(NamedCrl(each, "full", 7, bytes(32)) for each in ("brand", "merchant-ca"))
    case = office.merchant_case()
    decision = office.decision(case, "vetting", office.vetter)
    signed = {
        "decision": decision,
        "revocation": office.revocation(shop.certificate, office.vetter),
        "key_denial": office.denial(bytes(32), office.vetter),
    }
    kinds = {"decision": oids.CT_DECISION, "revocation": oids.CT_REVOCATION, "key_denial": oids.CT_KEY_DENIAL}
    made: dict[str, list[bytes]] = {
        f"statement.{each}": [parse_signed_data(signed[each], content_type=kind).content]
        for each, kind in kinds.items()
    }
    made |= {
        "statement.acceptance": [build_acceptance("case-1", [shop.certificate], NOW)],
        "statement.review": [build_review(Review(bytes(32), Judgement.JUSTIFIED, "as it should be", NOW))],
        "statement.gateway_act": [
            build_gateway_act(GatewayAct("GW-1", "POST", "/v1/payouts", bytes(32), bytes(16), NOW, NOW + LASTS))
        ],
        "statement.rekey": [build_rekey("case-1", shop.certificate, [bytes(32)], NOW)],
        "statement.publication": [
            build_publication(Publication("kwbp-cps", "1.0.1", bytes(32), bytes(32), bytes(32), NOW + DAY, NOW))
        ],
        "content.Bci": [Bci(3, NOW, NOW + timedelta(hours=12), lists).to_der()],
        "content.CeremonySeal": [
            CeremonySeal("founding", 9, bytes(32), (("anna", bytes(32)), ("berta", b"\x01" * 32))).to_der()
        ],
        "content.KeyAttestation": [_content(office.attestation(bytes(32)), oids.CT_KEY_ATTESTATION)],
        "content.SelfAudit": [
            SelfAudit(NOW, NOW - DAY, NOW, 100, 3, 0, bytes(32), bytes(32)).to_der(),
        ],
        "content.CheckStatement": [_content(office.answer(case.revision, "iban_owner"), oids.CT_CHECK_ANSWER)],
        "content.CardConfirmation": [_content(office.confirmation(), oids.CT_CARD_CONFIRMATION)],
        "content.Notice": [
            Notice("9c" * 16, "returned", NOW, NOW, 1, {"application": "5f" * 16, "days": "3"}).to_json()
        ],
        "der.element": [der.encode(asn1.BitString(b"\x80", 7)), der.tlv(0x30, der.encode(364) + der.encode("x"))],
        "name": [name(cn="Bookshop", o="Bookshop Co").public_bytes()],
        "octets": [shop.der],
        "certificate": [
            shop.der,
            officer.der,
            w.gateway_encryption.der,
            w.buyer.der,
            pki.brand.credential.der,
            pki.service("ra").der,
        ],
        "crl": [pki.merchant_ca.crl(NOW).public_bytes(Encoding.DER), pki.root.crl(NOW).public_bytes(Encoding.DER)],
        "csr": [csr(p256()), office.encryption_csr],
        "csr.key": [csr(p256())],
        "cms.signed": [c.purchase.invoice_signed],
        "cms.joined": [contracts.contract(w, c.purchase)],
        "cms.enveloped": [c.purchase.order.pi_envelope],
        "cms.officer": [decision],
        "cms.decision": [decision],
        "ocsp.request": [
            compose_request(7, pki.brand.certificate),
            compose_request(1 << 120, pki.merchant_ca.certificate, nonce=bytes(range(16))),
        ],
        "tsp.request": [build_query(b"x", nonce=7), build_query(b"x", nonce=None, algorithm="sha512")],
        "tsp.response": [grant(stamps.token())],
    }
    values: dict[type[Any], Any] = {
        CertificateType: CertificateType(frozenset({"pgwy"})),
        MerchantData: MerchantData("M-1", "603799", "Bookshop", 364, online=True),
        GatewayData: GatewayData("GW-1", "603799"),
        AccountBinding: AccountBinding(bytes(16), bytes(32)),
        OfficerData: OfficerData.from_certificate(officer.certificate),
        SealingSuites: SealingSuites(("oaep-sha256", "oaep-sha1")),
        IdentityChecked: IdentityChecked(NOW),
        HashedRootKey: HashedRootKey(bytes(32)),
    }
    return made | {f"extension.{kind.__name__}": [value.to_der()] for kind, value in values.items()}


def _content(signed: bytes, kind: x509.ObjectIdentifier) -> bytes:
    return parse_signed_data(signed, content_type=kind).content
