"""A policy pack as frozen models that refuse unknown keys, contradictions and dangling names.

`load_pack` is the only way in. The pack's digest is taken over the canonical form of the document itself, not of these
models, so that it does not move when the models gain a field.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from cps import canonical, strict_yaml
from cps.check_model import UNANSWERED, CheckKind, CheckRule, require_consistent
from cps.condition import Condition
from cps.errors import PackError
from cps.evidence_files import EvidenceFiles
from cps.rejection import RejectionCode, RejectionReason
from cps.rules import Rule

SYSTEM: Final = "system"
AUTHOR: Final = "author"
SAME_ORG: Final = "same_org"

MemberClass = Literal["cardholder", "merchant", "gateway", "officer"]
Purpose = Literal["signing", "encryption", "tls"]
EvidenceForm = Literal["document", "card_confirmation", "key_attestation", "check", "possession"]
RejectedKey = Literal["roca", "fermat", "denylisted", "reused"]
RevocationReason = Literal[
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
]
IssuerName = Literal["cardholder-ca", "merchant-ca", "gateway-ca", "operations-ca"]
"""Who issues members' certificates, by the names of their roles (`pki.roles`)."""
CommonName = Literal["{commitment}", "{name}", "{merchant_id}", "{gateway_id}", "{person_id}"]
OrderReason = RevocationReason | Literal["certificateHold", "removeFromCRL"]  # RFC 5280 5.3.1: suspend, release
HOLD: Final = "certificateHold"
RELEASE: Final = "removeFromCRL"
ORDER_REASONS: Final[tuple[OrderReason, ...]] = (*get_args(RevocationReason), HOLD, RELEASE)


_COMMON_NAMES: Final[dict[MemberClass, frozenset[CommonName]]] = {
    "cardholder": frozenset({"{commitment}"}),
    "merchant": frozenset({"{name}", "{merchant_id}"}),
    "gateway": frozenset({"{name}", "{gateway_id}"}),
    "officer": frozenset({"{name}", "{person_id}"}),
}
"""What the subjects of each class have that can be a common name."""


def _condition(value: object) -> object:
    return Condition.parse(value) if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Grandfather(_Model):
    """Cases that were made under an earlier version may be finished under it until this date."""

    grandfather_until: AwareDatetime


class Header(_Model):
    """Which statement this is; `uri` goes into the certificates as the CPS pointer (RFC 5280 4.2.1.4).

    `on_supersede` says what becomes of cases that are open under an earlier version when this one comes into force.
    """

    id: str
    version: Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}$")]
    effective: AwareDatetime
    uri: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]{0,30}:[!-~]{1,200}$")]
    on_supersede: Literal["reevaluate"] | Grandfather

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, which have an order."""
        return tuple(map(int, self.version.split(".")))

    @property
    def grandfather_until(self) -> datetime | None:
        """Until when cases under an earlier version may be finished under it; None: not at all."""
        return self.on_supersede.grandfather_until if isinstance(self.on_supersede, Grandfather) else None

    @model_validator(mode="after")
    def _times(self) -> Self:
        if self.effective.microsecond:
            raise ValueError("effective is a whole second")
        if self.grandfather_until is not None and self.grandfather_until <= self.effective:
            raise ValueError("grandfather_until is later than effective")
        return self


class Signers(_Model):
    """URIs (subjectAltName) of the service certificates whose signatures count; `{bin}` stands for the card's BIN."""

    system_step: str
    key_attestation: str
    card_confirmation: str


class RsaRule(_Model):
    """RSA keys: smallest modulus in bits, allowed public exponents."""

    min: int
    e: tuple[int, ...]


class KeyAlternative(_Model):
    """One kind of key that a key rule allows: RSA or named curves."""

    rsa: RsaRule | None = None
    ec: tuple[Literal["P-256", "P-384"], ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.rsa is None) == (not self.ec):
            raise ValueError("a key alternative is either rsa or ec")
        return self


class KeyRule(_Model):
    """Which keys may be certified, and which known weaknesses are looked for."""

    any_of: tuple[KeyAlternative, ...] = Field(min_length=1)
    reject: tuple[RejectedKey, ...]


class Risk(_Model):
    """The risk of a case: a base plus the weight of each observation made at screening."""

    base: int = Field(ge=0)
    signals: dict[str, Annotated[int, Field(ge=0)]]


class Clocks(_Model):
    """`skew`: how far two honest clocks may differ. `retention_years`: how long what was decided upon is kept.

    `revoke_publish`: within what time of being recorded every change of status is on a list that is published.
    """

    skew: timedelta
    retention_years: int = Field(ge=1)
    warn_at: tuple[float, ...]
    revoke_publish: Annotated[timedelta, Field(gt=timedelta(0))]


class Csrs(_Model):
    """The purposes for which the class certifies keys."""

    required: tuple[Purpose, ...] = Field(min_length=1)
    optional: tuple[Purpose, ...] = ()

    @property
    def all(self) -> tuple[Purpose, ...]:
        return self.required + self.optional


class SubjectRule(_Model):
    """`cn` names the subject field that becomes the common name; `forbid` what no subject field may hold."""

    cn: CommonName
    forbid: tuple[Literal["pan", "email"], ...] = ()

    def common_name(self, subject: object) -> str:
        """What the template yields for a subject of the class (`cps.dossier.Subject`)."""
        return str(getattr(subject, self.cn.strip("{}")))


class Validity(_Model):
    """How long a certificate of the class may be valid."""

    max: timedelta
    not_beyond: Literal["card_expiry"] | None = None


class EvidenceRule(_Model):
    """A kind of evidence the class needs; a signed `form` is verified, a document is vouched for by who decides.

    A `check` is the RA's signed word of what a register answered (`cps.check_statement`). A document of the kind
    `instead` stands in for it in cases that carry the signal that the register stayed silent, and in no others.
    """

    kind: str
    max_age: timedelta
    form: EvidenceForm = "document"
    instead: str | None = None

    @model_validator(mode="after")
    def _only_a_register_is_stood_in_for(self) -> Self:
        if self.instead is not None and self.form != "check":
            raise ValueError("instead is for evidence of the form check")
        return self


class Step(_Model):
    """A step of deciding: `count` different persons holding one of the roles `by`, none of them excluded by `not`."""

    name: str
    by: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = Field(min_length=1)
    count: int = Field(default=1, ge=1)
    excluded: tuple[str, ...] = Field(default=(), alias="not")
    distinct: Literal["person"] = "person"
    expires: timedelta | None = None
    when: Annotated[Condition | None, BeforeValidator(_condition)] = None

    def applies(self, *, risk: int) -> bool:
        return self.when is None or self.when.holds(risk=risk)

    @property
    def is_system(self) -> bool:
        """Whether the RA itself decides this step, with its own key."""
        return self.by == (SYSTEM,)


class ServiceLevel(_Model):
    """`decide`: when a case should be decided; `request_expires`: when an undecided one lapses."""

    decide: timedelta
    request_expires: timedelta


class ClassKey(_Model):
    """The key rule of a class; with `attested_in_token` the required keys must be proven to live in a token."""

    inherit: str = "strong"
    attested_in_token: bool = False


class RekeyRule(_Model):
    """How a member of the class gets a certificate for its next key: evidence and steps (RFC 3647 4.7).

    A certificate is replaced by them until `max_chain_age` after registers were last asked about its holder.
    """

    section: str
    max_chain_age: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=825))]
    evidence: tuple[EvidenceRule, ...] = Field(min_length=1)
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _the_old_key_is_proven(self) -> Self:
        if not any(rule.form == "possession" for rule in self.evidence):
            raise ValueError("rekey needs evidence of the form possession")
        return self


class ClassRule(_Model):
    """Everything the statement says about one class of members; `issuer` names who issues it for each purpose."""

    section: str
    issuer: dict[Purpose, IssuerName]
    key: ClassKey = ClassKey()
    csrs: Csrs
    subject: SubjectRule
    validity: Validity
    evidence: tuple[EvidenceRule, ...] = ()
    steps: tuple[Step, ...] = Field(min_length=1)
    rekey: RekeyRule | None = None
    sla: ServiceLevel

    @cached_property
    def for_rekey(self) -> ClassRule:
        """The rules of the class for a re-key; those of any other case if the class knows none."""
        if self.rekey is None:
            return self
        reduced = {"section": self.rekey.section, "evidence": self.rekey.evidence, "steps": self.rekey.steps}
        return self.model_copy(update={**reduced, "rekey": None})

    def evidence_of(self, form: EvidenceForm) -> EvidenceRule | None:
        """The rule of the evidence that has this form, if the class asks for any."""
        return next((rule for rule in self.evidence if rule.form == form), None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for rule in (self, self.for_rekey):
            _check_class(rule)
        return self


class RevocationRule(_Model):
    """Who orders a revocation, suspension or release for one reason, and how fast it must be published.

    Beside the persons of the one step, `by_holder` lets whoever signs with the very key, `by_issuer_bank` the bank of a
    cardholder order it, each alone; `by_system` the RA's own key, for certificates that were not accepted in time
    (`Acceptance`). `of` says whose certificates the reason fits.
    """

    section: str
    deadline: timedelta
    steps: tuple[Step, ...] = Field(min_length=1, max_length=1)
    of: Literal["any", "member", "authority"] = "any"
    by_holder: bool = False
    by_issuer_bank: bool = False
    by_system: bool = False
    denylist_key: bool = False


class SuspensionRule(_Model):
    """How long a certificate may be suspended, and what becomes of it then: revoked for `reason`, or a warning."""

    section: str
    longest: timedelta
    at_end: Literal["revoke", "warn"]
    reason: RevocationReason


class Acceptance(_Model):
    """Within what time of its issuance a certificate is accepted, and for what reason it is revoked if it is not.

    The RA's own order counts for `order_within` after that time and then no more: it can end no certificate in use.
    """

    section: str
    within: timedelta
    order_within: timedelta
    reason: RevocationReason


class OneTimeCodeRule(_Model):
    """Codes by which an applicant's machine hands in its request (RFC 7030): given out once, good for one request.

    A code is good for `lifetime`, and asks how its request stands for `collect` after it was handed in. Once the
    certificate was given out it gives it out again, because answers get lost, for `again` and no longer. After `tries`
    wrong codes the right one is worthless, too.
    """

    section: str
    lifetime: timedelta
    collect: timedelta
    again: timedelta
    tries: int = Field(ge=1)


class DenylistRule(_Model):
    """Who puts a key on the denylist that is not the key of a compromised certificate of ours."""

    section: str
    steps: tuple[Step, ...] = Field(min_length=1, max_length=1)


class ReviewRule(_Model):
    """Who looks again at what one officer ordered alone, and within what time of the order."""

    section: str
    within: timedelta
    steps: tuple[Step, ...] = Field(min_length=1, max_length=1)


class PublicationRule(_Model):
    """Who publishes the next version of the statement: one person alone never does."""

    section: str
    steps: tuple[Step, ...] = Field(min_length=1, max_length=1)

    @model_validator(mode="after")
    def _several_persons(self) -> Self:
        if self.steps[0].count < 2:
            raise ValueError("a version is published by two persons at least")
        return self


class GrantRule(_Model):
    """How long a role may be granted for a time: `temporary` in full, `scoped` for some classes of members only.

    On cases of the classes `never_for` no such role counts: who stands in for another makes nobody else an officer.
    """

    section: str
    temporary: timedelta
    scoped: timedelta
    never_for: tuple[MemberClass, ...]


class RuleText(_Model):
    """Section of RFC 3647 and the sentence of a rule."""

    section: str
    text: str


class Pack(_Model):
    """A whole policy pack."""

    cps: Header
    roles: tuple[str, ...]
    exclusive: tuple[frozenset[str], ...]
    grants: GrantRule
    signers: Signers
    key_rules: dict[str, KeyRule]
    risk: Risk
    checks: dict[CheckKind, CheckRule]
    clocks: Clocks
    classes: dict[MemberClass, ClassRule]
    revocation: dict[OrderReason, RevocationRule]
    suspension: SuspensionRule
    acceptance: Acceptance
    one_time_code: OneTimeCodeRule
    denylist: DenylistRule
    evidence_files: EvidenceFiles
    review: ReviewRule
    publication: PublicationRule
    rejections: Annotated[dict[RejectionCode, RejectionReason], Field(min_length=1)]
    rules: dict[Rule, RuleText]
    procedural: dict[str, str]
    digest: bytes

    @model_validator(mode="after")
    def _no_dangling_names(self) -> Self:
        if set(self.classes) != set(get_args(MemberClass)):
            raise ValueError("a pack speaks of every class of members")
        roles = set(self.roles)
        if SYSTEM in roles:
            raise ValueError(f"{SYSTEM} is no role of a person")
        for group in self.exclusive:
            _subset(group, roles, "exclusive")
        for name, member in self.classes.items():
            _subset({member.key.inherit}, set(self.key_rules), f"classes.{name}.key.inherit")
            if member.subject.cn not in _COMMON_NAMES[name]:
                raise ValueError(f"classes.{name}.subject.cn is {member.subject.cn}, which its subjects do not have")
            if set(member.issuer) != set(member.csrs.all):
                raise ValueError(f"classes.{name}.issuer names who issues each certificate that the class has")
            for rule in (member, member.for_rekey):
                for step in rule.steps:
                    _subset(step.by, roles | {SYSTEM}, f"classes.{name}.steps.{step.name}.by")
                self._require_checks(name, rule)
        for code, rejection in self.rejections.items():
            _subset(rejection.classes, set(self.classes), f"rejections.{code}.classes")
        for name in self.classes:
            if not any(name in each.classes for each in self.rejections.values()):
                raise ValueError(f"rejections has no reason for which a case of the class {name} is rejected")
        require_consistent(self.checks, set(self.classes), set(self.risk.signals))
        for reason, order in self.revocation.items():
            _check_only_step(order.steps[0], roles, f"revocation.{reason}")
        _check_only_step(self.denylist.steps[0], roles, "denylist")
        _check_only_step(self.publication.steps[0], roles, "publication", lapses=True)
        _check_only_step(self.review.steps[0], roles, "review")
        if self.review.steps[0].count != 1:
            raise ValueError("review.steps asks for one person: each review is judged by itself")
        _subset({self.suspension.reason}, set(self.revocation), "suspension.reason")
        _subset({self.acceptance.reason}, set(self.revocation), "acceptance.reason")
        if not self.revocation[self.acceptance.reason].by_system:
            raise ValueError("acceptance.reason names a revocation that the system may not order")
        if (HOLD in self.revocation) != (RELEASE in self.revocation):
            raise ValueError("a pack that lets certificates be suspended lets them be released")
        missing = set(Rule) - set(self.rules)
        if missing:
            raise ValueError(f"no text for the rules {sorted(missing)}")
        return self

    def _require_checks(self, name: MemberClass, member: ClassRule) -> None:
        """Evidence of the form check comes of a check that the class has."""
        for rule in member.evidence:
            if rule.form == "check" and self.check_behind(name, rule.kind) is None:
                raise ValueError(f"classes.{name}.evidence.{rule.kind} comes of no check of the class")

    def check_behind(self, member_class: MemberClass, evidence: str) -> CheckKind | None:
        """The check of the class that the RA makes and that gives this kind of evidence; None if there is none."""
        return next(
            (
                kind
                for kind, check in self.checks.items()
                if check.evidence == evidence and member_class in check.classes and check.way != "evidence"
            ),
            None,
        )

    def silence_of(self, member_class: MemberClass, evidence: str) -> str:
        """The signal of a case whose register for this evidence (of the form check) did not answer."""
        return UNANSWERED.format(kind=self.check_behind(member_class, evidence))

    def publish_by(self, reason: OrderReason, ordered_at: datetime, recorded_at: datetime) -> datetime:
        """By when a list shows a change of status (CPS 4.9.5, 4.9.8).

        As soon as the reason asks for after the order, and as every change is after it was recorded.
        """
        return min(ordered_at + self.revocation[reason].deadline, recorded_at + self.clocks.revoke_publish)

    def clause(self, rule: Rule) -> str:
        """The clause of a rule as refusals name it, for example `CPS 5.2.4`."""
        return f"CPS {self.rules[rule].section}"

    def risk_of(self, signals: tuple[str, ...]) -> int:
        """The risk of a case with these observations; one that the pack does not know has no weight of its own."""
        return self.risk.base + sum(self.risk.signals.get(signal, 0) for signal in signals)

    def exclusive_roles(self, held: frozenset[str]) -> frozenset[str]:
        """Those of the roles `held` that no person may hold together; empty if all may."""
        return frozenset().union(*(group & held for group in self.exclusive if len(group & held) > 1))


def _check_class(member: ClassRule) -> None:
    _check_steps(member.steps)
    kinds = [rule.kind for rule in member.evidence] + [rule.instead for rule in member.evidence if rule.instead]
    if len(set(kinds)) != len(kinds):
        raise ValueError("a kind of evidence is listed twice")
    if member.key.attested_in_token and member.evidence_of("key_attestation") is None:
        raise ValueError("attested_in_token needs evidence of the form key_attestation")
    if member.validity.not_beyond is not None and member.evidence_of("card_confirmation") is None:
        raise ValueError("not_beyond card_expiry needs evidence of the form card_confirmation")


def _check_steps(steps: tuple[Step, ...]) -> None:
    earlier = {AUTHOR, SAME_ORG}
    for step in steps:
        if step.name in earlier:
            raise ValueError(f"the step name {step.name} is taken")
        _subset(step.excluded, earlier, f"steps.{step.name}.not")
        if SYSTEM in step.by and (not step.is_system or step.count != 1):
            raise ValueError(f"the step {step.name} is decided once by the system, or by persons")
        earlier.add(step.name)


def _check_only_step(step: Step, roles: set[str], where: str, *, lapses: bool = False) -> None:
    """The one step of what is no case: nothing is stated of it that nobody would keep."""
    _subset(step.by, roles, f"{where}.by")
    if step.excluded or step.when is not None or (step.expires is not None and not lapses):
        raise ValueError(f"{where}.steps states not, when or expires, which count in cases alone")


def _subset(names: tuple[str, ...] | frozenset[str] | set[str], known: set[str], where: str) -> None:
    unknown = set(names) - known
    if unknown:
        raise ValueError(f"{where} names {sorted(unknown)}, which the pack does not define")


def load_pack(text: str | bytes) -> Pack:
    """Load a policy pack from its YAML text (UTF-8).

    `Pack.digest` is SHA-256 (32 bytes) of the document's canonical form (`cps.canonical`).
    Raises PackError naming the key and the rule that it breaks.
    """
    try:
        document = strict_yaml.load(text)
    except ValueError as error:
        raise PackError(f"the pack is {error}") from None
    if not isinstance(document, dict) or "digest" in document:
        raise PackError("a pack is a mapping, and its digest is computed, never given")
    try:
        return Pack.model_validate({**document, "digest": canonical.digest(document)})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise PackError(f"the pack breaks its schema: {faults}") from None
