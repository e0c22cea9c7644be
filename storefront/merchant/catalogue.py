"""What a shop sells: a YAML file of articles, checked when it is loaded.

shop: {fa: کتاب‌فروشی, en: Bookshop}
terms: {fa: …, en: …}            what the merchant promises with its signature on the invoice
deliver_within: P7D              optional; a whole number of days
articles:
  - {sku: "B-1", name: {fa: …, en: …}, price: 1250000}     price in rial
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from kwbp import fields
from kwbp.errors import ProtocolError
from storefront import strict_yaml
from storefront.errors import CatalogueError

_DAYS: Final = re.compile(r"P([1-9][0-9]{0,2})D")
_MAX_BYTES: Final = 16 * 1024 * 1024

Language = str
Rial = Annotated[int, Field(strict=True, ge=1, lt=10**12)]


def _in_form(text: str, *, longest: int, multiline: bool = False) -> str:
    """The rules by which a wallet will judge the text (`kwbp.text`): better now than at every sale."""
    try:
        fields.check_text("text", text, longest=longest, multiline=multiline)
    except ProtocolError as error:
        raise ValueError(error.detail) from None
    return text


Line = Annotated[str, AfterValidator(lambda text: _in_form(text, longest=200))]
Paragraphs = Annotated[str, AfterValidator(lambda text: _in_form(text, longest=4000, multiline=True))]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Bilingual(_Model):
    fa: str
    en: str

    def in_language(self, tag: Language | None) -> str:
        """The text for an RFC 5646 tag: English for `en…`, Persian for everything else."""
        return self.en if tag is not None and tag.lower().split("-")[0] == "en" else self.fa


class Text(_Bilingual):
    """A line of text in both languages of the product."""

    fa: Line
    en: Line


class Terms(_Bilingual):
    """What the merchant promises, in both languages; may have several lines."""

    fa: Paragraphs
    en: Paragraphs


class Article(_Model):
    """One thing that can be bought; price in rial."""

    sku: str = Field(pattern=rf"^{fields.SKU.pattern}$")
    name: Text
    price: Rial


class Catalogue(_Model):
    """All that a shop sells, and what it promises."""

    shop: Text
    terms: Terms
    deliver_within: timedelta | None = None
    articles: tuple[Article, ...] = Field(min_length=1)

    @field_validator("deliver_within", mode="before")
    @classmethod
    def _days(cls, value: Any) -> Any:
        if value is None or isinstance(value, timedelta):
            return value
        match = _DAYS.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("expected a number of days, for example P7D")
        return timedelta(days=int(match.group(1)))

    @field_validator("articles")
    @classmethod
    def _unique(cls, articles: tuple[Article, ...]) -> tuple[Article, ...]:
        skus = [article.sku for article in articles]
        if len(set(skus)) != len(skus):
            raise ValueError("two articles have the same sku")
        return articles

    @cached_property
    def by_sku(self) -> Mapping[str, Article]:
        """Articles by their number."""
        return {article.sku: article for article in self.articles}


def load_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue; raises CatalogueError naming what was expected."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CatalogueError(f"the catalogue {path} has more than {_MAX_BYTES} bytes")
        return Catalogue.model_validate(strict_yaml.load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CatalogueError(f"cannot read the catalogue {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} is not YAML as it must be: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise CatalogueError(f"{path} is not a catalogue: {faults}") from None
