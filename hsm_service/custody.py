"""The keys in our custody: each registry row joined with its objects in the open tokens, checked, ready to be used.

A key is usable only if a token holds it, protects it as its purpose demands, and its public half is the one in the
registry. Whatever is not so is listed with the reason and serves nobody; a token object that no row knows is logged.
All of it is looked at when the tokens are opened, and again on a clock (`hsm_service.key_check`). Whoever signs takes
no lock: it finds the key as it was last seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hsm_service.errors import BadInput, TokenTrouble, WrongCheckValue
from hsm_service.judging import SigningKey
from hsm_service.kept_key import Key
from hsm_service.key_places import Fault, Place, look, protection_of
from hsm_service.key_states import Change, KeyState
from hsm_service.key_versions import RegisteredKey, standing
from hsm_service.keys import ZONE_ALGORITHMS, KeyRef, Usage
from hsm_service.limits import Limits
from hsm_service.purposes import USAGES
from hsm_service.registry import Registry
from hsm_service.templates import Template, Templates, TemplatesError
from hsm_service.token_operations import TokenOperations
from pki.keys import spki_der
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.secrets import Secret

__all__ = ["Custody", "Key"]

_ID_BYTES: Final = 16
_WRAPPING_BYTES: Final = 8
_WRAPPED_PART: Final = 32
"""The second part of an X9.19 key."""
_log = get_logger("custody")

_TAKING_BACK: Final = {
    KeyState.ENABLED: Change.DISABLE,
    KeyState.DISABLED: Change.SCHEDULE,
    KeyState.DESTROY_SCHEDULED: Change.DESTROY,
}

Make = Callable[[TokenOperations, bytes], None]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Custody:
    """Keys of the open tokens, by name. Safe for threads."""

    def __init__(
        self,
        tokens: Mapping[str, TokenOperations],
        registry: Registry,
        templates: Templates,
        *,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._tokens = tokens
        self._registry = registry
        self._templates = templates
        self._clock = clock
        self._lock = threading.Lock()  # one change at a time
        self._keys: dict[tuple[str, int], Key] = {}
        self._strangers: dict[str, frozenset[bytes]] = {}
        self.check()

    # -- finding -------------------------------------------------------------------------------------------------------

    def find(self, name: str, version: int | None = None) -> Key:
        """A version of a key, by default the one in use; Problem 404 if there is none."""
        in_use = self._in_use(name)
        row = in_use if version is None and in_use is not None else self._registry.find(name, version)
        # A key that is registered but not yet made (another request is waiting for its token) is not there either.
        key = None if row is None else self._keys.get((row.name, row.version))
        if key is None:
            which = name if version is None else f"{name}, version {version}"
            raise Problem(404, "key-not-found", f"there is no key {which}")
        return key.standing_as(standing(key.row, in_use))

    def _in_use(self, name: str) -> RegisteredKey | None:
        """The version in use. One that was made this moment and not looked at yet is none: the one before serves."""
        row = self._registry.in_use(name)
        while row is not None and not self._is_kept(row):
            row = self._registry.find(name, row.version - 1)
        return row

    def knows(self, name: str) -> bool:
        """Whether there is, or was, a key of this name that was made."""
        row = self._registry.find(name)
        return row is not None and row.state is not KeyState.PENDING

    def versions(self, name: str) -> list[Key]:
        """Every version of a key, the newest first; Problem 404 if there is none."""
        found = [self.find(name, row.version) for row in self._registry.versions(name) if self._is_kept(row)]
        if not found:
            raise Problem(404, "key-not-found", f"there is no key {name}")
        return found

    def all(self) -> list[Key]:
        """Every version of every key, by name and version."""
        return [self.find(row.name, row.version) for row in self._registry.all() if self._is_kept(row)]

    def template(self, name: str) -> Template:
        """A key template; Problem 422 if there is none of this name."""
        template = self._templates.get(name)
        if template is None:
            raise Problem(422, "template-unknown", f"there is no key template {name}")
        return template

    def token(self, label: str) -> TokenOperations:
        """An open token; Problem 409 if it is not open here."""
        token = self._tokens.get(label)
        if token is None:
            raise Problem(409, "token-not-open", f"token {label} is not open in this process")
        return token

    def _is_kept(self, row: RegisteredKey) -> bool:
        return (row.name, row.version) in self._keys

    # -- making --------------------------------------------------------------------------------------------------------

    def check_free(self, name: str, template: Template) -> TokenOperations:
        """The token in which a key `name` of `template` can be made; Problem 409 if it is taken or not open here."""
        row = self._registry.find(name)
        if row is not None and row.state is not KeyState.PENDING:
            raise Problem(409, "key-exists", f"there is already a key {name}")
        return self.token(template.token)

    def generate(self, name: str, template: Template, owner: str | None, now: datetime) -> Key:
        """Makes the key in its token and takes it into custody; raises HsmError, Problem 409 if the name is taken."""
        return self._make_first(name, template, owner, now, _maker(name, template))

    def import_zone_key(self, name: str, template: Template, components: Sequence[Secret], now: datetime) -> Key:
        """Loads a zone key from its components (see `Token.import_zone_key`)."""
        return self._make_first(name, template, None, now, _loader(name, template, components))

    def rotate(
        self, key: Key, activates_at: datetime, now: datetime, components: Sequence[Secret] | None = None
    ) -> Key:
        """Makes the next version of the key, which begins at `activates_at`, or later once it has its certificate.

        A zone key is loaded from `components`. What a killed process left PENDING is taken up.
        """
        template, name = key.template, key.row.name
        make = _maker(name, template) if components is None else _loader(name, template, components)
        with self._lock:
            token = self.token(template.token)
            row = self._registry.reserve_next(
                name,
                token=template.token,
                cka_id=token.random(_ID_BYTES),
                now=now,
                activates_at=activates_at,
                backup=template.backup,
            )
            return self._finish_making(row, template, token, make)

    def receive(self, master: Key, key: Key, version: int, wrapped: bytes, check_value: bytes, now: datetime) -> Key:
        """Takes in version `version` of a zone key, wrapped under `master`; it is in use at once.

        Raises WrongCheckValue (the row that is left is taken up by the next try), Problem 409 if it is not the
        next version.
        """
        name, template = key.row.name, key.template
        (kind, size), usage = ZONE_ALGORITHMS[template.algorithm], USAGES[template.purpose]
        if len(wrapped) != size + _WRAPPING_BYTES + (_WRAPPED_PART if usage is Usage.RETAIL_MAC else 0):
            raise BadInput(f"a {template.algorithm} key for {name} does not come in {len(wrapped)} bytes")
        _, under = master.use()

        def unwrap(token: TokenOperations, cka_id: bytes) -> None:
            token.unwrap_zone_key(under, name, kind, wrapped, check_value, usage=usage, cka_id=cka_id)

        with self._lock:
            if (taken := self.received(name, version, check_value)) is not None:  # by whoever had the lock before
                return taken
            newest = self._registry.versions(name)[0]
            if newest.version + (newest.state is not KeyState.PENDING) != version:
                raise Problem(409, "wrong-key-index", f"version {version} of {name} is not the next one")
            token = self.token(template.token)
            fresh = token.random(_ID_BYTES)
            row = self._registry.reserve_next(name, token=template.token, cka_id=fresh, now=now, activates_at=now)
            # A killed process may have left the object, of another key that was sent before this one.
            left = token.find(cka_id=row.cka_id)
            if left is not None and token.check_value(left, usage) != check_value:
                token.destroy(left)
            return self._finish_making(row, template, token, unwrap)

    def received(self, name: str, version: int, check_value: bytes) -> Key | None:
        """The version in use, if it is `version`; raises WrongCheckValue if that is another key than was said."""
        key = self.find(name)
        if key.row.version != version:
            return None
        token, ref = key.use()
        if token.check_value(ref, USAGES[key.template.purpose]) != check_value:
            raise WrongCheckValue(f"version {version} of {name} is here already, and another key")
        return key

    def end(self, key: Key) -> Key:
        """Destroys a version at once; nobody may need it any more."""
        while key.row.state is not KeyState.DESTROYED:
            key = self.change(key, _TAKING_BACK[key.row.state], at=self._clock())
        return key

    def _make_first(self, name: str, template: Template, owner: str | None, now: datetime, make: Make) -> Key:
        with self._lock:
            token = self.check_free(name, template)
            row = self._registry.reserve(
                name,
                template=template.name,
                owner=owner,
                token=template.token,
                cka_id=token.random(_ID_BYTES),
                now=now,
                backup=template.backup,
            )
            return self._finish_making(row, template, token, make)

    def _finish_making(self, row: RegisteredKey, template: Template, token: TokenOperations, make: Make) -> Key:
        # A row taken up again may have its object already, from a process that was killed before it could say so.
        ref = token.find(cka_id=row.cka_id)
        if ref is None:
            make(token, row.cka_id)
            ref = token.find(cka_id=row.cka_id)
            assert ref is not None
        ref = replace(ref, protection=protection_of(row, template, token.label))
        token.require_sound(ref, USAGES[template.purpose])
        public_key = spki_der(token.public_key(ref)) if template.is_pair else None
        return self._take_in(self._registry.made(row.name, row.version, public_key))

    # -- changing ------------------------------------------------------------------------------------------------------

    def attach(self, key: Key, chain: Sequence[bytes]) -> Key:
        """Gives the key its certificate chain, which the caller has checked."""
        with self._lock:
            return self._renew(self._registry.attach(key.row.name, key.row.version, chain))

    def change(self, key: Key, change: Change, *, at: datetime | None = None) -> Key:
        """Changes the state of a version; Problem 409 where `key_states` has no such change.

        A destruction is written down first and done in every token that holds the key afterwards; what a token could
        not do, or a killed process did not come to, the next check does (`check`).
        """
        with self._lock:
            row = self._registry.change(key.row.name, key.row.version, change, at=at, now=self._clock())
            if change is Change.DESTROY:
                return self._take_in(row)
            return self._renew(row)

    def limit(self, key: Key, limits: Limits) -> Key:
        """Gives a version limits of its own."""
        with self._lock:
            return self._renew(self._registry.limit(key.row.name, key.row.version, limits))

    def add_replica(self, key: Key, label: str) -> Key:
        """A further token holds the key now: it is looked at, and takes over when those before it fail."""
        with self._lock:
            return self._take_in(self._registry.add_replica(key.row.name, key.row.version, label))

    def move(self, key: Key, label: str) -> Key:
        """The token `label`, which holds the key as a replica, is its own from now on; what was is lost for good."""
        with self._lock:
            return self._take_in(self._registry.move(key.row.name, key.row.version, label))

    def look_again(self, key: Key) -> Key:
        """The key as its tokens hold it now."""
        with self._lock:
            row = self._registry.find(key.row.name, key.row.version)
            assert row is not None  # its row is there as long as the key is
            return self._take_in(row)

    def take_back(self, key: Key) -> None:
        """Destroys a key that nobody certified, at once, and frees its name; a process that was killed does it again.

        Raises TokenTrouble if its token does not do it: then it is destroyed at the next check, and its name is kept.
        """
        key = self.end(key)
        with self._lock:
            for label in (key.row.token, *key.row.replicas):
                if self.token(label).find(cka_id=key.row.cka_id) is not None:
                    raise TokenTrouble(f"token {label} still holds key {key.label}")
            self._registry.forget(key.row.name)
            self._keys.pop((key.row.name, key.row.version), None)

    def due(self, now: datetime) -> list[Key]:
        """The versions whose scheduled destruction is due."""
        return [
            key
            for key in self.all()
            if key.row.state is KeyState.DESTROY_SCHEDULED
            and key.row.destroy_at is not None
            and key.row.destroy_at <= now
        ]

    # -- checking ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Looks at every key in every open token; what is wrong serves nobody until a check finds it right again.

        Nobody who signs waits for it. A token that does not answer leaves its keys as they were last seen.
        """
        held = {label: objects for label, token in self._tokens.items() if (objects := _held(token)) is not None}
        rows = self._registry.all()
        for row in rows:
            seen = self._look_everywhere(row, held)
            with self._lock:
                current = self._registry.find(row.name, row.version)
                if current is row:  # whatever was changed meanwhile was looked at by whoever changed it
                    self._keep(row, seen)
        known = {(label, row.cka_id) for row in rows for label in (row.token, *row.replicas)}
        for label, objects in held.items():
            strangers = frozenset(cka_id for cka_id in objects if (label, cka_id) not in known)
            # A key that was reserved after the rows were read is no stranger.
            strangers -= {row.cka_id for row in self._registry.all() if label in (row.token, *row.replicas)}
            for cka_id in strangers - self._strangers.get(label, frozenset()):
                _log.error("token holds a key that the registry does not know", token=label, key=objects[cka_id].label)
            self._strangers[label] = strangers

    def unfit(self, token: TokenOperations) -> dict[str, str]:
        """Of the enabled keys in `token`, those whose purpose it was seen not to serve, with the reasons."""
        found = {}
        for key in list(self._keys.values()):
            if key.row.state is KeyState.ENABLED and any(place.token is token for place in key.places):
                lacks = token.capabilities.lacks(key.template.purpose, key.template.algorithm)
                if lacks:
                    found[key.label] = "; ".join(each.refusal for each in lacks)
        return found

    def faults(self) -> dict[Fault, int]:
        """How many places do not serve although they should, and objects that nobody knows, by the reason."""
        counts = dict.fromkeys(Fault, 0)
        for key in list(self._keys.values()):
            if key.row.state is KeyState.ENABLED:
                for place in key.places:
                    if place.fault is not None:
                        counts[place.fault] += 1
        counts[Fault.UNKNOWN] = sum(map(len, self._strangers.values()))
        return counts

    def _take_in(self, row: RegisteredKey) -> Key:
        """Look at the key afresh, and keep it as it is seen."""
        labels = [label for label in (row.token, *row.replicas) if label in self._tokens]
        held = {}
        for label in labels:
            with _trouble_aside(label):
                ref = self._tokens[label].find(cka_id=row.cka_id)
                held[label] = {} if ref is None else {row.cka_id: ref}
        return self._keep(row, self._look_everywhere(row, held))

    def _renew(self, row: RegisteredKey) -> Key:
        """Keep the key with another row, in the places where it was last seen."""
        return self._keep(row, self._keys[row.name, row.version].places)

    def _look_everywhere(self, row: RegisteredKey, held: Mapping[str, Mapping[bytes, KeyRef]]) -> tuple[Place, ...]:
        template = self._template_of(row)
        before = {place.label: place for place in self._places_before(row)}
        places = []
        for label in (row.token, *row.replicas):
            token = self._tokens.get(label)
            if token is not None and label not in held:
                places.append(before.get(label) or Place(label, token, fault=Fault.TROUBLE, reason="no answer yet"))
                continue
            ref = held.get(label, {}).get(row.cka_id)
            if row.state is KeyState.DESTROYED and token is not None and ref is not None:
                with _trouble_aside(label):
                    token.destroy(ref)
                    _log.warning("key destroyed", key=row.label, token=label)
            place = look(row, template, label, token, ref)
            if place.fault is Fault.TROUBLE and label in before:
                place = before[label]
            places.append(place)
        return tuple(places)

    def _places_before(self, row: RegisteredKey) -> tuple[Place, ...]:
        key = self._keys.get((row.name, row.version))
        return () if key is None else key.places

    def _keep(self, row: RegisteredKey, places: tuple[Place, ...]) -> Key:
        template, former = self._template_of(row), self._keys.get((row.name, row.version))
        before = {place.label: place.reason for place in self._places_before(row)}
        for place in places:
            if place.reason != before.get(place.label) and row.state is not KeyState.DESTROYED:
                if place.reason is not None:
                    _log.error("key unusable", key=row.label, token=place.label, reason=place.reason)
                else:
                    _log.info("key usable again", key=row.label, token=place.label)
        if former is not None and (former.row.public_key, former.row.chain) == (row.public_key, row.chain):
            signing = former.signing  # with what it has worked out already
        else:
            signing = _signing_key(row, template)
        ends = signing.chain[0].not_valid_after_utc if signing is not None and signing.chain else None
        key = Key(row, template, signing, template.limits_of(row.limits), places, ends)
        self._keys[row.name, row.version] = key
        # What began with this version retired the one before it.
        older = self._registry.find(row.name, row.version - 1)
        kept = self._keys.get((row.name, row.version - 1))
        if older is not None and kept is not None and kept.row is not older:
            self._keys[row.name, row.version - 1] = replace(kept, row=older)
        return key.standing_as(standing(row, self._registry.in_use(row.name)))

    def _template_of(self, row: RegisteredKey) -> Template:
        template = self._templates.get(row.template)
        if template is None:
            raise TemplatesError(f"key {row.name} was made from the template {row.template}, which is gone")
        return template


def _maker(name: str, template: Template) -> Make:
    """What makes a key of `template` in its token, under a given CKA_ID."""

    def make(token: TokenOperations, cka_id: bytes) -> None:
        usage = USAGES[template.purpose]
        kind, _, size = template.algorithm.partition("-")
        if kind == "rsa":
            token.generate_rsa(name, int(size), usage=usage, cka_id=cka_id, copyable=template.backup)
        elif kind == "ec":
            token.generate_ec(name, size.upper().replace("P", "P-"), cka_id=cka_id, copyable=template.backup)
        else:
            token.generate_aes(name, int(size), usage=usage, cka_id=cka_id)

    return make


def _loader(name: str, template: Template, components: Sequence[Secret]) -> Make:
    """What loads a zone key of `template` from its components."""

    def load(token: TokenOperations, cka_id: bytes) -> None:
        (kind, size), usage = ZONE_ALGORITHMS[template.algorithm], USAGES[template.purpose]
        if any(len(each.reveal()) != size for each in components):
            raise BadInput(f"every component of a {template.algorithm} key has {size} bytes")
        token.import_zone_key(name, kind, components, usage=usage, cka_id=cka_id)

    return load


def _held(token: TokenOperations) -> dict[bytes, KeyRef] | None:
    """The keys on a token by CKA_ID; None if it does not say."""
    try:
        return {ref.cka_id: ref for ref in token.keys()}  # noqa: SIM118  # a method, no mapping
    except TokenTrouble as error:
        _log.warning("token does not answer a check", token=token.label, reason=str(error))
        return None


@contextmanager
def _trouble_aside(label: str) -> Iterator[None]:
    """A token's trouble is not its keys': it is logged, and the keys stay as they were last seen."""
    try:
        yield
    except TokenTrouble as error:
        _log.warning("token does not answer a check", token=label, reason=str(error))


def _signing_key(row: RegisteredKey, template: Template) -> SigningKey | None:
    if row.public_key is None:
        return None
    public_key = load_der_public_key(row.public_key)
    assert isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    chain = tuple(x509.load_der_x509_certificate(der) for der in row.chain)
    return SigningKey(row.name, row.version, template, public_key, chain)
