"""The officer's side: see what is signed, then sign it with the officer's own key.

    officer = load_officer(certificate, key, passphrase)
    draft = draft_decision(view.dossier, "vet", Choice.APPROVE, pack=pack, now=now)
    print("\\n".join(draft.lines))                    # everything the signature will stand for
    signed = officer.sign(draft, now=now)            # CMS SignedData, for `RaClient.decide`

Digests are computed here, from the dossier that is shown, never taken from the server: a server that shows one thing
and asks for the signature of another gets a decision over what was shown, which counts for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cps.decision import (
    Choice,
    Decision,
    KeyDenial,
    Revocation,
    build_decision,
    build_key_denial,
    build_revocation,
    parse_revocation,
)
from cps.dossier import Dossier, rule_of
from cps.errors import fault
from cps.model import OrderReason, Pack
from cps.publication import Publication, build_publication
from cps.review import Judgement, Review, build_review
from cps.statement_text import StatementText
from pki import cms_signed
from pki.algorithms import SignatureSuite
from pki.cms_signed import parse_signed_data
from pki.der import sha256
from pki.errors import CertificateError
from pki.extensions import OfficerData, authority_key_id, extensions_of
from pki.oids import CT_DECISION, CT_KEY_DENIAL, CT_PACK_PUBLICATION, CT_REVIEW, CT_REVOCATION
from ra import text_input
from ra.errors import OfficerKeyError
from runtime.secrets import Secret

_DEFAULT_LASTS: Final = timedelta(days=1)

OfficerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Draft:
    """Something to sign: the content (DER), its content type, and all of it in lines for a person."""

    content_type: x509.ObjectIdentifier
    content: bytes
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Officer:
    """An officer's certificate, the CA certificates above it (root excluded) and the key, here or in a token."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: OfficerKey
    data: OfficerData

    def sign(self, draft: Draft, *, now: datetime) -> bytes:
        """CMS SignedData (DER) over the draft, with certificate and chain; `now` (aware) is the signing time."""
        return cms_signed.sign(
            draft.content_type,
            draft.content,
            key=self.key,
            signer=self.certificate,
            chain=self.chain,
            signing_time=now,
        )


def load_officer(certificate: Path, key: Path, passphrase: Secret | None) -> Officer:
    """Read an officer's PEM certificate chain (leaf first) and PKCS#8 key (PEM, normally encrypted).

    Raises OfficerKeyError if a file cannot be read, the passphrase is wrong, or key and certificate do not belong
    together or name no officer.
    """
    try:
        leaf, *chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        secret = load_pem_private_key(key.read_bytes(), None if passphrase is None else passphrase.reveal())
    except OSError as error:
        raise OfficerKeyError("{file} cannot be read: {fault}", file=error.filename, fault=error.strerror) from None
    except (ValueError, TypeError):
        raise OfficerKeyError(
            "{certificate} or {key} cannot be opened: is it the right passphrase?", certificate=certificate, key=key
        ) from None
    if not isinstance(secret, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise OfficerKeyError("{key} holds neither an RSA nor an EC key", key=key)
    return officer_of(leaf, [each for each in chain if each.issuer != each.subject], secret)


def officer_of(certificate: x509.Certificate, chain: Sequence[x509.Certificate], key: OfficerKey) -> Officer:
    """An officer from a certificate, the CA certificates above it and the key; raises OfficerKeyError.

    The key may be one that signs in a token (`hsm_service.held_key`).
    """
    if key.public_key() != certificate.public_key():
        raise OfficerKeyError("the key is not the one of the certificate")
    try:
        SignatureSuite.for_key(key.public_key())
        data = OfficerData.from_certificate(certificate)
    except CertificateError as error:
        raise OfficerKeyError("the certificate cannot be used: {fault}", fault=fault(error)) from None
    if data is None:
        raise OfficerKeyError("the certificate is not one of an officer")
    return Officer(certificate, tuple(chain), key, data)


def draft_decision(
    dossier: Dossier,
    step: str,
    choice: Choice,
    *,
    pack: Pack,
    now: datetime,
    reason: str = "",
    code: str | None = None,
    lasts: timedelta | None = None,
) -> Draft:
    """A decision on `step` of the case, made at `now` (aware); it lasts as long as the CPS lets it, or `lasts`.

    `code`, of a rejection, is one of the reasons that the statement lists (`cps.rejection`). Raises StatementError for
    a rejection without one, and an approval with one.
    """
    date = now.replace(microsecond=0)
    steps = rule_of(dossier.revision, pack).steps
    allowed = next((each.expires for each in steps if each.name == step), None)
    decision = Decision(
        application_id=dossier.revision.application_id,
        revision_digest=dossier.revision.digest,
        evidence_digest=dossier.evidence_digest,
        step=step,
        choice=choice,
        reason=text_input.name(reason),
        date=date,
        expires=date + (lasts or allowed or _DEFAULT_LASTS),
        code=code,
    )
    return Draft(CT_DECISION, build_decision(decision), tuple(_decision_lines(decision, dossier)))


def draft_revocation(
    certificate: x509.Certificate,
    reason: OrderReason,
    *,
    now: datetime,
    invalidity_date: datetime | None = None,
) -> Draft:
    """An order about a certificate, made at `now` (aware): certificateHold suspends it, removeFromCRL releases it,
    every other reason revokes it. Raises OfficerKeyError if its issuer cannot be told."""
    issuer_key_id = authority_key_id(extensions_of(certificate))
    if issuer_key_id is None:
        raise OfficerKeyError("the certificate does not say by which key it was issued")
    order = Revocation(issuer_key_id, certificate.serial_number, reason, now.replace(microsecond=0), invalidity_date)
    lines = (
        f"{order.kind.value.upper():<12} certificate {order.serial:x}",
        f"  subject    {certificate.subject.rfc4514_string()}",
        f"  issued by  {certificate.issuer.rfc4514_string()} (key {issuer_key_id.hex()})",
        f"  reason     {reason}",
        f"  date       {order.date.isoformat()}",
    )
    return Draft(CT_REVOCATION, build_revocation(order), lines)


def draft_denial(spki_sha256: bytes, reason: str, *, now: datetime) -> Draft:
    """That the key with this SHA-256 of its SPKI is never certified, stated at `now` (aware); CPS 4.9.12."""
    reason = text_input.name(reason)
    denial = KeyDenial(spki_sha256, reason, now.replace(microsecond=0))
    lines = (
        f"DENY         key, SHA-256 {spki_sha256.hex()}",
        f"  reason     {reason}",
        f"  date       {denial.date.isoformat()}",
    )
    return Draft(CT_KEY_DENIAL, build_key_denial(denial), lines)


def draft_review(order: bytes, judgement: Judgement, reason: str, *, now: datetime) -> Draft:
    """A review, made at `now` (aware), of the order (CMS, DER) that another officer gave alone."""
    ordered = parse_revocation(parse_signed_data(order, content_type=CT_REVOCATION).content)
    review = Review(sha256(order), judgement, text_input.name(reason), now.replace(microsecond=0))
    lines = (
        f"Review of the order {sha256(order).hex()}",
        f"  it orders   {ordered.reason} of certificate {ordered.serial:x}, written {ordered.date:%F %H:%M} UTC",
        f"  finding     {judgement.name.lower()}",
        f"  reason      {review.reason}",
    )
    return Draft(CT_REVIEW, build_review(review), lines)


def draft_publication(pack: Pack, texts: StatementText, predecessor: Pack, *, now: datetime) -> Draft:
    """That a version of the CPS is published after `predecessor`, stated at `now` (aware); CPS 1.5.4."""
    stated = Publication.of(pack, texts, predecessor, date=now)
    until = pack.cps.grandfather_until
    lines = (
        f"PUBLISH      {stated.pack_id} {stated.pack_version}",
        f"  rules      SHA-256 {stated.pack_digest.hex()}",
        f"  texts      SHA-256 {stated.texts_digest.hex()}",
        f"  supersedes {predecessor.cps.id} {predecessor.cps.version}, SHA-256 {stated.supersedes.hex()}",
        f"  in force   from {stated.effective.isoformat()}",
        f"  open cases {'are judged anew' if until is None else f'may be finished until {until.isoformat()}'}",
        f"  date       {stated.date.isoformat()}",
    )
    return Draft(CT_PACK_PUBLICATION, build_publication(stated), lines)


def _decision_lines(decision: Decision, dossier: Dossier) -> list[str]:
    revision = dossier.revision
    subject = _fields(revision.subject.model_dump(mode="json", by_alias=True))
    authors = ", ".join(f"{author.person} ({author.organisation or 'no organisation'})" for author in revision.authors)
    return [
        f"{decision.choice.name:<12} step {decision.step} of case {revision.application_id}, "
        f"revision {revision.number}",
        *(f"  {name:<16} {value}" for name, value in subject),
        *(f"  key {entry.purpose:<12} SHA-256 {entry.spki_sha256.hex()}" for entry in revision.csrs),
        *(
            f"  evidence         {piece.kind} from {piece.source}, taken in by {piece.collected_by} on "
            f"{piece.collected_at:%Y-%m-%d}, SHA-256 {piece.sha256.hex()}"
            for piece in dossier.evidence
        ),
        f"  written by       {authors}",
        f"  observations     {', '.join(revision.signals) or '-'}",
        f"  statement        {revision.cps.id} {revision.cps.version}, SHA-256 {revision.cps.digest.hex()}",
        *([] if decision.code is None else [f"  rejected for     {decision.code}"]),
        f"  reason           {decision.reason or '-'}",
        f"  counts until     {decision.expires.isoformat()}",
        f"  signed digests   revision {decision.revision_digest.hex()}",
        f"                   evidence {decision.evidence_digest.hex()}",
    ]


def _fields(subject: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in subject.items()
        if value is not None and value != []
    ]
