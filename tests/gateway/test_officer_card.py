"""An officer whose key is in a token acts at a gateway in service, by `kwbp`; what is kept of it convinces OpenSSL."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cps.gateway_act import parse_gateway_act
from hsm_service.token_layout import configuration_of, layout, pin_file
from runtime.client import client_context, http_client
from runtime.settings import Home
from tests.support.payment_site import GatewayProcess, Site, wait_for
from tests.support.pki_factory import pem
from tests.support.softhsm import provisioned_home

CARD = "carded-officer"
TOKEN = "merchants"
ROLE = {"roles": ("security_officer",)}
GUIDES = ("docs/gateway.md", "docs/gateway.fa.md")


class _Public:
    """Stands for a key that never leaves its token."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def public_key(self) -> Any:
        return self._key


def kwbp(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "--home", str(home.path), "--lang", "en", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def done(home: Home, *arguments: str) -> str:
    finished = kwbp(home, *arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def process(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = site.gateway_home(tmp_path_factory.mktemp("gateway") / "home", reversal_attempts=1)
    with site.gateway_process(home) as started:
        yield started


@pytest.fixture(scope="module")
def home(site: Site, process: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The operator's machine, with the officer's card in it."""
    site.tls("operator")
    card = provisioned_home(tmp_path_factory.mktemp("card"))
    configuration = configuration_of(card, layout().group_of(TOKEN))
    uri = f"pkcs11:token={TOKEN}?pin-source=file:{pin_file(card, TOKEN)}"
    made = ("--token", uri, "--configuration", str(configuration), "--algorithm", "ec-p256")
    done(process.home, "officer", "key", CARD, *made)
    folder = process.home.path / "officers"
    request = x509.load_pem_x509_csr((folder / f"{CARD}.csr").read_bytes())
    key: Any = _Public(request.public_key())
    officer = site.pki.officer(CARD, key=key, **ROLE)
    (folder / f"{CARD}.pem").write_bytes(pem(officer.certificate, *officer.chain))
    return process.home


def by_tls(site: Site, url: str, person: str, file: str, path: str, **body: str) -> int:
    """The status of what an officer confirms over their own connection."""
    login = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    made = site.pki.officer(person, replace={"extended_key_usage": (login, False)}, **ROLE)
    made.write(site.home.tls, file)
    with http_client(site.home.tls_files(file), url) as client:
        return client.post(path, json=body).status_code


def test_an_officer_with_a_card_acts_and_openssl_judges_what_is_kept(
    site: Site, process: GatewayProcess, home: Home, tmp_path: Path
) -> None:
    shop, buyer, url = site.new_shop(), site.buyer(), process.url
    site.register(url, shop)
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("0420", "alter", changed={39: "13"})
    lost = site.purchase(shop, buyer, 10_000)
    shop.collect(url, lost)
    wait_for(lambda: shop.order(url, lost.xid)["state"] == "REV_FAILED")
    xid = lost.xid.hex()
    stated = kwbp(home, "gateway", "resolve", xid, "--outcome", "reversed", "--reason", "call 33", "--as", CARD)
    assert stated.returncode == 0, stated.stderr
    assert "GW-1" in stated.stderr
    assert f"POST /v1/orders/{xid}/resolution" in stated.stderr
    again = kwbp(home, "gateway", "resolve", xid, "--outcome", "reversed", "--confirm", "--as", CARD)
    assert (again.returncode, "another person" in again.stderr) == (1, True)
    path = f"/v1/orders/{xid}/confirmation"
    assert by_tls(site, url, CARD, "card-by-tls", path, outcome="reversed") == 409, "two ways of one person are one"
    assert by_tls(site, url, "somebody-else", "somebody-else", path, outcome="reversed") == 200
    done(home, "gateway", "statements", "--out", str(tmp_path / "acts"))
    kept = sorted((tmp_path / "acts").glob("*.p7s"), key=lambda each: int(each.stem))
    assert [each.stem for each in kept] == ["1", "2"]
    for guide in GUIDES:
        command = re.search(r"^openssl cms -verify .*acts/1\.p7s.*$", Path(guide).read_text("utf-8"), re.MULTILINE)
        assert command is not None
        words = [os.path.expandvars(each) for each in shlex.split(command[0].replace("$KWBP_HOME", str(home.path)))]
        judged = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stderr
        act = parse_gateway_act((tmp_path / "act.der").read_bytes())
        assert (act.gateway, act.method, act.target) == ("GW-1", "POST", f"/v1/orders/{xid}/resolution")
        assert act.body == sha256((tmp_path / "acts" / "1.body").read_bytes()).digest()
        (tmp_path / "act.der").unlink()
    changed = bytearray(kept[0].read_bytes())
    changed[-1] ^= 1
    kept[0].write_bytes(changed)
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("statement", ["", "no-statement"])
def test_nobody_waits_for_the_body_of_who_may_not_send_one(site: Site, process: GatewayProcess, statement: str) -> None:
    """A list may have 64 MiB. A merchant is refused by the head of the request: the body is never sent here."""
    shop, at = site.new_shop(), urlsplit(process.url)
    header = f"Kwbp-Officer-Statement: {statement}\r\n" if statement else ""
    head = f"POST /v1/settlement-lists HTTP/1.1\r\nHost: localhost\r\nContent-Length: {60 * 2**20}\r\n{header}\r\n"
    context = client_context(shop.tls)
    with (
        socket.create_connection((at.hostname or "", at.port or 0), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        line.sendall(head.encode("ascii"))
        assert line.recv(65536).startswith(b"HTTP/1.1 403 ")
