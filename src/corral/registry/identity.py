"""The key pair by which a registry may know this machine: Ollama's, where there is one, else one of our own.

    ~/.ollama/id_ed25519    made by Ollama, read where it is
    ~/.corral/id_ed25519    made here on the first request that needs one, with its public half in id_ed25519.pub

Both are OpenSSH files without a passphrase. A machine without a usable key is nobody's mistake: public models need none, so
what keeps a key from being used is a line in the log, and the request goes on without it.
cryptography is imported when something is signed.
Source: ollama@v0.32 auth/auth.go, Sign; server/auth.go, getAuthorizationToken.
"""

import base64
import contextlib
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.core.aio import ThreadLimiter

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

log: Final = logging.getLogger(__name__)
_KEY: Final = "id_ed25519"
_EMPTY_BODY: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


class Identity:
    """Signs for this machine. The home folder is looked at when something is to be signed, not before."""

    def __init__(self, home: Path, threads: ThreadLimiter) -> None:
        self._ollamas = home / ".ollama" / _KEY
        self._ours = home / ".corral" / _KEY
        self._threads = threads
        self._used = self._ours

    @property
    def public_path(self) -> Path:
        return self._used.with_name(f"{_KEY}.pub")

    async def sign_get(self, url: str) -> str:
        return await self._threads.run(self._sign, f"GET,{url},{_EMPTY_BODY}".encode())

    def _sign(self, text: bytes) -> str:
        """`PUBLIC:SIGNATURE`, both in base64; "" where no key can be read or made."""
        try:
            key = self._key()
        except (OSError, ValueError, TypeError, ImportError) as exc:  # as cryptography words a passphrase and a broken file
            log.warning("cannot sign in", extra={"key": str(self._used), "error": str(exc)})
            return ""
        return f"{_public_text(key).split()[1]}:{base64.b64encode(key.sign(text)).decode()}"

    def _key(self) -> "Ed25519PrivateKey":
        for path in (self._ollamas, self._ours):
            self._used = path
            with contextlib.suppress(FileNotFoundError):
                return _read(path)
        return _make(self._ours)


def _read(path: Path) -> "Ed25519PrivateKey":
    """Raises OSError; ValueError or TypeError for what is no such key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is no ed25519 key")  # noqa: TRY004  one more way of not being a key, for the caller's list
    return key


def _make(path: Path) -> "Ed25519PrivateKey":
    """A new key in its file. Of two servers that make it at once, one wins and both use that."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = _written(path.parent, text)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return _read(path)
    finally:
        temporary.unlink()
    public = _written(path.parent, f"{_public_text(key)}\n".encode())
    public.chmod(0o644)
    public.replace(path.with_name(f"{path.name}.pub"))
    return key


def _written(folder: Path, data: bytes) -> Path:
    """A new file that only this user can read, and that is on disk."""
    fd, name = tempfile.mkstemp(prefix=f".{_KEY}-", dir=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    return Path(name)


def _public_text(key: "Ed25519PrivateKey") -> str:
    """`ssh-ed25519 BASE64`"""
    from cryptography.hazmat.primitives import serialization

    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
