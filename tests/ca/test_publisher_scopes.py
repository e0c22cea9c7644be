"""Lists of an authority with many entries: a delta at once, partitions that changed, a full list in time, the BCI."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca.crl_kinds import DELTA, FULL, KEPT
from ca.crl_store import CrlRecord, partition
from ca.errors import SigningRefusedError, StoreError
from ca.repository import create_app
from ca.status_client import StatusCache
from ca.status_store import StatusOrder, StatusState, write_status
from ca.tables import serials
from cps.signatory import statement_of_service
from pki.bci import SIGNER, Bci
from pki.oids import CT_BCI
from runtime.client import http_client
from runtime.problems import Problem
from runtime.server import start
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.software_signing import SoftwareSigning

ISSUER = "cardholder-ca"


@pytest.fixture
def long_lists(world: CaWorld) -> CaWorld:
    """A CA whose cardholder authority goes over to deltas from the third entry on."""
    authorities = dict(world.authority.hierarchy.authorities)
    authority = authorities[ISSUER]
    assert authority.profile.ca is not None
    rule = authority.profile.ca.crl.model_copy(update={"full_up_to": 2})
    profile = authority.profile.model_copy(update={"ca": authority.profile.ca.model_copy(update={"crl": rule})})
    authorities[ISSUER] = dataclasses.replace(authority, profile=profile)
    object.__setattr__(world.authority.hierarchy, "authorities", authorities)
    return world


def change(world: CaWorld, serial: int, state: StatusState = "revoked", reason: str = "keyCompromise") -> None:
    """A change of status on record, not yet published."""
    text = format(serial, "x")
    with world.engine.begin() as db:
        if db.execute(serials.select().where(serials.c.issuer == ISSUER, serials.c.serial == text)).first() is None:
            db.execute(serials.insert().values(issuer=ISSUER, serial=text, reserved_at=world.clock.now))
        order = StatusOrder(
            issuer=ISSUER, serial=text, state=state, reason=reason, at=world.clock.now, ordered_by="service:ca"
        )
        write_status(db, order)


def latest(world: CaWorld, scope: str = FULL) -> CrlRecord:
    found = world.authority.store.crls.latest(ISSUER, scope)
    assert found is not None
    return found


def shown(world: CaWorld, scope: str = FULL) -> x509.CertificateRevocationList:
    name = f"{ISSUER}.crl" if scope == FULL else f"{ISSUER}/{scope}.crl"
    return x509.load_der_x509_crl((world.folder / "crls" / name).read_bytes())


def reasons(crl: x509.CertificateRevocationList) -> dict[int, str]:
    return {
        entry.serial_number: entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        for entry in crl
    }


def test_a_short_list_is_published_whole_with_the_partition_that_changed(world: CaWorld) -> None:
    before = {number: latest(world, partition(number)).number for number in range(4)}
    change(world, 0x1001)
    record = world.authority.publisher.publish(ISSUER)

    assert (record.scope, list(reasons(shown(world)))) == (FULL, [0x1001])
    after = {number: latest(world, partition(number)).number for number in range(4)}
    assert [number for number in before if before[number] != after[number]] == [0x1001 % 4]
    listed = shown(world, partition(1))
    point = listed.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert point.value.full_name is not None
    assert point.value.full_name[0].value == f"http://repository.example/crls/{ISSUER}/partition-1.crl"
    assert list(reasons(listed)) == [0x1001]
    assert world.authority.store.crls.latest(ISSUER, DELTA) is None


def test_a_certificate_names_the_list_of_its_partition(world: CaWorld) -> None:
    record = world.authority.issuance.issue(world.approved_cardholder())["signing"]
    points = record.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name is not None
    number = record.certificate.serial_number % 4
    assert points[0].full_name[0].value == f"http://repository.example/crls/{ISSUER}/partition-{number}.crl"


def test_a_long_list_is_followed_by_deltas(long_lists: CaWorld) -> None:
    world, publish = long_lists, long_lists.authority.publisher.publish
    for serial in (1, 2, 3):
        change(world, serial, "held", "certificateHold")
    assert publish(ISSUER).scope == DELTA  # and a full list before it: the first that deltas may follow
    full = latest(world)
    assert full.entries == 3
    freshest = shown(world).extensions.get_extension_for_class(x509.FreshestCRL).value
    assert freshest[0].full_name is not None
    assert freshest[0].full_name[0].value.endswith(f"/crls/{ISSUER}/delta.crl")
    assert list(shown(world, DELTA)) == []

    change(world, 2, "released", "certificateHold")
    change(world, 4)
    delta = publish(ISSUER)

    assert (delta.scope, delta.base_number, latest(world).number) == (DELTA, full.number, full.number)
    assert reasons(shown(world, DELTA)) == {2: "removeFromCRL", 4: "keyCompromise"}
    base = shown(world, DELTA).extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert (base.critical, base.value.crl_number) == (True, full.number)
    assert world.authority.store.crls.covered(ISSUER) == world.authority.store.status.epoch(ISSUER)

    world.clock.forward(timedelta(hours=24))
    world.authority.maintain()
    assert latest(world).number > delta.number
    assert reasons(shown(world)) == {1: "certificateHold", 3: "certificateHold", 4: "keyCompromise"}


def test_relying_parties_fetch_the_delta_and_believe_it(long_lists: CaWorld) -> None:
    world, hierarchy = long_lists, long_lists.authority.hierarchy
    card = world.authority.issuance.issue(world.approved_cardholder())["signing"].certificate
    for serial in (1, 2, 3):
        change(world, serial)
    world.authority.publisher.publish(ISSUER)
    asked: list[str] = []
    with start(create_app(world.folder), tls=None) as url, http_client(None, url) as client:
        client.event_hooks["request"].append(lambda request: asked.append(request.url.path))
        cache = StatusCache(url, hierarchy.anchors, hierarchy.intermediates, client=client, with_bci=True)
        issuer = hierarchy[ISSUER].certificate
        assert cache.trust(world.clock.now).crls.status(card, issuer, world.clock.now) is None
        asked.clear()
        change(world, card.serial_number)
        world.authority.publisher.publish(ISSUER)
        assert cache.trust(world.clock.now).crls.status(card, issuer, world.clock.now) is not None
        assert asked == ["/status", f"/crls/{ISSUER}/delta.crl", "/bci"]


def test_the_bci_names_all_lists_in_force(world: CaWorld) -> None:
    change(world, 7)
    world.authority.publisher.publish(ISSUER)
    trust, der = world.authority.publisher.trust(), (world.folder / "bci.p7s").read_bytes()
    bci = Bci.from_der(statement_of_service(der, CT_BCI, SIGNER, trust=trust, now=world.clock.now).content)

    named = {(each.issuer, each.scope): each.number for each in bci.lists}
    assert named[ISSUER, FULL] == latest(world).number
    assert len(named) == 10
    world.authority.maintain()
    assert (world.folder / "bci.p7s").read_bytes() == der  # nothing is new
    world.clock.forward(timedelta(hours=13))
    world.authority.maintain()
    assert (world.folder / "bci.p7s").read_bytes() != der  # it ends soon


def test_a_large_list_is_kept_in_parts_and_put_back(world: CaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ca.crl_store.INLINE", 100)
    monkeypatch.setattr("ca.crl_store.PART", 64)
    monkeypatch.setattr("ca.crl_encoder.SMALL", 100)
    change(world, 7)
    world.authority.publisher.publish(ISSUER)
    record, path = latest(world), world.folder / "crls" / f"{ISSUER}.crl"
    content = path.read_bytes()

    assert record.der == b""
    parts = list(world.authority.store.crls.parts(record))
    assert (len(parts) > 1, b"".join(parts)) == (True, content)
    path.unlink()
    world.authority.publisher.load()
    assert path.read_bytes() == content

    assert world.authority.store.crls.forget(world.clock.now + KEPT) == 0
    assert world.authority.store.crls.forget(record.next_update + KEPT + timedelta(seconds=1)) > 0
    with pytest.raises(StoreError, match="not kept any more"):
        list(world.authority.store.crls.parts(record))


def test_whoever_comes_late_shows_the_list_of_the_other(tmp_path: Path, office: Office) -> None:
    class Late:
        """The other replica publishes while this one waits for its signature; then the number is too low."""

        def __init__(self, keys: SoftwareSigning) -> None:
            self.keys = keys

        def __getattr__(self, name: str) -> object:
            return getattr(self.keys, name)

        def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
            if late and name == ISSUER:
                late.clear()
                other.authority.publisher.publish(ISSUER)
                raise Problem(409, "crl-number-not-larger", "too late")
            return self.keys.sign_crl(name, tbs, version)

    late: list[bool] = []
    world = CaWorld(tmp_path, office, signer=Late)  # type: ignore[arg-type]  # the rest is passed on
    other = CaWorld(tmp_path / "other", office, database=f"sqlite:///{tmp_path / 'db' / 'ca.db'}")
    change(world, 5)
    late.append(True)

    record = world.authority.publisher.publish(ISSUER)

    assert record == latest(world)
    assert list(reasons(shown(world))) == [5]
    assert shown(other) == shown(world)
    other.close()
    world.close()


def test_another_refusal_is_no_reason_to_try_again(tmp_path: Path, office: Office) -> None:
    calls: list[str] = []

    class Refusing:
        def __init__(self, keys: SoftwareSigning) -> None:
            self.keys = keys

        def __getattr__(self, name: str) -> object:
            return getattr(self.keys, name)

        def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
            calls.append(name)
            raise Problem(422, "malformed", "no")

    world = CaWorld(tmp_path, office, signer=Refusing, start=False)  # type: ignore[arg-type]
    with pytest.raises(SigningRefusedError):
        world.authority.publisher.publish(ISSUER)
    assert calls == [ISSUER]
    world.close()
