"""Whether a path held at a moment in the past that is proven, as by a time-stamp, judged by the lists of today.

What was signed for years is read long after its signer's certificate ended. Lists of the moment of signing are gone
then; the newest ones tell as well, because an entry says since when. A list that is older than the moment cannot tell,
and proves nothing (RFC 5280 6.3).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509

from pki.crl import CrlSet
from pki.crl_entries import Revocation
from pki.errors import PathError
from pki.path import Path, Trust, validate_path
from pki.roles import Role

_CLAUSE: Final = "RFC 5280 6.3"


def validate_path_at(
    leaf: x509.Certificate,
    extra: Sequence[x509.Certificate] = (),
    *,
    trust: Trust,
    at: datetime,
    roles: Collection[Role],
) -> Path:
    """A path that held at `at` (aware UTC), and of which no key was in doubt by then, as far as is known now.

    `trust` has the newest lists of each CA of the path. Raises PathError as `validate_path`; `revoked` for a
    certificate that was revoked or suspended by `at`, or whose key was in doubt by then (invalidityDate).
    """
    path = validate_path(leaf, extra, trust=trust, now=at, roles=roles, check_revocation=False)
    for certificate, issuer in pairwise(path.certificates):
        found = _entry(certificate, issuer, trust.crls, at)
        if found is not None and since(found) <= at:
            raise PathError("revoked", "certificate was on its issuer's CRL by then", clause=_CLAUSE)
    return path


def since(entry: Revocation) -> datetime:
    """From when on a revoked key was not its holder's alone: the invalidity date, if one before it is stated."""
    return entry.at if entry.invalidity_date is None else min(entry.at, entry.invalidity_date)


def _entry(certificate: x509.Certificate, issuer: x509.Certificate, crls: CrlSet, at: datetime) -> Revocation | None:
    """What the newest lists of the issuer say, each taken at its word on the day it was made."""
    name = issuer.subject.public_bytes()
    newest = max((crl.this_update for crl in crls.indexed if crl.issuer == name), default=at)
    return crls.status(certificate, issuer, max(at, newest))
