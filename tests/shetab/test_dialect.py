"""The dialect refuses, both ways, what the codec lets through; errors name field and rule and show no value."""

from __future__ import annotations

import string
from typing import Any

import iso8583
import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso8583.specs import default
from pydantic import ValidationError

from shetab.dialect import Dialect, Direction
from shetab.errors import DialectError, FieldPresenceError, MacFormatError, MessageFormatError
from shetab.formats import FieldFormat
from shetab.mac import message_mac
from shetab.message import Message
from tests.support.iso8583_messages import PAN, request_fields, response_fields

GOLDEN_REQUEST = (
    b"0200F23CE4C108E198040000000010000001"
    b"16" + PAN.encode() + b"000000" + b"000000150000" + b"1122103045" + b"000042" + b"140045" + b"1122" + b"0712"
    b"1122" + b"5942" + b"364" + b"010" + b"59" + b"12" + b"06581672" + b"000000000042" + b"T0000001"
    b"M1             " + b"Bookshop Tehran                         " + b"008  012300" + b"364"
    b"F92D1CFCC2103E10" + b"0301010000000000" + b"004SALE" + b"09581672000"
)

NETWORK_REQUEST = {7: "1122103045", 11: "000001", 12: "140045", 13: "1122", 33: "581672", 70: "001"}
NETWORK_RESPONSE = {7: "1122103045", 11: "000001", 12: "140045", 13: "1122", 39: "00", 70: "001", 100: "581672"}
REVERSAL = {
    field: value
    for field, value in request_fields().items()
    if field in (2, 3, 4, 7, 11, 12, 13, 17, 32, 37, 41, 42, 49, 62, 100)
} | {90: "02000000421122103045" + "00000581672" + "0" * 11}
REVERSAL_RESPONSE = {field: value for field, value in response_fields().items() if field not in (38, 43)}

PASSWORD_REQUEST = {
    field: value
    for field, value in request_fields().items()
    if field in (2, 4, 7, 11, 12, 13, 14, 18, 19, 25, 32, 37, 41, 42, 43, 49, 62, 100)
} | {3: "380000", 14: "0712", 48: "ab" * 32}
PASSWORD_RESPONSE = {
    field: value
    for field, value in response_fields().items()
    if field in (2, 4, 7, 11, 12, 13, 32, 33, 37, 39, 41, 42, 49, 62)
} | {3: "380000", 48: "20261123091500 0912*****89"}

ALL_MESSAGES = {
    "0200": request_fields(),
    "0201": request_fields(),
    "0210": response_fields(),
    "0420": REVERSAL,
    "0421": REVERSAL,
    "0430": REVERSAL_RESPONSE,
    "0600": PASSWORD_REQUEST,
    "0610": PASSWORD_RESPONSE,
    "0800": NETWORK_REQUEST,
    "0810": NETWORK_RESPONSE,
}


def changed(fields: dict[int, str], **changes: str | None) -> dict[int, str]:
    """`fields` with e.g. de4="…" set, or removed by None."""
    out = dict(fields)
    for name, value in changes.items():
        field = int(name.removeprefix("de"))
        if value is None:
            del out[field]
        else:
            out[field] = value
    return out


class TestGoldenBytes:
    def test_request_with_pin(self, dialect: Dialect, request_message: Message) -> None:
        assert dialect.encode(request_message) == GOLDEN_REQUEST + b"0" * 16

    def test_bitmap_shows_the_mac_before_it_is_made(self, dialect: Dialect, request_message: Message) -> None:
        raw = dialect.encode(request_message)
        assert dialect.mac_input(raw) == GOLDEN_REQUEST
        assert int(raw[20:36], 16) & 1 == 1

    def test_sign_on(self, dialect: Dialect) -> None:
        raw = dialect.encode(Message("0800", NETWORK_REQUEST))
        assert raw == b"0800823800008000000004000000000000011122103045000001140045112206581672001" + b"0" * 16

    def test_response_has_its_mac_in_field_64(self, dialect: Dialect, response_message: Message) -> None:
        raw = dialect.encode(response_message)
        assert raw[:4] == b"0210"
        assert int(raw[4:20], 16) & 1 == 1
        assert int(raw[4:20], 16) >> 63 == 0

    def test_the_codec_alone_puts_an_empty_mac_slot_last(self) -> None:
        """Vector of the protocol: 0200 with fields 2, 3, 4, 64 under the codec's binary default specification."""
        document = {"t": "0200", "2": PAN, "3": "000000", "4": "000000001000", "64": "0" * 16}
        raw, _ = iso8583.encode(document, default)
        assert raw[:4] == b"0200"
        assert raw[4:12] == bytes.fromhex("7000000000000001")
        assert raw[12:14] == b"16"
        assert raw[-8:] == bytes(8)


class TestRoundTrip:
    @pytest.mark.parametrize("mti", ALL_MESSAGES)
    def test_every_message_survives_with_its_mac(self, dialect: Dialect, mti: str) -> None:
        raw = dialect.encode(Message(mti, ALL_MESSAGES[mti]))
        mac = message_mac(bytes(range(16)), dialect.mac_input(raw))
        message = dialect.decode(dialect.with_mac(raw, mac))
        assert (message.mti, dict(message.fields), message.mac) == (mti, ALL_MESSAGES[mti], mac)
        assert dialect.encode(message) == dialect.with_mac(raw, mac)

    @given(data=st.data())
    def test_any_request_of_the_formats(self, dialect: Dialect, data: st.DataObject) -> None:
        rule = dialect.messages["0200"]
        fields = {field: data.draw(_values(dialect, field)) for field in sorted(rule.mandatory)}
        for field in sorted(rule.conditional - {53}):
            if data.draw(st.booleans()):
                fields[field] = data.draw(_values(dialect, field))
        if 52 in fields:
            fields[53] = data.draw(_values(dialect, 53))
        mac = data.draw(st.binary(min_size=8, max_size=8))
        message = Message("0200", fields, mac)
        assert dialect.decode(dialect.encode(message), Direction.TO_SWITCH) == message


def _values(dialect: Dialect, field: int) -> st.SearchStrategy[str]:
    rule = dialect.fields[field]
    if rule.values:
        return st.sampled_from(rule.values)
    if rule.pattern:
        two_digits = {"MM": (1, 12), "DD": (1, 31), "hh": (0, 23), "mm": (0, 59), "ss": (0, 59), "YY": (0, 99)}
        ranges = [two_digits[rule.pattern[at : at + 2]] for at in range(0, len(rule.pattern), 2)]
        return st.tuples(*(st.integers(*r).map("{:02d}".format) for r in ranges)).map("".join)
    alphabet = {
        "n": string.digits,
        "an": string.digits + string.ascii_letters,
        "ans": "".join(map(chr, range(32, 127))),
        "z": string.digits + "=D",
        "b": "0123456789ABCDEF",
    }[rule.format.kind]
    low = 1 if rule.format.variable else rule.format.size
    return st.text(alphabet, min_size=low, max_size=rule.format.size)


ONE_FAULT: dict[str, tuple[str, dict[str, str | None], str, str]] = {
    "letters in the amount": ("0200", {"de4": "12x456789012"}, "4", "characters_must_be_n"),
    "amount too short": ("0200", {"de4": "150000"}, "4", "length_must_be_12"),
    "processing code of letters": ("0200", {"de3": "ABCDEF"}, "3", "characters_must_be_n"),
    "month 13": ("0200", {"de7": "1322103045"}, "7", "must_be_MMDDhhmmss"),
    "hour 24": ("0200", {"de12": "240000"}, "12", "must_be_hhmmss"),
    "day 0": ("0200", {"de13": "1100"}, "13", "must_be_MMDD"),
    "expiry month 0": ("0200", {"de14": "0700"}, "14", "must_be_YYMM"),
    "currency rial to dollar": ("0200", {"de49": "840"}, "49", "value_not_in_dialect"),
    "terminal type unknown": ("0200", {"de25": "58"}, "25", "value_not_in_dialect"),
    "lower-case PIN block": ("0200", {"de52": "f92d1cfcc2103e10"}, "52", "characters_must_be_b"),
    "control character in a name": ("0200", {"de43": "Bookshop\n".ljust(40)}, "43", "characters_must_be_ans"),
    "PAN missing": ("0200", {"de2": None}, "2", "mandatory_field_is_missing"),
    "PIN block without security control": ("0200", {"de53": None}, "53", "must_be_present_with_field_52"),
    "balance in a request": ("0200", {"de54": "0"}, "54", "field_is_not_allowed"),
    "PIN block in a reversal": ("0420", {"de52": "F92D1CFCC2103E10"}, "52", "field_is_not_allowed"),
    "CVV2 in a reversal": ("0421", {"de48": "  012300"}, "48", "field_is_not_allowed"),
    "reversal without original": ("0420", {"de90": None}, "90", "mandatory_field_is_missing"),
    "response without code": ("0210", {"de39": None}, "39", "mandatory_field_is_missing"),
    "unknown network code": ("0800", {"de70": "999"}, "70", "value_not_in_dialect"),
}


class TestBothWaysRefuse:
    """Each case has one thing wrong. The second test sends the same fault as bytes, made with the bare codec."""

    @pytest.mark.parametrize("case", ONE_FAULT)
    def test_when_encoding(self, dialect: Dialect, case: str) -> None:
        mti, changes, field, rule = ONE_FAULT[case]
        fields = changed(ALL_MESSAGES[mti], **changes)
        with pytest.raises(DialectError) as refusal:
            dialect.encode(Message(mti, fields))
        assert (refusal.value.mti, refusal.value.field, refusal.value.rule) == (mti, field, rule)
        self._shows_nothing(refusal.value, fields)

    @pytest.mark.parametrize("case", [case for case in ONE_FAULT if case != "amount too short"])
    def test_when_decoding(self, dialect: Dialect, case: str) -> None:
        mti, changes, field, rule = ONE_FAULT[case]
        fields = changed(ALL_MESSAGES[mti], **changes)
        with pytest.raises(DialectError) as refusal:
            dialect.decode(_bare_encode(dialect, mti, fields))
        assert (refusal.value.mti, refusal.value.field, refusal.value.rule) == (mti, field, rule)
        self._shows_nothing(refusal.value, fields)

    @staticmethod
    def _shows_nothing(error: DialectError, fields: dict[int, str]) -> None:
        for field in (2, 14, 48, 52):
            if field in fields:
                assert fields[field] not in str(error)
        assert error.__cause__ is None
        assert error.__context__ is None


def _bare_encode(dialect: Dialect, mti: str, fields: dict[int, str], mac_field: int | None = None) -> bytes:
    """Bytes as the codec alone makes them, without the checks of the dialect."""
    if mac_field is None:
        mac_field = 64 if max(fields) < 64 else 128
    document = {"t": mti, **{str(field): value for field, value in fields.items()}, str(mac_field): "0" * 16}
    return bytes(iso8583.encode(document, dialect._octets.spec)[0])


class TestHostileBytes:
    """One honest message, one thing changed on the wire."""

    @pytest.fixture
    def raw(self, dialect: Dialect, request_message: Message) -> bytes:
        return dialect.encode(request_message)

    def test_honest_twin_is_accepted(self, dialect: Dialect, raw: bytes) -> None:
        assert dialect.decode(raw, Direction.TO_SWITCH).mti == "0200"

    def test_every_truncation(self, dialect: Dialect, raw: bytes) -> None:
        for end in range(len(raw)):
            with pytest.raises(DialectError) as refusal:
                dialect.decode(raw[:end])
            assert PAN not in str(refusal.value)
            assert refusal.value.__context__ is None

    def test_trailing_byte(self, dialect: Dialect, raw: bytes) -> None:
        with pytest.raises(MessageFormatError, match="cannot_be_decoded"):
            dialect.decode(raw + b"0")

    @pytest.mark.parametrize("prefix", [b"+8", b" 8", b"8 "])
    def test_length_that_python_reads_but_nobody_writes(self, dialect: Dialect, raw: bytes, prefix: bytes) -> None:
        hostile = raw.replace(b"008  012300", prefix.rjust(3, b"0") + b"  012300")
        assert hostile != raw
        with pytest.raises(MessageFormatError):
            dialect.decode(hostile)

    def test_lower_case_bitmap(self, dialect: Dialect, raw: bytes) -> None:
        with pytest.raises(MessageFormatError, match="encoding_is_not_canonical"):
            dialect.decode(raw[:4] + raw[4:36].lower() + raw[36:])

    def test_lower_case_mac(self, dialect: Dialect, raw: bytes) -> None:
        with pytest.raises(MessageFormatError, match="field 128: characters_must_be_b"):
            dialect.decode(raw[:-16] + b"abcdef0123456789")

    def test_two_mac_fields(self, dialect: Dialect) -> None:
        fields = request_fields() | {64: "0" * 16}
        with pytest.raises(FieldPresenceError, match="field 64: field_is_not_allowed"):
            dialect.decode(_bare_encode(dialect, "0200", fields))

    def test_mac_in_field_128_where_64_belongs(self, dialect: Dialect) -> None:
        with pytest.raises(MessageFormatError, match="encoding_is_not_canonical"):
            dialect.decode(_bare_encode(dialect, "0210", response_fields(), mac_field=128))

    def test_no_mac(self, dialect: Dialect) -> None:
        document = {"t": "0800", **{str(field): value for field, value in NETWORK_REQUEST.items()}}
        with pytest.raises(FieldPresenceError, match="mac_is_missing"):
            dialect.decode(bytes(iso8583.encode(document, dialect._octets.spec)[0]))

    def test_field_that_the_dialect_does_not_have(self, dialect: Dialect, raw: bytes) -> None:
        bitmap = int(raw[4:20], 16) | 1 << (64 - 5)
        with pytest.raises(MessageFormatError) as refusal:
            dialect.decode(raw[:4] + f"{bitmap:016X}".encode() + raw[20:])
        assert (refusal.value.field, refusal.value.rule) == ("5", "field_not_in_dialect")

    def test_tertiary_bitmap(self, dialect: Dialect, raw: bytes) -> None:
        secondary = int(raw[20:36], 16) | 1 << 63
        with pytest.raises(MessageFormatError):
            dialect.decode(raw[:20] + f"{secondary:016X}".encode() + raw[36:])

    def test_empty_variable_field(self, dialect: Dialect, raw: bytes) -> None:
        with pytest.raises(MessageFormatError, match="field 48: length_must_be_1_to_999"):
            dialect.decode(raw.replace(b"008  012300", b"000"))

    @pytest.mark.parametrize("mti", ["99ZZ", "0120", "1200", "0300", "02٠0"])
    def test_unknown_mti(self, dialect: Dialect, mti: str) -> None:
        with pytest.raises(MessageFormatError, match="mti_not_in_dialect"):
            dialect.encode(Message(mti, request_fields()))

    def test_unknown_mti_on_the_wire(self, dialect: Dialect, raw: bytes) -> None:
        with pytest.raises(MessageFormatError, match="mti_not_in_dialect"):
            dialect.decode(b"99ZZ" + raw[4:])

    def test_request_that_comes_from_the_switch(self, dialect: Dialect, raw: bytes) -> None:
        with pytest.raises(MessageFormatError, match="mti_does_not_travel_from_switch"):
            dialect.decode(raw, Direction.FROM_SWITCH)

    @given(st.binary(max_size=300))
    def test_noise(self, dialect: Dialect, noise: bytes) -> None:
        with pytest.raises(DialectError):
            dialect.decode(noise)


class TestMacSlot:
    def test_only_8_bytes_fit(self, dialect: Dialect, request_message: Message) -> None:
        raw = dialect.encode(request_message)
        with pytest.raises(MacFormatError):
            dialect.with_mac(raw, bytes(16))
        with pytest.raises(MacFormatError):
            dialect.encode(Message("0200", request_fields(), mac=bytes(16)))

    @pytest.mark.parametrize(
        "raw", [b"", b"0200", b"0200" + b"7" * 16, b"0200" + b"x" * 32, b"0200" + b"F" * 15 + b"E"]
    )
    def test_bytes_without_a_slot(self, dialect: Dialect, raw: bytes) -> None:
        if raw == b"0200" + b"7" * 16:
            assert dialect.mac_input(raw) == b"0200"
            return
        with pytest.raises(MacFormatError):
            dialect.mac_input(raw)

    @given(position=st.integers(0, 266), bit=st.integers(0, 7))
    def test_no_byte_is_outside_the_mac(self, dialect: Dialect, position: int, bit: int) -> None:
        raw = dialect.encode(Message("0200", request_fields()))
        covered = dialect.mac_input(raw)
        position %= len(covered)
        flipped = bytearray(covered)
        flipped[position] ^= 1 << bit
        assert message_mac(bytes(16), bytes(flipped)) != message_mac(bytes(16), covered)


class TestMatching:
    def test_answer_and_repeat_share_the_key_of_the_request(self, dialect: Dialect) -> None:
        keys = {dialect.match_key(Message(mti, ALL_MESSAGES[mti])) for mti in ("0200", "0201", "0210")}
        assert keys == {("0200", "000042", "140045", "1122", "581672", "000000000042", "T0000001")}

    def test_a_reversal_never_matches_a_sale(self, dialect: Dialect) -> None:
        assert (
            dialect.match_key(Message("0420", REVERSAL))[1:] == dialect.match_key(Message("0200", request_fields()))[1:]
        )
        assert dialect.match_key(Message("0420", REVERSAL)) != dialect.match_key(Message("0200", request_fields()))

    @pytest.mark.parametrize(
        "changes", [{"de11": "000043"}, {"de12": "140046"}, {"de13": "1123"}, {"de37": "1" * 12}, {"de41": "T0000002"}]
    )
    def test_another_transaction_has_another_key(self, dialect: Dialect, changes: dict[str, str]) -> None:
        other = Message("0210", changed(response_fields(), **changes))
        assert dialect.match_key(other) != dialect.match_key(Message("0200", request_fields()))

    def test_a_repeat_with_new_transmission_time_keeps_its_key(self, dialect: Dialect) -> None:
        repeat = Message("0201", changed(request_fields(), de7="1122103145"))
        assert dialect.match_key(repeat) == dialect.match_key(Message("0200", request_fields()))

    def test_response_mti(self, dialect: Dialect) -> None:
        assert [dialect.response_mti(mti) for mti in ("0200", "0201", "0420", "0421", "0800")] == [
            "0210",
            "0210",
            "0430",
            "0430",
            "0810",
        ]
        with pytest.raises(MessageFormatError, match="mti_has_no_response"):
            dialect.response_mti("0210")
        with pytest.raises(MessageFormatError, match="mti_not_in_dialect"):
            dialect.response_mti("0300")
        with pytest.raises(MessageFormatError, match="mti_has_no_response"):
            Dialect.from_yaml(TestDialectFile.MINIMAL).response_mti("0800")

    def test_echo(self, dialect: Dialect, request_message: Message, response_message: Message) -> None:
        dialect.check_echo(request_message, response_message)
        echoed = dialect.echoed_fields(request_message)
        assert all(response_message[field] == value for field, value in echoed.items())

    @pytest.mark.parametrize(
        "changes", [{"de2": "6037701000000007"}, {"de4": "000000150001"}, {"de11": "42"}, {"de37": "1" * 12}]
    )
    def test_an_answer_that_differs_from_its_request(
        self, dialect: Dialect, request_message: Message, changes: dict[str, str]
    ) -> None:
        with pytest.raises(FieldPresenceError, match="must_equal_the_request"):
            dialect.check_echo(request_message, Message("0210", changed(response_fields(), **changes)))

    def test_an_answer_to_something_else(self, dialect: Dialect, request_message: Message) -> None:
        with pytest.raises(FieldPresenceError, match="does_not_answer_the_request"):
            dialect.check_echo(request_message, Message("0430", REVERSAL_RESPONSE))


class TestMessageShowsNothing:
    def test_repr_lists_fields_without_values(self, request_message: Message) -> None:
        assert repr(request_message) == (
            "<Message 0200 with 2,3,4,7,11,12,13,14,17,18,19,22,25,26,32,37,41,42,43,48,49,52,53,62,100>"
        )

    def test_redacted_for_a_log(self, dialect: Dialect, request_message: Message) -> None:
        shown = dialect.redact(request_message)
        assert (shown["2"], shown["14"], shown["48"], shown["52"]) == ("603799******7893", "*", "*", "*")
        assert (shown["mti"], shown["4"]) == ("0200", "000000150000")

    def test_a_short_card_number_is_not_shown_at_all(self, dialect: Dialect) -> None:
        assert dialect.redact(Message("0200", changed(request_fields(), de2="6037991234")))["2"] == "*"

    def test_typed_access(self, request_message: Message, response_message: Message) -> None:
        assert request_message.pan.reveal() == PAN
        assert request_message.amount == 150_000
        assert request_message.get(39) is None
        assert 39 not in request_message
        assert response_message.is_response
        assert not request_message.is_response

    def test_fields_do_not_change(self, request_message: Message) -> None:
        fields: Any = request_message.fields
        with pytest.raises(TypeError):
            fields[4] = "000000000001"


class TestDialectFile:
    MINIMAL = """
name: test
iso_version: "0"
mac_field_size: 8
fields:
  11: {name: stan, format: "n 6", show: clear}
  64: {name: mac, format: "b 8"}
  128: {name: mac, format: "b 8"}
messages:
  "0800": {purpose: a, directions: [to_switch], mandatory: [11], conditional: [], match: [11]}
"""

    def test_minimal_is_accepted(self) -> None:
        assert Dialect.from_yaml(self.MINIMAL).name == "test"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("name: test", "name: test\nunknown: 1"),
            ("purpose: a", "purpose: a, unknown: 1"),
            ('"n 6"', '"n6"'),
            ('"n 6"', '"n 0"'),
            ('"n 6", show', '"n 6", pattern: hhmm, show'),
            ('"n 6", show', '"n 6", pattern: hhmmxx, show'),
            ("mandatory: [11]", "mandatory: [11, 12]"),
            ("mandatory: [11]", "mandatory: [11, 64]"),
            ("conditional: []", "conditional: [11]"),
            ("match: [11]", "match: [11], echoes: [12]"),
            ("match: [11]}", 'match: [11]}\n  "0810": {like: "0800", request: "0800", match: []}'),
        ],
    )
    def test_one_fault_is_refused(self, old: str, new: str) -> None:
        assert old in self.MINIMAL
        with pytest.raises((ValidationError, ValueError)):
            Dialect.from_yaml(self.MINIMAL.replace(old, new))

    def test_unknown_name(self) -> None:
        with pytest.raises(FileNotFoundError):
            Dialect.load("nowhere")

    def test_signed_amounts_count_their_sign(self) -> None:
        assert FieldFormat.parse("x+n 8") == FieldFormat("x+n", variable=False, size=9)
        assert FieldFormat.parse("x+n 8").broken_rule("C00000001") is None
        assert FieldFormat.parse("x+n 8").broken_rule("000000001") == "characters_must_be_x+n"
