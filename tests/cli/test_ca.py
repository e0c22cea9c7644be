"""`kwbp ca` against a real certificate authority over mutual TLS: every command, for people and as JSON."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner, Result

from ca.app import create_app
from ca.client import CaClient
from cli import ca_export
from cli.ca_service import service
from cli.main import build
from cli.state import Installation
from runtime.problems import Problem
from runtime.server import start
from runtime.settings import Home
from tests.ca.conftest import new_office
from tests.cli.test_key_approval import PASSPHRASE, TLS, write
from tests.support.ca_world import CaWorld, tls_files
from tests.support.many_cases import merchant_cases
from tests.support.pki_factory import pem


@dataclass
class Site:
    """An installation whose CA is up, with the operator, the RA and three officers on the machine."""

    home: Home
    world: CaWorld
    secret: Path

    def run(self, *arguments: str, person: str | None = None) -> Result:
        who = ("--as", person, "--passphrase-file", str(self.secret)) if person else ()
        return CliRunner().invoke(build(["ca"]), ["--home", str(self.home.path), *arguments, *who])

    def ok(self, *arguments: str, person: str | None = None) -> str:
        result = self.run("ca", *arguments, person=person)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: str, person: str | None = None) -> Any:
        result = self.run("--json", "ca", *arguments, person=person)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ca")
    world = CaWorld(folder, new_office())
    home = Home(folder)  # its pki folder is that of the world
    pki = world.pki
    for name in ("operator", "ra"):
        write(home.tls, name, pki.service(name, replace=TLS))
    for person, role in (("vo", "vetting_officer"), ("so-1", "security_officer"), ("so-2", "security_officer")):
        write(home.path / "officers", person, world.office.officer(person, role, replace=TLS), PASSPHRASE)
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(PASSPHRASE)
    server = tls_files(pki, "service", "ca", folder / "server")
    with start(create_app(world.authority), tls=server, client_certificate="optional") as url:
        home.config.write_text(f'[ca]\nhost = "localhost"\nport = {urlsplit(url).port}\n')
        yield Site(home, world, secret)
    world.close()


_numbers = iter(range(1000, 9000))


@pytest.fixture
def serial(site: Site) -> str:
    """A new merchant's certificate."""
    (case,) = merchant_cases(site.world.office, 1, start=next(_numbers))
    return site.world.authority.issuance.issue(case)["signing"].serial


# -- issue


def test_a_folder_of_dossiers_is_certified_and_may_be_asked_again(site: Site, tmp_path: Path) -> None:
    cases = merchant_cases(site.world.office, 3, start=200)
    folder, out = tmp_path / "cases", tmp_path / "out"
    folder.mkdir()
    (folder / "one.json").write_bytes(cases[0].to_json())
    (folder / "rest.jsonl").write_bytes(b"\n".join(case.to_json() for case in cases[1:]) + b"\n")
    first = site.json("issue", str(folder), "--out", str(out))
    assert [each["case"] for each in first] == ["case-200", "case-201", "case-202"]
    assert site.json("issue", str(folder)) == first
    chain = x509.load_pem_x509_certificates((out / "case-201-signing.pem").read_bytes())
    assert (f"{chain[0].serial_number:x}", len(chain)) == (first[1]["serial"], 3)
    assert "case-202" in site.ok("issue", str(folder / "rest.jsonl"))


def test_one_case_that_fails_keeps_no_other_from_its_certificate(site: Site, tmp_path: Path) -> None:
    good, bad = merchant_cases(site.world.office, 2, start=210)
    undecided = bad.model_copy(update={"decisions": ()})
    (tmp_path / "both.jsonl").write_bytes(undecided.to_json() + b"\n" + good.to_json())
    result = site.run("--json", "ca", "issue", str(tmp_path / "both.jsonl"))
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert "problem" in told[0]
    assert told[1]["purpose"] == "signing"
    (tmp_path / "bad.json").write_bytes(undecided.to_json())
    assert site.run("ca", "issue", str(tmp_path / "bad.json")).exit_code == 1


@pytest.mark.parametrize(("content", "said"), [(b"{}", "holds no dossier"), (b"{}\n{}\n", "line 1 of")])
def test_what_is_no_dossier_is_told_before_anything_is_asked(
    site: Site, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "none.json").write_bytes(content)
    result = site.run("ca", "issue", str(tmp_path / "none.json"))
    assert result.exit_code == 1
    assert said in result.stderr
    for what in ("cases/none.json", "nosuch"):
        assert "there is no file" in site.run("ca", "issue", what).stderr


def test_an_application_is_asked_for_at_the_ra(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no RA runs that is what is told, not a failure of the CA."""
    result = site.run("--json", "ca", "issue", "0" * 32)
    assert result.exit_code == 1
    assert "registration authority does not answer" in result.stdout


# -- status


def test_suspend_release_and_revoke_by_an_officers_own_signature(site: Site, serial: str) -> None:
    held = site.run("ca", "suspend", serial, person="vo")
    assert held.exit_code == 0, held.output
    assert "SUSPEND" in held.stderr, "what is signed is shown before"
    assert "published within 24 hours" in held.stderr
    assert "is held (certificateHold), by order of vo" in held.stdout
    assert [each["serial"] for each in site.json("search", "--status", "held")["certificates"]] == [serial]
    assert "good again" in site.ok("release", serial, person="vo")
    revoked = site.json("revoke", serial, "--reason", "superseded", "--doubted-from", "2026-01-02", person="vo")
    assert (revoked["state"], revoked["crl_scope"]) == ("revoked", "full")
    shown = site.ok("show", serial)
    for part in ("revoked", "held", "released", "shown by", "approved    vet by officer-1", "lints", "ca.issued"):
        assert part in shown
    assert site.json("show", serial)["status"] == "revoked"


def test_a_reason_that_is_none_is_refused_before_anybody_signs(site: Site, serial: str) -> None:
    for reason in ("nonsense", "certificateHold"):
        result = site.run("ca", "revoke", serial, "--reason", reason, person="vo")
        assert result.exit_code == 1
        assert "kwbp ca reasons" in result.stderr


def test_what_the_statement_refuses_is_told_with_its_clause(site: Site, serial: str) -> None:
    result = site.run("ca", "release", serial, person="vo")
    assert isinstance(result.exception, Problem)
    assert result.exception.clause == "CPS 4.9.15"


def test_an_answer_that_does_not_come_leaves_open_whether_the_order_counts(
    site: Site, serial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that hangs: the change is on record before its list is signed."""
    patient = CaClient.__init__

    def impatient(*arguments: Any, **others: Any) -> None:
        patient(*arguments, **{**others, "timeout": 1.0})

    monkeypatch.setattr(CaClient, "__init__", impatient)
    answered = threading.Event()
    publish = site.world.authority.publisher.publish

    def hanging(issuer: str) -> Any:
        answered.wait(30)
        return publish(issuer)

    monkeypatch.setattr(site.world.authority.publisher, "publish", hanging)
    late = site.run("ca", "suspend", serial, person="vo")
    answered.set()
    assert late.exit_code == 1
    assert "may be on record all the same" in late.stderr
    assert f"kwbp ca show {serial}" in late.stderr
    assert site.json("show", serial)["status"] == "held"


def test_a_serial_is_shown_in_one_piece(site: Site, serial: str) -> None:
    assert serial in site.ok("search", "--serial", serial)


def test_reasons_and_deadlines_are_shown(site: Site) -> None:
    shown = site.ok("reasons")
    for part in ("keyCompromise", "certificateHold", "suspends", "releases", "CPS 4.9"):
        assert part in shown
    rules = {each["reason"]: each for each in site.json("reasons")}
    assert rules["keyCompromise"]["denylists_key"] is True
    assert "Nothing waits" in site.ok("deadlines")
    assert site.json("deadlines", "--overdue") == []


# -- which certificate


def test_a_certificate_is_named_by_serial_identity_or_file(site: Site, serial: str, tmp_path: Path) -> None:
    record = site.world.authority.store.certificate("merchant-ca", serial)
    (tmp_path / "leaf.pem").write_bytes(pem(record.certificate))
    assert record.identity is not None
    for name in (serial.upper(), record.identity, str(tmp_path / "leaf.pem")):
        assert site.json("show", name)["certificate"]["serial"] == serial
    unknown = site.run("ca", "show", "ab")
    assert unknown.exit_code == 1
    assert "kwbp ca search" in unknown.stderr


def test_several_of_one_identity_are_listed_and_none_is_taken(site: Site) -> None:
    issued = site.world.authority.issuance.issue(site.world.approved_gateway())
    result = site.run("ca", "show", "urn:kwbp:gateway:GW-1")
    assert result.exit_code == 1
    assert all(record.serial in result.stderr for record in issued.values())
    assert "by its serial number" in result.stderr


# -- search


def test_certificates_are_found_by_every_property(site: Site, serial: str, tmp_path: Path) -> None:
    record = site.world.authority.store.certificate("merchant-ca", serial)
    assert record.identity is not None
    key = record.certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "leaf.pem").write_bytes(pem(record.certificate))
    (tmp_path / "none.pem").write_bytes(b"nothing")
    name = record.certificate.subject.rfc4514_string().split("CN=")[1].split(",")[0]
    for option in (
        ("--serial", serial),
        ("--identity", record.identity),
        ("--subject", name.upper()),
        ("--sha256", record.sha256),
        ("--key", record.spki_sha256.upper()),
        ("--key", str(tmp_path / "key.pem")),
        ("--key", str(tmp_path / "leaf.pem")),
    ):
        assert serial in [each["serial"] for each in site.json("search", *option)["certificates"]], option
    both = site.json("search", "--issuer", "merchant-ca", "--profile", "merchant-signing", "--status", "good")
    assert serial in [each["serial"] for each in both["certificates"]]
    assert site.json("search", "--issuer", "gateway-ca", "--serial", serial)["certificates"] == []
    assert "No certificate" in site.run("ca", "search", "--subject", "nobody-like-this").stderr
    for wrong in (("--status", "lost"), ("--key", "zz"), ("--key", str(tmp_path / "none.pem"))):
        assert site.run("ca", "search", *wrong).exit_code in {1, 2}


def test_who_expires_soon_is_found(site: Site, serial: str) -> None:
    record = site.world.authority.store.certificate("merchant-ca", serial)
    days = (record.not_after - site.world.clock.now).days
    assert site.json("search", "--serial", serial, "--expiring", str(days + 2))["certificates"]
    assert not site.json("search", "--serial", serial, "--expiring", str(days - 2))["certificates"]


def test_pages_follow_each_other(site: Site, serial: str) -> None:
    whole = [each["serial"] for each in site.json("search", "--limit", "1000")["certificates"]]
    page, seen = site.json("search", "--limit", "4"), []
    while True:
        seen += [each["serial"] for each in page["certificates"]]
        if page["next"] is None:
            break
        page = site.json("search", "--limit", "4", "--after", page["next"])
    assert seen == whole
    assert serial in seen
    assert "--after" in site.run("ca", "search", "--limit", "1").stderr


# -- lists


def test_lists_are_shown_issued_and_downloaded(site: Site, tmp_path: Path) -> None:
    before = {each["issuer"]: each for each in site.json("crl")}
    assert {"root", "merchant-ca", "operations-ca"} <= set(before)
    site.world.clock.now = site.world.clock.now.replace(microsecond=0)
    out = site.run("ca", "crl", "--issue", "merchant-ca", "--out", str(tmp_path), "--issuer", "merchant-ca")
    assert out.exit_code == 0, out.output
    (after,) = site.json("crl", "--issuer", "merchant-ca")
    assert after["number"] > before["merchant-ca"]["number"]
    der = (tmp_path / "merchant-ca-full.crl").read_bytes()
    assert hashlib.sha256(der).hexdigest() == after["sha256"]
    for name, status in (("nobody", 404), ("root", 409)):
        result = site.run("ca", "crl", "--issue", name)
        assert isinstance(result.exception, Problem)
        assert result.exception.status == status


# -- export


def test_everything_is_exported_in_every_form(site: Site, serial: str, tmp_path: Path) -> None:
    total = site.world.authority.store.count()
    for form in ca_export.Format:
        told = site.json("export", "--out", str(tmp_path / form.value), "--format", form.value)
        assert told["certificates"] == total
    folder = tmp_path / "folder"
    assert len(list(folder.glob("*/*.pem"))) - len(list(folder.glob("cas/*"))) == total
    assert (folder / "merchant-ca" / f"{serial}.pem").exists()
    assert (folder / "cas" / "root.pem").exists()
    x509.load_der_x509_crl((folder / "crls" / "merchant-ca-full.crl").read_bytes())
    assert len(x509.load_pem_x509_certificates((tmp_path / "pem").read_bytes())) == total
    rows = list(csv.DictReader((tmp_path / "csv").open(encoding="utf-8")))
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text(encoding="utf-8").splitlines()]
    assert [each["serial"] for each in rows] == [each["serial"] for each in lines]
    assert (tmp_path / "der").stat().st_size == sum(len(x.der) for x in site.world.authority.store.iterate())


def test_what_is_searched_for_is_exported_once(site: Site, serial: str, tmp_path: Path) -> None:
    out = tmp_path / "one.pem"
    site.ok("export", "--out", str(out), "--format", "pem", "--serial", serial)
    assert len(x509.load_pem_x509_certificates(out.read_bytes())) == 1
    again = site.run("ca", "export", "--out", str(out), "--format", "pem")
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_an_export_that_breaks_off_leaves_nothing_under_its_name(
    site: Site, serial: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_export, "_bytes", lambda *_arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert site.run("ca", "export", "--out", str(tmp_path / "all.pem"), "--format", "pem").exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_a_spreadsheet_would_compute_is_text(site: Site, serial: str) -> None:
    record = site.world.authority.store.certificate("merchant-ca", serial)
    with service(Installation(site.home)) as client:
        (answer,) = client.search(serial=record.serial)
    rows: list[list[object]] = []
    ca_export._row(answer.model_copy(update={"subject": "=1+1"}), rows.append)
    assert "'=1+1" in rows[0]


# -- self-audit


def test_a_self_audit_is_run_shown_listed_and_kept(site: Site, serial: str, tmp_path: Path) -> None:
    site.world.authority.maintain()
    site.world.clock.forward(timedelta(seconds=1))
    out = tmp_path / "report.json"
    first = site.run("--json", "ca", "self-audit", "--share", "100", "--seed", "AB" * 8, "--out", str(out))
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert told["report"]["seed"] == "ab" * 8
    assert told["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    shown = site.ok("self-audit", "--report", told["sha256"])
    assert "no findings" in shown
    assert "by the key of self-audits" in shown
    verified = site.ok("self-audit", "--verify", str(out))
    assert "by urn:kwbp:service:self-audit: the signature holds" in verified
    out.write_bytes(out.read_bytes() + b" ")
    refused = site.run("ca", "self-audit", "--verify", str(out))
    assert refused.exit_code != 0
    assert "another report" in str(refused.exception)
    out.with_name(f"{out.name}.p7s").unlink()
    assert "there is no file" in site.run("ca", "self-audit", "--verify", str(out)).stderr
    assert told["sha256"][:20] in site.ok("self-audit", "--list")
    assert told["sha256"] in [each["sha256"] for each in site.json("self-audit", "--list")]


def test_a_seed_that_draws_nothing_is_told(site: Site) -> None:
    result = site.run("ca", "self-audit", "--seed", "dice")
    assert result.exit_code == 2
    assert "--seed is not as it must be" in result.stderr
    assert "hexadecimal" in result.stderr


def test_findings_are_shown_and_told_by_the_exit_code(site: Site, serial: str) -> None:
    record = site.world.authority.store.certificate("merchant-ca", serial)
    site.world.authority.maintain()
    site.world.clock.forward(timedelta(seconds=1))
    number = site.world.record._known[str(record.intent_id)].pop("ca.issued")
    try:
        result = site.run("ca", "self-audit", "--share", "100")
        assert result.exit_code == 3
        assert "the journal lacks ca.issued" in result.stdout
        assert serial in result.stdout
    finally:
        site.world.record._known[str(record.intent_id)]["ca.issued"] = number


# -- denied keys


def test_a_key_is_denied_by_two_officers_who_sign_for_themselves(site: Site, tmp_path: Path) -> None:
    digest = "0f" * 32
    orders = [tmp_path / "one.p7s", tmp_path / "two.p7s"]
    for order, person in zip(orders, ("so-1", "vo"), strict=True):
        signed = site.run("ca", "denylist", "sign", digest, "--reason", "leaked", "--out", str(order), person=person)
        assert signed.exit_code == 0, signed.output
        assert "DENY" in signed.stderr
    alone = site.run("ca", "denylist", "add", str(orders[0]))
    assert isinstance(alone.exception, Problem)
    assert alone.exception.clause == "CPS 4.9.12"
    assert "is never certified" in site.ok("denylist", "add", *map(str, orders))
    assert digest[:20] in site.ok("denylist", "list")
    assert digest in [each["spki_sha256"] for each in site.json("denylist", "list")]
    assert "More may follow" in site.run("ca", "denylist", "list", "--limit", "1").stderr


# -- faults


def test_a_ca_that_is_away_is_told_as_such(site: Site, tmp_path: Path) -> None:
    config = site.home.config.read_text()
    try:
        site.home.config.write_text('[ca]\nhost = "localhost"\nport = 1\n')
        for command in (("search",), ("crl",), ("export", "--out", str(tmp_path / "all"))):
            result = site.run("ca", *command)
            assert isinstance(result.exception, Problem), command
            assert result.exception.type == "ca-unreachable"
    finally:
        site.home.config.write_text(config)
