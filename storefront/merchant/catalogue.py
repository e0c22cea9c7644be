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
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from storefront.errors import CatalogueError

_DAYS: Final = re.compile(r"P([1-9][0-9]{0,2})D")

Language = str
Rial = Annotated[int, Field(ge=1, lt=10**12)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Model):
    """A text in both languages of the product."""

    fa: str = Field(min_length=1)
    en: str = Field(min_length=1)

    def in_language(self, tag: Language | None) -> str:
        """The text for an RFC 5646 tag: English for `en…`, Persian for everything else."""
        return self.en if tag is not None and tag.lower().split("-")[0] == "en" else self.fa


class Article(_Model):
    """One thing that can be bought; price in rial."""

    sku: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    name: Text
    price: Rial


class Catalogue(_Model):
    """All that a shop sells, and what it promises."""

    shop: Text
    terms: Text
    deliver_within: timedelta | None = None
    articles: tuple[Article, ...] = Field(min_length=1)

    @field_validator("deliver_within", mode="before")
    @classmethod
    def _days(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _DAYS.fullmatch(value)
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

    @property
    def by_sku(self) -> Mapping[str, Article]:
        return {article.sku: article for article in self.articles}


def load_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue; raises CatalogueError naming what was expected."""
    try:
        return Catalogue.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CatalogueError(f"cannot read the catalogue {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise CatalogueError(f"{path} is not a catalogue: {faults}") from None
