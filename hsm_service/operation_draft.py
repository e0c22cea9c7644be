"""The officer's side of dual control: see a request, then what will be signed about it.

Everything is made from the request's canonical form, whose digest is computed here and never taken from the server: a
server that shows one thing and asks for the signature of another gets an approval of what was shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cps.decision import Choice
from hsm_service.key_approval import KeyApproval, build_approval
from hsm_service.operation_request import OperationRequest
from hsm_service.operation_text import Language, approval_lines

LASTS: Final = timedelta(days=1)
"""How long an approval counts unless told otherwise; the policy may make it less, never more."""


@dataclass(frozen=True, slots=True)
class ApprovalDraft:
    """Something to sign: KeyApprovalTBS (DER), and all of it in lines for a person."""

    content: bytes
    lines: tuple[str, ...]


def draft_approval(
    request: OperationRequest,
    choice: Choice,
    *,
    now: datetime,
    reason: str = "",
    lasts: timedelta = LASTS,
    language: Language = "en",
) -> ApprovalDraft:
    """An approval or rejection of the request, made at `now` (aware). Raises RequestError if the reason is too long."""
    date = now.replace(microsecond=0)
    approval = KeyApproval(request.digest, request.operation.value, choice, reason, date, date + lasts)
    return ApprovalDraft(build_approval(approval), approval_lines(request, approval, language))
