"""Self-audit: a random sample of what was issued is looked at again, years or a night later (CPS 8).

    seed + period ─► sample ─► for each: its exhibit (everything on record about it) ─► checks ─► report ─► journal

Everything here is a function of what it is given: `ca.self_auditor` reads the exhibits. The sample follows from the
seed and the certificates of the period alone, so whoever has the database draws the same one again.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from ca.ocsp_answer import CertificateStatus
from ca.prepare import Issuer
from ca.publication import Publication
from ca.self_audit_report import MOST_FINDINGS, AuditFinding, CheckCount, SelfAuditReport
from ca.status_store import RevocationRecord, StatusChange
from ca.store import CertificateRecord, DossierRecord, Intent
from cps.model import Pack
from pki.crl_entries import Revocation
from pki.path import Trust

Key = tuple[str, str]
"""Issuer and serial."""


@dataclass(frozen=True, slots=True)
class Open:
    """A check that cannot be decided, and why."""

    because: str


Outcome = str | Open | None
"""Of a check: what is wrong, that it cannot be told, or nothing: it is kept."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the full list of an authority says of a serial: `entry` is None if it is not on it."""

    number: int
    epoch: int
    entry: Revocation | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The status that an OCSP answer gives, which was signed ahead and still holds, beside that on record."""

    serial: int
    said: CertificateStatus
    on_record: CertificateStatus


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Everything on record about one certificate, at `now`.

    `issuer` is the authority by whose key it was signed, as the authorityKeyIdentifier says; None: none of ours.
    `trusts` are what could be believed when it was intended, by the lists of then; empty: they are not kept any more.
    `pack` is the statement that its case was made under, None if nobody here knows it; `governing` the one that judged
    the case when it was intended. `missing` are journal events that should be there and are not; None: another
    replica's journal has them.
    """

    now: datetime
    record: CertificateRecord
    intent: Intent | None
    dossier: DossierRecord | None
    reserved_at: datetime | None
    issuer: Issuer | None
    publication: Publication
    pack: Pack | None
    governing: Pack
    trusts: Sequence[Trust]
    revocation: RevocationRecord | None
    history: Sequence[StatusChange]
    listed: Listed | None
    answered: Answered | None
    missing: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Check:
    """What is looked at, by which clause."""

    name: str
    clause: str
    look: Callable[[Exhibit], Outcome]


def sample(keys: Iterable[Key], seed: str, count: int) -> list[Key]:
    """So many of `keys` as `seed` (hexadecimal) draws, sorted: those whose SHA-256 with the seed is least."""
    salt = bytes.fromhex(seed)

    def rank(key: Key) -> bytes:
        return hashlib.sha256(salt + _line(key)).digest()

    return sorted(heapq.nsmallest(count, keys, key=rank))


def sample_size(issued: int, share: float, least: int) -> int:
    """How many of `issued` certificates to look at."""
    return min(issued, max(least, ceil(issued * share)))


def sample_digest(sampled: Sequence[Key]) -> str:
    """SHA-256 (hexadecimal) of a sorted sample."""
    return hashlib.sha256(b"".join(map(_line, sampled))).hexdigest()


@dataclass(slots=True)
class Tally:
    """Counts what the checks find, certificate by certificate."""

    checks: Sequence[Check]
    kept: Counter[str]
    broken: Counter[str]
    because: dict[str, Counter[str]]
    findings: list[AuditFinding]

    @classmethod
    def of(cls, checks: Sequence[Check]) -> Tally:
        return cls(checks, Counter(), Counter(), {each.name: Counter() for each in checks}, [])

    def look(self, exhibit: Exhibit) -> Iterator[AuditFinding]:
        """Run every check on one exhibit; what it breaks."""
        for check in self.checks:
            outcome = check.look(exhibit)
            if outcome is None:
                self.kept[check.name] += 1
            elif isinstance(outcome, Open):
                self.because[check.name][outcome.because] += 1
            else:
                self.broken[check.name] += 1
                found = AuditFinding(
                    issuer=exhibit.record.issuer,
                    serial=exhibit.record.serial,
                    check=check.name,
                    clause=check.clause,
                    message=outcome,
                )
                if len(self.findings) < MOST_FINDINGS:
                    self.findings.append(found)
                yield found

    def report(self, **fields: Any) -> SelfAuditReport:
        """The report; `fields` are those that are not counted here."""
        counts = {
            check.name: CheckCount(
                kept=self.kept[check.name],
                broken=self.broken[check.name],
                open=self.because[check.name].total(),
                open_because=dict(sorted(self.because[check.name].items())),
            )
            for check in self.checks
        }
        more = self.broken.total() - len(self.findings)
        return SelfAuditReport(checks=counts, findings=tuple(self.findings), more_findings=more, **fields)


def _line(key: Key) -> bytes:
    return f"{key[0]}/{key[1]}\n".encode()
