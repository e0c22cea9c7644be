"""Tables as CSV for people and their spreadsheets. Pure.

RFC 4180: fields are quoted where they must be, lines end with CR LF. A cell of text that a spreadsheet would take for a
formula is written with an apostrophe before it; numbers are numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Final
from unicodedata import category

from gateway.acquirer.report import Cell, Report, Rial, Text
from runtime.language import Bilingual, Language
from shetab.jalali import IRAN_STANDARD_TIME

BOM: Final = "﻿"
"""By which some spreadsheets see that the text is UTF-8."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_UNSEEN: Final = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


def csv_bytes(rows: Iterable[Sequence[object]], *, bom: bool = False) -> bytes:
    """Rows as UTF-8; None is an empty field. :param bom: begin with U+FEFF."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return ((BOM if bom else "") + text.getvalue()).encode("utf-8")


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, int):
        return value
    # What comes after white space, or what nobody sees, counts for some spreadsheets as well.
    text = str(value)
    seen = "".join(each for each in text if category(each) not in _UNSEEN)
    return f"'{text}" if text.startswith(_FORMULA) or seen.startswith(_FORMULA) else text


def report_csv(report: Report, language: Language, *, bom: bool = False) -> bytes:
    """A report as one file: facts, then each table under its title, parted by empty lines.

    Headings are in the reader's language; amounts are plain numbers in rial, days and instants are ISO 8601 in Iran's
    time, so that programs read them in either.
    """
    rows: list[Sequence[object]] = [(report.title.text(language),)]
    rows += [(name.text(language), _plain(value, language)) for name, value in report.facts]
    for table in report.tables:
        rows += [(), (table.title.text(language),), tuple(each.text(language) for each in table.columns)]
        rows += [tuple(_plain(cell, language) for cell in row) for row in table.rows]
    return csv_bytes(rows, bom=bom)


def _plain(cell: Cell, language: Language) -> object:
    match cell:
        case Bilingual():
            return cell.text(language)
        case Rial():
            return cell.amount
        case Text():
            return cell.text
        case datetime():
            return cell.astimezone(IRAN_STANDARD_TIME).isoformat(timespec="seconds")
        case date():
            return cell.isoformat()
    return cell
