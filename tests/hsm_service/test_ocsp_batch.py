"""Status is signed in batches: each item is judged like a single one, and has its own answer or its own refusal."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from ca.ocsp_answer import CertificateStatus, ResponderKey, Times, response_data, single_response
from hsm_service.service import SignCommand, Signed
from hsm_service.steps import run
from hsm_service.vault import Vault
from pki.der import encode
from pki.ocsp import verify_ocsp
from pki.ocsp_structures import cert_id, wrap_response
from runtime.problems import Problem
from tests.support.pki_factory import DAY, NOW
from tests.support.signing_site import CA, World

KEY = "ocsp-responder"


def status(vault: Vault, issuer: x509.Certificate, serial: int, **changes: object) -> bytes:
    """ResponseData that this certificate of `issuer` is good."""
    certificate = vault.key(KEY).pair().certificate
    digest = x509.SubjectKeyIdentifier.from_public_key(vault.key(KEY).pair().public_key).digest
    key = ResponderKey(KEY, digest, certificate.not_valid_after_utc, certificate.not_valid_after_utc)
    when = Times(NOW, changes.get("next_update", NOW + DAY))  # type: ignore[arg-type]
    single = single_response(encode(cert_id(serial, issuer)), CertificateStatus("good"), when, NOW - DAY)
    return response_data(key, NOW, [single])


def test_each_item_of_a_batch_is_judged_by_itself(world: World, vault: Vault) -> None:
    issuer = world.pki.merchant_ca.certificate
    shops = [world.pki.merchant(f"M-{n}").certificate for n in range(3)]
    items = [status(vault, issuer, shop.serial_number) for shop in shops]
    twins = [
        status(vault, world.pki.gateway_ca.certificate, 7),
        status(vault, issuer, 7, next_update=NOW + timedelta(days=8)),
        b"\x55" * 32,
    ]
    commands = [SignCommand("ocsp", content) for content in (items[0], twins[0], items[1], *twins[1:], items[2])]

    answers = run(vault.signing.sign_many(CA, KEY, commands), vault.journal)

    signed = [each for each in answers if isinstance(each, Signed)]
    refused = [each.type for each in answers if isinstance(each, Problem)]
    assert refused == ["foreign-authority", "bad-next-update", "malformed"]
    for answer, shop in zip(signed, shops, strict=True):
        response = wrap_response(answer.signed)
        assert verify_ocsp(response, certificate=shop, issuer=issuer, now=NOW).state == "good"
    entry = world.journal()[-2]
    assert (entry["operation"], entry["count"], entry["responses"]) == ("ocsp", 3, 1)
