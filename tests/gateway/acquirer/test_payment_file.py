"""Files to the bank and its answers: pain.001 by its schema, tables without formulas, answers read strictly."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from importlib import resources
from typing import Any, Final

import pytest
from defusedxml.ElementTree import fromstring
from xmlschema import XMLSchema

from gateway.acquirer.bank_answer import BankAnswerError, Outcome, read_answer
from gateway.acquirer.payment_file import (
    NAMESPACE,
    Payer,
    PaymentFileError,
    Transfer,
    pain001,
    payment_csv,
)
from gateway.acquirer.report_csv import csv_bytes

IBAN: Final = "IR062960000000100324200001"
PAYER: Final = Payer("KWBP acquirer", "IR820540102680020817909002")
DAY: Final = date(2026, 3, 21)
MADE: Final = {"message_id": "KWBP-20260321-1", "payer": PAYER, "execute_on": DAY}
TRANSFERS: Final = (
    Transfer("KWBP-20260320-M-1", "Bookshop <Tehran> & sons", IBAN, 1_234_567, "Card sales of 2026-03-20"),
    Transfer("KWBP-20260320-M-2", "=cmd()", IBAN, 1, "Card sales of 2026-03-20"),
)


@pytest.fixture(scope="module")
def schema() -> XMLSchema:
    """The published schema of ISO 20022."""
    return XMLSchema(resources.files("sepaxml").joinpath("schemas/pain.001.001.09.xsd").read_text("utf-8"))


@pytest.mark.parametrize("bic", [None, "PRSIIRTH"])
def test_the_file_is_pain001_by_its_schema(schema: XMLSchema, bic: str | None) -> None:
    payer = Payer(PAYER.name, PAYER.iban, bic)
    made = pain001(TRANSFERS, **{**MADE, "payer": payer}, now=datetime(2026, 3, 21, 9, tzinfo=UTC))  # type: ignore[arg-type]
    schema.validate(made.decode("utf-8").partition("\n")[2])
    root = fromstring(made)
    names = {"p": NAMESPACE}
    assert root.findtext(".//p:GrpHdr/p:CtrlSum", namespaces=names) == "1234568"
    assert [each.text for each in root.iterfind(".//p:EndToEndId", names)] == [each.reference for each in TRANSFERS]
    assert [each.text for each in root.iterfind(".//p:InstdAmt", names)] == ["1234567", "1"]
    assert root.findtext(".//p:Cdtr/p:Nm", namespaces=names) == "Bookshop <Tehran> & sons"


@pytest.mark.parametrize(
    "transfers",
    [(), (TRANSFERS[0], TRANSFERS[0]), (Transfer("r", "b", IBAN, 0, ""),), (Transfer("r", "b", IBAN, -1, ""),)],
)
def test_what_cannot_be_paid_is_in_no_file(transfers: tuple[Transfer, ...]) -> None:
    with pytest.raises(PaymentFileError):
        pain001(transfers, **MADE, now=datetime(2026, 3, 21, tzinfo=UTC))  # type: ignore[arg-type]


def test_an_account_that_is_none_pays_nothing() -> None:
    with pytest.raises(PaymentFileError, match="payer"):
        Payer("KWBP", "IR820540102680020817909003")


def test_the_same_as_a_table_holds_no_formula() -> None:
    made = pain001(TRANSFERS, **MADE, now=datetime(2026, 3, 21, 9, tzinfo=UTC))  # type: ignore[arg-type]
    rows = list(csv.DictReader(io.StringIO(payment_csv(made).decode("utf-8"), newline="")))
    assert rows[0] == {
        "message_id": "KWBP-20260321-1",
        "execute_on": "2026-03-21",
        "payer_iban": PAYER.iban,
        "reference": "KWBP-20260320-M-1",
        "iban": IBAN,
        "beneficiary": "Bookshop <Tehran> & sons",
        "amount": "1234567",
        "remittance": "Card sales of 2026-03-20",
    }
    assert [(row["reference"], row["amount"]) for row in rows] == [
        ("KWBP-20260320-M-1", "1234567"),
        ("KWBP-20260320-M-2", "1"),
    ]
    assert rows[1]["beneficiary"] == "'=cmd()"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+98", "'+98"),
        ("-5", "'-5"),
        ("@x", "'@x"),
        ("\t=1", "'\t=1"),
        ("  =1", "'  =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\u200f\u00a0=1", "'\u200f\u00a0=1"),
        ("＝1", "'＝1"),
        ("＠x", "'＠x"),
        (-5, "-5"),
        (None, ""),
        ('a "b", c', '"a ""b"", c"'),
        ("a\r\nb", '"a\r\nb"'),
        ("فروش", "فروش"),
    ],
)
def test_a_cell_as_rfc_4180_writes_it_and_no_spreadsheet_runs_it(cell: object, written: str) -> None:
    assert csv_bytes([(cell, "x")]).decode("utf-8") == f"{written},x\r\n"
    assert csv_bytes([("x",)], bom=True) == b"\xef\xbb\xbfx\r\n"


# --- what the bank says -----------------------------------------------------------------------------------------------


def pain002(*transactions: str, version: str = "10", original: str = "", whole: str = "") -> bytes:
    body = "".join(f"<TxInfAndSts>{each}</TxInfAndSts>" for each in transactions)
    space = f"urn:iso:std:iso:20022:tech:xsd:pain.002.001.{version}"
    group = f"<OrgnlMsgId>{original}</OrgnlMsgId><GrpSts>{whole}</GrpSts>"
    group = f"<OrgnlGrpInfAndSts>{group}</OrgnlGrpInfAndSts>" if original or whole else ""
    report = f"<CstmrPmtStsRpt>{group}<OrgnlPmtInfAndSts>{body}</OrgnlPmtInfAndSts></CstmrPmtStsRpt>"
    return f'<Document xmlns="{space}">{report}</Document>'.encode()


def told(reference: str, status: str, more: str = "") -> str:
    return f"<OrgnlEndToEndId>{reference}</OrgnlEndToEndId><TxSts>{status}</TxSts>{more}"


def test_only_what_is_final_counts() -> None:
    why = "<StsRsnInf><Rsn><Cd>AC04</Cd></Rsn><AddtlInf>account closed</AddtlInf></StsRsnInf>"
    found = read_answer(pain002(told("A", "ACSC"), told("B", "ACSP"), told("C", "RJCT", why), told("D", "PDNG")))
    assert found == [Outcome("A", "PAID"), Outcome("C", "RETURNED", "AC04 account closed")]
    assert read_answer(b"reference,status,reason\r\nA,PAID,\r\n\r\nC,RETURNED,closed\r\n") == [
        Outcome("A", "PAID"),
        Outcome("C", "RETURNED", "closed"),
    ]


def test_it_is_told_which_file_the_bank_speaks_of() -> None:
    found = read_answer(pain002(told("A", "ACSC"), told("B", "RJCT"), original="KWBP-1"))
    assert found == [Outcome("A", "PAID", message_id="KWBP-1"), Outcome("B", "RETURNED", message_id="KWBP-1")]


@pytest.mark.parametrize("code", ["AM05", "DUPL", "DU01", "DU05"])
def test_what_the_bank_refuses_because_it_has_it_already_has_not_come_back(code: str) -> None:
    why = f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn></StsRsnInf>"
    assert read_answer(pain002(told("A", "RJCT", why), told("B", "RJCT"))) == [Outcome("B", "RETURNED")]


def test_a_reason_is_one_line_that_a_database_keeps() -> None:
    (outcome,) = read_answer(b'reference,status,reason\nA,RETURNED,"a\nb\x00c\x1b[1m"\n')
    assert outcome.reason == "abc[1m"


ENTITIES: Final = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "x">]><Document>&a;</Document>'
LAUGHS: Final = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "ha">%s]><Document>&j;</Document>' % b"".join(
    b'<!ENTITY %c "%s">' % (name, b"&%c;" % (name - 1) * 10) for name in b"bcdefghij"
)
EXTERNAL: Final = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a SYSTEM "%s">]><Document>&a;</Document>'
UNREADABLE: Final[dict[str, Any]] = {
    "empty": b"",
    "no columns": b"A,PAID,\n",
    "other status": b"reference,status,reason\nA,DONE,\n",
    "two fields": b"reference,status,reason\nA,PAID\n",
    "no UTF-8": b"reference,status,reason\n\xff,PAID,\n",
    "two answers": b"reference,status,reason\nA,PAID,\nA,RETURNED,\n",
    "no reference": b"reference,status,reason\n,PAID,\n",
    "long reference": b"reference,status,reason\n" + b"A" * 36 + b",PAID,\n",
    "open quote": b'reference,status,reason\n"A,PAID,\n',
    "no XML": b"<Document>",
    "entities": ENTITIES,
    "billion laughs": LAUGHS,
    "external entity": EXTERNAL % b"file:///etc/hostname",
    "entity from the net": EXTERNAL % b"http://127.0.0.1:9/x",
    "outer DTD": b'<?xml version="1.0"?><!DOCTYPE Document SYSTEM "file:///etc/hostname"><Document/>',
    "parameter entity": b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]><d/>',
    "entity in a name": pain002(told("A&b;", "ACSC")),
    "NUL in a reference": b"reference,status,reason\nA\x00,PAID,\n",
    "reference of other letters": "reference,status,reason\nالف,PAID,\n".encode(),
    "refused as a whole": pain002(original="KWBP-1", whole="RJCT").replace(
        b"<OrgnlPmtInfAndSts></OrgnlPmtInfAndSts>", b""
    ),
    "pain.001": b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"/>',
    "two answers in XML": pain002(told("A", "ACSC"), told("A", "RJCT")),
    "unknown encoding": b'<?xml version="1.0" encoding="x-none"?><Document/>',
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_answer_that_cannot_be_read_changes_nothing(name: str) -> None:
    with pytest.raises(BankAnswerError):
        read_answer(UNREADABLE[name])
