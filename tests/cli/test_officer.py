"""`kwbp officer` before a registration authority in service: appointed, granted, renewed, in a token, leaving."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from cli import enrolment
from cli.main import build
from hsm_service import pkcs11_module
from hsm_service.token_layout import configuration_of, layout, pin_file
from pki.extensions import OfficerData
from ra.app import create_app
from ra.states import State
from runtime.server import start
from runtime.settings import Home
from tests.support.ca_world import tls_files
from tests.support.cps_cases import Office
from tests.support.documents import PDF
from tests.support.pki_factory import Credential, PkiFactory, pem
from tests.support.ra_world import RaWorld, merchant_subject
from tests.support.softhsm import provisioned_home

TLS: dict[str, Any] = {"extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)}
PASSPHRASE = b"correct horse battery"
LABEL = "merchants"


@dataclass
class Site:
    """An installation whose RA is up; two security officers of the ceremony have their keys on the machine."""

    home: Home
    world: RaWorld
    secret: Path

    def run(self, *arguments: str) -> Result:
        if pkcs11_module._module is not None:
            pkcs11_module._module.finalize()  # as the end of the process does
        self.world.clock.now = datetime.now(UTC).replace(microsecond=0)
        return CliRunner().invoke(build([arguments[0]]), ["--home", str(self.home.path), "--json", *arguments])

    def answer(self, *arguments: str) -> Any:
        done = self.run(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    def approved(self, application: str) -> None:
        """Both security officers sign the step that is due."""
        for person in ("so-1", "so-2"):
            self.answer("ra", "approve", "--yes", application, "--as", person, "--passphrase-file", str(self.secret))

    def appointed(self, person: str, *options: str) -> OfficerData:
        """An officer with a key in a file, appointed and with the certificate collected."""
        self.answer("officer", "new-key", person, "--passphrase-file", str(self.secret), "--algorithm", "ec-p256")
        asked = self.answer("officer", "apply", person, "--name", person, "--organisation", "RA", *options)
        self.approved(asked["id"])
        self.answer("officer", "collect", person, asked["id"])
        return self.data(person)

    def certificate(self, person: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.home.path / "officers" / f"{person}.pem").read_bytes())

    def data(self, person: str) -> OfficerData:
        data = OfficerData.from_certificate(self.certificate(person))
        assert data is not None
        return data

    def shown(self, person: str) -> Any:
        return self.answer("officer", "show", person)


def write_officer(folder: Path, person: str, credential: Credential) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{person}.pem").write_bytes(pem(credential.certificate, *credential.chain))
    key = folder / f"{person}.key"
    key.touch(mode=0o600)
    protection = BestAvailableEncryption(PASSPHRASE)
    key.write_bytes(credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("officers")
    home = provisioned_home(folder)
    office = Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    home.trust_anchors.parent.mkdir(parents=True, exist_ok=True)
    home.trust_anchors.write_bytes(pem(office.pki.root.certificate))
    office.pki.service("operator", replace=TLS).write(home.tls, "operator")
    for person in ("so-1", "so-2"):
        credential = office.officer(person, "security_officer", replace=TLS)
        write_officer(home.path / "officers", person, credential)
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(PASSPHRASE)
    world = RaWorld(folder / "ra", office)
    server = tls_files(office.pki, "service", "ra", folder / "tls")
    with start(create_app(world.workflow), tls=server, client_certificate="optional") as url:
        home.config.write_text(f'[ra]\nhost = "localhost"\nport = {urlsplit(url).port}\n')
        yield Site(home, world, secret)
    world.close()
    if pkcs11_module._module is not None:
        pkcs11_module._module.finalize()


# Appointed and granted


def test_an_officer_is_appointed_by_two_and_collects_what_was_granted(site: Site) -> None:
    begins = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    ends = begins + timedelta(days=30)
    granted = f"security_officer={begins:%FT%TZ}..{ends:%FT%TZ}"
    scoped = f"approving_officer/merchant,gateway={ends:%F}..{ends + timedelta(days=9):%F}"
    data = site.appointed("vo-1", "--role", "ca_operator", "--grant", scoped)
    assert data.roles == ("ca_operator",)
    assert [(each.role, each.scope) for each in data.grants] == [("approving_officer", ("merchant", "gateway"))]
    data = site.appointed("vo-2", "--role", "vetting_officer", "--grant", granted, "--national-code", "0499370899")
    assert [(each.role, each.scope, each.not_before) for each in data.grants] == [("security_officer", None, begins)]
    shown = site.shown("vo-2")
    assert (shown["account_open"], shown["identified"]) == (True, True)
    assert shown["roles"] == ["security_officer", "vetting_officer"]
    assert {"vo-1", "vo-2"} <= {each["person_id"] for each in site.answer("officer", "list")}
    application = site.world.store.application(shown["credentials"][0]["application_id"])
    assert application.state is State.ACTIVE, "what is collected is accepted"


def test_people_read_the_register(site: Site) -> None:
    site.appointed("reader", "--role", "auditor")
    for arguments, expected in (
        (("list",), ("reader", "auditor", "open")),
        (("show", "reader"), ("reader", "officer:reader", "counts", "auditor")),
        (("here",), ("reader", "auditor", "file")),
    ):
        done = CliRunner().invoke(build(["officer"]), ["--home", str(site.home.path), "officer", *arguments])
        assert done.exit_code == 0, done.output
        for each in expected:
            assert each in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("apply", "new", "--name", "New", "--role", "auditor"), "new has no key yet"),
        (("apply", "so-1", "--name", "New", "--grant", "auditor"), "is no grant of a role"),
        (("apply", "so-1", "--name", "New", "--grant", "auditor=2027-02-01..2027-01-01"), "is no grant of a role"),
        (("apply", "so-1", "--name", "New", "--grant", "auditor/bank=2027-01-01..2027-02-01"), "is no grant of a role"),
        (("apply", "so-1", "--name", "New"), "no officer who can be appointed"),
        (("new-key", "so-1"), "so-1 has a key on this machine already"),
        (("key", "so-1", "--token", "pkcs11:token=merchants"), "so-1 has a key on this machine already"),
        (("key", "new", "--token", "pkcs11:token=merchants?pin-value=1234"), "pin-value is refused"),
        (("grant", "so-1", "--role", "auditor"), "so-1.next has no key yet"),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_anything_is_done(
    site: Site, arguments: tuple[str, ...], why: str
) -> None:
    before = len(site.world.store.applications())
    done = site.run("officer", *arguments)
    assert done.exit_code == 1
    assert why in done.stderr
    assert "1234" not in done.output
    assert len(site.world.store.applications()) == before


# Another certificate in the place of the one in use


def next_key(site: Site, person: str) -> None:
    made = ("officer", "new-key", person, "--next", "--passphrase-file", str(site.secret), "--algorithm", "ec-p256")
    site.answer(*made)


def test_a_grant_is_another_certificate_with_another_key_and_the_old_one_is_superseded(site: Site) -> None:
    site.appointed("up", "--role", "vetting_officer")
    old = site.certificate("up")
    next_key(site, "up")
    ends = datetime.now(UTC) + timedelta(days=7)
    asked = site.answer("officer", "grant", "up", "--grant", f"security_officer={datetime.now(UTC):%F}..{ends:%F}")
    assert site.certificate("up") == old, "until it is approved and collected nothing changes"
    site.approved(asked["id"])
    site.answer("officer", "collect", "up", asked["id"])
    new = site.certificate("up")
    assert new.public_key() != old.public_key()
    assert (site.data("up").roles, [each.role for each in site.data("up").grants]) == (
        ("vetting_officer",),
        ["security_officer"],
    )
    officers = site.home.path / "officers"
    assert (officers / f"up.{old.serial_number:x}.key").exists(), "the old key is kept"
    assert not list(officers.glob("up.next*"))
    site.answer("officer", "collect", "up", asked["id"])  # again changes nothing
    assert site.certificate("up") == new
    closed = site.answer(
        "officer", "close", "up", "--superseded", "--as", "so-1", "--passphrase-file", str(site.secret)
    )
    assert (closed["revoked"], closed["account_open"]) == ([f"{old.serial_number:x}"], True)

    next_key(site, "up")
    renewed = site.answer("officer", "renew", "up")
    site.approved(renewed["id"])
    site.answer("officer", "collect", "up", renewed["id"])
    assert (site.data("up").roles, site.data("up").grants) == (
        ("vetting_officer",),
        OfficerData.from_certificate(new).grants,  # type: ignore[union-attr]
    )


def test_a_certificate_that_is_anothers_is_not_written_over_mine(site: Site) -> None:
    site.appointed("mine", "--role", "auditor")
    application = site.shown("mine")["credentials"][0]["application_id"]
    site.appointed("yours", "--role", "auditor")
    before = site.certificate("yours")
    done = site.run("officer", "collect", "yours", application)
    assert done.exit_code == 1
    assert "not one of yours" in done.stderr
    assert site.certificate("yours") == before


# In a token


def token_officer(site: Site, person: str, algorithm: str) -> None:
    configuration = configuration_of(site.home, layout().group_of(LABEL))
    pin = pin_file(site.home, LABEL)
    uri = f"pkcs11:token={LABEL}?pin-source=file:{pin}"
    made = ("officer", "key", person, "--token", uri, "--configuration", str(configuration), "--algorithm", algorithm)
    site.answer(*made)
    asked = site.answer("officer", "apply", person, "--name", person, "--role", "vetting_officer")
    site.approved(asked["id"])
    site.answer("officer", "collect", person, asked["id"])


@pytest.mark.parametrize("algorithm", ["rsa-3072", "ec-p256"])
def test_an_officer_whose_key_is_in_a_token_decides(site: Site, algorithm: str) -> None:
    person = f"card-{algorithm}"
    token_officer(site, person, algorithm)
    assert not (site.home.path / "officers" / f"{person}.key").exists()
    application = site.world.open_merchant(merchant_id=f"M-{algorithm}", documents=())
    done = site.answer("ra", "vet", "--yes", application.id, "--as", person)
    assert [(each["step"], each["person"], each["counts"]) for each in done["decisions"]] == [("vet", person, True)]
    held = site.answer("ra", "hold", application.id, "--as", person, "--reason", "asked the bank")
    assert held["state"] == "ON_HOLD"
    assert site.run("officer", "new-key", person, "--passphrase-file", str(site.secret)).exit_code == 1
    again = site.world.open_merchant(merchant_id=f"M-{algorithm}-2", documents=())
    wrong = site.home.path / "wrong-pin"
    wrong.unlink(missing_ok=True)
    wrong.touch(mode=0o600)
    wrong.write_text("00000000")
    refused = site.run("ra", "vet", "--yes", again.id, "--as", person, "--passphrase-file", str(wrong))
    assert "refused the PIN" in f"{refused.exception}"
    assert "00000000" not in refused.output


@pytest.fixture(scope="module")
def carded(site: Site) -> str:
    """A vetting officer with a key in a token, whose PIN stands nowhere on the machine."""
    token_officer(site, "carded", "ec-p256")
    place = site.home.path / "officers" / "carded.token"
    place.write_text(re.sub(r"[?&]pin-source=[^\"&]*", "", place.read_text()))
    return "carded"


def test_an_officer_whose_key_is_in_a_token_does_what_officers_do(
    site: Site, carded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over the operator's connection, as themselves: the token signs each request, the PIN is asked for once."""
    asked: list[str] = []

    def type_in(prompt: str) -> str:
        asked.append(prompt)
        return pin_file(site.home, LABEL).read_text().strip()

    monkeypatch.setattr("getpass.getpass", type_in)
    application = site.world.open_merchant(merchant_id="M-carded", documents=()).id
    contract = tmp_path / "contract.pdf"
    contract.write_bytes(PDF)
    who = ("--as", carded, "--reason", "asked the bank")
    vouched = site.answer(
        "ra", "evidence", "add", application, f"acquirer_agreement={contract}", "--source", "post", "--as", carded
    )
    assert [(each["kind"], each["collected_by"]) for each in vouched["evidence"]] == [("acquirer_agreement", carded)]
    assert site.answer("ra", "hold", application, *who)["state"] == "ON_HOLD"
    assert site.answer("ra", "release", application, *who)["state"] == "VETTING"
    assert site.answer("ra", "return", application, *who)["state"] == "RETURNED"
    passages = site.world.store.transitions(application)
    assert [each.actor for each in passages][-4:] == [f"officer:{carded}"] * 4
    subject = tmp_path / "subject.json"
    subject.write_text(json.dumps(merchant_subject(merchant_id="M-machine")))
    code = site.answer("ra", "est-code", "--subject", str(subject), "--as", carded)
    assert site.world.store.application(code["application"]).opened_by == f"officer:{carded}"
    assert asked == [f"PIN of {carded}'s token: "] * 5, "once a command"


def test_a_suspended_officer_with_a_token_is_nobody_until_reinstated(site: Site, carded: str) -> None:
    pin = ("--passphrase-file", str(pin_file(site.home, LABEL)))
    hold = ("ra", "hold", "--reason", "asked the bank", "--as", carded, *pin)
    application = site.world.open_merchant(merchant_id="M-suspended", documents=())
    serial = f"{site.certificate(carded).serial_number:x}"
    by = ("--as", "so-1", "--passphrase-file", str(site.secret), "--yes")
    site.answer("ra", "suspend", serial, *by)
    refused = site.run(*hold, application.id)
    assert refused.exit_code == 1
    assert "does not count" in refused.stderr
    assert site.world.store.application(application.id) == application
    site.answer("ra", "reinstate", serial, *by)
    assert site.answer(*hold, application.id)["state"] == "ON_HOLD"


def test_a_clock_that_is_wrong_is_what_the_officer_is_told_of(
    site: Site, carded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = site.world.open_merchant(merchant_id="M-clock", documents=())
    monkeypatch.setattr(enrolment, "now", lambda: datetime.now(UTC) - timedelta(hours=1))
    pin = ("--passphrase-file", str(pin_file(site.home, LABEL)))
    done = site.run("ra", "hold", application.id, "--reason", "asked", "--as", carded, *pin)
    assert done.exit_code == 1
    assert "too long before" in done.stderr
    assert "clock of this machine" in done.stderr
    assert site.world.store.application(application.id) == application


def test_a_file_that_does_not_say_where_the_token_is_is_named(site: Site) -> None:
    path = site.home.path / "officers" / "broken.token"
    path.write_text('uri = "pkcs11:token=a"\nelse = 1\n')
    for text, why in ((path.read_text(), "does not say where the key is"), ('uri = "pkcs11:model=a"\n', "held to")):
        path.write_text(text)
        done = site.run("ra", "vet", "--yes", "0" * 32, "--as", "broken")
        assert done.exit_code == 1
        assert why in done.stderr
    path.unlink()


def test_a_token_without_certificate_signs_nothing(site: Site) -> None:
    configuration = configuration_of(site.home, layout().group_of(LABEL))
    uri = f"pkcs11:token={LABEL}?pin-source=file:{pin_file(site.home, LABEL)}"
    site.answer(
        "officer", "key", "blank", "--token", uri, "--configuration", str(configuration), "--algorithm", "ec-p256"
    )
    done = site.run("ra", "vet", "--yes", "0" * 32, "--as", "blank")
    assert done.exit_code == 1
    assert "here or in the token" in done.stderr


# Leaving


def test_who_leaves_is_revoked_and_acts_no_more(site: Site) -> None:
    site.appointed("leaver", "--role", "vetting_officer")
    application = site.world.open_merchant(merchant_id="M-leaver", documents=())
    closed = site.answer("officer", "close", "leaver", "--as", "so-2", "--passphrase-file", str(site.secret))
    assert (len(closed["revoked"]), closed["account_open"]) == (1, False)
    again = site.answer("officer", "close", "leaver", "--as", "so-2", "--passphrase-file", str(site.secret))
    assert again["revoked"] == []
    done = site.run("ra", "vet", "--yes", application.id, "--as", "leaver", "--passphrase-file", str(site.secret))
    assert done.exit_code != 0
    assert "revoked" in f"{done.exception}{done.output}"
    next_key(site, "leaver")
    done = site.run("officer", "renew", "leaver")
    assert done.exit_code == 1
    assert "no credential of leaver counts any more" in done.stderr
