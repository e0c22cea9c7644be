"""Client of the controls of the simulated registers, for the command line, demos and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import httpx

from registers.faults import Fault
from runtime.client import TlsFiles, http_client, raise_problem


class RegistersAdmin:
    """The records and the fault plan of running registers. Every method raises `runtime.problems.Problem`."""

    def __init__(self, url: str, tls: TlsFiles, *, http: httpx.Client | None = None) -> None:
        """`tls` is the operator's identity."""
        self._http = http or http_client(tls, url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._http.close()

    def enter_person(self, national_code: str, name: str, *, status: str = "active") -> None:
        """Enter a fictional person."""
        self._put("people", {"national_code": national_code, "name": name, "status": status})

    def enter_company(self, company_id: str, name: str, *, status: str = "active") -> None:
        """Enter a fictional company."""
        self._put("companies", {"company_id": company_id, "name": name, "status": status})

    def enter_account(self, iban: str, owners: Sequence[str], *, status: str = "active") -> None:
        """Enter a fictional account."""
        self._put("accounts", {"iban": iban, "owners": list(owners), "status": status})

    def messages_to(self, phone: str) -> list[str]:
        """The texts that a phone got."""
        texts: list[str] = raise_problem(self._http.get(f"/v1/messages/{phone}")).json()
        return texts

    def add_fault(self, kind: str, fault: Fault, *, count: int = 1, seconds: float = 0.0) -> None:
        """Plan a fault for the next requests of a kind."""
        body = {"kind": kind, "fault": fault, "count": count, "seconds": seconds}
        raise_problem(self._http.post("/v1/faults", json=body))

    def clear_faults(self) -> None:
        """Forget all faults."""
        raise_problem(self._http.delete("/v1/faults"))

    def _put(self, what: str, record: dict[str, Any]) -> None:
        raise_problem(self._http.put(f"/v1/{what}", json=record))
