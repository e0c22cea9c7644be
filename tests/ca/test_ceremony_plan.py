"""Planning a ceremony touches nothing and finds everything that is wrong, all at once."""

from __future__ import annotations

import base64
from importlib.resources import files
from itertools import groupby

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from ca.ceremony import OfficerEntry, ServiceEntry, founding_ceremony, load_ceremony, plan
from ca.errors import CeremonyError, PlanError
from tests.support.ceremonies import PUBLICATION, holders, planned, request
from tests.support.pki_factory import p256

TEXT = files("ca").joinpath("ceremonies", "kwbp.yaml").read_text(encoding="utf-8")


def changed(**fields: object) -> str:
    return yaml.safe_dump({**yaml.safe_load(TEXT), **fields})


def requests_but(**replaced: bytes | None) -> dict[str, bytes]:
    """Sound requests for the founding ceremony, but for those given by `service_hsm=…`; None leaves one out."""
    sound = {title: request(key) for title, key in holders(founding_ceremony()).items()}
    for title, value in replaced.items():
        sound[title.replace("_", "/", 1).replace("_", "-")] = value or b""
    return {title: value for title, value in sound.items() if value}


def findings(requests: dict[str, bytes], text: str = TEXT) -> list[str]:
    with pytest.raises(PlanError) as refusal:
        plan(load_ceremony(text), requests, PUBLICATION)
    return [finding.code for finding in refusal.value.findings]


def test_rooms_follow_each_other_and_the_root_is_opened_once() -> None:
    rooms = [room for room, _steps in groupby(planned().steps, key=lambda step: step.room)]

    assert rooms == ["service", "root", "service", "none"]


def test_the_root_room_does_nothing_but_the_roots_work() -> None:
    in_root_room = [str(step) for step in planned().steps if step.room == "root"]

    assert in_root_room == ["key root", "key root-2", "certificate root", "certificate cas/brand", "crl root"]


def test_publishing_is_the_last_step() -> None:
    assert str(planned().steps[-1]) == "publish hierarchy"


def test_a_plan_has_a_digest_of_all_that_goes_in() -> None:
    keys = holders(founding_ceremony())
    requests = {title: request(key) for title, key in keys.items()}

    def digest(**changes: bytes) -> str:
        return plan(founding_ceremony(), {**requests, **changes}, PUBLICATION).digest

    assert digest() == digest()
    assert digest(**{"service/hsm": request(p256())}) != digest()


def test_a_missing_request_is_found() -> None:
    assert findings(requests_but(service_hsm=None)) == ["request-missing"]


def test_a_request_nobody_asked_for_is_found() -> None:
    assert findings(requests_but(service_spy=request(p256()))) == ["request-unknown"]


def test_a_request_that_is_not_one_is_found() -> None:
    assert findings(requests_but(service_hsm=b"-----BEGIN NONSENSE-----")) == ["request"]


def test_a_request_whose_holder_does_not_have_the_key_is_found() -> None:
    honest = bytearray(base64.b64decode(b"".join(request(p256()).splitlines()[1:-1])))
    honest[-1] ^= 1

    assert findings(requests_but(service_hsm=bytes(honest))) == ["request"]


def test_a_weak_key_is_found() -> None:
    assert findings(requests_but(service_hsm=request(rsa.generate_private_key(65537, 2048)))) == ["request"]


def test_two_holders_with_one_key_are_found() -> None:
    shared = request(p256())
    assert findings(requests_but(service_hsm=shared, service_ca=shared)) == ["key-reused"]


def test_one_security_officer_is_not_enough() -> None:
    officers = yaml.safe_load(TEXT)["officers"][:1]
    requests = requests_but(officer_security_officer_2=None)

    assert findings(requests, changed(officers=officers)) == ["two-persons"]


def test_an_authority_before_its_issuer_is_found() -> None:
    authorities = yaml.safe_load(TEXT)["authorities"]

    assert findings(requests_but(), changed(authorities=authorities[::-1])) == ["issuer"] * 4


def test_an_authority_without_a_profile_is_found() -> None:
    authorities = yaml.safe_load(TEXT)["authorities"]
    authorities.append({"name": "geo-ca", "template": "issuing-ca", "common_name": "Geo CA"})

    assert findings(requests_but(), changed(authorities=authorities)) == ["order"]


def test_a_leaf_profile_makes_no_authority_and_only_the_root_signs_itself() -> None:
    authorities = yaml.safe_load(TEXT)["authorities"]
    authorities.append({"name": "officer", "template": "issuing-ca", "common_name": "Officer"})

    assert findings(requests_but(), changed(authorities=authorities)) == ["order"]
    root = {"name": "brand", "template": "root-ca", "common_name": "Brand"}
    assert "order" in findings(requests_but(), changed(root=root, authorities=authorities[1:-1]))


def test_a_system_key_speaks_for_a_service() -> None:
    keys = yaml.safe_load(TEXT)["system_keys"]
    keys[0]["identity"] = "urn:kwbp:merchant:M-1"

    assert findings(requests_but(), changed(system_keys=keys)) == ["identity"]


def test_a_signing_service_has_no_hosts() -> None:
    services = yaml.safe_load(TEXT)["services"]
    services[-1]["hosts"] = ["localhost"]

    assert findings(requests_but(), changed(services=services)) == ["hosts"]


def test_all_faults_are_found_at_once_not_one_a_run() -> None:
    bad = requests_but(service_hsm=b"x", service_ca=None, officer_security_officer_1=b"y")
    assert findings(bad) == ["request", "request-missing", "request"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("extra_forbidden|Extra inputs", changed(colour="blue")),
        ("named twice", changed(services=[{"name": "hsm"}, {"name": "hsm"}])),
        ("named twice", changed(system_keys=[{"name": "brand", "template": "x", "identity": "y", "common_name": "z"}])),
        ("country", changed(country="Iran")),
        ("roles", changed(officers=[{"person": "o", "name": "O", "organisation": "K", "roles": ["auditor"]}])),
        ("not YAML", "ceremony: ["),
        ("not YAML", b"\xff"),
        ("a key stands twice", TEXT + "\norganisation: Somebody Else\n"),
        ("an alias", TEXT.replace("organisation: KWBP\n", "organisation: &o KWBP\n", 1) + "\ncolour: *o\n"),
        ("a tag", TEXT.replace("version: 1", "version: !!int ''")),
        ("levels", "[" * 5000),
        ("organisation", changed(organisation="KWBP\u202eCA")),
        ("hosts", changed(services=[{"name": "hsm", "hosts": ["bücher.example"]}])),
    ],
)
def test_a_ceremony_file_with_one_thing_wrong_is_refused(wrong: str, text: str | bytes) -> None:
    with pytest.raises(CeremonyError, match=wrong):
        load_ceremony(text)


def test_services_and_officers_of_an_installation_can_be_added() -> None:
    bank = ServiceEntry(name="issuer-621986", profile="service-signing")
    people = [
        OfficerEntry(person=f"s-{n}", name=f"Security Officer {n}", organisation="Bank", roles=("security_officer",))
        for n in (1, 2)
    ]
    ceremony = founding_ceremony().with_services([bank]).with_officers(people)

    assert "services/issuer-621986" in planned(ceremony).orders
    assert ceremony.requests[-3:] == ("service/issuer-621986", "officer/s-1", "officer/s-2")
    with pytest.raises(CeremonyError, match="named twice"):
        ceremony.with_services([bank])
