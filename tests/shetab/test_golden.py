"""Golden bytes of every message of every dialect, and a second reader of them that knows nothing of our tables.

The files of `data/golden` say what each byte means. The second reader is `pyiso8583` under specifications written here
by hand; what it reads is compared with what a purchase, its answer and its reversal are meant to say.
"""

from __future__ import annotations

import re
from typing import Any

import iso8583
import pytest

from shetab.mac import verify_message_mac
from tests.support.bank_messages import DIALECTS, GOLDEN, MAC_KEY, catalogue, loaded, read, sealed, written

# number:kind size; ".." for a variable length. s is text, n digits, b bytes, x a sign and digits.
_BOTH = """
2:n..19 3:n6 4:n12 6:n12 7:n10 10:n8 11:n6 14:n4 17:n4 19:n3 32:n..11 33:n..11 37:s12 38:s6 41:s8 42:s15 48:s..999
49:n3 50:n3 51:n3 60:s..999 62:s..999 64:b8 66:n1 74:n10 75:n10 76:n10 77:n10 78:n10 79:n10 80:n10 81:n10 82:n12 83:n12
84:n12 85:n12 86:n16 87:n16 88:n16 89:n16 97:x16 99:n..11 100:n..11 128:b8
"""
_1987 = "12:n6 13:n4 15:n4 18:n4 22:n3 25:n2 26:n2 39:s2 43:s40 52:b8 53:n16 70:n3 90:n42 95:s42 96:b24"
_1993 = """
12:n12 15:n6 22:s12 24:n3 25:n4 26:n4 30:n24 39:n3 43:p..99 53:b..48 56:n..35 93:n..11 94:n..11 96:b..255
"""


def specification(name: str) -> dict[str, dict[str, Any]]:
    """For pyiso8583, of one dialect."""
    packed = "binary" in name
    table = _BOTH + (_1987 if "87" in name else _1993 + (" 52:b16" if "pin4" in name else " 52:b8"))
    plain = {"len_enc": "bcd" if packed else "ascii", "len_type": 0}
    bitmap = {**plain, "data_enc": "b" if packed else "ascii", "max_len": 8 if packed else 16}
    spec: dict[str, dict[str, Any]] = {
        "h": {**plain, "data_enc": "ascii", "max_len": 0},
        "t": {**plain, "data_enc": "b" if packed else "ascii", "max_len": 2 if packed else 4},
        "p": bitmap,
        "1": bitmap,
    }
    for number, kind, dots, text in re.findall(r"(\d+):([a-z])(\.\.)?(\d+)", table):
        size = int(text)
        sign = 1 if kind == "x" else 0
        octets = kind == "b" and not packed
        digits = 0 if not dots else 2 if size * (2 if kind == "b" else 1) <= 99 else 3
        field: dict[str, Any] = {
            "len_enc": "bcd" if packed else "ascii",
            "len_type": (digits + 1) // 2 if packed else digits,
            "max_len": size * 2 if octets else size + sign,
            "data_enc": "cp1256" if kind == "p" else "ascii",
        }
        if packed and kind == "n":
            field |= {"data_enc": "b", "len_count": "nibbles", "left_pad": "0"}
        elif packed and kind == "x":
            field |= {"data_enc": "b", "max_len": 1 + size // 2}
        elif packed and kind == "b":
            field |= {"data_enc": "b"}
        spec[number] = field
    return spec


@pytest.mark.parametrize("name", DIALECTS)
class TestGolden:
    def test_bytes_are_those_of_the_file(self, name: str) -> None:
        dialect = loaded(name)
        golden = read((GOLDEN / f"{name}.txt").read_text("utf-8"))
        assert golden.keys() == catalogue(dialect).keys()
        for what, message in catalogue(dialect).items():
            assert sealed(dialect, message) == golden[what], what
            assert dialect.decode(golden[what]).fields == message.fields, what
            assert verify_message_mac(MAC_KEY, dialect.mac_input(golden[what]), dialect.mac_of(golden[what])), what

    def test_the_file_says_what_the_bytes_mean(self, name: str) -> None:
        assert (GOLDEN / f"{name}.txt").read_text("utf-8") == written(loaded(name))

    def test_a_second_reader_finds_every_field_and_writes_the_same_bytes(self, name: str) -> None:
        spec = specification(name)
        for what, raw in read((GOLDEN / f"{name}.txt").read_text("utf-8")).items():
            document, _ = iso8583.decode(raw, spec)
            assert bytes(iso8583.encode(document, spec)[0]) == raw, what
            pieces, _ = loaded(name).take_apart(raw)
            ours = {piece.field: piece.value for piece in pieces}
            for field, value in document.items():
                if "binary" in name and field == "97":
                    value = bytes.fromhex(value[:2]).decode() + value[2:]
                assert ours[field] == value, (what, field)

    def test_a_second_reader_understands_a_purchase_its_answer_and_its_reversal(self, name: str) -> None:
        golden, spec = read((GOLDEN / f"{name}.txt").read_text("utf-8")), specification(name)
        purchase, _ = iso8583.decode(golden["purchase"], spec)
        answer, _ = iso8583.decode(golden["purchase approved"], spec)
        reversal, _ = iso8583.decode(golden["reversal"], spec)
        key, _ = iso8583.decode(golden["key sent"], spec)
        coding = f"KWBP2 {'a1' * 20}"
        common = {"2": "6037991234567893", "3": "000000", "4": "000000150000", "11": "000042", "32": "581672"}
        common |= {"37": "000000000042", "41": "T0000001", "42": "M1".ljust(15), "49": "364", "62": coding}
        for document in (purchase, answer):
            assert {field: document[field] for field in common} == common
        assert (purchase["7"], purchase["14"], purchase["48"]) == ("1122103045", "0712", "  012300")
        assert (reversal["11"], reversal["62"], key["96"]) == ("000043", coding, "5C" * 24)
        if "87" in name:
            said = [purchase[field] for field in ("t", "12", "13", "18", "22", "25", "26", "53")]
            assert said == ["0200", "140045", "1122", "5942", "010", "59", "12", "0301010000000000"]
            assert purchase["43"] == "Bookshop Tehran".ljust(40)
            assert (answer["t"], answer["39"], answer["15"]) == ("0210", "00", "1122")
            assert reversal["90"] == "0200" + "000042" + "1122103045" + "00000581672" + "00000000000"
            assert (key["t"], key["70"], key["53"], key["60"]) == ("0800", "101", "0000020000000000", "08D7B4")
        else:
            said = [purchase[field] for field in ("t", "12", "24", "26")]
            assert said == ["1200", "261122140045", "200", "5942"]
            assert purchase["43"] == "کتاب‌فروشي تهران"
            assert purchase["53"] == ("0101040101" if "pin4" in name else "0101030101")
            assert (answer["t"], answer["39"], answer["15"]) == ("1210", "000", "261122")
            assert (reversal["t"], reversal["24"], reversal["25"]) == ("1420", "400", "4021")
            assert reversal["56"] == "1200" + "000042" + "261122140045" + "06581672"
            assert reversal["30"] == "000000150000000000150000"
            assert (key["t"], key["24"], key["94"], key["53"]) == ("1804", "815", "900000", "0101000002")
