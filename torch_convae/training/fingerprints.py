"""Files as a hash of their contents, so that a run that goes on notices other ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import ConvaeError

PIECE = 2**20


def fingerprint_of_path(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names; what cannot be read is refused."""
    digest = hashlib.sha256()
    try:
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as opened:
                while piece := opened.read(PIECE):
                    digest.update(piece)
    except OSError as error:
        raise ConvaeError(f"{path} cannot be read: {error.strerror}. Check path and permissions.") from error
    return digest.hexdigest()
