"""Typed signing of messages: is this content one that the key signs, and true of its certificate? (RFC 5652 5)

The service builds the signed attributes itself, so a caller decides what is said, never when or by whom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from cps import rekey, rekey_statement
from cps.check_statement import CheckStatement
from cps.decision import Kind, parse_decision, parse_revocation
from cps.errors import CpsError
from hsm_service.backup_file import KeyBackup
from hsm_service.judging import CLOCK_SKEW, SigningKey, refuse
from hsm_service.templates import content_type_name
from hsm_service.typed_crl import FARTHEST_AHEAD
from pki import notice, oids, self_audit
from pki.attestation import KeyAttestation
from pki.bci import SIGNER, Bci
from pki.ceremony_seal import PARTICIPANTS, CeremonySeal
from pki.extensions import authority_key_id, extensions_of
from pki.names import identity_uris
from pki.notice import Notice
from pki.roles import Role, role_of
from pki.self_audit import SelfAudit
from runtime.problems import Problem

ContentValidator = Callable[[bytes, x509.Certificate], None]
"""Judges one content type: takes the content (DER) and the certificate that will sign it.

Returns if the bytes are exactly one content of that type and whatever it says about its signer is true of this
certificate; otherwise raises an exception whose `detail` says what is wrong, in words that repeat nothing of the
content, and whose `clause` or `check` (of the protocol) names the rule. Errors of `pki` and `kwbp` are such exceptions.
"""


@dataclass(frozen=True, slots=True)
class CmsOrder:
    """A content that the key may sign, with the signed attributes made for it (DER SET OF: what is signed)."""

    content_type: x509.ObjectIdentifier
    content: bytes
    signed_attributes: bytes


def built_in_content_types() -> dict[str, ContentValidator]:
    """Validators of the contents that this package and the CPS define, by dotted OID."""
    return {
        oids.CT_KEY_ATTESTATION.dotted_string: _judge_attestation,
        oids.CT_KEY_BACKUP.dotted_string: _judge_backup,
        oids.CT_CEREMONY_SEAL.dotted_string: _judge_seal,
        oids.CT_DECISION.dotted_string: _judge_decision,
        oids.CT_REVOCATION.dotted_string: _judge_revocation,
        oids.CT_CHECK_ANSWER.dotted_string: _judge_check_answer,
        oids.CT_REKEY.dotted_string: _judge_rekey,
        oids.CT_BCI.dotted_string: _judge_bci,
        oids.CT_SELF_AUDIT.dotted_string: _judge_self_audit,
        oids.CT_NOTICE.dotted_string: _judge_notice,
    }


def _judge_attestation(content: bytes, _signer: x509.Certificate) -> None:
    KeyAttestation.from_der(content)


def _judge_bci(content: bytes, signer: x509.Certificate) -> None:
    Bci.from_der(content)
    if SIGNER not in identity_uris(signer):
        raise refuse("content-refused", f"the list of all lists is signed by {SIGNER}", "CPS 4.9.7")


def _check_bci_now(content: bytes, now: datetime) -> None:
    """A list of all lists is signed when it begins: one kept for later would hide the lists of then."""
    bci = Bci.from_der(content)
    if abs(bci.this_update - now) > CLOCK_SKEW:
        raise refuse("content-refused", "thisUpdate is now", "CPS 4.9.7")
    # After the largest number nobody would believe another one.
    if not 0 <= bci.number <= int(now.timestamp()) + FARTHEST_AHEAD:
        raise refuse("content-refused", "a number is at most the time in seconds, and a little more", "CPS 4.9.7")


def _judge_self_audit(content: bytes, signer: x509.Certificate) -> None:
    SelfAudit.from_der(content)
    if self_audit.SIGNER not in identity_uris(signer):
        raise refuse("content-refused", f"a self-audit is signed by {self_audit.SIGNER}", "CPS 8")


def _check_self_audit_now(content: bytes, now: datetime) -> None:
    """A report can wait for its signature, while the token was away; none is signed before it can have been made."""
    if SelfAudit.from_der(content).made_at > now + CLOCK_SKEW:
        raise refuse("content-refused", "a report is made before it is signed", "CPS 8")


def _judge_notice(content: bytes, signer: x509.Certificate) -> None:
    Notice.from_json(content)
    if notice.SIGNER not in identity_uris(signer):
        raise refuse("content-refused", f"a notice is signed by {notice.SIGNER}", "CPS 4.2.1")


def _check_notice_now(content: bytes, now: datetime) -> None:
    """A receiver refuses an old signature as replayed: none is made ahead, for later."""
    if abs(Notice.from_json(content).sent_at - now) > CLOCK_SKEW:
        raise refuse("content-refused", "a notice is sent when it is signed", "CPS 4.2.1")


def _judge_check_answer(content: bytes, _signer: x509.Certificate) -> None:
    CheckStatement.from_der(content)


def _check_answer_now(content: bytes, now: datetime) -> None:
    """What a register answered can wait for its signature, while the token was away, but comes from no future."""
    if CheckStatement.from_der(content).date > now + CLOCK_SKEW:
        raise refuse("content-refused", "an answer is there before it is signed", "CPS 4.2.1")


def _judge_rekey(content: bytes, signer: x509.Certificate) -> None:
    try:
        rekey_statement.parse_rekey(content)
    except CpsError as error:
        raise refuse("content-refused", str(error), "CPS 3.3.1") from error
    if rekey.SIGNER not in identity_uris(signer):
        raise refuse("content-refused", f"who proved an old key in TLS is told by {rekey.SIGNER}", "CPS 3.3.1")


def _check_rekey_now(content: bytes, now: datetime) -> None:
    """A key is proven in a connection: the statement is of that moment, neither kept for later nor made up for then."""
    if abs(rekey_statement.parse_rekey(content).date - now) > CLOCK_SKEW:
        raise refuse("content-refused", "an old key is proven when the statement is signed", "CPS 3.3.1")


_OF_NOW: Final[Mapping[str, Callable[[bytes, datetime], None]]] = {
    oids.CT_BCI.dotted_string: _check_bci_now,
    oids.CT_CHECK_ANSWER.dotted_string: _check_answer_now,
    oids.CT_REKEY.dotted_string: _check_rekey_now,
    oids.CT_SELF_AUDIT.dotted_string: _check_self_audit_now,
    oids.CT_NOTICE.dotted_string: _check_notice_now,
}
"""What is judged beside that by the clock."""


def _judge_backup(content: bytes, _signer: x509.Certificate) -> None:
    KeyBackup.from_der(content)


def _judge_seal(content: bytes, _signer: x509.Certificate) -> None:
    if len(CeremonySeal.from_der(content).signatures) < PARTICIPANTS:
        raise refuse("content-refused", f"{PARTICIPANTS} persons seal a transcript before a key does", "CPS 5.2.2")


def _judge_decision(content: bytes, _signer: x509.Certificate) -> None:
    try:
        parse_decision(content)
    except CpsError as error:
        raise refuse("content-refused", str(error), None) from error


def _judge_revocation(content: bytes, signer: x509.Certificate) -> None:
    """An order about a certificate: a service orders what the statement lets it, a member only about its own."""
    try:
        order = parse_revocation(content)
    except CpsError as error:
        raise refuse("content-refused", str(error), None) from error
    if role_of(signer) is Role.SERVICE:
        return
    own = (authority_key_id(extensions_of(signer)), signer.serial_number)
    if (order.issuer_key_id, order.serial) != own or order.kind is Kind.RELEASE:
        raise refuse("content-refused", "a member orders its own certificate to be revoked or suspended", "CPS 4.9.2")


def check_cms(
    content_type: str,
    content: bytes,
    key: SigningKey,
    *,
    content_types: Mapping[str, ContentValidator],
    now: datetime,
) -> CmsOrder:
    """An order to sign `content` (DER) as `content_type` (dotted OID), with signed attributes that say `now`.

    Refused: a content type that is not in the key's list (403: this key does not serve it) or that this service was
    started without a judge for (501), a content that its judge refuses (422), a certificate not valid now (409).
    """
    if content_type not in key.template.content_type_oids:
        raise Problem(
            403,
            "content-type-not-allowed",
            f"key {key.name} does not sign {content_type_name(content_type)}; "
            f"it signs {', '.join(key.template.content_types)}",
        )
    validate = content_types.get(content_type)
    if validate is None:
        raise Problem(
            501, "content-type-unknown", f"this service cannot judge {content_type_name(content_type)}, so signs none"
        )
    signer = key.certificate
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise Problem(
            409, "certificate-not-valid", f"the certificate of key {key.name} is not valid now", clause="CPS 6.3.2"
        )
    try:
        validate(content, signer)
        if content_type in _OF_NOW:
            _OF_NOW[content_type](content, now)
    except Problem:
        raise
    except Exception as error:
        raise _judged(error) from error
    oid = x509.ObjectIdentifier(content_type)
    return CmsOrder(oid, content, key.writer.signed_attributes(oid, content, now))


def _judged(error: Exception) -> Exception:
    """A validator's refusal as a Problem; any other exception as it is, which then is a fault of ours."""
    detail = getattr(error, "detail", None)
    if not isinstance(detail, str):
        return error
    check = getattr(error, "check", None)
    clause = f"KWBP {check}" if check is not None else getattr(error, "clause", None)
    return refuse("content-refused", detail or "the content is not what its type demands", clause)
