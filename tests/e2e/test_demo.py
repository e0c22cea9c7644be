"""What ./scripts/demo promises, and what must not be found anywhere after it."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import CAPTURE_POSSIBLE, Demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CARD_SECRETS: Final = ("pan", "pin2")  # long enough to be searched for byte by byte


def forms(digits: str) -> set[bytes]:
    """How digits could look in a file or on a wire: text, hexadecimal of it, base64 at each offset, packed BCD."""
    text = digits.encode()
    inner = {
        base64.b64encode(b"\0" * shift + text)[(shift * 8 + 5) // 6 : (shift + len(text)) * 8 // 6]
        for shift in range(3)
    }
    return {text, text.hex().encode(), text.hex().upper().encode(), bytes.fromhex(digits), *inner}


def files(demo: Demo) -> Iterator[Path]:
    return (path for path in demo.folder.rglob("*") if path.is_file())


def test_it_ends_well_and_says_so(demo: Demo) -> None:
    assert demo.exit_code == 0, demo.output[-4000:]
    assert demo.report["ok"] is True
    assert all(step["ok"] for step in demo.report["steps"])
    assert "steps ended as they should" in demo.output


def test_the_report_tells_the_purchase(demo: Demo) -> None:
    report = demo.report
    assert re.fullmatch(r"[0-9a-f]{40}", report["xid"])
    assert report["balance_before"] - report["balance_after"] == report["amount"] > 0
    assert report["amount"] > report["refunded"] > 0  # after that, and said twice: given back once


def test_the_merchant_is_paid_once_what_is_left_after_refund_and_lost_answer(demo: Demo) -> None:
    report, paid = demo.report, ElementTree.parse(demo.folder / "payments.xml")  # noqa: S314  # our own file
    amounts = [element.text for element in paid.iter() if element.tag.endswith("}InstdAmt")]
    accounts = [element.text for element in paid.iter() if element.tag.endswith("}IBAN")]
    assert amounts == [str(report["amount"] - report["refunded"])] == [str(report["settled"])]
    assert accounts[-1] == "IR820540102680020817909002"
    (shown,) = demo.folder.glob("report-*.pdf")
    assert shown.read_bytes().startswith(b"%PDF-")


def test_three_frauds_are_refused(demo: Demo) -> None:
    refusals = demo.report["refusals"]
    assert refusals["price-changed"] == {"refused": True, "code": 8, "check": "K6"}  # signatureFailure
    assert refusals["merchant-revoked"] == {"refused": True, "code": 6, "check": "K5"}  # revokedCertificate
    assert refusals["second-debit"] == {"refused": True, "debits": 1}


def test_the_bundle_is_judged_again_by_openssl_alone(demo: Demo) -> None:
    bundle = demo.folder / "evidence" / demo.report["xid"]
    result = subprocess.run(["sh", str(bundle / "verify.sh")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    changed = bundle / "receipt.p7s"
    honest = changed.read_bytes()
    changed.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    try:
        assert subprocess.run(["sh", str(bundle / "verify.sh")], capture_output=True, check=False).returncode == 1
    finally:
        changed.write_bytes(honest)


def test_the_bundle_carries_a_time_stamp_and_the_status_that_held(demo: Demo) -> None:
    bundle = demo.folder / "evidence" / demo.report["xid"]
    verdict = json.loads((bundle / "verdict.json").read_text())
    assert verdict["gaps"] == []
    assert verdict["time"]["rests_on"] == "an RFC 3161 time-stamp over auth-res.p7s"
    signers = {"buyer", "merchant", "gateway", "gateway-encryption"}
    assert {verdict["status"][name]["ocsp"] for name in signers} == {"good"}
    assert {path.stem for path in (bundle / "ocsp").iterdir()} >= signers
    shown = subprocess.run(["sh", str(bundle / "verify.sh")], capture_output=True, text=True, check=False).stdout
    assert "ok       the gateway's answer existed on" in shown
    assert "missing" not in shown


def test_status_is_shown_by_crl_and_by_ocsp_before_and_after_a_revocation(demo: Demo) -> None:
    steps = [step["step"] for step in demo.report["steps"]]
    order = ["and by OCSP: openssl asks the responder", "its merchant is revoked by an officer", "revoked by OCSP"]
    assert sorted(order, key=steps.index) == order


def test_certificates_and_crls_are_accepted_by_openssl_and_certtool(demo: Demo) -> None:
    pki = demo.home / "pki"
    for crl in sorted((pki / "crls").glob("*.crl")):
        issuer = pki / "root.pem" if crl.stem == "root" else pki / "cas" / f"{crl.stem}.pem"
        subprocess.run(
            ["openssl", "crl", "-inform", "DER", "-in", crl, "-CAfile", issuer, "-noout", "-verify"],
            capture_output=True,
            check=True,
        )
        shown = subprocess.run(["certtool", "--crl-info", "--inder", "--infile", crl], capture_output=True, check=True)
        assert b"error" not in shown.stdout.lower() + shown.stderr.lower()
    for certificate in sorted(demo.folder.rglob("evidence/*/signers/*.pem")):
        shown = subprocess.run(
            ["certtool", "--certificate-info", "--infile", certificate], capture_output=True, check=True
        )
        assert b"error" not in shown.stdout.lower() + shown.stderr.lower(), certificate
    for message in sorted(demo.folder.rglob("evidence/*/*.p7s")):
        verified = subprocess.run(
            ["certtool", "--p7-verify", "--inder", "--infile", message, "--load-ca-certificate", pki / "root.pem"],
            capture_output=True,
            check=False,
        )
        assert b"Signature status: ok" in verified.stdout + verified.stderr, message


def test_card_number_and_pin_are_in_no_file(demo: Demo) -> None:
    found = []
    for path in files(demo):
        content = path.read_bytes()
        for name in CARD_SECRETS:
            found += [f"{name} in {path}" for form in forms(demo.card[name]) if form in content]
    assert found == []


def test_card_number_and_pin_are_not_on_the_screen(demo: Demo) -> None:
    assert not [name for name in CARD_SECRETS if demo.card[name] in demo.output]


def test_cvv2_and_expiry_are_no_value_of_any_database_or_log(demo: Demo) -> None:
    secrets = {demo.card["cvv2"], demo.card["cvv2"].zfill(4), demo.card["expiry"]} - {"364", "0364"}  # 364 is Iran
    found = [f"{where}: {name}" for where, name, value in stored(demo) if isinstance(value, str) and value in secrets]
    assert found == []
    named = [where for where, name, _value in stored(demo) if name in {"cvv2", "pin", "pin2", "pan", "expiry"}]
    assert named == []


def stored(demo: Demo) -> Iterator[tuple[str, str, Any]]:
    """Every value in every SQLite database, journal and log: (file, column or member, value)."""
    for path in files(demo):
        if path.suffix in {".sqlite", ".db"} and path.read_bytes()[:15] == b"SQLite format 3":
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (table,) in tables:
                    rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608  # a name out of the schema itself
                    columns = [column[0] for column in rows.description]
                    for row in rows:
                        for column, value in zip(columns, row, strict=True):
                            yield path.name, f"{table}.{column}", value
        elif path.is_relative_to(demo.home) and path.suffix in {".log", ".jsonl"}:
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("{"):
                    yield from members(path.name, json.loads(line))


def members(where: str, value: Any, name: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from members(where, inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from members(where, inner, name)
    else:
        yield where, name, value


@pytest.mark.skipif(not CAPTURE_POSSIBLE, reason="capturing the loopback interface needs root")
def test_card_number_is_on_no_wire_but_the_line_to_the_switch(demo: Demo) -> None:
    settings = (demo.home / "kwbp.toml").read_text()
    section = settings.split("[switch]")[1]
    match = re.search(r"^port = (\d+)", section, re.MULTILINE)
    assert match is not None
    line = int(match.group(1))
    seen = {
        "switch line" if line in (source, destination) else f"{source} → {destination}"
        for source, destination, payload in demo.capture.segments
        if any(form in payload for form in forms(demo.card["pan"]))
    }
    assert seen == {"switch line"}  # and there it is: the capture works
    pin = [
        f"{source} → {destination}"
        for source, destination, payload in demo.capture.segments
        if any(form in payload for form in forms(demo.card["pin2"]))
    ]
    assert pin == []


def test_secrets_are_for_their_owner_alone(demo: Demo) -> None:
    home = demo.home
    secret = [
        *(home / "secrets").iterdir(),
        *(demo.folder / "secrets").iterdir(),
        *home.glob("tls/*.key"),
        *home.glob("officers/*.key"),
        demo.folder / "wallet" / "wallet.kwbp",
    ]
    assert len(secret) > 20
    assert [path for path in secret if stat.S_IMODE(path.stat().st_mode) != 0o600] == []


def test_pins_are_different_in_every_installation_and_in_no_other_file(demo: Demo) -> None:
    pins = [path.read_bytes().strip() for path in (demo.home / "secrets").glob("token-*pin")]
    assert len(set(pins)) == len(pins) == 10  # five tokens, each with a user's and a security officer's
    elsewhere = [path for path in files(demo) if path.parent != demo.home / "secrets"]
    assert [path for path in elsewhere if any(pin in path.read_bytes() for pin in pins)] == []


def test_no_private_key_of_a_token_is_in_a_file(demo: Demo) -> None:
    keys = [path for path in files(demo) if b"PRIVATE KEY-----" in path.read_bytes()]
    # Of the simulated bank and network, not ours: what cards are sealed to, and what settlement lists are signed by.
    theirs = [path for path in keys if path.name in {"issuer-603770-sealing-key", "switch-list-key"}]
    assert [path.parent.name for path in theirs] == ["secrets", "secrets"]
    assert {path.parent.name for path in keys if path not in theirs} == {"tls", "officers", "witness"}


def test_no_service_met_an_unexpected_error(demo: Demo) -> None:
    unexpected = [
        f"{path.name}: {line}"
        for path in (demo.home / "log").glob("*.log")
        for line in path.read_text().splitlines()
        if "Traceback" in line or '"event": "unexpected"' in line
    ]
    assert unexpected == []
