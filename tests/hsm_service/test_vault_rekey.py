"""That an old key was proven in TLS is signed for the registration authority alone, by its key, at that moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509

from cps.rekey_statement import build_rekey, parse_rekey
from hsm_service.typed_cms import built_in_content_types
from hsm_service.vault import Vault
from pki.cms_signed import parse_signed_data, verify_signature
from pki.oids import CT_REKEY
from runtime.problems import Problem
from tests.support.judges import attime, openssl
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.signing_site import CA, World, refusal

RA, KEY = "service:ra", "ra-system"


@pytest.fixture(scope="module")
def old() -> x509.Certificate:
    return PkiFactory().merchant().certificate


def proof(old: x509.Certificate, *, at: datetime = NOW) -> bytes:
    return build_rekey("0f" * 16, old, [b"\x01" * 32], at)


def sign(vault: Vault, content: bytes, caller: str = RA, key: str = KEY) -> bytes:
    return vault.sign_cms(caller, key, CT_REKEY.dotted_string, content).signed


def test_a_proof_is_signed_as_it_is_and_judged_with_openssl(vault: Vault, world: World, old: x509.Certificate) -> None:
    der = sign(vault, proof(old))
    signed = parse_signed_data(der, content_type=CT_REKEY)
    verify_signature(signed)
    assert parse_rekey(signed.content).replaced == old
    command = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", *attime(NOW))
    assert openssl(*command, "-CAfile", world.home.trust_anchors, stdin=der) == proof(old)


@pytest.mark.parametrize("late", [timedelta(days=1), timedelta(days=-1)])
def test_none_is_made_ahead_or_afterwards(vault: Vault, old: x509.Certificate, late: timedelta) -> None:
    refused = refusal(lambda: sign(vault, proof(old, at=NOW + late)), 422, "content-refused")
    assert refused.clause == "CPS 3.3.1"


def test_what_is_no_proof_is_not_signed(vault: Vault) -> None:
    assert refusal(lambda: sign(vault, b"\x30\x00"), 422, "content-refused").clause == "CPS 3.3.1"


def test_nobody_else_has_one_signed_and_no_other_key_signs_it(vault: Vault, old: x509.Certificate) -> None:
    refusal(lambda: sign(vault, proof(old), CA), 403, "caller-not-allowed")
    refusal(lambda: sign(vault, proof(old), CA, "self-audit"), 403, "content-type-not-allowed")


def test_no_other_service_says_so(old: x509.Certificate) -> None:
    judge = built_in_content_types()[CT_REKEY.dotted_string]
    pki = PkiFactory()
    judge(proof(old), pki.service("ra").certificate)
    with pytest.raises(Problem, match="urn:kwbp:service:ra"):
        judge(proof(old), pki.service("ca").certificate)
