"""The bank's part in the registration of its cardholders: what it confirms, what it counts, what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from cps.card_confirmation import parse_card_confirmation
from kwbp.codes import ErrorCode
from kwbp.commitment import commitment_cn, pan_secret
from kwbp.error_message import ReceivedError, read_error
from kwbp.registration.card import CardToEnrol
from kwbp.registration.form import CheckedForm
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.cms_signed import parse_signed_data
from pki.oids import CT_CARD_CONFIRMATION, CT_ERROR
from pki.roles import Role
from runtime.database import open_database
from runtime.secrets import write_secret
from runtime.settings import Home
from runtime.token_bucket import Rate
from shetab.types import Cvv2, Pin
from switch.bank import Bank, transact_on
from switch.errors import BankError, KeyFileError
from switch.records import IssuedCard
from switch.registration import CardRegistration, Reply
from switch.registration_app import create_app
from switch.schema import registration_answers, registration_buckets
from switch.service import database_path, issuer_keys, open_bank
from tests.kwbp.registering import BIN, Registering
from tests.support.pki_factory import p256, rsa_key

HOURS = timedelta(hours=1)
RATE = Rate(burst=3, every=4 * HOURS)


class Counter:
    """A bank with one card, and a wallet that registers it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.create()
        self.parties = Registering()
        self.now = self.parties.now
        self.parties.bank.write(self.home.tls, f"issuer-{BIN}")
        key = rsa_key(8).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(self.home.secrets / f"issuer-{BIN}-sealing-key", key)  # making one takes a second
        self.bank: Bank = open_bank(self.home, clock=lambda: self.now)
        self.account = self.bank.open_account(BIN, holder="Member One")
        self.card: IssuedCard = self.bank.issue_card(self.account.iban)
        self.engine = open_database(database_path(self.home))
        self.registration = self.restarted()

    def restarted(self) -> CardRegistration:
        """The counter of another process over the same files."""
        return CardRegistration(
            transact_on(self.engine),
            issuer_keys(self.home),
            home=self.home,
            trust=lambda now: self.parties.pki.trust(now),
            rate=RATE,
            rng=self.parties.rng,
            clock=lambda: self.now,
        )

    def form(self) -> CheckedForm:
        request = self.parties.form_request()
        draft = self.parties.form_response(request, issuer_form=self.registration.form(BIN))
        return self.parties.check_form(draft.message(self.parties.signed(draft, self.parties.ra)), request)

    def request(self, **changes: object) -> bytes:
        """A CardConfirmReq about the card; `changes` go to what its holder types."""
        typed: dict[str, object] = {
            "pan": self.card.pan,
            "expiry": self.card.expiry,
            "card_secret": self.parties.card.card_secret,
            "cvv2": self.card.cvv2,
            "pin2": self.card.pin2,
        }
        card = CardToEnrol(**(typed | changes))  # type: ignore[arg-type]  # each has its own type
        draft = self.parties.cert_request(checked=self.form(), card_=card, now=self.parties.now)
        message = self.parties.cert_message(draft)
        passed = self.parties.card_request(self.parties.check_cert(message), now=self.now)
        signed = self.parties.signed(passed, self.parties.ra, signing_time=self.now)
        return passed.message(signed)

    def refusal(self, reply: Reply, asked: bytes) -> ReceivedError:
        return read_error(
            unwrap(reply.message, expected=[CT_ERROR]),
            sent=asked,
            role=Role.SERVICE,
            trust=self.parties.pki.trust(self.now),
            now=self.now,
        )

    def codes(self, reply: Reply, asked: bytes) -> tuple[ErrorCode, str]:
        found = self.refusal(reply, asked)
        assert found.signer == self.parties.bank.certificate
        return found.body.error_code, found.body.clause


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    made = Counter(tmp_path)
    yield made
    made.engine.dispose()


def test_a_card_is_confirmed_without_being_named(counter: Counter) -> None:
    reply = counter.registration.confirm(counter.request())
    message = unwrap(reply.message, expected=[CT_CARD_CONFIRMATION])
    confirmation = parse_card_confirmation(parse_signed_data(message.body, content_type=CT_CARD_CONFIRMATION).content)
    secret = pan_secret(counter.parties.card.card_secret, counter.parties.nonce_cca, counter.parties.ca_key_id)
    assert confirmation.commitment == commitment_cn(secret, counter.card.pan, counter.card.expiry)
    assert {"signing": confirmation.spki_sha256} == counter.parties.card_keys()
    assert confirmation.card_ref == issuer_keys(counter.home).card_reference(counter.card.pan)
    assert confirmation.card_ref != issuer_keys(counter.home).pan_lookup(counter.card.pan)
    for secret_digits in (counter.card.pan.reveal(), counter.card.pin2.reveal()):
        assert secret_digits.encode() not in reply.message


def test_the_same_request_again_gets_the_same_answer_and_counts_for_nothing(counter: Counter) -> None:
    asked = counter.request()
    first = counter.registration.confirm(asked)
    for _ in range(2 * RATE.burst):
        assert counter.restarted().confirm(asked) == first


def test_a_card_is_tried_so_often_and_a_restart_takes_nothing_back(counter: Counter) -> None:
    for _ in range(RATE.burst):
        assert counter.registration.confirm(counter.request()).retry_after is None
    asked = counter.request()
    reply = counter.restarted().confirm(asked)
    assert counter.codes(reply, asked) == (ErrorCode.RATE_LIMITED, "F6")
    assert reply.retry_after == 4 * 3600
    with counter.engine.begin() as db:
        assert db.execute(select(func.count()).select_from(registration_buckets)).scalar_one() == 1


def test_a_card_that_waited_is_tried_again_and_full_buckets_are_forgotten(counter: Counter) -> None:
    counter.registration.confirm(counter.request())
    counter.now += 13 * HOURS
    counter.registration._transact(lambda db: counter.registration._count(_other_card(), counter.now, db))
    with counter.engine.begin() as db:
        rows = db.execute(select(registration_buckets.c.pan_lookup)).scalars().all()
    assert rows == [issuer_keys(counter.home).pan_lookup(_other_card().pan)]


def _other_card():  # type: ignore[no-untyped-def]  # of a private step
    parties = Registering()
    return parties.open_card(parties.card_message())


@pytest.mark.parametrize("wrong", ["pin2", "cvv2", "expiry", "pan"])
def test_wrong_card_data_are_refused_in_one_way(counter: Counter, wrong: str) -> None:
    other = counter.bank.issue_card(counter.account.iban, years=2)
    value = {
        "pin2": Pin("00000"),
        "cvv2": Cvv2("000"),
        "expiry": other.expiry,
        "pan": counter.parties.card.pan,
    }[wrong]
    asked = counter.request(**{wrong: value})
    reply = counter.registration.confirm(asked)
    assert counter.codes(reply, asked) == (ErrorCode.UNSPECIFIED_FAILURE, "F7")
    assert counter.registration.confirm(asked) == reply


def test_a_wrong_try_is_one_however_often_it_is_sent(counter: Counter) -> None:
    asked = counter.request(pin2=Pin("00000"))
    for _ in range(5):
        counter.registration.confirm(asked)
    assert counter.bank.card(counter.card.card_id).wrong_tries == 1


def test_a_blocked_card(counter: Counter) -> None:
    counter.bank.block_card(counter.card.card_id)
    asked = counter.request()
    assert counter.codes(counter.registration.confirm(asked), asked) == (ErrorCode.UNSPECIFIED_FAILURE, "F7")


def test_nothing_is_opened_before_the_authority_signed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object, **__: object) -> bytes:
        raise AssertionError("the bank's private key was used")

    monkeypatch.setattr("switch.registration.unseal", touched)
    passed = counter.parties.card_request(counter.parties.check_cert(counter.parties.cert_message()))
    asked = passed.message(counter.parties.signed(passed, counter.parties.gateway))
    reply = counter.registration.confirm(asked)
    assert counter.codes(reply, asked) == (ErrorCode.ROLE_NOT_ALLOWED, "F1")


def test_card_data_for_another_bank_key_look_like_any_that_do_not_open(counter: Counter) -> None:
    asked = counter.parties.card_message()  # sealed to a key that this bank never had
    reply = counter.registration.confirm(asked)
    assert counter.codes(reply, asked) == (ErrorCode.ENVELOPE_MISMATCH, "F3")


def test_a_key_of_another_holder_beside_the_card_data(counter: Counter) -> None:
    """What the authority could do if card data did not say which key they are for."""
    stolen = counter.parties.cert_request(checked=counter.form())
    key = p256()
    mine = counter.parties.cert_request(checked=counter.form(), key=key, rrpid=stolen.rrpid)
    message = counter.parties.cert_message(mine, by=key, pan_envelope=stolen.body.pan_envelope)
    passed = counter.parties.card_request(counter.parties.check_cert(message))
    asked = passed.message(counter.parties.signed(passed, counter.parties.ra))
    reply = counter.registration.confirm(asked)
    assert counter.codes(reply, asked) == (ErrorCode.DECODING_FAILURE, "F4")


def test_banks_that_cannot_serve(counter: Counter) -> None:
    with pytest.raises(BankError) as unknown:
        counter.registration.form("123456")
    assert unknown.value.reason == "unknown_issuer"
    with pytest.raises(BankError) as without:
        counter.registration.form("621986")
    assert without.value.reason == "issuer_identity"


def test_a_sealing_key_is_made_at_its_first_use_and_kept(counter: Counter) -> None:
    (counter.home.secrets / f"issuer-{BIN}-sealing-key").unlink()
    made = counter.form().form.key
    assert made != rsa_key(8).public_key()
    counter.registration = counter.restarted()
    assert counter.form().form.key == made


def test_a_sealing_key_that_is_none(counter: Counter) -> None:
    counter.registration.form(BIN)
    (counter.home.secrets / f"issuer-{BIN}-sealing-key").write_bytes(b"nothing")
    with pytest.raises(KeyFileError):
        counter.restarted().form(BIN)


def test_over_http(counter: Counter) -> None:
    with TestClient(create_app(counter.registration)) as client:
        form = client.get(f"/forms/{BIN}")
        assert (form.status_code, form.headers["content-type"]) == (200, MEDIA_TYPE)
        assert client.get("/forms/123456").status_code == 404
        assert client.get("/forms/621986").status_code == 503
        assert client.post("/confirm", content=b"junk").status_code == 400
        assert client.post("/confirm", content=bytes(300_000)).status_code == 413
        for _ in range(RATE.burst):
            assert client.post("/confirm", content=counter.request()).status_code == 200
        limited = client.post("/confirm", content=counter.request())
        assert (limited.status_code, limited.headers["retry-after"]) == (429, str(4 * 3600))


def test_no_card_data_in_any_file_of_the_bank(counter: Counter) -> None:
    counter.registration.confirm(counter.request())
    with counter.engine.begin() as db:
        assert db.execute(select(func.count()).select_from(registration_answers)).scalar_one() == 1
    counter.engine.dispose()
    hidden = [counter.card.pan.reveal().encode(), counter.parties.card.card_secret]
    for path in (each for each in counter.home.path.rglob("*") if each.is_file()):
        content = path.read_bytes()
        assert not any(secret in content for secret in hidden), path.name
