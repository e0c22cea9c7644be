"""Cases of all four classes for tests of the CPS, the RA and the CA: dossiers, evidence and signed decisions.

    office = Office()                                     # a PKI with the officers, the RA, the HSM and a bank
    dossier = office.merchant_case()
    dossier = office.decided(dossier, "vet", office.vetter)
    decide(dossier, office.pack, trust=office.pki.trust(), now=NOW)

Each officer holds one role unless told otherwise. All keys are P-256 but the gateway's encryption key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cps.card_confirmation import build_card_confirmation
from cps.check_model import CheckKind
from cps.check_statement import CheckStatement, question_about, question_digest
from cps.decision import (
    Choice,
    Decision,
    KeyDenial,
    Revocation,
    build_decision,
    build_key_denial,
    build_revocation,
)
from cps.dossier import (
    Author,
    CardholderSubject,
    CpsPin,
    CsrDigest,
    Dossier,
    Evidence,
    GatewaySubject,
    MerchantSubject,
    OfficerSubject,
    Revision,
)
from cps.model import OrderReason, Pack, Purpose
from cps.packs import published
from pki.attestation import KeyAttestation
from pki.keys import spki_sha256
from pki.names import name
from pki.oids import (
    CT_CARD_CONFIRMATION,
    CT_CHECK_ANSWER,
    CT_DECISION,
    CT_KEY_ATTESTATION,
    CT_KEY_DENIAL,
    CT_REVOCATION,
)
from tests.support.pki_factory import IBAN, NOW, Credential, Key, PkiFactory, p256, rsa_key

MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
BIN: Final = "603799"
COMMITMENT: Final = base64.urlsafe_b64encode(hashlib.sha256(b"a card").digest()).decode().rstrip("=")
AUTHOR: Final = Author(person="applicant-1", organisation="Bookshop Co")

MERCHANT: Final = MerchantSubject(
    merchant_id="M-1",
    name="Bookshop",
    organisation="Bookshop Co",
    acquirer_bin=BIN,
    origin="https://bookshop.example",
    iban=IBAN,
    iban_salt=b"\x01" * 16,
    hosts=("localhost",),
)
GATEWAY: Final = GatewaySubject(
    gateway_id="GW-1", name="Gateway One", organisation="Acquirer", acquirer_bin=BIN, suites=("oaep-sha256",)
)
OFFICER: Final = OfficerSubject(
    person_id="officer-9", name="Vetting Officer Nine", organisation="RA", roles=("vetting_officer",)
)
CARDHOLDER: Final = CardholderSubject(commitment=COMMITMENT, bin=BIN)


def csr(key: Key, common_name: str = "ignored") -> bytes:
    """A PKCS#10 request (DER) with proof of possession."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(cn=common_name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def csr_digest(purpose: Purpose, der: bytes) -> CsrDigest:
    """The entry of a revision about a request."""
    key = x509.load_der_x509_csr(der).public_key()
    return CsrDigest(purpose=purpose, sha256=hashlib.sha256(der).digest(), spki_sha256=spki_sha256(key))


def evidence(kind: str, *, at: datetime = NOW, body: bytes | None = None, **changes: Any) -> Evidence:
    """A piece of evidence collected at `at`; a document unless it has a body."""
    fields: dict[str, Any] = {
        "kind": kind,
        "sha256": hashlib.sha256(body if body is not None else kind.encode()).digest(),
        "source": "register",
        "collected_by": "officer-1",
        "collected_at": at,
        "body": body,
    }
    return Evidence(**{**fields, **changes})


@dataclass(frozen=True)
class CardKey:
    """The key of a cardholder and the request for it."""

    key: Key
    csr: bytes


class Office:
    """An RA office in a test PKI: officers of every role, the services whose signatures count, and the pack."""

    def __init__(self, pki: PkiFactory | None = None, pack: Pack | None = None) -> None:
        self.pki = pki or PkiFactory()
        self.pack = pack or published()
        self.now = self.pki.now
        self.vetter = self.officer("officer-1", "vetting_officer")
        self.vetter_2 = self.officer("officer-2", "vetting_officer")
        self.approver = self.officer("officer-3", "approving_officer")
        self.approver_2 = self.officer("officer-4", "approving_officer")
        self.security = self.officer("officer-5", "security_officer")
        self.security_2 = self.officer("officer-6", "security_officer")
        self.ra = self.pki.service("ra")
        self.hsm = self.pki.service("hsm")
        self.bank = self.pki.service(f"issuer-{BIN}")

    def officer(self, person_id: str, *roles: str, organisation: str = "RA", **changes: Any) -> Credential:
        """An officer's credential."""
        return self.pki.officer(person_id, organisation=organisation, roles=roles, **changes)

    # Keys and their requests, made once an office

    @cached_property
    def signing_key(self) -> Key:
        return p256()

    @cached_property
    def signing_csr(self) -> bytes:
        return csr(self.signing_key)

    @cached_property
    def encryption_csr(self) -> bytes:
        return csr(rsa_key(0))

    # Cases

    def case(
        self, subject: Any, csrs: Mapping[Purpose, bytes], pieces: tuple[Evidence, ...] = (), **changes: Any
    ) -> Dossier:
        """A dossier whose first revision `AUTHOR` wrote; `changes` go to the revision."""
        fields: dict[str, Any] = {
            "application_id": "case-1",
            "number": 1,
            "authors": (AUTHOR,),
            "subject": subject,
            "csrs": tuple(csr_digest(purpose, der) for purpose, der in csrs.items()),
            "cps": CpsPin.of(self.pack),
        }
        return Dossier(revision=Revision(**{**fields, **changes}), csrs=dict(csrs), evidence=pieces)

    def merchant_case(self, csrs: Mapping[Purpose, bytes] | None = None, **changes: Any) -> Dossier:
        """A merchant's dossier, with what the registers answered about its own revision."""
        changes.setdefault("subject", MERCHANT)
        case = self.case(csrs={"signing": self.signing_csr} if csrs is None else csrs, **changes)
        pieces = (
            evidence("acquirer_agreement", at=self.now),
            *(self.answered(case.revision, kind) for kind in ("company_register", "iban_owner")),
        )
        return case.model_copy(update={"evidence": pieces})

    def gateway_case(self, **changes: Any) -> Dossier:
        csrs: dict[Purpose, bytes] = {"signing": self.signing_csr, "encryption": self.encryption_csr}
        pieces = tuple(
            evidence("key_attestation", at=self.now, body=self.attestation(spki_sha256(key.public_key())))
            for key in (self.signing_key, rsa_key(0))
        )
        return self.case(GATEWAY, csrs, pieces, **changes)

    def officer_case(self, subject: OfficerSubject = OFFICER, **changes: Any) -> Dossier:
        return self.case(subject, {"signing": self.signing_csr}, **changes)

    def cardholder_case(self, confirmation: bytes | None = None, **changes: Any) -> Dossier:
        body = confirmation if confirmation is not None else self.confirmation()
        pieces = (evidence("issuer_bank_confirmation", at=self.now, body=body),)
        return self.case(CARDHOLDER, {"signing": self.signing_csr}, pieces, **changes)

    # Signed evidence

    def attestation(
        self, spki: bytes, *, by: Credential | None = None, at: datetime | None = None, **changes: Any
    ) -> bytes:
        """CMS of a KeyAttestation that says all the good things, unless changed."""
        fields: dict[str, Any] = {
            "key_name": "gateway-signing",
            "key_version": 1,
            "spki_sha256": spki,
            "token": "gateway",
            "local": True,
            "sensitive": True,
            "always_sensitive": True,
            "never_extractable": True,
            "extractable": False,
            "at": at or self.now,
        }
        content = KeyAttestation(**{**fields, **changes}).to_der()
        return (by or self.hsm).sign(CT_KEY_ATTESTATION, content)

    def answer(self, revision: Revision, kind: CheckKind, /, *, by: Credential | None = None, **changes: Any) -> bytes:
        """CMS of the RA's statement that a register confirmed what it was asked about this revision, unless changed."""
        fields: dict[str, Any] = {
            "application_id": revision.application_id,
            "kind": kind,
            "question_sha256": question_digest(
                revision.application_id, kind, question_about(revision, kind) or {"code": "0"}
            ),
            "answer": "confirmed",
            "reason": "",
            "source": f"register of {kind}",
            "answer_sha256": hashlib.sha256(b"an answer").digest(),
            "date": self.now,
        }
        return (by or self.ra).sign(CT_CHECK_ANSWER, CheckStatement(**{**fields, **changes}).to_der())

    def answered(self, revision: Revision, kind: CheckKind, /, **changes: Any) -> Evidence:
        """The same as a piece of evidence, collected when the answer came."""
        date = changes.setdefault("date", self.now)
        return evidence(kind, at=date, body=self.answer(revision, kind, **changes), collected_by="system")

    def confirmation(self, *, by: Credential | None = None, **changes: Any) -> bytes:
        """CMS of the bank's confirmation of the card and key of `cardholder_case`."""
        fields: dict[str, Any] = {
            "commitment": COMMITMENT,
            "spki_sha256": spki_sha256(self.signing_key.public_key()),
            "bin_": BIN,
            "expires_at": self.now + 400 * DAY,
            "issuer": "Bank One",
            "date": self.now,
        }
        content = build_card_confirmation(**{**fields, **changes})
        return (by or self.bank).sign(CT_CARD_CONFIRMATION, content)

    # Decisions

    def decision(self, dossier: Dossier, step: str, by: Credential, **changes: Any) -> bytes:
        """A decision on the dossier as it is now; `changes` go to the statement, `signing_time` to the signature."""
        date = changes.get("date", self.now)
        signing_time = changes.pop("signing_time", date)
        fields: dict[str, Any] = {
            "application_id": dossier.revision.application_id,
            "revision_digest": dossier.revision.digest,
            "evidence_digest": dossier.evidence_digest,
            "step": step,
            "choice": Choice.APPROVE,
            "reason": "",
            "date": date,
            "expires": changes.get("expires") or date + DAY,
        }
        if changes.get("choice") is Choice.REJECT:
            fields["code"] = "other"
        content = build_decision(Decision(**{**fields, **changes}))
        return by.sign(CT_DECISION, content, signing_time=signing_time)

    def decided(self, dossier: Dossier, step: str, *by: Credential, **changes: Any) -> Dossier:
        """The dossier with a decision of each officer on `step` added."""
        for credential in by:
            dossier = dossier.with_decision(self.decision(dossier, step, credential, **changes))
        return dossier

    def revocation(
        self,
        certificate: x509.Certificate,
        by: Credential,
        *,
        reason: OrderReason = "keyCompromise",
        date: datetime | None = None,
        signing_time: datetime | None = None,
    ) -> bytes:
        """A signed order to revoke a certificate, to suspend it (certificateHold) or to release it (removeFromCRL)."""
        date = date or self.now
        key_id = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        assert key_id is not None
        order = Revocation(key_id, certificate.serial_number, reason, date.astimezone(UTC))
        return by.sign(CT_REVOCATION, build_revocation(order), signing_time=signing_time or date)

    def denial(self, spki: bytes, by: Credential, *, date: datetime | None = None) -> bytes:
        """A signed statement that the key with this digest is denied."""
        date = date or self.now
        content = build_key_denial(KeyDenial(spki, "found in a public repository", date.astimezone(UTC)))
        return by.sign(CT_KEY_DENIAL, content, signing_time=date)
