"""A bundle is judged by the shell script inside it, with OpenSSL alone; our own judge says the same each time."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import AuthCode
from kwbp.wrapper import unwrap
from pki.oids import CT_INVOICE, CT_RECEIPT_ACK
from storefront.errors import BundleRefused, EvidenceError
from storefront.evidence.bundle import write_bundle
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import judge as judge_files
from storefront.evidence.records import Records
from tests.kwbp.test_contract import contract
from tests.kwbp.test_receipt_ack import acknowledged
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.evidence_judges import ask_both
from tests.support.judges import trusting_machine
from tests.support.pki_factory import PkiFactory


def records_of(world: World, purchase: Purchase) -> Records:
    return Records(
        invoice=purchase.invoice_signed,
        order_details=purchase.invoice.order_details,
        oi_data=purchase.order.oi_data,
        dual_signature=purchase.dual_signed,
        pi_envelope=purchase.order.pi_envelope,
        gateway_certificate=world.gateway_encryption.certificate.public_bytes(Encoding.DER),
        auth_res=purchase.auth_res_signed,
        receipt=purchase.receipt_signed,
        authorities=tuple(each.public_bytes(Encoding.DER) for each in world.gateway_encryption.chain),
        crls=tuple(crl.public_bytes(Encoding.DER) for crl in world.trust.crls),
        auth_req=purchase.auth_req_signed,
        auth_ack=purchase.auth_ack_signed,
    )


def acknowledged_too(world: World, purchase: Purchase) -> Records:
    """With the buyer's acknowledgement of the receipt, and the order with two signatures."""
    ack = unwrap(acknowledged(world, purchase), expected=[CT_RECEIPT_ACK]).body
    return replace(records_of(world, purchase), receipt_ack=ack, contract=contract(world, purchase))


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def purchase(world: World) -> Purchase:
    return world.purchase()


@pytest.fixture(scope="module")
def records(world: World, purchase: Purchase) -> Records:
    return acknowledged_too(world, purchase)


@pytest.fixture(scope="module")
def honest(world: World, records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidence") / "bundle"
    write_bundle(records, world.pki.root.certificate, out)
    return out


@pytest.fixture
def bundle(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "bundle"))


def judge(bundle: Path) -> subprocess.CompletedProcess[str]:
    """What verify.sh says; our own judge was asked too, and agrees."""
    return ask_both(bundle).script


def reseal(bundle: Path) -> None:
    """What a forger does who changed a file: write the digests anew."""
    lines = []
    for line in (bundle / "digests.txt").read_text().splitlines():
        name = line.split(" ", 1)[1]
        lines.append(f"{sha256((bundle / name).read_bytes()).hexdigest()} {name}\n")
    (bundle / "digests.txt").write_text("".join(lines))


def test_an_honest_bundle_holds(honest: Path) -> None:
    result = judge(honest)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAILED" not in result.stdout
    assert result.stdout.endswith("The evidence holds.\n")


def test_the_verdict_says_who_is_bound_to_what(world: World, records: Records, tmp_path: Path) -> None:
    verdict = write_bundle(records, world.pki.root.certificate, tmp_path / "out")
    assert verdict["amount"] == {"rial": TOTAL}
    assert verdict["outcome"] == "approved"
    assert verdict["card"] == "603770******0007"
    assert set(verdict["bound"]) == {"buyer", "merchant", "gateway"}


def test_the_bundle_needs_nothing_of_ours(honest: Path) -> None:
    script = (honest / "verify.sh").read_text()
    commands = {line.split("openssl ", 1)[1].split()[0] for line in script.splitlines() if "  openssl " in line}
    assert commands <= {"verify", "cms", "ts", "ocsp", "x509", "asn1parse"}
    assert "kwbp " not in script
    assert "python" not in script


def test_no_card_data_are_in_the_bundle(honest: Path) -> None:
    for path in honest.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"6037701000000007" not in content, path
            assert not re.search(rb"(?<![0-9a-f])12345(?![0-9a-f])", content), path  # digests have it by chance


@pytest.mark.parametrize(
    "name",
    [
        "invoice.p7s",
        "dual-signature.p7s",
        "auth-req.p7s",
        "auth-res.p7s",
        "auth-ack.p7s",
        "receipt.p7s",
        "receipt-ack.p7s",
        "contract.p7s",
        "pi-envelope.p7m",
        "oi-data.der",
        "order-details.der",
        "root.pem",
        "signers/buyer.pem",
        "purchase.txt",
        "verdict.json",
    ],
)
def test_one_changed_byte_anywhere_is_found(bundle: Path, name: str) -> None:
    honest = (bundle / name).read_bytes()
    for place in (0, len(honest) // 3, len(honest) // 2, len(honest) - 1):
        changed = bytearray(honest)
        changed[place] ^= 0x01
        (bundle / name).write_bytes(changed)
        with pytest.raises(BundleRefused, match="is not the file that was exported"):
            judge_files(read_folder(bundle))
    assert judge(bundle).returncode != 0


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("invoice.p7s", "the buyer's order names the signed invoice"),
        ("dual-signature.p7s", "the gateway's answer names the buyer's order"),
        ("auth-req.p7s", "the gateway's answer names the request"),
        ("auth-res.p7s", "the receipt carries the answer"),
        ("pi-envelope.p7m", "the buyer's order names the sealed card data"),
        ("oi-data.der", "the buyer's order names the order information"),
        ("order-details.der", "the invoice is for this order's lines"),
        ("auth-ack.p7s", "the acknowledgement names the answer"),
        ("receipt.p7s", "the receipt carries the answer"),
        ("receipt-ack.p7s", "it names the receipt"),
        ("contract.p7s", "they signed the invoice"),
    ],
)
def test_a_part_of_another_purchase_is_found_even_with_new_digests(
    world: World, bundle: Path, tmp_path: Path, name: str, statement: str
) -> None:
    write_bundle(acknowledged_too(world, world.purchase()), world.pki.root.certificate, tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / name, bundle / name)
    reseal(bundle)
    result = judge(bundle)
    assert result.returncode == 1
    assert f"FAILED   {statement}" in result.stdout


def test_a_signature_of_another_hierarchy_is_found(bundle: Path, tmp_path: Path) -> None:
    forged = World(PkiFactory(brand="Forger"))
    write_bundle(records_of(forged, forged.purchase()), forged.pki.root.certificate, tmp_path / "forged")
    shutil.copyfile(bundle / "root.pem", tmp_path / "forged" / "root.pem")
    reseal(tmp_path / "forged")
    result = judge(tmp_path / "forged")
    assert result.returncode == 1
    assert "FAILED   the gateway signed its answer" in result.stdout


def test_what_the_machine_trusts_is_not_what_the_reader_trusts(bundle: Path, tmp_path: Path) -> None:
    machine = trusting_machine(bundle / "root.pem", tmp_path / "trusted")
    other = PkiFactory(brand="Another").root.certificate
    (tmp_path / "bundle" / "root.pem").write_bytes(other.public_bytes(Encoding.PEM))
    reseal(bundle)
    result = ask_both(bundle, environment=machine).script
    assert result.returncode == 1
    assert "FAILED   the gateway signed its answer" in result.stdout


def test_another_time_is_found(bundle: Path) -> None:
    xid, when = (bundle / "purchase.txt").read_text().split()
    (bundle / "purchase.txt").write_text(f"{xid}\n{int(when) + 1}\n")
    reseal(bundle)
    assert "FAILED   the gateway's answer is of the time that was judged" in judge(bundle).stdout


@pytest.mark.parametrize("content", ["", "00\n", "$(touch pwned)\n1\n", "00\n1; touch pwned\n"])
def test_a_hostile_purchase_file_runs_nothing(bundle: Path, content: str) -> None:
    (bundle / "purchase.txt").write_text(content)
    assert judge(bundle).returncode != 0
    assert not (bundle / "pwned").exists()


def test_a_missing_file_is_found(bundle: Path) -> None:
    (bundle / "auth-ack.p7s").unlink()
    result = judge(bundle)
    assert result.returncode == 1
    assert "FAILED   auth-ack.p7s" in result.stdout


def test_an_acknowledgement_that_does_not_fit_its_receipt_is_found(
    world: World, purchase: Purchase, records: Records, tmp_path: Path
) -> None:
    stranger = world.pki.cardholder("c2Vjb25kIGNhcmQ")
    false = unwrap(acknowledged(world, purchase, signer=stranger), expected=[CT_RECEIPT_ACK]).body
    write_bundle(replace(records, receipt_ack=false), world.pki.root.certificate, tmp_path / "bundle")
    opinions = ask_both(tmp_path / "bundle")
    assert "FAILED   the buyer acknowledged the receipt" in opinions.script.stdout
    assert opinions.script.returncode == 1


def test_an_acknowledgement_without_its_receipt_is_not_exported_and_refused(
    world: World, records: Records, bundle: Path, tmp_path: Path
) -> None:
    write_bundle(replace(records, receipt=None), world.pki.root.certificate, tmp_path / "bundle-2")
    assert not (tmp_path / "bundle-2" / "receipt-ack.p7s").exists()
    (bundle / "receipt.p7s").unlink()
    digests = bundle / "digests.txt"
    digests.write_text("".join(line for line in digests.read_text().splitlines(True) if " receipt.p7s" not in line))
    opinions = ask_both(bundle)
    assert opinions.refusal == "receipt.p7s is missing"
    assert "FAILED   the acknowledged receipt is here" in opinions.script.stdout


def test_a_missing_crl_is_found(bundle: Path) -> None:
    lines = [line for line in (bundle / "digests.txt").read_text().splitlines(True) if " crls/" not in line]
    (bundle / "digests.txt").write_text("".join(lines))
    for path in list((bundle / "crls").iterdir())[1:]:
        path.unlink()
    result = judge(bundle)
    assert result.returncode == 1
    assert "FAILED   merchant" in result.stdout


def test_a_merchant_revoked_before_the_purchase_is_found(tmp_path: Path) -> None:
    world = World(PkiFactory())
    purchase = world.purchase()
    world.pki.revoke(world.shop)
    revoked = tuple(crl.public_bytes(Encoding.DER) for crl in world.pki.crls())
    write_bundle(replace(records_of(world, purchase), crls=revoked), world.pki.root.certificate, tmp_path / "out")
    result = judge(tmp_path / "out")
    assert result.returncode == 1
    assert "certificate revoked" in result.stdout


def test_the_buyers_own_records_make_a_bundle_without_what_the_buyer_never_sees(
    world: World, records: Records, tmp_path: Path
) -> None:
    write_bundle(replace(records, auth_req=None, auth_ack=None), world.pki.root.certificate, tmp_path / "buyer")
    result = judge(tmp_path / "buyer")
    assert result.returncode == 0, result.stdout
    assert "the receipt carries the answer" in result.stdout
    assert "asked the gateway" not in result.stdout


def test_a_declined_purchase_makes_a_bundle_too(world: World, tmp_path: Path) -> None:
    declined = world.purchase(answer={"auth_code": AuthCode.DECLINED, "rc": "51", "approval": None})
    verdict = write_bundle(records_of(world, declined), world.pki.root.certificate, tmp_path / "out")
    assert verdict["outcome"] == "declined"
    assert "without payment" in verdict["bound"]["merchant"]
    assert judge(tmp_path / "out").returncode == 0


def test_a_bundle_is_not_written_over_another(world: World, records: Records, honest: Path) -> None:
    with pytest.raises(EvidenceError, match="already there"):
        write_bundle(records, world.pki.root.certificate, honest)


def test_an_invoice_of_nobody_who_sells_is_refused(
    world: World, purchase: Purchase, records: Records, tmp_path: Path
) -> None:
    foreign = world.buyer.sign(CT_INVOICE, purchase.invoice.invoice.content)
    with pytest.raises(EvidenceError, match="not what it should be"):
        write_bundle(replace(records, invoice=foreign), world.pki.root.certificate, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_records_that_are_no_messages_are_refused(world: World, records: Records, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="not what it should be"):
        write_bundle(replace(records, receipt=records.invoice), world.pki.root.certificate, tmp_path / "out")
    assert not (tmp_path / "out").exists()
