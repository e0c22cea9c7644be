"""What the registration authority needs of the certificate authority; `ca.client.CaClient` is one.

Each method may raise `runtime.problems.Problem`: the CA refused and says by which clause, or it does not answer.
"""

from __future__ import annotations

from typing import Protocol

from ca.client import CertificateAnswer, RevocationAnswer, StoryAnswer
from cps.dossier import Dossier


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
