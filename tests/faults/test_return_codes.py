"""Every return code, answered by a real module in the place of the real answer: 4xx for the caller's mistakes, 503 for
the token's trouble, never the other way round; and the token serves on afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pkcs11 import exceptions as ckr

from hsm_service.pkcs11_module import find_module
from hsm_service.return_codes import table
from hsm_service.token_layout import configuration_of, pin_file
from runtime.settings import Home
from tests.faults.ckr import CKR
from tests.faults.conftest import copy_home
from tests.faults.faulty_module import CRASH, FaultyModule
from tests.faults.one_token import OneToken

INPUT = {
    "DATA_INVALID",
    "DATA_LEN_RANGE",
    "ENCRYPTED_DATA_INVALID",
    "ENCRYPTED_DATA_LEN_RANGE",
    "SIGNATURE_INVALID",
    "SIGNATURE_LEN_RANGE",
    "WRAPPED_KEY_INVALID",
    "WRAPPED_KEY_LEN_RANGE",
}
"""What the caller gave is at fault: 400."""
KEY = {
    "ATTRIBUTE_READ_ONLY",
    "ATTRIBUTE_SENSITIVE",
    "KEY_INDIGESTIBLE",
    "KEY_NEEDED",
    "KEY_NOT_NEEDED",
    "KEY_SIZE_RANGE",
    "KEY_TYPE_INCONSISTENT",
    "KEY_NOT_WRAPPABLE",
    "KEY_UNEXTRACTABLE",
    "UNWRAPPING_KEY_SIZE_RANGE",
    "UNWRAPPING_KEY_TYPE_INCONSISTENT",
    "WRAPPING_KEY_SIZE_RANGE",
    "WRAPPING_KEY_TYPE_INCONSISTENT",
    "PUBLIC_KEY_INVALID",
}
"""The key is not one for this: 409."""
PASSING = {
    "SESSION_CLOSED",
    "SESSION_HANDLE_INVALID",
    "OPERATION_ACTIVE",
    "OPERATION_NOT_INITIALIZED",
    "KEY_HANDLE_INVALID",
    "OBJECT_HANDLE_INVALID",
    "UNWRAPPING_KEY_HANDLE_INVALID",
    "WRAPPING_KEY_HANDLE_INVALID",
}
"""Another session, or looking the key up again, cures it: nobody hears of it if it happens once."""


def sign(token: OneToken) -> dict[str, Any]:
    return token.call("sign_ecdsa", data=b"message".hex())


@pytest.fixture(scope="module")
def steered(
    built: Path, founded_home: Home, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FaultyModule, OneToken]]:
    """The token `ca` behind the faulty module, not open."""
    folder = tmp_path_factory.mktemp("steered")
    home = copy_home(founded_home, folder)
    module = FaultyModule.make(built, folder, find_module())
    token = OneToken(module.path, configuration_of(home, "service"), "ca", pin_file(home, "ca"))
    yield module, token
    module.heal()
    assert token.wait() == 0


@pytest.fixture
def signing(steered: tuple[FaultyModule, OneToken]) -> Iterator[tuple[FaultyModule, OneToken]]:
    """The token, open and proven to sign; after the test it signs again."""
    module, token = steered
    assert token.call("open") == {"ok": None}
    assert "ok" in sign(token)
    yield module, token
    module.heal()
    assert "ok" in sign(token)
    assert token.call("close") == {"ok": None}


@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
@pytest.mark.parametrize("code", CKR)
def test_what_a_token_answers_to_a_signature_becomes_the_status_it_deserves(
    signing: tuple[FaultyModule, OneToken], function: str, code: str
) -> None:
    module, token = signing
    module.set(function, CKR[code])
    expected = 400 if code in INPUT else 409 if code in KEY else 503
    assert sign(token).get("status") == expected


@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign", "C_FindObjectsInit", "C_GetAttributeValue"])
@pytest.mark.parametrize("code", sorted(PASSING))
def test_what_passes_when_it_is_tried_again_is_nobodys_error(
    signing: tuple[FaultyModule, OneToken], function: str, code: str
) -> None:
    module, token = signing
    module.set(function, CKR[code], times=1)
    assert "ok" in sign(token)


@pytest.mark.parametrize("code", sorted(set(CKR) - INPUT - KEY - PASSING))
def test_the_tokens_trouble_is_told_at_once(signing: tuple[FaultyModule, OneToken], code: str) -> None:
    """Once is enough: what was begun inside the token is not begun a second time unasked."""
    module, token = signing
    module.set("C_Sign", CKR[code], times=1)
    assert sign(token).get("status") == 503
    assert "ok" in sign(token)


@pytest.mark.parametrize("code", sorted(set(CKR) - INPUT - KEY))
@pytest.mark.parametrize(
    ("function", "call"),
    [("C_FindObjectsInit", "find"), ("C_FindObjects", "find"), ("C_GenerateRandom", "random")],
)
def test_a_call_without_anybodys_input_fails_by_the_tokens_fault(
    signing: tuple[FaultyModule, OneToken], function: str, call: str, code: str
) -> None:
    module, token = signing
    module.set(function, CKR[code])
    assert token.call(call).get("status") == 503


@pytest.mark.parametrize("code", CKR)
def test_a_session_that_does_not_open_is_the_tokens_fault(steered: tuple[FaultyModule, OneToken], code: str) -> None:
    module, token = steered
    module.heal()
    assert token.call("open") == {"ok": None}  # its login has a session; the pool has none yet
    module.set("C_OpenSession", CKR[code])
    assert token.call("random").get("status") == 503
    module.heal()
    assert "ok" in token.call("random")
    assert token.call("close") == {"ok": None}


@pytest.mark.parametrize("code", CKR)
def test_a_login_that_fails_is_tried_once_and_is_the_tokens_fault(
    steered: tuple[FaultyModule, OneToken], code: str
) -> None:
    module, token = steered
    before = len(module.told())
    module.set("C_Login", CKR[code])
    answer = token.call("open")
    assert answer.get("status") == 503
    assert (answer["error"] == "PinRefused") is (code.startswith("PIN_") or code == "USER_PIN_NOT_INITIALIZED")
    assert [line.split()[1] for line in module.told()[before:]] == ["C_Login"]
    module.heal()
    assert token.call("open") == {"ok": None}
    assert token.call("close") == {"ok": None}


def test_every_return_code_that_the_table_distinguishes_is_tried_here() -> None:
    """A row that is added to the table needs a row in `CKR`."""
    spelt = {"CANCELED": "CANCELLED", "RECOGNIZED": "RECOGNISED", "USER_ANOTHER_ALREADY": "ANOTHER_USER_ALREADY"}
    tried = set()
    for name in CKR:
        for standard, python in spelt.items():
            name = name.replace(standard, python)
        tried.add(name.replace("_", ""))
    of_python = {ckr.NoSuchKey, ckr.NoSuchToken, ckr.MultipleObjectsReturned, ckr.MultipleTokensReturned}
    assert {each.__name__.upper() for each in set(table()) - of_python - {ckr.PKCS11Error}} <= tried


def test_faults_begin_after_as_many_calls_as_were_asked_for(signing: tuple[FaultyModule, OneToken]) -> None:
    module, token = signing
    module.set("C_SignInit", CKR["DEVICE_ERROR"], after=3, times=2)
    assert [sign(token).get("status", 200) for _ in range(7)] == [200, 200, 200, 503, 503, 200, 200]


def test_a_crash_inside_the_module_kills_the_process(home: Home, faulty: FaultyModule) -> None:
    """Which is why the service keeps tokens in processes of their own."""
    token = OneToken(faulty.path, configuration_of(home, "service"), "ca", pin_file(home, "ca"))
    assert token.call("open") == {"ok": None}
    faulty.set("C_Sign", CRASH)
    with pytest.raises(ValueError):
        sign(token)
    assert token.wait() == -signal.SIGSEGV
    assert len(faulty.told()) == 1
