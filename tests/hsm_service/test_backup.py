"""A key is wrapped out of one token and restored into another, and signs there; nothing else is taken in."""

from __future__ import annotations

import os
import signal
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsm_service.backup_file import KeyBackup
from hsm_service.errors import TokenUnavailable
from hsm_service.key_places import Fault
from hsm_service.keys import KeyAttributes
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_request import parse_request
from hsm_service.service import KeyInfo
from hsm_service.supervised import SupervisedToken
from hsm_service.token_layout import pin_file, so_pin_file
from hsm_service.vault import Vault
from pki import oids
from pki.cms_signed import parse_signed_data
from pki.roles import Role
from runtime.problems import Problem
from runtime.settings import Settings
from tests.faults.faulty_module import wait_until
from tests.support.key_officers import KeyOfficers
from tests.support.pki_factory import NOW
from tests.support.signing_site import CA, CEREMONY, OPERATOR, World, authority_chain, crl, der, public_key, refusal
from tests.support.softhsm import raw_session

OFFICER = "officer:officer-1"


@dataclass(frozen=True)
class Site:
    """A vault with a key that can be backed up, one that cannot, and a recipient on the standby token."""

    world: World
    vault: Vault
    key: KeyInfo
    recipient: KeyInfo
    attestation: bytes
    backup: bytes

    def back_up(self, name: str = "recoverable", *, caller: str = CEREMONY, **changes: Any) -> bytes:
        recipient = {"recipient": self.recipient.public_key, "attestation": self.attestation}
        return self.vault.backups.back_up(caller, name, **{**recipient, **changes})

    def content(self) -> KeyBackup:
        return KeyBackup.from_der(parse_signed_data(self.backup, content_type=oids.CT_KEY_BACKUP).content)

    def signed(self, content: KeyBackup) -> bytes:
        """Another content, signed as the service would sign it."""
        return self.vault._sign_backup(content.to_der(), {})

    def restore(self, backup: bytes | None = None, recipient: str = "recipient", *, replaces: bool = False) -> KeyInfo:
        return self.vault.backups.restore(CEREMONY, backup or self.backup, recipient=recipient, replaces=replaces)

    def objects(self) -> int:
        """How many objects are on the standby token."""
        return len(list(raw_session(self.vault._tokens["standby"]).get_objects({})))


@pytest.fixture(scope="module")
def prepared(founded: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes, bytes]:
    """An installation with the keys of a `Site`, the recipient's attestation, and a backup; nobody changes it."""
    world = founded.copy(tmp_path_factory.mktemp("prepared"))
    with world.vault() as vault:
        ceremony = vault.as_caller(CEREMONY)
        for name in ("recoverable", "sibling"):
            spki = ceremony.generate_key(name, "issuing-ca-ec-recoverable").public_key
            chain = authority_chain(world.pki, name, Role.MERCHANT_CA, public_key(spki))
            ceremony.attach_certificate(name, der(*chain))
        for name in ("recipient", "other-recipient"):
            ceremony.generate_key(name, "backup-recipient")
        recipient = ceremony.describe_key("recipient").public_key
        attestation = ceremony.attest_key("recipient")
        backup = vault.backups.back_up(CEREMONY, "recoverable", recipient=recipient, attestation=attestation)
    return world, attestation, backup


@pytest.fixture
def site(prepared: tuple[World, bytes, bytes], tmp_path: Path) -> Iterator[Site]:
    founded, attestation, backup = prepared
    world = founded.copy(tmp_path)
    with world.vault() as vault:
        key, recipient = (vault.describe_key(CEREMONY, name) for name in ("recoverable", "recipient"))
        yield Site(world, vault, key, recipient, attestation, backup)


def _attributes(vault: Vault, name: str, token: str) -> KeyAttributes:
    place = next(place for place in vault.key(name).places if place.label == token)
    assert place.token is not None
    assert place.ref is not None
    return place.token.attributes(place.ref)


def test_a_key_that_can_be_backed_up_leaves_only_under_a_trusted_wrapping_key(site: Site) -> None:
    attributes = _attributes(site.vault, "recoverable", "ca")
    assert (attributes.extractable, attributes.wrap_with_trusted) == (True, True)
    assert attributes.sensitive
    assert attributes.always_sensitive
    assert attributes.local
    assert not _attributes(site.vault, "merchant-ca", "ca").extractable


def test_a_restored_key_signs_when_its_own_token_lost_it(site: Site) -> None:
    restored = site.restore()
    assert restored.replicas == ("standby",)
    token, ref = site.vault.key("recoverable").use()
    assert token.label == "ca"
    token.destroy(ref)
    site.vault.check_keys()
    assert site.vault.describe_key(CEREMONY, "recoverable").unusable is None
    assert site.vault.key("recoverable").use()[0].label == "standby"
    pair = site.vault.key("recoverable").pair()
    signed = site.vault.sign_crl(CA, "recoverable", crl(site.vault, 1, key="recoverable")).signed
    made = x509.load_der_x509_crl(signed)
    assert isinstance(pair.public_key, ec.EllipticCurvePublicKey)
    pair.public_key.verify(made.signature, made.tbs_certlist_bytes, ec.ECDSA(hashes.SHA384()))


def test_the_second_token_signs_while_the_process_of_the_first_is_gone(site: Site) -> None:
    site.restore()
    site.vault.close()
    pin = pin_file(site.world.home, "ca")
    with site.world.vault(tokens=["ca", "standby"], isolated=Settings()) as vault:
        first = vault._tokens["ca"]
        assert isinstance(first, SupervisedToken)
        assert vault.key("recoverable").use()[0] is first
        pair = vault.key("recoverable").pair()
        assert isinstance(pair.public_key, ec.EllipticCurvePublicKey)

        def sign(number: int) -> None:
            made = x509.load_der_x509_crl(
                vault.sign_crl(CA, "recoverable", crl(vault, number, key="recoverable")).signed
            )
            assert made.is_signature_valid(pair.public_key)

        sign(1)
        pin.rename(pin.with_suffix(".away"))  # so that it cannot come back by itself
        assert first._child is not None
        os.kill(first._child._process.pid, signal.SIGKILL)
        wait_until(lambda: not first.healthy)
        sign(2)
        assert vault.key("recoverable").use()[0] is vault._tokens["standby"]
        pin.with_suffix(".away").rename(pin)
        wait_until(lambda: vault.key("recoverable").use()[0] is first)
        sign(3)


def test_a_restored_key_cannot_leave_again(site: Site) -> None:
    site.restore()
    attributes = _attributes(site.vault, "recoverable", "standby")
    assert attributes.sensitive
    assert not attributes.extractable
    assert attributes.imported


def test_a_restored_key_is_there_after_a_restart(site: Site) -> None:
    site.restore()
    site.vault.close()
    with site.world.vault() as again:
        assert [place.fault for place in again.key("recoverable").places] == [None, None]


def test_restoring_once_more_changes_nothing(site: Site) -> None:
    site.restore()
    before = site.objects()
    assert site.restore().replicas == ("standby",)
    assert site.objects() == before


def _flipped(data: bytes, place: int = -20) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


HOSTILE: dict[str, tuple[Callable[[Site], tuple[bytes, str]], int, str]] = {
    "wrapped to another recipient": (lambda site: (site.backup, "other-recipient"), 422, "bad-backup"),
    "says that it is to this recipient": (
        lambda site: (
            site.signed(replace(site.content(), recipient=_digest(site, "other-recipient"))),
            "other-recipient",
        ),
        422,
        "decoding-failure",
    ),
    "altered in the wrapped key": (
        lambda site: (site.signed(replace(site.content(), wrapped=_flipped(site.content().wrapped))), "recipient"),
        422,
        "decoding-failure",
    ),
    "altered in the sealed key": (
        lambda site: (
            site.signed(replace(site.content(), encrypted_key=_flipped(site.content().encrypted_key))),
            "recipient",
        ),
        422,
        "decoding-failure",
    ),
    "altered in the file": (lambda site: (_flipped(site.backup, -5), "recipient"), 422, "bad-statement"),
    "of another public key": (
        lambda site: (site.signed(replace(site.content(), spki=_spki(site, "sibling"))), "recipient"),
        422,
        "bad-backup",
    ),
    "under another key's name": (
        lambda site: (site.signed(replace(site.content(), key_name="sibling")), "recipient"),
        422,
        "bad-backup",
    ),
    "under another key's name with its public key": (
        lambda site: (
            site.signed(replace(site.content(), key_name="sibling", spki=_spki(site, "sibling"))),
            "recipient",
        ),
        409,
        "key-misused",
    ),
    "of a key that cannot be backed up": (
        lambda site: (
            site.signed(replace(site.content(), key_name="merchant-ca", spki=_spki(site, "merchant-ca"))),
            "recipient",
        ),
        409,
        "key-misused",
    ),
    "of a key that nobody has": (
        lambda site: (site.signed(replace(site.content(), key_name="none")), "recipient"),
        404,
        "key-not-found",
    ),
    "an attestation": (lambda site: (site.attestation, "recipient"), 422, "bad-statement"),
    "to a key that restores nothing": (lambda site: (site.backup, "merchant-ca"), 409, "key-misused"),
}


def _spki(site: Site, name: str) -> bytes:
    return site.vault.describe_key(CEREMONY, name).public_key


def _digest(site: Site, name: str) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_spki(site, name))
    return digest.finalize()


def test_nothing_is_taken_in_from_a_backup_that_is_not_of_this_key_to_this_recipient(site: Site) -> None:
    before = site.objects()
    for case, (twin, status, slug) in HOSTILE.items():
        backup, recipient = twin(site)
        refusal(lambda backup=backup, recipient=recipient: site.restore(backup, recipient), status, slug)  # type: ignore[misc]
        assert site.objects() == before, case
        last = site.world.last_entry()
        assert (last["event"], last["reason"]) in {("refused", slug), ("outcome", slug)}, case


def test_a_backup_is_taken_in_by_ceremonies_alone(site: Site) -> None:
    for caller in (CA, OPERATOR):
        refusal(
            lambda caller=caller: site.vault.backups.restore(caller, site.backup, recipient="recipient"),  # type: ignore[misc]
            403,
            "caller-not-allowed",
        )
    refusal(lambda: site.back_up(caller=CA), 403, "caller-not-allowed")


def test_an_operator_has_a_key_backed_up_when_two_officers_approved_to_whom(site: Site) -> None:
    with pytest.raises(ApprovalNeeded) as asked:
        site.back_up(caller=OPERATOR)
    request = parse_request(asked.value.operation.request)
    assert request.parameters["recipient_sha256"] == _digest(site, "recipient").hex()
    officers = KeyOfficers(site.world.pki)
    for officer in (officers.first, officers.second):
        done = site.vault.operations.approve(OFFICER, request.id, officers.approve(request, officer))
    assert done.result is not None
    backup = b64decode(done.result["outcome"]["backup"])
    assert site.restore(backup).replicas == ("standby",)


def test_a_restored_key_takes_the_place_of_one_whose_token_is_lost_for_good(site: Site) -> None:
    refusal(lambda: site.restore(replaces=True), 409, "token-not-lost")
    spki = site.key.public_key
    site.vault.close()
    # The token is gone: what is left of it are its bytes in the backup.
    with site.world.vault(tokens=["standby"]) as vault:
        left = replace(site, vault=vault)
        for _ in range(2):
            own = left.restore(replaces=True)
            assert (own.token, own.replicas, own.backup, own.unusable) == ("standby", (), False, None)
        made = x509.load_der_x509_crl(vault.sign_crl(CA, "recoverable", crl(vault, 1, key="recoverable")).signed)
        public = public_key(spki)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(made.signature, made.tbs_certlist_bytes, ec.ECDSA(hashes.SHA384()))
    with site.world.vault() as vault:  # the old token turns up: what is in it is nobody's key
        assert [place.label for place in vault.key("recoverable").places] == ["standby"]
        vault.check_keys()
        assert vault._custody.faults()[Fault.UNKNOWN] == 1
        refusal(lambda: replace(site, vault=vault).back_up(), 409, "key-not-backed-up")


def test_a_key_that_cannot_leave_is_not_backed_up(site: Site) -> None:
    refusal(lambda: site.back_up("merchant-ca"), 409, "key-misused")


def test_a_recipient_that_nobody_attests_gets_no_backup(site: Site) -> None:
    other = _spki(site, "other-recipient")
    refusal(lambda: site.back_up(recipient=other), 422, "bad-attestation")
    refusal(lambda: site.back_up(attestation=site.backup), 422, "bad-statement")
    of_copyable = site.vault.attest_key(CEREMONY, "recoverable").signed
    refusal(lambda: site.back_up(recipient=site.key.public_key, attestation=of_copyable), 422, "bad-attestation")


def test_a_backup_needs_the_security_officer(site: Site) -> None:
    pin = so_pin_file(site.world.home, "ca")
    pin.rename(pin.with_suffix(".away"))
    refusal(site.back_up, 503, "token-not-found")
    pin.write_bytes(b"00000000")
    pin.chmod(0o600)
    with pytest.raises(Problem) as caught:
        site.back_up()
    assert caught.value.type == TokenUnavailable.slug
    assert "00000000" not in str(caught.value)


def test_a_process_killed_before_the_token_took_the_key_in_leaves_a_replica_that_is_missing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hsm_service.tokens.Token.restore_pair", killed)
        with pytest.raises(KeyboardInterrupt):
            site.restore()
    site.vault.close()
    with site.world.vault() as vault:
        assert vault.key("recoverable").use()[0].label == "ca"
        again = replace(site, vault=vault)
        assert again.restore().replicas == ("standby",)
        assert all(place.fault is None for place in vault.key("recoverable").places)


def test_what_is_on_the_disk_holds_no_key(site: Site) -> None:
    assert site.backup.count(b"PRIVATE") == 0
    loaded = site.content()
    assert len(loaded.encrypted_key) == 384
    assert loaded.at == NOW
