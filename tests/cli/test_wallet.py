"""`kwbp wallet`: what a person and a script are told of a purchase; what is open is never called refused."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import output, wallet, wallet_care
from cli.main import build
from kwbp.codes import ErrorCode, PurchaseStatus
from kwbp.errors import ProtocolError
from storefront.wallet import texts
from storefront.wallet.purchase import Outcome, PurchaseState
from storefront.wallet.texts import Language

XID = bytes(20)


def reported(
    outcome: Outcome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """The document for scripts; every outcome here ends the command with 1, for nothing was bought."""
    monkeypatch.setattr(output._mode, "json", True)
    with pytest.raises(typer.Exit) as ended:
        wallet._report(outcome, Language.EN)
    assert ended.value.exit_code == 1
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("code", [ErrorCode.RATE_LIMITED, ErrorCode.UNKNOWN_XID, ErrorCode.UNKNOWN_OUTCOME])
def test_a_refused_inquiry_is_no_refused_purchase(
    code: ErrorCode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(XID, PurchaseState.PENDING, 150_000, refusal=ProtocolError(code, "Q1", "as told"))
    document = reported(outcome, capsys, monkeypatch)
    assert (document["state"], document["name"]) == ("PENDING", code.protocol_name)
    assert "refused" not in document


def test_a_refused_purchase_is_called_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = ProtocolError(ErrorCode.INVOICE_EXPIRED, "M2", "as told")
    document = reported(Outcome(XID, PurchaseState.REFUSED, 150_000, refusal=refusal), capsys, monkeypatch)
    assert (document["refused"], document["check"]) == (True, "M2")


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("state", [PurchaseState.REVERSED, PurchaseState.DECLINED])
def test_what_the_gateway_closed_is_said_in_a_sentence(
    state: PurchaseState, language: Language, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        wallet._report(Outcome(XID, state, 150_000), language)
    assert texts.label("closed", language) in capsys.readouterr().out


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("word", [PurchaseStatus.REVERSING, PurchaseStatus.UNSETTLED])
def test_what_the_gateway_says_of_an_open_purchase_is_said_in_a_sentence(
    word: PurchaseStatus, language: Language, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(XID, PurchaseState.PENDING, 150_000, word=word)
    with pytest.raises(typer.Exit):
        wallet._report(outcome, language)
    assert texts.label(word.protocol_name, language) in capsys.readouterr().out
    assert reported(outcome, capsys, monkeypatch)["gateway_says"] == word.protocol_name


def test_the_gateway_is_asked_about_a_purchase_by_its_number() -> None:
    result = CliRunner().invoke(build(["wallet"]), ["wallet", "ask-gateway", "../elsewhere", "--card", "everyday"])
    assert result.exit_code == 1
    assert "40 hexadecimal digits" in result.output


@pytest.mark.parametrize("number", ["zz", "../elsewhere", "ab" * 19, "AB" * 20])
def test_a_purchase_is_asked_about_by_its_number_alone(number: str) -> None:
    result = CliRunner().invoke(build(["wallet"]), ["wallet", "resume", number, "--shop", "x", "--card", "everyday"])
    assert result.exit_code == 1
    assert "40 hexadecimal digits" in result.output


@pytest.mark.parametrize("text", ["=2", "divan=", "divan=0", "divan=-1", "divan=²", "divan=" + "9" * 5000, ""])
def test_what_is_no_item_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(typer.Exit):
        wallet._item(text)


def test_quantities_are_typed_in_either_digits() -> None:
    assert wallet._item("divan") == ("divan", 1)
    assert wallet._item("divan=۱۲") == wallet._item("divan=12") == ("divan", 12)


def test_a_crash_of_the_wallet_leaves_no_memory_on_the_disk() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        CliRunner().invoke(build(["wallet"]), ["wallet", "resume", "none", "--shop", "x", "--card", "y"])
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.parametrize("name", ["invoice.p7s", "dual-signature.p7s", "contract.p7s", "order-details.der"])
def test_a_purchase_whose_bytes_were_damaged_is_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "purchases" / XID.hex()
    folder.mkdir(parents=True)
    document: dict[str, object] = {"state": "PAID", "origin": "https://shop.example", "rrpid": "01" * 20, "amount": 1}
    document |= dict.fromkeys(("chall_c", "h_oi_data", "h_dual_sig", "mer_cert_hash"), "02" * 32)
    document |= {"merchant_id": "M-1", "gw_id": "GW-1", "acquirer_bin": "603770", "ordered_at": "2026-01-01T12:00:00Z"}
    (folder / "purchase.json").write_text(json.dumps(document | {"xid": XID.hex()}))
    for kept in ("invoice.p7s", "dual-signature.p7s", "oi-data.der", "order-details.der", name):
        (folder / kept).write_bytes(b"\x30\x00")
    monkeypatch.setattr(wallet_care, "existing", lambda: None)
    with pytest.raises(typer.Exit):
        wallet_care.show_purchase(XID.hex(), tmp_path, Language.EN)
    assert "is damaged" in capsys.readouterr().err
