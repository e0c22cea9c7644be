"""NIST PKITS 1.0.1, sections 4.1 to 4.16: all 224 tests, with every setting that the description prescribes.

`pkits.csv` says what must come out; `pkits_not_passed.csv` which valid paths are refused, and why that is right for us.
No invalid path is accepted. Who makes a listed case pass takes it off the list.
"""

from __future__ import annotations

import pytest

from tests.pki.pkits import Case, Directory, cases, not_passed

NOT_PASSED = not_passed()
TESTS_OF_SECTION = {  # as counted in the description
    "4.1": 6, "4.2": 8, "4.3": 11, "4.4": 21, "4.5": 8, "4.6": 17, "4.7": 5, "4.8": 20,
    "4.9": 8, "4.10": 14, "4.11": 11, "4.12": 10, "4.13": 38, "4.14": 35, "4.15": 10, "4.16": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def directory() -> Directory:
    return Directory()


def test_no_test_of_the_description_is_left_out() -> None:
    numbers = {case.number.split("/")[0] for case in cases()}
    expected = {f"{section}.{n}" for section, tests in TESTS_OF_SECTION.items() for n in range(1, tests + 1)}
    assert numbers == expected
    assert len(expected) == 224


def test_only_valid_cases_are_on_the_list_of_those_not_passed() -> None:
    valid = {case.number for case in cases() if case.valid}
    assert NOT_PASSED.keys() <= valid


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.number}-{case.certificate}")
def test_the_suite_decides(directory: Directory, case: Case) -> None:
    assert directory.verdict(case) == NOT_PASSED.get(case.number, case.refusal or "valid")
