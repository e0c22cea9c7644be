"""What the bank says of a payment file: ISO 20022 pain.002 (any version), or CSV. Pure.

Only what is final counts: settled (`ACSC`, `ACCC`) is paid, rejected (`RJCT`, `CANC`) is returned; whatever says that
it is under way is left out. CSV has the columns `reference,status,reason` with status `PAID` or `RETURNED`.

A refusal because the bank has the same already (`AM05`, `DUPL`, `DU01` to `DU05`: a file that was handed over twice) is
no return of money: who took it for one would pay a second time. It is left out too. A file that was refused as a whole
names no transfer; what that means for each a person says, in CSV.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from runtime.language import ToldError

LARGEST: Final = 16 * 2**20
_PAID: Final = frozenset({"ACSC", "ACCC"})
_RETURNED: Final = frozenset({"RJCT", "CANC"})
_KNOWN_ALREADY: Final = frozenset({"AM05", "DUPL", "DU01", "DU02", "DU03", "DU04", "DU05"})
_REFERENCE: Final = re.compile(r"[!-~]{1,35}")
_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pain.002."
_COLUMNS: Final = ["reference", "status", "reason"]


class BankAnswerError(ToldError):
    """The answer cannot be read; says where and why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one payout; `message_id` is the MsgId of the file that it is said of, if that is told."""

    reference: str
    status: Literal["PAID", "RETURNED"]
    reason: str = ""
    message_id: str | None = None


def read_answer(data: bytes) -> list[Outcome]:
    """Final outcomes in the order in which they are told.

    :raises BankAnswerError: neither pain.002 nor CSV, too large, or it says two things of one payout.
    """
    if len(data) > LARGEST:
        raise BankAnswerError("an answer has at most {bytes} bytes", bytes=LARGEST)
    found = _of_xml(data) if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _of_csv(data)
    told: dict[str, Outcome] = {}
    for each in found:
        if _REFERENCE.fullmatch(each.reference) is None:
            raise BankAnswerError("a reference has 1 to 35 characters of ASCII")
        if told.setdefault(each.reference, each).status != each.status:
            raise BankAnswerError("two things are said of {reference}", reference=each.reference)
    return list(told.values())


def _of_xml(data: bytes) -> list[Outcome]:
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise BankAnswerError("this is no XML that may be read") from None
    if not root.tag.startswith("{" + _NAMESPACE):
        raise BankAnswerError("this is no pain.002")
    original = root.findtext(".//{*}OrgnlGrpInfAndSts/{*}OrgnlMsgId", "").strip() or None
    transactions = list(root.iterfind(".//{*}TxInfAndSts"))
    whole = [element.text for name in ("GrpSts", "PmtInfSts") for element in root.iterfind(f".//{{*}}{name}")]
    if not transactions and _RETURNED.intersection(whole):
        raise BankAnswerError("the bank refused the file as a whole: say by CSV what became of each payout")
    found = []
    for transaction in transactions:
        status = transaction.findtext("{*}TxSts", "").strip()
        reference = transaction.findtext("{*}OrgnlEndToEndId", "").strip()
        codes = [element.text for element in transaction.iterfind("{*}StsRsnInf/{*}Rsn/*") if element.text]
        more = [element.text for element in transaction.iterfind("{*}StsRsnInf/{*}AddtlInf") if element.text]
        if status in _PAID:
            found.append(Outcome(reference, "PAID", message_id=original))
        elif status in _RETURNED and not _KNOWN_ALREADY.intersection(code.strip() for code in codes):
            found.append(Outcome(reference, "RETURNED", _line(" ".join([*codes, *more])), original))
    return found


def _of_csv(data: bytes) -> list[Outcome]:
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise BankAnswerError("this is neither pain.002 nor CSV in UTF-8") from None
    if not rows or [cell.strip().lower() for cell in rows[0]] != _COLUMNS:
        raise BankAnswerError("CSV begins with reference,status,reason")
    found = []
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(_COLUMNS):
            raise BankAnswerError("line {number}: three fields are expected", number=number)
        reference, status, reason = (cell.strip() for cell in row)
        if status == "PAID":
            found.append(Outcome(reference, "PAID"))
        elif status == "RETURNED":
            found.append(Outcome(reference, "RETURNED", _line(reason)))
        else:
            raise BankAnswerError("line {number}: status must be PAID or RETURNED", number=number)
    return found


def _line(reason: str) -> str:
    """What people read of it, and every database keeps."""
    return "".join(each for each in reason if each.isprintable())[:200]
