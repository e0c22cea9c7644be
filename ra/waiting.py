"""Who a case waits for: the one answer that its row in the queue, the figures, the notices and its own page show.

`cps.decide` says which step is due. A decision signs the evidence on file, so evidence that is missing, or has grown
too old, comes before decisions of those who cannot bring it: what they signed would fall away with the first new piece.
Then the case waits for whoever takes evidence in (`ra.access`), who brings it or returns the case to its applicant.
"""

from __future__ import annotations

from typing import Final

from cps.verdict import NextStep, Status, Verdict
from ra.access import VOUCHING

EVIDENCE: Final = "evidence"
"""What stands in the place of a step while a case waits for evidence and not for a decision."""


def waits_for(verdict: Verdict) -> NextStep | None:
    """What a case waits for, and the roles that can bring it on; None: it is approved or refused.

    `missing` are decisions, or pieces of evidence where that is what it waits for.
    """
    if verdict.status is not Status.PENDING:
        return None
    due = verdict.next_step
    if not verdict.lacking or (due is not None and not set(due.by).isdisjoint(VOUCHING)):
        return due
    return NextStep(EVIDENCE, VOUCHING, len(verdict.lacking))
