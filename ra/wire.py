"""The JSON that goes over the wire, for the application and the client alike.

Bytes are base64 (standard alphabet), digests and serial numbers lower-case hexadecimal, times RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from cps.dossier import Base64, Dossier, Hex32, Revision
from cps.model import MemberClass, Purpose
from ra import text_input
from ra.states import State
from runtime.language import Language

Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Of an application; the database counts no further."""
Text = Annotated[str, StringConstraints(max_length=1000)]  # how long texts really are is for who reads them
Moment = Annotated[AwareDatetime, BeforeValidator(text_input.moment)]


class Wire(BaseModel):
    """Closed to unknown fields; says which field is wrong, never what it held."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    def to_json(self) -> bytes:
        """The JSON text (UTF-8)."""
        return self.model_dump_json(by_alias=True).encode()


# what callers send


class OpenApplication(Wire):
    """Open an application of a class. `contact`: an e-mail address that is told what becomes of it, in `language`.

    `replaces` makes it a re-key: the certified application whose keys are replaced, and whose subject is taken over.
    """

    member_class: MemberClass = Field(alias="class")
    contact: str | None = Field(default=None, max_length=254)
    language: Language | None = None
    replaces: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")


class Submit(Wire):
    """Submit or amend: the subject as JSON (`cps.dossier`), a PKCS#10 request (DER or PEM) for each purpose.

    A re-key has the subject of the case that it replaces, and none here.

    `version` is the version that the caller read; None to take whatever is there.
    """

    subject: dict[str, Any] = Field(default_factory=dict)
    csrs: dict[Purpose, Base64]
    national_code: str | None = Field(default=None, max_length=10)
    version: Version | None = None


class AddEvidence(Wire):
    """A piece of evidence: its kind in the CPS, its body, and where it came from; `version` as in `Submit`."""

    kind: Text
    body: Base64
    source: Text
    expires_at: Moment | None = None
    version: Version | None = None


class PostDecision(Wire):
    """An officer's decision: CMS SignedData over DecisionTBS, DER."""

    decision: Base64


class Withdraw(Wire):
    """Withdraw an application; `version` as in `Submit`."""

    reason: str = Field(default="", max_length=500)
    version: Version | None = None


class Reason(Wire):
    """Why a case is held, released or returned; `version` as in `Submit`."""

    reason: str = Field(min_length=1, max_length=500)
    version: Version | None = None


class Accept(Wire):
    """Accept the certificates of a case: CMS SignedData over AcceptanceTBS, DER, or nothing from whoever opened it."""

    acceptance: Base64 | None = None


class Revoke(Wire):
    """A signed order to revoke, suspend or release: CMS SignedData over RevocationTBS, DER."""

    statement: Base64


# what is answered


class FindingView(Wire):
    """A rule that is broken; `decision` is the index of the decision that breaks it."""

    code: str
    clause: str
    message: str
    decision: int | None = None


class NextStepView(Wire):
    """What a case waits for: the step that is due, or `evidence` (`ra.waiting`)."""

    name: str
    by: tuple[str, ...]
    missing: int


class EvidenceView(Wire):
    """A piece of evidence on file."""

    kind: str
    sha256: Hex32
    source: str
    collected_by: str
    collected_at: datetime
    expires_at: datetime | None


class DecisionView(Wire):
    """A decision on file; `counts`: whether it counts now (in a story: whether it was over what was certified)."""

    step: str
    choice: str
    person: str
    organisation: str
    roles: tuple[str, ...]
    reason: str
    code: str | None = Field(default=None, description="of a rejection: its reason, by the list of the statement")
    signed_at: datetime
    expires: datetime
    revision_digest: Hex32
    evidence_digest: Hex32
    sha256: Hex32
    received_from: str
    received_at: datetime
    counts: bool


class RevocationView(Wire):
    """That a certificate was revoked, and by whose order."""

    reason: str
    ordered_by: str
    at: datetime
    statement: Base64


class CertificateView(Wire):
    """An issued certificate (DER) with the CA certificates above it, root excluded."""

    purpose: Purpose
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    certificate: Base64
    chain: tuple[Base64, ...]
    revocation: RevocationView | None = None


class NonceView(Wire):
    """What a wallet needs to commit to its card (`kwbp.commitment`): the CA's nonce and key identifier."""

    nonce_cca: Base64
    ca_key_id: Base64


class ApplicationSummary(Wire):
    """An application in a list."""

    id: str
    member_class: MemberClass = Field(alias="class")
    state: State
    version: int
    subject_id: str | None
    organisation: str | None
    opened_by: str
    opened_at: datetime
    due_at: datetime
    decide_by: datetime | None
    accept_by: datetime | None
    held_since: datetime | None
    replaces: str | None
    next_step: NextStepView | None


class ApplicationView(ApplicationSummary):
    """An application with everything on its file."""

    revision: Revision | None
    revision_digest: Hex32 | None
    evidence_digest: Hex32
    risk: int | None
    findings: tuple[FindingView, ...]
    evidence: tuple[EvidenceView, ...]
    decisions: tuple[DecisionView, ...]
    certificates: tuple[CertificateView, ...]
    nonce: NonceView | None
    national_code: str | None
    trouble: str | None


class OpenedView(ApplicationView):
    """A draft as whoever opened it is shown it. `secret`: for openers without a client certificate, this once."""

    secret: str | None = Field(default=None, repr=False)


class DossierView(Wire):
    """The case as an officer judges and signs it."""

    dossier: Dossier
    revision_digest: Hex32
    evidence_digest: Hex32
    next_step: NextStepView | None
    findings: tuple[FindingView, ...]


class TransitionView(Wire):
    """One step of an application's life; `journal_index` is its entry in the RA's audit journal."""

    action: str
    before: State | None
    after: State
    actor: str
    at: datetime
    detail: dict[str, str]
    journal_index: int | None


class RevokedView(Wire):
    """An order that the CA took: how the certificate stands, and the CPS's deadline for the list that shows it."""

    issuer: str
    serial: str
    state: Literal["revoked", "held", "released"]
    reason: str
    ordered_by: str
    publish_by: datetime
    crl_number: int | None


class PackView(Wire):
    """The statement in force."""

    id: str
    version: str
    digest: Hex32
    effective: datetime
    uri: str


# officers


class GrantView(Wire):
    """A role of a credential, in effect now or not; `scope` None: whatever the role is for."""

    role: str
    scope: tuple[str, ...] | None
    not_before: datetime
    not_after: datetime
    in_effect: bool


class CredentialView(Wire):
    """A certificate of an officer (DER); `state` is `counts`, or why it does not (`pki.errors.PathError`)."""

    issuer: str
    serial: str
    spki_sha256: Hex32
    application_id: str | None
    not_before: datetime
    not_after: datetime
    state: str
    grants: tuple[GrantView, ...]
    certificate: Base64


class OfficerView(Wire):
    """A person with their account, which is open as long as a credential counts, and the roles they hold now."""

    person_id: str
    name: str
    organisation: str
    account: str
    account_open: bool
    known_since: datetime
    identified: bool
    roles: tuple[str, ...]
    credentials: tuple[CredentialView, ...]


class PostReview(Wire):
    """An officer's review: CMS SignedData over ReviewTBS, DER."""

    review: Base64


class ReviewView(Wire):
    """An order that one officer gave alone (`order`: CMS, DER), and the review of it, once there is one."""

    order_sha256: str
    issuer: str | None
    serial: str
    reason: str
    ordered_by: str
    order: Base64
    due_at: datetime
    judgement: str | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    review: Base64 | None
