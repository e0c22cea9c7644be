"""Reading what an applicant submits: subject, PKCS#10 requests, national code.

Nothing is kept of a submission that cannot be read: the application stays as it was, and the refusal names the field or
the rule, never the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import TypeAdapter, ValidationError

from cps.application import rule_of_csr_error
from cps.dossier import CardholderSubject, CsrDigest, GatewaySubject, MerchantSubject, Subject, broken_rules
from cps.model import MemberClass, Pack, Purpose
from cps.rules import Rule
from pki.csr import parse_csr
from pki.der import sha256
from pki.errors import CsrError
from pki.keys import spki_sha256
from ra import text_input
from ra.errors import InvalidSubmissionError
from ra.request_contents import check_contents, names_in
from runtime.language import Term

_SUBJECT: Final[TypeAdapter[Any]] = TypeAdapter(Subject)
_SALT: Final = 16  # bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """What an applicant wants certified: `subject` as JSON, requests in DER or PEM, and who the person is."""

    subject: Mapping[str, Any]
    csrs: Mapping[Purpose, bytes]
    national_code: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A submission that was understood; requests in DER. `named` are the texts in the subjects of the requests."""

    subject: Subject
    csrs: Mapping[Purpose, bytes]
    digests: tuple[CsrDigest, ...]
    national_code: str | None
    named: frozenset[str] = frozenset()

    @property
    def subject_id(self) -> str:
        """What names the subject among all of its class: commitment, merchant id, gateway id or person id."""
        return subject_id(self.subject)

    @property
    def organisation(self) -> str | None:
        """The subject's organisation; a card has none."""
        return None if isinstance(self.subject, CardholderSubject) else self.subject.organisation


def subject_id(subject: Subject) -> str:
    """What names a subject among all of its class."""
    if isinstance(subject, CardholderSubject):
        return subject.commitment
    if isinstance(subject, MerchantSubject):
        return subject.merchant_id
    return subject.gateway_id if isinstance(subject, GatewaySubject) else subject.person_id


def read_subject(
    written: Mapping[str, Any],
    code: str | None,
    member_class: MemberClass,
    pack: Pack,
    *,
    rng: Callable[[int], bytes],
) -> tuple[Subject, str | None]:
    """The subject, as JSON has it, and the national code of the applicant, as they are kept; raises as `understand`."""
    fields = text_input.folded(member_class, written)
    if fields.setdefault("class", member_class) != member_class:
        raise InvalidSubmissionError(
            "the application is one of a {member_class}", clause="CPS 4.1.2", member_class=Term("class", member_class)
        )
    if member_class == "merchant":
        fields.setdefault("iban_salt", rng(_SALT).hex())
    try:
        subject: Subject = _SUBJECT.validate_python(fields)
    except ValidationError as error:
        raise InvalidSubmissionError(
            "the subject is not as it should be: {faults}",
            clause=pack.clause(Rule.NAME_FORM),
            faults=broken_rules(error, below=1),
        ) from None
    for field in ("iban", "company_id"):
        number = getattr(subject, field, None)
        if number is not None:
            text_input.checked(field, number, pack)
    national_code = None if code is None else text_input.checked("national_code", code, pack)
    return subject, national_code


def understand(
    submission: Submission, member_class: MemberClass, pack: Pack, *, rng: Callable[[int], bytes]
) -> Content:
    """Read a submission for an application of `member_class`.

    A merchant's account salt is made here (`rng(n)` gives n random bytes). Raises InvalidSubmissionError for fields
    that are not as the class wants them, and for requests without proof of possession or with a weak key (CPS 3.2.1,
    6.1).
    """
    subject, national_code = read_subject(submission.subject, submission.national_code, member_class, pack, rng=rng)
    csrs: dict[Purpose, bytes] = {}
    digests = []
    named: frozenset[str] = frozenset()
    for purpose, encoded in submission.csrs.items():
        try:
            request = parse_csr(encoded)
        except CsrError as error:
            rule = pack.key_rules[pack.classes[member_class].key.inherit]
            broken = rule_of_csr_error(error, encoded, rule)
            raise InvalidSubmissionError(
                "the {purpose} request: {fault}",
                clause=pack.clause(broken),
                purpose=Term("purpose", purpose),
                fault=Term("reason", error.reason, error.detail),
            ) from None
        check_contents(request, subject, purpose, pack)
        named |= names_in(request)
        csrs[purpose] = request.public_bytes(Encoding.DER)
        digests.append(
            CsrDigest(purpose=purpose, sha256=sha256(csrs[purpose]), spki_sha256=spki_sha256(request.public_key()))
        )
    if not digests:
        raise InvalidSubmissionError("a submission carries at least one PKCS#10 request", clause="CPS 4.1.2")
    return Content(subject, csrs, tuple(digests), national_code, named)
