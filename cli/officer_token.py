"""Officers whose key is in a token or smart card: opening it for as long as the command runs, signing in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cryptography import x509

from ca.hierarchy import load_hierarchy
from cli import keyfiles, output
from cli.officers import certificate_path
from cli.state import Installation
from hsm_service.officer_token import OfficerToken, open_officer_token
from hsm_service.officer_token_place import OfficerTokenPlace
from hsm_service.pin_sources import pin_source
from ra.officer import Officer, officer_of
from runtime.language import Message
from runtime.secrets import Secret


def opened(place: OfficerTokenPlace, person: str, pin_file: Path | None) -> OfficerToken:
    """The token, logged in until the process ends, which logs it out (`hsm_service.pkcs11_module`).

    The PIN is in `pin_file` (mode 0600), else where the URI's pin-source says, else it is asked for; once.
    """
    return open_officer_token(place, partial(_pin, place, person, pin_file))


def load(found: Installation, person: str, place: OfficerTokenPlace, pin_file: Path | None) -> Officer:
    """The officer of this machine whose key is there.

    The certificate is the one in the officer's file with those above it, else the one beside the key in the token.
    Raises OfficerKeyError, HsmError.
    """
    token = opened(place, person, pin_file)
    ref = token.named(place.uri)
    path = certificate_path(found, person)
    if path.exists():
        leaf, *chain = x509.load_pem_x509_certificates(path.read_bytes())
    else:
        stored = token.certificate(ref)
        if stored is None:
            output.fail(
                Message("there is no certificate of officer {person}, here or in the token", person=person),
                hint=Message("see {command}", command="'kwbp officer collect'"),
            )
        leaf, chain = stored, _above(found, stored)
    return officer_of(leaf, [each for each in chain if each.issuer != each.subject], token.key(place.uri))


def _above(found: Installation, leaf: x509.Certificate) -> list[x509.Certificate]:
    """The CA certificates above `leaf`, nearest first, as the published hierarchy has them."""
    authorities = {each.subject: each for each in load_hierarchy(found.home.pki).intermediates}
    chain: list[x509.Certificate] = []
    issuer = leaf.issuer
    while issuer in authorities:
        chain.append(authorities.pop(issuer))
        issuer = chain[-1].issuer
    return chain


def _pin(place: OfficerTokenPlace, person: str, pin_file: Path | None) -> Secret:
    source = place.uri.pin_source
    if pin_file is None and source is not None:
        return pin_source(source, place.uri.token or person)()
    return keyfiles.passphrase_from(pin_file, f"PIN of {person}'s token")
