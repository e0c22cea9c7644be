"""What goes over the wire between the CA and its callers. Bytes are base64, digests and serial numbers hexadecimal."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from cps.dossier import Dossier

MAX_ORDER = 65_536  # bytes; an officer's order with its chain is under 10 kB


def _decode(value: object) -> object:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


Bytes = Annotated[
    bytes, BeforeValidator(_decode), PlainSerializer(lambda raw: base64.b64encode(raw).decode(), when_used="json")
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class IssueRequest(_Model):
    """`POST /v1/certificates`: an approved case."""

    dossier: Dossier


class CertificateAnswer(_Model):
    """A certificate (DER) with the chain above it, without the root."""

    issuer: str
    serial: str
    profile: str
    subject: str
    identity: str | None
    sha256: str
    not_before: datetime
    not_after: datetime
    certificate: Bytes
    chain: tuple[Bytes, ...]
    purpose: str | None = None

    def parsed(self) -> x509.Certificate:
        """The certificate itself."""
        return x509.load_der_x509_certificate(self.certificate)

    def parsed_chain(self) -> tuple[x509.Certificate, ...]:
        """Those above it, nearest first, without the root."""
        return tuple(map(x509.load_der_x509_certificate, self.chain))

    def pem(self) -> bytes:
        """The certificate and the chain above it, as TLS and CMS tools take them."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.parsed(), *self.parsed_chain()))


class CertificateList(_Model):
    """Several certificates."""

    certificates: tuple[CertificateAnswer, ...]


class RevokeRequest(_Model):
    """`POST /v1/revocations`: an officer's order, CMS SignedData over RevocationTBS (DER)."""

    order: Annotated[Bytes, Field(max_length=MAX_ORDER)]


class RevocationAnswer(_Model):
    """A revocation; `crl_number` is null until the CRL that lists it is out."""

    issuer: str
    serial: str
    reason: str
    revoked_at: datetime
    invalidity_date: datetime | None
    ordered_by: str
    crl_number: int | None = None
    order: Bytes | None = None


class IntentAnswer(_Model):
    """What was checked before the certificate was signed: the lints it kept, who approved which step."""

    id: int
    state: Literal["open", "issued", "abandoned"]
    tbs_sha256: str
    lints: tuple[str, ...]
    approvals: tuple[dict[str, str], ...]
    intended_at: datetime
    ended_at: datetime | None


class StoryAnswer(_Model):
    """`GET /v1/certificates/{issuer}/{serial}`: everything about a certificate.

    `dossier` is the case as it was judged (`cps.dossier.Dossier`), `cps_digest` the digest of the pack that judged it;
    both are null for a certificate that a ceremony made. `log` maps the CA's journal events to entry numbers.
    """

    certificate: CertificateAnswer
    status: Literal["good", "revoked"]
    revocation: RevocationAnswer | None
    intent: IntentAnswer | None
    dossier: dict[str, Any] | None
    cps_digest: str | None
    log: dict[str, int]
