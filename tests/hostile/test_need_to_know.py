"""Need to know: what each party, wire, store, log and answer holds is what `docs/protocol/visibility.yaml` says.

Whole purchases (paid, too dear, wrong PIN2, no answer and so reversed) and a card's registration are walked by the real
parties with values that stand nowhere else. Then every place is searched for every value in all its spellings, and what
is found is held against the matrix both ways: what may never be there is not, and what is said to be there is.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any, Final, TextIO, cast

import httpx
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from kwbp import wallet
from kwbp.commitment import commitment_cn
from kwbp.common import read_signed
from kwbp.errors import ProtocolError
from kwbp.registration.messages import CardConfirmReqTBS, CertReqTBS
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.der import sha256
from pki.oids import CT_CARD_CONFIRM_REQ, CT_CERT_REQ
from runtime import logging as service_log
from runtime.client import http_client
from runtime.secrets import Secret
from runtime.settings import Home, Settings
from scripts.visibility import MANNERS, Manner, Matrix, load_matrix
from shetab.types import Expiry, Pan, Pin, Rial
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import from_merchant, from_wallet
from storefront.merchant.catalogue import load_catalogue
from storefront.wallet.purchase import Outcome, PurchaseState
from storefront.wallet.registration import RefusedByAuthority
from storefront.wallet.wallet import Wallet, editing
from switch.service import database_path, issuer_keys
from tests.support.canary_forms import Canary, Haystack
from tests.support.cps_cases import Office
from tests.support.payment_parties import Buyer, now
from tests.support.payment_site import CARD_BIN, Site, wait_for, write_settings
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import InProcess
from tests.support.registration_site import NewCard, RegistrationSite
from tests.support.shop_front import Customer, Front
from tests.support.wires import REFUSALS, SwitchTap, TappedTransport, Wires, tapped

HOLDER: Final = "Quillon Vexbartholm"
NATIONAL_CODE: Final = "7731689956"
PHONE: Final = "09127736518"
ADDRESS: Final = "خیابان آفتابگردان، کوچهٔ زرین‌کوه، پلاک 471"
ARTICLE: Final = "Zephyrine Almanac of Tides"
PRICE: Final = 1_738_294_651
BALANCE: Final = 98_765_432_109
WRONG_PIN2: Final = "846192735046"  # as long as one may be
PASSPHRASE: Final = "marmalade-octant-vexillum"
CATALOGUE: Final = f"""
shop: {{fa: کتاب‌فروشی, en: Bookshop}}
terms: {{fa: شرایط, en: Terms of sale.}}
deliver_within: P7D
articles: [{{sku: almanac, name: {{fa: {ARTICLE}, en: {ARTICLE}}}, price: {PRICE}}}]
"""


class Walk:
    """Everything that was walked: what passed the wires, where the files are, and what the values were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wires = Wires()
        self.logs = StringIO()
        self.stores: dict[str, list[Path]] = defaultdict(list)
        self.snapshots: dict[str, list[bytes]] = defaultdict(list)
        self.metrics: list[bytes] = []
        self.evidence: list[bytes] = []
        self.canaries: dict[str, dict[Manner, Canary]] = defaultdict(dict)

    def is_hidden_in(self, field: str, manner: Manner, canary: Canary) -> None:
        known = self.canaries[field].get(manner)
        self.canaries[field][manner] = canary if known is None else known | canary

    def card(self, *, pan: str, expiry: str, cvv2: str, card_secret: bytes, key: Any) -> None:
        """The clear values of one card."""
        # Pieces with five digits or more that the issuer's number does not tell.
        self.is_hidden_in("pan", "clear", Canary.digits(pan, pieces_from=3))
        elements = {f'"48": "  {cvv2.zfill(4)}'.encode()}
        self.is_hidden_in("expiry", "clear", Canary.short(expiry, tag=0x0C, names=("14", "expiry", "exp")))
        for tag in (0x81, 0x82):
            self.is_hidden_in("cvv2", "clear", Canary.short(cvv2, tag=tag, names=("cvv2",)))
        self.is_hidden_in("cvv2", "clear", Canary(frozenset(elements)))
        self.is_hidden_in("cardSecret", "clear", Canary.octets(card_secret))
        numbers = key.private_numbers()
        secret = numbers.private_value if isinstance(key, ec.EllipticCurvePrivateKey) else numbers.p
        self.is_hidden_in("cardKey", "clear", Canary.octets(secret.to_bytes((secret.bit_length() + 7) // 8, "big")))

    def haystack(self, place: str) -> Haystack:
        if place == "logs":
            written = [path.read_bytes() for folder in self.stores["logs"] for path in folder.rglob("*.log")]
            return Haystack.of(self.logs.getvalue().encode(), *written)
        if place == "metrics":
            return Haystack.of(*self.metrics)
        if place == "evidence":
            return Haystack.of(*self.evidence)
        if place in self.stores:
            now = (part for path in self.stores[place] for part in contents(path))
            return Haystack.of(*self.snapshots[place], *now)
        return Haystack.of(*self.wires.seen[place])


def contents(path: Path) -> Iterator[bytes]:
    """Every file below a path: its bytes, and of a database each value of each row, which pages may have cut."""
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not each.is_file():
            continue
        data = each.read_bytes()
        yield data
        if data.startswith(b"SQLite format 3\0"):
            yield from rows(each)


def rows(path: Path) -> Iterator[bytes]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            found = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608  # names out of the schema itself
            names = [column[0] for column in found.description]
            for row in found:
                for name, value in zip(names, row, strict=True):
                    if isinstance(value, bytes):
                        yield value
                    elif value is not None:
                        yield json.dumps({name: str(value)}, ensure_ascii=False).encode()


def a_customer(site: Site) -> Customer:
    """A customer of a bank, all of whose data stand nowhere else."""
    account = site.switch.admin.open_account(
        CARD_BIN, holder=HOLDER, national_code=NATIONAL_CODE, balance=Rial(BALANCE), phone=PHONE
    )
    while True:
        issued = site.switch.admin.issue_card(account.iban)
        if issued.cvv2.reveal() != "364" and "0" not in issued.cvv2.reveal()[:1]:
            break
    secret = os.urandom(32)
    card = wallet.Card(
        pan=issued.pan,
        expiry=issued.expiry,
        card_secret=os.urandom(32),
        pan_secret=secret,
        pin2=issued.pin2,
        cvv2=issued.cvv2,
    )
    credential = site.pki.cardholder(commitment_cn(secret, card.pan, card.expiry))
    return Customer(Buyer(site, account, issued, card, credential))


def gateway_behind(site: Site, folder: Path, port: int) -> Home:
    home = site.gateway_home(folder)
    own = {"gateway": {**site.settings["gateway"], "port": Settings.load(home).gateway.port}}
    write_settings(home, {**site.settings, **own, "switch": {**site.settings["switch"], "port": port}})
    return home


def shop(walk: Walk, site: Site, gateway: str, front: Front, customer: Customer) -> None:
    """Five purchases, one of them with a one-time password, and messages that are refused."""
    purchases = walk.folder / "wallet" / "purchases"

    def buy(*, quantity: int = 1, by_password: bool = False, **typed: Any) -> Outcome:
        with customer.shopping(front, purchases) as buyer:
            checked = buyer.request_invoice([("almanac", quantity)], ship_to=ADDRESS, language="en")
            if by_password:
                buyer.request_password(checked)
                typed["pin2"] = Pin(site.switch.admin.messages(customer.bank.issued.card_id)[-1].password)
            return buyer.order(checked, **{**customer.typed, **typed})

    assert buy().state is PurchaseState.PAID
    paid = buy(by_password=True)
    assert paid.state is PurchaseState.PAID
    note_password(walk, site, customer, paid.xid, (purchases / paid.xid.hex() / "pi-envelope.p7m").read_bytes())
    assert buy(quantity=60).state is PurchaseState.DECLINED
    assert buy(pin2=Pin(WRONG_PIN2)).state is PurchaseState.DECLINED
    site.switch.admin.add_fault("0200", "drop")
    lost = buy()
    assert lost.state is PurchaseState.PENDING
    while_it_is_open(walk)
    with customer.shopping(front, purchases) as buyer:
        wait_for(lambda: buyer.resume(lost.xid).state is PurchaseState.REVERSED, every=1.0)
    order = front.order(paid.xid)
    assert order is not None
    assert order.rrn is not None
    walk.is_hidden_in("references", "clear", Canary.digits(order.rrn))
    for path in purchases.iterdir():
        walk.is_hidden_in("xid", "clear", Canary.octets(bytes.fromhex(path.name)))
        envelope = (path / "pi-envelope.p7m").read_bytes()
        for field in ("pan", "expiry", "cvv2", "pin2", "panSecret"):
            walk.is_hidden_in(field, "sealed", Canary.octets(envelope[-200:-136]))
        for field in ("orderLines", "shippingAddress"):
            walk.is_hidden_in(field, "hashed", Canary.octets(sha256((path / "order-details.der").read_bytes())))
    provoke(walk, site, gateway, front, customer, (purchases / paid.xid.hex() / "order.kwbp").read_bytes())
    evidence(walk, site, front, paid.xid, purchases / paid.xid.hex())


def note_password(walk: Walk, site: Site, customer: Customer, xid: bytes, envelope: bytes) -> None:
    """The password of one purchase: on the holder's telephone in clear, and nowhere else."""
    told = site.switch.admin.messages(customer.bank.issued.card_id)[-1].password
    keys = issuer_keys(site.home)
    walk.is_hidden_in("oneTimePassword", "clear", Canary.short(told, tag=0x80, names=("password", "pin2", "pin")))
    walk.is_hidden_in("oneTimePassword", "sealed", Canary.octets(envelope[-200:-136]))
    walk.is_hidden_in("oneTimePassword", "sealed", Canary.octets(pin_block(walk, xid)))
    value = keys.password_value(customer.bank.card.pan, xid, Pin(told))
    walk.is_hidden_in("oneTimePassword", "hashed", Canary.octets(value))


def pin_block(walk: Walk, xid: bytes) -> bytes:
    """DE 52 of the request to the switch for a purchase."""
    for part in walk.wires.seen["gateway-switch"]:
        if part.startswith(b"{") and xid.hex().encode() in part and (block := json.loads(part).get("52")) is not None:
            return bytes.fromhex(block)
    raise AssertionError("no PIN block was sent for it")


def while_it_is_open(walk: Walk) -> None:
    """What a gateway keeps until a reversal has gone through: the card number, sealed by the token."""
    walk.snapshots["gateway-store"] = [part for path in walk.stores["gateway-store"] for part in contents(path)]
    with sqlite3.connect(f"file:{walk.stores['gateway-store'][0] / 'gateway.sqlite'}?mode=ro", uri=True) as connection:
        (sealed,) = connection.execute("SELECT pan_sealed FROM orders WHERE pan_sealed IS NOT NULL").fetchone()
    walk.is_hidden_in("pan", "sealed", Canary.octets(sealed))
    for part in walk.wires.seen["gateway-switch"]:
        if part.startswith(b"{") and (block := json.loads(part).get("52")) is not None:
            walk.is_hidden_in("pin2", "sealed", Canary.octets(bytes.fromhex(block)))


def provoke(walk: Walk, site: Site, gateway: str, front: Front, customer: Customer, order: bytes) -> None:
    """Bad input that has everything in it: whoever refuses may not say it back."""
    card = customer.bank.card
    assert card.pin2 is not None
    assert card.cvv2 is not None
    everything = f"{card.pan.reveal()} {card.expiry.reveal()} {card.pin2.reveal()} {PASSPHRASE} {ARTICLE} {ADDRESS}"
    typed = json.dumps({"pan": card.pan.reveal(), "cvv2": card.cvv2.reveal(), "text": everything}).encode()
    before = len(walk.wires.seen[REFUSALS])
    asked = {name: list(parts) for name, parts in walk.wires.seen.items() if name != REFUSALS}
    for library in ("httpx", "httpcore"):  # what this test's own clients ask is no service's line
        logging.getLogger(library).setLevel(logging.WARNING)
    with front.http() as anyone:
        for path in ("/kwbp/purchase", "/kwbp/inquiry", "/kwbp/contract", f"/orders/{everything}"):
            for media in (MEDIA_TYPE, "application/json"):
                anyone.post(path, content=typed, headers={"content-type": media})
        anyone.post("/kwbp/purchase", content=order + typed, headers={"content-type": MEDIA_TYPE})
    with http_client(site.tls("operator"), gateway) as operator:
        operator.post(
            "/v1/merchants", json={"merchant_id": everything, "pan": card.pan.reveal(), "mcc": [typed.decode()]}
        )
        operator.post("/v1/auth", content=typed, headers={"content-type": MEDIA_TYPE})
    refusals = walk.wires.seen[REFUSALS]
    assert len(refusals) > before + 8
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.NOTSET)
    # What was only said to provoke is no purchase; of it the answers alone count.
    walk.wires.seen.clear()
    walk.wires.seen.update(asked)
    walk.wires.seen[REFUSALS] = refusals


def evidence(walk: Walk, site: Site, front: Front, xid: bytes, mine: Path) -> None:
    with front.http(site.tls("operator")) as client:
        kept = client.get(f"/orders/{xid.hex()}/evidence").json()
    for name, records in (("merchant", from_merchant(kept)), ("buyer", from_wallet(mine))):
        write_bundle(records, site.pki.root.certificate, walk.folder / f"bundle-{name}")
        walk.evidence += list(contents(walk.folder / f"bundle-{name}"))


def register(walk: Walk, site: RegistrationSite) -> None:
    """A card gets its certificate; another one is refused for a wrong PIN2."""
    http = httpx.Client(transport=TappedTransport(InProcess(site.app), walk.wires, "buyer-ra"), base_url="http://ra")
    site.http = http
    bank = site.banks._http
    site.banks._http = httpx.Client(
        transport=TappedTransport(bank._transport, walk.wires, "ra-issuer"), base_url=bank.base_url
    )
    card = site.new_card()
    account = site.bank.account(card.issued.iban)
    site.enrol(card)
    wrong = site.request(site.new_card(), pin2=Pin(WRONG_PIN2))
    with pytest.raises(RefusedByAuthority):
        site.registrar(http).certificate(wrong)
    note_new_card(walk, card)
    note_issuer(walk, site.home, card.held.pan, card.held.expiry, card.issued.pin2)
    walk.is_hidden_in("iban", "clear", Canary.text(account.iban))
    for body in walk.wires.seen["ra-issuer"]:
        for envelope in envelopes(body):
            for field in ("pan", "expiry", "cvv2", "pin2", "cardSecret"):
                walk.is_hidden_in(field, "sealed", Canary.octets(envelope[-200:-136]))


def note_new_card(walk: Walk, card: NewCard) -> None:
    walk.card(
        pan=card.held.pan.reveal(),
        expiry=card.held.expiry.reveal(),
        cvv2=card.issued.cvv2.reveal(),
        card_secret=card.held.card_secret,
        key=card.held.key,
    )
    walk.is_hidden_in("pin2", "clear", Canary.digits(card.issued.pin2.reveal()))


def envelopes(body: bytes) -> Iterator[bytes]:
    """The card data that a registration authority passes on, sealed to the card's bank."""
    try:
        message = unwrap(body, expected=[CT_CARD_CONFIRM_REQ])
    except ProtocolError:
        return
    asked = read_signed(CardConfirmReqTBS, CT_CARD_CONFIRM_REQ, message.body).body
    yield read_signed(CertReqTBS, CT_CERT_REQ, asked.cert_req).body.pan_envelope


def note_customer(walk: Walk, customer: Customer) -> None:
    bank = customer.bank
    card = bank.card
    assert card.pin2 is not None
    assert card.cvv2 is not None
    walk.card(
        pan=card.pan.reveal(),
        expiry=card.expiry.reveal(),
        cvv2=card.cvv2.reveal(),
        card_secret=card.card_secret,
        key=bank.credential.key,
    )
    walk.is_hidden_in("pan", "hashed", Canary.text(commitment_cn(card.pan_secret, card.pan, card.expiry)))
    walk.is_hidden_in("pan", "masked", Canary.text(card.pan.masked))
    for pin in (card.pin2.reveal(), WRONG_PIN2):
        walk.is_hidden_in("pin2", "clear", Canary.digits(pin))
    note_issuer(walk, bank.site.home, card.pan, card.expiry, bank.issued.pin2)
    walk.is_hidden_in("panSecret", "clear", Canary.octets(card.pan_secret))
    walk.is_hidden_in("orderLines", "clear", Canary.text(ARTICLE))
    walk.is_hidden_in("shippingAddress", "clear", Canary.text(ADDRESS))
    size = (PRICE.bit_length() + 8) // 8
    walk.is_hidden_in("amount", "clear", Canary.digits(str(PRICE)))
    walk.is_hidden_in("amount", "clear", Canary(frozenset({bytes([2, size]) + PRICE.to_bytes(size, "big")})))
    walk.is_hidden_in("holder", "clear", Canary.text(HOLDER))
    walk.is_hidden_in("holder", "clear", Canary.digits(NATIONAL_CODE))
    walk.is_hidden_in("phone", "clear", Canary.digits(PHONE))
    walk.is_hidden_in("phone", "masked", Canary.text(f"{PHONE[:4]}*****{PHONE[-2:]}"))
    walk.is_hidden_in("iban", "clear", Canary.text(bank.account.iban))
    for balance in (BALANCE, BALANCE - PRICE, BALANCE - 2 * PRICE):
        walk.is_hidden_in("balance", "clear", Canary.digits(str(balance)))
    walk.is_hidden_in("serviceSecrets", "clear", Canary.text(PASSPHRASE))


def note_issuer(walk: Walk, home: Home, pan: Pan, expiry: Expiry, pin: Pin) -> None:
    """What a bank finds and compares its cards by, and tells others to tell one card from another."""
    keys = issuer_keys(home)
    walk.is_hidden_in("pan", "hashed", Canary.octets(keys.pan_lookup(pan)) | Canary.octets(keys.card_reference(pan)))
    walk.is_hidden_in("expiry", "hashed", Canary.octets(keys.expiry_value(pan, expiry)))
    walk.is_hidden_in("pin2", "hashed", Canary.octets(keys.pin_value(pan, pin)))


def note_secrets(walk: Walk, home: Home) -> None:
    """PINs of tokens, components of zone keys, keys that look up cards, and every TLS key."""
    for path in [*home.secrets.rglob("*"), *home.tls.glob("*.key")]:
        if path.is_file():
            value = path.read_bytes()
            line = value.splitlines()[len(value.splitlines()) // 2] if value.startswith(b"-----") else value.strip()
            if len(line) >= 8:
                walk.is_hidden_in("serviceSecrets", "clear", Canary.octets(line))
                if len(line) >= 32 and set(line) <= set(b"0123456789abcdefABCDEF"):  # the key that it writes down
                    walk.is_hidden_in("serviceSecrets", "clear", Canary.octets(bytes.fromhex(line.decode())))


@pytest.fixture(scope="module")
def walk(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The whole walk, once."""
    folder = tmp_path_factory.mktemp("walk")
    walk = Walk(folder)
    with ExitStack() as stack:
        customer = a_customer(site)
        stack.enter_context(all_logs(walk.logs))
        tap = SwitchTap(walk.wires, site.switch.port)
        stack.callback(tap.close)
        stack.enter_context(tapped(walk.wires, name=wire_of, keys_port=site.settings["hsm"]["port"]))
        home = gateway_behind(site, folder / "gateway", tap.port)
        note_customer(walk, customer)
        note_secrets(walk, site.home)
        with site.gateway(home) as gateway:
            front = Front.of(site, gateway, folder / "merchant", in_token=True)
            (folder / "catalogue.yaml").write_text(CATALOGUE, "utf-8")
            front.catalogue = load_catalogue(folder / "catalogue.yaml")
            with front.serving() as shop_url:
                make_wallet(folder / "wallet", site, customer)
                walk.stores["gateway-store"] = [home.db, home.audit]
                shop(walk, site, gateway, front, customer)
                with http_client(site.tls("operator"), shop_url) as client:
                    walk.metrics.append(client.get("/metrics").content)
                keys = f"https://127.0.0.1:{site.settings['hsm']['port']}"
                with http_client(site.tls("operator"), keys) as client:
                    walk.metrics.append(client.get("/metrics").content)
                # While all of them run: what has not been checkpointed stands in the write-ahead logs.
                walk.stores["merchant-store"] = [front.folder]
                walk.stores["wallet-store"] = [folder / "wallet"]
                bank = database_path(site.home)
                walk.stores["issuer-store"] = sorted(bank.parent.glob(bank.name + "*"))
                others = [each for each in site.home.db.glob("*") if each not in walk.stores["issuer-store"]]
                walk.stores["keys-store"] = [site.home.audit, *others]
                walk.stores["secrets"] = [site.home.secrets, site.home.tls]
                walk.stores["logs"] = [site.home.log, home.log]
                stack.enter_context(registration(walk, tmp_path_factory.mktemp("registration")))
                yield walk


def registration(walk: Walk, folder: Path) -> Any:
    office = Office(PkiFactory(now=now().replace(microsecond=0)))
    site = RegistrationSite(folder, office)
    stack = ExitStack()
    stack.callback(site.close)
    register(walk, site)
    walk.stores["ra-store"] = [folder / "db", folder / "audit"]
    walk.stores["issuer-store"].append(site.home.db)
    return stack


def make_wallet(folder: Path, site: Site, customer: Customer) -> None:
    """A wallet file with this card in it, as it lies on the buyer's disk."""
    Wallet.create(folder, Secret(PASSPHRASE.encode()), root=site.pki.root.certificate)
    with editing(folder, Secret(PASSPHRASE.encode())) as editor:
        editor.add_card("mehr", customer.bank.card.pan, customer.bank.card.expiry, algorithm="ec-p256")


def wire_of(title: str) -> str | None:
    if title.startswith("KWBP merchant"):
        return "buyer-merchant"
    return "merchant-gateway" if "gateway" in title.lower() else None


def all_logs(stream: StringIO) -> Any:
    """Every line of every level, of our services and of the libraries, without the guard that masks card numbers."""
    stack = ExitStack()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer(default=repr)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    stack.callback(service_log._write_to, cast("TextIO", service_log._StandardError()), "WARNING")
    root, handler = logging.getLogger(), logging.StreamHandler(stream)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    stack.callback(root.setLevel, level)
    stack.callback(root.removeHandler, handler)
    return stack


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return load_matrix()


def places() -> list[str]:
    return list(load_matrix().places)


@pytest.mark.parametrize("place", places())
def test_what_is_in_a_place_is_what_the_matrix_says(walk: Walk, matrix: Matrix, place: str) -> None:
    haystack = walk.haystack(place)
    assert haystack.raw
    found = {
        name: {manner for manner in MANNERS if manner in forms and forms[manner].found(haystack)}
        for name, forms in walk.canaries.items()
    }
    assert found == {name: set(row.manners(place)) for name, row in matrix.fields.items()}


def test_every_field_of_the_matrix_was_walked(walk: Walk, matrix: Matrix) -> None:
    assert walk.canaries.keys() == matrix.fields.keys()
    for name, row in matrix.fields.items():
        said = {manner for place in matrix.places for manner in row.manners(place)}
        assert said | {"clear"} == set(walk.canaries[name]), name


def test_the_search_finds_every_spelling(walk: Walk) -> None:
    """Positive control: each value, planted as a careless line would have written it, is found."""
    pan, secret = "6037991234567893", bytes(range(100, 132))
    number, octets = Canary.digits(pan, pieces_from=3), Canary.octets(secret)
    persian = pan.translate({48 + digit: 0x06F0 + digit for digit in range(10)})
    shown = "-".join(pan[at : at + 4] for at in range(0, 16, 4))
    for spelling in (pan, persian, shown, shown.replace("-", " "), pan[4:12], pan.encode().hex(), f"{int(pan):x}"):
        assert number.found(Haystack.of(b"x", f"a {spelling} b".encode())), spelling
    for packed in (
        bytes.fromhex(pan),
        bytes.fromhex("0" + pan + "f"),
        int(pan).to_bytes(8, "big"),
        pan.encode("utf-16"),
    ):
        assert number.found(Haystack.of(b"\0" + packed)), packed
    for before in range(3):
        inside = bytes(before) + pan.encode() + b"!"
        assert number.found(Haystack.of(base64.b64encode(inside)))
        assert octets.found(Haystack.of(base64.urlsafe_b64encode(bytes(before) + secret + b"!")))
    assert octets.found(Haystack.of(json.dumps({"key": secret.hex()}).encode()))
    assert Canary.text(ADDRESS).found(Haystack.of(json.dumps({"to": ADDRESS}).encode()))
    assert Canary.short("0512", tag=0x0C).found(Haystack.of(base64.b64encode(b"\x30\x20\x0c\x040512" + bytes(26))))
    assert not number.found(Haystack.of(b"603799******7893", b"6037 9912"))
    for forms in walk.canaries.values():
        for canary in forms.values():
            assert all(canary.found(Haystack.of(b"(", form, b")")) for form in canary.raw)


def test_the_matrix_holds_together(matrix: Matrix) -> None:
    """Clear in a place of somebody who need not know, or in a place that is none: no matrix."""
    document = matrix.model_dump()
    row = document["fields"]["pan"]
    for wrong, said in (
        ({"clear": ["merchant-store"]}, "need not know"),
        ({"masked": ["nowhere"]}, "unknown place"),
        ({"known_to": ["nobody"]}, "unknown place or party"),
    ):
        with pytest.raises(ValueError, match=said):
            Matrix.model_validate({**document, "fields": {"pan": {**row, **wrong}}})
    with pytest.raises(ValueError, match="unknown party"):
        Matrix.model_validate({**document, "places": {"x": {"kind": "wire", "of": ["nobody"], "what": "x"}}})
    assert [matrix.may("pan", party) for party in ("merchant", "ra", "issuer")] == ["masked", "hashed", "clear"]
    assert matrix.may("orderLines", "switch") == "never"
