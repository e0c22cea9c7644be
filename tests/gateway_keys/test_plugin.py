"""The API of the gateway's operations, over mutual TLS, on a vault with a SoftHSM2 token and its journal."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from audit import Journal
from gateway_keys import wire, zone_keys
from gateway_keys.client import GatewayKeysClient
from gateway_keys.plugin import GatewayKeys, KeyNames
from hsm_service.app import create_app
from hsm_service.service import KeyInfo
from hsm_service.steps import Call
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.money import Money
from kwbp.password import OTPReqTBS
from kwbp.structure import encode
from kwbp.wrapper import wrap
from pki.der import sha256
from pki.names import common_name
from pki.oids import CT_OTP_REQ
from pki.path import Trust
from runtime.client import TlsFiles, async_http_client, http_client
from runtime.keepalive import WholeAnswer
from runtime.problems import Problem
from runtime.server import start
from runtime.settings import Home, Settings
from shetab import mac
from shetab.zone_keys import combine
from tests.faults.faulty_module import wait_until
from tests.gateway_keys.conftest import seal_with_our_library
from tests.support.pki_factory import NOW, Credential, PkiFactory
from tests.support.sealed_orders import BuyersCard, OrderMaker, SealedOrder
from tests.support.softhsm import provisioned_home
from tests.support.tls import tls_issuer

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """A running HSM service with the gateway's keys."""

    url: str
    vault: Vault
    home: Home
    orders: OrderMaker
    tls: Callable[..., TlsFiles]

    def ask(self, work: Callable[[GatewayKeysClient], Awaitable[T]], caller: str = "service:gateway") -> T:
        """Do `work` with a client of this identity."""

        async def run() -> T:
            files = self.tls(caller.replace(":", "-"), uri=f"urn:kwbp:{caller}")
            async with async_http_client(files, self.url) as transport:
                return await work(GatewayKeysClient(transport))

        return asyncio.run(run())

    def post(self, path: str, content: bytes, caller: str = "service:gateway") -> httpx.Response:
        files = self.tls(caller.replace(":", "-"), uri=f"urn:kwbp:{caller}")
        with http_client(files, self.url) as client:
            return client.post(path, content=content)

    def open(self, order: SealedOrder) -> Any:
        return self.ask(lambda client: client.open_order(order.pi_envelope, order.dual_signature, order.hod))

    def raw_open(self, order: SealedOrder) -> httpx.Response:
        request = wire.OpenOrderRequest(
            pi_envelope=order.pi_envelope, dual_signature=order.dual_signature, hod=order.hod
        )
        return self.post(wire.OPEN_ORDER, msgspec.json.encode(request))

    def uses(self) -> int:
        """How often the gateway's keys were used, as the vault tells it."""
        names = KeyNames()
        listed: list[KeyInfo] = self.vault.list_keys("service:gateway")
        return sum(
            key.uses for key in listed if key.name in {names.encryption, names.vault, names.cards, names.zone_pin}
        )

    def journal(self) -> list[dict[str, Any]]:
        lines = (self.home.audit / "hsm.jsonl").read_text().splitlines()
        return [json.loads(line)["entry"] for line in lines]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory) as made:
        yield made


@contextmanager
def running_site(tmp_path_factory: pytest.TempPathFactory, isolated: Settings | None = None) -> Iterator[Site]:
    """A service with the gateway's keys; `isolated`: with its tokens in processes of their own."""
    home = provisioned_home(tmp_path_factory.mktemp("plugin"))
    zone_keys.make_components(home.secrets)
    pki = PkiFactory()
    home.trust_anchors.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    tls = tls_issuer(tmp_path_factory.mktemp("tls"))
    with ExitStack() as stack:
        vault = stack.enter_context(Vault.open(home, clock=lambda: NOW, isolated=isolated))
        wait_until(lambda: vault.ready)
        ceremony = vault.as_caller("ceremony")
        spki = ceremony.generate_key("gateway-encryption", "gateway-encryption").public_key
        for own in ("gateway-vault", "gateway-card-ids"):
            ceremony.generate_key(own, own)
        zone_keys.load(vault, home.secrets)
        certificate = certificate_for(pki, spki)
        ceremony.attach_certificate("gateway-encryption", [certificate.der, *chain_of(certificate)])
        plugin = GatewayKeys.of(home, clock=lambda: NOW)
        app = create_app(vault, plugins=[plugin])
        url = stack.enter_context(start(app, tls=tls("hsm")))
        maker = OrderMaker(pki, certificate.certificate, seal_with_our_library)
        yield Site(url, vault, home, maker, tls)


class _PublicOnly:
    """Stands for a key whose private half is in the token."""

    def __init__(self, spki: bytes) -> None:
        self._public = load_der_public_key(spki)

    def public_key(self) -> Any:
        return self._public


def certificate_for(pki: PkiFactory, spki: bytes) -> Credential:
    key: Any = _PublicOnly(spki)
    return pki.gateway_encryption(key=key, suites=("oaep-sha1",))


def chain_of(credential: Credential) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in credential.chain]


@pytest.fixture(scope="module")
def card() -> BuyersCard:
    return BuyersCard.issue()


def test_an_order_is_opened_over_the_network(site: Site, card: BuyersCard) -> None:
    sealed_order = site.orders.order(card)
    opened = site.open(sealed_order)
    assert (opened.pan, opened.expiry, opened.cvv2) == (card.pan, card.expiry, card.cvv2)
    assert opened.masked_pan == card.pan.masked
    assert len(opened.pin_block) == 8
    assert site.ask(lambda client: client.unseal_pan(sealed_order.xid, opened.pan_sealed)) == card.pan


def test_macs_agree_with_the_other_end_of_the_zone(site: Site) -> None:
    key = combine([part.reveal() for part in zone_keys.read_components(site.home.secrets, zone_keys.ZONE_MAC)])
    data = b"0800822000000000000004000000000000000321120000000001301"
    assert site.ask(lambda client: client.mac(data)) == mac.message_mac(key, data)
    assert site.ask(lambda client: client.verify_mac(data, mac.message_mac(key, data)))
    assert not site.ask(lambda client: client.verify_mac(data, bytes(8)))
    assert not site.ask(lambda client: client.verify_mac(data, b""))


def test_a_refusal_of_the_sealed_order_names_its_check_and_uses_no_key(site: Site, card: BuyersCard) -> None:
    order = site.orders.order(card, dual={"h_pi_envelope": bytes(32)})
    before = site.uses()
    with pytest.raises(Problem) as refusal:
        site.open(order)
    problem = refusal.value
    assert (problem.status, problem.type, problem.clause) == (422, "order-refused", "KWBP G7")
    assert problem.extra == {"code": ErrorCode.ENVELOPE_MISMATCH}
    assert site.uses() == before
    assert site.journal()[-1]["event"] == "refused"
    assert (site.journal()[-1]["reason"], site.journal()[-1]["rule"]) == ("order-refused", "KWBP G7")


def tampered(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def asking(site: Site, card: BuyersCard, **changes: Any) -> bytes:
    body = OTPReqTBS(
        **{
            "version": fields.VERSION,
            "rrpid": os.urandom(20),
            "xid": os.urandom(20),
            "merchant_id": "M-1",
            "gw_id": "GW-1",
            "gw_cert_hash": sha256(site.orders.gateway.public_bytes(Encoding.DER)),
            "amount": Money.rial(1_250_000),
            "invoice_hash": os.urandom(32),
            "pan": card.pan.reveal(),
            "expiry": card.expiry.reveal(),
            "pan_secret": card.pan_secret,
            "ex_nonce": os.urandom(32),
            "date": fields.to_time(NOW),
            **changes,
        }
    )
    signed = site.orders.cardholder(card).sign(CT_OTP_REQ, encode(body), signing_time=NOW)
    return wrap(CT_OTP_REQ, site.orders.seal(signed, site.orders.gateway), rrpid=body.rrpid, xid=body.xid)


def test_a_request_for_a_password_is_opened_over_the_network(site: Site, card: BuyersCard) -> None:
    message = asking(site, card)
    opened = site.ask(lambda client: client.open_password_request(message, "M-1"))
    assert (opened.pan, opened.expiry, opened.asked.amount) == (card.pan, card.expiry, Money.rial(1_250_000))
    assert common_name(opened.card.subject) == card.commitment
    assert opened.chain
    assert opened.card not in opened.chain
    assert card.pan.reveal() not in repr(opened)


def test_a_request_for_a_password_is_refused_with_the_same_bytes_whatever_is_wrong_inside(
    site: Site, card: BuyersCard
) -> None:
    answers, causes = set(), set()
    for message in (
        asking(site, card, gw_id="GW-2"),
        asking(site, card, merchant_id="M-2"),
        asking(site, card, pan_secret=os.urandom(32)),
        tampered(asking(site, card)),
    ):
        request = msgspec.json.encode(wire.OpenPasswordRequest(message=message, merchant_id="M-1"))
        response = site.post(wire.OPEN_OTP_REQ, request)
        answers.add((response.status_code, response.content))
        causes.add(site.journal()[-1]["cause"])
    assert len(answers) == 1
    assert next(iter(answers))[0] == 422
    assert len(causes) == 4


def test_a_request_for_a_password_that_is_none_uses_no_key(site: Site, card: BuyersCard) -> None:
    before = site.uses()
    for message in (b"no message", wrap(CT_OTP_REQ, b"\x30\x00", rrpid=bytes(20), xid=bytes(20))):
        with pytest.raises(Problem) as refusal:
            site.ask(lambda client, message=message: client.open_password_request(message, "M-1"))
        assert refusal.value.type == "order-refused"
    assert site.uses() == before


def test_a_wrong_tag_hash_or_commitment_gives_the_same_bytes(site: Site, card: BuyersCard) -> None:
    twins = {
        "G8": site.orders.order(card, envelope=tampered),
        "G9": site.orders.order(card, head={"amount": Money.rial(1)}),
        "G10": site.orders.order(card, pan_data={"pan_secret": os.urandom(32)}),
    }
    answers = {}
    for check, order in twins.items():
        response = site.raw_open(order)
        headers = {name: value for name, value in response.headers.items() if name != "date"}
        answers[check] = (response.status_code, tuple(sorted(headers.items())), response.content)
        assert str(site.journal()[-1]["cause"]).startswith(f"{check} ")
    assert len(set(answers.values())) == 1
    status, _headers, body = answers["G8"]
    assert (status, json.loads(body)["type"]) == (422, "urn:kwbp:problem:decoding-failure")


def test_a_blob_of_another_order_is_refused_the_same_way(site: Site, card: BuyersCard) -> None:
    blob = site.open(site.orders.order(card)).pan_sealed
    with pytest.raises(Problem) as refusal:
        site.ask(lambda client: client.unseal_pan(os.urandom(20), blob))
    assert (refusal.value.status, refusal.value.type) == (422, "decoding-failure")


def test_a_bank_that_does_not_exist_fails_like_everything_inside(site: Site) -> None:
    with pytest.raises(Problem) as refusal:
        site.open(site.orders.order(BuyersCard.issue("999999123456789")))
    assert refusal.value.type == "decoding-failure"


@pytest.mark.parametrize("caller", ["service:ca", "merchant:M-1", "officer:officer-1", "service:hsm"])
def test_nobody_but_the_gateway_is_served(site: Site, card: BuyersCard, caller: str) -> None:
    order = site.orders.order(card)
    before = site.uses()
    for work in (
        lambda client: client.open_order(order.pi_envelope, order.dual_signature, order.hod),
        lambda client: client.unseal_pan(order.xid, b"blob"),
        lambda client: client.mac(b"data"),
        lambda client: client.verify_mac(b"data", bytes(8)),
    ):
        with pytest.raises(Problem) as refusal:
            site.ask(work, caller)
        assert (refusal.value.status, refusal.value.type) == (403, "caller-not-allowed")
    assert site.uses() == before


def test_the_vault_itself_refuses_another_caller(site: Site, card: BuyersCard) -> None:
    order = site.orders.order(card)
    request = wire.OpenOrderRequest(pi_envelope=order.pi_envelope, dual_signature=order.dual_signature, hod=order.hod)
    with pytest.raises(Problem) as refusal:
        site.vault.run(GatewayKeys.of(site.home, clock=lambda: NOW).open_order(site.vault, "service:ca", request))
    assert refusal.value.type == "caller-not-allowed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (wire.OPEN_ORDER, b""),
        (wire.OPEN_ORDER, b"{}"),
        (wire.OPEN_ORDER, b'{"pi_envelope": 6037991234567893}'),
        (wire.OPEN_ORDER, b"\xff\xfe"),
        (wire.OPEN_ORDER, b'{"pi_envelope":"", "dual_signature":"", "hod":""}'),
        (wire.UNSEAL_PAN, b'{"xid":"AAAA", "pan_sealed":""}'),
        (wire.GENERATE_MAC, b'{"data":"", "key":"root-ca"}'),
    ],
)
def test_a_malformed_request_is_refused_without_echo(site: Site, path: str, body: bytes) -> None:
    response = site.post(path, body)
    assert response.status_code == 422
    assert response.json()["type"] == "urn:kwbp:problem:invalid-request"
    assert b"6037991234567893" not in response.content


def test_before_the_ceremony_there_is_no_root_and_no_order_is_opened(
    site: Site, card: BuyersCard, tmp_path: Path
) -> None:
    order = site.orders.order(card)
    request = wire.OpenOrderRequest(pi_envelope=order.pi_envelope, dual_signature=order.dual_signature, hod=order.hod)
    unfounded = GatewayKeys.of(Home(tmp_path), clock=lambda: NOW)
    with pytest.raises(Problem) as refusal:
        site.vault.run(unfounded.open_order(site.vault, "service:gateway", request))
    assert (refusal.value.type, refusal.value.clause) == ("order-refused", "KWBP G6")


def test_every_operation_is_on_the_record_and_no_card_data_is(site: Site, card: BuyersCard) -> None:
    before = len(site.journal())
    order = site.orders.order(card)
    opened = site.open(order)
    site.ask(lambda client: client.unseal_pan(order.xid, opened.pan_sealed))
    site.ask(lambda client: client.mac(card.pan.reveal().encode()))
    entries = site.journal()[before:]
    assert [(each["event"], each.get("operation")) for each in entries] == [
        ("intent", "open-order"),
        ("outcome", None),
        ("intent", "unseal-pan"),
        ("outcome", None),
        ("intent", "generate-mac"),
        ("outcome", None),
    ]
    assert entries[0]["keys"] == ["gateway-encryption/1", "gateway-vault/1", "gateway-card-ids/1", "zone-pin/1"]
    assert entries[4]["input_sha256"] is None
    assert card.pin2 is not None
    everything = [path for path in site.home.path.rglob("*") if path.is_file()]
    canaries = [card.pan.reveal().encode(), card.pin2.reveal().encode()]
    assert not [path for path in everything if any(canary in path.read_bytes() for canary in canaries)]
    assert Journal.verify(site.home.audit / "hsm.jsonl")


@pytest.mark.parametrize("path", [wire.OPEN_ORDER, wire.UNSEAL_PAN, wire.GENERATE_MAC, wire.VERIFY_MAC])
def test_what_is_almost_a_path_of_ours_is_none(site: Site, path: str) -> None:
    assert site.post(f"{path}%0A", b"{}").status_code == 404


def test_what_carries_card_data_between_the_layers_does_not_print_it() -> None:
    for carrier in (
        Call(None, "aes_gcm_encrypt", (b"6037991234567893",)),
        WholeAnswer(200, httpx.Headers(), b'{"pan":"6037991234567893"}'),
    ):
        assert "6037991234567893" not in repr(carrier) + str(carrier)


def test_wire_messages_do_not_print_their_fields() -> None:
    answer = wire.OpenOrderAnswer(
        pan="6037991234567893",
        expiry="0712",
        cvv2="4321",
        pin_block=None,
        pan_sealed=b"",
        masked_pan="",
        card_id=b"",
        card_key_version=1,
        card_key_check=b"",
        pin_key_index=1,
        mac_key_index=1,
    )
    assert repr(answer) == str(answer) == "<OpenOrderAnswer>"


def test_a_service_that_is_not_there_is_503() -> None:
    async def ask() -> None:
        async with async_http_client(None, "http://127.0.0.1:1") as transport:
            await GatewayKeysClient(transport).mac(b"data")

    with pytest.raises(Problem) as refusal:
        asyncio.run(ask())
    assert (refusal.value.status, refusal.value.type) == (503, "hsm-unreachable")


def test_an_answer_of_another_form_is_not_believed() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b'{"pan": "6037991234567893"}')

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://hsm") as transport:
            await GatewayKeysClient(transport).open_order(b"", b"", bytes(32))

    with pytest.raises(Problem) as refusal:
        asyncio.run(ask())
    assert (refusal.value.status, refusal.value.__context__) == (502, None)


def test_the_trust_of_the_plugin_is_the_pinned_root(site: Site) -> None:
    plugin = GatewayKeys.of(site.home)
    assert Trust(anchors=plugin._anchors()).anchors == (site.orders.pki.root.certificate,)


def test_a_rotated_key_of_cards_says_so_with_every_card(site: Site, card: BuyersCard) -> None:
    first, again = (site.open(site.orders.order(card)) for _ in range(2))
    told = (first.card_id, first.card_key_version, first.card_key_check)
    assert told == (again.card_id, again.card_key_version, again.card_key_check)
    site.vault.life.rotate("ceremony", "gateway-card-ids")
    after = site.open(site.orders.order(card))
    assert (first.card_key_version, after.card_key_version) == (1, 2)
    assert after.card_id != first.card_id
    assert after.card_key_check != first.card_key_check


def test_the_key_of_cards_serves_the_gateway_alone_and_for_nothing_else(site: Site) -> None:
    def ask(caller: str, operation: Operation) -> str:
        keys = {"gateway-card-ids": operation}
        with pytest.raises(Problem) as refused, site.vault.lending.operation(caller, "try", keys, input_sha256=None):
            pass  # pragma: no cover
        return refused.value.type

    for caller in ("service:ca", "service:operator", "ceremony", "merchant:M-1"):
        assert ask(caller, Operation.CARD_DIGEST) == "caller-not-allowed"
    assert {ask("service:gateway", each) for each in (Operation.MAC, Operation.SEAL, Operation.RAW)} == {"key-misused"}


def test_an_order_is_opened_by_the_version_that_it_was_sealed_to(site: Site, card: BuyersCard) -> None:
    ceremony = site.vault.as_caller("ceremony")
    sealed_before, blob_of = site.orders.order(card), {}
    before = site.open(sealed_before)
    site.vault.life.rotate("ceremony", "gateway-encryption")
    site.vault.life.rotate("ceremony", "gateway-vault")
    spki = site.vault.describe_key("ceremony", "gateway-encryption", 2).public_key
    certificate = certificate_for(site.orders.pki, spki)
    assert site.vault.describe_key("ceremony", "gateway-encryption").version == 1  # the second has no certificate yet
    ceremony.attach_certificate("gateway-encryption", [certificate.der, *chain_of(certificate)])
    assert site.vault.describe_key("ceremony", "gateway-encryption").version == 2
    after = OrderMaker(site.orders.pki, certificate.certificate, seal_with_our_library)
    for version, order in ((1, sealed_before), (2, after.order(card)), (1, site.orders.order(card))):
        blob_of[order.xid] = site.open(order).pan_sealed
        keys = next(entry["keys"] for entry in reversed(site.journal()) if entry.get("operation") == "open-order")
        assert f"gateway-encryption/{version}" in keys
        assert "gateway-vault/2" in keys
    for xid, blob in {**blob_of, sealed_before.xid: before.pan_sealed}.items():
        assert site.ask(lambda client, xid=xid, blob=blob: client.unseal_pan(xid, blob)) == card.pan  # type: ignore[misc]
    site.vault.life.disable("ceremony", "gateway-encryption", 1)
    with pytest.raises(Problem) as refused:
        site.open(sealed_before)
    assert refused.value.type == "key-not-enabled"
    assert site.open(after.order(card)).pan == card.pan
