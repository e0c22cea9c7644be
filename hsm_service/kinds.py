"""What the signing API signs: one table, each kind of structure with its judge.

A judge reads the structure strictly and compares it with the key (`hsm_service.typed_<kind>`); from its order comes a
job: what the token signs and how, what becomes of the signature, what must not be signed twice, what is recorded.
Judges compute and wait for nothing; what is done with a job stands in `hsm_service.signing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat import asn1

from audit.entry import JsonValue
from hsm_service.access import CEREMONY
from hsm_service.crl_reader import CrlReader, ReadCrl
from hsm_service.judging import SigningKey
from hsm_service.ledger import CheckpointClaim, Claim, CrlClaim, DossierClaim, Ledger, SerialClaim, TimestampClaim
from hsm_service.request import assemble_request
from hsm_service.schemes import ECDSA_MESSAGE, RAW, Scheme, message_scheme, x509_scheme
from hsm_service.service import SignCommand, SignKind
from hsm_service.templates import Operation
from hsm_service.typed_approval import Believed, check_approval
from hsm_service.typed_certificate import check_certificate
from hsm_service.typed_checkpoint import check_checkpoint
from hsm_service.typed_cms import ContentValidator, check_cms
from hsm_service.typed_crl import check_crl
from hsm_service.typed_ocsp import assemble_ocsp, check_ocsp
from hsm_service.typed_raw import check_raw
from hsm_service.typed_renewal import RENEWER, check_renewal
from hsm_service.typed_request import check_request
from hsm_service.typed_timestamp import check_timestamp
from pki.algorithms import certificate_signature_identifier
from pki.builder import assemble_certificate, assemble_crl
from pki.der import encode
from pki.oids import CT_TST_INFO
from runtime.problems import Problem

Fields = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Context:
    """What judges may know beside the key and the structure."""

    caller: str
    believed: Callable[[], Believed]
    held: Callable[[bytes], SigningKey | None]
    """The key pair in service here with this public key (DER SubjectPublicKeyInfo)."""
    content_types: Mapping[str, ContentValidator]
    ledger: Ledger
    now: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A structure that was judged: what the token signs and how, what becomes of the signature, what is recorded.

    `to_sign` are the bytes that the signature covers; with `digest` given, the token signs that instead.
    """

    scheme: Scheme
    to_sign: bytes
    finish: Callable[[bytes], bytes]
    claims: tuple[Claim, ...] = ()
    fields: Fields = field(default_factory=dict)
    digest: bytes | None = None

    def digested(self) -> bytes:
        """What the token is given."""
        return self.scheme.digest(self.to_sign) if self.digest is None else self.digest


Judge = Callable[[Context, SigningKey, SignCommand], Job]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of structure: the operation that it is, its judge, the fields of a command that it takes and needs.

    `quick`: judging takes less than about a millisecond, so an event loop may do it. `batch`: many can be signed at
    once.
    """

    operation: Operation
    judge: Judge
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    quick: bool = False
    batch: bool = False
    largest: int = 64 * 1024
    """Bytes of its content."""


def _certificate(context: Context, key: SigningKey, command: SignCommand) -> Job:
    order, digest = check_certificate(command.content, key), hexdigest(command.content)
    claims: tuple[Claim, ...] = (SerialClaim(key.name, order.serial, digest),)
    fields: Fields = {"role": order.role.value}
    if context.caller == RENEWER and command.basis is None:
        check_renewal(order, context.held(order.subject_key), now=context.now)
        fields = {**fields, "renewal": True}
    # A ceremony is its own approval: its witnesses and its transcript are what such a certificate rests on.
    elif context.caller != CEREMONY or command.basis is not None:
        approved = check_approval(order, key, command.basis, context.believed(), now=context.now)
        claims = (*claims, DossierClaim(approved.revision, approved.purpose, digest))
        fields = {**fields, "approvers": list(approved.approvers)}
    return Job(
        x509_scheme(key),
        order.tbs,
        lambda signature: assemble_certificate(order.tbs, signature, key.public_key),
        claims,
        fields,
    )


def _crl(context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = check_crl(
        command.content,
        key,
        now=context.now,
        last=context.ledger.last_crl_number(key.name),
        is_full=lambda number: context.ledger.is_full_crl(key.name, number),
    )
    return Job(
        x509_scheme(key),
        order.tbs,
        lambda signature: assemble_crl(order.tbs, signature, key.public_key),
        (CrlClaim(key.name, order.number, hexdigest(command.content), order.scope),),
        {"revoked": order.revoked},
    )


def crl_job(reader: CrlReader, read: ReadCrl) -> Job:
    """The job of a list that came in pieces: what is answered follows the TBSCertList in the CertificateList."""
    identifier = certificate_signature_identifier(reader.key.public_key)
    return Job(
        reader.scheme,
        b"",
        lambda signature: identifier + encode(asn1.BitString(signature, 0)),
        (CrlClaim(reader.key.name, read.order.number, read.input_sha256, read.order.scope),),
        {"revoked": read.revoked, "size": read.size},
        digest=read.digest,
    )


def _cms(context: Context, key: SigningKey, command: SignCommand) -> Job:
    assert command.content_type is not None  # KINDS says that it is needed
    order = check_cms(command.content_type, command.content, key, content_types=context.content_types, now=context.now)
    return Job(
        message_scheme(key),
        order.signed_attributes,
        lambda signature: key.writer.assemble(order.content_type, order.content, order.signed_attributes, signature),
        fields={"content_type": command.content_type},
    )


def _request(_context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = check_request(command.content, key)
    return Job(x509_scheme(key), order.info, lambda signature: assemble_request(order.info, signature, key.public_key))


def _ocsp(context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = check_ocsp(command.content, key, now=context.now)
    return Job(
        x509_scheme(key),
        order.tbs,
        lambda signature: assemble_ocsp(order, signature, key),
        fields={"responses": order.responses},
    )


def _timestamp(context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = check_timestamp(command.content, key, now=context.now)
    return Job(
        message_scheme(key),
        order.signed_attributes,
        lambda signature: key.writer.assemble(CT_TST_INFO, order.content, order.signed_attributes, signature),
        (TimestampClaim(key.name, order.serial, hexdigest(command.content)),),
    )


def _raw(_context: Context, key: SigningKey, command: SignCommand) -> Job:
    assert command.algorithm is not None  # KINDS says that it is needed
    order = check_raw(command.content, command.algorithm, key)
    return Job(RAW[order.algorithm], order.digest, lambda signature: signature, digest=order.digest)


def _checkpoint(context: Context, key: SigningKey, command: SignCommand) -> Job:
    order = check_checkpoint(command.content, key, context.ledger.last_checkpoint(key.name))
    return Job(ECDSA_MESSAGE, order.text.encode(), order.note, (CheckpointClaim(key.name, order.head, order.previous),))


KINDS: Final[Mapping[SignKind, Kind]] = {
    "certificate": Kind(Operation.CERTIFICATE, _certificate, takes=frozenset({"basis"}), batch=True),
    "crl": Kind(Operation.CRL, _crl, largest=4 * 1024 * 1024),
    "ocsp": Kind(Operation.OCSP, _ocsp, quick=True, batch=True),
    "timestamp": Kind(Operation.TIMESTAMP, _timestamp, quick=True, batch=True),
    "cms": Kind(
        Operation.CMS,
        _cms,
        takes=frozenset({"content_type"}),
        needs=frozenset({"content_type"}),
        quick=True,
        batch=True,
    ),
    "request": Kind(Operation.REQUEST, _request, quick=True),
    "checkpoint": Kind(Operation.CHECKPOINT, _checkpoint, quick=True),
    "raw": Kind(
        Operation.RAW, _raw, takes=frozenset({"algorithm"}), needs=frozenset({"algorithm"}), quick=True, batch=True
    ),
}

_OPTIONAL: Final = tuple(name for name in SignCommand.__struct_fields__ if name not in {"kind", "content"})


def check_command(command: SignCommand) -> None:
    """Raises Problem 422 unless the command has the fields that its kind needs, and no others; 413 if it is too big."""
    kind = KINDS[command.kind]
    if len(command.content) > kind.largest:
        raise Problem(413, "structure-too-large", f"a {command.kind} has at most {kind.largest} bytes")
    for name in _OPTIONAL:
        given = getattr(command, name) is not None
        if given and name not in kind.takes:
            takers = " or ".join(each for each, other in KINDS.items() if name in other.takes)
            raise Problem(422, "invalid-request", f"the field {name} is for kind {takers} alone")
        if not given and name in kind.needs:
            raise Problem(422, "invalid-request", f"the field {name} is needed for kind {command.kind}")


def hexdigest(data: bytes) -> str:
    """SHA-256 as records write it."""
    return hashlib.sha256(data).hexdigest()
