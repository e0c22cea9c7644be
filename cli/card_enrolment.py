"""A cardholder's way to the certificate."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from cli.bank import CardData, counter
from cli.enrolment import chains, explain_wait, ra
from cli.state import Installation
from cps.acceptance import build_acceptance
from cps.dossier import CardholderSubject
from pki import cms_signed
from pki.keys import spki_sha256
from pki.oids import CT_ACCEPTANCE
from ra.client import State
from runtime.secrets import Secret
from storefront.wallet import wallet
from storefront.wallet.wallet import CardCredential, Wallet

BANK = "issuer_bank_confirmation"


def enrol_card(
    found: Installation, folder: Path, passphrase: Secret, label: str, card: CardData
) -> tuple[x509.Certificate, ...]:
    """A cardholder's whole way to the certificate: nonce, commitment, the bank's confirmation, decision, issuance."""
    with ra(found, None) as client:
        draft = client.open("cardholder")
        assert draft.nonce is not None
        with wallet.editing(folder, passphrase, rng=os.urandom) as editor:
            request = editor.begin_enrolment(
                label, application=draft.id, nonce_cca=draft.nonce.nonce_cca, ca_key_id=draft.nonce.ca_key_id
            )
        _pan, _expiry, pan_secret = Wallet.open(folder, passphrase).issuer_proof(label)
        with counter(found) as bank:
            confirmation = bank.confirm_card(
                pan=card.pan,
                expiry=card.expiry,
                cvv2=card.cvv2,
                pin2=card.pin2,
                pan_secret=pan_secret,
                commitment=request.commitment,
                spki_sha256=spki_sha256(x509.load_der_x509_csr(request.request).public_key()),
            )
        client.add_evidence(draft.id, BANK, confirmation, source=f"issuer-{request.bin}")
        subject = CardholderSubject(commitment=request.commitment, bin=request.bin)
        application = client.submit(draft.id, subject, {"signing": request.request})
    if application.state is not State.ISSUED:
        explain_wait(application)
    chain = chains(application)["signing"]
    with wallet.editing(folder, passphrase, rng=os.urandom) as editor:
        editor.finish_enrolment(label, chain)
    with ra(found, None) as client:
        client.accept(application.id, _acceptance(Wallet.open(folder, passphrase).card(label), application.id))
    return chain


def _acceptance(card: CardCredential, application_id: str) -> bytes:
    """The holder's acceptance, signed with the card's key (CPS 4.4.1)."""
    now = datetime.now(UTC).replace(microsecond=0)
    return cms_signed.sign(
        CT_ACCEPTANCE,
        build_acceptance(application_id, [card.certificate], now),
        key=card.key,
        signer=card.certificate,
        chain=card.chain,
        signing_time=now,
    )
