"""The next root: which certificate may follow a pinned one (RFC 8649).

A root names, in an extension of its own certificate, the hash of the key that will follow it. Whoever pins the root can
therefore take the next one from anywhere: it is the next one because of its key, not because of who brought it. Each
root is followed by exactly one other; nobody jumps over one, and nobody goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pki.errors import UNREADABLE, CertificateError, RolloverError
from pki.extensions import HashedRootKey
from pki.keys import screen_public_key, spki_sha256
from pki.roles import Role, role_of

_CLAUSE: Final = "RFC 8649 2"


def check_next_root(
    pinned: x509.Certificate,
    candidate: x509.Certificate,
    *,
    now: datetime,
    known: Sequence[x509.Certificate] = (),
) -> None:
    """Return if `candidate` is the root that follows the root `pinned`, and may be pinned beside it at `now`.

    `known` are further root certificates at hand; they only serve to say why a candidate is refused.

    Raises RolloverError: `same_root` (the pinned key itself), `older_root` (a generation before the pinned one),
    `no_next_root` (the pinned root names none), `root_skipped` (a generation after the next one), `not_next_root` (any
    other key); then `not_self_signed`, `next_root_missing` (it names no root after itself), `not_yet_valid`, `expired`;
    or CertificateError: `wrong_role`, `bad_key_usage`, `weak_key`, `weak_algorithm`, `bad_extension`.
    """
    named = HashedRootKey.from_certificate(pinned)
    own, pinned_key = spki_sha256(candidate.public_key()), spki_sha256(pinned.public_key())
    if own == pinned_key:
        raise RolloverError("same_root", "it has the key of the pinned root", clause=_CLAUSE)
    if _leads_to(candidate, pinned_key, known):
        raise RolloverError("older_root", "it is of a generation before the pinned root", clause=_CLAUSE)
    if named is None:
        raise RolloverError("no_next_root", "the pinned root names no root after it", clause=_CLAUSE)
    if named.digest != own:
        if _leads_to(pinned, own, known):
            raise RolloverError("root_skipped", "the pinned root is followed by another one first", clause=_CLAUSE)
        raise RolloverError("not_next_root", "its key is not the one that the pinned root names", clause=_CLAUSE)
    _check_sound(candidate, now)


def next_roots(
    pinned: x509.Certificate, candidates: Sequence[x509.Certificate], *, now: datetime | None = None
) -> tuple[x509.Certificate, ...]:
    """The roots that follow `pinned` one after the other, as far as `candidates` (in any order) go; none is skipped.

    Without `now` each is judged at the beginning of its own time: whether it still lasts, its user's paths say.
    """
    followed: list[x509.Certificate] = []
    last, left = pinned, list(candidates)
    while True:
        for candidate in left:
            try:
                check_next_root(last, candidate, now=now or candidate.not_valid_before_utc)
            except (RolloverError, CertificateError):
                continue
            followed.append(candidate)
            left.remove(candidate)
            last = candidate
            break
        else:
            return tuple(followed)


def _check_sound(candidate: x509.Certificate, now: datetime) -> None:
    key = candidate.public_key()
    screen_public_key(key)
    if role_of(candidate) is not Role.ROOT or not _is_self_signed(candidate):
        raise RolloverError("not_self_signed", "a root certificate is signed by its own key", clause=_CLAUSE)
    after = HashedRootKey.from_certificate(candidate)
    if after is None or after.digest == spki_sha256(key):
        raise RolloverError("next_root_missing", "it names no root after itself", clause=_CLAUSE)
    if now < candidate.not_valid_before_utc:
        raise RolloverError("not_yet_valid", "its time has not come", clause="RFC 5280 4.1.2.5")
    if now > candidate.not_valid_after_utc:
        raise RolloverError("expired", "it is past its end", clause="RFC 5280 4.1.2.5")


def _leads_to(start: x509.Certificate, key: bytes, known: Sequence[x509.Certificate]) -> bool:
    """Whether going from root to next root, through those known, `start` comes to the key of this hash."""
    by_key = {spki_sha256(each.public_key()): each for each in known}
    seen: set[bytes] = set()
    at: x509.Certificate | None = start
    while at is not None:
        named = HashedRootKey.from_certificate(at)
        if named is None or named.digest in seen:
            return False
        if named.digest == key:
            return True
        seen.add(named.digest)
        at = by_key.get(named.digest)
    return False


def _is_self_signed(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True
