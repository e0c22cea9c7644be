"""The JSON of stories: how a case and its certificates came to be, as `GET …/story` answers it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from ca.client import StoryAnswer
from cps.dossier import Base64, Hex32, Revision
from ra.wire import (
    ApplicationSummary,
    CertificateView,
    DecisionView,
    EvidenceView,
    FindingView,
    TransitionView,
    Wire,
)


class RuleView(Wire):
    """A step that the CPS asked of this case."""

    step: str
    by: tuple[str, ...]
    count: int
    excluded: tuple[str, ...]


class StatementView(DecisionView):
    """A decision in a story, with its signature judged now and its CMS, so that anybody can judge it again."""

    signature_verifies: bool
    signer_certificate_sha256: Hex32
    cms: Base64


class PolicyView(Wire):
    """The statement that a case was decided by."""

    id: str
    version: str
    digest: Hex32
    uri: str
    section: str


class AcceptanceView(Wire):
    """That the certificates of a case were accepted; `signed` is the statement, if it was not the word of a caller."""

    by: str
    at: datetime
    signed: Base64 | None


class StoryView(Wire):
    """The story of a case and of its certificates: by which rules, on which evidence, decided by whom; the CA's record.

    Asked by a serial number, `certificate` is that certificate and `ca` what the CA has of it; `serial` and `issuer`
    name it. `certificates` are all of the case, `records` what the CA has of each, by serial number. Of a certificate
    that no application asked for (a ceremony made it) only `ca` is there. `replaced` is the chain of cases whose keys
    were replaced, the newest first, `replaced_by` are those that replace this one's.
    """

    serial: str | None = None
    issuer: str | None = None
    certificate: CertificateView | None = None
    application: ApplicationSummary | None = None
    trouble: str | None = None
    revision: Revision | None = None
    revision_digest: Hex32 | None = None
    policy: PolicyView | None = None
    risk: int | None = None
    rules: tuple[RuleView, ...] = ()
    findings: tuple[FindingView, ...] = ()
    evidence: tuple[EvidenceView, ...] = ()
    decisions: tuple[StatementView, ...] = ()
    transitions: tuple[TransitionView, ...] = ()
    certificates: tuple[CertificateView, ...] = ()
    records: dict[str, StoryAnswer] = Field(default_factory=dict)
    acceptance: AcceptanceView | None = None
    replaced: tuple[ApplicationSummary, ...] = ()
    replaced_by: tuple[ApplicationSummary, ...] = ()
    ca: StoryAnswer | None = None
