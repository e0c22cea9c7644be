"""The file that tells the bank's clearing (PAYA) to pay merchants: ISO 20022 pain.001.001.09, or the same as CSV. Pure.

One payment information block, one credit transfer a payout. Amounts are whole rial: IRR is written without decimals, as
everywhere on Iranian networks. The EndToEndId is the payout's reference; the bank's answer names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from defusedxml.ElementTree import fromstring

from gateway.acquirer.report_csv import csv_bytes
from shetab.errors import ValueFormatError
from shetab.iran import parse_iban

NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
_CURRENCY: Final = "IRR"
_CLEARING: Final = "PAYA"


class PaymentFileError(ValueError):
    """The file cannot be made; says why."""


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose account is debited. :raises PaymentFileError: not an Iranian IBAN."""

    name: str
    iban: str
    bic: str | None = None

    def __post_init__(self) -> None:
        try:
            parse_iban(self.iban)
        except ValueFormatError as error:
            raise PaymentFileError(f"the payer's account: {error}") from None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One credit transfer; `amount` in rial."""

    reference: str
    beneficiary: str
    iban: str
    amount: int
    remittance: str


def pain001(transfers: Sequence[Transfer], *, message_id: str, payer: Payer, execute_on: date, now: datetime) -> bytes:
    """pain.001.001.09, UTF-8. :param message_id: at most 35 characters.

    :raises PaymentFileError: nothing to pay, or an amount that is none.
    """
    _check(transfers)
    count, total = str(len(transfers)), str(sum(each.amount for each in transfers))
    document = Element("Document", xmlns=NAMESPACE)
    initiation = SubElement(document, "CstmrCdtTrfInitn")
    header = SubElement(initiation, "GrpHdr")
    _text(header, "MsgId", message_id)
    _text(header, "CreDtTm", now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
    _text(header, "NbOfTxs", count)
    _text(header, "CtrlSum", total)
    _text(header, "InitgPty/Nm", payer.name)
    block = SubElement(initiation, "PmtInf")
    _text(block, "PmtInfId", message_id)
    _text(block, "PmtMtd", "TRF")
    _text(block, "BtchBookg", "false")
    _text(block, "NbOfTxs", count)
    _text(block, "CtrlSum", total)
    _text(block, "PmtTpInf/SvcLvl/Prtry", _CLEARING)
    _text(block, "ReqdExctnDt/Dt", execute_on.isoformat())
    _text(block, "Dbtr/Nm", payer.name)
    account = SubElement(block, "DbtrAcct")
    _text(account, "Id/IBAN", payer.iban)
    _text(account, "Ccy", _CURRENCY)
    agent = "DbtrAgt/FinInstnId/BICFI" if payer.bic else "DbtrAgt/FinInstnId/Othr/Id"
    _text(block, agent, payer.bic or "NOTPROVIDED")
    for each in transfers:
        _transfer(SubElement(block, "CdtTrfTxInf"), each)
    body: bytes = tostring(document, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body + b"\n"


def _transfer(parent: Element, transfer: Transfer) -> None:
    identity = SubElement(parent, "PmtId")
    _text(identity, "InstrId", transfer.reference)
    _text(identity, "EndToEndId", transfer.reference)
    amount = SubElement(SubElement(parent, "Amt"), "InstdAmt", Ccy=_CURRENCY)
    amount.text = str(transfer.amount)
    _text(parent, "Cdtr/Nm", transfer.beneficiary)
    _text(parent, "CdtrAcct/Id/IBAN", transfer.iban)
    _text(parent, "RmtInf/Ustrd", transfer.remittance)


def payment_csv(content: bytes) -> bytes:
    """The same for clearings that take a table: one line a transfer, with its header.

    :param content: a file that `pain001` has made: the table says what was looked at and nothing else.
    """
    root: Element = fromstring(content, forbid_dtd=True)
    columns = ("message_id", "execute_on", "payer_iban", "reference", "iban", "beneficiary", "amount", "remittance")
    common = [_told(root, path) for path in ("{*}GrpHdr/{*}MsgId", "{*}ReqdExctnDt/{*}Dt", "{*}DbtrAcct/{*}Id/{*}IBAN")]
    rows = [
        (
            *common,
            _told(each, "{*}EndToEndId"),
            _told(each, "{*}CdtrAcct/{*}Id/{*}IBAN"),
            _told(each, "{*}Cdtr/{*}Nm"),
            int(_told(each, "{*}InstdAmt")),
            _told(each, "{*}Ustrd"),
        )
        for each in root.iterfind(".//{*}CdtTrfTxInf")
    ]
    return csv_bytes([columns, *rows])


def _told(element: Element, path: str) -> str:
    return element.findtext(f".//{path}", "")


def _check(transfers: Sequence[Transfer]) -> None:
    if not transfers:
        raise PaymentFileError("there is nothing to pay")
    if any(each.amount <= 0 for each in transfers):
        raise PaymentFileError("a transfer moves more than 0 rial")
    if len({each.reference for each in transfers}) != len(transfers):
        raise PaymentFileError("two transfers have the same reference")


def _text(parent: Element, path: str, text: str) -> None:
    """An element below `parent`, made with those above it."""
    *above, last = path.split("/")
    for name in above:
        parent = SubElement(parent, name)
    SubElement(parent, last).text = text
