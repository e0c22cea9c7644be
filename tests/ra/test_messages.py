"""Every refusal of the registration authority in Persian: the catalogue and the code say the same things."""

from __future__ import annotations

from ra import errors
from ra.states import Action, State
from ra.waiting import EVIDENCE
from runtime.language_catalogue import of_package
from tests.support.persian import assert_catalogue_fits
from tests.support.templates import said_in

CATALOGUE = of_package("ra")
ERRORS = frozenset(
    name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, errors.RaError)
) | {"UnfitAnswerError"}


def test_every_sentence_of_the_code_is_in_the_catalogue_and_nothing_else() -> None:
    assert_catalogue_fits(CATALOGUE, said_in("ra", ERRORS))


def test_every_state_and_action_has_a_persian_name() -> None:
    assert CATALOGUE.terms["state"].keys() == set(State)
    assert CATALOGUE.terms["action"].keys() == set(Action)
    assert CATALOGUE.terms["step"].keys() == {EVIDENCE}
