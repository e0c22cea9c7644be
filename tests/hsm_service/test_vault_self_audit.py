"""What a self-audit found is signed by the key that speaks for it, for the authority alone, and never ahead of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from hsm_service.vault import Vault
from pki.cms_signed import parse_signed_data, verify_signature
from pki.oids import CT_BCI, CT_SELF_AUDIT
from pki.self_audit import SelfAudit
from tests.support.pki_factory import DAY, NOW
from tests.support.signing_site import CA, refusal

KEY = "self-audit"
CONTENT = SelfAudit(NOW, NOW - DAY, NOW, 40, 20, 1, b"\1" * 32, b"\2" * 32)


def sign(vault: Vault, content: bytes, caller: str = CA, content_type: str = CT_SELF_AUDIT.dotted_string) -> bytes:
    return vault.sign_cms(caller, KEY, content_type, content).signed


@pytest.mark.parametrize("ago", [timedelta(0), DAY])
def test_what_was_found_is_signed_and_may_have_waited(vault: Vault, ago: timedelta) -> None:
    content = replace(CONTENT, made_at=NOW - ago, since=NOW - ago - DAY, until=NOW - ago)
    signed = parse_signed_data(sign(vault, content.to_der()), content_type=CT_SELF_AUDIT)
    verify_signature(signed)
    assert SelfAudit.from_der(signed.content) == content


def test_none_is_signed_before_it_can_have_been_made(vault: Vault) -> None:
    content = replace(CONTENT, made_at=NOW + timedelta(minutes=6))
    assert "made before it is signed" in refusal(lambda: sign(vault, content.to_der()), 422, "content-refused").detail


def test_what_is_not_one_is_not_signed(vault: Vault) -> None:
    refusal(lambda: sign(vault, b"\x30\x00"), 422, "content-refused")
    refusal(lambda: sign(vault, replace(CONTENT, sampled=41).to_der()), 422, "content-refused")


def test_nobody_but_the_authority_has_it_signed_and_nothing_else_by_this_key(vault: Vault) -> None:
    refusal(lambda: sign(vault, CONTENT.to_der(), "service:ra"), 403, "caller-not-allowed")
    refusal(lambda: sign(vault, CONTENT.to_der(), content_type=CT_BCI.dotted_string), 403, "content-type-not-allowed")
    refusal(
        lambda: vault.sign_cms(CA, "bci", CT_SELF_AUDIT.dotted_string, CONTENT.to_der()),
        403,
        "content-type-not-allowed",
    )
