"""The table of return codes: complete enough, and never the wrong way round."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pkcs11 import exceptions as ckr

from hsm_service.errors import CallerError, HsmError, TokenBusy, TokenLost, TokenTrouble, TokenUnavailable
from hsm_service.keys import KeyKind, KeyRef
from hsm_service.logged_in import translate
from hsm_service.return_codes import Kind, kind_of, table


def concrete(base: type[HsmError]) -> Iterator[type[HsmError]]:
    for each in base.__subclasses__():
        yield each
        yield from concrete(each)


def test_a_callers_mistake_is_4xx_and_the_tokens_trouble_503() -> None:
    assert {each.status // 100 for each in concrete(CallerError)} == {4}
    assert {each.status for each in concrete(TokenTrouble)} == {503}


def test_every_error_has_a_slug_of_its_own() -> None:
    slugs = [each.slug for each in concrete(HsmError)]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ckr.DataLenRange(), 400),
        (ckr.KeyTypeInconsistent(), 409),
        (ckr.MechanismInvalid(), 503),
        (ckr.DeviceError(), 503),
        (ckr.DeviceMemory(), 503),
        (ckr.PKCS11Error("a return code nobody knows"), 503),
    ],
)
def test_each_kind_becomes_the_status_it_deserves(error: ckr.PKCS11Error, status: int) -> None:
    ref = KeyRef("gateway", KeyKind.RSA, b"id", "key")
    assert translate("gateway", ref, error).status == status
    assert "nobody knows" not in str(translate("gateway", ref, error))


def test_an_unknown_return_code_is_the_tokens_trouble() -> None:
    assert kind_of(ckr.PKCS11Error()) is Kind.TOKEN


def test_a_lost_session_and_a_stale_handle_are_worth_another_try() -> None:
    assert kind_of(ckr.SessionHandleInvalid()) is Kind.SESSION
    assert kind_of(ckr.KeyHandleInvalid()) is Kind.HANDLE


def test_no_exception_class_of_the_library_is_missing() -> None:
    classes = {each for each in vars(ckr).values() if isinstance(each, type) and issubclass(each, ckr.PKCS11Error)}
    assert len(classes) > 70
    assert classes == set(table())


def test_a_class_of_a_later_library_counts_as_the_class_that_it_refines() -> None:
    class PinExpiredLongAgo(ckr.PinExpired):
        pass

    assert kind_of(PinExpiredLongAgo()) is Kind.PIN


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ckr.DeviceError(), TokenLost),
        (ckr.UserNotLoggedIn(), TokenLost),
        (ckr.GeneralError(), TokenUnavailable),
        (ckr.SessionCount(), TokenBusy),
    ],
)
def test_only_what_a_new_login_heals_counts_as_lost(error: ckr.PKCS11Error, expected: type[HsmError]) -> None:
    assert type(translate("gateway", None, error)) is expected
