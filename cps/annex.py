"""What a statement quotes that is not policy of its own: certificate profiles, times of status answers, dual control.

These are data of the CA and of the HSM service, which this package does not import: whoever puts the packages together
fills them in. Their digest is part of every document, because a document quotes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ListFacts:
    """An authority's revocation lists: how long one serves, how long before its end the next is signed, and parts."""

    lifetime: timedelta
    renew_before: timedelta
    partitions: int


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """A kind of certificate (CPS 7.1); `rsa` in bits, None where no RSA key is certified; `path_length` of a CA."""

    name: str
    section: str
    issuer: str
    validity: timedelta
    rsa: int | None
    curves: tuple[str, ...]
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    policies: tuple[str, ...]
    extensions: tuple[str, ...]
    path_length: int | None
    lists: ListFacts | None


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """How long answers about status serve: signed ahead, `signed_again` before they end, and with a nonce."""

    ahead: timedelta
    signed_again: timedelta
    live: timedelta


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """An operation on keys: how many different persons with one of the roles `by` approve it."""

    by: tuple[str, ...]
    approvals: int


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """A rule that another policy than the pack states, and refusals name: its section and its English sentence."""

    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Single values that the code of a service fixes.

    The self-audit's sample (`audit_share` of what was issued, at least `audit_least` certificates), how long the bytes
    of a long list stay after its end, how far the clock of a time-stamp may be off, and how long a request about a key
    can be approved and an approval counts.
    """

    audit_share: float
    audit_least: int
    lists_kept: timedelta
    clock_drift: timedelta
    request_lasts: timedelta
    approval_lasts: timedelta


@dataclass(frozen=True, slots=True)
class Annex:
    """All of it; `policies` are object identifiers by the names of profiles, `approval_rules` those of dual control."""

    profiles: Mapping[str, ProfileFacts]
    policies: Mapping[str, str]
    status: StatusFacts
    operations: Mapping[str, ApprovalFacts]
    approval_rules: Mapping[str, RuleFacts]
    figures: Figures
