"""Rules of limits as data: a YAML file of the operator, read into frozen models that know no other keys.

    rules:
      - name: card-by-day
        for: card                     # or merchant
        window: day                   # minute, hour, day (of Iran); order: each order by itself
        amount: 200_000_000           # rial, the most in a window
        orders: 20                    # the most in a window
        when: {mcc: ["5942"], bin: ["603770"], merchant: [M-1]}    # all that are named must hold; none: every order
        gives_back: [not-sent, declined, reversed]                 # when what was counted is not counted any more
        because:
          en: The central bank's ceiling of purchases without a card.
          fa: سقف خرید بدون حضور کارت.

An order is counted when it is sent. A rule with `orders` alone gives back only what was never sent, unless it says
otherwise: attempts are what it is there to count.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.errors import LimitExceededError, LimitRulesError
from gateway.limits.counting import AMOUNT_EXCEEDED, Claim, Occasion
from shetab.jalali import IRAN_STANDARD_TIME

_MOST_BYTES: Final = 1_000_000
_MOST_RULES: Final = 1000
_Digits = Annotated[str, Field(pattern=r"^[0-9]+$")]


class Subject(StrEnum):
    """Whose orders a rule counts together."""

    CARD = "card"
    MERCHANT = "merchant"


class Window(StrEnum):
    """What a rule counts in. Days are those of Iran."""

    ORDER = "order"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    def begin(self, now: datetime) -> datetime:
        """When the window that `now` is in began, in UTC."""
        local = now.astimezone(IRAN_STANDARD_TIME)
        if self is Window.DAY:
            local = local.replace(hour=0, minute=0)
        elif self is Window.HOUR:
            local = local.replace(minute=0)
        return local.replace(second=0, microsecond=0).astimezone(UTC)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Selector(_Part):
    """Which orders a rule is about. All that is given must hold; in each list one entry must."""

    mcc: tuple[Annotated[_Digits, Field(min_length=4, max_length=4)], ...] = ()
    bin: tuple[Annotated[_Digits, Field(min_length=1, max_length=8)], ...] = Field(
        default=(), description="beginnings of card numbers"
    )
    merchant: tuple[Annotated[str, Field(min_length=1, max_length=15)], ...] = ()

    def holds(self, mcc: str, digits: str, merchant_id: str) -> bool:
        """Whether an order of a merchant with this category and a card that begins so is meant."""
        return (
            (not self.mcc or mcc in self.mcc)
            and (not self.bin or digits.startswith(self.bin))
            and (not self.merchant or merchant_id in self.merchant)
        )


class Because(_Part):
    """Why there is the rule, for whoever asks."""

    en: str = Field(min_length=1, max_length=400)
    fa: str = Field(min_length=1, max_length=400)


class Rule(_Part):
    """One rule; see the module."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    subject: Subject = Field(alias="for")
    window: Window
    amount: Annotated[int, Field(gt=0, strict=True)] | None = None
    orders: Annotated[int, Field(gt=0, strict=True)] | None = None
    when: Selector = Selector()
    gives_back: frozenset[Occasion] | None = None
    because: Because

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.amount is None and self.orders is None:
            raise ValueError("a rule has an amount, a number of orders, or both")
        if self.window is Window.ORDER and (self.amount is None or self.orders is not None):
            raise ValueError("a rule about each order by itself has an amount and no number of orders")
        return self

    @property
    def returned(self) -> frozenset[Occasion]:
        """When what was counted is given back."""
        if self.gives_back is not None:
            return self.gives_back
        return frozenset({Occasion.NOT_SENT}) if self.amount is None else frozenset(Occasion)


class Rules(_Part):
    """A file of rules."""

    rules: tuple[Rule, ...] = Field(max_length=_MOST_RULES)
    """There must be such a list, if an empty one: a file that somebody is about to write has none yet."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("each rule has a name of its own")
        return self

    @classmethod
    def read(cls, data: bytes) -> Self:
        """From a file's content.

        :raises LimitRulesError: what is wrong, and in which rule.
        """
        if len(data) > _MOST_BYTES:
            raise LimitRulesError("the file is too long")
        try:
            found = yaml.safe_load(data)
            return cls.model_validate({} if found is None else found)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise LimitRulesError("the file is not YAML") from None
        except ValidationError as error:
            told = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
            raise LimitRulesError("; ".join(told[:5])) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a file; raises LimitRulesError if it cannot be read."""
        try:
            return cls.read(path.read_bytes())
        except OSError as error:
            raise LimitRulesError(f"{path.name} cannot be read: {type(error).__name__}") from None

    def claims(
        self, *, merchant_id: str, mcc: str, digits: str, card_id: bytes, amount: int, now: datetime
    ) -> list[Claim]:
        """What an order uses of the rules that are about it. Amount in rial; `digits`: the beginning of the PAN.

        :raises LimitExceededError: it costs more than one order may.
        """
        about = [rule for rule in self.rules if rule.when.holds(mcc, digits, merchant_id)]
        for rule in about:
            if rule.window is Window.ORDER and rule.amount is not None and amount > rule.amount:
                raise LimitExceededError(rule.name, AMOUNT_EXCEEDED)
        return list(self._counted(about, {Subject.CARD: card_id.hex(), Subject.MERCHANT: merchant_id}, amount, now))

    @staticmethod
    def _counted(rules: Iterable[Rule], subjects: dict[Subject, str], amount: int, now: datetime) -> Iterable[Claim]:
        for rule in rules:
            if rule.window is not Window.ORDER:
                yield Claim(
                    rule=rule.name,
                    subject=subjects[rule.subject],
                    window=rule.window.begin(now),
                    amount=amount,
                    most_orders=rule.orders,
                    most_amount=rule.amount,
                    gives_back=rule.returned,
                )
