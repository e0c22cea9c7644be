"""Whose certificate this is: one that was issued here and is in force, and the case it came from.

Members' signing certificates are no identities for TLS (`runtime.identity`): whoever has one may use the registration
authority as anybody may. Who proves its key in TLS can do two things with it, which are both about this certificate
alone: accept it (CPS 4.4.1), and ask for the next one (CPS 4.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cps.entitlement import KINDS
from cps.model import Purpose
from pki.errors import PkiError
from pki.path import validate_path
from ra.access import Actor
from ra.desk import Desk
from ra.errors import NotAllowedError
from ra.records import Application
from ra.states import CERTIFIED
from runtime.language import Term

_OFFICER: Final = "officer"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who proved the key of a certificate, what it is for, and its case."""

    certificate: x509.Certificate
    purpose: Purpose
    application: Application

    @property
    def actor(self) -> Actor:
        """The holder: `class:subject`, as their certificate for TLS would name them, without any role."""
        subject = self.application.subject_id or ""
        person = subject if self.application.member_class == _OFFICER else ""
        return Actor(f"{self.application.member_class}:{subject}", self.application.organisation or "", person)


def holder_of(desk: Desk, certificate: x509.Certificate) -> Holder:
    """The holder of a certificate whose key was proven just now.

    Raises NotAllowedError unless it was issued for a certified case of this authority and is in force by the lists of
    now; StatusError if there are no such lists.
    """
    der, serial = certificate.public_bytes(Encoding.DER), f"{certificate.serial_number:x}"
    found = next((each for each in desk.store.certificates_with_serial(serial) if each.der == der), None)
    if found is None:
        raise NotAllowedError("no application of this registration authority led to the client certificate")
    application = desk.store.application(found.application_id)
    if application.state not in CERTIFIED:
        raise NotAllowedError(
            "the application of the client certificate is {state}", state=Term("state", application.state)
        )
    now = desk.now
    role = KINDS[application.member_class, found.purpose].role
    try:
        validate_path(certificate, trust=desk.trust(now), now=now, roles={role})
    except PkiError as error:
        raise NotAllowedError(
            "the client certificate does not count: {reason}", reason=Term("reason", error.reason)
        ) from None
    return Holder(certificate, found.purpose, application)
