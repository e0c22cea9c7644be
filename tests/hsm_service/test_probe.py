"""The probe tells what the token does, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pkcs11 import Attribute
from pkcs11.exceptions import GeneralError

from hsm_service import probe
from hsm_service.tokens import Token
from tests.support.softhsm import opened, provisioned_home, raw_session


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    with opened(provisioned_home(tmp_path_factory.mktemp("probe")), "gateway") as token:
        yield token


def test_softhsm_does_everything_but_oaep_with_sha256(token: Token) -> None:
    """When this fails after an upgrade of SoftHSM2, gateways can be given the suite oaep-sha256."""
    assert token.capabilities.missing() == ("oaep_sha256",)
    assert token.capabilities.sealing_suites == ("oaep-sha1",)
    assert token.capabilities.supports("oaep-sha1")
    assert not token.capabilities.supports("oaep-sha256")


def test_the_strongest_suite_comes_first() -> None:
    everything = probe.Capabilities(**dict.fromkeys(probe.Capabilities.__dataclass_fields__, True))
    assert everything.sealing_suites == ("oaep-sha256", "oaep-sha1")
    assert everything.missing() == ()


def test_the_probe_is_done_once_and_leaves_no_object(token: Token) -> None:
    assert token.capabilities is token.capabilities
    assert list(raw_session(token).get_objects({Attribute.TOKEN: False})) == []
    assert token.keys() == []


def test_a_wrong_answer_counts_as_not_able() -> None:
    def wrong_bytes() -> None:
        probe._same(b"found", b"expected")

    def failure() -> None:
        raise GeneralError

    assert not probe._works(wrong_bytes)
    assert not probe._works(failure)
    assert probe._works(lambda: None)
