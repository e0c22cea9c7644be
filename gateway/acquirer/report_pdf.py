"""A report as PDF: A4, in English or Persian, right to left, its letters joined by the shaping engine (HarfBuzz).

Persian pages have Persian digits and Jalali dates, English ones Gregorian dates with the Jalali ones beside them. The
typeface is Vazirmatn (SIL Open Font License 1.1), which has both scripts; it is embedded, so that a page looks the same
everywhere and its text can be searched.
"""

from __future__ import annotations

from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import Final

from fpdf import FPDF
from fpdf.enums import Align

from gateway.acquirer.report import Cell, Report, Rial, Table, Text, words
from runtime.language import Bilingual, Language, digits
from shetab.jalali import IRAN_STANDARD_TIME, from_gregorian

_FONTS: Final = Path(str(resources.files("gateway.acquirer").joinpath("fonts")))
_FONT: Final = "Vazirmatn"
_INK: Final = (33, 37, 41)
_QUIET: Final = (108, 117, 125)
_ACCENT: Final = (15, 76, 92)
_PALE: Final = (236, 242, 244)
_LINE: Final = (206, 212, 218)
_MARGIN: Final = 15.0  # mm
_ROW: Final = 6.6
_THOUSANDS: Final = {Language.EN: ",", Language.FA: "٬"}
_MINUS: Final = "−"


def said(cell: Cell, language: Language) -> str:
    """A cell as a reader of this language sees it."""
    match cell:
        case None:
            return ""
        case Bilingual():
            return cell.text(language)
        case Text():
            return cell.text
        case Rial():
            grouped = f"{abs(cell.amount):,}".replace(",", _THOUSANDS[language])
            text = f"{_MINUS}{grouped}" if cell.amount < 0 else grouped
        case datetime():
            text = cell.astimezone(IRAN_STANDARD_TIME).strftime("%H:%M:%S")
        case date():
            text = _day(cell, language)
        case _:
            text = str(cell)
    return digits(text) if language is Language.FA else text


def _day(day: date, language: Language) -> str:
    year, month, number = from_gregorian(day)
    jalali = f"{year:04d}/{month:02d}/{number:02d}"
    return jalali if language is Language.FA else f"{day.isoformat()} ({jalali})"


def pdf_bytes(report: Report, language: Language) -> bytes:
    """The report as a PDF file."""
    page = _Page(report, language)
    page.add_page()
    page.facts()
    for table in report.tables:
        page.rows(table)
    page.note()
    return bytes(page.output())


class _Page(FPDF):
    """A document with the header and footer of a report. "start" is where reading begins: right in Persian."""

    def __init__(self, report: Report, language: Language) -> None:
        super().__init__(format="A4")
        self._report = report
        self._language = language
        self._rtl = language is Language.FA
        for style, name in (("", "Regular"), ("B", "Bold")):
            self.add_font(_FONT, style, _FONTS / f"Vazirmatn-{name}.ttf")
        self.set_margins(_MARGIN, _MARGIN)
        self.set_auto_page_break(True, margin=18)
        self.set_title(report.title.text(language))
        self.set_lang(language.value)
        self.set_creation_date(report.made_at)
        self.alias_nb_pages("")  # the number of pages is set by `footer` itself

    @property
    def _start(self) -> Align:
        return Align.R if self._rtl else Align.L

    @property
    def _end(self) -> Align:
        return Align.L if self._rtl else Align.R

    def _say(self, cell: Cell) -> str:
        return said(cell, self._language)

    # --- every page ---------------------------------------------------------------------------------------------------

    def header(self) -> None:
        self.set_fill_color(*_ACCENT)
        self.rect(0, 0, self.w, 24, style="F")
        self.set_text_color(255, 255, 255)
        self.set_xy(_MARGIN, 7)
        self.set_font(_FONT, "B", 17)
        self._cell(self.epw, 10, self._say(self._report.title), align=self._start)
        day = self._report.facts[0][1]
        self.set_xy(_MARGIN, 7)
        self.set_font(_FONT, "", 11)
        self._cell(self.epw, 10, self._say(day), align=self._end)
        self.set_text_color(*_INK)
        self.set_y(31)

    def footer(self) -> None:
        self.set_y(-14)
        self.set_draw_color(*_LINE)
        self.line(_MARGIN, self.get_y(), self.w - _MARGIN, self.get_y())
        self.set_font(_FONT, "", 8)
        self.set_text_color(*_QUIET)
        printed = words()["printed"].text(self._language)
        made = self._report.made_at
        local = made.astimezone(IRAN_STANDARD_TIME)
        stamp = f"{printed}: {self._say(local.date())} {self._say(made)}"
        self._cell(self.epw, 8, stamp, align=self._start)
        self.set_x(_MARGIN)
        self._cell(self.epw, 8, self._say(self.page_no()), align=self._end)

    # --- what a report has --------------------------------------------------------------------------------------------

    def facts(self) -> None:
        """Names and values in two columns."""
        half, name = self.epw / 2, 30.0
        facts = self._report.facts
        top = self.get_y()
        for number, (title, value) in enumerate(facts):
            column, row = number % 2, number // 2
            left = _MARGIN + half * ((1 - column) if self._rtl else column)
            self.set_xy(left + (half - name if self._rtl else 0), top + row * 7.2)
            self.set_font(_FONT, "", 8.5)
            self.set_text_color(*_QUIET)
            self._cell(name, 7, self._say(title), align=self._start)
            self.set_xy(left if self._rtl else left + name, top + row * 7.2)
            self.set_font(_FONT, "B", 9.5)
            self.set_text_color(*_INK)
            self._cell(half - name, 7, self._say(value) or self._say(words()["none"]), align=self._start)
        self.set_y(top + (len(facts) + 1) // 2 * 7.2 + 4)

    def rows(self, table: Table) -> None:
        """A table; its head is repeated on every page."""
        widths = [self.epw * share / sum(table.widths) for share in table.widths]
        if self.will_page_break(_ROW * 4):
            self.add_page()
        self.set_font(_FONT, "B", 12)
        self.set_text_color(*_ACCENT)
        self._cell(self.epw, 9, self._say(table.title), align=self._start)
        self.ln(9)
        self._head(table, widths)
        for number, row in enumerate(table.rows):
            if self.will_page_break(_ROW):
                self.add_page()
                self._head(table, widths)
            is_sum = table.last_is_sum and number == len(table.rows) - 1
            self._row(row, widths, shaded=number % 2 == 1, is_sum=is_sum)
        self.ln(5)

    def _head(self, table: Table, widths: list[float]) -> None:
        self.set_font(_FONT, "B", 8.5)
        self.set_fill_color(*_ACCENT)
        self.set_text_color(255, 255, 255)
        sides = [self._end if _is_number(cell) else self._start for cell in (table.rows or [()])[0]]
        sides += [self._start] * (len(table.columns) - len(sides))
        texts = [self._say(each) for each in table.columns]
        self._cells(texts, widths, sides, height=7.2, fill=True)

    def _row(self, row: tuple[Cell, ...], widths: list[float], *, shaded: bool, is_sum: bool) -> None:
        self.set_font(_FONT, "B" if is_sum else "", 8.5)
        self.set_text_color(*(_ACCENT if is_sum else _INK))
        self.set_fill_color(*_PALE)
        self.set_draw_color(*(_ACCENT if is_sum else _LINE))
        sides = [self._end if _is_number(cell) else self._start for cell in row]
        top = self.get_y()
        self._cells([self._say(cell) for cell in row], widths, sides, height=_ROW, fill=shaded or is_sum)
        self.line(_MARGIN, top if is_sum else top + _ROW, self.w - _MARGIN, top if is_sum else top + _ROW)

    def _cells(self, texts: list[str], widths: list[float], sides: list[Align], *, height: float, fill: bool) -> None:
        cells = list(zip(texts, widths, sides, strict=True))
        for text, width, side in reversed(cells) if self._rtl else cells:
            self._cell(width, height, text, align=side, fill=fill)
        self.ln(height)

    def _cell(self, width: float, height: float, text: str, *, align: Align, fill: bool = False) -> None:
        """One cell. A text without Persian letters (a number, a name) is read from left to right on any page."""
        shaped = any("\u0620" <= letter <= "\u06d3" and letter.isalpha() for letter in text)
        self.set_text_shaping(shaped, direction="rtl", script="arab", language=self._language.value)
        self.cell(width, height, self._fitting(text, width), align=align, fill=fill)

    def _fitting(self, text: str, width: float) -> str:
        """The text, cut short if the column is too narrow for it."""
        room = width - 2 * self.c_margin
        if self.get_string_width(text) <= room:
            return text
        while text and self.get_string_width(text + "…") > room:
            text = text[:-1]
        return text + "…"

    def note(self) -> None:
        """The line below everything."""
        self.set_font(_FONT, "", 8.5)
        self.set_text_color(*_QUIET)
        self._cell(self.epw, 6, self._say(self._report.note), align=self._start)


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, Rial) or (isinstance(cell, int) and not isinstance(cell, bool))
