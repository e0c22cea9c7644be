"""Whether something held at a moment in the past that is proven, as by a time-stamp, judged by the lists of today.

What was signed for years is read long after its signer's certificate ended. Lists of the moment of signing are gone
then; the newest ones tell as well, because an entry says since when. A list that is older than the moment cannot tell,
and proves nothing (RFC 5280 6.3).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from cryptography import x509

from pki.crl import CrlSet
from pki.crl_entries import Revocation
from pki.crl_scope import Subject
from pki.path import Path, Trust, validate_path
from pki.roles import Role


class PastLists(CrlSet):
    """Lists of which is asked what was so at a moment: each is taken at its word on the day it was made."""

    def status_of(self, subject: Subject, issuer: x509.Certificate, now: datetime) -> Revocation | None:
        """As `CrlSet.status_of`, for a moment `now` that may be long ago; None for what was revoked later."""
        name = issuer.subject.public_bytes()
        newest = max((crl.this_update for crl in self.indexed if crl.issuer == name), default=now)
        found = super().status_of(subject, issuer, max(now, newest))
        return found if found is not None and since(found) <= now else None


def since(entry: Revocation) -> datetime:
    """From when on a revoked key was not its holder's alone: the invalidity date, if one before it is stated."""
    return entry.at if entry.invalidity_date is None else min(entry.at, entry.invalidity_date)


def in_the_past(trust: Trust) -> Trust:
    """The same roots, authorities and newest lists, to judge moments of the past by."""
    return replace(trust, crls=PastLists(trust.crls.indexed))


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
    return validate_path(leaf, extra, trust=in_the_past(trust), now=at, roles=roles)
