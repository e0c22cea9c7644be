"""Fees as data: what the acquirer keeps of a merchant's sales and captures. Pure, but for reading the file.

A file of rules, all amounts in rial:

    rules:
      - name: standard          # for everybody
        valid_from: 2026-03-21
        fixed: 1000
        per_mille: "2.5"        # at most three decimals
        floor: 1500
        cap: 40000
      - name: books             # before the standard rule, for these categories
        valid_from: 2026-03-21
        mcc: ["5942"]
        per_mille: "1.8"
        reversed: waived        # what is taken back on the same business day is not charged
        credited: charged       # what is given back is charged all the same (default)
      - name: corner-shop       # before all others
        valid_from: 2026-06-01
        merchants: [SHOP-7]
        fixed: 500

The rule of a merchant goes before that of its category, that before the standard one; of several of the same rank the
newest that is valid on the business day counts. Who has no rule pays nothing.

**Rounding.** The fee of a sale is `fixed + amount x per_mille / 1000`, rounded half up to the rial once, then raised to
`floor`, lowered to `cap`, and never more than the amount.

**What is taken back.** Fees are charged when a business day closes, on what stands of each sale and capture then:
where a rule says `waived`, reversals (credits) of the same order and day lower what is charged, down to nothing. What
is taken back on a later day changes no fee: a signed advice has told it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kwbp.codes import EntryKind
from kwbp.settling import Entry

CHARGED: Final = frozenset({EntryKind.SALE, EntryKind.CAPTURE})
_LARGEST: Final = 10**12
Rials = Annotated[int, Field(ge=0, lt=_LARGEST)]
MerchantId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$")]


class FeesError(ValueError):
    """The file of fees cannot be used; says where and why."""


class FeeRule(BaseModel):
    """One rule; see the module."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    valid_from: date
    merchants: tuple[MerchantId, ...] = ()
    mcc: tuple[Annotated[str, Field(pattern=r"^[0-9]{4}$")], ...] = ()
    fixed: Rials = 0
    per_mille: Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3})?$")] = "0"
    floor: Rials = 0
    cap: Rials | None = None
    reversed: Literal["charged", "waived"] = "charged"
    credited: Literal["charged", "waived"] = "charged"

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        if self.merchants and self.mcc:
            raise ValueError("a rule is for merchants or for categories, not for both")
        if self.cap is not None and self.cap < self.floor:
            raise ValueError("cap must not be less than floor")
        return self

    @property
    def rank(self) -> int:
        """Which rule goes first: the higher."""
        return 2 if self.merchants else 1 if self.mcc else 0

    def covers(self, merchant_id: str, mcc: str, day: date) -> bool:
        """Whether the rule may be asked about a merchant's sale of this day."""
        if day < self.valid_from:
            return False
        if self.merchants:
            return merchant_id in self.merchants
        return mcc in self.mcc if self.mcc else True

    def of(self, amount: int) -> int:
        """The fee of `amount` rial, of which all stands; 0 for 0."""
        share = (self.fixed + Decimal(amount) * Decimal(self.per_mille) / 1000).quantize(Decimal(1), ROUND_HALF_UP)
        fee = max(int(share), self.floor)
        return min(fee if self.cap is None else min(fee, self.cap), amount)


class FeeSchedule(BaseModel):
    """All rules."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rules: tuple[FeeRule, ...] = ()

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        seen: set[tuple[date, str]] = set()
        for rule in self.rules:
            for whom in rule.merchants or rule.mcc or ("*",):
                if (rule.valid_from, whom) in seen:
                    raise ValueError(f"two rules begin on {rule.valid_from} for {whom}")
                seen.add((rule.valid_from, whom))
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        :raises FeesError: it cannot be read, or is out of form.
        """
        try:
            return cls.from_yaml(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            raise FeesError(f"the file of fees {path} cannot be read") from None

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """As `load`, from the text."""
        try:
            found = yaml.safe_load(text)
            # YAML has lists where the model has tuples, so it is not strict about those.
            rules = [_with_tuples(rule) for rule in found["rules"]]
            return cls.model_validate({**found, "rules": tuple(rules)})
        except (yaml.YAMLError, TypeError, KeyError):
            raise FeesError("the file of fees must be YAML with a list of rules") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise FeesError(f"the file of fees: {where or 'rules'}: {first['msg']}") from None

    @classmethod
    def fixed(cls, amount: int) -> Self:
        """The same fee for everybody (setting `settlement_fee`); none if it is 0."""
        rule = FeeRule(name="settlement-fee", valid_from=date.min, fixed=amount)
        return cls(rules=(rule,) if amount else ())

    def rule(self, merchant_id: str, mcc: str, day: date) -> FeeRule | None:
        """The rule that counts for a merchant on a business day; None if it pays nothing."""
        found = [rule for rule in self.rules if rule.covers(merchant_id, mcc, day)]
        return max(found, key=lambda rule: (rule.rank, rule.valid_from), default=None)


def _with_tuples(rule: object) -> object:
    if not isinstance(rule, dict):
        return rule
    return {key: tuple(value) if isinstance(value, list) else value for key, value in rule.items()}


@dataclass(frozen=True, slots=True)
class ChargedFee:
    """A fee above 0, in rial, for the movement that `h_answer` approved."""

    h_answer: bytes
    amount: int
    rule: str


def fees_of_day(rule: FeeRule | None, entries: Iterable[Entry]) -> list[ChargedFee]:
    """What is charged for the movements of one merchant and day, which come in the order of their answers."""
    if rule is None:
        return []
    ordered = sorted(entries, key=lambda entry: entry.xid)  # stable
    found: list[ChargedFee] = []
    for _, of_order in groupby(ordered, key=lambda entry: entry.xid):
        found += _of_order(rule, list(of_order))
    return found


def _of_order(rule: FeeRule, entries: Sequence[Entry]) -> Iterable[ChargedFee]:
    charged = [entry for entry in entries if entry.kind in CHARGED]
    standing = {entry.h_answer: entry.amount for entry in charged}
    if rule.reversed == "waived":
        for entry in entries:
            if entry.kind is EntryKind.CAPTURE_REVERSAL:  # takes back one capture as a whole
                same = (each for each in charged if standing[each.h_answer] == entry.amount)
                _lower(standing, same, entry.amount)
        _lower(standing, charged, _sum(entries, EntryKind.SALE_REVERSAL))
    if rule.credited == "waived":
        _lower(standing, charged, _sum(entries, EntryKind.CREDIT) - _sum(entries, EntryKind.CREDIT_REVERSAL))
    for entry in charged:
        amount = rule.of(standing[entry.h_answer])
        if amount:
            yield ChargedFee(entry.h_answer, amount, rule.name)


def _lower(standing: dict[bytes, int], entries: Iterable[Entry], amount: int) -> None:
    """Take `amount` off what stands of these, first come first."""
    for entry in entries:
        if amount <= 0:
            return
        off = min(amount, standing[entry.h_answer])
        standing[entry.h_answer] -= off
        amount -= off


def _sum(entries: Iterable[Entry], kind: EntryKind) -> int:
    return sum(entry.amount for entry in entries if entry.kind is kind)
