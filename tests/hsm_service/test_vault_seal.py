"""The audit key under the transcript of a ceremony: for a ceremony alone, and never before two persons."""

from __future__ import annotations

import pytest

from hsm_service.vault import Vault
from pki.ceremony_seal import CeremonySeal
from pki.cms_signed import parse_signed_data, verify_signature
from pki.oids import CT_CEREMONY_SEAL
from tests.support.signing_site import CA, CEREMONY, OPERATOR, refusal

SEAL = CeremonySeal("kwbp-founding", 42, b"\7" * 32)
BOTH = SEAL.countersigning({"officer-1": b"\1" * 32, "officer-2": b"\2" * 32})


def test_a_ceremony_has_its_transcript_sealed(vault: Vault) -> None:
    signed = parse_signed_data(vault.seal_ceremony(CEREMONY, BOTH.to_der()).signed, content_type=CT_CEREMONY_SEAL)
    verify_signature(signed)
    assert CeremonySeal.from_der(signed.content) == BOTH


@pytest.mark.parametrize("caller", [CA, OPERATOR])
def test_nobody_else_does(vault: Vault, caller: str) -> None:
    refusal(lambda: vault.seal_ceremony(caller, BOTH.to_der()), 403, "caller-not-allowed")


def test_nor_does_a_ceremony_name_the_key_itself(vault: Vault) -> None:
    refusal(
        lambda: vault.sign_cms(CEREMONY, "attestation", CT_CEREMONY_SEAL.dotted_string, BOTH.to_der()),
        403,
        "caller-not-allowed",
    )


@pytest.mark.parametrize("seal", [SEAL, SEAL.countersigning({"officer-1": b"\1" * 32})])
def test_two_persons_come_first(vault: Vault, seal: CeremonySeal) -> None:
    refusal(lambda: vault.seal_ceremony(CEREMONY, seal.to_der()), 422, "content-refused")


def test_what_is_no_seal_is_not_signed(vault: Vault) -> None:
    refusal(lambda: vault.seal_ceremony(CEREMONY, b"\x30\x00"), 422, "content-refused")
