"""The right to have one certificate signed, once.

An `IssuanceToken` comes into being only for an intent that is durable and a verdict that approves its revision; the one
function that reaches the token (`ca.issuance`) takes nothing else. Redeeming empties it, so that a second use, by a
retry, a loop or a mistake, cannot become a second certificate.
"""

from __future__ import annotations

import threading

from ca.errors import AlreadyRedeemedError, Finding, NotApprovedError
from ca.store import Intent
from cps.verdict import Verdict
from runtime.language import Message, Term, terms


class IssuanceToken:
    """One-shot: see the module. `resumed`: an earlier process may already have had the intent signed."""

    def __init__(self, intent: Intent, verdict: Verdict, *, resumed: bool = False) -> None:
        require_approved(verdict)
        self.resumed = resumed
        self._intent: Intent | None = intent
        self._lock = threading.Lock()

    def redeem(self) -> Intent:
        """The intent, the first time; raises AlreadyRedeemedError ever after."""
        with self._lock:
            intent, self._intent = self._intent, None
        if intent is None:
            raise AlreadyRedeemedError("this issuance token was redeemed before", clause="CPS 4.3.1")
        return intent


def require_approved(verdict: Verdict) -> Verdict:
    """The verdict itself if it approves; raises NotApprovedError with the CPS's findings."""
    if verdict.approved:
        return verdict
    findings = [Finding(str(each.code), each.clause, each.told) for each in verdict.findings]
    if verdict.next_step is not None:
        step = verdict.next_step
        told = Message(
            "step {step} misses {missing} decision(s) by {roles}",
            step=Term("step", step.name),
            missing=step.missing,
            roles=terms("role", step.by, "or"),
        )
        findings.append(Finding("STEP-DUE", "CPS 4.2.2", told))
    raise NotApprovedError(Message("the case is {status}", status=Term("verdict", verdict.status)), findings)
