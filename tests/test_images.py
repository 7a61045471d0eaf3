"""What the model sees is what the published transforms make of the original; broken files are named."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision import transforms

from tests.made import pack_of
from xpronet.data.pack import normalise
from xpronet.sources.images import decode, read_image


def picture(height=400, width=300, seed=0):
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 10, width // 10), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (256, 256), (250, 1000), (2000, 1700)])
def test_pack_gives_the_published_test_transform(tmp_path, shape):
    image = picture(*shape)
    published = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )(Image.fromarray(image).convert("RGB"))
    square = pack_of(tmp_path, [picture(seed=9), image], resize=256, crop=224).square(1).copy()
    torch.testing.assert_close(normalise(torch.from_numpy(square)), published, rtol=0, atol=1e-6)


def test_pack_gives_windows_of_the_published_train_transform(tmp_path):
    image = picture()
    resized = np.asarray(transforms.Resize(256)(Image.fromarray(image).convert("RGB")))[..., 0]
    packed, offsets = pack_of(tmp_path, [image], resize=256, crop=224), set()
    windows = np.lib.stride_tricks.sliding_window_view(resized, (224, 224))
    for seed in range(10):
        crop = packed.random_crop(0, torch.Generator().manual_seed(seed))
        found = np.argwhere((windows == crop).all(axis=(2, 3)))
        assert len(found) == 1
        offsets.add(tuple(found[0]))
    assert len(offsets) > 7
    assert {y for y, _ in offsets} <= set(range(resized.shape[0] - 223))


@pytest.mark.parametrize(("suffix", "limit"), [("png", 0), ("jpg", 12)])
def test_reads_grey_pictures(tmp_path, suffix, limit):
    image = picture()
    Image.fromarray(image).save(tmp_path / f"a.{suffix}", quality=95)
    Image.fromarray(image).convert("RGB").save(tmp_path / f"b.{suffix}", quality=95)
    for name in "ab":
        found = read_image(tmp_path / f"{name}.{suffix}")
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - image).max() <= limit


def test_sixteen_bits_keep_their_order(tmp_path):
    image = picture()
    Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


def save_with_sbit(path, values, bits):
    """A grey PNG of 16 bits that says how many of them are significant."""
    Image.fromarray(values).save(path)
    data, chunk = path.read_bytes(), b"sBIT" + bytes([bits])
    head = 8 + 25  # signature and IHDR
    path.write_bytes(data[:head] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[head:])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_that_hold_fewer_keep_their_greys(tmp_path, bits, suffix):
    """A detector of 12 bits gives 4095 for white: greys from 0 to 255 all the same."""
    image = picture().copy()
    image[0, 0] = 255
    Image.fromarray(image.astype(np.uint16) << bits - 8).save(tmp_path / f"a.{suffix}")
    found = decode(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(found.pixels, image)
    assert found.note == (f"values of {bits} bits in a deeper file, shown in the whole range of grey" * (bits < 16))


@pytest.mark.parametrize(
    ("largest", "says", "bits"),
    [(900, 12, 12), (4095, 12, 12), (65520, 12, 16), (900, 16, 16), (900, 3, 10), (4096, 10, 16)],
)
def test_what_a_png_says_of_its_bits_comes_before_the_range(tmp_path, largest, says, bits):
    """A dark picture of a deep detector stays dark; values that are spread over 16 bits, as the standard wants, too."""
    values = np.linspace(0, largest, 600).astype(np.uint16).reshape(20, 30)
    save_with_sbit(tmp_path / "a.png", values, says)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values >> bits - 8)


def test_full_range_and_signed_values(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values >> 8)
    Image.fromarray(values[:16].astype(np.int32) - 2048).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values[:16] >> 4)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "b.png")
    assert decode(tmp_path / "b.png").note == "" and not read_image(tmp_path / "b.png").any()


def test_pixels_whose_white_nobody_knows_are_a_line(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: its pixels are fractions"):
        read_image(tmp_path / "a.tif")
    for largest in (4095, 65535):  # Pillow has no colour of 16 bits: it keeps the high bytes
        write_deep_colour(tmp_path / f"{largest}.png", np.linspace(0, largest, 48).astype(">u2"))
    with pytest.raises(ValueError, match=r"4095\.png: colour of 16 bits with values of fewer"):
        read_image(tmp_path / "4095.png")
    assert read_image(tmp_path / "65535.png").max() > 240


def write_deep_colour(path, values):
    """A PNG of 4 x 4 pixels in colour of 16 bits, by hand."""
    rows = b"".join(b"\0" + row.tobytes() for row in values.reshape(4, 12))
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "limit"), [("png", 0), ("jpg", 12)])
def test_a_picture_stands_as_its_orientation_says(tmp_path, suffix, limit, orientation):
    """EXIF's eight ways to hold a camera: how the stored rows and columns become an upright picture."""
    upright = picture()
    turns = {3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}  # quarters to the left that store it so; even ways mirror it first
    stored = np.rot90(np.fliplr(upright) if orientation in (2, 4, 5, 7) else upright, turns.get(orientation, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif, **{"quality": 95} if suffix == "jpg" else {})
    found = read_image(tmp_path / f"a.{suffix}")
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= limit


def broken_folder(folder):
    Image.fromarray(picture()).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:3000])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [("cut", "broken image"), ("text", "not an image"), ("empty", "not an image"), ("none", "no such image")],
)
def test_a_broken_image_is_one_clear_line(tmp_path, name, message):
    folder = tmp_path / "images"
    folder.mkdir()
    broken_folder(folder)
    with pytest.raises(ValueError, match=message) as error:
        read_image(folder / f"{name}.png")
    assert f"{name}.png" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_of_a_stranger_s_file_no_more_pixels_are_decoded_than_allowed(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture()).save(path)
    assert read_image(path, most=400 * 300).shape == (400, 300)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=f"^{path}: 400 x 300 pixels, more than 119,999: save it smaller$"):
        read_image(path, most=400 * 300 - 1)


@pytest.mark.parametrize("size", [(30_000, 2), (1, 21)])
def test_a_strip_is_no_radiograph(tmp_path, size):
    """By its shorter side it would be packed as 256 x 3,840,000 pixels, and the process killed."""
    path = tmp_path / "strip.png"
    Image.new("L", size, 7).save(path)
    with pytest.raises(ValueError, match=rf"strip.png: {size[1]} x {size[0]} pixels: no radiograph is so narrow$"):
        read_image(path)
