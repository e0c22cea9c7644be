"""`kwbp cps sign|publish|list|replay` in an installation with officers and a time-stamp authority over HTTP."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner, Result

from ca.timestamp_client import TimestampClient
from ca.tsa import Numbers, read_request, tst_info
from ca.tsa_service import REPLY_TYPE
from cli.main import build
from cps.model import load_pack
from cps.packs import published_text_files
from pki.oids import CT_TST_INFO
from pki.timestamp import grant
from runtime.server import start
from runtime.settings import Home
from statements.files import install, names_in
from statements.published import PublishedStatements
from tests.support.ca_world import write_hierarchy
from tests.support.cps_cases import Office
from tests.support.pki_factory import Credential, PkiFactory, pem
from tests.support.publications import Press, grandfathering, pack_text

PASSPHRASE = b"correct horse battery"
NAME = "kwbp-cps-1.1.0"
HOUR = timedelta(hours=1)


@dataclass
class Machine:
    """An installation's home, its officers, and the commands run in it."""

    home: Home
    office: Office
    drafts: Path
    secret: Path
    asked: list[bytes]

    def run(self, *arguments: str, person: str | None = None) -> Result:
        who = ("--as", person, "--passphrase-file", str(self.secret)) if person else ()
        return CliRunner().invoke(build(["cps"]), ["--home", str(self.home.path), "--json", "cps", *arguments, *who])

    def said(self, *arguments: str, person: str | None = None) -> Any:
        result = self.run(*arguments, person=person)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def refused(self, *arguments: str, person: str | None = None) -> str:
        result = self.run(*arguments, person=person)
        assert result.exit_code == 1, result.output
        return str(json.loads(result.stdout)["error"])

    def draft(self, version: str = "1.1.0", *, after: timedelta = HOUR, **options: Any) -> str:
        """A draft of a later version, with the texts of the version before it."""
        path = self.drafts / f"{version}.yaml"
        path.write_text(pack_text(version, effective=datetime.now(UTC) + after, **options), encoding="utf-8")
        return str(path)

    def published(self) -> list[str]:
        return names_in(self.home.cps)

    def write_lists(self) -> None:
        pki = self.office.pki
        for authority in pki.authorities:
            crl = authority.crl(pki.now).public_bytes(Encoding.DER)
            (self.home.pki / "crls" / f"{authority.role}.crl").write_bytes(crl)


def _officer(home: Home, person: str, credential: Credential) -> None:
    folder = home.path / "officers"
    folder.mkdir(exist_ok=True)
    (folder / f"{person}.pem").write_bytes(pem(credential.certificate, *credential.chain))
    key = folder / f"{person}.key"
    key.touch(mode=0o600)
    key.write_bytes(
        credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    )


def _authority(office: Office, asked: list[bytes]) -> Starlette:
    """A time-stamp authority of this hierarchy."""
    tsa, numbers = Press(office).tsa, Numbers(os.urandom)

    async def stamp(request: Request) -> Response:
        query = await request.body()
        asked.append(query)
        when = datetime.now(UTC).replace(microsecond=0)
        content = tst_info(
            read_request(query), moment=when, serial=numbers.next(when), authority=tsa.certificate.subject
        )
        return Response(grant(tsa.sign(CT_TST_INFO, content, signing_time=when)), media_type=REPLY_TYPE)

    return Starlette(routes=[Route("/tsa", stamp, methods=["POST"])])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    office = Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    home = Home(tmp_path / "home")
    home.create()
    write_hierarchy(office.pki, home.pki)
    _officer(home, "so-1", office.security)
    _officer(home, "so-2", office.security_2)
    _officer(home, "vo-1", office.vetter)
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(PASSPHRASE)
    drafts, asked = tmp_path / "drafts", list[bytes]()
    drafts.mkdir()
    made = Machine(home, office, drafts, secret, asked)
    made.write_lists()
    with start(_authority(office, asked), tls=None, client_certificate="none") as url:
        at = urlsplit(url)
        home.config.write_text(f'[repository]\nhost = "{at.hostname}"\nport = {at.port}\ntls = false\n')
        yield made


def test_two_security_officers_sign_and_the_version_is_published(machine: Machine) -> None:
    draft = machine.draft(changes={"approving_officer, count: 2": "approving_officer, count: 3"})
    first = machine.said("sign", draft, person="so-1")
    assert (first["pack"], first["signed_by"], first["missing"]) == (NAME, ["officer-5"], 1)
    assert "misses 1 signatures" in machine.refused("publish", draft)
    assert machine.said("sign", draft, person="so-2")["missing"] == 0
    assert machine.said("publish", draft)["versions"] == ["kwbp-cps-1.0.0", NAME]
    assert machine.published() == [NAME]
    assert len(machine.asked) == 1

    listed = machine.said("list")
    old, new = listed["versions"]
    assert (old["state"], new["state"], new["published_by"]) == ("in force", "published", ["officer-5", "officer-6"])
    assert (new["sha256"], listed["faults"]) == (load_pack(Path(draft).read_bytes()).digest.hex(), [])

    assert machine.said("publish", draft)["versions"] == ["kwbp-cps-1.0.0", NAME], "asked again, nothing changes"
    assert machine.said("check", NAME)["problems"] == []
    changes = {each["path"]: each["new"] for each in machine.said("diff", "kwbp-cps-1.0.0", NAME)["rules"]}
    assert changes["classes.gateway.steps.approve.count"] == "3"
    assert machine.said("check")["pack"] == "kwbp-cps-1.0.0", "the one in force, as long as it is"
    assert "there is no published pack 'kwbp-cps-7.0.0'; there is kwbp-cps-1.0.0, kwbp-cps-1.1.0" in str(
        machine.run("check", "kwbp-cps-7.0.0").exception
    )


def test_a_version_follows_the_one_that_was_published_last(machine: Machine) -> None:
    second = machine.draft(on_supersede=grandfathering(datetime.now(UTC) + 5 * HOUR))
    _texts(machine.drafts / "1.1.0.texts", until=True)
    _texts(machine.drafts / "1.2.0.texts")
    _texts(machine.drafts / "1.0.5.texts")
    third = machine.draft("1.2.0", after=2 * HOUR)
    for draft in (second, third):
        for person in ("so-1", "so-2"):
            machine.said("sign", draft, person=person)
        if draft == second:
            machine.said("publish", draft)
            assert "version 1.0.5 does not come after version 1.1.0" in machine.refused(
                "sign", machine.draft("1.0.5", after=3 * HOUR), person="so-1"
            )
    assert machine.said("publish", third)["versions"] == ["kwbp-cps-1.0.0", NAME, "kwbp-cps-1.2.0"]


def _texts(folder: Path, *, until: bool = False) -> None:
    """Those of the founding version; `until`: of a version that lets open cases be finished."""
    folder.mkdir()
    for name, text in published_text_files().items():
        said = text.replace(b"{cps.on_supersede}", b"{cps.on_supersede.grandfather_until}") if until else text
        (folder / f"{name}.yaml").write_bytes(said)


def test_nobody_else_publishes(machine: Machine) -> None:
    draft = machine.draft()
    machine.said("sign", draft, person="so-1")
    found = machine.said("sign", draft, person="vo-1")
    assert found["missing"] == 1
    assert [each["code"] for each in found["findings"]] == ["PUB-ROLE"]
    assert "CPS 1.5.4 PUB-ROLE" in machine.refused("publish", draft)
    assert (machine.published(), machine.asked) == ([], [])


def test_what_is_edited_after_signing_is_signed_again(machine: Machine) -> None:
    draft = machine.draft()
    for person in ("so-1", "so-2"):
        machine.said("sign", draft, person=person)
    machine.draft(changes={"retention_years: 7": "retention_years: 1"})
    assert "it is about another publication" in machine.refused("publish", draft)
    assert machine.published() == []


def test_a_draft_for_the_past_or_with_a_heading_unanswered_is_not_even_signed(machine: Machine) -> None:
    assert "CPS 9.10.1 PUB-EFFECTIVE" in machine.refused("sign", machine.draft(after=-HOUR), person="so-1")
    texts = machine.drafts / "1.1.0.texts"
    texts.mkdir()
    (texts / "1.yaml").write_text('"1.1": procedural\n', encoding="utf-8")
    assert "CPS 1.5.4 PUB-DOCUMENT" in machine.refused("sign", machine.draft(), person="so-1")


def test_a_draft_without_the_roles_that_approve_operations_on_keys_is_not_even_signed(machine: Machine) -> None:
    draft = machine.draft(changes={"security_officer": "custodian"})
    checked = machine.run("check", draft)
    assert checked.exit_code == 1
    assert {
        "at": "operation destroy",
        "text": "the pack does not have the roles that approve it: security_officer",
    } in (json.loads(checked.stdout)["problems"])
    assert "CPS 1.5.4 PUB-DOCUMENT" in machine.refused("sign", draft, person="so-1")


def test_without_a_time_stamp_nothing_is_published(machine: Machine) -> None:
    draft = machine.draft()
    for person in ("so-1", "so-2"):
        machine.said("sign", draft, person=person)
    machine.home.config.write_text('[repository]\nhost = "127.0.0.1"\nport = 9\ntls = false\n')
    assert "the authority does not answer" in str(machine.run("publish", draft).exception)
    assert machine.published() == []


def test_an_officer_who_was_revoked_meanwhile_published_nothing(machine: Machine) -> None:
    draft = machine.draft()
    for person in ("so-1", "so-2"):
        machine.said("sign", draft, person=person)
    machine.office.pki.revoke(machine.office.security)
    machine.write_lists()
    assert "CPS 5.2.3 DEC-CREDENTIAL" in machine.refused("publish", draft)


@pytest.mark.parametrize("step", ["before the stamp", "pack.yaml", "sync"])
def test_a_publication_that_is_killed_is_finished_when_it_is_asked_for_again(
    machine: Machine, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = machine.draft()
    for person in ("so-1", "so-2"):
        machine.said("sign", draft, person=person)
    _killed(machine, draft, step, monkeypatch)
    assert machine.published() == ([NAME] if step == "sync" else [])
    stamped = len(machine.asked)
    assert machine.said("publish", draft)["versions"] == ["kwbp-cps-1.0.0", NAME]
    assert stamped == (0 if step == "before the stamp" else 1)
    assert len(machine.asked) == 1, "the stamp was kept before it was used"


def _killed(machine: Machine, draft: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kwbp cps publish` in a process of its own that is killed before this step."""

    def kill(*_anything: Any, **_named: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_at(name: str) -> None:
        if name == step:
            kill()

    child = os.fork()
    if child == 0:
        if step == "before the stamp":
            monkeypatch.setattr(TimestampClient, "stamp", kill)
        else:
            monkeypatch.setattr("cli.cps_publishing.install", partial(install, step=kill_at))
        machine.run("publish", draft)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_what_does_not_hold_is_listed(machine: Machine) -> None:
    (machine.home.cps / NAME).mkdir(parents=True)
    listed = machine.said("list")
    assert [each["name"] for each in listed["faults"]] == [NAME]
    assert [each["pack"] for each in listed["versions"]] == ["kwbp-cps-1.0.0"]


def test_replay_tells_which_cases_a_draft_decides_differently(machine: Machine) -> None:
    office = machine.office
    case = office.decided(office.decided(office.merchant_case(), "vet", office.vetter), "approve", office.approver)
    one, lines = machine.drafts / "case.json", machine.drafts / "cases.jsonl"
    one.write_bytes(case.to_json())
    lines.write_bytes(case.to_json() + b"\n" + office.officer_case().to_json() + b"\n")
    draft = machine.draft(changes={"ec: [P-256, P-384]": "ec: [P-384]"})
    found = machine.said("replay", draft, "--dossier", str(one), "--dossier", str(lines))
    assert (found["cases"], found["changed"], found["by_clause"]) == (3, 3, {"CPS 6.1.5 KEY-SIZE": 3})
    difference = found["differences"][0]
    assert difference["was"].startswith("approved until")
    assert difference["becomes"] == "refused"
    assert machine.said("replay", machine.draft("1.1.1"), "--dossier", str(one))["changed"] == 0
    table = CliRunner().invoke(
        build(["cps"]), ["--home", str(machine.home.path), "cps", "replay", draft, "--dossier", str(one)]
    )
    assert "1 of 1 cases would be decided differently." in table.output
    assert "6.1.5" in table.output


def test_a_running_service_takes_in_what_was_published(machine: Machine) -> None:
    service = PublishedStatements(
        machine.home.cps,
        own=machine.home.db / "statements-ca",
        trust=lambda: machine.office.pki.trust(datetime.now(UTC)),
        clock=lambda: datetime.now(UTC),
    )
    assert [pack.cps.version for pack in service().packs] == ["1.0.0"]
    draft = machine.draft()
    for person in ("so-1", "so-2"):
        machine.said("sign", draft, person=person)
    machine.said("publish", draft)
    assert [pack.cps.version for pack in service.refresh().packs] == ["1.0.0", "1.1.0"]
