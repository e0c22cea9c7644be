"""One of every message that gateway and switch exchange, inside, as each dialect carries it. All data are synthetic.

`python -m tests.support.bank_messages` writes the golden files of `tests/shetab/data` anew; read the difference then.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypedDict

from shetab.dialect import Dialect
from shetab.mac import message_mac
from shetab.message import Message
from shetab.reversal import confirmation_advice, repeated, reversal_advice
from shetab.types import Rial
from tests.support.iso8583_messages import request_fields, response_fields

NOW: Final = datetime(2026, 11, 22, 10, 31, tzinfo=UTC)
DIALECTS: Final = ("shetab87_ascii", "shetab87_binary", "shetab93_ascii", "shetab93_binary", "shetab93_binary_pin4")
GOLDEN: Final = Path(__file__).parents[1] / "shetab" / "data" / "golden"
MAC_KEY: Final = bytes(range(16))

_CODING: Final = f"KWBP2 {'a1' * 20}"
_TRACE: Final = {7: "1122103045", 11: "000007", 12: "140045", 13: "1122"}
_KEY: Final = {53: "0000020000000000", 60: "08D7B4", 70: "101"}
_COUNTS: Final = dict.fromkeys(range(74, 82), "0000000003") | dict.fromkeys(range(82, 86), "000000000000")
_SUMS: Final = {field: f"{field:016d}" for field in (86, 87, 88, 89)} | {97: "D0000000000000019"}


class _Later(TypedDict):
    stan: str
    transmission_time: str


def loaded(name: str, now: datetime = NOW) -> Dialect:
    """A dialect whose clock stands at the time of these messages."""
    return Dialect.load(name, clock=lambda: now)


def catalogue(dialect: Dialect) -> dict[str, Message]:
    """The messages by what they are."""
    return {name: _fitted(dialect, message) for name, message in _messages(dialect)}


def _messages(dialect: Dialect) -> Iterator[tuple[str, Message]]:
    persian = dialect.fields[43].text is not None
    asked = request_fields() | {43: dialect.pad(43, "کتاب‌فروشی تهران" if persian else "Bookshop Tehran"), 62: _CODING}
    sale, hold = Message("0200", asked), Message("0100", asked)
    answered = response_fields() | {62: _CODING}
    later = _Later(stan="000043", transmission_time="1122103059")
    yield "purchase", sale
    yield "purchase repeated", repeated(sale, transmission_time="1122103050")
    yield "purchase approved", Message("0210", answered)
    declined = {field: value for field, value in answered.items() if field != 38}
    yield "purchase declined", Message("0210", declined | {39: "51"})
    refund = {field: value for field, value in asked.items() if field not in (14, 52, 53)}
    original = "02000000421122103045" + "00000581672" + "0" * 11
    yield "refund", Message("0200", refund | {3: "200000", 11: "000050", 62: f"{_CODING} CREDIT", 90: original})
    yield "hold", hold
    yield "hold approved", Message("0110", answered)
    capture = confirmation_advice(hold, Rial(120_000), coding=f"{_CODING} CAPTURE", **later)
    yield "capture", capture
    yield "capture repeated", repeated(capture, transmission_time="1122103100")
    settled = {field: value for field, value in answered.items() if field != 43}
    yield "capture approved", Message("0230", settled | {11: "000043"})
    reversal = reversal_advice(sale, **later)
    yield "reversal", reversal
    yield "reversal repeated", repeated(reversal, transmission_time="1122103100")
    part = reversal_advice(hold, coding=f"{_CODING} AUTHREV", replacement=Rial(100_000), **later)
    yield "reversal of a part", part
    undone = {field: value for field, value in settled.items() if field != 38} | {11: "000043"}
    yield "reversal done", Message("0430", undone | dialect.echoed_fields(reversal))
    yield "reversal of a part done", Message("0430", undone | dialect.echoed_fields(part))
    password = {field: asked[field] for field in (2, 4, 7, 11, 12, 13, 14, 18, 19, 25, 32, 37, 41, 42, 43, 49, 62, 100)}
    yield "password asked for", Message("0600", password | {3: "380000", 48: "ab" * 32})
    sent = {field: answered[field] for field in (2, 4, 7, 11, 12, 13, 32, 33, 37, 39, 41, 42, 49, 62)}
    yield "password sent", Message("0610", sent | {3: "380000", 48: "20261122103245 0912*****89"})
    day = _TRACE | {15: "1122", 32: "581672", 42: "M1".ljust(15), 99: "581672000"}
    totals = Message("0500", day | _COUNTS | _SUMS | {50: "364"})
    yield "totals", totals
    yield "totals repeated", repeated(totals, transmission_time="1122103100")
    own = {field: totals[field] for field in (74, 75, 76, 77, 86, 87, 88, 89, 97)}
    yield "totals compared", Message("0510", day | own | {39: "00", 50: "364", 66: "1"})
    for name, code in (("sign-on", "001"), ("sign-off", "002"), ("echo", "301"), ("cut-over", "201")):
        yield name, Message("0800", _TRACE | {33: "581672", 70: code} | ({15: "1123"} if code == "201" else {}))
    yield "echo of the switch", Message("0800", _TRACE | {33: "900000", 70: "301"})
    yield "key asked for", Message("0800", _TRACE | {33: "581672", 53: "0000010000000000", 70: "101"})
    yield "key sent", Message("0800", _TRACE | {33: "900000", 96: "5C" * 24} | _KEY)
    yield "key taken", Message("0810", _TRACE | {39: "00", 70: "101", 100: "900000"})
    yield "signed on", Message("0810", _TRACE | {39: "00", 70: "001", 100: "581672"})


def _fitted(dialect: Dialect, message: Message) -> Message:
    """What the tables of the dialect take: an answer without DE 43, a PIN block of its size."""
    rule, fields = dialect.messages[message.mti], dict(message.fields)
    if 43 in fields and 43 not in rule.mandatory | rule.conditional:
        del fields[43]
    if 52 in fields:
        fields[52] = (fields[52] * 2)[: dialect.fields[52].format.size]
    if 53 in fields and 52 in fields:
        fields[53] = f"{dialect.pin_block_format:02d}{fields[53][2:]}"
    return Message(message.mti, fields)


def sealed(dialect: Dialect, message: Message) -> bytes:
    """Bytes with their MAC under `MAC_KEY`."""
    raw = dialect.encode(message)
    return dialect.with_mac(raw, message_mac(MAC_KEY, dialect.mac_input(raw)))


def written(dialect: Dialect) -> str:
    """The golden file of a dialect: what each byte of each message means."""
    lines = [f"# Messages of the dialect {dialect.name}: field, bytes, what they mean. MAC: AES-CMAC under 00 01 … 0f."]
    for name, message in catalogue(dialect).items():
        raw = sealed(dialect, message)
        lines += ["", f"== {name} ({message.mti})"]
        for piece in dialect.take_apart(raw)[0]:
            rule = dialect.wire_fields.get(int(piece.field)) if piece.field.isdigit() and piece.field != "1" else None
            meaning = {"t": "message type", "p": "bitmap", "1": "second bitmap"}.get(piece.field) or (
                rule and rule.name
            )
            lines.append(f"{piece.field:>3}  {raw[piece.start : piece.end].hex()}  | {meaning}: {piece.value}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def read(text: str) -> dict[str, bytes]:
    """The messages of a golden file, by name."""
    found: dict[str, bytes] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("== "):
            name = line[3:].rsplit(" (", 1)[0]
            found[name] = b""
        elif line and not line.startswith("#"):
            found[name] += bytes.fromhex(line.split("|")[0].split()[1])
    return found


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for each in DIALECTS:
        (GOLDEN / f"{each}.txt").write_text(written(loaded(each)), "utf-8")
