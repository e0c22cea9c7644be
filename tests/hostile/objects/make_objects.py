"""Makes the hostile objects of this folder: CMS that OpenSSL takes and KWBP refuses.

    python -m tests.hostile.objects.make_objects            # everything anew, keys and certificates too

Two honest objects come first, a gateway's AuthEnvelopedData and a buyer's SignedData; each hostile one has one thing
wrong (`objects.yaml` says what, and what each judge says of it). Keys and certificates were made for this folder alone.
They protect nothing: whoever has the repository has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pki.cms_enveloped import SealingSuite, seal
from pki.oids import CT_DUAL_SIGNATURE
from tests.support import enveloped_twins, signed_data_twins
from tests.support.judges import openssl
from tests.support.pki_factory import CONTENT, Credential, PkiFactory, pem

FOLDER: Final = Path(__file__).parent
PLAINTEXT: Final = b"what the buyer sealed to the gateway, and nobody else may read or change"
_WARNING: Final = b"A key for tests, published with them. It protects nothing.\n"


@dataclass(frozen=True)
class Parties:
    """Who made the honest objects, as read from the folder."""

    gateway: Credential
    buyer: Credential
    root: Path

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Parties:
        return cls(_credential(folder, "gateway"), _credential(folder, "buyer"), folder / "root.pem")


def _credential(folder: Path, stem: str) -> Credential:
    certificate, *chain = x509.load_pem_x509_certificates((folder / f"{stem}.pem").read_bytes())
    key = load_pem_private_key((folder / f"{stem}.key").read_bytes(), None)
    return Credential(certificate, key, tuple(chain))  # type: ignore[arg-type]  # the kinds that `make` wrote


def names() -> list[str]:
    """Names of the hostile objects, in the order of `objects.yaml`."""
    return list(yaml.safe_load((FOLDER / "objects.yaml").read_text("utf-8")))


def derived(name: str, parties: Parties, folder: Path = FOLDER) -> bytes | None:
    """The hostile object that surgery on an honest one gives; None if it takes a signature or a cipher of its own."""
    envelope, signed = (folder / "honest-envelope.der").read_bytes(), (folder / "honest-signed.der").read_bytes()
    if name == "c-flipped-byte":
        return flipped_ciphertext(envelope, parties.gateway)
    if name == "d-stripped-signed-attributes":
        table = signed_data_twins.Twin(PkiFactory(), parties.buyer, signed)
        signed_data_twins.CASES["forged_from_signed_attributes"].operate(table)
        return table.tree.encode()
    twin = {"a-ofb-in-auth-enveloped": "stream_cipher", "b-tag-of-one-byte": "tag_of_one_byte"}.get(name)
    return twin and enveloped_twins.make(twin, parties.gateway, envelope)  # type: ignore[return-value]


def flipped_ciphertext(envelope: bytes, gateway: Credential) -> bytes:
    """The envelope with the first byte of its ciphertext changed."""
    table = enveloped_twins.Twin(gateway, envelope)
    node = table.content.at(2)
    node.content = bytes((node.content[0] ^ 1,)) + node.content[1:]
    return table.tree.encode()


def by_openssl(name: str, folder: Path = FOLDER) -> bytes:
    """The hostile object that `openssl cms` makes with ordinary options."""
    if name == "e-cbc-enveloped":
        return openssl(
            "cms", "-encrypt", "-binary", "-aes-256-cbc", "-recip", folder / "gateway.pem",
            "-keyopt", "rsa_padding_mode:oaep", "-outform", "DER", stdin=PLAINTEXT,
        )  # fmt: skip
    assert name == "f-no-attributes"
    return openssl(
        "cms", "-sign", "-binary", "-noattr", "-nodetach", "-md", "sha256", "-signer", folder / "buyer.pem",
        "-inkey", folder / "buyer.key", "-certfile", folder / "cas.pem",
        "-econtent_type", CT_DUAL_SIGNATURE.dotted_string, "-outform", "DER", stdin=CONTENT,
    )  # fmt: skip


def make(folder: Path = FOLDER) -> None:
    """Write parties, honest objects and hostile ones."""
    pki = PkiFactory(brand="Hostile objects, tests only")
    for stem, credential in (("gateway", pki.gateway_encryption()), ("buyer", pki.cardholder())):
        _certificate, key = credential.write(folder, stem)
        key.write_bytes(_WARNING + key.read_bytes())
        (folder / "cas.pem").write_bytes(pem(*credential.chain))  # the buyer's last: openssl signs as the buyer
    (folder / "root.pem").write_bytes(pem(pki.root.certificate))
    parties = Parties.read(folder)
    sealed = seal(PLAINTEXT, parties.gateway.certificate, SealingSuite.OAEP_SHA256, rng=enveloped_twins.Stream())
    (folder / "honest-envelope.der").write_bytes(sealed)
    (folder / "honest-signed.der").write_bytes(parties.buyer.sign(CT_DUAL_SIGNATURE, CONTENT))
    for name in names():
        (folder / f"{name}.der").write_bytes(derived(name, parties, folder) or by_openssl(name, folder))


if __name__ == "__main__":
    make()
