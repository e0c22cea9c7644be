"""Errors of the registration authority.

    RaError
    ├── UnknownError            no such application, certificate or evidence (or none that the caller may see)
    ├── NotAllowedError         the caller may not do this (CPS 5.2.1)
    │   ├── IdentityNeededError this needs a client certificate, and the caller has none
    │   └── RequestSignatureError a request is signed, and the signature does not count (RFC 9421)
    ├── InvalidSubmissionError  an application's content cannot be read; names the field or the rule
    │   └── TooLargeError       a document, or all of a case, is larger than the CPS allows
    ├── EvidenceChangedError    a document in the database is not the one that was put on file
    ├── WrongStateError         the action does not exist in the application's state
    ├── ConflictError           somebody else changed the application meanwhile: read it again
    ├── RefusedError            a rule of the CPS refuses; carries the findings
    ├── ApartError              journal and database of a service do not belong together (`ra.record`)
    └── OfficerKeyError         an officer's key or certificate file cannot be used (`ra.officer`)

The HTTP status of each stands in `ra.app`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cps.verdict import Finding
from runtime.language import Message, Text, ToldError


class RaError(ToldError):
    """Root of the tree; `clause` is the rule that refused, where there is one."""

    clause: str | None = None


class UnknownError(RaError):
    """Nothing here has this name."""


class NotAllowedError(RaError):
    """The caller may not do this."""

    clause = "CPS 5.2.1"


class IdentityNeededError(NotAllowedError):
    """An anonymous caller may not do this."""


class RequestSignatureError(NotAllowedError):
    """A signed request whose signature does not count, for whatever reason: it is nobody's."""

    def __init__(self, said: Text, *, clause: str, **params: object) -> None:
        super().__init__(said, **params)
        self.clause = clause


class InvalidSubmissionError(RaError):
    """The content of an application cannot be read."""

    def __init__(self, said: Text, *, clause: str | None = None, **params: object) -> None:
        super().__init__(said, **params)
        self.clause = clause


class TooLargeError(InvalidSubmissionError):
    """A document is larger than the statement allows, alone or with the others of its case."""


class EvidenceChangedError(RaError):
    """A document in the database has another digest than the one that was put on file: nobody is given it."""

    clause = "CPS 4.2.1"


class WrongStateError(RaError):
    """The action does not exist in this state."""

    clause = "CPS 4.2"


class ConflictError(RaError):
    """The application changed between reading and writing."""


class RefusedError(RaError):
    """A rule of the CPS refuses; `findings` has at least one. `done`: what somebody did meanwhile, if that is why."""

    def __init__(self, findings: Sequence[Finding], *, done: Message | None = None) -> None:
        said = findings[0].told
        super().__init__(said if done is None else Message("{said}; meanwhile {done}", said=said, done=done))
        self.findings = tuple(findings)
        self.clause = findings[0].clause


class ApartError(RaError):
    """The audit journal records what the database lacks, or the other way round: the service does not start."""

    clause = "CPS 5.4.4"


class OfficerKeyError(RaError):
    """An officer's key or certificate cannot be used."""
