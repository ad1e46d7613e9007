"""The digest that our files end with, to be taken off again."""

from pathlib import Path

from bridge.hdf5 import superblock

LENGTH = len("\ntorch-convae sha256 \n") + 64


def without_digest(path: Path) -> bytes:
    """An HDF5 file of ours as it was before it got its digest, for which HDF5's own end lies farther back."""
    content = path.read_bytes()[:-LENGTH]
    with path.open("rb") as file:
        found = superblock.find(file.fileno(), len(content))
    assert found is not None
    assert found.end == len(content) + LENGTH
    return content[: found.place] + found.ending_at(len(content)) + content[found.place + len(found.content) :]
