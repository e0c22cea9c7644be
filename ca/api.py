"""What goes over the wire between the CA and its callers. Bytes are base64, digests and serial numbers hexadecimal."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from ca.self_audit_report import LEAST, SHARE, Seed, SelfAuditReport
from cps.dossier import Dossier, Instant

CertificateStatus = Literal["good", "revoked", "held", "expired"]
StatusState = Literal["revoked", "held", "released"]
MOST_CASES = 250
"""Cases in one batch."""
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


class IssueManyRequest(_Model):
    """`POST /v1/certificates:batch`: approved cases, each for itself."""

    dossiers: Annotated[tuple[Dossier, ...], Field(min_length=1, max_length=MOST_CASES)]


class CertificateAnswer(_Model):
    """A certificate (DER) with the chain above it, without the root.

    What was searched for or exported has its `status`; what was exported has no chain.
    """

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
    spki_sha256: str | None = None
    status: CertificateStatus | None = None

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
    """Several certificates. `next` is what to give as `after` for those that follow; null: these are all."""

    certificates: tuple[CertificateAnswer, ...]
    next: str | None = None


class CaseAnswer(_Model):
    """What came of one case of a batch: its certificates, or the problem (RFC 9457) why there are none."""

    certificates: tuple[CertificateAnswer, ...] = ()
    problem: dict[str, Any] | None = None


class IssueManyAnswer(_Model):
    """One answer a case, in their order."""

    cases: tuple[CaseAnswer, ...]


class RevokeRequest(_Model):
    """`POST /v1/revocations`: a signed order, CMS SignedData over RevocationTBS (DER); its reason says what to do."""

    order: Annotated[Bytes, Field(max_length=MAX_ORDER)]


class RevocationAnswer(_Model):
    """How a certificate stands on which there was an order: revoked, held (suspended) or released again.

    `revoked_at` is the date on lists. `crl_number` and `crl_scope` name the first list that shows it, a full one or a
    delta; both are null until it is out, which the statement wants by `due_at`.
    """

    issuer: str
    serial: str
    state: StatusState
    reason: str
    revoked_at: datetime
    invalidity_date: datetime | None
    ordered_by: str
    due_at: datetime | None
    crl_number: int | None = None
    crl_scope: str | None = None
    order: Bytes | None = None


class StatusChangeAnswer(_Model):
    """One change of a certificate's status; `urgency` says how near its deadline is while no list covers it."""

    issuer: str
    serial: str
    epoch: int
    state: StatusState
    reason: str
    at: datetime
    ordered_by: str
    due_at: datetime | None
    published_at: datetime | None
    urgency: Literal["waiting", "near", "overdue"] | None = None


class StatusChangeList(_Model):
    """`GET /v1/revocations`: changes that are not published yet, the most urgent first."""

    changes: tuple[StatusChangeAnswer, ...]


class DenyRequest(_Model):
    """`POST /v1/denylist`: orders of different officers about one key, each CMS SignedData over KeyDenialTBS (DER)."""

    orders: Annotated[tuple[Annotated[Bytes, Field(max_length=MAX_ORDER)], ...], Field(min_length=1, max_length=8)]


class DeniedKeyAnswer(_Model):
    """A key that is never certified again, by the SHA-256 of its SPKI."""

    spki_sha256: str
    reason: str
    listed_at: datetime
    listed_by: str | None


class DenylistAnswer(_Model):
    """`GET /v1/denylist`: denied keys in the order of their digests; the next page is `after` the last of them."""

    keys: tuple[DeniedKeyAnswer, ...]


class CrlAnswer(_Model):
    """A revocation list in force. `scope` is full, delta (over `base_number`) or partition-<n>.

    `waiting` is how many changes of status of its authority it does not have yet; null for a partition.
    """

    issuer: str
    scope: str
    number: int
    base_number: int | None
    entries: int
    this_update: datetime
    next_update: datetime
    sha256: str
    waiting: int | None


class CrlList(_Model):
    """`GET /v1/crls`: the lists in force, by authority, the full one first."""

    crls: tuple[CrlAnswer, ...]


class SelfAuditRequest(_Model):
    """`POST /v1/self-audits`: of what was issued in [`since`, `until`) look at `share` (0 to 1), but at least `least`.

    `seed` draws the sample: who audits the CA from outside gives one, so that the CA cannot choose.
    """

    since: Instant | None = None
    until: Instant | None = None
    share: Annotated[float, Field(ge=0, le=1)] = SHARE
    least: Annotated[int, Field(ge=0, le=1_000_000)] = LEAST
    seed: Seed | None = None


class SelfAuditSummary(_Model):
    """A report on record: its SHA-256, as the CA's journal has it, and how it ended."""

    sha256: str
    until: datetime
    sampled: int
    findings: int
    signed: bool


class SelfAuditAnswer(_Model):
    """A report with its SHA-256, which is over the bytes that `GET /v1/self-audits/{sha256}` gives."""

    sha256: str
    report: SelfAuditReport


class SelfAuditList(_Model):
    """`GET /v1/self-audits`: the latest reports."""

    reports: tuple[SelfAuditSummary, ...]


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

    `revocation` is there if there ever was an order, also for one that was released and is good again; `history` has
    every change. `dossier` is the case as it was judged (`cps.dossier.Dossier`), `cps_digest` the digest of the pack
    that judged it; both are null for a certificate that a ceremony made. `log` maps the CA's journal events to entry
    numbers.
    """

    certificate: CertificateAnswer
    status: Literal["good", "held", "revoked"]
    revocation: RevocationAnswer | None
    history: tuple[StatusChangeAnswer, ...] = ()
    intent: IntentAnswer | None
    dossier: dict[str, Any] | None
    cps_digest: str | None
    log: dict[str, int]
