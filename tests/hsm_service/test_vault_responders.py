"""Status and time are signed in the token: OpenSSL and cryptography judge them; a time-stamp's number is given once."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from hsm_service.ledger import SERIAL_BITS
from hsm_service.service import SignCommand, Signed
from hsm_service.vault import Vault
from pki import oids
from pki.der import any_value, encode, tlv
from pki.timestamp_structures import TstInfo, imprint_of
from runtime.problems import Problem
from tests.support.judges import attime, openssl
from tests.support.pki_factory import DAY, NOW, pem
from tests.support.signing_site import CA, SHOP, World, refusal

DATA = b"a message"


def tst_info(tsa: x509.Certificate, *, low: int = 1, data: bytes = DATA, at: datetime = NOW) -> bytes:
    return encode(
        TstInfo(
            version=1,
            policy=oids.POLICY_TIMESTAMP,
            message_imprint=imprint_of(data),
            serial_number=int(at.timestamp()) << SERIAL_BITS | low,
            gen_time=asn1.GeneralizedTime(at),
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


def test_time_stamps_are_signed_together_and_each_number_is_claimed_by_itself(world: World) -> None:
    with world.vault() as vault:
        tsa = vault.key("timestamp-authority").pair().certificate
        taken, again = tst_info(tsa, low=1), tst_info(tsa, low=1, data=b"another")
        vault.sign(CA, "timestamp-authority", SignCommand("timestamp", taken))
        batch = [tst_info(tsa, low=2), again, tst_info(tsa, low=3), tst_info(tsa, low=3, data=b"another"), taken]
        answers = many(vault, batch)
        assert [isinstance(answer, Signed) for answer in answers] == [True, False, True, False, True]
        assert [answer.type for answer in answers if isinstance(answer, Problem)] == ["serial-not-fresh"] * 2
        refused, intent, _outcome = world.journal()[-3:]
        assert (refused["event"], refused["reasons"]) == ("refused", ["serial-not-fresh"] * 2)
        numbers = [int(each["timestamp_serial"], 16) & 0xFF for each in intent["claims"]]
        assert (intent["count"], numbers) == (3, [2, 3, 1])
    with world.vault() as vault:  # and none of them again after a restart
        (later,) = many(vault, [tst_info(tsa, low=3, data=b"another")])
        assert isinstance(later, Problem)
        assert later.type == "serial-not-fresh"


def test_time_does_not_go_back_for_a_key_that_stamped_not_even_after_a_restart(world: World) -> None:
    answers = []
    for seconds in (60, 50, 49):
        moment = NOW + timedelta(seconds=seconds)
        with world.vault(clock=lambda moment=moment: moment) as vault:
            tsa = vault.key("timestamp-authority").pair().certificate
            answers += many(vault, [tst_info(tsa, at=moment)])
    assert [isinstance(answer, Signed) for answer in answers] == [True, True, False]
    assert isinstance(answers[-1], Problem)
    assert answers[-1].type == "time-went-back"


def many(vault: Vault, infos: list[bytes]) -> list[Signed | Problem]:
    commands = [SignCommand("timestamp", each) for each in infos]
    return vault.run(vault.signing.sign_many(CA, "timestamp-authority", commands))


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
