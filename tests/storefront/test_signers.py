"""Who signs for a merchant: a token key that has a certificate, or a key file that fits one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from hsm_service.client import AsyncHsmClient
from pki import cms_signed
from pki.oids import CT_ERROR
from runtime.problems import Problem
from runtime.secrets import Secret
from storefront.errors import StorefrontError
from storefront.signers import FileSigner, TokenSigner
from tests.support.payment_site import Site
from tests.support.pki_factory import CONTENT, NOW, Credential, PkiFactory, pem
from tests.support.shop_front import Front, hsm, hsm_url


@pytest.fixture(scope="module")
def credential() -> Credential:
    return PkiFactory().merchant()


@pytest.fixture
def files(credential: Credential, tmp_path: Path) -> tuple[Path, Path]:
    chain, key = credential.write(tmp_path, "shop")
    return key, chain


def load(key: Path, chain: Path, passphrase: bytes | None = None) -> FileSigner:
    return FileSigner.load(key, chain, Secret(passphrase) if passphrase is not None else None, lambda: NOW)


def protect(key: Path, credential: Credential, passphrase: bytes) -> None:
    key.write_bytes(
        credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    )


def test_a_key_file_signs_with_its_chain(files: tuple[Path, Path], credential: Credential) -> None:
    signer = load(*files)
    signed = cms_signed.parse_signed_data(asyncio.run(signer.sign(CT_ERROR, CONTENT)), content_type=CT_ERROR)
    cms_signed.verify_signature(signed)
    assert (signed.signer, signed.signing_time) == (credential.certificate, NOW)
    assert set(signed.certificates) == {credential.certificate, *credential.chain}


def test_an_encrypted_key_file_needs_its_passphrase(files: tuple[Path, Path], credential: Credential) -> None:
    protect(files[0], credential, b"correct horse")
    assert load(*files, passphrase=b"correct horse").certificate == credential.certificate
    for wrong in (b"correct horsf", None):
        with pytest.raises(StorefrontError, match="passphrase"):
            load(*files, passphrase=wrong)


def test_files_that_do_not_fit_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    key, chain = files
    other = PkiFactory().merchant()
    (tmp_path / "other.pem").write_bytes(pem(other.certificate))
    with pytest.raises(StorefrontError, match="do not belong together"):
        load(key, tmp_path / "other.pem")
    (tmp_path / "empty.pem").write_bytes(b"")
    with pytest.raises(StorefrontError, match="its chain"):
        load(key, tmp_path / "empty.pem")
    strange = tmp_path / "strange.key"
    strange.touch(mode=0o600)
    strange.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(StorefrontError, match="neither"):
        load(strange, chain)
    key.chmod(0o640)
    with pytest.raises(StorefrontError, match="0600"):
        load(key, chain)


def test_a_token_key_is_used_by_its_owner_alone(site: Site, make_front: Callable[..., Front]) -> None:
    front, stranger = make_front(in_token=True), make_front()

    async def connect(who: Front) -> TokenSigner:
        client = AsyncHsmClient.connect(hsm_url(site), who.tls)
        try:
            assert front.key is not None
            return await TokenSigner.connect(client, front.key)
        finally:
            await client.close()

    signer = asyncio.run(connect(front))
    assert (signer.certificate, signer.chain) == (front.credential.certificate, front.credential.chain)
    with pytest.raises(Problem):
        asyncio.run(connect(stranger))


def test_a_token_key_without_certificate_is_not_used(site: Site, make_front: Callable[..., Front]) -> None:
    front = make_front()
    with hsm(site, "operator") as keys:
        keys.generate_key(f"bare-{front.name}", "merchant-signing-ec", owner=front.merchant_id)

    async def connect() -> None:
        client = AsyncHsmClient.connect(hsm_url(site), front.tls)
        try:
            await TokenSigner.connect(client, f"bare-{front.name}")
        finally:
            await client.close()

    with pytest.raises(StorefrontError, match="no certificate yet"):
        asyncio.run(connect())
