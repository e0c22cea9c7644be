"""Officers who approve operations on keys, and what they sign.

officers = KeyOfficers()
request = officers.request()
signed = officers.approve(request, officers.first)
officers.decide(request, signed).status
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from cps.decision import Choice
from cps.packs import published
from hsm_service.dual_control import Verdict, decide_operation
from hsm_service.dual_control_policy import Policy, built_in_policy
from hsm_service.key_approval import KeyApproval, build_approval
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_request import KeyOperation, OperationRequest, parse_request
from hsm_service.vault import Vault
from pki.oids import CT_KEY_APPROVAL
from tests.support.pki_factory import NOW, Credential, PkiFactory

HOUR: Final = timedelta(hours=1)
SECURITY: Final = ("security_officer",)
PARAMETERS: Final = {"name": "merchant-9", "template": "merchant-signing-ec", "owner": "M-9"}
REQUESTER: Final = "service:operator"


class KeyOfficers:
    """Security officers of a test PKI; `first` and `second` are those who approve, `third` is one more."""

    def __init__(self, pki: PkiFactory | None = None, policy: Policy | None = None) -> None:
        self.pki = pki or PkiFactory()
        self.policy = policy or built_in_policy()
        self.pack = published()
        self.first = self.officer("officer-1")
        self.second = self.officer("officer-2")
        self.third = self.officer("officer-3")

    def officer(self, person: str, *roles: str, **changes: Any) -> Credential:
        """An officer's credential, a security officer's unless other roles are given."""
        return self.pki.officer(person, organisation="KWBP", roles=roles or SECURITY, **changes)

    def request(self, **changes: Any) -> OperationRequest:
        """The operator's request for a merchant's key, made at NOW."""
        fields: dict[str, Any] = {
            "operation": KeyOperation.GENERATE,
            "parameters": PARAMETERS,
            "requester": REQUESTER,
            "reason": "a new shop",
            "requested": NOW,
            "expires": NOW + self.policy.lasts.request,
            "policy": self.policy.digest,
        }
        return OperationRequest(**{**fields, **changes})

    def approve(
        self,
        request: OperationRequest,
        officer: Credential,
        *,
        choice: Choice = Choice.APPROVE,
        date: datetime = NOW,
        signing_time: datetime | None = None,
        **changes: Any,
    ) -> bytes:
        """An officer's approval (SignedData, DER), signed at its date; `changes` go to the approval."""
        fields: dict[str, Any] = {
            "request": request.digest,
            "operation": request.operation.value,
            "choice": choice,
            "reason": "",
            "date": date,
            "expires": date + 24 * HOUR,
        }
        content = build_approval(KeyApproval(**{**fields, **changes}))
        return officer.sign(CT_KEY_APPROVAL, content, signing_time=signing_time or date)

    def decide(self, request: OperationRequest, *approvals: bytes, now: datetime = NOW, **changes: Any) -> Verdict:
        """The verdict at `now`, by the factory's trust."""
        fields: dict[str, Any] = {"pack": self.pack, "trust": self.pki.trust(), "now": now}
        return decide_operation(request, approvals, changes.pop("policy", self.policy), **{**fields, **changes})


def asked(vault: Vault, name: str = "nine", caller: str = REQUESTER, **more: Any) -> OperationRequest:
    """A request for a merchant's key."""
    with pytest.raises(ApprovalNeeded) as needed:
        vault.generate_key(caller, name, "merchant-signing-ec", owner="M-9", **more)
    return parse_request(needed.value.operation.request)
