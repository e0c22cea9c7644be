"""The bundle of a case: OpenSSL alone says that it holds, and finds what is changed in it, digests adjusted or not."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from audit.checkpoint import Checkpoint
from audit.log_key import LogKey
from audit.note import Note, log_signature
from audit.proving import prove
from cps import strict_yaml
from cps.packs import published_file
from ra import story
from ra.bundle.contents import EXECUTABLE, Records, contents
from tests.support.cps_cases import Office
from tests.support.judges import trusting_machine
from tests.support.pki_factory import Key, PkiFactory, p256
from tests.support.ra_world import OPERATOR, RaWorld


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bundle of a merchant's case that was certified, accepted by signature, and revoked later."""
    world = RaWorld(tmp_path_factory.mktemp("world"), Office())
    key = p256()
    application = world.certified_merchant(key=key)
    world.workflow.accept(OPERATOR, application.id, world.acceptance(application.id, key))
    (issued,) = world.store.certificates(application.id)
    certificate = x509.load_der_x509_certificate(issued.der)
    world.workflow.revoke(OPERATOR, world.office.revocation(certificate, world.office.vetter, date=world.now))
    files = contents(records(world, application.id, p256()), now=world.now)
    world.close()
    return files


def records(world: RaWorld, application_id: str, log_key: Key) -> Records:
    """What the RA has on record, with its journal signed by the key of the log."""
    pki, case = world.office.pki, world.workflow.dossier(world.store.application(application_id))
    assert isinstance(log_key, ec.EllipticCurvePrivateKey)
    service = pki.service("log-ra", key=log_key)
    log = LogKey("log-ra", (service.certificate, *service.chain))
    journal = world.record.journal
    text = Checkpoint(log.origin, journal.size, journal.root()).text
    signature = log_signature(log.verifier, log_key.sign(text.encode(), ec.ECDSA(SHA256())))
    journal.publish(Note(text, (signature,)).encode())
    told = story.of_application(world.workflow, OPERATOR, application_id)
    indices = [each.journal_index for each in told.transitions if each.journal_index is not None]
    return Records(
        story=told,
        dossier=case,
        bodies={each.sha256: world.store.evidence_body(application_id, each.sha256) for each in case.evidence},
        root=pki.root.certificate,
        authorities=[each.certificate for each in pki.authorities if each.certificate != pki.root.certificate],
        crls=[each.crl(world.now) for each in pki.authorities],
        pack=strict_yaml.load(published_file()),
        proofs=[prove(world.journal, index, log) for index in indices],
    )


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def judged(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[bool, str]:
    command = ["sh", str(folder / EXECUTABLE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    return done.returncode == 0, done.stdout + done.stderr


def test_openssl_alone_says_that_an_honest_bundle_holds(made: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(made, tmp_path / "bundle")
    holds, said = judged(folder, str(folder / "root.pem"))
    assert holds, said
    for part in (
        "decision 2 of",
        "exactly what was approved",
        "the acceptance is signed",
        "the order about",
        "in the log",
    ):
        assert part in said


def test_a_change_of_any_file_is_found(made: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(made, tmp_path / "bundle")
    missed = []
    for name, honest in made.items():
        if name == EXECUTABLE:
            continue  # a script cannot vouch for itself: it is compared with the one of the release
        changed = bytearray(honest or b"x")
        changed[len(changed) // 2] ^= 1
        (folder / name).write_bytes(changed if honest else b"x")
        if judged(folder)[0]:
            missed.append(name)
        (folder / name).write_bytes(honest)
    assert missed == []


def test_a_file_more_or_less_is_found(made: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(made, tmp_path / "bundle")
    (folder / "decisions" / "3.p7s").write_bytes(b"one more")
    assert not judged(folder)[0]
    (folder / "decisions" / "3.p7s").unlink()
    (folder / "checks.json").unlink()
    assert not judged(folder)[0]


def flipped(name: str) -> Callable[[dict[str, bytes]], None]:
    """Change one bit in the middle of a file."""

    def change(files: dict[str, bytes]) -> None:
        found = next(each for each in sorted(files) if each.startswith(name))
        content = bytearray(files[found])
        content[len(content) // 2] ^= 1
        files[found] = bytes(content)

    return change


def without_a_decision(files: dict[str, bytes]) -> None:
    del files["decisions/2.p7s"]
    files["case.txt"] = b"".join(each for each in files["case.txt"].splitlines(True) if b"decision 2" not in each)


def without_a_decision_and_its_step(files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(files["decisions/2.p7s"]).hexdigest().encode()
    without_a_decision(files)
    entry = next(each for each in files if each.endswith(".entry") and digest in files[each])
    for ending in ("entry", "path", "checkpoint"):
        del files[entry.replace("entry", ending)]
    index = entry.removeprefix("log/log-ra-").removesuffix(".entry").encode()
    kept = [each for each in files["case.txt"].splitlines(True) if b"entry log-ra " + index + b" " not in each]
    files["case.txt"] = b"".join(kept)


def another_entry(files: dict[str, bytes]) -> None:
    name = next(each for each in sorted(files) if each.endswith(".entry"))
    files[name] = files[name].replace(b"transition", b"transformed")


def another_time(files: dict[str, bytes]) -> None:
    files["case.txt"] = files["case.txt"].replace(b"decision 1 1", b"decision 1 2")


@pytest.mark.parametrize(
    "change",
    [
        *(flipped(name) for name in ("revision.json", "decisions/1", "acceptance", "crls/")),
        without_a_decision,
        without_a_decision_and_its_step,
        another_entry,
        another_time,
    ],
)
def test_a_forger_who_adjusts_the_digests_is_found(
    made: dict[str, bytes], tmp_path: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    files = dict(made)
    change(files)
    adjust(files)
    holds, said = judged(written(files, tmp_path / "bundle"))
    assert not holds, said
    assert "ok       all digests" in said


def adjust(files: dict[str, bytes]) -> None:
    """The digests are those of the files."""
    listed = {name: content for name, content in files.items() if name not in {EXECUTABLE, "digests.txt"}}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(listed.items())]
    files["digests.txt"] = "".join(lines).encode()


def test_what_the_machine_trusts_is_not_what_the_reader_trusts(made: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(made["root.pem"])
    machine = trusting_machine(tmp_path / "root.pem", tmp_path / "trusted")
    other = PkiFactory(brand="Another").root.certificate.public_bytes(Encoding.PEM)
    files = {**made, "root.pem": other}
    adjust(files)
    holds, said = judged(written(files, tmp_path / "bundle"), environment=machine)
    assert not holds, said
    assert "ok       all digests" in said
    assert "FAILED   decision 1 of" in said


def test_another_root_is_not_the_trusted_one(made: dict[str, bytes], tmp_path: Path) -> None:
    folder = written(made, tmp_path / "bundle")
    other = tmp_path / "other.pem"
    shutil.copy(folder / "chain" / sorted(each.name for each in (folder / "chain").iterdir())[0], other)
    holds, said = judged(folder, str(other))
    assert not holds
    assert "FAILED   the root is the one that is trusted" in said
