"""Applicants without a client certificate: the secret by which they are known again.

Whoever opens an application without a name gets a secret with the answer, this once. With it, as a bearer token
(`Authorization: Bearer`, RFC 6750 2.1), and with nothing else the application is read, written to and withdrawn. Its id
opens nothing: officers, journals and logs know ids. What is kept is the SHA-256 of the secret, in the name under which
the applicant acts: `anonymous:<hex>`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from runtime.identity import ANONYMOUS

NOBODY: Final = str(ANONYMOUS)
"""A caller without a client certificate and without a secret: opens drafts, and owns none."""
SIZE: Final = 32
"""Bytes of a secret, at random."""
_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9_-]{43})")


def written(secret: bytes) -> str:
    """A secret as the applicant gets it and brings it back: base64url without padding."""
    return base64.urlsafe_b64encode(secret).decode().rstrip("=")


def name_of(secret: str) -> str:
    """The name of whoever has this secret."""
    return f"{NOBODY}:{hashlib.sha256(secret.encode()).hexdigest()}"


def brought(authorization: str | None) -> str | None:
    """The secret in an Authorization header; None if there is none in it."""
    found = _BEARER.fullmatch(authorization or "")
    return None if found is None else found[1]


def is_nameless(name: str) -> bool:
    """Whether somebody of this name has no client certificate."""
    return name.partition(":")[0] == NOBODY


def shown(name: str) -> str:
    """A name as people read it: of the nameless, that they are."""
    return NOBODY if is_nameless(name) else name
