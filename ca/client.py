"""The certificate authority as its callers see it: `CaClient`."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

import httpx
from pydantic import BaseModel

from ca.api import (
    CertificateAnswer,
    CertificateList,
    DeniedKeyAnswer,
    DenylistAnswer,
    DenyRequest,
    IssueRequest,
    RevocationAnswer,
    RevokeRequest,
    StatusChangeAnswer,
    StatusChangeList,
    StoryAnswer,
)
from cps.dossier import Dossier
from runtime.client import TlsFiles, http_client, raise_problem
from runtime.problems import Problem

__all__ = ["CaClient", "CertificateAnswer", "RevocationAnswer", "StoryAnswer"]

_JSON = {"content-type": "application/json"}


class CaClient:
    """Calls the CA over mutual TLS. Every method raises `runtime.problems.Problem` when the CA refuses or is away."""

    def __init__(self, url: str, tls: TlsFiles, *, timeout: float = 30.0) -> None:
        """`timeout` in seconds a call."""
        self._http = http_client(tls, url, timeout=timeout)

    def issue(self, dossier: Dossier) -> dict[str, CertificateAnswer]:
        """Certificates for an approved case, by purpose; asked again, the same ones."""
        answer = CertificateList.model_validate_json(self._post("/v1/certificates", IssueRequest(dossier=dossier)))
        return {each.purpose: each for each in answer.certificates if each.purpose is not None}

    def revoke(self, order: bytes) -> RevocationAnswer:
        """Revoke, suspend or release by a signed order (CMS SignedData over RevocationTBS, DER)."""
        return RevocationAnswer.model_validate_json(self._post("/v1/revocations", RevokeRequest(order=order)))

    def to_publish(self, state: Literal["due", "overdue"] = "due") -> tuple[StatusChangeAnswer, ...]:
        """Changes of status that no list covers yet, or only those that are late; the most urgent first."""
        return StatusChangeList.model_validate_json(self._get("/v1/revocations", {"state": state})).changes

    def deny(self, orders: Sequence[bytes]) -> DeniedKeyAnswer:
        """Put a key on the denylist by orders of different officers (each CMS SignedData over KeyDenialTBS, DER)."""
        return DeniedKeyAnswer.model_validate_json(self._post("/v1/denylist", DenyRequest(orders=tuple(orders))))

    def denylist(self, *, after: str = "", limit: int = 100) -> tuple[DeniedKeyAnswer, ...]:
        """Denied keys in the order of their digests (hexadecimal), those greater than `after`."""
        query = {"after": after, "limit": str(limit)} if after else {"limit": str(limit)}
        return DenylistAnswer.model_validate_json(self._get("/v1/denylist", query)).keys

    def look_up(self, issuer: str, serial: str) -> StoryAnswer:
        """Everything about the certificate of this authority and serial (hexadecimal)."""
        return StoryAnswer.model_validate_json(self._get(f"/v1/certificates/{issuer}/{serial}", {}))

    def search(
        self,
        *,
        serial: str | None = None,
        identity: str | None = None,
        sha256: str | None = None,
        spki_sha256: str | None = None,
    ) -> tuple[CertificateAnswer, ...]:
        """Certificates with all the given properties, newest first; `identity` is a urn:kwbp: URI or a commitment."""
        given = {"serial": serial, "identity": identity, "sha256": sha256, "spki_sha256": spki_sha256}
        query = {name: value for name, value in given.items() if value is not None}
        return CertificateList.model_validate_json(self._get("/v1/certificates", query)).certificates

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, path: str, body: BaseModel) -> bytes:
        content = body.model_dump_json(by_alias=True, exclude_none=True)
        try:
            return raise_problem(self._http.post(path, content=content, headers=_JSON)).content
        except httpx.TransportError as error:
            raise _away(error) from error

    def _get(self, path: str, query: dict[str, str]) -> bytes:
        try:
            return raise_problem(self._http.get(path, params=query)).content
        except httpx.TransportError as error:
            raise _away(error) from error


def _away(error: httpx.TransportError) -> Problem:
    return Problem(503, "ca-unreachable", f"the certificate authority does not answer: {type(error).__name__}")
