"""Numbers, names and ids that travel: stable, complete, and collapsed where they would help an attacker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kwbp
from kwbp.checks import CHECKS
from kwbp.codes import AuthCode, CompletionCode, ErrorCode, PurchaseStatus, RevocationReason, SaleKind
from kwbp.errors import ProtocolError, SealedCardError, SealedContentError


def test_error_codes_are_those_of_the_protocol() -> None:
    assert [code.value for code in ErrorCode] == list(range(1, 38))
    assert ErrorCode.WRAPPER_MSG_MISMATCH.protocol_name == "wrapperMsgMismatch"
    assert ErrorCode(25).protocol_name == "amountMismatch"


def test_auth_and_completion_codes_are_sets() -> None:
    assert [code.value for code in AuthCode] == list(range(17))
    assert [code.value for code in CompletionCode] == list(range(7))
    assert [kind.value for kind in SaleKind] == [0, 1]
    assert AuthCode.PI_PREVIOUSLY_USED.protocol_name == "piPreviouslyUsed"
    assert CompletionCode(4).protocol_name == "authorizationPerformed"
    assert [status.protocol_name for status in PurchaseStatus] == [
        "inProgress", "concluded", "reversing", "reversed", "unsettled",
    ]  # fmt: skip


def test_reasons_have_the_names_of_rfc_5280() -> None:
    names = {each.protocol_name: each.value for each in RevocationReason}
    assert names == {
        "unspecified": 0, "keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4,
        "cessationOfOperation": 5, "certificateHold": 6, "privilegeWithdrawn": 9,
    }  # fmt: skip
    assert [RevocationReason.named(name).value for name in names] == list(names.values())
    assert RevocationReason.named("removeFromCRL") is RevocationReason.UNSPECIFIED


def test_every_id_in_the_code_is_in_the_table() -> None:
    sources = Path(kwbp.__file__).parent.rglob("*.py")
    used = {name for source in sources for name in re.findall(r'"([A-Z][0-9]{1,2})"', source.read_text("utf-8"))}
    assert used <= set(CHECKS)
    elsewhere = {"K3", "I3", "M1", "M2", "M9", "M10", "G1", "G3", "G8", "G11", "G12", "G13", "G14", "G15"}
    elsewhere |= {"Q2", "C2", "C6", "C7", "C8", "C9", "F6", "F7"}
    assert set(CHECKS) - used <= elsewhere


def test_check_that_does_not_exist_cannot_refuse() -> None:
    with pytest.raises(ValueError, match="Z9"):
        ProtocolError(ErrorCode.DECODING_FAILURE, "Z9", "no such check")


def test_error_says_check_code_and_reason() -> None:
    error = ProtocolError(ErrorCode.INVOICE_MISMATCH, "G5", "invoice must name this merchant")
    assert str(error) == "G5 invoiceMismatch: invoice must name this merchant"
    assert (error.outward, error.outward_check) == (ErrorCode.INVOICE_MISMATCH, "G5")


def test_missing_certificate_looks_like_a_decoding_failure() -> None:
    assert ProtocolError(ErrorCode.MISSING_CERTIFICATE, "K4", "x").outward is ErrorCode.DECODING_FAILURE


@pytest.mark.parametrize(
    "code", [ErrorCode.HASH_MISMATCH, ErrorCode.ENVELOPE_MISMATCH, ErrorCode.ACCOUNT_BINDING_FAILURE]
)
def test_everything_after_opening_looks_the_same(code: ErrorCode) -> None:
    error = SealedContentError(code, "G10", "x")
    assert (error.code, error.check) == (code, "G10")
    assert (error.outward, error.outward_check) == (ErrorCode.DECODING_FAILURE, "G8")


def test_a_registration_after_opening_looks_like_one_that_did_not_open() -> None:
    error = SealedCardError(ErrorCode.HASH_MISMATCH, "F5", "x")
    assert (error.check, error.outward, error.outward_check) == ("F5", ErrorCode.DECODING_FAILURE, "F4")
