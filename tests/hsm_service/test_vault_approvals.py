"""The vault signs a certificate for a CA in service only as officers approved it, and once an approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography import x509

from cps.dossier import Dossier
from hsm_service.errors import TokenBusy
from hsm_service.service import Basis, SignCommand
from hsm_service.tokens import Token
from hsm_service.vault import Vault
from tests.support.approved import Desk
from tests.support.pki_factory import PkiFactory, p256
from tests.support.signing_site import CA, CEREMONY, World, crl, refusal, tbs

KEY = "merchant-ca-ec"
BENCH = "service:bench"


@pytest.fixture(scope="module")
def desk(founded: World) -> Desk:
    return Desk(founded.pki)


def structure(vault: Vault, desk: Desk, case: Dossier, **changes: Any) -> bytes:
    issuer = vault.key(KEY).pair()
    return desk.tbs(case, issuer.certificate, issuer.public_key, **changes)


def test_a_certificate_is_signed_on_its_approval_which_stands_in_the_record(
    world: World, vault: Vault, desk: Desk
) -> None:
    case = desk.merchant()
    answer = vault.sign_certificate(CA, KEY, structure(vault, desk, case), basis=desk.basis(case))

    certificate = x509.load_der_x509_certificate(answer.signed)
    certificate.verify_directly_issued_by(vault.key(KEY).pair().certificate)
    intent = world.journal()[-2]
    assert intent["event"] == "intent"
    assert (intent["revision"], intent["purpose"]) == (case.revision.digest.hex(), "signing")
    assert intent["approvers"] == ["officer-1", "officer-3"]


def test_whoever_took_over_the_ca_gets_no_certificate_without_officers(world: World, vault: Vault, desk: Desk) -> None:
    case, stolen = desk.merchant(), p256().public_key()
    undecided = desk.office.merchant_case(application_id="case-of-a-thief")
    elsewhere = Desk(PkiFactory())
    attempts: list[tuple[Callable[[], bytes], Basis | None, str]] = [
        (lambda: tbs(vault, KEY), None, "approval-missing"),
        (lambda: structure(vault, desk, undecided), desk.basis(undecided), "not-approved"),
        (lambda: structure(vault, desk, case), elsewhere.basis(elsewhere.merchant()), "not-approved"),
        (lambda: structure(vault, desk, case, public=stolen), desk.basis(case), "foreign-subject-key"),
    ]
    before = vault.describe_key(CA, KEY).uses
    for make, basis, slug in attempts:
        refused = make()
        refusal(lambda refused=refused, basis=basis: vault.sign_certificate(CA, KEY, refused, basis=basis), 422, slug)  # type: ignore[misc]  # default binds
        assert world.journal()[-1]["reason"] == slug
    assert vault.describe_key(CA, KEY).uses == before


def test_an_approval_is_good_for_one_certificate_also_after_a_restart(world: World, desk: Desk) -> None:
    case = desk.merchant()
    with world.vault() as vault:
        first, second = (structure(vault, desk, case) for _ in range(2))
        assert first != second  # another serial number
        vault.sign_certificate(CA, KEY, first, basis=desk.basis(case))
        refusal(lambda: vault.sign_certificate(CA, KEY, second, basis=desk.basis(case)), 409, "approval-used")
    with world.vault() as vault:
        refusal(lambda: vault.sign_certificate(CA, KEY, second, basis=desk.basis(case)), 409, "approval-used")
        # A CA whose answer was lost may ask for the very same again.
        vault.sign_certificate(CA, KEY, first, basis=desk.basis(case))


def test_a_certificate_that_failed_gives_its_approval_back(
    vault: Vault, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_arguments: Any) -> bytes:
        raise TokenBusy("every session is in use")

    case = desk.merchant()
    with monkeypatch.context() as patched:
        patched.setattr(Token, "sign_ecdsa_digest", busy)
        first = structure(vault, desk, case)
        refusal(lambda: vault.sign_certificate(CA, KEY, first, basis=desk.basis(case)), 503, "token-busy")
    vault.sign_certificate(CA, KEY, structure(vault, desk, case), basis=desk.basis(case))


def test_a_refused_second_certificate_leaves_its_serial_number_free(vault: Vault, desk: Desk) -> None:
    case, other = desk.merchant(), desk.merchant()
    vault.sign_certificate(CA, KEY, structure(vault, desk, case), basis=desk.basis(case))
    again = structure(vault, desk, case, serial=1 << 98)
    refusal(lambda: vault.sign_certificate(CA, KEY, again, basis=desk.basis(case)), 409, "approval-used")
    vault.sign_certificate(CA, KEY, structure(vault, desk, other, serial=1 << 98), basis=desk.basis(other))


def test_a_crl_older_than_the_last_one_signed_here_is_not_believed(vault: Vault, desk: Desk) -> None:
    case = desk.merchant()
    old, new = (vault.sign_crl(CA, KEY, crl(vault, number, KEY)).signed for number in (4, 5))

    def basis(own: bytes) -> Basis:
        return msgspec.structs.replace(desk.basis(case), crls=(*desk.crls(), own))

    wanted = structure(vault, desk, case)
    refusal(lambda: vault.sign_certificate(CA, KEY, wanted, basis=basis(old)), 409, "crl-superseded")
    vault.sign_certificate(CA, KEY, wanted, basis=basis(new))


def test_a_ceremony_certifies_on_its_own_word(world: World, vault: Vault) -> None:
    vault.sign_certificate(CEREMONY, KEY, tbs(vault, KEY))
    assert "revision" not in world.journal()[-2]


def test_what_a_certificate_rests_on_is_for_certificates_alone(vault: Vault, desk: Desk) -> None:
    command = SignCommand("crl", crl(vault, 1, KEY), basis=desk.basis(desk.merchant()))
    refusal(lambda: vault.sign(CA, KEY, command), 422, "invalid-request")
