"""What a register answered is signed for the registration authority alone, by its key alone, once it is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cps.check_statement import CheckStatement
from hsm_service.vault import Vault
from pki.cms_signed import parse_signed_data, verify_signature
from pki.oids import CT_CHECK_ANSWER
from tests.support.judges import attime, openssl
from tests.support.pki_factory import NOW
from tests.support.signing_site import CA, World, refusal

RA, KEY = "service:ra", "ra-system"
ANSWER = CheckStatement("0f" * 16, "iban_owner", b"\x01" * 32, "confirmed", "", "the bank", b"\x02" * 32, NOW)


def sign(vault: Vault, content: bytes, caller: str = RA, key: str = KEY) -> bytes:
    return vault.sign_cms(caller, key, CT_CHECK_ANSWER.dotted_string, content).signed


def test_an_answer_is_signed_as_it_is(vault: Vault) -> None:
    signed = parse_signed_data(sign(vault, ANSWER.to_der()), content_type=CT_CHECK_ANSWER)
    verify_signature(signed)
    assert CheckStatement.from_der(signed.content) == ANSWER


def test_an_auditor_judges_it_with_openssl(vault: Vault, world: World) -> None:
    command = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", *attime(NOW))
    signed = sign(vault, ANSWER.to_der())
    assert openssl(*command, "-CAfile", world.home.trust_anchors, stdin=signed) == ANSWER.to_der()


def test_an_old_answer_waits_for_its_signature_and_one_of_tomorrow_has_none(vault: Vault) -> None:
    sign(vault, replace(ANSWER, date=NOW - timedelta(days=2)).to_der())
    tomorrow = replace(ANSWER, date=NOW + timedelta(days=1)).to_der()
    assert "before it is signed" in refusal(lambda: sign(vault, tomorrow), 422, "content-refused").detail


def test_what_is_no_answer_is_not_signed(vault: Vault) -> None:
    refusal(lambda: sign(vault, b"\x30\x00"), 422, "content-refused")


def test_nobody_else_has_one_signed_and_no_other_key_signs_it(vault: Vault) -> None:
    refusal(lambda: sign(vault, ANSWER.to_der(), CA), 403, "caller-not-allowed")
    refusal(lambda: sign(vault, ANSWER.to_der(), CA, "self-audit"), 403, "content-type-not-allowed")
