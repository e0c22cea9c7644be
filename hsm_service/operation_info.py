"""An operation request as callers and officers see it; shared by the service, its clients and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from runtime.language import Language
from runtime.problems import Problem

if TYPE_CHECKING:
    from starlette.responses import Response


class ApprovalInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who approved or rejected: person and employer as the certificate names them, its SHA-256 (hex), signing time."""

    person: str
    organisation: str
    certificate_sha256: str
    signed_at: str


class OperationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An operation request. Bytes are base64 in JSON.

    `id` is the SHA-256 (hex) of `request`, its canonical form: an officer reads that and signs its digest, and believes
    none of the other fields. `by` and `needed` say who must approve and how many; `approvals` who did, as far as they
    count now; `result` what came of it; `text` the request in lines for people, by language.
    """

    id: str
    operation: str
    state: str
    requester: str
    requested: str
    expires: str
    request: bytes
    by: tuple[str, ...]
    needed: int
    approvals: tuple[ApprovalInfo, ...]
    rejections: tuple[ApprovalInfo, ...]
    result: dict[str, Any] | None
    text: dict[str, tuple[str, ...]]


class OperationList(msgspec.Struct, frozen=True):
    """Operation requests, the newest first."""

    operations: list[OperationInfo]


class ApproveCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Approve or reject a request: the officer's CMS SignedData (DER) of content type id-kwbp-ct-keyApproval."""

    approval: bytes


class ApprovalNeeded(Problem):
    """Nothing was done yet: `operation` waits for officers. Over HTTP this is no error but 202 with the request."""

    def __init__(self, operation: OperationInfo) -> None:
        who = " or ".join(operation.by)
        super().__init__(
            202,
            "approval-needed",
            f"{operation.operation} needs the approval of {operation.needed} persons ({who}): request {operation.id}",
        )
        self.operation = operation

    def response(self, language: Language = Language.EN) -> Response:
        """202 with the request, whose `text` is there in every language."""
        from starlette.responses import Response

        return Response(msgspec.json.encode(self.operation), self.status, media_type="application/json")
