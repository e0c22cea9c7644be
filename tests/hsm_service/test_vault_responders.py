"""Status and time are signed in the token: OpenSSL and cryptography judge them; a time-stamp's number is given once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from hsm_service.ledger import SERIAL_BITS
from hsm_service.service import SignCommand
from hsm_service.typed_timestamp import _MessageImprint, _TstInfo
from hsm_service.vault import Vault
from pki import oids
from pki.algorithms import SHA256_IDENTIFIER
from pki.der import any_value, encode, tlv
from tests.support.judges import attime, openssl
from tests.support.pki_factory import DAY, NOW, pem
from tests.support.signing_site import CA, SHOP, World, refusal

DATA = b"a message"


def tst_info(tsa: x509.Certificate, *, low: int = 1, data: bytes = DATA) -> bytes:
    digest = hashlib.sha256(data).digest()
    return encode(
        _TstInfo(
            version=1,
            policy=oids.POLICY_TIMESTAMP,
            message_imprint=_MessageImprint(hash_algorithm=any_value(SHA256_IDENTIFIER), hashed_message=digest),
            serial_number=int(NOW.timestamp()) << SERIAL_BITS | low,
            gen_time=asn1.GeneralizedTime(NOW),
            accuracy=None,
            ordering=False,
            nonce=None,
            tsa=any_value(tlv(0xA4, tsa.subject.public_bytes())),
        )
    )


def test_openssl_accepts_a_time_stamp_of_the_token(world: World, vault: Vault, tmp_path: Path) -> None:
    chain = vault.key("timestamp-authority").pair().chain
    answer = vault.sign(CA, "timestamp-authority", SignCommand("timestamp", tst_info(chain[0])))
    (tmp_path / "response").write_bytes(tlv(0x30, tlv(0x30, encode(0)) + answer.signed))
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "root").write_bytes(pem(world.pki.root.certificate))
    (tmp_path / "chain").write_bytes(pem(*chain[1:]))

    openssl(
        "ts", "-verify", "-in", tmp_path / "response", "-data", tmp_path / "data", "-CAfile", tmp_path / "root",
        "-untrusted", tmp_path / "chain", *attime(NOW),
    )  # fmt: skip


def test_a_time_stamps_number_is_given_once_also_after_a_restart(world: World) -> None:
    with world.vault() as vault:
        tsa = vault.key("timestamp-authority").pair().certificate
        first = SignCommand("timestamp", tst_info(tsa))
        vault.sign(CA, "timestamp-authority", first)
    with world.vault() as vault:
        other = SignCommand("timestamp", tst_info(tsa, data=b"another"))
        refusal(lambda: vault.sign(CA, "timestamp-authority", other), 409, "serial-not-fresh")
        vault.sign(CA, "timestamp-authority", first)
        vault.sign(CA, "timestamp-authority", SignCommand("timestamp", tst_info(tsa, low=2, data=b"another")))


def test_a_status_of_the_token_verifies(world: World, vault: Vault) -> None:
    responder = vault.key("ocsp-responder").pair().certificate
    issuer, shop = world.pki.merchant_ca, world.pki.merchant("M-1").certificate
    namesake = world.pki.issue(issuer, responder.subject, {})  # for a builder that wants a key in memory
    model = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=shop,
            issuer=issuer.certificate,
            algorithm=hashes.SHA1(),  # noqa: S303  # names an issuer (RFC 6960 4.1.1)
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=NOW,
            next_update=NOW + DAY,
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.NAME, namesake.certificate)
        .sign(namesake.key, hashes.SHA256())
    )
    # cryptography says producedAt is the moment of signing; that of this world is NOW.
    produced = b"\x18\x0f" + model.produced_at_utc.strftime("%Y%m%d%H%M%SZ").encode()
    wanted = b"\x18\x0f" + NOW.strftime("%Y%m%d%H%M%SZ").encode()
    tbs = model.tbs_response_bytes.replace(produced, wanted, 1)

    signed = vault.sign(CA, "ocsp-responder", SignCommand("ocsp", tbs)).signed

    kind = encode(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.1"))
    response = ocsp.load_der_ocsp_response(tlv(0x30, b"\x0a\x01\x00" + tlv(0xA0, tlv(0x30, kind + encode(signed)))))
    assert response.certificates[0].public_bytes(Encoding.DER) == responder.public_bytes(Encoding.DER)
    assert response.serial_number == shop.serial_number
    key = responder.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert world.journal()[-2]["responses"] == 1
    refusal(lambda: vault.sign(SHOP, "ocsp-responder", SignCommand("ocsp", tbs)), 403, "caller-not-allowed")
    refusal(lambda: vault.sign(CA, "timestamp-authority", SignCommand("ocsp", tbs)), 409, "key-misused")
