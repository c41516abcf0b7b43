"""What a configuration was: the SHA-256 of each of its files. Blocking."""

import hashlib
from pathlib import Path


def fingerprints(directory: Path) -> dict[str, str]:
    """By name inside the directory, one folder deep; of a file that cannot be read, why."""
    files = (path for place in ("*", "*/*") for path in sorted(directory.glob(place)))
    return {
        str(path.relative_to(directory)): _fingerprint(path) for path in files if path.is_file()
    }


def _fingerprint(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return str(error.strerror)
