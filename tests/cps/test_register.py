"""Which version of the statement governs: in force, grandfathered, superseded."""

from __future__ import annotations

from datetime import datetime

import pytest

from cps.dossier import CpsPin
from cps.errors import PackError
from cps.model import Pack, load_pack
from cps.packs import published
from cps.register import PackRegister
from tests.support.cps_cases import DAY
from tests.support.pki_factory import NOW
from tests.support.publications import grandfathering, pack_text

FOUNDING = published()
LATER = NOW + DAY


def version(number: str, effective: datetime, on_supersede: str = "reevaluate") -> Pack:
    return load_pack(pack_text(number, effective=effective, on_supersede=on_supersede))


SECOND = version("1.1.0", LATER)
KIND = version("1.1.0", LATER, grandfathering(LATER + 5 * DAY))


def test_a_new_installation_has_the_pack_of_the_release() -> None:
    register = PackRegister.founding()
    assert register.packs == (FOUNDING,)
    assert register.in_force(NOW) is register.newest is FOUNDING
    assert register.in_force(FOUNDING.cps.effective - DAY) is FOUNDING, "which refuses every case itself"


def test_a_version_is_in_force_from_its_date_on() -> None:
    register = PackRegister((FOUNDING,)).with_pack(SECOND)
    assert register.newest is SECOND
    assert register.in_force(LATER - DAY / 2) is FOUNDING
    assert register.in_force(LATER) is SECOND


def test_a_case_is_judged_by_its_own_version_while_that_is_in_force() -> None:
    register = PackRegister((FOUNDING, SECOND))
    mine = CpsPin.of(FOUNDING)
    assert register.governing(mine, NOW) is FOUNDING
    assert register.governing(mine, LATER) is SECOND, "which refuses it until it is made anew"
    assert register.governing(CpsPin.of(SECOND), LATER) is SECOND


def test_a_case_cannot_be_made_under_a_version_of_tomorrow() -> None:
    assert PackRegister((FOUNDING, SECOND)).governing(CpsPin.of(SECOND), NOW) is FOUNDING


def test_open_cases_may_be_finished_until_the_date_and_not_after() -> None:
    register = PackRegister((FOUNDING, KIND))
    mine = CpsPin.of(FOUNDING)
    assert register.in_force(LATER) is KIND
    assert register.governing(mine, LATER + 5 * DAY - DAY / 100) is FOUNDING
    assert register.governing(mine, LATER + 5 * DAY) is KIND


def test_every_version_since_must_let_them_be_finished() -> None:
    strict = version("1.2.0", LATER + DAY)
    lenient = version("1.2.0", LATER + DAY, grandfathering(LATER + 2 * DAY))
    mine, of_the_second = CpsPin.of(FOUNDING), CpsPin.of(KIND)
    register = PackRegister((FOUNDING, KIND, strict))
    assert register.governing(mine, LATER) is FOUNDING, "the strict one is not in force yet"
    assert register.governing(mine, LATER + DAY) is strict
    assert register.governing(of_the_second, LATER + DAY) is strict
    register = PackRegister((FOUNDING, KIND, lenient))
    assert register.governing(mine, LATER + DAY) is FOUNDING
    assert register.governing(of_the_second, LATER + DAY) is KIND
    assert register.governing(mine, LATER + 2 * DAY) is lenient


def test_a_version_is_known_by_its_digest() -> None:
    register = PackRegister((FOUNDING, SECOND))
    assert register.find(CpsPin.of(SECOND)) is SECOND
    forged = CpsPin.of(SECOND).model_copy(update={"digest": b"\x01" * 32})
    assert register.find(forged) is None
    assert register.governing(forged, NOW) is FOUNDING


@pytest.mark.parametrize(
    ("packs", "refusal"),
    [
        ((), "at least the founding pack"),
        ((FOUNDING, FOUNDING), "version 1.0.0 does not come after version 1.0.0"),
        ((SECOND, FOUNDING), "version 1.0.0 does not come after version 1.1.0"),
        ((FOUNDING, version("1.10.0", LATER), version("1.9.0", LATER + DAY)), "1.9.0 does not come after"),
        ((FOUNDING, SECOND, version("1.2.0", LATER)), "comes into force no later"),
        (
            (FOUNDING, load_pack(pack_text(effective=LATER, changes={"urn:kwbp:cps:1.1.0": "urn:kwbp:cps:1.0.0"}))),
            "version 1.1.0 has the URI of version 1.0.0",
        ),
        (
            (FOUNDING, load_pack(pack_text(effective=LATER, changes={"id: kwbp-cps\n": "id: other\n"}))),
            "other is another statement than kwbp-cps",
        ),
    ],
    ids=["none", "twice", "backwards", "numbers-not-letters", "same-date", "same-uri", "another"],
)
def test_what_does_not_follow_is_refused(packs: tuple[Pack, ...], refusal: str) -> None:
    with pytest.raises(PackError, match=refusal):
        PackRegister(packs)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("version: 1.1.0\n", "version: 1.1\n", "cps.version"),
        ("version: 1.1.0\n", "version: 1.01.0\n", "cps.version"),
        ("on_supersede: reevaluate", "on_supersede: keep", "cps.on_supersede"),
        ("on_supersede: reevaluate", f"on_supersede: {grandfathering(LATER)}", "grandfather_until is later"),
        ("00Z", "00.5Z", "effective is a whole second"),
        ('uri: "urn:kwbp:cps:1.1.0"', 'uri: "here"', "cps.uri"),
        ("by: security_officer, count: 2, expires: P7D", "by: security_officer, count: 1", "two persons at least"),
        ("by: security_officer, count: 2, expires: P7D", "by: clerk, count: 2", "publication.by names"),
    ],
)
def test_a_pack_says_what_it_means(old: str, new: str, fault: str) -> None:
    text = pack_text(effective=LATER)
    assert old in text
    with pytest.raises(PackError, match=fault):
        load_pack(text.replace(old, new))


def test_a_version_that_lets_cases_be_finished_says_until_when() -> None:
    assert (SECOND.cps.grandfather_until, KIND.cps.grandfather_until) == (None, LATER + 5 * DAY)
