"""Row 6: what the holder of a certificate asks of the registration authority about it: CertInqReq, RevReq, RenewReq.

Each is signed by the holder with a key that the authority has certified, so nothing has to be proved but that it is the
same holder (X1). The answers are signed by the registration authority: CertInqRes says where a certificate stands, and
answers RevReq too; RenewRes says how the application for the next certificate stands.
"""

from __future__ import annotations

from kwbp.holder.answer import (
    CheckedRenewal,
    build_renewal_answer,
    build_status_answer,
    check_renewal_answer,
    check_status_answer,
)
from kwbp.holder.messages import CertInqReqTBS, CertInqResTBS, RenewReqTBS, RenewResTBS, RevReqTBS
from kwbp.holder.request import (
    HOLDERS,
    CheckedHolderRequest,
    SentHolderRequest,
    build_renewal_request,
    build_revocation_request,
    build_status_request,
    check_holder_request,
    own_order,
    renewed_key,
    require_holder,
)

__all__ = [
    "HOLDERS",
    "CertInqReqTBS",
    "CertInqResTBS",
    "CheckedHolderRequest",
    "CheckedRenewal",
    "RenewReqTBS",
    "RenewResTBS",
    "RevReqTBS",
    "SentHolderRequest",
    "build_renewal_answer",
    "build_renewal_request",
    "build_revocation_request",
    "build_status_answer",
    "build_status_request",
    "check_holder_request",
    "check_renewal_answer",
    "check_status_answer",
    "own_order",
    "renewed_key",
    "require_holder",
]
