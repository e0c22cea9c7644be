"""Everything that is done to a hierarchy after its founding: each kind of ceremony, from its ready-made file."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import _ceremony_certificates
from ca.ceremony import founding_ceremony, load_act, plan, ready_made, verify
from ca.ceremony.archive import export, unpacked
from ca.errors import CeremonyAbortedError, CeremonyError, KeysExistError, PlanError
from ca.hierarchy import load_hierarchy
from pki.extensions import HashedRootKey
from pki.keys import spki_sha256
from pki.rollover import check_next_root
from tests.support.ceremonies import PUBLICATION, Rooms, act, found, request
from tests.support.judges import certtool, openssl
from tests.support.pki_factory import p256


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rooms]:
    rooms = Rooms.software()
    folder = tmp_path_factory.mktemp("founded") / "pki"
    found(folder, rooms)
    return folder, rooms


class World:
    """A founded hierarchy of its own, with its tokens; time can pass in it."""

    def __init__(self, folder: Path, rooms: Rooms) -> None:
        self.folder, self.rooms, self.offset = folder, rooms, timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def plan(self, name: str, **changes: Any) -> Any:
        document = {**yaml.safe_load(ready_made()[name].read_text(encoding="utf-8")), **changes}
        inputs = document.pop("inputs", {})
        return act(self.folder, document, inputs, now=self.now())

    def run(self, name: str, **changes: Any) -> Any:
        for room in (self.rooms.service, self.rooms.root):
            room.clock = self.now  # type: ignore[attr-defined]  # keys in memory have a clock
        self.rooms.opened.clear()
        done = found(self.folder, self.rooms, self.plan(name, **changes), clock=self.now)
        self.offset += timedelta(seconds=2)
        return done

    def verify(self) -> Any:
        return verify(self.folder, now=self.now())

    def findings(self, name: str, **changes: Any) -> list[str]:
        with pytest.raises(PlanError) as refused:
            self.plan(name, **changes)
        return [finding.code for finding in refused.value.findings]


@pytest.fixture
def world(founded: tuple[Path, Rooms], tmp_path: Path) -> World:
    folder, rooms = founded
    shutil.copytree(folder, tmp_path / "pki")
    copies = Rooms(*(each.copy() for each in (rooms.service, rooms.root)))  # type: ignore[attr-defined]
    return World(tmp_path / "pki", copies)


def test_every_ready_made_file_is_a_ceremony_of_another_name() -> None:
    acts = {name: load_act(entry.read_bytes()) for name, entry in ready_made().items()}

    assert len({each.ceremony.id for each in acts.values()}) == len(acts)
    assert {each.ceremony.kind for each in acts.values()} == {
        "founding", "root", "sub-ca", "key", "crl", "rollover", "restore", "destroy",
    }  # fmt: skip
    assert acts["kwbp"] == founding_ceremony()


def test_ceremonies_follow_each_other_and_all_of_them_verify(world: World, tmp_path: Path) -> None:
    names = (
        "sub-ca-geopolitical", "sub-ca-merchant", "key-ocsp-brand", "key-tsa", "key-backup-recipient", "root-crl",
        "rollover", "destroy",
    )  # fmt: skip
    opened = []
    for name in names:
        world.run(name)
        opened.append(world.rooms.opened.copy())
    world.offset += timedelta(days=31)
    world.run("destroyed")

    assert opened == [["service"]] * 5 + [["root"], ["root"], ["service"]]
    world.offset -= timedelta(days=31)  # what services renew every day is not renewed here
    verified = world.verify()
    assert (verified.keys, verified.certificates, verified.crls) == (29, 37, 11)
    assert len(verified.ceremonies) == 10
    count = export(world.folder, tmp_path / "archive.tar.gz")
    with unpacked(tmp_path / "archive.tar.gz") as folder:
        assert verify(folder, now=world.now()) == verified
        assert sum(path.is_file() for path in folder.rglob("*")) == count
    assert not folder.exists()


# --- a root alone, and authorities below it one by one


def test_a_root_alone_is_founded_and_a_brand_below_it_later(tmp_path: Path) -> None:
    rooms = Rooms.software()
    made = plan(load_act(ready_made()["root"].read_bytes()), {}, PUBLICATION)
    found(tmp_path / "pki", rooms, made)
    world = World(tmp_path / "pki", rooms)
    brand = {"name": "brand", "template": "brand-ca", "common_name": "KWBP Brand CA"}

    world.run("sub-ca-merchant", authorities=[brand])

    assert rooms.opened == ["service", "root", "service"]
    hierarchy = load_hierarchy(tmp_path / "pki")
    assert hierarchy.parent(hierarchy["brand"]) is hierarchy.root
    assert world.verify().certificates == 2


# --- the root's list


def test_a_revoked_brand_stays_revoked_on_every_later_list(world: World) -> None:
    brand = load_hierarchy(world.folder)["brand"].certificate
    revoke = [{"certificate": "cas/brand", "reason": "cessationOfOperation"}]

    numbers = []
    for each in (revoke, [], []):
        crl = world.run("root-crl", revoke=each).crls["root"]
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        entry = crl.get_revoked_certificate_by_serial_number(brand.serial_number)
        assert entry is not None
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason is x509.ReasonFlags.cessation_of_operation

    assert numbers == sorted(set(numbers))
    root, crl_file = world.folder / "root.pem", world.folder / "crls/root.crl"
    assert b"Cessation Of Operation" in openssl(
        "crl", "-inform", "DER", "-CAfile", root, "-noout", "-text", "-in", crl_file
    )
    assert world.verify().crls == 9


def test_the_root_revokes_only_what_it_certified_and_continues_only_its_own_list(world: World) -> None:
    def revoking(certificate: str) -> list[dict[str, str]]:
        return [{"certificate": certificate, "reason": "superseded"}]

    assert world.findings("root-crl", revoke=revoking("cas/merchant-ca")) == ["not-certified-by-root"]
    assert world.findings("root-crl", revoke=revoking("cas/nobody")) == ["certificate-unknown"]
    (world.folder / "crls" / "root.crl").write_bytes((world.folder / "crls" / "brand.crl").read_bytes())
    assert world.findings("root-crl") == ["root-crl"]


def test_below_a_revoked_authority_nothing_is_certified_any_more(world: World) -> None:
    world.run("root-crl", revoke=[{"certificate": "cas/brand", "reason": "cACompromise"}])

    assert world.findings("sub-ca-merchant") == ["issuer-not-in-force"]
    assert world.findings("key-tsa") == ["issuer-not-in-force"]


# --- authorities


def test_an_authority_is_certified_by_one_that_may_and_its_name_is_its_own(world: World) -> None:
    entry = {"name": "m-2", "profile": "merchant-ca", "template": "issuing-ca", "common_name": "M 2"}

    def findings(**changes: Any) -> list[str]:
        return world.findings("sub-ca-merchant", authorities=[{**entry, **changes}])

    assert findings(issuer="root") == ["issuer-role"]
    assert findings(issuer="nobody") == ["issuer"]
    assert findings(name="merchant-ca") == ["authority-exists"]
    assert findings(common_name="KWBP Merchant CA") == ["name-taken"]
    assert findings(profile="tsa") == ["order"]
    assert findings(profile="root") == ["order"]
    assert findings(template="brand-ca") == ["template"]
    assert findings(template="zone-pin") == ["order"]


def test_chains_of_a_region_lead_to_the_root(world: World) -> None:
    world.run("sub-ca-geopolitical")

    folder = world.folder
    chain = b"".join(
        (folder / each).read_bytes()
        for each in ("cas/merchant-ca-geo.pem", "cas/geopolitical.pem", "cas/brand.pem", "root.pem")
    )
    assert b"Chain verification output: Verified" in certtool("--verify-chain", stdin=chain)
    attached = world.rooms.service.describe_key("merchant-ca-geo").certificate_chain
    assert len(attached) == 3


# --- keys


def test_a_responders_certificate_is_renewed_for_the_same_key_and_the_old_one_kept(world: World) -> None:
    path = world.folder / "keys" / "ocsp-brand.pem"
    old = x509.load_pem_x509_certificate(path.read_bytes())

    world.run("key-ocsp-brand")

    new = x509.load_pem_x509_certificate(path.read_bytes())
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    (kept,) = (world.folder / "replaced").glob("*.pem")
    assert x509.load_pem_x509_certificate(kept.read_bytes()) == old
    assert world.rooms.service.describe_key("ocsp-brand").certificate_chain[0] == new.public_bytes(Encoding.DER)
    assert {new, old} <= set(_ceremony_certificates(world.folder))


def test_what_is_renewed_is_there_and_stays_what_it_was(world: World) -> None:
    entry = {"name": "ocsp-brand", "template": "ocsp-responder", "profile": "ocsp-brand", "common_name": "Other"}

    assert world.findings("key-ocsp-brand", renew=[entry]) == ["subject-changed"]
    assert world.findings("key-ocsp-brand", renew=[{**entry, "name": "ocsp-none"}]) == ["key-unknown"]
    world.run("key-tsa")
    assert world.findings("key-tsa") == ["key-certified"]


def test_a_key_in_the_token_that_is_not_the_certified_one_is_not_renewed(world: World) -> None:
    service = world.rooms.service
    service.take_back_key("ocsp-brand")
    service.generate_key("ocsp-brand", "ocsp-responder")

    with pytest.raises(CeremonyAbortedError) as aborted:
        world.run("key-ocsp-brand")

    assert "another than announced" in str(aborted.value.__cause__)


def test_bare_keys_are_key_pairs_without_certificate(world: World) -> None:
    assert world.findings("key-backup-recipient", bare=[{"name": "x", "template": "tsa"}]) == ["order"]
    assert world.findings("key-backup-recipient", bare=[{"name": "x", "template": "raw-ec"}]) == ["order"]
    assert world.findings("key-backup-recipient", bare=[{"name": "x", "template": "gateway-vault"}]) == ["order"]
    world.run("key-backup-recipient", bare=[{"name": "x", "template": "raw-ec", "owner": "bench"}])
    assert world.rooms.service.describe_key("x").owner == "bench"


# --- the next root


def test_the_next_root_is_the_one_that_the_root_named_and_names_the_next(world: World) -> None:
    root = load_hierarchy(world.folder).root.certificate
    named = HashedRootKey.from_certificate(root)
    assert named is not None

    world.run("rollover")

    following = x509.load_der_x509_certificate((world.folder / "roots" / "root-2.cer").read_bytes())
    assert spki_sha256(following.public_key()) == named.digest
    check_next_root(root, following, now=world.now())
    world.run(
        "rollover",
        root={"name": "root-3", "profile": "root", "template": "root-ca", "common_name": "KWBP Root CA 3"},
        next_root={"name": "root-4", "template": "root-ca"},
    )
    third = x509.load_der_x509_certificate((world.folder / "roots" / "root-3.cer").read_bytes())
    check_next_root(following, third, now=world.now())
    assert load_hierarchy(world.folder).root.certificate == root
    assert world.verify().certificates == 33
    assert world.findings("rollover") == ["root-exists", "name-taken"]


def test_another_key_than_the_one_that_was_named_becomes_no_root(world: World) -> None:
    world.rooms.root.take_back_key("root-2")
    world.rooms.root.generate_key("root-2", "root-ca")

    with pytest.raises(CeremonyAbortedError) as aborted:
        world.run("rollover")

    assert aborted.value.step == "find roots/root-2"
    assert "another than announced" in str(aborted.value.__cause__)


# --- the end of a key


def test_a_key_that_is_not_gone_is_not_attested_gone(world: World) -> None:
    world.run("key-tsa")
    world.run("destroy")

    with pytest.raises(CeremonyAbortedError) as aborted:
        world.run("destroyed")

    assert "DESTROY_SCHEDULED, not gone" in str(aborted.value.__cause__)


def test_only_a_version_that_is_there_is_ended(world: World) -> None:
    for keys in (
        [{"name": "nobody", "template": "timestamp-authority"}],
        [{"name": "tsa", "template": "timestamp-authority", "version": 2}],
        [{"name": "tsa", "template": "ocsp-responder"}],
    ):
        with pytest.raises(CeremonyAbortedError):
            world.run("destroy", keys=keys)
        (world.folder.with_name("ceremony") / "journal.jsonl").unlink()


# --- what no ceremony does


def test_an_act_needs_a_hierarchy_and_a_founding_needs_none(world: World) -> None:
    with pytest.raises(CeremonyError, match="was founded"):
        plan(load_act(ready_made()["root-crl"].read_bytes()), {}, PUBLICATION)
    with pytest.raises(CeremonyError, match="never replaces"):
        act(world.folder, ready_made()["root"].read_text(encoding="utf-8"))


def test_a_backup_that_is_not_there_and_files_that_nobody_asked_for_are_found(world: World) -> None:
    assert world.findings("restore") == ["backup-missing"]
    assert world.findings("root-crl", inputs={"service/spy": request(p256())}) == ["input-unknown"]


def test_a_clock_before_the_root_is_found(world: World) -> None:
    world.offset = -timedelta(days=1)
    assert world.findings("root-crl") == ["clock"]
    assert "clock" in world.findings("key-tsa")


def test_a_key_of_that_name_stops_the_ceremony_before_anything_is_touched(world: World) -> None:
    world.rooms.service.generate_key("tsa-2", "timestamp-authority")
    with pytest.raises(KeysExistError, match="tsa-2"):
        world.run("key-tsa")
    assert not (world.folder / "transcripts").exists()


def test_what_another_ceremony_published_meanwhile_is_not_written_over(world: World) -> None:
    early = world.plan("root-crl")
    world.run("key-tsa")
    world.rooms.opened.clear()
    with pytest.raises(CeremonyError, match="another ceremony"):
        found(world.folder, world.rooms, early, clock=world.now)
    assert world.rooms.opened == []


# --- archives


@pytest.mark.parametrize("name", ["../escape", "/etc/kwbp", "a/../../b"])
def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))

    with pytest.raises(CeremonyError, match="plain file"), unpacked(tmp_path / "bad.tar.gz"):
        pass


def test_garbage_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8bgarbage")
    with pytest.raises(CeremonyError, match="not an archive"), unpacked(tmp_path / "bad.tar.gz"):
        pass


# --- every field of every file, wrong once

WRONG: dict[str, Any] = {
    "id": "Not A Name",
    "kind": "wedding",
    "version": 0,
    "section": "section six",
    "organisation": "KWBP\u202eCA",
    "country": "Iran",
    "name": "../escape",
    "template": "NO SUCH",
    "profile": "NO SUCH",
    "issuer": "NO SUCH",
    "common_name": "",
    "identity": 7,
    "certificate": "../../etc/passwd",
    "reason": "boredom",
    "key": "../escape",
    "backup": "../escape",
    "recipient": "a b",
    "token_is_lost": "perhaps",
    "act": "forget",
    "wait": "PT1S",
    "person": "A B",
    "hosts": ["bücher.example"],
    "roles": ["auditor"],
    "owner": "a b",
}


def fields_of(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field that holds a value."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        if isinstance(value, dict | list) and value and key not in {"hosts", "roles"}:
            yield from fields_of(value, (*path, key))
        else:
            yield (*path, key)


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of `document` with another value at `path`."""
    if not path:
        return value
    copied = dict(document) if isinstance(document, dict) else list(document)
    copied[path[0]] = put(document[path[0]], path[1:], value)
    return copied


@pytest.mark.parametrize("name", ready_made())
def test_every_field_of_a_file_is_refused_if_it_is_wrong_missing_or_unknown(name: str) -> None:
    document = yaml.safe_load(ready_made()[name].read_text(encoding="utf-8"))
    for path in fields_of(document):
        for value in (wrong_at(path), {"nothing": ["like", "it"]}):
            with pytest.raises(CeremonyError, match="ceremony"):
                load_act(yaml.safe_dump(put(document, path, value)))
        with pytest.raises(CeremonyError):
            load_act(yaml.safe_dump(put(document, path[:-1], {**_at(document, path[:-1]), "colour": "blue"})))
    with pytest.raises(CeremonyError, match=r"ceremony\.kind"):
        load_act(yaml.safe_dump({each: value for each, value in document.items() if each != "ceremony"}))


def wrong_at(path: tuple[Any, ...]) -> Any:
    """A value that the field does not take; a person's name is any text but none."""
    return "" if path[0] == "officers" and path[-1] == "name" else WRONG.get(str(path[-1]), {"no": "such"})


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document if isinstance(document, dict) else {}


@pytest.mark.parametrize("kind", ["founding", "root", "sub-ca", "key", "crl", "rollover", "restore", "destroy"])
def test_a_ceremony_of_one_kind_is_not_taken_for_another(kind: str) -> None:
    for entry in ready_made().values():
        document = yaml.safe_load(entry.read_text(encoding="utf-8"))
        # A root and the next one are written alike; which of them it is decides whether there is a hierarchy already.
        if document["ceremony"]["kind"] != kind and {document["ceremony"]["kind"], kind} != {"root", "rollover"}:
            with pytest.raises(CeremonyError):
                load_act(yaml.safe_dump(put(document, ("ceremony", "kind"), kind)))


def test_a_backup_that_no_service_of_ours_signed_is_found_before_a_token_is_touched(world: World) -> None:
    inputs = {"backup/merchant-ca-2.backup": b"0\x03\x02\x01\x00"}
    assert world.findings("restore", inputs=inputs) == ["backup"]
