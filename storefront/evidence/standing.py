"""Who the signers of a bundle were at the time of the purchase, and on what that rests: paths, lists, answers, stamp.

Judged as it was then: by the lists that were in force, by what the responders said, never by a clock of today. So a
bundle is judged alike after every certificate in it has expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kwbp.common import verify_signature
from kwbp.errors import ProtocolError
from kwbp.parties import MerchantIdentity, gateway_data
from pki.cms_signed import parse_signed_data
from pki.der import decode, sha256
from pki.errors import UNREADABLE, CertificateError, PkiError
from pki.names import common_name
from pki.ocsp import verify_ocsp
from pki.oids import CT_TST_INFO
from pki.path import Trust, validate_path
from pki.roles import Role
from pki.timestamp import read_response, verify_token
from pki.timestamp_structures import TstInfo
from runtime.language import Message, Term
from storefront.evidence.dossier import Dossier, Exhibit
from storefront.evidence.moments import moment

ROLES: Final[Mapping[str, Role]] = {
    "buyer": Role.CARDHOLDER,
    "merchant": Role.MERCHANT,
    "gateway": Role.GATEWAY_SIGNING,
    "gateway-encryption": Role.GATEWAY_ENCRYPTION,
    "gateway-status": Role.GATEWAY_SIGNING,
}
"""Names of the signers' certificates in a bundle, and what each must be."""
_NO_PATH: Final = "no path as {role} below the root at {time} ({reason})"
_EARLY: Final = timedelta(seconds=60)
"""By how much a time-stamp may be older than what it stamps says: two clocks."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who is bound, as the certificate says: `role` buyer, merchant or gateway, `id` within it.

    The id of a buyer is the commitment to the card: which card it is, its issuer and its holder alone can show.
    """

    role: str
    id: str
    name: str | None
    serial: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One signer's certificate at its time: why it is not to be believed, if so, and under which information."""

    party: Party | None
    certificate: x509.Certificate
    faults: tuple[Message, ...]
    status: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Time:
    """What the time of the purchase rests on: `stamped_at` is that of a time-stamp that holds."""

    stamped_at: datetime | None
    fault: Message | None


@dataclass(frozen=True, slots=True)
class Standings:
    """All signers, the time, what the bundle does not prove, and faults of authorities, which touch everything."""

    signers: Mapping[str, Standing]
    time: Time
    gaps: tuple[Message, ...]
    authorities: tuple[Message, ...]


def judge_standing(dossier: Dossier) -> Standings:
    """Judge certificates, status and time of a bundle, and enter into its exhibits why they are not authentic."""
    answers, gaps, authorities = _answers(dossier)
    signers = {
        name: _standing(dossier, name, certificate, answers.get(name, ()))
        for name, certificate in dossier.signers.items()
    }
    time = _time(dossier)
    if dossier.time_stamp is None:
        if dossier.answer is not None:
            gaps.insert(0, Message("no time-stamp: the time is the one that the gateway signed"))
        else:
            gaps.insert(0, Message("no time-stamp: the time is the one that the buyer signed"))
    if dossier.envelope is None:
        gaps.append(Message("no sealed card data: the order names them by their hash alone"))
    every: tuple[tuple[Exhibit[Any] | None, str], ...] = (
        (dossier.invoice, "merchant"),
        (dossier.order, "buyer"),
        *(
            ()
            if dossier.contract is None
            else ((dossier.contract.merchant, "merchant"), (dossier.contract.buyer, "buyer"))
        ),
        (dossier.request, "merchant"),
        (dossier.answer, "gateway"),
        (dossier.acknowledgement, "merchant"),
        (dossier.receipt, "merchant"),
        (dossier.receipt_ack, "buyer"),
        (dossier.status, "gateway-status"),
        (dossier.inner, "gateway"),
    )
    for exhibit, signer in every:
        if exhibit is not None:
            exhibit.faults += _faults(exhibit, signers.get(signer), authorities)
            exhibit.forged = _is_forged(exhibit, ROLES[signer], dossier.root)
            if exhibit.forged and not exhibit.faults:
                exhibit.faults.append(Message("the certificates in it do not lead to the root"))
    return Standings(signers, time, tuple(gaps), tuple(authorities))


def _faults(exhibit: Exhibit[Any], standing: Standing | None, authorities: list[Message]) -> list[Message]:
    """Why a message is not its party's, beyond its form."""
    if exhibit.received is None:
        return []
    faults = list(authorities)
    if standing is None or exhibit.received.signer != standing.certificate:
        faults.append(Message("it is signed with another certificate than the one shown"))
    else:
        faults += standing.faults
    try:
        verify_signature(exhibit.received)
    except ProtocolError:
        faults.append(Message("its signature does not verify: not one byte of it binds anybody"))
    return faults


def _is_forged(exhibit: Exhibit[Any], role: Role, root: x509.Certificate) -> bool:
    """Whether the bytes alone show that nobody of this role below the root signed them, by their own date."""
    received = exhibit.received
    if received is None:
        return True
    try:
        verify_signature(received)
        signed = received.signed
        validate_path(
            signed.signer,
            signed.certificates,
            trust=Trust((root,)),
            now=signed.signing_time,
            roles=(role,),
            check_revocation=False,
        )
    except (ProtocolError, PkiError):
        return True
    return False


def _standing(
    dossier: Dossier, name: str, certificate: x509.Certificate, answers: tuple[tuple[bool, Message], ...]
) -> Standing:
    later = name == "gateway-status"
    at = dossier.told_at if later and dossier.told_at is not None else dossier.when
    crls = dossier.status_crls if later else dossier.crls
    trust = Trust((dossier.root,), tuple(dossier.chain.values()), crls)
    faults = [said for good, said in answers if not good]
    status = [said for good, said in answers if good]
    role = Term("evidence role", ROLES[name].value)
    try:
        path = validate_path(certificate, trust=trust, now=at, roles=(ROLES[name],))
        for each, issuer in zip(path.certificates, path.certificates[1:], strict=False):
            crl = crls.of(issuer)
            if crl is not None and each == certificate:
                status.append(Message("not on its issuer's list of {time}", time=moment(crl.last_update_utc)))
    except PkiError as error:
        faults.append(
            Message(
                "no path as {role} below the root at {time} ({reason})", role=role, time=moment(at), reason=error.reason
            )
        )
    party = None
    try:
        party = _party(name, certificate)
    except (ProtocolError, CertificateError, *UNREADABLE):
        faults.append(Message("the certificate does not say whose it is"))
    return Standing(party, certificate, tuple(faults), tuple(status))


def _party(name: str, certificate: x509.Certificate) -> Party:
    serial, digest = f"{certificate.serial_number:x}", sha256(certificate.public_bytes(Encoding.DER)).hex()
    if name == "buyer":
        return Party("buyer", common_name(certificate.subject), None, serial, digest)
    if name == "merchant":
        merchant = MerchantIdentity.of(certificate)
        return Party("merchant", merchant.merchant_id, merchant.name, serial, digest)
    return Party("gateway", gateway_data(certificate).gateway_id, None, serial, digest)


def _answers(dossier: Dossier) -> tuple[dict[str, tuple[tuple[bool, Message], ...]], list[Message], list[Message]]:
    """What the responders said: of each signer whether it holds, the gaps, and faults of authorities."""
    told: dict[str, tuple[tuple[bool, Message], ...]] = {}
    gaps: list[Message] = []
    authorities: list[Message] = []
    if not dossier.ocsp:
        return told, [Message("no OCSP answers: the status of the certificates is that of the lists")], authorities
    issuers = {each.subject: each for each in dossier.chain.values()}
    known = {**dossier.signers, **dossier.chain}
    for name, certificate in known.items():
        issuer = issuers.get(certificate.issuer)
        if name not in dossier.ocsp:
            if issuer is not None:
                gaps.append(Message("no OCSP answer about {name}: its status is that of the list", name=name))
            continue
        good, said = _answer(dossier.ocsp[name], certificate, issuer, dossier.when)
        if name in dossier.signers:
            told[name] = ((good, said),)
        elif not good:
            authorities.append(Message("the authority {name}: {fault}", name=name, fault=said))
    return told, gaps, authorities


def _answer(
    der: bytes, certificate: x509.Certificate, issuer: x509.Certificate | None, when: datetime
) -> tuple[bool, Message]:
    """Whether the responder said that it was not revoked at `when`; an answer of before is judged as of then."""
    wrong = Message("the OCSP answer about it proves nothing")
    try:
        if issuer is None:
            return False, wrong
        judged = max(ocsp.load_der_ocsp_response(der).this_update_utc, when)
        said = verify_ocsp(der, certificate=certificate, issuer=issuer, now=judged)
    except (PkiError, *UNREADABLE):
        return False, wrong
    if said.next_update < when:
        return False, wrong
    if said.state == "good" or (said.state == "revoked" and said.revoked_at is not None and said.revoked_at > when):
        return True, Message(
            "its responder knew of no revocation by then (answer of {time})", time=moment(said.this_update)
        )
    return False, Message("its responder did not call it good at the time of the purchase")


def _time(dossier: Dossier) -> Time:
    """Whether the time-stamp is over the gateway's answer, by an authority in good standing, and not from before it."""
    if dossier.time_stamp is None:
        return Time(None, None)
    wrong = Message("the time-stamp is not over the gateway's answer, or not by an authority in good standing then")
    if dossier.answer is None:
        return Time(None, wrong)
    try:
        token = read_response(dossier.time_stamp)
        info = decode(TstInfo, parse_signed_data(token, content_type=CT_TST_INFO).content)
        trust = Trust((dossier.root,), tuple(dossier.chain.values()), dossier.stamp_crls)
        stamp = verify_token(token, dossier.answer.der, trust=trust, nonce=info.nonce)
    except (PkiError, *UNREADABLE):
        return Time(None, wrong)
    if stamp.gen_time.astimezone(UTC) < dossier.when - _EARLY:
        return Time(None, Message("the time-stamp is older than the answer that it stamps"))
    return Time(stamp.gen_time, None)
