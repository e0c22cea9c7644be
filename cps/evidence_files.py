"""What a document on file may be: its type, by its content, and its size (signed forms are verified instead)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MediaType = Literal[
    "application/pdf", "image/png", "image/jpeg", "image/tiff", "text/plain", "application/pkcs7-mime"
]  # the last one is CMS (RFC 8551 3.2.1)
_MIB = 1 << 20


class EvidenceFiles(BaseModel):
    """`largest`: MiB of one document; `together`: MiB of all documents of one case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    section: str
    largest: int = Field(ge=1)
    together: int = Field(ge=1)
    types: tuple[MediaType, ...] = Field(min_length=1)

    @property
    def largest_bytes(self) -> int:
        return self.largest * _MIB

    @property
    def together_bytes(self) -> int:
        return self.together * _MIB

    @model_validator(mode="after")
    def _one_fits(self) -> Self:
        if self.together < self.largest:
            raise ValueError("a case holds at least one document of the largest size")
        return self
