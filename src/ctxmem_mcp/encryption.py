"""Encrypts files in the format of age, with a passphrase or for recipients' keys. Needs the extra `age`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctxmem_mcp.errors import InvalidArgument

SUFFIX = ".age"
_MARK, _WITH_PASSPHRASE = b"age-encryption.org/v1\n", b"age-encryption.org/v1\n-> scrypt "


def is_encrypted(raw: bytes) -> bool:
    """Returns whether a file that begins with these bytes is encrypted."""
    return raw.startswith(_MARK)


def needs_passphrase(raw: bytes) -> bool:
    """Returns whether an encrypted file was encrypted with a passphrase."""
    return raw.startswith(_WITH_PASSPHRASE)


def encrypt(raw: bytes, *, passphrase: str | None = None, recipients: Sequence[str] = ()) -> bytes:
    """Returns the encrypted bytes.

    Args:
        raw: The bytes.
        passphrase: The passphrase, if there are no recipients.
        recipients: The public keys of those who can decrypt it: of age (`age1...`) or of SSH.

    Raises:
        InvalidArgument: A key is none, or pyrage is not installed.
    """
    pyrage = load_pyrage()
    encrypted: bytes
    if recipients:
        encrypted = pyrage.encrypt(raw, [_recipient(pyrage, key) for key in recipients])
    else:
        encrypted = pyrage.passphrase.encrypt(raw, passphrase)
    return encrypted


def decrypt(raw: bytes, *, passphrase: str | None = None, identity: str | None = None) -> bytes:
    """Returns the decrypted bytes.

    Args:
        raw: The encrypted bytes.
        passphrase: The passphrase that they were encrypted with.
        identity: One or more secret keys: of age, each on a line, or one of SSH.

    Raises:
        InvalidArgument: The passphrase or the key is the wrong one, the bytes are damaged, or pyrage is not installed.
    """
    pyrage = load_pyrage()
    try:
        if needs_passphrase(raw):
            decrypted: bytes = pyrage.passphrase.decrypt(raw, passphrase or "")
        else:
            decrypted = pyrage.decrypt(raw, _identities(pyrage, identity or ""))
    except pyrage.DecryptError as error:
        what = "passphrase" if needs_passphrase(raw) else "key"
        raise InvalidArgument(what, f"does not decrypt it ({error})", f"Check the {what}.") from None
    return decrypted


def new_identity() -> tuple[str, str]:
    """Returns a new secret key of age, and its public key."""
    identity = load_pyrage().x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def read_identity(path: Path) -> str:
    """Returns the secret keys in a file.

    Raises:
        InvalidArgument: It can't be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"names {path}, which can't be read ({error})"
        raise InvalidArgument("CTXMEM_AGE_IDENTITY", rule, "Name the file with your secret key.") from None


def load_pyrage() -> Any:
    """Returns the module that encrypts.

    Raises:
        InvalidArgument: It is not installed.
    """
    try:
        import pyrage
    except ImportError as error:
        raise InvalidArgument(
            "--encrypt", "requires pyrage, which is not installed", "Install it: pip install 'ctxmem-mcp[age]'."
        ) from error
    return pyrage


def _recipient(pyrage: Any, key: str) -> Any:
    try:
        return (pyrage.ssh if key.startswith("ssh-") else pyrage.x25519).Recipient.from_str(key)
    except pyrage.RecipientError as error:
        rule = f"is no public key of age or SSH: {key!r} ({error})"
        raise InvalidArgument("--recipient", rule, "It begins with age1 or ssh-.") from None


def _identities(pyrage: Any, text: str) -> list[Any]:
    try:
        if "PRIVATE KEY" in text:
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        lines = [line.strip() for line in text.splitlines()]
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError as error:
        rule = f"names a file without a secret key ({error})"
        raise InvalidArgument("CTXMEM_AGE_IDENTITY", rule, "age-keygen writes one.") from None
