"""The catalogue is read strictly: what a wallet would refuse, or a person misread, does not get into a shop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from storefront.errors import CatalogueError
from storefront.merchant.catalogue import Catalogue, load_catalogue
from tests.support.shop_front import CATALOGUE

HONEST = """
shop: {fa: کتاب‌فروشی, en: Bookshop}
terms: {fa: تحویل در هفت روز, en: "Delivered within seven days.\\nNo returns."}
deliver_within: P7D
articles:
  - {sku: book-1, name: {fa: کتاب, en: Book}, price: 1_250_000}
  - {sku: pen, name: {fa: خودکار, en: Pen}, price: 1}
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Catalogue]:
    def load(text: str) -> Catalogue:
        path = tmp_path / "shop.yaml"
        path.write_text(text, "utf-8")
        return load_catalogue(path)

    return load


def test_an_honest_catalogue_is_read(load: Callable[[str], Catalogue]) -> None:
    found = load(HONEST)
    assert {sku: article.price for sku, article in found.by_sku.items()} == {"book-1": 1_250_000, "pen": 1}
    assert found.deliver_within == timedelta(days=7)
    assert load(HONEST.replace("deliver_within: P7D\n", "")).deliver_within is None
    assert load_catalogue(CATALOGUE).articles


@pytest.mark.parametrize(
    ("tag", "name"), [("fa", "خودکار"), ("en", "Pen"), ("en-US", "Pen"), ("de", "خودکار"), (None, "خودکار")]
)
def test_texts_are_in_the_buyers_language(load: Callable[[str], Catalogue], tag: str | None, name: str) -> None:
    assert load(HONEST).by_sku["pen"].name.in_language(tag) == name


HOSTILE = {
    "price in words": ("price: 1_250_000", "price: many"),
    "price as text": ("price: 1_250_000", 'price: "1250000"'),
    "price with a fraction": ("price: 1_250_000", "price: 1250000.5"),
    "price as a whole fraction": ("price: 1_250_000", "price: 1250000.0"),
    "price yes": ("price: 1_250_000", "price: yes"),
    "price in octal": ("price: 1_250_000", "price: 01250000"),
    "price in hexadecimal": ("price: 1_250_000", "price: 0x1312D0"),
    "price in base sixty": ("price: 1_250_000", "price: 347:13:20"),
    "price with odd grouping": ("price: 1_250_000", "price: 12_50_000"),
    "no price": ("price: 1_250_000", "price: "),
    "price of nothing": ("price: 1_250_000", "price: 0"),
    "negative price": ("price: 1_250_000", "price: -1"),
    "price beyond the protocol": ("price: 1_250_000", "price: 1000000000000"),
    "price twice": ("price: 1_250_000", "price: 1250000, price: 1"),
    "sku twice": ("sku: pen", "sku: book-1"),
    "sku with a space": ("sku: pen", 'sku: "pen 1"'),
    "sku with a line end": ("sku: pen", 'sku: "pen\\n"'),
    "sku of a number": ("sku: pen", "sku: 17"),
    "sku too long": ("sku: pen", "sku: " + "p" * 65),
    "name without Persian": ("{fa: خودکار, en: Pen}", "{en: Pen}"),
    "name in a third language": ("{fa: خودکار, en: Pen}", "{fa: خودکار, en: Pen, de: Stift}"),
    "empty name": ("en: Pen", 'en: ""'),
    "name of two lines": ("en: Pen", 'en: "Pen\\nfree"'),
    "name that runs backwards": ("en: Pen", 'en: "Pen\\u202e"'),
    "name with Arabic letters": ("fa: خودکار", "fa: كتاب"),
    "name with Persian digits": ("fa: خودکار", "fa: خودکار ۱۰"),
    "name too long": ("en: Pen", "en: " + "P" * 201),
    "terms too long": ("Delivered", "D" * 4001),
    "terms that run backwards": ("Delivered", "\\u202eDelivered"),
    "delivery in hours": ("P7D", "PT12H"),
    "delivery at once": ("P7D", "P0D"),
    "delivery as a number": ("P7D", "7"),
    "delivery in a thousand days": ("P7D", "P1000D"),
    "unknown field": ("deliver_within", "delivered_within"),
    "unknown field of an article": ("sku: pen,", "sku: pen, discount: 5,"),
    "alias": ("name: {fa: کتاب, en: Book}, price: 1_250_000}\n", "name: &n {fa: کتاب, en: Book}, price: 2, x: *n}\n"),
    "tag": ("name: {fa: خودکار, en: Pen}", "name: !!python/object/apply:os.getcwd []"),
    "a list": (HONEST, "[]"),
    "nothing": (HONEST, ""),
    "two documents": (HONEST, HONEST + "---\n" + HONEST),
    "no YAML": (HONEST, "a: [b"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_catalogue_with_one_fault_is_refused(load: Callable[[str], Catalogue], name: str) -> None:
    before, after = HOSTILE[name]
    assert before in HONEST
    with pytest.raises(CatalogueError, match=r"shop\.yaml"):
        load(HONEST.replace(before, after))


def test_no_articles_are_no_shop(load: Callable[[str], Catalogue]) -> None:
    with pytest.raises(CatalogueError, match="articles"):
        load(HONEST[: HONEST.index("articles:")] + "articles: []\n")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot read"):
        load_catalogue(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"shop: \xff")
    with pytest.raises(CatalogueError, match="not YAML"):
        load_catalogue(tmp_path / "latin.yaml")
