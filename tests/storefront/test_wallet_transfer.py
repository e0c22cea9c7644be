"""Export and import: one sealed file, authenticated; nothing that is here is replaced, keys in tokens stay there."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from runtime.secrets import Secret
from shetab.types import Expiry, Pan
from storefront.errors import TransferRefused, WalletError, WalletLocked
from storefront.wallet import container, roots, transfer, wallet
from storefront.wallet.keys import TokenKey, TokenPlace
from storefront.wallet.wallet import FILE_NAME, Wallet
from tests.pki.test_rollover import FIRST, FOURTH, KEYS, SECOND, root

pytestmark = pytest.mark.usefixtures("cheap_guesses")

PKCS8 = PrivateFormat.PKCS8
OWN, CARRIED = Secret(b"correct horse"), Secret(b"battery staple")
PANS = (Pan("6037701000000007"), Pan("6219861000000009"), Pan("6037701000000015"))
EXPIRY = Expiry("0912")
XID, OTHER = "ab" * 20, "cd" * 20


def record(xid: str, state: str) -> bytes:
    """purchase.json of an order."""
    document = {"state": state, "origin": "https://shop.example", "rrpid": "01" * 20, "xid": xid, "amount": 1}
    document |= dict.fromkeys(("chall_c", "h_oi_data", "h_dual_sig", "mer_cert_hash"), "02" * 32)
    document |= {"merchant_id": "M-1", "gw_id": "GW-1", "acquirer_bin": "603770", "ordered_at": "2026-01-01T12:00:00Z"}
    return json.dumps(document).encode()


EVIDENCE = {"purchase.json": record(XID, "PAID"), "order.kwbp": b"order", f"crls/{'0' * 64}.crl": b"crl"}


def in_token() -> TokenKey:
    place = TokenPlace("pkcs11:token=Card;object=kwbp?module-path=/opt/card.so&pin-source=file:/home/me/pin", "/etc/c")
    return TokenKey(place, ec.generate_private_key(ec.SECP256R1()).public_key())


def bought(folder: Path, xid: str, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / "purchases" / xid / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wallet with two cards, the key of one in a token, and a purchase."""
    folder = tmp_path_factory.mktemp("home")
    Wallet.create(folder, OWN, root=FIRST)
    with wallet.editing(folder, OWN) as editor:
        editor.add_card("mehr", PANS[0], EXPIRY, algorithm="ec-p256")
        editor.add_card("safe", PANS[1], EXPIRY, in_token=in_token)
    bought(folder, XID, EVIDENCE)
    bought(folder, OTHER, {"order.kwbp": b"never sent"})  # no purchase: it has no record
    return folder


@pytest.fixture(scope="module")
def exported(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("drawer") / "my.wallet"
    done = transfer.export(home, OWN, to, CARRIED)
    assert (done.cards, done.in_tokens, done.purchases) == (("mehr", "safe"), ("safe",), 1)
    return to


@pytest.fixture
def document(exported: Path) -> dict[str, Any]:
    return container.unseal(exported.read_bytes(), CARRIED, container.EXPORT)


def sealed(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "made.wallet"
    path.write_bytes(container.seal(CARRIED, document, container.EXPORT))
    return path


def here(folder: Path) -> dict[str, Any]:
    return container.read(folder / FILE_NAME, OWN)


def test_a_wallet_arrives_as_it_left(home: Path, exported: Path, tmp_path: Path) -> None:
    done = transfer.import_(tmp_path, OWN, exported, CARRIED, anchors=[FIRST])
    assert (done.cards, done.known, done.in_tokens, done.purchases, done.kept) == (
        *(("mehr", "safe"), (), ("safe",), 1, 0),
    )
    assert here(tmp_path)["cards"]["mehr"] == here(home)["cards"]["mehr"]
    assert Wallet.open(tmp_path, OWN).roots == (FIRST,)
    files = {each.relative_to(tmp_path / "purchases" / XID).as_posix(): each.read_bytes() for each in _files(tmp_path)}
    assert files == EVIDENCE
    again = transfer.import_(
        tmp_path, OWN, exported, CARRIED, anchors=[FIRST]
    )  # nothing is there twice, nothing is replaced
    assert (again.cards, again.known, again.purchases, again.kept) == ((), ("mehr", "safe"), 0, 1)


def _files(folder: Path) -> list[Path]:
    return [each for each in (folder / "purchases").rglob("*") if each.is_file()]


def test_the_key_in_a_token_does_not_come_along_nor_does_the_way_to_its_module(
    home: Path, exported: Path, tmp_path: Path
) -> None:
    """A file from elsewhere must not decide which library is loaded, or which file is read as a PIN."""
    transfer.import_(tmp_path, OWN, exported, CARRIED, anchors=[FIRST])
    entry = here(tmp_path)["cards"]["safe"]
    assert "key" not in entry
    assert entry["token"]["uri"] == "pkcs11:token=Card;object=kwbp"
    assert entry["token"]["configuration"] is None
    assert entry["token"]["public"] == here(home)["cards"]["safe"]["token"]["public"]


def test_the_file_shows_nothing_and_is_for_its_owner_alone(exported: Path) -> None:
    content = exported.read_bytes()
    for secret in (PANS[0].reveal().encode(), b"mehr", b"PAID", XID.encode()):
        assert secret not in content
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600


def test_it_has_a_passphrase_of_its_own_and_replaces_no_file(home: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferRefused, match="passphrase of its own"):
        transfer.export(home, OWN, tmp_path / "x", OWN)
    assert not (tmp_path / "x").exists()
    before = exported.read_bytes()
    with pytest.raises(TransferRefused, match="not overwritten"):
        transfer.export(home, OWN, exported, Secret(b"third"))
    assert exported.read_bytes() == before


def test_a_wrong_passphrase_and_a_changed_byte_are_refused_alike(exported: Path, tmp_path: Path) -> None:
    honest = exported.read_bytes()
    start = honest.index(b"\n") + 1
    meddled = [honest.replace(b'"version":1', b'"version":2'), honest.replace(b"-export", b"")]
    for place in (start, len(honest) - 1):
        meddled.append(honest[:place] + bytes([honest[place] ^ 1]) + honest[place + 1 :])
    said = set()
    for content in (*meddled, b"", honest[:start]):
        (tmp_path / "meddled").write_bytes(content)
        with pytest.raises(WalletLocked) as refusal:
            transfer.import_(tmp_path, OWN, tmp_path / "meddled", CARRIED, anchors=[FIRST])
        said.add(str(refusal.value))
    with pytest.raises(WalletLocked) as refusal:
        transfer.import_(tmp_path, OWN, exported, OWN, anchors=[FIRST])
    assert {str(refusal.value)} == said
    assert not (tmp_path / FILE_NAME).exists()


def test_a_wallet_is_no_export_and_an_export_is_no_wallet(home: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(WalletLocked):
        transfer.import_(tmp_path, OWN, home / FILE_NAME, OWN, anchors=[FIRST])
    (tmp_path / FILE_NAME).write_bytes(exported.read_bytes())
    with pytest.raises(WalletLocked):
        container.read(tmp_path / FILE_NAME, CARRIED)


@pytest.fixture
def settled(tmp_path: Path) -> Path:
    """Another wallet of the same root."""
    Wallet.create(tmp_path, OWN, root=FIRST)
    return tmp_path


def _add(folder: Path, label: str, pan: Pan) -> None:
    with wallet.editing(folder, OWN) as editor:
        editor.add_card(label, pan, EXPIRY, algorithm="ec-p256")


@pytest.mark.parametrize(
    ("label", "pan", "said"),
    [
        ("mehr", PANS[2], "another card mehr"),
        ("mehr", PANS[0], "another card mehr"),  # the same number, and another key
        ("old", PANS[0], "is here already, as old"),
    ],
)
def test_a_card_that_contradicts_one_that_is_here_stops_it_all(
    settled: Path, exported: Path, label: str, pan: Pan, said: str
) -> None:
    _add(settled, label, pan)
    before = (settled / FILE_NAME).read_bytes()
    with pytest.raises(TransferRefused, match=said):
        transfer.import_(settled, OWN, exported, CARRIED, anchors=[FIRST])
    assert (settled / FILE_NAME).read_bytes() == before
    assert not (settled / "purchases").exists()


def test_a_purchase_that_is_here_stays_as_it_is_here(settled: Path, exported: Path) -> None:
    bought(settled, XID, {"purchase.json": record(XID, "REVERSED")})
    done = transfer.import_(settled, OWN, exported, CARRIED, anchors=[FIRST])
    assert (done.purchases, done.kept) == (0, 1)
    assert [each.read_bytes() for each in _files(settled)] == [record(XID, "REVERSED")]


def test_what_a_crash_cut_short_is_completed(settled: Path, exported: Path) -> None:
    bought(settled, XID, {"order.kwbp": b"half"})  # its record, which comes last, is not there
    transfer.import_(settled, OWN, exported, CARRIED, anchors=[FIRST])
    assert {each.name: each.read_bytes() for each in _files(settled)}["order.kwbp"] == b"order"


def test_an_old_export_brings_no_old_root_back(settled: Path, exported: Path) -> None:
    with wallet.editing(settled, OWN) as editor:
        editor.accept_root(SECOND, now=SECOND.not_valid_before_utc)
        editor.drop_older_roots()
    transfer.import_(settled, OWN, exported, CARRIED, anchors=[FIRST])
    assert Wallet.open(settled, OWN).roots == (SECOND,)


def test_a_wallet_of_another_root_is_not_taken_in(tmp_path: Path, exported: Path) -> None:
    Wallet.create(tmp_path, OWN, root=FOURTH)
    with pytest.raises(TransferRefused, match="another root"):
        transfer.import_(tmp_path, OWN, exported, CARRIED, anchors=[FIRST])


def _entry(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["cards"]["mehr"]
    return found


def _weak() -> str:
    return rsa.generate_private_key(65537, 2048).private_bytes(Encoding.DER, PKCS8, NoEncryption()).hex()


def _other_kind() -> str:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PKCS8, NoEncryption()).hex()


def _of_no_curve() -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()


def _certified(document: dict[str, Any], **changes: str) -> None:
    """A certificate for the card that is another key's."""
    pem = FIRST.public_bytes(Encoding.PEM).decode()
    _entry(document).update({"certificate": pem, "pan_secret": "00" * 32} | changes)


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no time": lambda document: document.pop("exported"),
    "no root": lambda document: document.update(roots=[]),
    "a root that is none": lambda document: document.update(roots=["-----BEGIN"]),
    "cards that are a list": lambda document: document.update(cards=[]),
    "a card without its number": lambda document: _entry(document).pop("pan"),
    "a number that is none": lambda document: _entry(document).update(pan="6037701000000008"),
    "a number in another spelling": lambda document: _entry(document).update(pan="6037 7010 0000 0007"),
    "a short secret": lambda document: _entry(document).update(card_secret="00"),
    "a secret that is none": lambda document: _entry(document).update(card_secret="x"),
    "one card twice": lambda document: document["cards"].update({"again": _entry(document)}),
    "roots that do not follow each other": lambda document: document["roots"].append(document["roots"][0]),
    "a certificate that is none": lambda document: _certified(document, certificate="-----BEGIN"),
    "a certificate of another key": _certified,
    "a certificate without its secret": lambda document: _entry(document).update(certificate="x"),
    "a secret of no certificate": lambda document: _entry(document).update(pan_secret="00"),
    "an enrolment that is none": lambda document: _entry(document).update(enrolment={"application": 1}),
    "a request that is none": lambda document: _entry(document).update(registration={"message": "00"}),
    "something that nobody knows": lambda document: _entry(document).update(pin2="12345"),
    "a weak key": lambda document: _entry(document).update(key=_weak()),
    "a key that signs no message": lambda document: _entry(document).update(key=_other_kind()),
    "such a key in a token": lambda document: document["cards"]["safe"]["token"].update(public=_of_no_curve()),
    "two keys": lambda document: _entry(document).update(token=document["cards"]["safe"]["token"]),
    "a record that is none": lambda document: document["purchases"][XID].update({"purchase.json": "e30="}),
    "a record of another purchase": lambda document: document["purchases"].update({OTHER: document["purchases"][XID]}),
    "a card without a key": lambda document: _entry(document).pop("key"),
    "a name that turns the line": lambda document: document["cards"].update({"x\u202e": _entry(document)}),
    "a place that is no URI": lambda document: document["cards"]["safe"]["token"].update(uri="/opt/evil.so"),
    "a PIN in a URI": lambda document: document["cards"]["safe"]["token"].update(uri="pkcs11:?pin-value=1"),
    "a purchase outside the folder": lambda document: document["purchases"].update({"../../x": {"purchase.json": ""}}),
    "a file outside the folder": lambda document: document["purchases"][XID].update({"../../../x.json": ""}),
    "an absolute file": lambda document: document["purchases"][XID].update({"/tmp/x.json": ""}),
    "a hidden file": lambda document: document["purchases"][XID].update({".profile": ""}),
    "a purchase without its record": lambda document: document["purchases"][XID].pop("purchase.json"),
    "content that is no base64": lambda document: document["purchases"][XID].update({"order.kwbp": "%"}),
}


def test_a_wallet_that_is_made_believes_a_root_of_this_installation(exported: Path, tmp_path: Path) -> None:
    """Otherwise a file that somebody sends would decide whom its reader believes."""
    with pytest.raises(TransferRefused, match="another root"):
        transfer.import_(tmp_path, OWN, exported, CARRIED, anchors=[FOURTH])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_what_has_not_the_form_changes_nothing(
    name: str, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who knows the passphrase of the file may have made it."""
    HOSTILE[name](document)
    monkeypatch.setattr(container, "unseal", lambda *_: json.loads(json.dumps(document)))
    (tmp_path / "made").write_bytes(b"")
    with pytest.raises(TransferRefused) as refusal:
        transfer.import_(tmp_path / "to", OWN, tmp_path / "made", CARRIED, anchors=[FIRST])
    assert PANS[0].reveal() not in str(refusal.value)
    assert [each.name for each in tmp_path.iterdir()] == ["made"]


def test_an_endless_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TransferRefused, match="larger"):
        transfer.import_(tmp_path / "to", OWN, path, CARRIED, anchors=[FIRST])


def test_only_a_wallet_is_exported(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="no wallet"):
        transfer.export(tmp_path, OWN, tmp_path / "x", CARRIED)


def test_the_roots_of_the_exported_wallet_are_those_of_a_new_one(document: dict[str, Any], tmp_path: Path) -> None:
    kept = roots.first(FIRST)
    roots.accept(kept, SECOND, now=SECOND.not_valid_before_utc)
    pems = [kept["root"], *kept["roots"]]
    transfer.import_(tmp_path / "to", OWN, sealed(tmp_path, document | {"roots": pems}), CARRIED, anchors=[FIRST])
    assert Wallet.open(tmp_path / "to", OWN).roots == (FIRST, SECOND)


def test_a_root_that_merely_names_one_of_ours_is_not_believed_with_it(document: dict[str, Any], tmp_path: Path) -> None:
    """Anybody can make a root that names the key of ours as the next one: it is followed by ours, and is a stranger."""
    stranger = root(3, names=KEYS[0])
    pems = [each.public_bytes(Encoding.PEM).decode() for each in (stranger, FIRST, SECOND)]
    transfer.import_(tmp_path / "to", OWN, sealed(tmp_path, document | {"roots": pems}), CARRIED, anchors=[FIRST])
    assert Wallet.open(tmp_path / "to", OWN).roots == (FIRST, SECOND)


def test_a_file_without_an_end_is_read_no_further_than_a_wallet_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_LIMIT", 1000)
    with pytest.raises(TransferRefused, match="larger"):
        transfer.import_(tmp_path / "to", OWN, Path("/dev/zero"), CARRIED, anchors=[FIRST])
