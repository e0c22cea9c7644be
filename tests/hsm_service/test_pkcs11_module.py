"""The module is initialised for threads, has one configuration at a time, and is left in order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_service.errors import ModuleBusy, TokenClosed, TokenNotFound
from hsm_service.pkcs11_module import MODULE_VARIABLE, find_module, load_module
from hsm_service.provision import load_group
from hsm_service.token_layout import configuration_of, pin_file
from hsm_service.tokens import Token
from runtime.secrets import Secret, read_secret
from runtime.settings import Home
from tests.support.softhsm import opened, provisioned_home, run_python

# Replaces C_Initialize in the library's own function table by a spy, so that what a caller passes is seen.
_SPY = """
import ctypes, sys
from hsm_service import pkcs11_module as ours

library = ctypes.CDLL(sys.argv[1])
table = ctypes.POINTER(ours._FunctionList)()
library.C_GetFunctionList(ctypes.byref(table))
original = ours._initialize_t(table.contents.functions[0])

@ours._initialize_t
def spy(arguments):
    print(arguments.contents.flags if arguments else "NULL")
    return original(arguments)

table.contents.functions[0] = ctypes.cast(spy, ctypes.c_void_p).value
"""

_SOAK = """
import sys, threading, time
from pathlib import Path
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hsm_service.provision import open_token
from runtime.settings import Home

seconds = float(sys.argv[2])
token = open_token(Home(Path(sys.argv[1])), "merchants", sessions=8, acquire_timeout=60)
rsa_ref, rsa_public = token.generate_rsa("soak-rsa", 2048)
ec_ref, ec_public = token.generate_ec("soak-ec")
vault = token.generate_aes("soak-aes")
deadline = time.monotonic() + seconds
done, errors = [0] * 8, []

def work(number):
    try:
        while time.monotonic() < deadline:
            data = b"%d %d" % (number, done[number])
            match (number + done[number]) % 4:
                case 0:
                    signature = token.sign_pss_sha256(rsa_ref, data)
                    rsa_public.verify(signature, data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
                case 1:
                    signature = token.sign_pkcs1v15(rsa_ref, data)
                    rsa_public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
                case 2:
                    ec_public.verify(token.sign_ecdsa(ec_ref, data), data, ec.ECDSA(hashes.SHA256()))
                case 3:
                    assert token.aes_gcm_decrypt(vault, token.aes_gcm_encrypt(vault, data, b"aad"), b"aad") == data
            done[number] += 1
    except BaseException as error:
        errors.append(repr(error))

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for each in threads: each.start()
for each in threads: each.join()
token.close()
print(min(done), errors)
sys.exit(1 if errors or min(done) == 0 else 0)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("module"))


@pytest.fixture
def gateway(home: Home) -> Iterator[Token]:
    with opened(home, "gateway") as token:
        yield token


def test_our_library_is_initialised_with_operating_system_locking(home: Home) -> None:
    program = _SPY + "ours._ThreadSafeLibrary(sys.argv[1])"
    assert run_python(program, find_module()).stdout.split() == ["2"]


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_the_string_that_a_module_asks_for_reaches_it(how: str) -> None:
    """NSS softokn takes its configuration so; SoftHSM2 refuses any, which shows that it came."""
    program = (
        _SPY.replace("arguments.contents.flags", "arguments.contents.reserved.decode()")
        + """
import os, pathlib
from hsm_service.errors import TokenUnavailable
if sys.argv[2] == "variable":
    os.environ[ours.INITIALISATION_VARIABLE] = "configDir"
try:
    ours.load_module(pathlib.Path(sys.argv[1]), initialisation="configDir" if sys.argv[2] == "argument" else None)
except TokenUnavailable as refusal:
    print(refusal)
"""
    )
    result = run_python(program, find_module(), how)
    assert result.stdout.splitlines() == ["configDir", "C_Initialize answered 0x7"], result.stderr


def test_python_pkcs11_still_promises_a_single_thread(home: Home) -> None:
    """When this fails, python-pkcs11 passes CK_C_INITIALIZE_ARGS itself, and _ThreadSafeLibrary can go."""
    program = _SPY + "import pkcs11; pkcs11.lib(sys.argv[1])"
    assert run_python(program, find_module()).stdout.split() == ["NULL"]


@pytest.mark.slow
def test_eight_threads_with_mixed_keys_meet_no_error_in_ten_seconds(home: Home) -> None:
    result = run_python(_SOAK, home.path, "10")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_process_that_ends_with_an_open_token_ends_cleanly(home: Home) -> None:
    program = """
import sys
from pathlib import Path
from hsm_service.provision import open_token
from runtime.settings import Home
token = open_token(Home(Path(sys.argv[1])), "merchants")
token.sign_ecdsa(token.generate_ec("at exit")[0], b"data")
"""
    result = run_python(program, home.path)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_forked_child_is_refused(gateway: Token) -> None:
    child = os.fork()
    if child == 0:
        try:
            gateway.random(8)
        except TokenClosed:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(gateway.random(8)) == 8


def test_the_services_configuration_does_not_show_the_root_token(home: Home) -> None:
    assert sorted(load_group(home, "service").labels()) == ["ca", "gateway", "merchants", "standby"]
    assert load_group(home, "root").labels() == ["root"]


def test_the_configuration_cannot_change_while_a_token_is_open(home: Home, gateway: Token) -> None:
    with pytest.raises(ModuleBusy, match="gateway"):
        load_group(home, "root")
    assert len(gateway.random(8)) == 8


def test_a_token_is_opened_once_in_a_process(home: Home, gateway: Token) -> None:
    module = load_group(home, "service")
    with pytest.raises(ModuleBusy, match="already open"):
        Token.open(module, "gateway", read_secret(pin_file(home, "gateway")))
    assert len(gateway.random(8)) == 8


def test_tokens_of_one_configuration_are_open_side_by_side(home: Home, gateway: Token) -> None:
    with opened(home, "ca") as ca:
        assert len(ca.random(8)) == len(gateway.random(8))


def test_finalising_closes_the_tokens_and_loading_again_revives_the_module(home: Home) -> None:
    module = load_group(home, "service")
    token = Token.open(module, "ca", read_secret(pin_file(home, "ca")))
    module.finalize()
    with pytest.raises(TokenClosed):
        token.random(8)
    with pytest.raises(TokenClosed):
        module.labels()
    assert load_group(home, "service") is module
    with opened(home, "ca") as again:
        assert len(again.random(8)) == 8


def test_a_new_token_is_visible_at_once(home: Home, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(configuration_of(home, "root").read_text().replace(str(home.tokens / "root"), str(store)))
    module = load_module(softhsm_conf=configuration)
    assert module.labels() == []
    module.init_token("new", Secret(b"so-pin-of-the-token"), Secret(b"user-pin"))
    assert module.labels() == ["new"]
    with pytest.raises(ModuleBusy, match="already a token"):
        module.init_token("new", Secret(b"so-pin-of-the-token"), Secret(b"user-pin"))
    with Token.open(module, "new", Secret(b"user-pin")) as token:
        assert token.keys() == []


def test_an_unknown_label_is_named_with_those_that_exist(home: Home) -> None:
    with pytest.raises(TokenNotFound, match=r"'nowhere'.*gateway"):
        load_group(home, "service").token("nowhere")


def test_the_module_is_found_by_absolute_path_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODULE_VARIABLE, "libsofthsm2.so")
    with pytest.raises(TokenNotFound, match=r"libsofthsm2\.so"):
        find_module()
    monkeypatch.delenv(MODULE_VARIABLE)
    assert find_module().is_absolute()


def test_another_module_is_refused_in_the_same_process(home: Home, tmp_path: Path) -> None:
    load_group(home, "service")
    with pytest.raises(ModuleBusy, match="already loaded"):
        load_module(tmp_path / "other.so")


BESIDE_TLS = """
import ssl, sys
from pathlib import Path
from hsm_service.pkcs11_module import load_module
certificate, key, configuration = sys.argv[1:]
to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
here.load_cert_chain(certificate, key)
server = here.wrap_bio(to_server, to_client, server_side=True)
there = ssl.create_default_context(cafile=certificate)
there.check_hostname = False
client = there.wrap_bio(to_client, to_server)
for end in (client, server, client, server):
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        pass
server.write(b"before")
assert client.read(100) == b"before"
load_module(None, Path(configuration))
try:
    client.read(100)
except ssl.SSLWantReadError:
    print("still waits for what is to come")
server.write(b"after")
print(client.read(100).decode())
"""


def test_a_module_that_is_loaded_breaks_no_tls_connection_of_its_process(tmp_path: Path) -> None:
    """SoftHSM2 leaves errors in OpenSSL's queue, which Python's TLS would take for its own."""
    certificate, key, configuration = (tmp_path / name for name in ("cert.pem", "key.pem", "softhsm2.conf"))
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    configuration.write_text(f"directories.tokendir = {tmp_path}\n")
    arguments = [sys.executable, "-c", BESIDE_TLS, str(certificate), str(key), str(configuration)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["still waits for what is to come", "after"]
