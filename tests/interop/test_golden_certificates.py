"""Every golden certificate and list is accepted by OpenSSL, GnuTLS and NSS, and pkilint finds no error in it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.profile import profiles
from tests.support import pkilint_judge
from tests.support.golden import SIGNING_PROFILES, Golden
from tests.support.judges import certtool, openssl, run

NSS_USAGES = {
    # What NSS knows of what our certificates are for: number of `vfychain -u`
    "service-tls": 1,  # SSL server
    "service-signing": 4,  # e-mail signer: signs, whatever it is
    "cardholder": 4,
    "merchant-signing": 4,
    "gateway-signing": 4,
    "gateway-encryption": 5,  # e-mail recipient
    "officer": 0,  # SSL client
    **{name: 10 for name in profiles() if name.startswith("ocsp-")},  # status responder
    **dict.fromkeys(SIGNING_PROFILES[1:], 11),  # any CA
}
"""All but the root, which it is told to trust, and the time-stamp authority, for which NSS has no usage."""
_LISTS = ("-m", "crl", "-s", "forbidFetching")
NSS_LISTS = ("-pp", "-g", "leaf", *_LISTS, "-g", "chain", *_LISTS)
PURPOSES = {"timestamp-authority": "timestampsign", "service-tls": "sslserver", "officer": "sslclient"}


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden(datetime.now(UTC))


@pytest.fixture(scope="module")
def folder(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("golden")
    golden.write(made)
    return made


@pytest.fixture(scope="module")
def nss(golden: Golden, folder: Path) -> Path:
    """An NSS database that trusts the golden root and knows all certificates and lists."""
    database = folder / "nss"
    database.mkdir()

    def certutil(*arguments: str | Path) -> None:
        done = run("certutil", *arguments, "-d", f"sql:{database}")
        assert done.returncode == 0, done.stderr.decode()

    certutil("-N", "--empty-password")
    for name in golden:
        certutil("-A", "-n", name, "-t", "CT,C,C" if name == "root" else ",,", "-i", folder / f"{name}.pem")
    for name in SIGNING_PROFILES:
        path = folder / f"{name}.crl"
        path.write_bytes(golden.crl(name).public_bytes(Encoding.DER))
        done = run("crlutil", "-I", "-i", path, "-d", f"sql:{database}", "-B")
        assert done.returncode == 0, done.stderr.decode()
    return database


@pytest.mark.parametrize("name", profiles())
def test_openssl_accepts_it_strictly_and_under_every_list(folder: Path, name: str) -> None:
    purpose = ("-purpose", PURPOSES[name]) if name in PURPOSES else ()
    said = openssl(
        "verify", "-x509_strict", "-check_ss_sig", "-crl_check_all", "-verify_depth", "4", *purpose,
        "-CAfile", folder / "root.pem", "-untrusted", folder / "authorities.pem", "-CRLfile", folder / "crls.pem",
        folder / f"{name}.pem",
    )  # fmt: skip

    assert said.decode().strip().endswith(": OK")


@pytest.mark.parametrize("name", profiles())
def test_gnutls_accepts_it_under_every_list(golden: Golden, folder: Path, name: str) -> None:
    chain = folder / f"{name}.chain.pem"
    chain.write_bytes(
        b"".join(each.public_bytes(Encoding.PEM) for each in [golden[name].certificate, *golden.chain(name)])
    )

    said = certtool(
        "--verify", "--verify-profile=high", "--load-ca-certificate", folder / "root.pem",
        "--load-crl", folder / "crls.pem", "--infile", chain,
    )  # fmt: skip

    assert b"Chain verification output: Verified." in said


@pytest.mark.parametrize(("name", "usage"), NSS_USAGES.items())
def test_nss_accepts_it_for_what_it_is_for_under_every_list(nss: Path, folder: Path, name: str, usage: int) -> None:
    done = run("vfychain", "-d", f"sql:{nss}", *NSS_LISTS, "-u", str(usage), "-a", folder / f"{name}.pem")
    said = done.stdout + done.stderr

    assert b"Chain is good!" in said, said.decode()


def test_nss_refuses_what_the_list_revokes(golden: Golden, nss: Path, folder: Path) -> None:
    made = golden["merchant-signing"]
    path = folder / "revoking.crl"
    path.write_bytes(golden.crl("merchant-ca", revoked=[made.certificate]).public_bytes(Encoding.DER))
    copy = folder / "nss-revoking"
    shutil.copytree(nss, copy)
    done = run("crlutil", "-I", "-i", path, "-d", f"sql:{copy}", "-B")
    assert done.returncode == 0, done.stderr.decode()

    done = run("vfychain", "-d", f"sql:{copy}", *NSS_LISTS, "-u", "4", "-a", folder / "merchant-signing.pem")

    assert b"has been revoked" in done.stdout + done.stderr


@pytest.mark.parametrize("name", profiles())
def test_pkilint_finds_no_error_in_it(golden: Golden, name: str) -> None:
    assert pkilint_judge.certificate_errors(golden[name].certificate.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize("name", SIGNING_PROFILES)
def test_its_list_is_accepted_by_all(golden: Golden, folder: Path, name: str) -> None:
    der = golden.crl(name).public_bytes(Encoding.DER)
    path = folder / f"{name}.golden.crl"
    path.write_bytes(der)

    openssl("crl", "-inform", "DER", "-in", path, "-noout", "-verify", "-CAfile", folder / f"{name}.pem")
    certtool("--verify-crl", "--inder", "--load-ca-certificate", folder / f"{name}.der", "--infile", path)
    assert pkilint_judge.crl_errors(der) == []
