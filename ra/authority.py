"""What the registration authority needs of the certificate authority; `ca.client.CaClient` is one.

Each method may raise `runtime.problems.Problem`: the CA refused and says by which clause, or it does not answer.
"""

from __future__ import annotations

from typing import Final, Protocol

from ca.client import CertificateAnswer, RevocationAnswer, StoryAnswer
from cps.dossier import Dossier
from runtime.problems import Problem

_NOT_NOW: Final = 500  # HTTP: from here on the CA did not refuse, it could not
_LATER: Final = frozenset({408, 425, 429})  # HTTP: refused for now, not for what was asked
_NOT_HEARD: Final = frozenset({"client-certificate-required", "caller-not-allowed", "unreadable-answer"})
"""Types of problems: whoever answered did not look at what was asked, or was not the CA."""


def is_refusal(problem: Problem) -> bool:
    """Whether the CA judged what it was asked and refused it, rather than could not take it now."""
    return problem.status < _NOT_NOW and problem.status not in _LATER and problem.type not in _NOT_HEARD


class CertificateAuthority(Protocol):
    """The certificate authority, seen from the RA."""

    def issue(self, dossier: Dossier) -> dict[str, CertificateAnswer]:
        """Certificates for an approved case, by purpose; asked again for the same revision, the same ones."""
        ...

    def revoke(self, order: bytes) -> RevocationAnswer:
        """Take an officer's order (CMS SignedData over RevocationTBS, DER) and publish it."""
        ...

    def look_up(self, issuer: str, serial: str) -> StoryAnswer:
        """Everything about the certificate of this authority and serial (hexadecimal)."""
        ...

    def search(self, *, serial: str | None = None) -> tuple[CertificateAnswer, ...]:
        """Certificates with this serial (hexadecimal), whoever of the hierarchy issued them."""
        ...
