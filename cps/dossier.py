"""Everything about one application that can influence a certificate, in the form that travels and is judged.

A `Revision` is what officers approve: its digest is SHA-256 of its canonical JSON, so the file that holds the canonical
form can be checked with `sha256sum`. Evidence is digested beside it, because evidence may arrive after the revision; a
decision signs both digests (`cps.decision`). Revisions and evidence only ever grow in number: an edit makes a new
revision, and every decision over the old digests falls away by construction.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from cps import canonical
from cps.errors import DossierError
from cps.model import ClassRule, MemberClass, Pack, Purpose
from cps.written_host import check_host, check_origin
from cps.written_text import check_text
from pki.extensions import OfficerData, RoleGrant
from runtime.language import Listed, Message, Term

MAX_HOSTS: Final = 16
MAX_CSR: Final = 16_384  # bytes; a PKCS#10 with an RSA-8192 key and every name we allow is under 4 kB

_RULES: Final = ("min_length", "max_length", "pattern", "ge", "le", "error")
"""What of a broken rule is told: the rule itself, or a sentence of a validator, which quotes one character at most."""

_OURS: Final = re.compile(r"(?!.*[0-9]{4})[A-Za-z0-9_.,()\[\]-]{1,60}", re.ASCII)
"""Names of fields as we write them. Whoever made one up, even of a card number, is not shown it again."""


def broken_rules(error: ValidationError, *, below: int = 0) -> Listed:
    """Which fields break which rules, and what the rules want; never what the fields hold.

    `below` is how many steps of the path to each field go without saying.
    """
    faults = error.errors(include_url=False, include_input=False)
    return Listed(tuple(_broken(fault["loc"][below:], fault["type"], fault.get("ctx", {})) for fault in faults), "also")


def _broken(place: Sequence[object], rule: str, context: Mapping[str, object]) -> Message:
    said = Message("{field}: {rule}", field=".".join(map(_named, place)), rule=Term("rule", rule))
    for name in _RULES:
        if name in context:
            wish = Term("wish", name, name.replace("_", " "))
            said = Message("{fault} ({wish}: {wanted})", fault=said, wish=wish, wanted=context[name])
    return said


def _named(part: object) -> str:
    return str(part) if _OURS.fullmatch(str(part)) else "…"


def _b64decode(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time between the years 1 and 9999 of UTC") from None


def _unhex(value: object) -> object:
    return bytes.fromhex(value) if isinstance(value, str) else value


Base64 = Annotated[
    bytes,
    BeforeValidator(_b64decode),
    PlainSerializer(lambda raw: base64.b64encode(raw).decode(), when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Hex32 = Annotated[
    bytes,
    BeforeValidator(_unhex),
    Field(min_length=32, max_length=32),
    PlainSerializer(lambda raw: raw.hex(), when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
]
Hex16 = Annotated[
    bytes,
    BeforeValidator(_unhex),
    Field(min_length=16, max_length=16),
    PlainSerializer(lambda raw: raw.hex(), when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
]
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""An aware time, held in UTC, so that one instant has one canonical text."""
# RFC 5280 appendix A: ub-common-name and ub-organization-name are 64 characters.
Text = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(check_text)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,29}$")]
Bin = Annotated[str, StringConstraints(pattern=r"^[0-9]{6,8}$")]
CompanyId = Annotated[str, StringConstraints(pattern=r"^[0-9]{11}$")]
"""National identifier of a legal person (Iran); its check digit is the RA's to judge."""
Host = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(check_host)]
Origin = Annotated[str, StringConstraints(min_length=1, max_length=267), AfterValidator(check_origin)]


class Frozen(BaseModel):
    """Frozen, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without what was computed of the original: a digest must never outlive what it is of."""
        copied = super().model_copy(update=update, deep=deep)
        for computed in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[computed]
        return copied


class CardholderSubject(Frozen):
    """A cardholder is the commitment to one card (`kwbp.commitment`) and the BIN of its issuer; never a name or PAN."""

    member_class: Literal["cardholder"] = Field(default="cardholder", alias="class")
    commitment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
    bin: Bin


class MerchantSubject(Frozen):
    """A merchant; the settlement account `iban` (`IR`, 24 digits) is bound into the certificate with `iban_salt`.

    `company_id` is the legal national id (11 digits) of the organisation, where it is a registered company.
    """

    member_class: Literal["merchant"] = Field(default="merchant", alias="class")
    merchant_id: Identifier
    name: Annotated[Text, Field(max_length=50)]  # SET merchantData: merName has at most 50 characters
    organisation: Text
    country: int = Field(default=364, ge=1, le=999)
    acquirer_bin: Bin
    online: bool = True
    origin: Origin | None = None
    iban: Annotated[str, StringConstraints(pattern=r"^IR[0-9]{24}$")]
    iban_salt: Hex16
    hosts: Annotated[tuple[Host, ...], Field(max_length=MAX_HOSTS)] = ()
    company_id: CompanyId | None = None


class GatewaySubject(Frozen):
    """A payment gateway; `suites` are the sealing suites its token can open (RFC 4262)."""

    member_class: Literal["gateway"] = Field(default="gateway", alias="class")
    gateway_id: Identifier
    name: Text
    organisation: Text
    acquirer_bin: Bin
    suites: tuple[Literal["oaep-sha1", "oaep-sha256"], ...] = Field(min_length=1)
    hosts: Annotated[tuple[Host, ...], Field(max_length=MAX_HOSTS)] = ()


class Grant(Frozen):
    """A role for a time, for the cases and certificates of the classes in `scope`; None: for whatever it is for."""

    role: str
    scope: tuple[MemberClass, ...] | None = None
    not_before: Instant
    not_after: Instant

    @model_validator(mode="after")
    def _fits_a_certificate(self) -> Self:
        self.certified()
        return self

    def certified(self) -> RoleGrant:
        """As the certificate carries it."""
        return RoleGrant(self.role, self.scope, self.not_before, self.not_after)


class OfficerSubject(Frozen):
    """An officer: who they are, who employs them, and the trusted roles (CPS 5.2.1) asked for.

    `roles` are held in full as long as the certificate lasts, `grants` for a time.
    """

    member_class: Literal["officer"] = Field(default="officer", alias="class")
    person_id: Identifier
    name: Text
    organisation: Text
    roles: tuple[str, ...] = ()
    grants: Annotated[tuple[Grant, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _some_role(self) -> Self:
        if not self.roles and self.grants is None:
            raise ValueError("an officer holds at least one role")
        return self

    def certified(self) -> OfficerData:
        """What the certificate says of the officer."""
        grants = tuple(grant.certified() for grant in self.grants or ())
        return OfficerData(self.person_id, self.organisation, self.roles, grants)


Subject = Annotated[
    CardholderSubject | MerchantSubject | GatewaySubject | OfficerSubject, Field(discriminator="member_class")
]


class Author(Frozen):
    """A person (or `kind:name` of a service) who wrote a revision, and who employs them; empty if nobody is known."""

    person: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    organisation: Annotated[str, StringConstraints(max_length=64)] = ""


class CsrDigest(Frozen):
    """A PKCS#10 request by its digests: SHA-256 of the DER and of the SubjectPublicKeyInfo."""

    purpose: Purpose
    sha256: Hex32
    spki_sha256: Hex32


class CpsPin(Frozen):
    """The exact statement that the revision was made under."""

    id: str
    version: str
    digest: Hex32

    @classmethod
    def of(cls, pack: Pack) -> CpsPin:
        """The pin of a loaded pack."""
        return cls(id=pack.cps.id, version=pack.cps.version, digest=pack.digest)


class Revision(Frozen):
    """What is approved. `replaces`, of a re-key, names the certificates whose keys are replaced by their SHA-256.

    `authors` are all who wrote any revision of the case, the writer of this one last.

    New fields must be optional and default to None, which the canonical form leaves out: digests of old revisions stay.
    """

    application_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    number: int = Field(ge=1)
    authors: tuple[Author, ...] = Field(min_length=1)
    subject: Subject
    csrs: tuple[CsrDigest, ...] = Field(min_length=1)
    signals: tuple[str, ...] = ()
    cps: CpsPin
    replaces: dict[Purpose, Hex32] | None = None

    @property
    def member_class(self) -> MemberClass:
        return self.subject.member_class

    @property
    def author(self) -> Author:
        """Who wrote this revision."""
        return self.authors[-1]

    def canonical(self) -> bytes:
        """The canonical JSON that is digested (UTF-8)."""
        return canonical.canonical_json(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the canonical form."""
        return hashlib.sha256(self.canonical()).digest()


class Evidence(Frozen):
    """A piece of evidence. `body` travels only where a machine verifies it: signed confirmations and attestations."""

    kind: Identifier
    sha256: Hex32
    source: Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(check_text)]
    collected_by: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    collected_at: Instant
    expires_at: Instant | None = None
    body: Base64 | None = None

    @model_validator(mode="after")
    def _body_has_the_digest(self) -> Self:
        if self.body is not None and hashlib.sha256(self.body).digest() != self.sha256:
            raise ValueError("the body is not the one that was digested")
        return self


def evidence_digest(evidence: tuple[Evidence, ...]) -> bytes:
    """SHA-256 (32 bytes) of the canonical JSON of the evidence, bodies by their digests; order does not count."""
    return canonical.digest_of_set(
        item.model_dump(mode="json", exclude={"body"}, exclude_none=True) for item in evidence
    )


def rule_of(revision: Revision, pack: Pack) -> ClassRule:
    """What the pack says of the class of a case; of a re-key, what it says of re-keys."""
    member = pack.classes[revision.member_class]
    return member if revision.replaces is None else member.for_rekey


class Dossier(Frozen):
    """A case: the revision, its PKCS#10 requests (DER), the evidence, and all decisions (CMS SignedData, DER)."""

    revision: Revision
    csrs: dict[Purpose, Annotated[Base64, Field(max_length=MAX_CSR)]]
    evidence: tuple[Evidence, ...] = ()
    decisions: tuple[Base64, ...] = ()

    @cached_property
    def evidence_digest(self) -> bytes:
        """SHA-256 (32 bytes) of the evidence on file, as decisions cite it."""
        return evidence_digest(self.evidence)

    def to_json(self) -> bytes:
        """The dossier as JSON (UTF-8); bytes are base64, digests hex, times RFC 3339."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> Dossier:
        """Read the JSON form; raises DossierError naming fields and broken rules, never values."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise DossierError("not a dossier: {faults}", faults=broken_rules(error)) from None

    def with_decision(self, signed: bytes) -> Dossier:
        """The dossier with one more decision (CMS SignedData, DER)."""
        return self.model_copy(update={"decisions": (*self.decisions, signed)})
