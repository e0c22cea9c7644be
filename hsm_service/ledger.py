"""What must never happen twice, remembered by the audit journal: serial and CRL numbers, and checkpoints of logs; and
how often keys were used.

The journal is the one durable truth of what was signed, and it is read when it is opened anyway. So this state is
rebuilt from it instead of being written a second time: nothing can contradict the record, and a signature costs no
further sync. A claim counts from the intent on; only an operation that is known to have failed gives it back.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from audit import Entry
from audit.checkpoint import EMPTY, TreeHead
from audit.entry import JsonValue
from runtime.problems import Problem

INTENT: Final = "intent"
OUTCOME: Final = "outcome"
SERIAL_BITS: Final = 64
"""Bits of a time-stamp's serial number below its genTime (seconds since 1970)."""
_REMEMBERED: Final = 600
"""Seconds of genTime for which serial numbers are remembered: many times what it may differ from our clock."""
_FORGET_FROM: Final = 1024
_BACKWARDS: Final = 10
"""Seconds by which a genTime may lie before one that was signed: twice what each of them may differ from our clock."""
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
class DossierClaim:
    """The certificate with this TBS digest (hex) is about to be signed on the approval of this revision and purpose.

    An approval is good for one certificate: a second one for the same purpose needs another revision, decided anew.
    """

    revision: str
    purpose: str
    digest: str

    def fields(self) -> dict[str, JsonValue]:
        """How the claim stands in its intent."""
        return {"revision": self.revision, "purpose": self.purpose}


CrlScope = Literal["full", "delta", "partition"]
_SCOPES: Final[Mapping[str, CrlScope]] = {"full": "full", "delta": "delta", "partition": "partition"}


@dataclass(frozen=True, slots=True)
class CrlClaim:
    """The CA key `key` is about to sign the CRL with this number and this TBS digest (hex).

    The numbers of a key grow over all scopes (RFC 5280 5.2.3). A full list or a delta supersedes the full lists before
    it; a partition, which tells of some certificates only, supersedes none.
    """

    key: str
    number: int
    digest: str
    scope: CrlScope = "full"

    def fields(self) -> dict[str, JsonValue]:
        """How the claim stands in its intent."""
        return {"crl_number": str(self.number), "crl_scope": self.scope}


@dataclass(frozen=True, slots=True)
class TimestampClaim:
    """The key `key` is about to sign the time-stamp with this serial number and this TSTInfo digest (hex).

    It is never given back: a time-stamp that failed is asked for anew, under another number. A number begins with its
    genTime (`hsm_service.typed_timestamp`), so it is forgotten once nobody could sign with that genTime any more.
    """

    key: str
    serial: int
    digest: str

    def fields(self) -> dict[str, JsonValue]:
        """How the claim stands in its intent."""
        return {"timestamp_serial": f"{self.serial:x}"}


@dataclass(frozen=True, slots=True)
class CheckpointClaim:
    """The log key `key` is about to sign the checkpoint `head`, which was proven to extend `previous`.

    It is never given back. Should the token fail, the next checkpoint extends this one all the same: it was a true tree
    of the log, or else the log was about to fork, and then its key is right to sign nothing more.
    """

    key: str
    head: TreeHead
    previous: TreeHead

    def fields(self) -> dict[str, JsonValue]:
        """How the claim stands in its intent."""
        return {"checkpoint_size": str(self.head.size), "checkpoint_root": self.head.root.hex()}


Claim = SerialClaim | DossierClaim | CrlClaim | TimestampClaim | CheckpointClaim


class Ledger:
    """Claims and uses; safe for threads. Feed it the journal with `replay` before the first `claim`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # What is claimed, and how many operations hold the claim: a repeat that fails must not free what was signed.
        self._claims: Counter[Claim] = Counter()
        self._serials: dict[tuple[str, int], str] = {}
        self._crls: defaultdict[str, dict[int, tuple[str, CrlScope]]] = defaultdict(dict)
        self._newest: dict[str, int | None] = {}  # what `newest_crl` found: it is asked for with every certificate
        self._uses: Counter[tuple[str, int]] = Counter()
        self._dossiers: dict[tuple[str, str], str] = {}
        self._timestamps: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._latest: dict[str, int] = {}  # of each key the latest genTime, seconds
        self._open: dict[int, tuple[Claim, ...]] = {}
        self._unended: set[int] = set()
        self._checkpoints: dict[str, TreeHead] = {}

    def replay(self, entry: Entry) -> None:
        """Takes in one entry of the journal."""
        fields = entry.entry
        if fields.get("event") == INTENT:
            self._unended.add(entry.index)
            count = fields.get("count", 1)  # structures that share this intent
            for key, version in _keys(fields):
                self._uses[key, version] += count if isinstance(count, int) else 1
            claims = tuple(_claims(fields))
            if claims:
                self._open[entry.index] = claims
            for claim in claims:
                # Two threads may record their intents in another order than they claimed: what was claimed only grew.
                if isinstance(claim, CheckpointClaim) and claim.head.size < self.last_checkpoint(claim.key).size:
                    continue
                self._take(claim)
        elif fields.get("event") == OUTCOME:
            intent = fields.get("intent")
            if isinstance(intent, int):
                self._unended.discard(intent)
                claims = self._open.pop(intent, ())
                if fields.get("result") == FAILED:
                    for claim in claims:
                        self.release(claim)

    @property
    def unended(self) -> list[int]:
        """The numbers of the intents in the journal that had no outcome when it was opened."""
        return sorted(self._unended)

    def claim(self, claim: Claim) -> None:
        """Takes a serial number, a CRL number, or a log's next checkpoint; raises as `check`."""
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
        elif isinstance(claim, DossierClaim):
            if self._dossiers.get((claim.revision, claim.purpose), claim.digest) != claim.digest:
                raise Problem(
                    409,
                    "approval-used",
                    f"another {claim.purpose} certificate was signed on the approval of this revision",
                    clause="CPS 4.3.1",
                )
        elif isinstance(claim, TimestampClaim):
            if self._timestamps[claim.key].get(claim.serial, claim.digest) != claim.digest:
                raise Problem(
                    409,
                    "serial-not-fresh",
                    f"key {claim.key} signed another time-stamp with this serial number",
                    clause="RFC 3161 2.4.2",
                )
            if claim.serial >> SERIAL_BITS < self._latest.get(claim.key, 0) - _BACKWARDS:
                raise Problem(
                    409,
                    "time-went-back",
                    f"key {claim.key} signed a later genTime: the clock went back",
                    clause="RFC 3161 2.1",
                )
        elif isinstance(claim, CheckpointClaim):
            # Since the judge looked, another request may have been quicker: two that extend one tree may fork it.
            last = self._checkpoints.get(claim.key, EMPTY)
            if claim.previous != last:
                raise not_next(claim.key, last.size)
        else:
            signed = self._crls[claim.key]
            largest = max(signed, default=-1)
            this = (claim.digest, claim.scope)
            if claim.number < largest or signed.get(claim.number, this) != this:
                raise Problem(
                    409,
                    "crl-number-not-larger",
                    f"key {claim.key} signed CRL number {largest}; the next is larger, not {claim.number}",
                    clause="RFC 5280 5.2.3",
                )

    def release(self, claim: Claim) -> None:
        """Gives back the claim of an operation that failed, unless another holds the same."""
        if isinstance(claim, CheckpointClaim | TimestampClaim):
            return
        with self._lock:
            self._claims[claim] -= 1
            if self._claims[claim] > 0:
                return
            del self._claims[claim]
            if isinstance(claim, SerialClaim):
                del self._serials[claim.key, claim.serial]
            elif isinstance(claim, DossierClaim):
                del self._dossiers[claim.revision, claim.purpose]
            else:
                del self._crls[claim.key][claim.number]
                self._newest.pop(claim.key, None)

    def newest_crl(self, key: str) -> int | None:
        """The largest number of a CRL for everybody that the CA key `key` signed or is about to sign; None without one.

        A full list, or a delta: where a delta has followed, who knows the full list alone may miss a revocation.
        """
        with self._lock:
            if key not in self._newest:
                signed = self._crls.get(key, {})
                numbers = (number for number, (_digest, scope) in signed.items() if scope != "partition")
                self._newest[key] = max(numbers, default=None)
            return self._newest[key]

    def last_crl_number(self, key: str) -> int | None:
        """The largest number of any CRL that the CA key `key` signed or is about to sign; None if there is none."""
        with self._lock:
            return max(self._crls.get(key, ()), default=None)

    def is_full_crl(self, key: str, number: int) -> bool:
        """Whether `number` is that of a full CRL that the CA key `key` signed or is about to sign."""
        with self._lock:
            return self._crls.get(key, {}).get(number, ("", None))[1] == "full"

    def uses(self, key: str, version: int) -> int:
        """In how many operations the key was used before the journal was opened."""
        return self._uses[key, version]

    def last_checkpoint(self, key: str) -> TreeHead:
        """The last checkpoint that the log key `key` was about to sign; the empty tree if there was none."""
        return self._checkpoints.get(key, EMPTY)

    def _take(self, claim: Claim) -> None:
        if isinstance(claim, CheckpointClaim):
            self._checkpoints[claim.key] = claim.head
            return
        if isinstance(claim, TimestampClaim):
            self._take_timestamp(claim)
            return
        self._claims[claim] += 1
        if isinstance(claim, SerialClaim):
            self._serials[claim.key, claim.serial] = claim.digest
        elif isinstance(claim, DossierClaim):
            self._dossiers[claim.revision, claim.purpose] = claim.digest
        else:
            self._crls[claim.key][claim.number] = (claim.digest, claim.scope)
            self._newest.pop(claim.key, None)

    def _take_timestamp(self, claim: TimestampClaim) -> None:
        signed = self._timestamps[claim.key]
        signed[claim.serial] = claim.digest
        self._latest[claim.key] = max(self._latest.get(claim.key, 0), claim.serial >> SERIAL_BITS)
        if len(signed) >= _FORGET_FROM and len(signed) & (len(signed) - 1) == 0:
            oldest = max(signed) - (_REMEMBERED << SERIAL_BITS)
            self._timestamps[claim.key] = {serial: digest for serial, digest in signed.items() if serial > oldest}


def not_next(key: str, size: int) -> Problem:
    """The refusal of a checkpoint that does not start from the last one of `key`, which has `size` leaves."""
    detail = f"key {key} signed a checkpoint of {size} entries last: prove that yours extends it"
    return Problem(409, "checkpoint-not-next", detail, clause="C2SP tlog-checkpoint", size=size)


def _keys(fields: Mapping[str, JsonValue]) -> list[tuple[str, int]]:
    found = []
    keys = fields.get("keys")
    for each in keys if isinstance(keys, list) else []:
        name, _, version = str(each).rpartition("/")
        found.append((name, int(version)))
    return found


def _claims(fields: Mapping[str, JsonValue]) -> Iterator[Claim]:
    together, digests = fields.get("claims"), fields.get("inputs_sha256")
    if isinstance(together, list) and isinstance(digests, list):  # of a batch, in the order of its structures
        for claimed, each in zip(together, digests, strict=True):
            if isinstance(claimed, dict):
                yield from _claims({**claimed, "keys": fields.get("keys"), "input_sha256": each})
        return
    keys = _keys(fields)
    digest = str(fields.get("input_sha256"))
    if "serial" in fields:
        yield SerialClaim(keys[0][0], int(str(fields["serial"]), 16), digest)
    if "timestamp_serial" in fields:
        yield TimestampClaim(keys[0][0], int(str(fields["timestamp_serial"]), 16), digest)
    if "revision" in fields:
        yield DossierClaim(str(fields["revision"]), str(fields["purpose"]), digest)
    if "crl_number" in fields:
        # An intent that names no scope is of a time when there were full lists only.
        scope = _SCOPES.get(str(fields.get("crl_scope")), "full")
        yield CrlClaim(keys[0][0], int(str(fields["crl_number"])), digest, scope)
    if "checkpoint_size" in fields:
        head = TreeHead(int(str(fields["checkpoint_size"])), bytes.fromhex(str(fields["checkpoint_root"])))
        yield CheckpointClaim(keys[0][0], head, head)
