"""What anybody may fetch: CRLs and CA certificates as tools expect them, and a status that says when to look again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from cryptography import x509

from ca.bci_publisher import FILE as BCI_FILE
from ca.repository import create_app
from runtime.client import http_client
from runtime.server import start
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.judges import certtool, openssl


@pytest.fixture
def repository(world: CaWorld) -> Iterator[httpx.Client]:
    with start(create_app(world.folder), tls=None) as url, http_client(None, url) as client:
        yield client


def test_status_names_every_crl_with_number_and_digest(repository: httpx.Client, world: CaWorld) -> None:
    answer = repository.get("/status")

    assert answer.headers["content-type"] == "application/json"
    entries = {entry["issuer"]: entry for entry in answer.json()}
    assert set(entries) == {"root", "brand", "cardholder-ca", "merchant-ca", "gateway-ca", "operations-ca"}
    for issuer, entry in entries.items():
        der = (world.folder / "crls" / f"{issuer}.crl").read_bytes()
        crl = x509.load_der_x509_crl(der)
        assert entry["sha256"] == hashlib.sha256(der).hexdigest()
        assert entry["number"] == crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_crls_and_certificates_are_what_tools_expect(repository: httpx.Client) -> None:
    crl, certificate = repository.get("/crls/merchant-ca.crl"), repository.get("/cas/merchant-ca.cer")

    assert crl.headers["content-type"] == "application/pkix-crl"
    openssl("crl", "-inform", "DER", "-noout", stdin=crl.content)
    certtool("--inder", "--crl-info", stdin=crl.content)
    assert certificate.headers["content-type"] == "application/pkix-cert"
    openssl("x509", "-inform", "DER", "-noout", stdin=certificate.content)
    assert repository.get("/cas/root.cer").status_code == 200


@pytest.mark.parametrize("others", ["", '"other", '])
@pytest.mark.parametrize("path", ["/status", "/crls/brand.crl", "/cas/brand.cer"])
def test_what_did_not_change_is_not_sent_again(repository: httpx.Client, path: str, others: str) -> None:
    tag = repository.get(path).headers["etag"]

    again = repository.get(path, headers={"if-none-match": others + tag})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "no-cache"
    assert repository.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_a_list_that_could_not_be_read_is_looked_at_again(
    repository: httpx.Client, world: CaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ca.repository_crls.crl_outline", _unreadable)
        assert repository.get("/status").status_code == 503
        (world.folder / "crls" / "brand.crl").touch()
    whole = repository.get("/status")
    with monkeypatch.context() as patch:
        patch.setattr("ca.repository_crls.crl_outline", _unreadable)
        (world.folder / "crls" / "brand.crl").touch()
        partly = repository.get("/status")

    again = repository.get("/status", headers={"if-none-match": partly.headers["etag"]})

    assert {each["issuer"] for each in whole.json()} - {each["issuer"] for each in partly.json()} == {"brand"}
    assert (again.status_code, again.content) == (200, whole.content)


def _unreadable(_file: object) -> NoReturn:
    raise OSError("disk I/O error")


def test_a_revocation_changes_the_status_at_once(repository: httpx.Client, world: CaWorld, office: Office) -> None:
    record = world.authority.issuance.issue(world.approved_merchant())["signing"]
    before = repository.get("/status")

    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))

    after = repository.get("/status", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    changed = [new["issuer"] for new, old in zip(after.json(), before.json(), strict=True) if new != old]
    assert changed == ["merchant-ca"]


@pytest.mark.parametrize(
    "path", ["/crls/nobody.crl", "/cas/nobody.cer", "/crls/..%2Froot.crl", "/cas/..%2Fcas%2Fbrand.cer", "/crls/"]
)
def test_nothing_else_is_there(repository: httpx.Client, path: str) -> None:
    answer = repository.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_before_the_first_crl_it_is_not_ready(tmp_path: Path) -> None:
    with start(create_app(tmp_path), tls=None) as url, http_client(None, url) as client:
        assert client.get("/status").status_code == 503
        assert client.get("/health/ready").status_code == 503
        assert client.get("/cas/root.cer").status_code == 404


def test_without_the_list_of_all_lists_it_is_not_ready(repository: httpx.Client, world: CaWorld) -> None:
    assert repository.get("/health/ready").status_code == 200
    (world.folder / BCI_FILE).unlink()

    assert repository.get("/health/ready").status_code == 503
    assert repository.get("/health/live").status_code == 200


def test_it_says_that_it_is_ready(repository: httpx.Client) -> None:
    assert repository.get("/health/ready").status_code == 200


def test_partitions_are_served_like_full_lists(repository: httpx.Client, world: CaWorld) -> None:
    answer = repository.get("/crls/cardholder-ca/partition-2.crl")

    assert answer.content == (world.folder / "crls" / "cardholder-ca" / "partition-2.crl").read_bytes()
    assert b"Issuing Distribution Point" in openssl("crl", "-inform", "DER", "-noout", "-text", stdin=answer.content)
    listed = next(each for each in repository.get("/status").json() if each["issuer"] == "cardholder-ca")["lists"]
    assert set(listed) == {f"partition-{number}" for number in range(4)}
    assert listed["partition-2"]["sha256"] == hashlib.sha256(answer.content).hexdigest()


def test_a_list_says_how_long_it_serves(repository: httpx.Client, world: CaWorld) -> None:
    answer = repository.head("/crls/merchant-ca.crl")
    crl = x509.load_der_x509_crl((world.folder / "crls" / "merchant-ca.crl").read_bytes())

    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == (world.folder / "crls" / "merchant-ca.crl").stat().st_size
    assert parsedate_to_datetime(answer.headers["expires"]) == crl.next_update_utc
    assert parsedate_to_datetime(answer.headers["last-modified"]) == crl.last_update_utc


@pytest.mark.parametrize(
    "path",
    ["/crls/merchant-ca/delta.crl", "/crls/merchant-ca/full.crl", "/crls/nobody/delta.crl", "/crls/..%2F../root.crl"],
)
def test_lists_that_nobody_made_are_not_there(repository: httpx.Client, path: str) -> None:
    assert repository.get(path).status_code == 404


def test_the_list_of_all_lists_is_a_signed_message(repository: httpx.Client) -> None:
    answer = repository.get("/bci")

    assert answer.headers["content-type"] == "application/cms"
    openssl("cms", "-cmsout", "-print", "-inform", "DER", "-noout", stdin=answer.content)
    again = repository.get("/bci", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_that_is_no_list_hides_no_other(repository: httpx.Client, world: CaWorld) -> None:
    (world.folder / "crls" / "root.crl").write_bytes(b"half a list")

    assert "root" not in {each["issuer"] for each in repository.get("/status").json()}
    assert repository.get("/crls/root.crl").status_code == 404
    assert repository.get("/crls/brand.crl").status_code == 200
    assert repository.get("/health/ready").status_code == 200
