"""The specification speaks of everything that the code speaks: rows, checks, codes, states, content types, twice."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from gateway.states import OrderState as GatewayState
from kwbp.checks import CHECKS
from kwbp.codes import ErrorCode
from pki.oids import ID_KWBP, NAMES
from scripts import protocol
from storefront.merchant.states import OrderState as MerchantState
from storefront.wallet.records import PurchaseState

LANGUAGES = ("specification.md", "specification.fa.md")
ROW = {"specification.md": "### Row {}:", "specification.fa.md": "### ردیف {}:"}
DIGITS = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_CHECK = re.compile(r"\b([A-Z])(\d{1,2})(?:–\1(\d{1,2}))?\b")


@pytest.fixture(params=LANGUAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def text(name: str) -> str:
    return (protocol.FOLDER / name).read_text("utf-8")


def checks_in(text: str) -> Iterator[str]:
    """Ids, and what `G4–G7` stands for."""
    for letter, first, last in _CHECK.findall(text):
        for number in range(int(first), int(last or first) + 1):
            yield f"{letter}{number}"


def test_every_row_has_its_section(name: str, text: str) -> None:
    for number in range(1, 25):
        shown = str(number) if name == "specification.md" else str(number).translate(DIGITS)
        assert text.count(ROW[name].format(shown)) == 1, number


def test_every_check_is_named_and_no_other(text: str) -> None:
    families = {check[0] for check in CHECKS}
    named = {check for check in checks_in(text) if check[0] in families}
    assert named == set(CHECKS)


def test_every_error_code_is_explained(text: str) -> None:
    named = set(re.findall(r"`([a-z][A-Za-z]+)`", text))
    assert {code.protocol_name for code in ErrorCode} <= named


def test_every_state_is_named(text: str) -> None:
    for states in (GatewayState, MerchantState, PurchaseState):
        for state in states:
            assert re.search(rf"\b{state.value}\b", text), state


def test_every_content_type_is_named(text: str) -> None:
    own = [name for oid, name in NAMES.items() if oid.dotted_string.startswith(ID_KWBP.dotted_string + ".")]
    for content_type in (each for each in own if re.match(r"id-kwbp-(ct|mt|aa)-", each)):
        assert re.search(rf"{content_type}\b", text), content_type


def test_every_structure_of_the_module_is_signed_sealed_or_sent_by_some_row(text: str) -> None:
    """English names those that are messages; what is only part of one stands in the module."""
    module = (protocol.FOLDER / "KWBP-2.asn1").read_text("utf-8")
    for structure in re.findall(r"`(\w+(?:TBS|Message|Sealed|Data0?))`", text):
        assert f"{structure} ::= SEQUENCE" in module, structure


@pytest.mark.parametrize("page", [*LANGUAGES, "examples/README.md", "examples/README.fa.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    path = protocol.FOLDER / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_the_byte_exact_part_is_the_same_in_both_languages() -> None:
    def formulas(name: str) -> set[str]:
        lines = (protocol.FOLDER / name).read_text("utf-8").splitlines()
        return {re.sub(r"\s+", " ", line) for line in lines if re.match(r"\w+ +=? ", line) and "SHA-256" in line}

    english, persian = (formulas(name) for name in LANGUAGES)
    assert persian
    assert {line.split(" PIData")[0].rstrip(",") for line in persian} <= {
        line.split(" PIData")[0].rstrip(",") for line in english
    }
