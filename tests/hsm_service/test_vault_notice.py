"""A notice is signed for the registration authority alone, by its key alone, and for the moment it is sent in."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hsm_service.vault import Vault
from pki.cms_signed import parse_signed_data, verify_signature
from pki.notice import Notice
from pki.oids import CT_NOTICE
from tests.support.judges import attime, openssl
from tests.support.pki_factory import NOW
from tests.support.signing_site import CA, World, refusal

RA, KEY = "service:ra", "ra-system"
NOTICE = Notice("9c" * 16, "returned", NOW, NOW, 1, {"application": "0f" * 16, "clauses": "CPS 4.2.1"})


def sign(vault: Vault, content: bytes, caller: str = RA, key: str = KEY) -> bytes:
    return vault.sign_cms(caller, key, CT_NOTICE.dotted_string, content).signed


def test_a_notice_is_signed_as_it_is(vault: Vault) -> None:
    signed = parse_signed_data(sign(vault, NOTICE.to_json()), content_type=CT_NOTICE)
    verify_signature(signed)
    assert Notice.from_json(signed.content) == NOTICE


def test_a_receiver_judges_it_with_openssl_and_gets_the_json(vault: Vault, world: World) -> None:
    command = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", *attime(NOW))
    signed = sign(vault, NOTICE.to_json())
    assert openssl(*command, "-CAfile", world.home.trust_anchors, stdin=signed) == NOTICE.to_json()


def test_none_is_signed_for_another_time(vault: Vault) -> None:
    for sent_at in (NOW + timedelta(minutes=6), NOW - timedelta(minutes=6)):
        content = replace(NOTICE, sent_at=sent_at).to_json()
        assert "when it is signed" in refusal(lambda c=content: sign(vault, c), 422, "content-refused").detail


def test_what_is_not_one_or_holds_free_text_is_not_signed(vault: Vault) -> None:
    refusal(lambda: sign(vault, b"{}"), 422, "content-refused")
    planted = replace(NOTICE, fields={"reason": "6037701689095443"}).to_json()
    refusal(lambda: sign(vault, planted), 422, "content-refused")


def test_nobody_else_has_one_signed_and_no_other_key_signs_it(vault: Vault) -> None:
    refusal(lambda: sign(vault, NOTICE.to_json(), CA), 403, "caller-not-allowed")
    refusal(lambda: sign(vault, NOTICE.to_json(), CA, "self-audit"), 403, "content-type-not-allowed")
