"""OpenSSL and GnuTLS as judges: what we sign they verify, what they sign and seal we accept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kwbp.codes import ErrorCode
from kwbp.messages import DualSigTBS
from kwbp.oids_txt import oids_txt
from kwbp.parties import MerchantIdentity
from kwbp.structure import decode
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_DUAL_SIGNATURE,
    CT_INVOICE,
    CT_INVOICE_REQ,
    CT_RECEIPT,
    NAMES,
)
from tests.kwbp.forge import refused, requested
from tests.kwbp.world import Purchase, World, site
from tests.support.judges import attime, certtool_accepts, openssl, openssl_accepts
from tests.support.pki_factory import PkiFactory, rsa_key, unseal

SIGNED = {
    "invoice request": ("request_signed", CT_INVOICE_REQ),
    "invoice": ("invoice_signed", CT_INVOICE),
    "dual signature": ("dual_signed", CT_DUAL_SIGNATURE),
    "request": ("auth_req_signed", CT_AUTH_REQ),
    "answer": ("auth_res_signed", CT_AUTH_RES),
    "acknowledgement": ("auth_ack_signed", CT_AUTH_ACK),
    "receipt": ("receipt_signed", CT_RECEIPT),
}


@pytest.fixture
def directory(world: World, tmp_path: Path) -> Path:
    world.pki.write(tmp_path)
    (tmp_path / "oids.txt").write_text(oids_txt())
    return tmp_path


@pytest.mark.parametrize("name", SIGNED)
def test_openssl_verifies_every_signed_message(world: World, purchase: Purchase, directory: Path, name: str) -> None:
    attribute, _ = SIGNED[name]
    message, content = directory / "message.p7s", directory / "content.der"
    message.write_bytes(getattr(purchase, attribute))
    openssl(
        "cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-CAfile", directory / "root.pem",
        "-purpose", "any", *attime(world.now), "-out", content,
    )  # fmt: skip
    assert content.read_bytes() in message.read_bytes()
    assert certtool_accepts("--p7-info", "--inder", "--infile", message)


def test_hashes_are_those_that_openssl_computes(purchase: Purchase, directory: Path) -> None:
    order = directory / "oi.der"
    order.write_bytes(purchase.order.oi_data)
    digest = openssl("dgst", "-sha256", "-binary", order)
    assert digest == decode(DualSigTBS, purchase.order.dual_signature.content).h_oi_data


@pytest.mark.parametrize("name", SIGNED)
def test_openssl_calls_our_identifiers_by_name(purchase: Purchase, directory: Path, name: str) -> None:
    attribute, content_type = SIGNED[name]
    message = directory / "message.p7s"
    message.write_bytes(getattr(purchase, attribute))
    shown = openssl("asn1parse", "-inform", "DER", "-oid", directory / "oids.txt", "-in", message).decode()
    assert NAMES[content_type] in shown


def test_oids_txt_names_each_identifier_of_ours_once() -> None:
    lines = oids_txt().splitlines()
    ours = {oid.dotted_string for oid, name in NAMES.items() if name.startswith("id-kwbp")}
    assert {line.split()[0] for line in lines} == ours
    assert len(lines) == len(ours)
    assert all(line.split()[1] == line.split()[2] for line in lines)


@pytest.mark.parametrize("key", ["P-256", "RSA"])
def test_invoice_signed_by_openssl_is_accepted_by_wallet_and_gateway(tmp_path: Path, key: str) -> None:
    """A merchant that keeps its own key: `openssl cms -sign`, at the machine's own time, no software of ours."""
    world = World(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    world.pki.write(tmp_path)
    shop = world.pki.merchant("M-1", replace=site("M-1"), key=rsa_key(1) if key == "RSA" else None)
    certificate, private_key = shop.write(tmp_path, "shop")
    pss = ("-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest") if key == "RSA" else ()

    def sign(content: bytes) -> bytes:
        return openssl(
            "cms", "-sign", "-binary", "-signer", certificate, "-inkey", private_key, "-certfile", tmp_path / "cas.pem",
            "-md", "sha256", *pss, "-econtent_type", CT_INVOICE.dotted_string, "-cades", "-nosmimecap", "-nodetach",
            "-outform", "DER", stdin=content,
        )  # fmt: skip

    identity = MerchantIdentity.of(shop.certificate)
    purchase = world.purchase(shop=shop, offer={"merchant": identity}, sign_invoice=sign)
    assert purchase.checked_receipt.paid


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_order_sealed_by_openssl_is_opened(world: World, purchase: Purchase, directory: Path, digest: str) -> None:
    plaintext, envelope = directory / "pi.der", directory / "pi.p7m"
    plaintext.write_bytes(purchase.plaintext)
    certificate, _ = world.gateway_encryption.write(directory, "gateway")
    options = () if digest == "sha1" else ("-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256")
    openssl(
        "cms", "-encrypt", "-binary", "-aes-256-gcm", "-in", plaintext, "-outform", "DER", "-out", envelope,
        "-recip", certificate, "-keyopt", "rsa_padding_mode:oaep", *options,
    )  # fmt: skip
    sealed = envelope.read_bytes()
    verified = world.check_auth_req(requested(world, purchase, envelope=sealed))
    opened = unseal(verified.envelope.der, rsa_key(0))
    assert world.check_opened(opened, verified).pan == world.card.pan


HOSTILE_ENVELOPES = {
    "CBC": ("-aes-256-cbc", "-keyopt", "rsa_padding_mode:oaep"),
    "AES-128-GCM": ("-aes-128-gcm", "-keyopt", "rsa_padding_mode:oaep"),
    "PKCS#1 v1.5 key transport": ("-aes-256-gcm",),
}


@pytest.mark.parametrize("name", HOSTILE_ENVELOPES)
def test_envelope_outside_the_profile_is_refused_before_any_signature(
    world: World, purchase: Purchase, directory: Path, name: str
) -> None:
    plaintext, envelope = directory / "pi.der", directory / "pi.p7m"
    plaintext.write_bytes(purchase.plaintext)
    certificate, _ = world.gateway_encryption.write(directory, "gateway")
    cipher, *options = HOSTILE_ENVELOPES[name]
    assert openssl_accepts(
        "cms", "-encrypt", "-binary", cipher, "-in", plaintext, "-outform", "DER", "-out", envelope,
        "-recip", certificate, *options,
    )  # fmt: skip
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        world.check_auth_req(requested(world, purchase, envelope=envelope.read_bytes()))
