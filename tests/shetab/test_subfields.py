"""DE 48, 53 and 90, and reversals built from the stored request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shetab.dialect import Dialect, Direction
from shetab.errors import ValueFormatError
from shetab.message import Message
from shetab.reversal import repeated, reversal_advice
from shetab.subfields import (
    AdditionalData,
    Coding,
    OriginalDataElements,
    PasswordNotice,
    ReplacementAmounts,
    SecurityControl,
)
from shetab.types import Cvv2, Rial
from tests.support.iso8583_messages import PAN, request_fields


class TestDe48:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (AdditionalData(Cvv2("123")), "  012300"),
            (AdditionalData(Cvv2("1234"), "en"), "  123401"),
            (AdditionalData(None), "      00"),
        ],
    )
    def test_golden(self, data: AdditionalData, text: str) -> None:
        assert data.to_de48() == text
        assert AdditionalData.from_de48(text).to_de48() == text

    def test_three_digits_match_after_zero_filling(self) -> None:
        received = AdditionalData.from_de48("  012300")
        assert received.matches(Cvv2("123"))
        assert not received.matches(Cvv2("124"))

    def test_no_cvv2_matches_nothing(self) -> None:
        assert not AdditionalData.from_de48("      00").matches(Cvv2("000"))

    @pytest.mark.parametrize("text", ["", "  0123", "00012300", "  012302", "  01x300", "   12300"])
    def test_other_layouts(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            AdditionalData.from_de48(text)


class TestDe48OfAPassword:
    def test_golden(self) -> None:
        notice = PasswordNotice(datetime(2026, 11, 23, 9, 15, tzinfo=UTC), "0912*****89")
        assert notice.to_de48() == "20261123091500 0912*****89"
        assert PasswordNotice.from_de48(notice.to_de48()) == notice

    @pytest.mark.parametrize(
        "text",
        ["", "20261123091500", "20261123091500 09121234589", "20261323091500 0912*****89", "2026112309150 0912*****89"],
    )
    def test_other_layouts(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            PasswordNotice.from_de48(text)


class TestDe53:
    def test_golden(self) -> None:
        assert SecurityControl(3).to_de53() == "0301010000000000"
        assert SecurityControl.from_de53("0002030000000000") == SecurityControl(0, 2, 3)

    @pytest.mark.parametrize("text", ["", "03010100000000001", "0301010000000001", "x301010000000000"])
    def test_other_layouts(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            SecurityControl.from_de53(text)


class TestDe90:
    def test_golden(self, request_message: Message) -> None:
        elements = OriginalDataElements.of(request_message)
        assert elements.to_de90() == "020000004211221030450000058167200000000000"
        assert OriginalDataElements.from_de90(elements.to_de90()) == elements

    def test_it_is_not_built_from_a_response(self, response_message: Message) -> None:
        with pytest.raises(ValueFormatError, match="not from its response"):
            OriginalDataElements.of(response_message)

    @pytest.mark.parametrize("text", ["", "0" * 41, "0" * 43, "0" * 41 + "x"])
    def test_other_layouts(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            OriginalDataElements.from_de90(text)


class TestReversal:
    def test_names_are_filled_to_the_length_of_their_field(self, dialect: Dialect) -> None:
        assert (dialect.pad(42, "M1"), len(dialect.pad(43, ""))) == ("M1             ", 40)

    def test_it_keeps_the_dialect_and_names_the_original(self, dialect: Dialect, request_message: Message) -> None:
        advice = reversal_advice(request_message, stan="000043", transmission_time="1122103115")
        assert dialect.decode(dialect.encode(advice), Direction.TO_SWITCH) == replace(advice, mac=bytes(8))
        assert advice[90] == "020000004211221030450000058167200000000000"
        assert (advice[11], advice[7]) == ("000043", "1122103115")
        for kept in (2, 4, 12, 13, 37, 41):
            assert advice[kept] == request_message[kept]

    def test_no_card_secret_is_in_it(self, request_message: Message) -> None:
        advice = reversal_advice(request_message, stan="000043", transmission_time="1122103115")
        assert not {14, 35, 48, 52, 53} & advice.fields.keys()

    def test_the_pan_may_come_from_a_sealed_store(self, dialect: Dialect) -> None:
        stored = Message("0200", {field: value for field, value in request_fields().items() if field != 2})
        advice = reversal_advice(stored, stan="000043", transmission_time="1122103115", pan=PAN)
        dialect.check(advice)

    def test_a_repeat_differs_in_mti_and_time_only(self, dialect: Dialect, request_message: Message) -> None:
        advice = reversal_advice(request_message, stan="000043", transmission_time="1122103115")
        again = repeated(advice, transmission_time="1122103215")
        dialect.check(again)
        assert again.mti == "0421"
        assert {**again.fields, 7: advice[7]} == dict(advice.fields)
        assert repeated(again, transmission_time="1122103315").mti == "0421"


class TestReplacementAmounts:
    """DE 95."""

    def test_there_and_back(self) -> None:
        text = ReplacementAmounts(Rial(90_000)).to_de95()
        assert text == "000000090000" * 2 + "C00000000" * 2
        assert ReplacementAmounts.from_de95(text) == ReplacementAmounts(Rial(90_000))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "000000090000" + "000000090001" + "C00000000" * 2,
            "000000090000" * 2 + "C00000001" + "C00000000",
            "00000009000x" * 2 + "C00000000" * 2,
        ],
    )
    def test_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            ReplacementAmounts.from_de95(text)


class TestCoding:
    """DE 62."""

    @pytest.mark.parametrize("action", ["", "CAPTURE"])
    def test_there_and_back(self, action: str) -> None:
        coding = Coding(bytes(range(20)), action)
        assert coding.to_de62() == f"KWBP2 {bytes(range(20)).hex()} {action}".rstrip()
        assert Coding.from_de62(coding.to_de62()) == coding

    @pytest.mark.parametrize("text", ["SALE", "KWBP2 " + "0" * 39, "KWBP2 " + "0" * 40 + " ", "KWBP2 " + "A" * 40])
    def test_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(ValueFormatError):
            Coding.from_de62(text)
