"""The keys in our custody: each registry row joined with its object in an open token, checked, ready to be used.

A key is usable only if the token holds it, protects it as its purpose demands, and its public half is the one in the
registry. Whatever is not so is listed with the reason and serves nobody; a token object that no row knows is logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hsm_service.errors import HsmError, WeakKey
from hsm_service.keys import KeyKind, KeyRef
from hsm_service.registry import KeyState, RegisteredKey, Registry
from hsm_service.templates import USAGES, Purpose, Template, Templates, TemplatesError
from hsm_service.tokens import Token
from hsm_service.typed import SigningKey
from pki.keys import spki_der
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.secrets import Secret

_ID_BYTES: Final = 16
_IMPORTED: Final = {Purpose.PIN_BLOCK: KeyKind.DES2, Purpose.MAC: KeyKind.AES}
_log = get_logger("custody")


@dataclass(frozen=True, slots=True)
class Key:
    """One version of a key: its row, its template, its token object, and what typed signing knows of it.

    `attributes` are the protection attributes as the token stated them when the key was last checked; `unusable` says
    why the key does not serve, None if it does.
    """

    row: RegisteredKey
    template: Template
    token: Token | None
    ref: KeyRef | None
    signing: SigningKey | None
    attributes: Mapping[str, bool]
    unusable: str | None = None

    @property
    def label(self) -> str:
        """`name/version`, as records name it."""
        return f"{self.row.name}/{self.row.version}"

    def use(self) -> tuple[Token, KeyRef]:
        """The token and the object; a Problem if the key does not serve."""
        if self.row.state is not KeyState.ENABLED:
            raise Problem(409, "key-not-enabled", f"key {self.row.name} is {self.row.state}, not ENABLED")
        if self.unusable is not None or self.token is None or self.ref is None:
            raise Problem(503, "key-not-usable", f"key {self.row.name} does not serve: {self.unusable}")
        return self.token, self.ref

    def pair(self) -> SigningKey:
        """What typed signing knows of a usable key pair; a Problem if it has none."""
        self.use()
        if self.signing is None:
            raise Problem(409, "key-misused", f"key {self.row.name} is a secret key and has no public half")
        return self.signing


class Custody:
    """Keys of the open tokens, by name. Safe for threads."""

    def __init__(self, tokens: Mapping[str, Token], registry: Registry, templates: Templates) -> None:
        self._tokens = tokens
        self._registry = registry
        self._templates = templates
        self._lock = threading.Lock()  # one change at a time
        self._keys: dict[tuple[str, int], Key] = {}
        held = {label: {ref.cka_id: ref for ref in token.keys()} for label, token in tokens.items()}  # noqa: SIM118  # a method, no mapping
        for row in registry.all():
            self._take_in(row, held.get(row.token, {}).pop(row.cka_id, None))
        for label, strangers in held.items():
            for ref in strangers.values():
                _log.error("token holds a key that the registry does not know", token=label, key=ref.label)

    def find(self, name: str, version: int | None = None) -> Key:
        """A version of a key, by default the one in use; Problem 404 if there is none."""
        row = self._registry.find(name, version)
        # A key that is registered but not yet made (another request is waiting for its token) is not there either.
        key = None if row is None else self._keys.get((row.name, row.version))
        if key is None:
            which = name if version is None else f"{name}, version {version}"
            raise Problem(404, "key-not-found", f"there is no key {which}")
        return key

    def all(self) -> list[Key]:
        """Every version of every key, by name and version."""
        found = (self._keys.get((row.name, row.version)) for row in self._registry.all())
        return [key for key in found if key is not None]

    def template(self, name: str) -> Template:
        """A key template; Problem 422 if there is none of this name."""
        template = self._templates.get(name)
        if template is None:
            raise Problem(422, "template-unknown", f"there is no key template {name}")
        return template

    def check_free(self, name: str, template: Template) -> Token:
        """The token in which a key `name` of `template` can be made; Problem 409 if it is taken or not open here."""
        row = self._registry.find(name)
        if row is not None and row.state is not KeyState.PENDING:
            raise Problem(409, "key-exists", f"there is already a key {name}")
        token = self._tokens.get(template.token)
        if token is None:
            raise Problem(409, "token-not-open", f"token {template.token} is not open in this process")
        return token

    def generate(self, name: str, template: Template, owner: str | None, now: datetime) -> Key:
        """Makes the key in its token and takes it into custody; raises HsmError, Problem 409 if the name is taken."""

        def make(token: Token, cka_id: bytes) -> None:
            usage = USAGES[template.purpose]
            kind, _, size = template.algorithm.partition("-")
            if kind == "rsa":
                token.generate_rsa(name, int(size), usage=usage, cka_id=cka_id)
            elif kind == "ec":
                token.generate_ec(name, size.upper().replace("P", "P-"), cka_id=cka_id)
            else:
                token.generate_aes(name, int(size), usage=usage, cka_id=cka_id)

        return self._make(name, template, owner, now, make)

    def import_zone_key(self, name: str, template: Template, components: Sequence[Secret], now: datetime) -> Key:
        """Loads a zone key from its components (see `Token.import_zone_key`)."""

        def load(token: Token, cka_id: bytes) -> None:
            kind, usage = _IMPORTED[template.purpose], USAGES[template.purpose]
            token.import_zone_key(name, kind, components, usage=usage, cka_id=cka_id)

        return self._make(name, template, None, now, load)

    def attach(self, key: Key, chain: Sequence[bytes]) -> Key:
        """Gives the key its certificate chain, which the caller has checked."""
        with self._lock:
            return self._take_in(self._registry.attach(key.row.name, key.row.version, chain), key.ref)

    def _make(
        self,
        name: str,
        template: Template,
        owner: str | None,
        now: datetime,
        make: Callable[[Token, bytes], None],
    ) -> Key:
        with self._lock:
            token = self.check_free(name, template)
            row = self._registry.reserve(
                name,
                template=template.name,
                owner=owner,
                token=template.token,
                cka_id=token.random(_ID_BYTES),
                now=now,
            )
            # A row taken up again may have its object already, from a process that was killed before it could say so.
            ref = token.find(cka_id=row.cka_id)
            if ref is None:
                make(token, row.cka_id)
                ref = token.find(cka_id=row.cka_id)
                assert ref is not None
            token.require_sound(ref, USAGES[template.purpose])
            public_key = spki_der(token.public_key(ref)) if template.is_pair else None
            return self._take_in(self._registry.enable(name, row.version, public_key), ref)

    def _take_in(self, row: RegisteredKey, ref: KeyRef | None) -> Key:
        key = self._join(row, ref)
        if key.unusable is not None:
            _log.error("key unusable", key=key.label, token=row.token, reason=key.unusable)
        self._keys[row.name, row.version] = key
        return key

    def _join(self, row: RegisteredKey, ref: KeyRef | None) -> Key:
        template = self._templates.get(row.template)
        if template is None:
            raise TemplatesError(f"key {row.name} was made from the template {row.template}, which is gone")
        signing = _signing_key(row, template)
        token = self._tokens.get(row.token)
        if token is None:
            return Key(row, template, None, None, signing, {}, f"token {row.token} is not open in this process")
        if row.state is KeyState.PENDING:
            return Key(row, template, token, None, signing, {}, "the making of the key was interrupted; make it again")
        if ref is None:
            return Key(row, template, token, None, signing, {}, "the token does not hold it")
        try:
            attributes = token.attributes(ref)
            attributes.require(ref.label, USAGES[template.purpose])
            if template.is_pair and spki_der(token.public_key(ref)) != row.public_key:
                return Key(row, template, token, ref, signing, attributes.protection(), "the token holds another key")
        except WeakKey as error:
            return Key(row, template, token, ref, signing, attributes.protection(), str(error))
        except HsmError as error:
            return Key(row, template, token, None, signing, {}, str(error))
        return Key(row, template, token, ref, signing, attributes.protection())


def _signing_key(row: RegisteredKey, template: Template) -> SigningKey | None:
    if row.public_key is None:
        return None
    public_key = load_der_public_key(row.public_key)
    assert isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    chain = tuple(x509.load_der_x509_certificate(der) for der in row.chain)
    return SigningKey(row.name, row.version, template, public_key, chain)
