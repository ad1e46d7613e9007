"""One IDX file: what was written comes back, and what is broken is named."""

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_convae.data.idx import idx_bytes, read_idx
from torch_convae.errors import ConvaeError


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), packed=st.booleans(), seed=st.integers(0, 99))
def test_what_was_written_is_read_back(shape: list[int], packed: bool, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
        np.testing.assert_array_equal(read_idx(path, len(shape)), array)


WHOLE = idx_bytes(np.ones((2, 3), np.uint8))
BROKEN = {
    "an empty file": (b"", "begins with nothing; download"),
    "text": (b"<html>", "is no IDX file: it begins with 3c 68 74 6d; download"),
    "floats": (struct.pack(">BBBBII", 0, 0, 0x0D, 2, 1, 1) + bytes(4), "type 0x0d"),
    "other dimensions": (idx_bytes(np.ones(3, np.uint8)), "1 dimensions where 2 are due; check"),
    "half a header": (WHOLE[:7], "ends within its header; download"),
    "too few bytes": (WHOLE[:-1], "6 bytes (2 x 3) but has only 5; download"),
    "too many bytes": (WHOLE + b"x", "6 bytes (2 x 3) but has more; download"),
    "half a gzip": (gzip.compress(WHOLE)[:-9], "cannot be read"),
    "a corrupt gzip": (gzip.compress(WHOLE)[:10] + bytes([255] * 20), "cannot be read"),
    "a gzip whose checksum is wrong": (gzip.compress(WHOLE)[:-8] + bytes(8), "cannot be read"),
    "a header of terabytes": (struct.pack(">BBBBII", 0, 0, 8, 2, 2**31, 2**12), "8192.0 GiB of memory"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(ConvaeError) as caught:
        read_idx(path, 2)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvaeError, match="gone is no regular file; put the IDX file there"):
        read_idx(tmp_path / "gone", 1)


def test_a_header_of_too_many_images_says_what_it_claims(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**6, 2**6))
    with pytest.raises(ConvaeError) as caught:
        read_idx(path, 3)
    assert "broken says it holds 2147483648 x 64 x 64 bytes, which would take 8192.0 GiB" in str(caught.value)
    assert str(caught.value).endswith("; check it, or download it again.")
