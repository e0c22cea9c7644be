"""Reports: the same figures as CSV and PDF, in both languages; joined letters that another reader finds."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pypdfium2
import pytest

from gateway.acquirer.report import words
from runtime.language import Language
from runtime.problems import Problem
from tests.gateway.acquirer.books import DAY, MAKER, Books
from tests.gateway.conftest import run


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('report') / 'gateway.db'}"


@pytest.fixture
def books(opened: Callable[..., Books]) -> Books:
    """Closed and paid out: M-1 sold twice and gave back once, M-2 sold once."""
    found = opened()
    if not found.acquirer.payouts.all():
        order, _ = found.sale(1_250_000), found.sale(70_000)
        found.credit(order, 30_000)
        found.sale(40_000, merchant="M-2")
        found.close()
        run(found.acquirer.payouts.create(by=MAKER))
    return found


def report(books: Books, merchant: str | None, form: Any, language: Language, **how: Any) -> bytes:
    return run(books.acquirer.report(merchant, DAY, form, language, **how))


def text_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    try:
        return "\n".join(page.get_textpage().get_text_range() for page in document)
    finally:
        document.close()


@pytest.mark.parametrize("language", Language)
def test_a_table_has_the_figures_of_the_day(books: Books, language: Language) -> None:
    data = report(books, "M-1", "csv", language)
    rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8"), newline="")) if row]
    say = words()
    assert rows[0] == [say["merchant_title"].text(language)]
    assert [say["net"].text(language), "", "1288000"] in rows
    assert [say["paid"].text(language), "", "1288000"] in rows
    assert [say["SALE"].text(language), "2", "1320000"] in rows
    (credit,) = [row for row in rows if row[1:2] == [say["CREDIT"].text(language)]]
    assert credit[2:] == ["9" + f"{2:011d}", "900002", "603770******0007", "-30000", "0"]
    assert report(books, "M-1", "csv", language, bom=True) == b"\xef\xbb\xbf" + data


def test_a_page_says_the_same_in_english(books: Books) -> None:
    text = text_of(report(books, "M-1", "pdf", Language.EN))
    for part in ("Statement of the business day", "2026-03-20 (1404/12/29)", "1,250,000", "−30,000", "1,288,000"):
        assert part in text, part


def test_a_persian_page_is_shaped_and_read_from_right_to_left(books: Books) -> None:
    pdf = report(books, "M-1", "pdf", Language.FA)
    text = text_of(pdf)
    for part in ("روز کاری", "۱۴۰۴/۱۲/۲۹", "۱٬۲۵۰٬۰۰۰", "۱٬۲۸۸٬۰۰۰", "پذیرنده", "KWBP"):
        assert part in text, part
    document = pypdfium2.PdfDocument(pdf)
    page = document[0]
    width = page.get_width()
    found = page.get_textpage().search("بازپرداخت")
    place = found.get_next()
    assert place is not None  # one word of joined letters, as it is written
    left = page.get_textpage().get_charbox(place[0])[0]
    amount = page.get_textpage().search("۱٬۲۵۰٬۰۰۰").get_next()
    assert amount is not None
    assert page.get_textpage().get_charbox(amount[0])[0] < width / 2 < left  # the first columns are on the right
    document.close()


def test_a_long_day_goes_over_several_pages_with_its_head_on_each(books: Books) -> None:
    books.number = 1000  # orders of their own, in a database that tests share
    for number in range(60):
        books.sale(1_000 + number, day=DAY.replace(day=19))
    pdf = run(books.acquirer.report("M-1", DAY.replace(day=19), "pdf", Language.EN))
    document = pypdfium2.PdfDocument(pdf)
    texts = [page.get_textpage().get_text_range() for page in document]
    document.close()
    assert len(texts) > 1
    assert all("Reference (RRN)" in text and "Statement of the business day" in text for text in texts)
    assert "not closed yet" in texts[0]


@pytest.mark.parametrize("form", ["csv", "pdf"])
def test_all_merchants_at_a_glance(books: Books, form: str) -> None:
    data = report(books, None, form, Language.EN)
    text = text_of(data).replace(",", "") if form == "pdf" else data.decode("utf-8")
    for part in ("M-1", "M-2", "1288000", "39000", "1327000", "to be paid"):
        assert part in text, part


def test_a_merchant_that_nobody_knows_has_no_report(books: Books) -> None:
    with pytest.raises(Problem) as refused:
        report(books, "M-9", "pdf", Language.EN)
    assert refused.value.status == 404
