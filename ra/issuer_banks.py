"""The banks that confirm cards to this authority, seen from here: a form, and a yes or no, both signed by the bank."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import httpx

from runtime.client import http_client, raise_problem
from runtime.problems import Problem

_MEDIA_TYPE: Final = "application/vnd.kwbp"
_TIMEOUT: Final = 10.0  # seconds
_LARGEST: Final = 65_536  # bytes of a bank's answer
_TOO_MANY: Final = 429
_RETRY: Final = "5"


class IssuerBanks(Protocol):
    """Reaches the bank of a BIN. Methods raise `runtime.problems.Problem` if it does not answer."""

    def form(self, bin_: str) -> bytes | None:
        """The bank's form (SignedData, DER); None if no bank of this BIN confirms cards."""
        ...

    def confirm(self, bin_: str, request: bytes) -> tuple[bytes, int | None]:
        """The bank's answer (KwbpMessage) to a CardConfirmReq, and in how many seconds to ask again if it is busy."""
        ...


class HttpIssuerBanks:
    """Banks behind one address (`switch.registration_app`)."""

    def __init__(self, url: str, *, ca: Path | None) -> None:
        self._http = http_client(None, url, ca=ca, timeout=_TIMEOUT)

    def close(self) -> None:
        self._http.close()

    def form(self, bin_: str) -> bytes | None:
        try:
            response = self._http.get(f"forms/{bin_}")
        except httpx.HTTPError as error:
            raise _away(error) from None
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return _content(raise_problem(response))

    def confirm(self, bin_: str, request: bytes) -> tuple[bytes, int | None]:
        try:
            response = self._http.post("confirm", content=request, headers={"content-type": _MEDIA_TYPE})
        except httpx.HTTPError as error:
            raise _away(error) from None
        if response.status_code != _TOO_MANY:
            return _content(raise_problem(response)), None
        told = response.headers.get("retry-after", _RETRY)
        return _content(response), int(told) if told.isascii() and told.isdigit() else int(_RETRY)


def _content(response: httpx.Response) -> bytes:
    if len(response.content) > _LARGEST:
        raise Problem(502, "bank-unreadable", "the card's bank answers at too great length")
    return response.content


def _away(error: httpx.HTTPError) -> Problem:
    return Problem(
        503,
        "bank-unreachable",
        f"the card's bank does not answer: {type(error).__name__}",
        headers={"Retry-After": _RETRY},
    )
