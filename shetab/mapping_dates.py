"""Rules about days that have a year on the wire and none inside: where it comes from, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from shetab.errors import ValueFormatError
from shetab.jalali import (
    IRAN_STANDARD_TIME,
    complete_transmission_time,
    latest_date,
    settlement_date,
    transmission_time,
)
from shetab.mapping_base import NOT_CARRIED, NOT_KNOWN, WRONG_YEAR, BaseRule, Fields, NotMappedError, Times, Written
from shetab.subfields import OriginalDataElements

_TOMORROW: Final = timedelta(days=1)


class LocalTime(BaseRule):
    """hhmmss and MMDD inside, YYMMDDhhmmss outside: the year is the one of the latest such day, tomorrow included.

    Of an advice, whose time is that of its original, it is the year of that if the message says it. So is it of a
    repeat, whose time is that of its first copy (`Message.local_at`). In an answer any year is taken, and kept: what is
    repeated there may be old.
    """

    kind: Literal["local_time"]
    of: Literal["message", "original", "repeat", "answer"] = "message"
    time: int
    date: int
    outside: int

    @property
    def taken_inside(self) -> frozenset[int]:
        return frozenset({self.time, self.date})

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.outside})

    @property
    def kept(self) -> frozenset[int]:
        return frozenset({self.outside}) if self.of == "answer" else frozenset()

    def moment(self, source: Fields) -> datetime | None:
        """When a repeat took place first, by the fields of the wire; None of anything else, or if they do not say."""
        if self.of != "repeat":
            return None
        try:
            text = source.get(self.outside, "")
            return datetime.strptime(text, "%y%m%d%H%M%S").replace(tzinfo=IRAN_STANDARD_TIME)
        except ValueError:
            return None

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        told = {"original": times.original_at, "repeat": times.local_at, "answer": times.local_at}.get(self.of)
        if told is not None:
            local = f"{told.astimezone(IRAN_STANDARD_TIME):%y%m%d%H%M%S}"
            if local[2:] == source[self.date] + source[self.time]:
                target[self.outside] = local
                return
        try:
            target[self.outside] = f"{latest_date(source[self.date], times.now):%y%m%d}{source[self.time]}"
        except ValueFormatError:
            raise NotMappedError(self.date, NOT_CARRIED) from None

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        text, local = source[self.outside], self.moment(source)
        if local is not None and local > times.now + _TOMORROW:
            raise NotMappedError(self.outside, WRONG_YEAR)
        target[self.date], target[self.time] = text[2:6], text[6:]
        again: dict[int, str] = {}
        self.to_wire(target, again, times, mtis)
        if again[self.outside] != text and self.of != "answer":
            raise NotMappedError(self.outside, WRONG_YEAR)


class Dated(BaseRule):
    """MMDD inside, YYMMDD outside: the year is that of `settlement_date`. In an answer any year is taken, and kept."""

    kind: Literal["date"]
    of: Literal["message", "answer"] = "message"
    field: int

    @property
    def taken_inside(self) -> frozenset[int]:
        return frozenset({self.field})

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.field})

    @property
    def kept(self) -> frozenset[int]:
        return frozenset({self.field}) if self.of == "answer" else frozenset()

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.field in source:
            try:
                target[self.field] = f"{settlement_date(source[self.field], times.now):%y%m%d}"
            except ValueFormatError:
                raise NotMappedError(self.field, NOT_CARRIED) from None

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.field in source:
            target[self.field] = source[self.field][2:]
            again: dict[int, str] = {}
            self.to_wire(target, again, times, mtis)
            if again[self.field] != source[self.field] and self.of != "answer":
                raise NotMappedError(self.field, WRONG_YEAR)


class Original(BaseRule):
    """DE 90 inside; outside MTI, STAN, local time YYMMDDhhmmss, LL and the institution of the original.

    The local time is that of the original's DE 12 and 13, which the message says (`Message.original_at`); DE 90 does
    not. Where it does not say it, DE 7 of the original is taken, which was written at the same time unless the original
    is an advice itself. A forwarding institution is not carried.
    """

    kind: Literal["original"]
    inside: int
    outside: int

    _LAYOUT = re.compile(r"([0-9]{4})([0-9]{6})([0-9]{12})([0-9]{2})([0-9]{1,11})")

    @property
    def taken_inside(self) -> frozenset[int]:
        return frozenset({self.inside})

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.outside})

    def moment(self, source: Fields) -> datetime | None:
        """When the original took place, by the fields of the wire; None if they do not say."""
        match = self._LAYOUT.fullmatch(source.get(self.outside, ""))
        try:
            return match and datetime.strptime(match[3], "%y%m%d%H%M%S").replace(tzinfo=IRAN_STANDARD_TIME)
        except ValueError:
            return None

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.inside not in source:
            return
        named = OriginalDataElements.from_de90(source[self.inside])
        try:
            moment = times.original_at or complete_transmission_time(named.transmission_time, times.now, past=True)
            if named.forwarder or not named.acquirer:
                raise ValueFormatError("DE 90", "an acquirer and no forwarder")
            local = f"{moment.astimezone(IRAN_STANDARD_TIME):%y%m%d%H%M%S}"
            mti = mtis[named.mti]
        except (KeyError, ValueFormatError):
            raise NotMappedError(self.inside, NOT_CARRIED) from None
        target[self.outside] = f"{mti}{named.stan}{local}{len(named.acquirer):02d}{named.acquirer}"

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.outside not in source:
            return
        match, local = self._LAYOUT.fullmatch(source[self.outside]), self.moment(source)
        back = {wire: inside for inside, wire in mtis.items()}
        if match is None or local is None or match[1] not in back:
            raise NotMappedError(self.outside, NOT_KNOWN)
        if local > times.now + _TOMORROW:
            raise NotMappedError(self.outside, WRONG_YEAR)
        named = OriginalDataElements(back[match[1]], match[2], transmission_time(local), match[5], "")
        target[self.inside] = named.to_de90()
        again: dict[int, str] = {}
        self.to_wire(target, again, times, mtis)
        if again[self.outside] != source[self.outside]:
            raise NotMappedError(self.outside, WRONG_YEAR)
