"""What a lint is: a rule with its code, the clause it enforces, the day from which it holds, and a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Final

from cryptography import x509

from ca.prepare import Issuer, certified_key
from ca.profile import Profile
from ca.publication import Publication
from cps.entitlement import PublicKey
from pki.algorithms import certificate_signature_identifier
from pki.keys import spki_der

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

    @cached_property
    def key(self) -> PublicKey:
        """The key that is certified."""
        return certified_key(self.certificate)

    @cached_property
    def spki(self) -> bytes:
        """The key that is certified, as DER SubjectPublicKeyInfo."""
        return spki_der(self.key)

    @cached_property
    def issuer_spki(self) -> bytes:
        """The key that would sign, as DER SubjectPublicKeyInfo."""
        return self._issuer_itself.spki if self._issuer_itself else spki_der(self.issuer_key)

    @cached_property
    def signature_identifier(self) -> bytes:
        """How that key signs, as DER AlgorithmIdentifier."""
        if self._issuer_itself:
            return self._issuer_itself.signature_identifier
        return certificate_signature_identifier(self.issuer_key)

    @cached_property
    def _issuer_itself(self) -> Issuer | None:
        """The issuer if the key that would sign is its own, so that what is known of it need not be read again."""
        return self.issuer if self.issuer is not None and self.issuer_key is self.issuer.public_key else None

    @cached_property
    def name(self) -> x509.Name:
        """The name of the subject."""
        return self.certificate.subject

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The values of the subject's attributes."""
        return tuple(str(attribute.value) for attribute in self.name)

    @cached_property
    def extensions(self) -> Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]:
        """All extensions by their OID."""
        return {extension.oid: extension for extension in self.certificate.extensions}

    def extension(self, oid: x509.ObjectIdentifier) -> x509.Extension[x509.ExtensionType] | None:
        """The extension of this OID, or None."""
        return self.extensions.get(oid)

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


def binding(lints: Iterable[Lint], made_at: datetime) -> tuple[Lint, ...]:
    """The rules that a certificate made then has to keep."""
    day = made_at.astimezone(UTC).date()
    return tuple(lint for lint in lints if day >= lint.since)


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
