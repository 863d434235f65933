"""Fetch a file from GitHub: whole and as expected, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from lm_eval_trust.benchmarks.catalogue import DataFile
from lm_eval_trust.core.errors import ExternalError

#: Names another server with GitHub's layout, e.g. a mirror inside a firewall.
BASE_VARIABLE = "LM_EVAL_TRUST_GITHUB"
GITHUB = "https://raw.githubusercontent.com"
TIMEOUT_SECONDS = 60


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def download(file: DataFile, path: Path) -> None:
    """Write ``file`` to ``path``: fetched, converted and checked against its checksum.

    Raises:
        ExternalError: The server refused, broke off, or sent other bytes than expected.
    """
    base = os.environ.get(BASE_VARIABLE, GITHUB).rstrip("/")
    address = f"{base}/{file.address}"
    content = _converted(file, _get(address), address)
    actual = sha256_of(content)
    if actual != file.sha256:
        raise ExternalError(
            f"{address} is not the {file.path} that is expected: its SHA-256 is {actual} instead "
            f"of {file.sha256}. Nothing was kept; put a right copy into LM_EVAL_TRUST_DATA."
        )
    path.write_bytes(content)


def _get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        raise ExternalError(
            f"{address} answered {error.code} {error.reason}; the file or its revision does not "
            f"exist there, or access is refused."
        ) from error
    except http.client.IncompleteRead as error:
        raise ExternalError(
            f"The connection to {address} broke off after {len(error.partial)} bytes; nothing was "
            f"kept. Try again."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ExternalError(f"Cannot reach {address}: {reason}.") from error


def _converted(file: DataFile, content: bytes, address: str) -> bytes:
    if file.convert is None:
        return content
    try:
        return file.convert(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ExternalError(
            f"{address} has another layout than the one that {file.path} is made from ({error!r})."
        ) from error
