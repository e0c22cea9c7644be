"""What must never happen twice, remembered by the audit journal: serial and CRL numbers; and how often keys were used.

The journal is the one durable truth of what was signed, and it is read when it is opened anyway. So this state is
rebuilt from it instead of being written a second time: nothing can contradict the record, and a signature costs no
further sync. A claim counts from the intent on; only an operation that is known to have failed gives it back.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from audit import Entry
from audit.entry import JsonValue
from runtime.problems import Problem

INTENT: Final = "intent"
OUTCOME: Final = "outcome"
REFUSED: Final = "refused"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class SerialClaim:
    """The CA key `key` is about to sign the certificate with this serial and this TBS digest (hex)."""

    key: str
    serial: int
    digest: str

    def fields(self) -> dict[str, JsonValue]:
        """How the claim stands in its intent."""
        return {"serial": f"{self.serial:x}"}


@dataclass(frozen=True, slots=True)
class CrlClaim:
    """The CA key `key` is about to sign the CRL with this number and this TBS digest (hex)."""

    key: str
    number: int
    digest: str

    def fields(self) -> dict[str, JsonValue]:
        """How the claim stands in its intent."""
        return {"crl_number": str(self.number)}


Claim = SerialClaim | CrlClaim


class Ledger:
    """Claims and uses; safe for threads. Feed it the journal with `replay` before the first `claim`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # What is claimed, and how many operations hold the claim: a repeat that fails must not free what was signed.
        self._claims: Counter[Claim] = Counter()
        self._serials: dict[tuple[str, int], str] = {}
        self._crls: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._uses: Counter[tuple[str, int]] = Counter()
        self._open: dict[int, Claim] = {}

    def replay(self, entry: Entry) -> None:
        """Takes in one entry of the journal."""
        fields = entry.entry
        if fields.get("event") == INTENT:
            count = fields.get("count", 1)  # structures that share this intent
            for key, version in _keys(fields):
                self._uses[key, version] += count if isinstance(count, int) else 1
            claim = _claim(fields)
            if claim is not None:
                self._open[entry.index] = claim
                self._take(claim)
        elif fields.get("event") == OUTCOME:
            intent = fields.get("intent")
            claim = self._open.pop(intent, None) if isinstance(intent, int) else None
            if claim is not None and fields.get("result") == FAILED:
                self.release(claim)

    def claim(self, claim: Claim) -> None:
        """Takes a serial or CRL number; raises as `check`."""
        with self._lock:
            self._check(claim)
            self._take(claim)

    def check(self, claim: Claim) -> None:
        """Raises Problem 409 if the claim cannot be taken: signed before, or the number does not grow.

        The very same structure may be signed again, so that a CA whose answer was lost can repeat its request.
        """
        with self._lock:
            self._check(claim)

    def _check(self, claim: Claim) -> None:
        if isinstance(claim, SerialClaim):
            if self._serials.get((claim.key, claim.serial), claim.digest) != claim.digest:
                raise Problem(
                    409,
                    "serial-not-fresh",
                    f"key {claim.key} signed another certificate with this serial number",
                    clause="RFC 5280 4.1.2.2",
                )
        else:
            signed = self._crls[claim.key]
            last = max(signed, default=-1)
            if claim.number < last or signed.get(claim.number, claim.digest) != claim.digest:
                raise Problem(
                    409,
                    "crl-number-not-larger",
                    f"key {claim.key} signed CRL number {last}; the next is larger, not {claim.number}",
                    clause="RFC 5280 5.2.3",
                )

    def release(self, claim: Claim) -> None:
        """Gives back the claim of an operation that failed, unless another holds the same."""
        with self._lock:
            self._claims[claim] -= 1
            if self._claims[claim] > 0:
                return
            del self._claims[claim]
            if isinstance(claim, SerialClaim):
                del self._serials[claim.key, claim.serial]
            else:
                del self._crls[claim.key][claim.number]

    def uses(self, key: str, version: int) -> int:
        """In how many operations the key was used before the journal was opened."""
        return self._uses[key, version]

    def _take(self, claim: Claim) -> None:
        self._claims[claim] += 1
        if isinstance(claim, SerialClaim):
            self._serials[claim.key, claim.serial] = claim.digest
        else:
            self._crls[claim.key][claim.number] = claim.digest


def _keys(fields: Mapping[str, JsonValue]) -> list[tuple[str, int]]:
    found = []
    keys = fields.get("keys")
    for each in keys if isinstance(keys, list) else []:
        name, _, version = str(each).rpartition("/")
        found.append((name, int(version)))
    return found


def _claim(fields: Mapping[str, JsonValue]) -> Claim | None:
    keys = _keys(fields)
    digest = str(fields.get("input_sha256"))
    if "serial" in fields:
        return SerialClaim(keys[0][0], int(str(fields["serial"]), 16), digest)
    if "crl_number" in fields:
        return CrlClaim(keys[0][0], int(str(fields["crl_number"])), digest)
    return None
