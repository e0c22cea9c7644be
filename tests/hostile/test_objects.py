"""CMS that OpenSSL takes and KWBP refuses: both are shown for each object of `objects/`, and no private key is used.

Which of them OpenSSL takes depends on its release; `objects.yaml` says what was seen, and how a later one refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.gateway import GatewayIdentity, VerifiedOrder
from pki.cms_enveloped import parse_auth_enveloped
from pki.cms_signed import parse_signed_data, verify_signature
from pki.errors import CmsError
from pki.oids import CT_DUAL_SIGNATURE
from tests.hostile.objects.make_objects import FOLDER, PLAINTEXT, Parties, by_openssl, derived
from tests.kwbp.forge import named_gateway, refused, requested
from tests.kwbp.world import Purchase, World
from tests.support.der_surgery import Node, parse
from tests.support.judges import attime, run
from tests.support.pki_factory import CONTENT, NOW, unseal

OBJECTS: Final[dict[str, dict[str, Any]]] = yaml.safe_load((FOLDER / "objects.yaml").read_text("utf-8"))
ENVELOPES: Final = [name for name, told in OBJECTS.items() if told["act"] == "decrypt"]
SIGNED: Final = [name for name, told in OBJECTS.items() if told["act"] == "verify"]


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties.read()


def file(name: str) -> bytes:
    return (FOLDER / f"{name}.der").read_bytes()


@dataclass
class Keeper:
    """The gateway with its decryption key: it checks an AuthReq as it must, opens it, and counts."""

    world: World
    parties: Parties
    uses: int = 0

    def serve(self, message: bytes) -> bytes:
        identity = GatewayIdentity.of(self.parties.gateway.certificate)
        return self._open(self.world.check_auth_req(message, gateway=identity))

    def _open(self, order: VerifiedOrder) -> bytes:
        self.uses += 1
        assert isinstance(self.parties.gateway.key, rsa.RSAPrivateKey)
        return unseal(order.envelope.der, self.parties.gateway.key)


@pytest.fixture
def keeper(world: World, parties: Parties) -> Keeper:
    return Keeper(world, parties)


def around(world: World, purchase: Purchase, parties: Parties, **changes: Any) -> bytes:
    """An AuthReq to the gateway of the objects; the buyer signed the honest envelope, the merchant signs whatever."""
    named = named_gateway(parties.gateway)
    return requested(world, purchase, invoice=named, dual=named, envelope=file("honest-envelope"), **changes)


def ask_openssl(act: str, der: bytes, root: Path) -> tuple[bool, bytes, str]:
    """Whether OpenSSL accepts, what it wrote, and what it said."""
    if act == "decrypt":
        certificate, key = FOLDER / "gateway.pem", FOLDER / "gateway.key"
        done = run("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", certificate, "-inkey", key,
                   stdin=der)  # fmt: skip
    else:
        done = run("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-CAfile", root, "-purpose", "any",
                   *attime(NOW), stdin=der)  # fmt: skip
    return done.returncode == 0, done.stdout, done.stderr.decode(errors="replace")


# --- the honest ones -------------------------------------------------------------------------------------------------


def test_the_honest_objects_pass_everywhere(world: World, purchase: Purchase, parties: Parties, keeper: Keeper) -> None:
    """Positive control: what is refused below is refused for its one fault."""
    assert ask_openssl("decrypt", file("honest-envelope"), parties.root)[:2] == (True, PLAINTEXT)
    assert ask_openssl("verify", file("honest-signed"), parties.root)[:2] == (True, CONTENT)
    verify_signature(parse_signed_data(file("honest-signed"), content_type=CT_DUAL_SIGNATURE))
    assert keeper.serve(around(world, purchase, parties)) == PLAINTEXT
    assert keeper.uses == 1


def test_the_keys_belong_to_the_certificates_and_say_that_they_protect_nothing(parties: Parties) -> None:
    for stem, credential in (("gateway", parties.gateway), ("buyer", parties.buyer)):
        assert credential.key.public_key() == credential.certificate.public_key()
        assert (FOLDER / f"{stem}.key").read_bytes().startswith(b"A key for tests, published with them. It protects")
    root = x509.load_pem_x509_certificate(parties.root.read_bytes())
    parties.gateway.chain[-1].verify_directly_issued_by(root)


# --- how they were made ----------------------------------------------------------------------------------------------


def shape(node: Node) -> tuple[Any, ...]:
    """The tags of a DER object, without their contents."""
    return node.tag, *(shape(child) for child in node.children)


def test_every_object_is_in_the_table() -> None:
    assert {path.stem for path in FOLDER.glob("?-*.der")} == set(OBJECTS)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_script_makes_it_again(name: str, parties: Parties) -> None:
    made = derived(name, parties)
    if made is None:  # with another random key, or signature: of the same form, then, and judged alike below
        assert shape(parse(by_openssl(name))) == shape(parse(file(name)))
        return
    assert made == file(name)


# --- OpenSSL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTS)
def test_openssl(name: str, parties: Parties) -> None:
    """It does what was seen of 3.0.19, or refuses as the notes of a later release say."""
    told = OBJECTS[name]
    accepted, written, said = ask_openssl(told["act"], file(name), parties.root)
    if told["openssl"] == "refuses":
        assert not accepted
        assert said
        return
    if accepted:
        assert written
        return
    assert told.get("says"), f"no release of OpenSSL was known to refuse it: {said}"
    assert told["says"] in said


def test_openssl_gives_the_buyers_words_a_meaning_that_they_never_had(parties: Parties) -> None:
    """(d): the content that verifies is nothing that the buyer ever signed as content."""
    accepted, written, said = ask_openssl("verify", file("d-stripped-signed-attributes"), parties.root)
    assert accepted, said
    assert written != CONTENT
    assert written[:1] == b"\x31"  # the SET that was the signed attributes


# --- KWBP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_gateway_refuses_the_envelope_before_it_uses_a_key(
    world: World, purchase: Purchase, parties: Parties, keeper: Keeper, name: str
) -> None:
    told = OBJECTS[name]
    with refused(ErrorCode[told["code"]], told["check"]):
        keeper.serve(around(world, purchase, parties, pi_envelope=file(name)))
    assert keeper.uses == 0


@pytest.mark.parametrize("name", SIGNED)
def test_the_gateway_refuses_the_signed_object_before_it_uses_a_key(
    world: World, purchase: Purchase, parties: Parties, keeper: Keeper, name: str
) -> None:
    told = OBJECTS[name]
    with refused(ErrorCode[told["code"]], told["check"]):
        keeper.serve(around(world, purchase, parties, dual_sig=file(name)))
    assert keeper.uses == 0


@pytest.mark.parametrize("name", [name for name in ENVELOPES if OBJECTS[name]["check"] == "K4"])
def test_even_a_buyer_who_signs_the_hash_of_it_gets_it_no_further(
    world: World, purchase: Purchase, parties: Parties, keeper: Keeper, name: str
) -> None:
    named = named_gateway(parties.gateway)
    with pytest.raises(ProtocolError) as caught:
        keeper.serve(requested(world, purchase, invoice=named, dual=named, envelope=file(name)))
    assert (caught.value.code, caught.value.check) == (ErrorCode.DECODING_FAILURE, "K4")
    assert keeper.uses == 0


@pytest.mark.parametrize("name", [name for name, told in OBJECTS.items() if "reason" in told])
def test_the_parser_says_why(name: str) -> None:
    with pytest.raises(CmsError) as caught:
        if OBJECTS[name]["act"] == "decrypt":
            parse_auth_enveloped(file(name))
        else:
            parse_signed_data(file(name), content_type=CT_DUAL_SIGNATURE)
    assert caught.value.reason == OBJECTS[name]["reason"]
    assert caught.value.clause
