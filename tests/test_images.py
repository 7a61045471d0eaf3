"""What the model sees is what the published transforms make of the original; broken files are named."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from xpronet.data.pack import ImagePack, normalise
from xpronet.sources.images import read_image
from xpronet.sources.pack_writer import pack_image, write_pack


def picture(height=400, width=300, seed=0):
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 10, width // 10), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def pack(folder, images, *, train=True):
    write_pack(
        folder / "p.u8",
        folder / "p.json",
        (pack_image(image, resize=256, crop=224, train=train) for image in images),
        resize=256,
        crop=224,
    )
    return ImagePack(folder / "p.u8", folder / "p.json")


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
    square = pack(tmp_path, [picture(seed=9), image]).square(1).copy()
    torch.testing.assert_close(normalise(torch.from_numpy(square)), published, rtol=0, atol=1e-6)


def test_pack_gives_windows_of_the_published_train_transform(tmp_path):
    image = picture()
    resized = np.asarray(transforms.Resize(256)(Image.fromarray(image).convert("RGB")))[..., 0]
    packed, offsets = pack(tmp_path, [image]), set()
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
    outside = folder.parent / "outside.png"
    Image.fromarray(picture()).save(outside)
    (folder / "link.png").symlink_to(outside)


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
