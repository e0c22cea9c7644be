"""The list of all lists is signed when it begins, by the key that speaks for it: nobody has one made for later."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from hsm_service.typed_crl import FARTHEST_AHEAD
from hsm_service.vault import Vault
from pki.bci import LONGEST_LIFE, Bci, NamedCrl
from pki.cms_signed import parse_signed_data, verify_signature
from pki.oids import CT_BCI
from tests.support.pki_factory import DAY, NOW
from tests.support.signing_site import CA, refusal

KEY = "bci"
CONTENT = Bci(int(NOW.timestamp()), NOW, NOW + LONGEST_LIFE, (NamedCrl("merchant-ca", "full", 7, b"\1" * 32),))


def sign(vault: Vault, bci: Bci, caller: str = CA) -> bytes:
    return vault.sign_cms(caller, KEY, CT_BCI.dotted_string, bci.to_der()).signed


def test_the_list_of_now_is_signed(vault: Vault) -> None:
    signed = parse_signed_data(sign(vault, CONTENT), content_type=CT_BCI)
    verify_signature(signed)
    assert Bci.from_der(signed.content) == CONTENT


@pytest.mark.parametrize("by", [DAY, timedelta(minutes=6), -timedelta(minutes=6), -DAY])
def test_none_is_made_for_later_or_for_the_past(vault: Vault, by: timedelta) -> None:
    moved = replace(CONTENT, this_update=NOW + by, next_update=NOW + by + LONGEST_LIFE)
    assert refusal(lambda: sign(vault, moved), 422, "content-refused").detail == "thisUpdate is now"


@pytest.mark.parametrize("number", [-1, int(NOW.timestamp()) + FARTHEST_AHEAD + 1])
def test_its_numbers_cannot_be_used_up(vault: Vault, number: int) -> None:
    refusal(lambda: sign(vault, replace(CONTENT, number=number)), 422, "content-refused")


def test_nobody_but_the_authority_has_it_signed(vault: Vault) -> None:
    refusal(lambda: sign(vault, CONTENT, "service:repository"), 403, "caller-not-allowed")
