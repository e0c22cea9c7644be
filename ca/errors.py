"""What can go wrong in the certificate authority.

    CaError
    ├── ProfileError               a profile file is not as expected
    ├── CeremonyError
    │   ├── PlanError              the ceremony's inputs are refused; nothing was touched
    │   ├── KeysExistError         keys with the planned names are in the tokens, and no journal tells of them
    │   └── CeremonyAbortedError   a run stopped half-way; its journal says where, and the keys it made are listed
    ├── RequestError               the application cannot be turned into a certificate of this profile
    ├── NotApprovedError           decide() does not approve, now and here
    ├── KeyRefusedError            weak, denylisted, or certified already under another name or for another use
    ├── LintError                  the certificate that would be issued breaks a blocking rule
    ├── AlreadyRedeemedError       a one-shot issuance token was used twice
    ├── SigningError
    │   ├── SigningRefusedError    the HSM service will not sign this, ever
    │   ├── TokenUnavailableError  the HSM service cannot sign now; the intent stays open
    │   └── CompareError           what came back from the token is not what was linted
    ├── UnknownCertificateError    no such issuer and serial
    ├── NotOnRecordError           no such authority, list or report
    ├── RevocationRefusedError     decide_revocation() does not approve, or the certificate is revoked already
    ├── StoreError                 the database does not fit the published hierarchy
    │   └── IntentEndedError       an intent has ended, or another replica works on it: what one did in vain is dropped
    ├── InProgressError            another replica issues this very certificate now: ask again
    ├── StoreUnavailableError      the database cannot be reached, or has no room: nothing was done
    ├── ClockError                 the clock says less than it did: nothing is issued
    ├── RandomnessError            the random number generator repeats itself: nothing is issued
    ├── StatusError                certificate status cannot be had, or is not to be trusted: fail closed
    └── SelfAuditError             the signature of a self-audit's report does not hold

Each error carries a machine-readable `reason` and, where a rule refused, the `clause` (RFC or CPS) it stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from runtime.language import Listed, Message, Text, ToldError


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that refused: its code, the clause it implements, and a sentence for people."""

    code: str
    clause: str
    told: Text

    @property
    def message(self) -> str:
        """The sentence in English."""
        return str(self.told)

    @property
    def line(self) -> Message:
        """All of it."""
        return Message("{code} ({clause}): {sentence}", code=self.code, clause=self.clause, sentence=self.told)

    def __str__(self) -> str:
        return str(self.line)


class CaError(ToldError):
    """Base of all refusals and failures of the certificate authority."""

    reason: ClassVar[str] = "ca-error"

    def __init__(self, told: Text, *, clause: str | None = None) -> None:
        super().__init__(told)
        self.clause = clause


class ProfileError(CaError):
    reason = "profile"


class CeremonyError(CaError):
    reason = "ceremony"


class _Findings(CaError):
    def __init__(self, told: Text, findings: Sequence[Finding]) -> None:
        super().__init__(
            Message(
                "{refusal}: {findings}", refusal=told, findings=Listed(tuple(each.line for each in findings), "also")
            ),
            clause=findings[0].clause if findings else None,
        )
        self.findings = tuple(findings)


class PlanError(CeremonyError, _Findings):
    reason = "ceremony-plan"


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A key that a ceremony made in a token: registry name, template, SHA-256 of its SPKI (hex)."""

    name: str
    template: str
    spki_sha256: str


class KeysExistError(CeremonyError):
    reason = "ceremony-keys-exist"

    def __init__(self, keys: Sequence[RegisteredKey]) -> None:
        names = ", ".join(key.name for key in keys)
        super().__init__(
            f"the tokens already hold {names}, which this ceremony did not make: name other keys, or end those first",
            clause="CPS 6.1.1",
        )
        self.keys = tuple(keys)


class CeremonyAbortedError(CeremonyError):
    reason = "ceremony-aborted"

    def __init__(self, step: str, keys: Sequence[RegisteredKey]) -> None:
        left = ", ".join(f"{key.name} ({key.spki_sha256[:16]})" for key in keys) or "none"
        super().__init__(
            f"the ceremony stopped at {step!r}, and its journal knows where: it can be resumed, or perhaps undone. "
            f"Keys registered in the tokens: {left}.",
            clause="CPS 6.1.1",
        )
        self.step = step
        self.keys = tuple(keys)


class RequestError(CaError):
    reason = "request"


class NotApprovedError(_Findings):
    reason = "not-approved"


class KeyRefusedError(CaError):
    reason = "key-refused"


class LintError(_Findings):
    reason = "lint"


class AlreadyRedeemedError(CaError):
    reason = "already-redeemed"


class SigningError(CaError):
    reason = "signing"


class SigningRefusedError(SigningError):
    reason = "signing-refused"


class TokenUnavailableError(SigningError):
    reason = "token-unavailable"


class CompareError(SigningError):
    reason = "compare"


class UnknownCertificateError(CaError):
    reason = "unknown-certificate"


class NotOnRecordError(CaError):
    reason = "not-on-record"


class RevocationRefusedError(_Findings):
    reason = "revocation-refused"


class StoreError(CaError):
    reason = "store"


class IntentEndedError(StoreError):
    reason = "intent-ended"


class InProgressError(CaError):
    reason = "in-progress"


class StoreUnavailableError(CaError):
    reason = "database-unavailable"


class ClockError(CaError):
    reason = "clock"


class RandomnessError(CaError):
    reason = "randomness"


class StatusError(CaError):
    reason = "status"


class SelfAuditError(CaError):
    reason = "self-audit"
