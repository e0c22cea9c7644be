"""The `rejections:` of a pack: for which reasons officers reject a case, each with the code that they sign.

The list is closed, so that rejections can be counted and applicants be told why in their language. Beside the code an
officer writes a sentence, which is signed, too, but is read by people alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runtime.language import Bilingual

if TYPE_CHECKING:
    from cps.model import MemberClass, Pack

CODE: Final = r"^[a-z][a-z_]{0,39}$"
RejectionCode = Annotated[str, StringConstraints(pattern=CODE)]
_Sentence = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BothLanguages(_Model):
    """What applicants and officers read."""

    en: _Sentence
    fa: _Sentence


class RejectionReason(_Model):
    """Why cases of `classes` may be rejected."""

    section: str
    classes: tuple[str, ...] = Field(min_length=1)
    text: BothLanguages

    @property
    def told(self) -> Bilingual:
        """The reason, for a reader of either language."""
        return Bilingual(self.text.en, self.text.fa)


def rejections_of(pack: Pack, member_class: MemberClass) -> dict[str, RejectionReason]:
    """The reasons for which a case of the class may be rejected, by their codes, in the order of the statement."""
    return {code: each for code, each in pack.rejections.items() if member_class in each.classes}
