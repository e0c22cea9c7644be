"""PINs come from files, systemd credentials, descriptors and terminals, and show themselves nowhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hsm_service.pin_sources import PinCredential, PinDescriptor, PinFile, PinPrompt, PinSource, pin_source
from runtime.secrets import Secret, SecretFileError

PIN = Secret(b"8201-seven")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ca-pin"
    path.write_bytes(PIN.reveal() + b"\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("file:/etc/pin", PinFile(Path("/etc/pin"))),
        ("file:///etc/pin", PinFile(Path("/etc/pin"))),
        ("file://localhost/etc/pin", PinFile(Path("/etc/pin"))),
        ("credential:ca-pin", PinCredential("ca-pin")),
        ("fd:3", PinDescriptor(3)),
        ("prompt:", PinPrompt("ca")),
    ],
)
def test_a_pin_source_names_where_the_pin_is(value: str, expected: PinSource) -> None:
    assert pin_source(value, "ca") == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "73019284",
        "/etc/pin",
        "file:etc/pin",
        "file:",
        "file://host/etc/pin",
        "file:/etc/a%20pin",
        "|/usr/bin/pinentry",
        "https://vault/pin",
        "credential:",
        "credential:../shadow",
        "credential:..",
        "fd:0",
        "fd:2",
        "fd:-1",
        "fd:three",
        "fd:99999",
        "prompt:1234",
    ],
)
def test_another_pin_source_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(ValueError) as caught:
        pin_source(value, "ca")
    given = value.rpartition(":")[2]
    assert len(given) < 6 or given not in str(caught.value)


def test_a_file_is_read_afresh_each_time(file: Path) -> None:
    source = PinFile(file)
    assert source() == PIN
    file.write_bytes(b"4711\n")
    assert source() == Secret(b"4711")


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    file.chmod(0o640)
    with pytest.raises(SecretFileError, match="0640"):
        PinFile(file)()


@pytest.mark.parametrize("content", [b"", b"\n", b"1" * 256])
def test_what_cannot_be_a_pin_is_never_tried(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for source in (
        PinFile(file),
        PinCredential(file.name, {"CREDENTIALS_DIRECTORY": str(file.parent)}),
        PinDescriptor(_pipe(content)),
    ):
        with pytest.raises(SecretFileError, match="holds no PIN"):
            source()


def test_a_credential_is_read_from_the_folder_that_systemd_made(file: Path) -> None:
    file.chmod(0o440)  # as systemd leaves it when an ACL lets the service's user in
    assert PinCredential(file.name, {"CREDENTIALS_DIRECTORY": str(file.parent)})() == PIN


def test_a_credential_for_everybody_is_refused(file: Path) -> None:
    file.chmod(0o604)
    with pytest.raises(SecretFileError, match="every user"):
        PinCredential(file.name, {"CREDENTIALS_DIRECTORY": str(file.parent)})()


@pytest.mark.parametrize("environment", [{}, {"CREDENTIALS_DIRECTORY": "here"}])
def test_without_systemd_there_is_no_credential(environment: dict[str, str]) -> None:
    with pytest.raises(SecretFileError, match="needs systemd"):
        PinCredential("ca-pin", environment)()


def test_a_credential_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="ca-pin: No such file"):
        PinCredential("ca-pin", {"CREDENTIALS_DIRECTORY": str(tmp_path)})()


def test_a_pipe_is_read_once_and_its_pin_kept() -> None:
    source = PinDescriptor(_pipe(PIN.reveal() + b"\n"))
    assert source() == PIN
    assert source() == PIN
    with pytest.raises(OSError):
        os.fstat(source.number)


def test_a_file_behind_a_descriptor_is_read_from_its_beginning_each_time(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        source = PinDescriptor(descriptor)
        assert source() == source() == PIN
    finally:
        os.close(descriptor)


def test_a_descriptor_that_nobody_left_open_is_named() -> None:
    descriptor = _pipe(b"")
    os.close(descriptor)
    with pytest.raises(SecretFileError, match=f"fd:{descriptor}"):
        PinDescriptor(descriptor)()


def test_a_prompt_needs_a_terminal() -> None:
    asked: list[str] = []
    source = PinPrompt("root", ask=lambda text: asked.append(text) or "1", at_terminal=lambda: False)
    with pytest.raises(SecretFileError, match="there is none"):
        source()
    assert asked == []


def test_a_prompt_does_not_echo() -> None:
    ours, theirs = pty.openpty()
    program = (
        "from hsm_service.pin_sources import PinPrompt; import sys; "
        "print('OK' if PinPrompt('root')().reveal() == b'8201-seven' else 'other', flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while b"PIN of token root" not in said:
        said += os.read(ours, 1000)
    os.write(ours, PIN.reveal() + b"\n")
    while b"OK" not in said and b"other" not in said:
        said += os.read(ours, 1000)
    assert child.wait(30) == 0
    os.close(ours)
    assert b"OK" in said
    assert PIN.reveal() not in said


def test_no_source_shows_its_pin(file: Path) -> None:
    pipe = PinDescriptor(_pipe(PIN.reveal()))
    prompt = PinPrompt("ca", ask=lambda _: PIN.reveal().decode(), at_terminal=lambda: True)
    for source in (pipe, prompt, PinFile(file)):
        assert source() == PIN
        assert PIN.reveal().decode() not in f"{source} {source!r} {source()}"


def _pipe(content: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading
