"""Who signs for a merchant: its key in a token, reached through the signing API, or a key file of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hsm_service.client import AsyncHsmClient
from hsm_service.wire import BatchItem
from pki import cms_signed
from runtime.problems import Problem
from runtime.secrets import Secret, SecretFileError, read_secret
from storefront.errors import StorefrontError

Content: TypeAlias = "tuple[x509.ObjectIdentifier, bytes]"
"""A content type, and a content (DER) of it."""


class Signer(Protocol):
    """Signs message contents as one party."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    async def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        """The SignedData (DER ContentInfo) over `content` (DER)."""
        ...

    async def sign_each(self, contents: Sequence[Content]) -> list[bytes | Problem]:
        """As `sign`, of several at once: each is judged by itself, and has its own SignedData or refusal, in order.

        :raises Problem: what concerns all of them; nothing was signed, as far as is known.
        """
        ...


class TokenSigner:
    """A key in a token; the HSM service judges the content before it signs."""

    def __init__(
        self, client: AsyncHsmClient, key: str, certificate: x509.Certificate, chain: tuple[x509.Certificate, ...]
    ) -> None:
        self.certificate = certificate
        self.chain = chain
        self._client = client
        self._key = key

    @classmethod
    async def connect(cls, client: AsyncHsmClient, key: str) -> Self:
        """Look up the certificate that belongs to the key; raises StorefrontError if it has none yet."""
        info = await client.describe_key(key)
        if not info.certificate_chain:
            raise StorefrontError(f"the token key {key} has no certificate yet; enrol the merchant first")
        certificate, *chain = (x509.load_der_x509_certificate(der) for der in info.certificate_chain)
        return cls(client, key, certificate, tuple(chain))

    async def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        return await self._client.sign_cms(self._key, content_type.dotted_string, content)

    async def sign_each(self, contents: Sequence[Content]) -> list[bytes | Problem]:
        items = [BatchItem(content, content_type.dotted_string) for content_type, content in contents]
        answer = await self._client.batch_sign(self._key, "cms", items)
        if len(answer.items) != len(items):
            raise Problem(502, "unreadable-answer", "the HSM service answers for more or fewer than it was asked for")
        return [each.outcome() for each in answer.items]


class FileSigner:
    """A private key in an (encrypted) PEM file, for a merchant that keeps its own."""

    def __init__(
        self,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        chain: tuple[x509.Certificate, ...],
        clock: Callable[[], datetime],
    ) -> None:
        if key.public_key() != certificate.public_key():
            raise StorefrontError("the key file and the certificate do not belong together")
        self.certificate = certificate
        self.chain = chain
        self._key = key
        self._clock = clock

    @classmethod
    def load(cls, key: Path, chain: Path, passphrase: Secret | None, clock: Callable[[], datetime]) -> Self:
        """Load a PEM key (mode 0600) and a PEM chain (leaf first); raises StorefrontError."""
        try:
            pem = read_secret(key).reveal()
            loaded = load_pem_private_key(pem, passphrase.reveal() if passphrase is not None else None)
            certificate, *rest = x509.load_pem_x509_certificates(chain.read_bytes())
        except SecretFileError as error:
            raise StorefrontError(str(error)) from None
        except (ValueError, TypeError):  # TypeError: a passphrase for a key in clear, or none for an encrypted one
            raise StorefrontError(
                f"{key} and {chain} are not a PEM key that the passphrase opens and its chain"
            ) from None
        if not isinstance(loaded, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise StorefrontError(f"{key} holds neither an RSA nor an EC key")
        return cls(loaded, certificate, tuple(rest), clock)

    async def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        sign = partial(
            cms_signed.sign,
            content_type,
            content,
            key=self._key,
            signer=self.certificate,
            chain=self.chain,
            signing_time=self._clock(),
        )
        return await asyncio.to_thread(sign)

    async def sign_each(self, contents: Sequence[Content]) -> list[bytes | Problem]:
        return [await self.sign(*each) for each in contents]
