"""What a draft of the statement would have decided of past cases, and by which clause (CPS 9.12.1).

Each case is judged twice at the moment it was decided: by the version that it was made under, and by the draft's rules
under that version's name, because nobody could sign under a draft. Credentials are judged as of that moment
(`pki.past`); what registers of keys knew then is not known any more and plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cps.decide import decide
from cps.decision import parse_decision
from cps.dossier import Dossier
from cps.errors import StatementError
from cps.model import Pack
from cps.register import PackRegister
from cps.signatory import open_signed
from cps.verdict import Finding, Verdict
from pki.errors import PkiError
from pki.oids import CT_DECISION
from pki.past import in_the_past
from pki.path import Trust


@dataclass(frozen=True, slots=True)
class Replayed:
    """A past case by both rules.

    `was` and `becomes` are None for a case of a version that nobody here knows, which cannot be judged. `gained` are
    refusals of the draft that the version of the case does not have, `lost` those that it has and the draft has not.
    """

    application_id: str
    member_class: str
    version: str
    at: datetime | None
    was: Verdict | None
    becomes: Verdict | None
    gained: tuple[Finding, ...] = ()
    lost: tuple[Finding, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether something would be decided differently: the outcome, a step that is due, how long it lasts."""
        return self.was is not None and self.becomes is not None and _outcome(self.was) != _outcome(self.becomes)

    @property
    def clauses(self) -> tuple[str, ...]:
        """The clauses by which it is decided differently, each with its rule."""
        return tuple(dict.fromkeys(f"{each.clause} {each.code}" for each in (*self.gained, *self.lost)))


def replay(
    dossiers: Iterable[Dossier], draft: Pack, register: PackRegister, *, trust: Trust, now: datetime
) -> Iterator[Replayed]:
    """Judge each case by the version of `register` that it was made under, and by `draft`; never raises for a case.

    `trust` has the newest lists. A case that nobody decided is judged as of `now` (aware UTC).
    """
    believed = in_the_past(trust)
    for dossier in dossiers:
        revision = dossier.revision
        own = register.find(revision.cps)
        if own is None:
            yield Replayed(revision.application_id, revision.member_class, revision.cps.version, None, None, None)
            continue
        at = decided_at(dossier) or now
        was = decide(dossier, own, trust=believed, now=at)
        becomes = decide(dossier, under(draft, own), trust=believed, now=at)
        yield Replayed(
            application_id=revision.application_id,
            member_class=revision.member_class,
            version=own.cps.version,
            at=at,
            was=was,
            becomes=becomes,
            gained=_without(becomes.findings, was.findings),
            lost=_without(was.findings, becomes.findings),
        )


def under(draft: Pack, own: Pack) -> Pack:
    """The rules of `draft` in the name of `own`, so that what was signed under that one is not stale."""
    return draft.model_copy(update={"cps": own.cps, "digest": own.digest})


def decided_at(dossier: Dossier) -> datetime | None:
    """When the last decision of a case was signed, by its own word; None if there is none that can be read."""
    dates = []
    for der in dossier.decisions:
        try:
            signed = open_signed(der, CT_DECISION)
            dates += [parse_decision(signed.content).date, signed.signing_time]
        except (PkiError, StatementError):
            continue
    return max(dates, default=None)


def _outcome(verdict: Verdict) -> tuple[object, ...]:
    return verdict.status, verdict.next_step, verdict.not_after


def _without(these: tuple[Finding, ...], those: tuple[Finding, ...]) -> tuple[Finding, ...]:
    known = {(each.code, each.decision, str(each.told)) for each in those}
    return tuple(each for each in these if (each.code, each.decision, str(each.told)) not in known)
