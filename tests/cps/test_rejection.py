"""The closed list of reasons for which cases are rejected."""

from __future__ import annotations

import pytest

from cps.errors import PackError
from cps.model import load_pack
from cps.packs import published
from cps.rejection import rejections_of
from runtime.language import Language
from tests.cps.test_model import TEXT


def test_each_class_has_its_reasons() -> None:
    pack = published()
    assert list(rejections_of(pack, "cardholder")) == ["card_in_doubt", "evidence_false", "risk", "other"]
    assert "no_agreement" in rejections_of(pack, "merchant")
    assert all("other" in rejections_of(pack, member_class) for member_class in pack.classes)


def test_a_reason_is_told_in_both_languages() -> None:
    told = published().rejections["risk"].told
    assert str(told) == told.text(Language.EN) == "the risk of certifying the applicant is too high"
    assert told.text(Language.FA).startswith("خطر")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("  identity_unproven:", "  Identity-Unproven:", "rejections"),
        ("classes: [gateway, officer]\n    text", "classes: [king]\n    text", "names ['king']"),
        ("classes: [gateway, officer]\n    text", "classes: []\n    text", "rejections.key_not_trusted.classes"),
        (
            "    text: {en: the certificate is not needed, fa: ",
            "    text: {en: the certificate is not needed, de: ",
            "fa",
        ),
    ],
)
def test_what_is_no_list_of_reasons_is_refused(old: str, new: str, fault: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(PackError) as caught:
        load_pack(TEXT.replace(old, new))
    assert fault in str(caught.value)


def test_every_class_has_a_reason() -> None:
    text = TEXT.replace("[cardholder, merchant, gateway, officer]\n    text", "[merchant, gateway, officer]\n    text")
    text = text.replace("classes: [cardholder]\n    text", "classes: [merchant]\n    text")
    text = text.replace("classes: [cardholder, merchant, gateway]\n    text", "classes: [merchant]\n    text")
    with pytest.raises(PackError, match="no reason for which a case of the class cardholder"):
        load_pack(text)
