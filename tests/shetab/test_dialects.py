"""What holds for every dialect: one meaning, one encoding, a MAC over all of it, and nothing accepted that is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shetab.dialect import Dialect, Direction
from shetab.dialect_tables import built_in
from shetab.errors import DialectError, FieldPresenceError, MacFormatError, MessageFormatError
from shetab.jalali import IRAN_STANDARD_TIME
from shetab.mac import message_mac
from shetab.mapping_rules import Code
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.reversal import repeated, reversal_advice
from shetab.types import Rial
from tests.shetab.test_dialect import _values
from tests.support.bank_messages import DIALECTS, MAC_KEY, NOW, catalogue, loaded, sealed

NAMES = list(catalogue(loaded("shetab87_ascii")))
OF_1993 = [name for name in DIALECTS if "93" in name]


@pytest.fixture(scope="module", params=DIALECTS)
def spoken(request: pytest.FixtureRequest) -> Dialect:
    return loaded(request.param)


def test_these_are_all_dialects_and_all_messages(spoken: Dialect) -> None:
    assert set(built_in()) == set(DIALECTS)
    assert {message.mti for message in catalogue(spoken).values()} == spoken.messages.keys()


class TestOneMeaningOneEncoding:
    def test_every_message_comes_back(self, spoken: Dialect) -> None:
        for name, message in catalogue(spoken).items():
            raw = sealed(spoken, message)
            back = spoken.decode(raw)
            assert (name, back.mti, back.fields) == (name, message.mti, message.fields)
            assert back.mac == spoken.mac_of(raw)
            assert spoken.encode(back) == raw
            assert not back.kept

    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_any_message_of_the_tables(self, spoken: Dialect, data: st.DataObject) -> None:
        message = catalogue(spoken)[data.draw(st.sampled_from(NAMES))]
        rule = spoken.messages[message.mti]
        fields = dict(message.fields)
        made_of_parts = {3, 12, 13, 15, 39, 43, 44, 53, 62, 70, 90, 95, 96}
        for field in sorted((rule.mandatory | rule.conditional) - made_of_parts):
            if field in rule.mandatory or data.draw(st.booleans()):
                fields[field] = data.draw(_sent(spoken, field))
        if 52 in fields:
            fields.setdefault(53, f"{spoken.pin_block_format:02d}01010000000000")
        if 60 in fields and message.mti == "0800":
            fields.setdefault(96, "5C" * 24)
            fields.setdefault(53, "0000010000000000")
        if message.mti == "0510" and (74 in fields or 97 in fields):
            fields |= {74: "0000000000", 97: "C0000000000000000"}
        sent = Message(message.mti, fields, data.draw(st.binary(min_size=8, max_size=8)))
        raw = spoken.encode(sent)
        assert spoken.decode(raw) == sent

    @settings(deadline=None)
    @given(position=st.integers(0, 4000), bit=st.integers(0, 7), name=st.sampled_from(NAMES))
    def test_a_changed_byte_is_another_message_or_none(
        self, spoken: Dialect, position: int, bit: int, name: str
    ) -> None:
        raw = bytearray(sealed(spoken, catalogue(spoken)[name]))
        honest = bytes(raw)
        raw[position % len(raw)] ^= 1 << bit
        try:
            read = spoken.decode(bytes(raw))
        except (DialectError, MacFormatError):
            return
        assert spoken.encode(read) == bytes(raw) != honest

    @settings(deadline=None)
    @given(noise=st.binary(max_size=200))
    def test_noise(self, spoken: Dialect, noise: bytes) -> None:
        with pytest.raises((DialectError, MacFormatError)):
            spoken.decode(noise)


def _sent(dialect: Dialect, field: int) -> st.SearchStrategy[str]:
    """A value of the format, as each end would send it; long texts are not drawn, they cost time and say no more."""
    rule = dialect.fields[field]
    if rule.format.kind == "x+n":
        return st.tuples(st.sampled_from("CD"), st.integers(0, 10**16 - 1)).map(lambda of: f"{of[0]}{of[1]:016d}")
    if rule.format.kind == "z":
        return st.from_regex(r"[0-9]{12,19}=[0-9]{4,12}", fullmatch=True)
    if rule.format.kind == "ans" and rule.format.variable:
        return st.text("".join(map(chr, range(32, 127))), min_size=1, max_size=25)
    return _values(dialect, field)


class TestMac:
    def test_covers_everything_before_it(self, spoken: Dialect) -> None:
        for message in catalogue(spoken).values():
            raw = sealed(spoken, message)
            covered = spoken.mac_input(raw)
            assert raw.startswith(covered)
            assert spoken.mac_of(raw) == message_mac(MAC_KEY, covered)
            other = bytes(reversed(spoken.mac_of(raw)))
            assert spoken.with_mac(raw, other) == covered + raw[len(covered) :].replace(
                raw[len(covered) :], _slot(spoken, other)
            )

    def test_is_field_64_if_nothing_is_beyond_it(self, spoken: Dialect) -> None:
        shown = {}
        for name in ("purchase", "purchase approved", "signed on"):
            pieces, failure = spoken.take_apart(sealed(spoken, catalogue(spoken)[name]))
            assert failure is None
            shown[name] = pieces[-1].field
        assert shown == {"purchase": "128", "purchase approved": "64", "signed on": "128"}

    def test_bytes_without_a_mac_have_none(self, spoken: Dialect) -> None:
        raw = bytearray(sealed(spoken, catalogue(spoken)["purchase approved"]))
        end = 10 if "binary" in spoken.name else 20
        raw[end - 1] = raw[end - 1] & 0xFE if "binary" in spoken.name else raw[end - 1] - 1
        for read in (spoken.mac_input, spoken.mac_of):
            with pytest.raises(MacFormatError):
                read(bytes(raw))
        with pytest.raises(MacFormatError):
            spoken.mac_of(b"")


def _slot(dialect: Dialect, mac: bytes) -> bytes:
    return mac if "binary" in dialect.name else mac.hex().upper().encode()


class TestHostileTwins:
    """An honest message with one thing wrong is refused, by field and rule, and nothing secret is in the error."""

    def test_every_truncation_and_addition(self, spoken: Dialect) -> None:
        raw = sealed(spoken, catalogue(spoken)["purchase"])
        for hostile in (*(raw[:end] for end in range(len(raw))), raw + b"\0", raw + b"0"):
            with pytest.raises((DialectError, MacFormatError)) as refusal:
                spoken.decode(hostile)
            _says_nothing(refusal.value, catalogue(spoken)["purchase"])

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (4, "12x456789012"),
            (7, "1322103045"),
            (14, "0713"),
            (19, "840"),
            (49, "840"),
            (25, "58"),
            (32, "5816720000001"),
            (37, "00000000004"),
            (41, "T00000\n1"),
            (52, "F92D"),
            (53, "03010100000000X0"),
        ],
    )
    def test_a_field_that_breaks_its_format(self, spoken: Dialect, field: int, value: str) -> None:
        honest = catalogue(spoken)["purchase"]
        twin = replace(honest, fields={**honest.fields, field: value})
        with pytest.raises(MessageFormatError) as refusal:
            spoken.encode(twin)
        assert (refusal.value.mti, refusal.value.field) == ("0200", str(field))
        _says_nothing(refusal.value, twin)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_field_that_is_missing_or_too_many(self, spoken: Dialect, name: str) -> None:
        honest = catalogue(spoken)[name]
        rule = spoken.messages[honest.mti]
        some = max(rule.mandatory)
        missing = {field: value for field, value in honest.fields.items() if field != some}
        with pytest.raises(FieldPresenceError, match=f"field {some}: mandatory_field_is_missing"):
            spoken.encode(Message(honest.mti, missing))
        strange = min(spoken.fields.keys() - rule.mandatory - rule.conditional - {64})
        with pytest.raises(FieldPresenceError, match=f"field {strange}: field_is_not_allowed"):
            spoken.encode(Message(honest.mti, {**honest.fields, strange: "0"}))

    def test_a_message_that_travels_the_other_way(self, spoken: Dialect) -> None:
        for name, wrong in (("purchase", Direction.FROM_SWITCH), ("purchase approved", Direction.TO_SWITCH)):
            with pytest.raises(MessageFormatError, match="mti_does_not_travel"):
                spoken.decode(sealed(spoken, catalogue(spoken)[name]), wrong)

    def test_a_message_of_another_dialect(self, spoken: Dialect) -> None:
        for other in map(loaded, DIALECTS):
            if other.name != spoken.name:
                with pytest.raises((DialectError, MacFormatError)):
                    spoken.decode(sealed(other, catalogue(other)["purchase"]))

    def test_a_field_that_the_dialect_does_not_have(self, spoken: Dialect) -> None:
        raw = sealed(spoken, catalogue(spoken)["signed on"])
        if "binary" in spoken.name:
            hostile = raw[:2] + bytes([raw[2] | 0x08]) + raw[3:]
        else:
            hostile = raw[:5] + f"{int(raw[5:6], 16) | 8:X}".encode() + raw[6:]
        with pytest.raises(MessageFormatError) as refusal:
            spoken.decode(hostile)
        assert (refusal.value.field, refusal.value.rule) == ("5", "field_not_in_dialect")


def _says_nothing(error: Exception, message: Message) -> None:
    for field in (2, 14, 48, 52):
        assert message[field] not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


class TestMatching:
    def test_answers_repeat_their_requests(self, spoken: Dialect) -> None:
        told = catalogue(spoken)
        for request, answer in (
            ("purchase", "purchase approved"),
            ("purchase repeated", "purchase declined"),
            ("hold", "hold approved"),
            ("reversal", "reversal done"),
            ("reversal of a part", "reversal of a part done"),
            ("totals repeated", "totals compared"),
            ("sign-on", "signed on"),
        ):
            asked, answered = spoken.decode(sealed(spoken, told[request])), spoken.decode(sealed(spoken, told[answer]))
            assert spoken.match_key(asked) == spoken.match_key(answered)
            spoken.check_echo(asked, answered)
        with pytest.raises(FieldPresenceError, match="must_equal_the_request"):
            spoken.check_echo(
                told["reversal"],
                replace(told["reversal done"], fields={**told["reversal done"].fields, 4: "000000150001"}),
            )


@pytest.fixture(scope="module", params=OF_1993)
def edition(request: pytest.FixtureRequest) -> Dialect:
    return loaded(request.param)


class TestEdition1993:
    def test_every_response_code_of_ours_comes_back(self, edition: Dialect) -> None:
        for name in ("purchase declined", "hold approved", "reversal done", "capture approved", "password sent"):
            honest = catalogue(edition)[name]
            for code in ResponseCodes.load().codes:
                told = Message(honest.mti, {**honest.fields, 39: code})
                assert edition.decode(edition.encode(told)).fields == told.fields

    def test_every_action_code_of_the_tables_means_one_of_ours_and_is_written_again_as_it_came(
        self, edition: Dialect
    ) -> None:
        wire = edition.tables.wire
        assert wire is not None
        known = ResponseCodes.load()
        for rule in wire.rules.values():
            if not isinstance(rule, Code) or rule.outside != 39:
                continue
            for mti in rule.messages:
                honest = next(each for each in catalogue(edition).values() if each.mti == mti)
                for action, ours in {**rule.back, "777": rule.unlisted}.items():
                    if rule.to.get(ours or "") == action:
                        continue
                    came = replace(honest, fields={**honest.fields, 39: ours or ""}, kept={39: action}, mac=bytes(8))
                    back = edition.decode(edition.encode(came))
                    assert (back[39], back.kept) == (ours, {39: action})
                    assert edition.encode(back) == edition.encode(came)
                    assert (ours in known.codes) is (action != "777")

    def test_an_action_code_that_nobody_knows_is_an_outcome_that_nobody_knows(self, edition: Dialect) -> None:
        honest = catalogue(edition)["purchase approved"]
        came = replace(honest, fields={**honest.fields, 39: "ZZ"}, kept={39: "777"})
        read = edition.decode(edition.encode(came))
        assert ResponseCodes.load().of(read[39]).outcome == "unknown"

    def test_an_accepted_reversal_approves_no_purchase(self, edition: Dialect) -> None:
        for name, outcome in (("purchase approved", "unknown"), ("reversal done", "approved")):
            honest = catalogue(edition)[name]
            kept = {39: "400"} if outcome == "unknown" else {}
            ours = "ZZ" if kept else "00"
            read = edition.decode(edition.encode(replace(honest, fields={**honest.fields, 39: ours}, kept=kept)))
            assert ResponseCodes.load().of(read[39]).outcome == outcome
            fields = {piece.field: piece.value for piece in edition.take_apart(edition.encode(read))[0]}
            assert fields["39"] == "400"

    @pytest.mark.parametrize(
        ("name", "kept", "rule"),
        [
            ("purchase approved", {39: "000"}, "kept_field_does_not_fit"),
            ("purchase approved", {39: "100"}, "kept_field_does_not_fit"),
            ("purchase", {24: "260"}, "field_does_not_fit_the_message"),
            ("reversal", {24: "401"}, "kept_field_does_not_fit"),
        ],
    )
    def test_what_is_kept_says_the_same_as_the_message(
        self, edition: Dialect, name: str, kept: dict[int, str], rule: str
    ) -> None:
        with pytest.raises(MessageFormatError, match=rule):
            edition.encode(replace(catalogue(edition)[name], kept=kept))

    def test_a_response_code_that_the_wire_has_not_is_not_sent(self, edition: Dialect) -> None:
        honest = catalogue(edition)["purchase declined"]
        with pytest.raises(MessageFormatError, match="value_is_not_carried_by_the_dialect"):
            edition.encode(replace(honest, fields={**honest.fields, 39: "77"}))

    def test_functions_follow_from_the_message(self, edition: Dialect) -> None:
        codes = {}
        for name, message in catalogue(edition).items():
            found = {piece.field: piece.value for piece in edition.take_apart(edition.encode(message))[0]}
            if "24" in found:
                codes[name] = found["24"]
        assert codes == {
            "purchase": "200", "purchase repeated": "200", "refund": "260", "hold": "100", "capture": "201",
            "capture repeated": "201", "reversal": "400", "reversal repeated": "400", "reversal of a part": "401",
            "password asked for": "680", "totals": "500", "totals repeated": "500", "sign-on": "801",
            "sign-off": "802", "echo": "831", "echo of the switch": "831", "cut-over": "821",
            "key asked for": "815", "key sent": "815", "key taken": "815", "signed on": "801",
        }  # fmt: skip

    def test_the_original_is_named_by_its_local_time(self, edition: Dialect) -> None:
        reversal = {
            piece.field: piece.value for piece in edition.take_apart(edition.encode(catalogue(edition)["reversal"]))[0]
        }
        assert reversal["56"] == "1200" + "000042" + "261122" + "140045" + "06" + "581672"
        assert reversal["30"] == "000000150000" * 2

    @pytest.mark.parametrize("fees", ["D00000001C00000000", "C00000000D00000000"])
    def test_fees_of_a_reversal_are_not_carried(self, edition: Dialect, fees: str) -> None:
        honest = catalogue(edition)["reversal of a part"]
        with pytest.raises(MessageFormatError, match="field 95: value_is_not_carried"):
            edition.encode(replace(honest, fields={**honest.fields, 95: honest[95][:24] + fees}))

    def test_a_forwarder_of_the_original_is_not_carried(self, edition: Dialect) -> None:
        honest = catalogue(edition)["reversal"]
        with pytest.raises(MessageFormatError, match="field 90: value_is_not_carried"):
            edition.encode(replace(honest, fields={**honest.fields, 90: honest[90][:31] + "00000581672"}))


def wire(dialect: Dialect, raw: bytes) -> dict[str, str]:
    return {piece.field: piece.value for piece in dialect.take_apart(raw)[0]}


class TestYears:
    """The wire says years of 1993; inside they are missing, and are found at one place."""

    @pytest.mark.parametrize(
        ("sent", "now", "year"),
        [
            ("1231", datetime(2026, 12, 31, 20, 0, tzinfo=UTC), "26"),
            ("1231", datetime(2027, 1, 1, 3, tzinfo=UTC), "26"),
            ("0101", datetime(2026, 12, 31, 12, tzinfo=UTC), "27"),  # of a clock that is ahead
            ("0101", datetime(2026, 12, 31, 21, tzinfo=UTC), "27"),  # it is next year in Iran
            ("1122", datetime(2027, 10, 1, tzinfo=UTC), "26"),  # a hold of ten months ago
            ("0229", datetime(2028, 3, 1, tzinfo=UTC), "28"),
        ],
    )
    def test_of_the_day_of_a_request(self, sent: str, now: datetime, year: str) -> None:
        dialect = loaded("shetab93_ascii", now)
        request = catalogue(dialect)["purchase"]
        request = Message("0200", {**request.fields, 13: sent, 17: sent})
        raw = dialect.encode(request)
        found = {piece.field: piece.value for piece in dialect.take_apart(raw)[0]}
        assert found["12"] == f"{year}{sent}140045"
        assert dialect.decode(raw)[13] == sent

    @pytest.mark.parametrize("days", [-400, 400])
    def test_that_are_not_of_now_are_refused(self, days: int) -> None:
        raw = sealed(loaded("shetab93_ascii"), catalogue(loaded("shetab93_ascii"))["purchase"])
        with pytest.raises(MessageFormatError, match="field 12: year_is_not_that_of_now"):
            loaded("shetab93_ascii", NOW + timedelta(days=days)).decode(raw)

    def test_a_settlement_date_may_lie_ahead(self) -> None:
        dialect = loaded("shetab93_ascii", datetime(2026, 12, 30, tzinfo=UTC))
        answer = catalogue(dialect)["purchase approved"]
        raw = dialect.encode(Message("0210", {**answer.fields, 13: "1230", 15: "0102"}))
        assert {piece.field: piece.value for piece in dialect.take_apart(raw)[0]}["15"] == "270102"

    def test_the_original_of_a_reversal_keeps_its_year(self) -> None:
        dialect = loaded("shetab93_ascii", datetime(2027, 1, 1, 8, tzinfo=UTC))
        request = catalogue(dialect)["purchase"]
        sale = Message("0200", {**request.fields, 7: "1231202930", 12: "235930", 13: "1231"})
        advice = reversal_advice(sale, stan="000044", transmission_time="0101080000", replacement=Rial(5))
        found = {piece.field: piece.value for piece in dialect.take_apart(dialect.encode(advice))[0]}
        assert (found["12"], found["56"][10:22]) == ("261231235930", "261231235930")
        assert dialect.decode(dialect.encode(advice)).fields == advice.fields

    def test_the_original_of_an_advice_is_named_by_its_own_time_and_not_by_when_it_was_sent(self) -> None:
        dialect, at = loaded("shetab93_ascii"), datetime(2026, 11, 20, 14, 0, 45, tzinfo=IRAN_STANDARD_TIME)
        capture = Message("0220", {**catalogue(dialect)["capture"].fields, 13: "1120"})
        undoing = reversal_advice(capture, stan="000044", transmission_time="1122103000")
        raw = dialect.encode(replace(undoing, original_at=at))
        found = wire(dialect, raw)
        assert found["12"] == found["56"][10:22] == "261120140045"
        assert found["56"][:10] == "1220" + capture[11]
        assert dialect.encode(dialect.decode(raw)) == raw

    @pytest.mark.parametrize("years", [1, 3, 10])
    def test_of_what_is_old_is_what_the_message_says(self, years: int) -> None:
        """A sale of years ago, taken back by a person, or credited."""
        dialect = loaded("shetab93_ascii", NOW.replace(year=NOW.year + years))
        at = datetime(2026, 11, 22, 14, 0, 45, tzinfo=IRAN_STANDARD_TIME)
        for name in ("reversal", "reversal repeated", "refund"):
            message = replace(catalogue(dialect)[name], original_at=at)
            raw = dialect.encode(message)
            found, back = wire(dialect, raw), dialect.decode(raw)
            assert found["56"][10:22] == "261122140045"
            assert found["12"] == ("261122140045" if name != "refund" else f"{26 + years}1122140045")
            assert (back.fields, back.original_at) == (message.fields, at)
            assert dialect.encode(back) == raw

    @pytest.mark.parametrize("months", [5, 11, 13, 40])
    def test_of_a_repeat_is_that_of_its_first_copy(self, months: int) -> None:
        """A refund that was not answered for so long: by another year it is another transaction."""
        dialect, day = loaded("shetab93_ascii", NOW), NOW - timedelta(days=30 * months)
        at = day.astimezone(IRAN_STANDARD_TIME).replace(hour=14, minute=0, second=45, microsecond=0)
        fields = {**catalogue(dialect)["refund"].fields, 12: "140045", 13: f"{at:%m%d}"}
        again = repeated(Message("0200", fields, local_at=at), transmission_time="1122103100")
        raw = dialect.encode(again)
        back = dialect.decode(raw)
        assert wire(dialect, raw)["12"] == f"{at:%y%m%d}140045"
        assert (back.mti, back.fields) == ("0201", again.fields)
        assert (back.local_at or NOW).year in (at.year, NOW.year)
        assert (back.local_at is None) == (months < 12)  # its day has not been again since
        assert dialect.encode(back) == raw
        answer = catalogue(dialect)["purchase approved"]
        told = Message("0210", {**answer.fields, 13: f"{at:%m%d}"}, local_at=back.local_at)
        assert wire(dialect, dialect.encode(told))["12"] == f"{at:%y%m%d}140045"
        assert dialect.decode(dialect.encode(told)).fields == told.fields

    def test_of_a_repeat_that_is_still_to_come_is_refused(self) -> None:
        later = loaded("shetab93_ascii", NOW + timedelta(days=400))
        again = repeated(catalogue(later)["refund"], transmission_time="1122103100")
        raw = later.encode(again)
        with pytest.raises(MessageFormatError, match=r"field (12|56): year_is_not_that_of_now"):
            loaded("shetab93_ascii", NOW).decode(raw)

    def test_of_a_settlement_that_is_told_late_is_kept(self) -> None:
        """The answer to a repeat of last year says the business day of its first copy."""
        dialect = loaded("shetab93_ascii")
        raw = dialect.encode(Message("0210", {**catalogue(dialect)["purchase approved"].fields, 15: "1122"}))
        old = raw.replace(b"261122", b"251122")
        back = dialect.decode(old)
        assert (back[15], back.kept[15]) == ("1122", "251122")
        assert dialect.encode(back) == old

    def test_of_an_answer_to_what_is_old_are_the_requests(self) -> None:
        dialect = loaded("shetab93_ascii")
        raw = dialect.encode(catalogue(dialect)["reversal done"])
        old_day = raw.replace(b"261122140045", b"231122140045", 1)
        assert old_day != raw
        assert dialect.encode(dialect.decode(old_day)) == old_day

    def test_of_an_original_that_is_still_to_come_are_refused(self) -> None:
        dialect = loaded("shetab93_ascii", NOW)
        for name in ("reversal", "refund"):
            raw = dialect.encode(catalogue(dialect)[name])
            at = raw.rindex(b"261122140045")
            with pytest.raises(MessageFormatError, match=r"field (12|56): year_is_not_that_of_now"):
                dialect.decode(raw[:at] + b"27" + raw[at + 2 :])

    def test_of_an_advice_with_a_time_of_its_own_are_two(self) -> None:
        dialect = loaded("shetab93_ascii")
        message = replace(catalogue(dialect)["reversal"], original_at=NOW - timedelta(days=800))
        raw = dialect.encode(message)
        assert (wire(dialect, raw)["12"], wire(dialect, raw)["56"][10:22]) == ("261122140045", "240913140100")
        assert dialect.encode(dialect.decode(raw)) == raw

    def test_expiry_stays_jalali(self) -> None:
        for name in DIALECTS:
            dialect = loaded(name)
            assert dialect.decode(dialect.encode(catalogue(dialect)["purchase"]))[14] == "0712"


class TestPersianNames:
    def test_one_form_inside_and_bytes_on_the_wire(self) -> None:
        dialect = loaded("shetab93_ascii")
        name = dialect.canonical(43, "كتاب‌فروشي ۱۲٣")
        assert name == "کتاب‌فروشی 123"
        request = Message("0200", {**catalogue(dialect)["purchase"].fields, 43: name})
        raw = dialect.encode(request)
        wire = name.replace("ی", "ي").encode("cp1256")
        assert f"{len(wire):02d}".encode() + wire in raw
        assert dialect.decode(raw)[43] == name

    @pytest.mark.parametrize(
        ("name", "rule"),
        [
            ("كتاب", "text_is_not_canonical"),
            ("کتاب۱", "text_is_not_canonical"),
            ("书店", "characters_must_be_of_cp1256"),
            ("کتاب\n", "characters_must_be_printable"),
            ("ک" * 100, "length_must_be_1_to_99"),
            ("", "length_must_be_1_to_99"),
        ],
    )
    def test_another_form_is_refused(self, name: str, rule: str) -> None:
        dialect = loaded("shetab93_ascii")
        with pytest.raises(MessageFormatError, match=f"field 43: {rule}"):
            dialect.encode(Message("0200", {**catalogue(dialect)["purchase"].fields, 43: name}))

    def test_what_comes_in_other_letters_is_understood_and_written_again_as_it_came(self) -> None:
        dialect = loaded("shetab93_ascii")
        raw = dialect.encode(catalogue(dialect)["purchase"])
        other = raw.replace("ک".encode("cp1256"), "ك".encode("cp1256"), 1)
        read = dialect.decode(other)
        assert read[43] == catalogue(dialect)["purchase"][43]
        assert dialect.encode(read) == other != raw

    def test_the_tables_of_1987_have_ascii_alone(self) -> None:
        assert loaded("shetab87_binary").broken_rule(43, "کتاب") == "characters_must_be_ans"
        assert loaded("shetab87_binary").broken_rule(43, "Bookshop") is None
