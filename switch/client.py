"""Python client of the simulator's controls, for the command line, demos and tests."""

from __future__ import annotations

from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from runtime.client import http_client, raise_problem
from runtime.secrets import Secret
from runtime.settings import Home, SwitchSettings
from shetab.types import Cvv2, Expiry, Pan, Pin, Rial
from switch.faults import Fault, Kind
from switch.inbox import ShortMessage
from switch.records import Account, CardStatus, IssuedCard, MerchantTotal, TransactionStatus

ADMIN_HOST: Final = "127.0.0.1"
"""The controls are for this machine alone, wherever the line listens."""


def admin_url(home: Home, settings: SwitchSettings) -> str:
    """Where the controls are: over TLS from the moment on that a ceremony certified the switch."""
    scheme = "https" if home.tls_files("switch").certificate.exists() else "http"
    return f"{scheme}://{ADMIN_HOST}:{settings.admin_port}"


R = TypeVar("R", Account, CardStatus, MerchantTotal, TransactionStatus)


class SwitchAdmin:
    """The counter and the fault plan of a running simulator. Every method raises `runtime.problems.Problem`."""

    def __init__(self, url: str, token: Secret, *, ca: Path | None = None, http: httpx.Client | None = None) -> None:
        """`ca` are the trust anchors (PEM) of an https address."""
        self._http = http or http_client(None, url, ca=ca)
        self._http.headers["authorization"] = f"Bearer {token.reveal().decode('ascii')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def open_account(
        self,
        bin_: str,
        *,
        holder: str,
        national_code: str | None = None,
        balance: Rial | None = None,
        phone: str | None = None,
    ) -> Account:
        """Open a customer's account at the bank of this BIN."""
        body = {"bin": bin_, "holder": holder, "national_code": national_code, "balance": int(balance or 0)}
        body["phone"] = phone
        return _record(Account, self._call("POST", "/v1/accounts", body))

    def account(self, iban: str) -> Account:
        """The account and its balance."""
        return _record(Account, self._call("GET", f"/v1/accounts/{iban}"))

    def deposit(self, iban: str, amount: Rial) -> Account:
        """Pay in."""
        return _record(Account, self._call("POST", f"/v1/accounts/{iban}/deposits", {"amount": int(amount)}))

    def statement(self, iban: str) -> list[dict[str, Any]]:
        """Entries, oldest first: at (ISO 8601), amount (signed rial), text."""
        answer: list[dict[str, Any]] = self._call("GET", f"/v1/accounts/{iban}/entries")
        return answer

    def issue_card(self, iban: str, *, years: int = 3) -> IssuedCard:
        """Issue a card; its data are shown this once."""
        answer = self._call("POST", f"/v1/accounts/{iban}/cards", {"years": years})
        return IssuedCard(
            card_id=answer["card_id"],
            iban=answer["iban"],
            masked_pan=answer["masked_pan"],
            pan=Pan.parse(answer["pan"]),
            expiry=Expiry.parse(answer["expiry"]),
            cvv2=Cvv2.parse(answer["cvv2"]),
            pin2=Pin.parse(answer["pin2"]),
        )

    def card(self, card_id: str) -> CardStatus:
        """State of a card."""
        return _record(CardStatus, self._call("GET", f"/v1/cards/{card_id}"))

    def block_card(self, card_id: str) -> CardStatus:
        """Refuse the card from now on."""
        return _record(CardStatus, self._call("PUT", f"/v1/cards/{card_id}/block"))

    def unblock_card(self, card_id: str) -> CardStatus:
        """Let the card work again."""
        return _record(CardStatus, self._call("DELETE", f"/v1/cards/{card_id}/block"))

    def set_static_pin2(self, card_id: str, allowed: bool) -> CardStatus:
        """Whether PIN2 pays with the card, or a one-time password alone."""
        return _record(CardStatus, self._call("PUT", f"/v1/cards/{card_id}/static-pin2", {"allowed": allowed}))

    def messages(self, card_id: str) -> list[ShortMessage]:
        """What the holder of a card was sent, oldest first."""
        return [
            ShortMessage(
                card_id,
                row["number"],
                row["password"],
                row["merchant"],
                row["amount"],
                datetime.fromisoformat(row["valid_until"]),
            )
            for row in self._call("GET", f"/v1/cards/{card_id}/messages")
        ]

    def register_acquirer(self, code: str, name: str) -> Account:
        """Make an acquirer known; answers its intermediary account."""
        return _record(Account, self._call("POST", "/v1/acquirers", {"code": code, "name": name}))

    def intermediary(self, acquirer: str) -> Account:
        """The account credited with the acquirer's sales."""
        return _record(Account, self._call("GET", f"/v1/acquirers/{acquirer}/intermediary"))

    def merchant_totals(self, acquirer: str) -> list[MerchantTotal]:
        """The settle lines of an acquirer."""
        return [_record(MerchantTotal, row) for row in self._call("GET", f"/v1/acquirers/{acquirer}/merchants")]

    def settlement_list(self, acquirer: str, day: date) -> bytes:
        """What the switch counted of an acquirer's day, signed (`shetab.settlement_list`)."""
        path = f"/v1/acquirers/{acquirer}/settlement-list"
        return raise_problem(self._http.get(path, params={"day": day.isoformat()})).content

    def transactions(self, *, rrn: str | None = None, reference: str | None = None) -> list[TransactionStatus]:
        """Sales and reversals, oldest first, all or those with this DE 37 or DE 62."""
        query = {name: value for name, value in (("rrn", rrn), ("reference", reference)) if value is not None}
        return [_record(TransactionStatus, row) for row in self._call("GET", "/v1/transactions", query=query)]

    def business_day(self) -> date:
        """The day that movements of money are counted in now."""
        return date.fromisoformat(self._call("GET", "/v1/business-day")["day"])

    def cut_over(self, day: date | None = None) -> date:
        """Count in another day from now on; None: in the calendar's."""
        body = {"day": None if day is None else day.isoformat()}
        return date.fromisoformat(self._call("PUT", "/v1/business-day", body)["day"])

    def is_balanced(self) -> bool:
        """True if no rial was made or lost."""
        return bool(self._call("GET", "/v1/balanced")["balanced"])

    def add_fault(
        self,
        mti: str,
        kind: Kind,
        *,
        count: int = 1,
        seconds: float = 0,
        rc: str = "91",
        changed: dict[int, str] | None = None,
    ) -> None:
        """Let `kind` happen to the next `count` messages of `mti` ("x" is any digit); `changed` is for "alter"."""
        self.add(Fault(mti=mti, kind=kind, count=count, seconds=seconds, rc=rc, fields=changed or {}))

    def add(self, fault: Fault) -> None:
        """Let this fault happen."""
        self._call("POST", "/v1/faults", fault.model_dump())

    def faults(self) -> list[Fault]:
        """The faults that have not happened yet."""
        return [Fault.model_validate(row) for row in self._call("GET", "/v1/faults")]

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._call("DELETE", "/v1/faults")

    def break_connections(self) -> None:
        """Abort every connection of the line."""
        self._call("DELETE", "/v1/connections")

    def change_keys(self, code: str) -> list[str]:
        """Send an acquirer that has signed on its next zone keys; which kinds."""
        answer: dict[str, list[str]] = self._call("POST", f"/v1/acquirers/{code}/zone-keys")
        return answer["sent"]

    def statistics(self) -> dict[str, dict[str, int]]:
        """Messages `received` by MTI and `dropped` by cause (mac, dialect, failed)."""
        answer: dict[str, dict[str, int]] = self._call("GET", "/v1/statistics")
        return answer

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, str] | None = None
    ) -> Any:
        response = raise_problem(self._http.request(method, path, json=body, params=query))
        return response.json() if response.content else None


def _record(kind: type[R], answer: dict[str, Any]) -> R:
    return kind(**{field.name: answer[field.name] for field in fields(kind)})
