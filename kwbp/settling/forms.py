"""The five pairs of rows 19 to 21, as a table: which structure each request has, and what its answer is called."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cryptography import x509

from kwbp.settling.messages import (
    AuthRevReqTBS,
    CapReqTBS,
    CapRevReqTBS,
    CredReqTBS,
    CredRevReqTBS,
    SettlingReq,
)
from pki.oids import (
    CT_AUTH_REV_REQ,
    CT_AUTH_REV_RES,
    CT_CAP_REQ,
    CT_CAP_RES,
    CT_CAP_REV_REQ,
    CT_CAP_REV_RES,
    CT_CRED_REQ,
    CT_CRED_RES,
    CT_CRED_REV_REQ,
    CT_CRED_REV_RES,
)

REQUESTS: Final[Mapping[x509.ObjectIdentifier, type[SettlingReq]]] = MappingProxyType(
    {
        CT_CAP_REQ: CapReqTBS,
        CT_CAP_REV_REQ: CapRevReqTBS,
        CT_AUTH_REV_REQ: AuthRevReqTBS,
        CT_CRED_REQ: CredReqTBS,
        CT_CRED_REV_REQ: CredRevReqTBS,
    }
)
"""Structure of each request by its content type."""
ANSWERS: Final[Mapping[x509.ObjectIdentifier, x509.ObjectIdentifier]] = MappingProxyType(
    {
        CT_CAP_REQ: CT_CAP_RES,
        CT_CAP_REV_REQ: CT_CAP_REV_RES,
        CT_AUTH_REV_REQ: CT_AUTH_REV_RES,
        CT_CRED_REQ: CT_CRED_RES,
        CT_CRED_REV_REQ: CT_CRED_REV_RES,
    }
)
"""Content type of the answer by that of the request."""
