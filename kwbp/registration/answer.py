"""CertRes, MerCertRes, GwCertRes (rows 3 to 5): how an application stands, and the certificates.

A cardholder's answer is sealed to the one-time key of the request: it holds the certificate and nonceCCA together, and
whoever watches the line cannot tell which certificate went to which wallet. The others hold what is public anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import fields
from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.commitment import commitment_cn, pan_secret
from kwbp.common import Draft, check_answer, read_envelope, read_signed, require, verify_path
from kwbp.errors import CommitmentError, ProtocolError
from kwbp.registration.card import SIGNING
from kwbp.registration.certificates import read_certificate
from kwbp.registration.messages import CertResTBS, IssuedChain
from kwbp.registration.sealing import Unseal, is_for_key, seal_to_key
from kwbp.registration.signers import RA, verify_service
from kwbp.wrapper import KwbpMessage, check_header, wrap
from pki.algorithms import SealingSuite
from pki.errors import CmsError
from pki.extensions import extensions_of, subject_key_id
from pki.keys import spki_sha256
from pki.names import common_name
from pki.oids import CT_CERT_RES, CT_GW_CERT_RES, CT_MER_CERT_RES, MT_CERT_RES
from pki.path import Trust
from pki.roles import Role
from shetab.types import Expiry, Pan

ROLES: Final[Mapping[x509.ObjectIdentifier, Mapping[str, Role]]] = {
    CT_CERT_RES: {"signing": Role.CARDHOLDER},
    CT_MER_CERT_RES: {"signing": Role.MERCHANT, "tls": Role.SERVICE},
    CT_GW_CERT_RES: {
        "signing": Role.GATEWAY_SIGNING,
        "encryption": Role.GATEWAY_ENCRYPTION,
        "tls": Role.SERVICE,
    },
}
"""The role of a certificate for each purpose, by content type of the answer."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """What an applicant keeps of its request, to judge the answer by. `answered_by` is the answer's content type.

    `digest` is SHA-256 of the request's SignedData, `keys` SHA-256 of the SubjectPublicKeyInfo by purpose, `asked` when
    it was made.
    """

    answered_by: x509.ObjectIdentifier
    rrpid: bytes
    chall_ee: bytes
    digest: bytes
    keys: Mapping[str, bytes]
    asked: datetime


def build_answer(
    answered_by: x509.ObjectIdentifier,
    *,
    rrpid: bytes,
    chall_ee: bytes,
    digest: bytes,
    application: str,
    status: RegistrationStatus,
    now: datetime,
    ask_again: int | None = None,
    nonce_cca: bytes | None = None,
    certificates: Mapping[str, Sequence[x509.Certificate]] | None = None,
) -> Draft[CertResTBS]:
    """An answer, to be signed by the registration authority; a cardholder's goes on to `seal_cert_response`.

    :param digest: SHA-256 of the request's SignedData. :param ask_again: seconds, if pending.
    :param certificates: by purpose, each with those above it, without the root.
    """
    chains = certificates or {}
    body = CertResTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall_ee=chall_ee,
        h_request=digest,
        application=application,
        status=status,
        ask_again=ask_again,
        nonce_cca=nonce_cca,
        certificates=[
            IssuedChain(purpose=purpose, chain=[each.public_bytes(Encoding.DER) for each in chains[purpose]])
            for purpose in sorted(chains)
        ],
        date=fields.to_time(now),
    )
    return Draft.of(answered_by, body, rrpid=rrpid, xid=None)


def seal_cert_response(
    signed: bytes, answer_key: rsa.RSAPublicKey, *, rrpid: bytes, rng: Callable[[int], bytes]
) -> bytes:
    """CertRes as it goes to the wallet: the authority's SignedData, sealed to the one-time key, in its wrapper."""
    sealed = seal_to_key(signed, answer_key, SealingSuite.OAEP_SHA256, rng=rng)
    return wrap(MT_CERT_RES, sealed, rrpid=rrpid)


def open_cert_response(message: KwbpMessage, *, key: rsa.RSAPublicKey, unseal: Unseal) -> KwbpMessage:
    """K4 and D4: the message inside a sealed CertRes, to be judged by `check_response`.

    :param message: from `unwrap(…, expected=[MT_CERT_RES])`. :param key: the one-time key.
    :raises ProtocolError: decodingFailure, the same whatever is wrong with the key or the tag.
    """
    envelope = read_envelope(message.body)
    require(is_for_key(envelope, key), ErrorCode.ENVELOPE_MISMATCH, "D4", "answer must be sealed to the one-time key")
    try:
        signed = unseal(envelope)
    except CmsError:
        raise ProtocolError(ErrorCode.DECODING_FAILURE, "D4", "answer must open") from None
    return KwbpMessage(version=message.version, msg_type=CT_CERT_RES, rrpid=message.rrpid, xid=message.xid, body=signed)


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer that holds; `chains` are the certificates by purpose, leaf first, empty unless issued."""

    body: CertResTBS
    chains: Mapping[str, tuple[x509.Certificate, ...]]


def check_response(message: KwbpMessage, *, sent: SentRequest, trust: Trust, now: datetime) -> CheckedAnswer:
    """CertRes, MerCertRes, GwCertRes: K1, K2, K4 to K7, then D1, D2, D5, D6. Say `check_commitment` after a CertRes.

    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(CertResTBS, sent.answered_by, message.body)
    body = received.body
    chains = {each.purpose: tuple(map(read_certificate, each.chain)) for each in body.certificates}
    check_header(message, sent.answered_by, rrpid=body.rrpid, xid=None)
    verify_service(received, RA, trust=trust, now=now, check="D2")
    check_answer(received, body.date, asked=sent.asked, now=now)
    require(
        (body.rrpid, body.chall_ee) == (sent.rrpid, sent.chall_ee),
        ErrorCode.CHALLENGE_MISMATCH,
        "D1",
        "RRPID and challenge must be those of the request",
    )
    require(body.h_request == sent.digest, ErrorCode.HASH_MISMATCH, "D5", "answer must be about the own request")
    if chains:
        _check_chains(chains, sent, trust, now)
    return CheckedAnswer(body, chains)


def _check_chains(
    chains: Mapping[str, tuple[x509.Certificate, ...]], sent: SentRequest, trust: Trust, now: datetime
) -> None:
    """D6: one certificate for each key that was asked for, of the role that its purpose has."""
    certified = {purpose: spki_sha256(chain[0].public_key()) for purpose, chain in chains.items()}
    require(certified == dict(sent.keys), ErrorCode.INVALID_CERTIFICATE, "D6", "certificates must be for the own keys")
    for purpose, (leaf, *above) in chains.items():
        role = ROLES[sent.answered_by][purpose]
        verify_path(leaf, tuple(above), role=role, trust=trust, now=now, check="D6")


def check_commitment(answer: CheckedAnswer, *, pan: Pan, expiry: Expiry, card_secret: bytes) -> bytes:
    """D7: the certificate commits to this card under the wallet's own secret; returns PANSecret (32 bytes).

    :param answer: an issued CertRes.
    :raises ProtocolError: accountBindingFailure.
    """
    leaf, *above = answer.chains[SIGNING]
    key_id = subject_key_id(extensions_of(above[0])) if above else None
    try:
        secret = pan_secret(card_secret, answer.body.nonce_cca or b"", key_id or b"")
        committed = common_name(leaf.subject) == commitment_cn(secret, pan, expiry)
    except CommitmentError:  # a short or constant secret, or no nonce, commits to nothing
        committed = False
    require(committed, ErrorCode.ACCOUNT_BINDING_FAILURE, "D7", "common name must commit to the card")
    return secret
