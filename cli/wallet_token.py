"""Cards whose key is in a PKCS#11 token: making it there, finding it, signing in it for as long as the command runs.

The PKCS#11 module is loaded, and the PIN asked for, only when such a key is needed. The PIN comes from a file
descriptor, a file, systemd or the terminal (`hsm_service.pin_sources`), never from the command line; a wrong one is
tried once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cli import keyfiles, output
from hsm_service.officer_token_place import OfficerTokenPlace
from hsm_service.pin_sources import pin_source
from hsm_service.token_uri import TokenUriError
from runtime.language import Message
from runtime.secrets import Secret
from storefront.wallet.keys import PrivateKey, TokenKey, TokenPlace

if TYPE_CHECKING:
    from hsm_service.officer_token import OfficerToken


class CardTokens:
    """The tokens of this command. Called with a place, it gives the key that is there (`storefront.wallet.keys`)."""

    def __init__(self, pin: str | None) -> None:
        """`pin`: where PINs come from; None: where the URI says, else from the terminal."""
        self._pin = pin
        self._opened: list[OfficerToken] = []

    def __call__(self, place: TokenPlace) -> PrivateKey:
        parsed = _parsed(place)
        return self._open(parsed).key(parsed.uri)

    def make(self, place: TokenPlace, label: str, algorithm: keyfiles.AlgorithmChoice, *, use: bool) -> TokenKey:
        """Make the key of a card in the token, or `use` the one that the URI names. Raises HsmError."""
        parsed = _parsed(place)
        token = self._open(parsed)
        ref = token.named(parsed.uri) if use else token.make(parsed.uri.object or f"kwbp {label}", algorithm.value)
        there = parsed.naming(token=ref.token, label=ref.label, cka_id=ref.cka_id)
        # Another token of the same name, put in its place, is known before it is given the PIN.
        there = replace(there, uri=replace(there.uri, serial=token.serial))
        public = token.key(there.uri).public_key()
        return TokenKey(TokenPlace(str(there.uri), place.configuration), public)

    def _open(self, place: OfficerTokenPlace) -> OfficerToken:
        from hsm_service.officer_token import open_officer_token

        for token in self._opened:
            if place.uri.token in (None, token.label) and place.uri.serial in (None, token.serial):
                return token
        token = open_officer_token(place, partial(self._ask, place))
        self._opened.append(token)
        return token

    def _ask(self, place: OfficerTokenPlace) -> Secret:
        source, label = self._pin or place.uri.pin_source, place.uri.token or "?"
        if source is None:
            return keyfiles.passphrase_from(None, f"PIN of token {label}")
        try:
            return pin_source(source, label)()
        except ValueError as error:  # says which rule, never the value: it may be the PIN itself
            output.fail(
                Message("the PIN of a token is not given like this: {reason}", reason=str(error)),
                hint=Message("expected {form}", form="fd:N, file:/…, credential:NAME, prompt:"),
            )


def place_of(uri: str, configuration: Path | None) -> TokenPlace:
    """The place that somebody named; ends the command if it is none."""
    place = TokenPlace(uri, None if configuration is None else str(configuration.resolve()))
    _parsed(place)
    return place


def _parsed(place: TokenPlace) -> OfficerTokenPlace:
    configuration = None if place.configuration is None else Path(place.configuration)
    try:
        return OfficerTokenPlace.parse(place.uri, configuration)
    except TokenUriError as error:
        output.fail(str(error))
