"""What a lint is: a rule with its code, the clause it enforces, the day from which it holds, and a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Final

from cryptography import x509

from ca.prepare import Issuer
from ca.profile import Profile
from ca.publication import Publication
from cps.entitlement import PublicKey

FROM_THE_START: Final = date(2026, 1, 1)
"""The effective date of the first statement (CPS 9.10.1)."""


@dataclass(frozen=True)
class Subject:
    """What is linted: the twin, and what it is judged against; `issuer` is None for a self-signed root."""

    certificate: x509.Certificate
    profile: Profile
    issuer: Issuer | None
    issuer_key: PublicKey
    publication: Publication
    now: datetime

    @cached_property
    def tbs(self) -> bytes:
        """The DER TBSCertificate."""
        return self.certificate.tbs_certificate_bytes

    def extension(self, oid: x509.ObjectIdentifier) -> x509.Extension[x509.ExtensionType] | None:
        """The extension of this OID, or None."""
        try:
            return self.certificate.extensions.get_extension_for_oid(oid)
        except x509.ExtensionNotFound:
            return None

    def differs(self, expected: x509.ExtensionType, message: str) -> str | None:
        """`message`, unless the certificate has exactly this extension."""
        extension = self.extension(expected.oid)
        return message if extension is None or extension.value != expected else None


Check = Callable[[Subject], str | None]


@dataclass(frozen=True, slots=True)
class Lint:
    """A rule: its check gives a sentence when it is broken. It binds certificates made on or after the day `since`."""

    code: str
    clause: str
    check: Check
    since: date

    def binds(self, made_at: datetime) -> bool:
        """Whether a certificate that was made then has to keep it."""
        return made_at.astimezone(UTC).date() >= self.since


@dataclass(frozen=True)
class Rules:
    """The lints of one file, in its order."""

    lints: list[Lint] = field(default_factory=list)

    def rule(self, code: str, clause: str, *, since: date = FROM_THE_START) -> Callable[[Check], Check]:
        """Registers the decorated check."""

        def register(check: Check) -> Check:
            self.lints.append(Lint(code, clause, check, since))
            return check

        return register
