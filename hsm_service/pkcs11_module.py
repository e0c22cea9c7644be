"""Loading the PKCS#11 module, safely for threads, once a process.

python-pkcs11 calls `C_Initialize(NULL)`, which promises that only one thread will ever call (PKCS#11 v2.40 5.4).
SoftHSM2 then switches its mutexes off, and two threads on two sessions crash within seconds. We therefore pass
`CK_C_INITIALIZE_ARGS` with `CKF_OS_LOCKING_OK`. python-pkcs11 offers no way to do so, hence the subclass below, which
makes the two calls through ctypes; `initialized` of its parent stays false for ever, so that nothing else finalises.

Some modules want a string from whoever loads them (NSS: `configDir='sql:…' …`), which travels in the same structure as
`pReserved`; it is `initialisation` here, or the variable KWBP_PKCS11_INITIALISATION.

A process opens one configuration at a time. Changing it (the ceremony goes from the services' tokens to the root's and
back) is finalise, change `SOFTHSM2_CONF`, initialise, and is refused while any token is open. The same is needed before
a token that was just initialised becomes visible.

After `fork()` the child shares token state with its parent and must not touch it (PKCS#11 v2.40 3.3): every call in the
child is refused. Start children with exec.

Finalise order, also at exit: drain and close sessions, log out, `C_Finalize`. The library is never unloaded, because
its OpenSSL registers exit handlers that would then point into nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, Self

import pkcs11
from pkcs11 import _pkcs11
from pkcs11.exceptions import PKCS11Error

from hsm_service.capabilities import Capabilities
from hsm_service.errors import HsmError, ModuleBusy, TokenClosed, TokenNotFound, TokenUnavailable
from hsm_service.openssl_errors import none_left
from runtime.secrets import Secret

MODULE_VARIABLE: Final = "KWBP_PKCS11_MODULE"
CONFIGURATION_VARIABLE: Final = "SOFTHSM2_CONF"
INITIALISATION_VARIABLE: Final = "KWBP_PKCS11_INITIALISATION"

# Absolute paths only: a search path would let whoever writes into a directory of it read every PIN.
_USUAL_PLACES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)

_CKF_OS_LOCKING_OK: Final = 0x2
_CKR_OK: Final = 0x0
_LABEL_BYTES: Final = 32
_READY: Final = pkcs11.TokenFlag.TOKEN_INITIALIZED | pkcs11.TokenFlag.USER_PIN_INITIALIZED


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (PKCS#11 v2.40 3.7): no mutex callbacks, the library uses the operating system's."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_char_p),
    )


class _FunctionList(ctypes.Structure):
    """The head of CK_FUNCTION_LIST (PKCS#11 v2.40 3.6): the version, then function pointers in the standard's order."""

    _fields_ = (
        ("major", ctypes.c_ubyte),
        ("minor", ctypes.c_ubyte),
        ("functions", ctypes.c_void_p * 10),
    )


_C_INITIALIZE: Final = 0
_C_FINALIZE: Final = 1
_C_INIT_TOKEN: Final = 9

_initialize_t = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.POINTER(_InitializeArgs))
_finalize_t = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_init_token_t = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class _ThreadSafeLibrary(_pkcs11.lib):
    """python-pkcs11's library object, initialised with operating-system locking and the module's own string."""

    def _function(self, index: int) -> int:
        if not hasattr(self, "_table"):
            # Opened a second time by name, so this is the library that the parent class holds; it is never closed.
            library = ctypes.CDLL(self._so)
            pointer = ctypes.POINTER(_FunctionList)()
            library.C_GetFunctionList.restype = ctypes.c_ulong
            library.C_GetFunctionList(ctypes.byref(pointer))
            self._table = pointer.contents
        return int(self._table.functions[index])

    def __new__(cls, so: str, initialisation: str | None = None) -> Self:
        return super().__new__(cls, so)  # type: ignore[call-arg]  # its __cinit__ takes this one, the stub says nothing

    def __init__(self, so: str, initialisation: str | None = None) -> None:
        self._so = so
        self._initialisation = initialisation.encode() if initialisation else None
        super().__init__(so)  # calls initialize()

    def initialize(self) -> None:
        arguments = _InitializeArgs(flags=_CKF_OS_LOCKING_OK, reserved=self._initialisation)
        with none_left():
            value = _initialize_t(self._function(_C_INITIALIZE))(ctypes.byref(arguments))
        _check("C_Initialize", value)

    def finalize(self) -> None:
        _check("C_Finalize", _finalize_t(self._function(_C_FINALIZE))(None))

    def init_token(self, slot_id: int, so_pin: Secret, label: str) -> None:
        pin = so_pin.reveal()
        padded = label.encode().ljust(_LABEL_BYTES)
        _check("C_InitToken", _init_token_t(self._function(_C_INIT_TOKEN))(slot_id, pin, len(pin), padded))


def _check(function: str, value: int) -> None:
    if value != _CKR_OK:
        raise TokenUnavailable(f"{function} answered 0x{value:x}")


class Holder(Protocol):
    """Something that keeps sessions open on the module and can give them back."""

    @property
    def label(self) -> str: ...

    def close(self) -> None: ...


class Pkcs11Module:
    """The one PKCS#11 module of this process. Made by `load_module`."""

    def __init__(self, path: Path, configuration: Path | None, initialisation: str | None = None) -> None:
        self.path: Final = path
        self.configuration = configuration
        self._lock = threading.RLock()
        self._holders: dict[str, Holder] = {}
        self._capabilities: dict[tuple[object, ...], Capabilities] = {}
        self._probing = threading.Lock()
        self._process = os.getpid()
        self._live = True
        with _environment(configuration):
            self._library = _load(path, initialisation)

    def __repr__(self) -> str:
        return f"<Pkcs11Module {self.path}>"

    @property
    def description(self) -> str:
        """What the module says it is, for logs: manufacturer, description and version. Never decide by it."""
        version = ".".join(map(str, self._library.library_version))
        return f"{self._library.manufacturer_id} {self._library.library_description} {version}"

    def check_usable(self) -> None:
        """Raise TokenClosed in a forked child or after `finalize`."""
        if os.getpid() != self._process:
            raise TokenClosed("this process was forked from one that had opened its tokens; start it with exec")
        if not self._live:
            raise TokenClosed("the PKCS#11 module was finalised")

    def labels(self) -> list[str]:
        """Labels of the tokens under this configuration that are initialised and have a user PIN."""
        self.check_usable()
        return [token.label for token in self._library.get_tokens() if _is_ready(token)]

    def token(self, label: str) -> pkcs11.Token:
        """The token with this label; raises TokenNotFound."""
        self.check_usable()
        found = [token for token in self._library.get_tokens(token_label=label) if _is_ready(token)]
        if len(found) != 1:
            raise TokenNotFound(f"{len(found)} tokens are labelled {label!r}, expected 1; there are {self.labels()}")
        return found[0]

    def init_token(self, label: str, so_pin: Secret, user_pin: Secret) -> None:
        """Initialise a free slot as token `label` and set both PINs, then re-initialise, so that it is visible.

        Raises ModuleBusy while tokens are open or if the label is taken, TokenNotFound if no slot is free.
        """
        with self._lock:
            self._refuse_if_held("initialise a token")
            if label in self.labels():
                raise ModuleBusy(f"there is already a token {label!r}")
            slot = self._free_slot(label)
            self._library.init_token(slot.slot_id, so_pin, label)
            with slot.get_token().open(rw=True, so_pin=so_pin.reveal().decode()) as session:
                session.init_pin(user_pin.reveal().decode())
            self.reinitialise()

    def reinitialise(self, configuration: Path | None = None) -> None:
        """Finalise and initialise again, with another SoftHSM2 configuration if one is given.

        Raises ModuleBusy while tokens are open.
        """
        with self._lock:
            self.check_usable()
            self._refuse_if_held("re-initialise the module")
            self._live = False
            self._library.finalize()
            self.configuration = configuration or self.configuration
            with _environment(self.configuration):
                self._library.initialize()
            self._live = True

    def hold(self, holder: Holder) -> None:
        """Register an open token; a label can be open once. Raises ModuleBusy."""
        with self._lock:
            self.check_usable()
            if holder.label in self._holders:
                # A second login would answer CKR_USER_ALREADY_LOGGED_IN, and closing either would log both out.
                raise ModuleBusy(f"token {holder.label!r} is already open in this process")
            self._holders[holder.label] = holder

    def capabilities_of(self, token: pkcs11.Token, probe: Callable[[], Capabilities]) -> Capabilities:
        """What `probe` finds out about a token, done once as long as model, versions and serial number stay."""
        known = (token.model, token.serial, str(token.firmware_version), str(token.hardware_version))
        with self._probing:
            if known not in self._capabilities:
                self._capabilities[known] = probe()
            return self._capabilities[known]

    def release(self, holder: Holder) -> None:
        """Forget a token that was closed."""
        with self._lock:
            if self._holders.get(holder.label) is holder:
                del self._holders[holder.label]

    def finalize(self) -> None:
        """Close every open token, then `C_Finalize`. The module can be loaded again afterwards."""
        with self._lock:
            if not self._live or os.getpid() != self._process:
                return
            for holder in list(self._holders.values()):
                holder.close()
            self._live = False
            self._library.finalize()

    def _revive(self, configuration: Path | None) -> None:
        with self._lock:
            if self._live:
                if configuration is not None and configuration != self.configuration:
                    self.reinitialise(configuration)
                return
            self.configuration = configuration or self.configuration
            with _environment(self.configuration):
                self._library.initialize()
            self._live = True

    def _free_slot(self, label: str) -> pkcs11.Slot:
        """An uninitialised slot, or the one where an earlier attempt for `label` was cut off before the user PIN."""
        tokens = [slot.get_token() for slot in self._library.get_slots(token_present=True)]
        unfinished = [token for token in tokens if token.label == label and not _is_ready(token)]
        uninitialised = [token for token in tokens if not token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED]
        for token in unfinished + uninitialised:
            return token.slot
        raise TokenNotFound("no slot holds a token that could be initialised")

    def _refuse_if_held(self, action: str) -> None:
        if self._holders:
            raise ModuleBusy(f"cannot {action} while tokens are open: {sorted(self._holders)}")


_loading = threading.Lock()
_module: Pkcs11Module | None = None


def find_module() -> Path:
    """The module's path: `KWBP_PKCS11_MODULE`, or SoftHSM2 where Debian, Ubuntu and Fedora put it."""
    named = os.environ.get(MODULE_VARIABLE)
    candidates = (named,) if named else _USUAL_PLACES
    for candidate in candidates:
        path = Path(candidate)
        if path.is_absolute() and path.is_file():
            return path
    raise TokenNotFound(f"no PKCS#11 module at {', '.join(candidates)}; install softhsm2 or set {MODULE_VARIABLE}")


def load_module(
    path: Path | None = None, softhsm_conf: Path | None = None, *, initialisation: str | None = None
) -> Pkcs11Module:
    """Load the module, or change the configuration of the loaded one.

    `path` is an absolute path (default: `find_module()`), `softhsm_conf` the SoftHSM2 configuration file (default: what
    the environment says), `initialisation` the string that the module gets when it is loaded for the first time
    (default: KWBP_PKCS11_INITIALISATION). Raises TokenNotFound without a module, ModuleBusy if tokens are open under
    another configuration or another module is loaded, TokenClosed in a forked child.
    """
    global _module  # a PKCS#11 module is process-wide by its standard
    path = path or find_module()
    with _loading:
        if _module is None:
            _module = Pkcs11Module(path, softhsm_conf, initialisation or os.environ.get(INITIALISATION_VARIABLE))
            atexit.register(_finalize_at_exit, _module)
            return _module
        if os.getpid() != _module._process:
            _module.check_usable()
        if path != _module.path:
            raise ModuleBusy(f"{_module.path} is already loaded in this process")
        _module._revive(softhsm_conf)
        return _module


def _is_ready(token: pkcs11.Token) -> bool:
    return token.flags & _READY == _READY


def _load(path: Path, initialisation: str | None) -> _ThreadSafeLibrary:
    try:
        return _ThreadSafeLibrary(str(path), initialisation)
    except PKCS11Error as error:
        raise TokenUnavailable(f"cannot load the PKCS#11 module {path}: {error}") from None


def _finalize_at_exit(module: Pkcs11Module) -> None:
    # A session that is still busy keeps its token open; then nothing is finalised and the process just ends.
    with contextlib.suppress(HsmError, PKCS11Error):
        module.finalize()


@contextlib.contextmanager
def _environment(configuration: Path | None) -> Iterator[None]:
    """SOFTHSM2_CONF set for the time of C_Initialize, the only moment when SoftHSM2 reads it."""
    if configuration is None:
        yield
        return
    before = os.environ.get(CONFIGURATION_VARIABLE)
    os.environ[CONFIGURATION_VARIABLE] = str(configuration)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CONFIGURATION_VARIABLE]
        else:
            os.environ[CONFIGURATION_VARIABLE] = before
