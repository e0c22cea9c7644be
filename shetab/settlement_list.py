"""The network's settlement list: every movement that it counted of a business day, signed, for the acquirer to match.

What 0500 says in totals, this says one by one. It is a file of JSON Lines, UTF-8, each line one object with its keys
sorted and no white space, ended by a line feed:

    {"acquirer":"603770","business_day":"2026-03-21","final":true,"format":"kwbp-settlement-list-1","made_at":"…Z"}
    {"amount":150000,"merchant":"M-1","movement":"debit","rrn":"…","stan":"000017","terminal":"T1","void":false}
    …
    {"items":1,"net":150000,"sha256":"…"}
    {"signature":"…"}

`final` is true once the network counts in a later day. A `void` movement was taken back as a whole because nobody knew
its outcome: it does not count. `net` is in rial, what counts, from the acquirer's side. `sha256` is over all bytes
before its line; `signature` is ECDSA over P-256 with SHA-256 (X9.62 DER, base64) over all bytes before *its* line.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shetab.errors import ShetabError

FORMAT: Final = "kwbp-settlement-list-1"
LARGEST: Final = 64 * 2**20
"""Bytes: some three hundred thousand movements."""
SIGNS: Final[Mapping[str, int]] = {"debit": 1, "debit_reversal": -1, "credit": -1, "credit_reversal": 1}
"""What a movement does to the acquirer's net."""


T = TypeVar("T", bound=BaseModel)


class SettlementListError(ShetabError):
    """The list cannot be believed or read; says the line and the rule.

    `template` with `values` is what the text says, for whoever tells it in another language.
    """

    def __init__(self, template: str, **values: object) -> None:
        super().__init__(template.format(**values))
        self.template = template
        self.values = values


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ListedMovement(_Line):
    """One movement. `amount` in rial; `terminal` and `merchant` without the padding of DE 41 and DE 42."""

    merchant: Annotated[str, Field(pattern=r"^[!-~]{1,15}$")]
    terminal: Annotated[str, Field(pattern=r"^[!-~]{1,8}$")]
    rrn: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{12}$")]
    stan: Annotated[str, Field(pattern=r"^[0-9]{6}$")]
    movement: Literal["debit", "debit_reversal", "credit", "credit_reversal"]
    amount: Annotated[int, Field(gt=0, lt=10**12, strict=True)]
    void: Annotated[bool, Field(strict=True)] = False

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """By which it is one movement."""
        return self.merchant, self.terminal, self.stan, self.rrn, self.movement

    @property
    def signed(self) -> int:
        """Rial that it adds to the acquirer's net; 0 if it is void."""
        return 0 if self.void else SIGNS[self.movement] * self.amount


class _Header(_Line):
    format: Literal["kwbp-settlement-list-1"]
    acquirer: Annotated[str, Field(pattern=r"^[0-9]{6,11}$")]
    business_day: date
    final: Annotated[bool, Field(strict=True)]
    made_at: AwareDatetime


class _Trailer(_Line):
    items: Annotated[int, Field(ge=0, strict=True)]
    net: Annotated[int, Field(strict=True)]
    sha256: str


class _Signature(_Line):
    signature: str


@dataclass(frozen=True, slots=True)
class SettlementList:
    """A list whose signature, digest and sums hold."""

    acquirer: str
    business_day: date
    final: bool
    made_at: datetime
    movements: tuple[ListedMovement, ...]


def write_list(found: SettlementList, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The list as a file, signed by the network's key (P-256)."""
    header = {
        "format": FORMAT,
        "acquirer": found.acquirer,
        "business_day": found.business_day.isoformat(),
        "final": found.final,
        "made_at": found.made_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    content = b"".join([_line(header), *(_line(each.model_dump()) for each in found.movements)])
    trailer = {"items": len(found.movements), "net": _net(found.movements), "sha256": sha256(content).hexdigest()}
    content += _line(trailer)
    signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
    return content + _line({"signature": base64.b64encode(signature).decode("ascii")})


def read_list(data: bytes, key: ec.EllipticCurvePublicKey) -> SettlementList:
    """Read a list that `key` has signed. Nothing of it is looked at before the signature holds.

    :raises SettlementListError: not signed by this key, damaged, out of form, or it does not add up.
    """
    if len(data) > LARGEST:
        raise SettlementListError("a settlement list has at most {bytes} bytes", bytes=LARGEST)
    lines = data.splitlines(keepends=True)
    if len(lines) < 3:
        raise SettlementListError("a settlement list has a header, a trailer and a signature")
    signed = data[: len(data) - len(lines[-1])]
    _verify(signed, _read(_Signature, lines[-1], len(lines)).signature, key)
    header = _read(_Header, lines[0], 1)
    trailer = _read(_Trailer, lines[-2], len(lines) - 1)
    movements = tuple(_read(ListedMovement, line, number) for number, line in enumerate(lines[1:-2], start=2))
    if sha256(signed[: len(signed) - len(lines[-2])]).hexdigest() != trailer.sha256:
        raise SettlementListError("sha256 is not that of the lines before it")
    if (len(movements), _net(movements)) != (trailer.items, trailer.net):
        raise SettlementListError("items and net are not those of the movements")
    if len({each.key for each in movements}) != len(movements):
        raise SettlementListError("a movement is listed twice")
    return SettlementList(header.acquirer, header.business_day, header.final, header.made_at, movements)


def _verify(signed: bytes, signature: str, key: ec.EllipticCurvePublicKey) -> None:
    try:
        key.verify(base64.b64decode(signature, validate=True), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        raise SettlementListError("the list is not signed by the network's key") from None


def _read(kind: type[T], line: bytes, number: int) -> T:
    try:
        found = kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "line"
        raise SettlementListError(
            "line {number}: {field}: {rule}", number=number, field=where, rule=first["type"]
        ) from None
    # A key that is there twice, or a number for a day, would be read one way here and another way elsewhere.
    if _line(found.model_dump(mode="json")) != line:
        raise SettlementListError("line {number}: not in the one form that it may have", number=number)
    return found


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def _net(movements: Sequence[ListedMovement]) -> int:
    return sum(each.signed for each in movements)
