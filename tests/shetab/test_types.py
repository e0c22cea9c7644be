"""Card data do not print, pickle, hash or change; amounts stay inside n12."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import ValueFormatError
from shetab.types import Cvv2, Expiry, Pan, Pin, Rial, luhn_check_digit

SECRETS = [Pan("6037991234567893"), Pin("12345"), Cvv2("123"), Expiry("0712")]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
class TestSecretsDoNotLeak:
    def test_text_form_is_refused(self, secret: Pan | Pin | Cvv2 | Expiry) -> None:
        with pytest.raises(TypeError, match="no text form"):
            str(secret)
        with pytest.raises(TypeError, match="no text form"):
            f"{secret}"
        with pytest.raises(TypeError, match="no text form"):
            "%s" % secret  # noqa: UP031  # as a logger formats

    def test_repr_names_the_type_alone(self, secret: Pan | Pin | Cvv2 | Expiry) -> None:
        assert repr(secret) == f"<{type(secret).__name__}>"
        assert secret.reveal() not in repr([secret])

    def test_pickling_is_refused(self, secret: Pan | Pin | Cvv2 | Expiry) -> None:
        with pytest.raises(TypeError, match="not serialised"):
            pickle.dumps(secret)

    def test_a_log_line_does_not_hold_it(
        self, secret: Pan | Pin | Cvv2 | Expiry, caplog: pytest.LogCaptureFixture
    ) -> None:
        logging.getLogger("shetab.test").warning("value %r", secret)
        assert secret.reveal() not in caplog.text

    def test_it_cannot_be_a_key(self, secret: Pan | Pin | Cvv2 | Expiry) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            hash(secret)

    def test_it_does_not_change(self, secret: Pan | Pin | Cvv2 | Expiry) -> None:
        with pytest.raises(AttributeError):
            secret._digits = "0000"
        with pytest.raises(AttributeError):
            secret.other = "0000"

    def test_copies_are_itself(self, secret: Pan | Pin | Cvv2 | Expiry) -> None:
        assert copy.copy(secret) is secret
        assert copy.deepcopy(secret) is secret


def test_equality_needs_type_and_digits() -> None:
    assert Pin("1234") == Pin("1234")
    assert Pin("1234") != Pin("1235")
    assert Pin("1234") != Cvv2("1234")
    assert Pin("1234") != "1234"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Pan, "603799123456789"),  # 15 digits
        (Pan, "60379912345678930000"),  # 20 digits
        (Pan, "6037991234567894"),  # Luhn
        (Pan, "603799123456789O"),
        (Pan, "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳"),
        (Pan, ""),
        (Pin, "123"),
        (Pin, "1234567890123"),
        (Pin, "12 45"),
        (Cvv2, "12"),
        (Cvv2, "12345"),
        (Expiry, "0713"),
        (Expiry, "0700"),
        (Expiry, "071"),
    ],
)
def test_malformed_text_is_refused_without_being_shown(kind: type[Pan | Pin | Cvv2 | Expiry], text: str) -> None:
    with pytest.raises(ValueFormatError) as refusal:
        kind.parse(text)
    assert refusal.value.type_name == kind.__name__
    assert not text or text not in str(refusal.value)


def test_masked_pan_shows_first_six_and_last_four() -> None:
    assert Pan("6037991234567893").masked == "603799******7893"
    assert Pan("6037991234567893").bin == "603799"
    assert Pan("6037991234567893").has_bin("60379912")
    assert not Pan("6037991234567893").has_bin("603770")


@given(st.integers(0, 10**18 - 1), st.integers(15, 18))
def test_one_changed_digit_breaks_luhn(number: int, length: int) -> None:
    payload = f"{number:018d}"[-length:]
    good = payload + luhn_check_digit(payload)
    assert Pan(good).reveal() == good
    changed = str((int(good[3]) + 1) % 10)
    with pytest.raises(ValueFormatError):
        Pan(good[:3] + changed + good[4:])


@given(st.integers(0, 10**12 - 1))
def test_rial_round_trip(amount: int) -> None:
    assert Rial.from_de4(Rial(amount).to_de4()) == amount
    assert len(Rial(amount).to_de4()) == 12


@pytest.mark.parametrize("amount", [-1, 10**12, True, 1.0, "1"])
def test_rial_out_of_range_or_of_another_type_is_refused(amount: int) -> None:
    with pytest.raises(ValueFormatError):
        Rial(amount)


@pytest.mark.parametrize("text", ["1", "00000000000x", "0000000000001", "+00000000001", "00000000000١"])
def test_de4_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueFormatError):
        Rial.from_de4(text)
