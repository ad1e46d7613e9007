"""Image files of every kind: colour, orientation, size, and what cannot be decoded safely."""

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from torch_convae.data import Request, load_data
from torch_convae.errors import ConvaeError

Write = Callable[..., Path]


def train_images(folder: Path, size: tuple[int, int] | None = None) -> Tensor:
    """The images of train; first what a test wrote as class a, unless it sorts after plain.png."""
    return load_data(Request(str(folder), size=size)).splits["train"].images


@pytest.fixture
def folder(tmp_path: Path, picture: Write) -> Path:
    """Two classes below train and test with one plain RGB image each."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "plain.png")
    return tmp_path


@pytest.mark.parametrize(
    ("mode", "colour", "suffix"),
    [
        ("L", 50, "png"),
        ("1", 1, "png"),
        ("LA", (50, 9), "png"),
        ("P", 0, "png"),
        ("RGBA", (50, 60, 70, 9), "png"),
        ("CMYK", (0, 0, 0, 0), "tif"),
        ("RGB", (50, 60, 70), "bmp"),
        ("RGB", (50, 60, 70), "webp"),
        ("YCbCr", (50, 128, 128), "jpg"),
    ],
)
def test_every_colour_format_becomes_rgb(folder: Path, picture: Write, mode: str, colour: object, suffix: str) -> None:
    path = picture(folder / "train" / "a" / f"other.{suffix}", colour, mode)
    with Image.open(path) as image:
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(train_images(folder)[0], expected)


def test_a_palette_with_transparency_becomes_rgb_without_a_warning(folder: Path) -> None:
    image = Image.new("P", (4, 6), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(folder / "train" / "a" / "other.png", transparency=bytes([0, 128]))
    assert train_images(folder)[0, :, 0, 0].tolist() == [10, 20, 30]


def test_images_stay_grey_if_all_are(tmp_path: Path, picture: Write) -> None:
    for name, mode, colour in (("a", "L", 7), ("b", "1", 1)):
        for index in range(2):
            picture(tmp_path / name / f"{index}.png", colour, mode)
    train = load_data(Request(str(tmp_path))).splits["train"]
    assert train.images.shape == (2, 1, 6, 4)
    assert train.images[:, 0, 0, 0].tolist() == [7, 255]


def test_a_picture_taken_sideways_is_turned_upright(folder: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255  # the stored top row is the right column once turned
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "train" / "a" / "other.png", exif=exif)
    turned = train_images(folder)[0]
    assert turned.shape == (3, 6, 4)
    assert (turned[:, :, 3] == 255).all()
    assert (turned[:, :, :3] == 0).all()


def test_a_size_resizes_with_antialiasing(folder: Path) -> None:
    stripes = np.zeros((8, 8), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).convert("RGB").save(folder / "train" / "a" / "other.png")
    small = train_images(folder, size=(3, 2))[0].float()
    assert small.shape == (3, 3, 2)
    assert (small - 100).abs().max() < 15  # without antialiasing a stripe would be hit or missed


@pytest.mark.parametrize("size", [(5, 4), (4, 6)])
def test_images_of_two_sizes_want_a_size(folder: Path, picture: Write, size: tuple[int, int]) -> None:
    picture(folder / "train" / "a" / "zebra.png", size=size)
    with pytest.raises(ConvaeError, match=rf"zebra\.png is {size[0]} x {size[1]} .* is 6 x 4; pass a --size"):
        train_images(folder)
    assert train_images(folder, size=(3, 3)).shape == (3, 3, 3, 3)


def test_a_truncated_image_is_named(folder: Path) -> None:
    path = folder / "train" / "a" / "cut.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConvaeError, match=r"cut\.png cannot be decoded \(.*\); repair it, or remove it"):
        train_images(folder, size=(6, 4))


@pytest.mark.parametrize("most_pixels", [10, 20])
def test_a_decompression_bomb_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, most_pixels: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most_pixels)  # 24 pixels: an error for 10, a warning for 20
    with pytest.raises(ConvaeError, match=r"plain\.png has more pixels than is safe to decode; make it smaller"):
        train_images(folder)


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("F", "tif"), ("I", "tif")])
def test_numbers_wider_than_a_byte_are_refused(folder: Path, picture: Write, mode: str, suffix: str) -> None:
    picture(folder / "train" / "a" / f"wide.{suffix}", 300, mode)
    with pytest.raises(ConvaeError, match=rf"wide\.{suffix} has numbers wider than 8 bits .*; save it as 8-bit"):
        train_images(folder)


def deep_png(kind: int, channels: int) -> bytes:
    """4 x 4 pixels of 16 bits a channel, which Pillow does not write in colour."""
    rows = b"".join(b"\0" + bytes(2 * 4 * channels) for _ in range(4))
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def deep_tiff(planes: int) -> bytes:
    """The same as RGB, pixel by pixel (1) or plane by plane (2)."""
    starts, bits, pixels = 200, 240, 300
    strips = (1, pixels, 96) if planes == 1 else (3, starts, starts + 12)
    tags = [(256, 1, 4), (257, 1, 4), (258, 3, bits), (259, 1, 1), (262, 1, 2)]
    tags += [(273, strips[0], strips[1]), (277, 1, 3), (278, 1, 4), (279, strips[0], strips[2]), (284, 1, planes)]
    written = b"".join(struct.pack("<HHII", tag, 3 if tag == 258 else 4, count, value) for tag, count, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + written + bytes(4)
    places = struct.pack("<6I", pixels, pixels + 32, pixels + 64, 32, 32, 32)
    return (
        (head.ljust(starts, b"\0") + places).ljust(bits, b"\0") + struct.pack("<3H", 16, 16, 16).ljust(60) + bytes(96)
    )


def packed(text: bytes) -> bytes:
    """A file of 4 x 6 pixels that Pillow cannot write."""
    return zlib.decompress(base64.b85decode(text))


SGI = struct.pack(">HBBHHHHII", 474, 0, 2, 3, 4, 6, 3, 0, 65535).ljust(512, b"\0") + bytes(2 * 4 * 6 * 3)
CODESTREAM = packed(
    b"c-s5#|38pHp8*6|fS8Q|0Z{qO{EUnc^goD!2PnYE$iTwF!1zCgfyJTWe+q*t1EX_MYGO%hib7JQf`373o>zdYyFyuN"
    b"QE_H|o`R8{sh-LI2@G6d)3ksZC*S`uVFSadDz?M>mK&c^3kt}(*=F?CMr$fleM7_ln*gRcCC~"
)
JPEG_2000 = packed(
    b"c-muNVBpCLP*C9IYUg5LU=T?wsVvAUFj4@r8KAT-kj?<oVwo8!ML?Pjh*=nz`Po5g82FR(bBY+jOaUNX1XP^--~WFg"
    b"gFaY{1*!oCQ2EUKjEoTUKZt<`D8R_bz{0}7_&<h$#i8MU3WF*GqjOPeVo7R>LQ<uIe?e-VSAeU#LRo52ab|v=f{~u7"
    b"p2`0S3|wH-w165X-~TaT1H-8*w!{0D8=q1O3dp+IX7tuZYbsNHL&N`@0O$}i4*"
)
AVIF_OF_10_BITS = packed(
    b"c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xy^zOdYzkElE?r7iWw<6MNl?FL1uCZ0~+8f$SlbPvlxL`E;A=T8N_h`"
    b"@fjhajKV-#35Yc^GxO5mYNddjR3<1dvCP2GIX@>KY*$uhK~Vva_RcIw&Ii&WnZ*UEQ2SVbm<@;p3NkA)K?2NNTwFkk"
    b"C$Y@XxlzFZBqW@ipHq~VoKwNT1cYo2Kq2wWf?SxNfDU6}WNHSPq?MbJSR%y0#bLp+>mCaWuY!??q*F4>0R|JG4HF#n"
    b"Bv;7acQptA0GkRk{{"
)


DEEP = {
    "rgb.png": deep_png(2, 3),
    "grey-alpha.png": deep_png(4, 2),
    "rgba.png": deep_png(6, 4),
    "rgb.tif": deep_tiff(1),
    "planes.tif": deep_tiff(2),
    "rgb.ppm": b"P6 4 4 65535\n" + bytes(96),
    "rgb.sgi": SGI,
    "rgb.j2k": CODESTREAM,
    "rgb.jp2": JPEG_2000,
    "rgb.avif": AVIF_OF_10_BITS,
}


def skip_unless_read(suffix: str) -> None:
    """Some builds of Pillow lack some formats."""
    if not features.check({"avif": "avif", "j2k": "jpg_2000", "jp2": "jpg_2000"}.get(suffix, "zlib")):
        pytest.skip(f"this Pillow reads no .{suffix}")


@pytest.mark.parametrize("name", DEEP)
def test_colour_of_16_bits_is_refused_and_not_cut_down(folder: Path, name: str) -> None:
    skip_unless_read(name.rpartition(".")[2])
    path = folder / "train" / "a" / name
    path.write_bytes(DEEP[name])
    with Image.open(path) as image:
        image.load()  # Pillow takes it
    with pytest.raises(ConvaeError, match=rf"{name} has more than 8 bits a channel; save it as 8-bit"):
        train_images(folder)


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm", "sgi", "j2k", "jp2", "avif"])
def test_colour_of_8_bits_is_taken_in_every_format(folder: Path, suffix: str) -> None:
    skip_unless_read(suffix)
    Image.new("RGB", (4, 6), (255, 0, 0)).save(folder / "train" / "a" / f"other.{suffix}")
    assert train_images(folder)[0, 0].min() > 240


def test_a_bitmap_of_16_bits_a_pixel_is_taken(folder: Path) -> None:
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 102, 0, 0, 54, 40, 4, 6, 1, 16, 0, 48, 0, 0, 0, 0)
    (folder / "train" / "a" / "other.bmp").write_bytes(header + bytes(48))
    assert train_images(folder)[0].max() == 0


def test_a_file_of_several_frames_is_refused(folder: Path) -> None:
    frames = [Image.new("L", (4, 6), value) for value in (0, 100, 200)]
    frames[0].save(folder / "train" / "a" / "film.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ConvaeError, match=r"film\.tif holds 3 frames; save each as a file of its own"):
        train_images(folder)


def test_postscript_is_not_run(folder: Path) -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\n%%EndComments\nshowpage\n"
    (folder / "train" / "a" / "drawing.eps").write_bytes(program)
    with pytest.raises(ConvaeError, match=r"drawing\.eps cannot be decoded \(cannot identify"):
        train_images(folder)
