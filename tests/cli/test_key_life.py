"""`kwbp key rotate` and its siblings, from the request to the officers' approvals, on a served installation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from cli.key_life import when
from cli.main import build
from hsm_service.app import create_app
from hsm_service.operation_docket import Approving
from hsm_service.provision import provision_tokens
from hsm_service.vault import Vault
from pki import oids
from pki.roles import Role
from runtime.client import TlsFiles
from runtime.problems import Problem
from runtime.server import start
from runtime.settings import Home
from tests.cli.test_key_approval import PASSPHRASE, TLS, write
from tests.cli.test_main import kwbp
from tests.support.pki_factory import PkiFactory
from tests.support.signing_site import acknowledgement, authority_chain, der, leaf_chain, merchant_chain, public_key

SHOP = "merchant:M-1"
CEREMONY = "ceremony"
ACK = oids.CT_AUTH_ACK.dotted_string


@dataclass
class Site:
    """An installation; its services may be up. `later` moves the service's clock."""

    home: Home
    pki: PkiFactory
    secret: Path
    later: timedelta = timedelta()

    def vault(self) -> Vault:
        return Vault.open(
            self.home,
            ["ca", "merchants", "standby"],
            content_types={ACK: lambda *_arguments: None},
            approving=Approving(self.pki.trust),
            clock=lambda: datetime.now(UTC) + self.later,
        )

    def run(self, *arguments: str, person: str | None = None) -> Result:
        who = ("--as", person, "--passphrase-file", str(self.secret)) if person else ()
        return CliRunner().invoke(build(["key"]), ["--home", str(self.home.path), *arguments, *who])

    def asked(self, *arguments: str) -> str:
        """The request that `kwbp key …` made."""
        made = self.run("--json", "key", *arguments)
        assert made.exit_code == 0, made.output
        (request_id,) = json.loads(made.stdout)["requests"]
        return str(request_id)

    def approved(self, request_id: str) -> None:
        for person in ("so-1", "so-2"):
            last = self.run("key", "approve", request_id, person=person)
            assert last.exit_code == 0, last.output
        assert "DONE" in last.stdout, last.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("life")
    home = Home(folder / "home")
    provision_tokens(home)
    pki = PkiFactory(now=datetime.now(UTC).replace(microsecond=0))
    home.trust_anchors.parent.mkdir(parents=True, exist_ok=True)
    home.trust_anchors.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    for service in ("operator", "hsm"):
        write(home.tls, service, pki.service(service, replace=TLS))
    for person in ("so-1", "so-2"):
        officer = pki.officer(person, organisation="KWBP", roles=("security_officer",), replace=TLS)
        write(home.path / "officers", person, officer, PASSPHRASE)
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(PASSPHRASE)
    site = Site(home, pki, secret)
    with site.vault() as vault:
        ceremony = vault.as_caller(CEREMONY)
        attestation = ceremony.generate_key("attestation", "attestation").public_key
        ceremony.attach_certificate("attestation", der(*leaf_chain(pki, "attestation", public_key(attestation))))
        ceremony.generate_key("backup-recipient", "backup-recipient")
        lasting = ceremony.generate_key("lasting-ca", "issuing-ca-ec-recoverable").public_key
        chain = authority_chain(pki, "lasting-ca", Role.MERCHANT_CA, public_key(lasting))
        ceremony.attach_certificate("lasting-ca", der(*chain))
        shop = ceremony.generate_key("shop", "merchant-signing-ec", owner="M-1").public_key
        ceremony.attach_certificate("shop", der(*merchant_chain(pki, "M-1", public_key(shop))))
    return site


@pytest.fixture
def site(installed: Site) -> Iterator[tuple[Site, Vault]]:
    """The installation with its HSM service up."""
    home = installed.home
    files = TlsFiles(home.tls / "hsm.pem", home.tls / "hsm.key", home.trust_anchors)
    with installed.vault() as vault, start(create_app(vault), tls=files) as url:
        home.config.write_text(f'[hsm]\nhost = "localhost"\nport = {url.rpartition(":")[2]}\n')
        yield installed, vault


def test_a_merchants_key_is_rotated_at_a_set_time_without_restart(site: tuple[Site, Vault]) -> None:
    installed, vault = site

    def sign(version: int | None = None) -> int:
        return vault.sign_cms(SHOP, "shop", ACK, acknowledgement(), version).version

    request_id = installed.asked("rotate", "shop", "--at", "+2h", "--reason", "yearly")
    assert installed.asked("rotate", "shop", "--at", "+3h") != request_id
    shown = installed.run("key", "review", request_id)
    for each in ("ROTATE", "make the next version", "shop", "activates_at", "yearly", "service:operator"):
        assert each in shown.stdout
    installed.approved(request_id)
    assert "waits for certificate" in installed.run("key", "versions", "shop").stdout

    new = vault.describe_key(CEREMONY, "shop", 2).public_key
    vault.attach_certificate(CEREMONY, "shop", der(*merchant_chain(installed.pki, "M-1", public_key(new))))
    assert sign() == 1
    installed.later = timedelta(hours=2, minutes=1)
    try:
        assert sign() == 2
        with pytest.raises(Problem, match="was replaced"):
            sign(1)
        listed = json.loads(installed.run("--json", "key", "versions", "shop").stdout)
        assert [(info["version"], info["in_use"]) for info in listed] == [(1, False), (2, True)]
        assert "retired" in installed.run("key", "versions", "shop").stdout
    finally:
        installed.later = timedelta()


def test_a_version_is_disabled_at_once_and_destroyed_with_approvals_until_which_it_can_be_kept(
    site: tuple[Site, Vault],
) -> None:
    installed, vault = site
    disabled = installed.run("key", "disable", "shop", "1", "--reason", "lost")
    assert (disabled.exit_code, "DISABLED" in disabled.stdout) == (0, True)
    told = installed.run("key", "destroy", "shop", "1", "--at", "+7d").stdout
    assert "kwbp key approve" in told
    assert "security_officer" in told
    installed.approved(installed.asked("destroy", "shop", "1"))
    assert "to be destroyed" in installed.run("key", "versions", "shop").stdout
    installed.approved(installed.asked("keep", "shop", "1"))
    installed.approved(installed.asked("enable", "shop", "1"))
    assert vault.describe_key(SHOP, "shop", 1).state == "ENABLED"


def test_limits_are_approved_and_then_hold(site: tuple[Site, Vault]) -> None:
    installed, vault = site
    arguments = ("limit", "shop", "--version", "1", "--rate", "0.5", "--burst", "3", "--lift", "uses")
    request_id = installed.asked(*arguments, "--not-after", "2100-01-01T00:00Z")
    assert '"rate":0.5' in installed.run("key", "review", request_id).stdout
    installed.approved(request_id)
    limits = vault.describe_key(SHOP, "shop", 1).limits
    assert (limits["rate"], limits["burst"], limits["not_after"]) == (0.5, 3, "2100-01-01T00:00:00Z")
    unknown = installed.run("key", "limit", "shop", "--lift", "speed")
    assert (unknown.exit_code, "there is no limit speed" in unknown.stderr) == (1, True)


def test_a_ca_key_is_backed_up_with_approvals_and_restored_at_a_ceremony(installed: Site, tmp_path: Path) -> None:
    out = tmp_path / "lasting-ca.backup"
    home = installed.home
    files = TlsFiles(home.tls / "hsm.pem", home.tls / "hsm.key", home.trust_anchors)
    with installed.vault() as vault, start(create_app(vault), tls=files) as url:
        home.config.write_text(f'[hsm]\nhost = "localhost"\nport = {url.rpartition(":")[2]}\n')
        statement, pem = tmp_path / "statement", tmp_path / "recipient.pem"
        arguments = ("key", "attest", "backup-recipient", "--out", str(statement), "--public-key", str(pem))
        assert installed.run(*arguments).exit_code == 0
        request_id = installed.asked("backup", "lasting-ca", "--recipient", "backup-recipient", "--out", str(out))
        files_alone = ("--recipient", str(pem), "--attestation", str(statement), "--out", str(out))
        assert installed.asked("backup", "lasting-ca", *files_alone) == request_id
        early = installed.run("key", "backup", "lasting-ca", "--request", request_id, "--out", str(out))
        assert (early.exit_code, "the request is PENDING" in early.stderr) == (1, True)
        installed.approved(request_id)
        assert not out.exists()
        fetched = installed.run("key", "backup", "lasting-ca", "--request", request_id, "--out", str(out))
        assert fetched.exit_code == 0, fetched.output
        busy = kwbp("key", "restore-backup", str(out), "--recipient", "backup-recipient", home=home.path)
        assert (busy.returncode, "stop the HSM service first" in busy.stderr) == (1, True), busy.stderr
    made = kwbp("ceremony", "key", "measured", "--template", "raw-ec", "--owner", "bench", home=home.path)
    assert "ec-p256 key measured" in made.stdout, made.stderr
    restored = installed.run("key", "restore-backup", str(out), "--recipient", "backup-recipient")
    assert "in the token ca, then standby" in restored.stdout, restored.output
    refused = installed.run("key", "restore-backup", str(out), "--recipient", "backup-recipient", "--token-is-lost")
    assert getattr(refused.exception, "type", "") == "token-not-lost"


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2026-12-01T00:00", "+2", "+2w", "-2h", "+9999999d", "0001-01-01T00:00+14:00"]
)
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="2026-12-01T00:00Z"):
        when(text)


def test_a_time_is_read_with_its_offset_or_from_now_on() -> None:
    assert when("2026-12-01T03:30+03:30") == datetime(2026, 12, 1, tzinfo=UTC)
    before = datetime.now(UTC)
    assert before + timedelta(hours=2) <= when("+2h") <= datetime.now(UTC) + timedelta(hours=2)
