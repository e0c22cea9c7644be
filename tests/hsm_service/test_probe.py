"""The probe tells what the token does and what it lacks and why, and leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from pkcs11 import Attribute, KeyType, ObjectClass, Session
from pkcs11.exceptions import GeneralError, MechanismInvalid, PKCS11Error

from hsm_service import probe
from hsm_service.capabilities import Ability, Capabilities
from hsm_service.errors import MechanismMissing
from hsm_service.keys import KeyKind, Usage, protected_template
from hsm_service.mechanisms import Way
from hsm_service.probe import Wrong
from hsm_service.tokens import Token
from runtime.secrets import Secret
from tests.support import one_probe
from tests.support.softhsm import opened, provisioned_home, raw_session


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A token that is tried here, whatever was tried before."""
    one_probe.found.clear()
    with opened(provisioned_home(tmp_path_factory.mktemp("probe")), "gateway") as token:
        yield token


def test_softhsm_does_everything_but_oaep_with_sha256(token: Token) -> None:
    """When this fails after an upgrade of SoftHSM2, gateways can be given the suite oaep-sha256."""
    assert token.capabilities.missing() == ("oaep-sha256",)
    assert token.capabilities[Ability.OAEP_SHA256].reason == "CKR_ARGUMENTS_BAD"
    assert token.capabilities.sealing_suites == ("oaep-sha1",)


def test_the_way_that_worked_is_remembered(token: Token) -> None:
    assert token.capabilities[Ability.AES_CMAC].variant == "CKM_AES_CMAC"
    assert token.capabilities[Ability.DES2_BLOCK].variant == "CKM_DES3_ECB"
    assert token.capabilities[Ability.OAEP_SHA1].variant == "CKM_AES_GCM, CK_GCM_PARAMS"


def test_the_probe_is_done_once_and_leaves_no_object(token: Token) -> None:
    assert token.capabilities is token.capabilities
    assert list(raw_session(token).get_objects({Attribute.TOKEN: False})) == []
    assert token.keys() == []


def test_threads_that_ask_at_once_get_one_probe(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def counted(session: Session) -> Capabilities:
        done.append(1)
        return found

    found = token.capabilities
    monkeypatch.setattr(token._module, "_capabilities", {})
    monkeypatch.delitem(vars(token), "capabilities")
    monkeypatch.setattr(probe, "probe", counted)
    threads = [threading.Thread(target=lambda: token.capabilities) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert done == [1]


def test_what_an_interrupted_probe_left_on_the_token_goes_with_the_next(token: Token) -> None:
    """On a token without session objects, the keys of a probe are stored."""
    template = protected_template(ObjectClass.SECRET_KEY, Usage.MAC, store=True)
    raw_session(token).generate_key(KeyType.AES, 256, label=probe._LABEL, template=template)
    assert len(token.keys()) == 1
    probe.probe(raw_session(token))
    assert token.keys() == []


class WithoutSessionObjects:
    """A session that refuses session objects, as a TPM does; everything else is the real one's."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def generate_key(self, *arguments: Any, **named: Any) -> Any:
        return self._stored(named["template"], lambda: self._session.generate_key(*arguments, **named))

    def create_object(self, template: dict[Attribute, Any]) -> Any:
        return self._stored(template, lambda: self._session.create_object(template))

    def generate_keypair(self, *arguments: Any, **named: Any) -> Any:
        return self._stored(named["private_template"], lambda: self._session.generate_keypair(*arguments, **named))

    def _stored(self, template: dict[Attribute, Any], make: Callable[[], Any]) -> Any:
        if not template[Attribute.TOKEN]:
            raise MechanismInvalid
        return make()


def test_a_token_without_session_objects_is_probed_with_stored_ones(token: Token) -> None:
    found = probe.probe(WithoutSessionObjects(raw_session(token)))  # type: ignore[arg-type]
    # Content keys live in the session only, so nothing can be opened.
    assert found.missing() == ("oaep-sha1", "oaep-sha256")
    assert token.keys() == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (MechanismInvalid(), "CKR_MECHANISM_INVALID"),
        (GeneralError(), "CKR_GENERAL_ERROR"),
        (PKCS11Error("Unmapped error code 0xce534351"), "Unmapped error code 0xce534351"),
        (PKCS11Error("Buffer was too small. Should never see this."), "CKR_BUFFER_TOO_SMALL"),
        (Wrong("it accepts a wrong GCM tag"), "it accepts a wrong GCM tag"),
        (InvalidSignature(), "its signature does not verify"),
        (ValueError("12"), "its answer cannot be read"),
        (AttributeError("sign"), "the key that it made does not say that it may be used so"),
    ],
)
def test_a_failed_trial_is_a_finding_with_its_reason(failure: Exception, reason: str) -> None:
    def trial() -> None:
        raise failure

    finding = probe._finding(Ability.RANDOM, trial)
    assert (finding.ok, finding.reason, finding.refusal) == (False, reason, f"no random ({reason})")


def test_our_own_mistakes_are_no_findings() -> None:
    def trial() -> None:
        raise TypeError

    with pytest.raises(TypeError):
        probe._finding(Ability.RANDOM, trial)


def test_the_first_way_that_gives_the_right_result_is_taken() -> None:
    ways = (Way("fails", 0), Way("wrong", 1), Way("right", 2), Way("also right", 2))

    def attempt(result: int) -> None:
        if result == 0:
            raise MechanismInvalid
        probe._same(bytes([result]), b"\x02")

    assert probe._first(ways, attempt) == "right"
    with pytest.raises(MechanismInvalid):
        probe._first(ways[:2], attempt)


def test_what_the_probe_did_not_see_is_not_tried(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = token.import_zone_key(
        "mac", KeyKind.AES, [Secret(bytes(range(16))), Secret(bytes(15) + b"\1")], usage=Usage.MAC
    )

    def trial() -> None:
        raise MechanismInvalid

    found = token.capabilities
    without = tuple(
        probe._finding(each.ability, trial) if each.ability is Ability.AES_CMAC else each for each in found.findings
    )
    monkeypatch.setattr(token, "capabilities", Capabilities(without))
    with pytest.raises(MechanismMissing, match="aes-cmac: CKR_MECHANISM_INVALID"):
        token.aes_cmac(ref, b"data")
    assert token.uses(ref) == 0
