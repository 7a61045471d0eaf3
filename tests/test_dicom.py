"""A DICOM radiograph looks as in a viewer, and what is no chest radiograph never reaches a model."""

import gdcm
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from xpronet.data.pack import ImagePack
from xpronet.sources.images import read_image
from xpronet.sources.pack_writer import pack_image, write_pack

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)  # black at the upper left, white at the lower right


def ramp(bits=12):
    return np.rint(RAMP * (2**bits - 1))


def save(path, stored, *, bits=12, signed=False, syntax=ExplicitVRLittleEndian, preamble=True, **tags):
    """A DX image of the stored values (H, W) or (H, W, 3); `tags` replace what is usual, None leaves it out."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    data.Modality, data.BodyPartExamined, data.PhotometricInterpretation = "DX", "CHEST", "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[:2]
    data.SamplesPerPixel = 3 if stored.ndim == 3 else 1
    data.BitsAllocated, data.BitsStored, data.HighBit = (8 if bits <= 8 else 16), bits, bits - 1
    data.PixelRepresentation = int(signed)
    dtype = f"{'i' if signed else 'u'}{data.BitsAllocated // 8}"
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed else syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.PixelData = np.ascontiguousarray(stored.astype(f"<{dtype}")).tobytes()
    if syntax.is_compressed:
        data.compress(syntax)
    if preamble:
        data.save_as(path, enforce_file_format=True)
    else:
        del data.file_meta
        data.save_as(path, implicit_vr=True, little_endian=True)
    return path


def near(found, expected, limit=1):
    assert found.dtype == np.uint8 and found.shape == expected.shape
    np.testing.assert_allclose(found.astype(int), np.rint(expected * 255), atol=limit)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_bit_depths(tmp_path, bits):
    near(read_image(save(tmp_path / "a.dcm", ramp(bits), bits=bits)), RAMP)


def test_signed_values_and_rescale(tmp_path):
    stored = ramp(12) - 2048
    tags = {"RescaleSlope": "2", "RescaleIntercept": "-100"}
    near(read_image(save(tmp_path / "a.dcm", stored, signed=True, **tags)), RAMP)


def test_polarity(tmp_path):
    """MONOCHROME1 stores white as 0; PresentationLUTShape INVERSE beside it says the same, not the opposite."""
    for tags in ({}, {"PresentationLUTShape": "INVERSE"}):
        path = save(tmp_path / "a.dcm", ramp(), PhotometricInterpretation="MONOCHROME1", **tags)
        near(read_image(path), 1 - RAMP)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows(tmp_path, function):
    """Of several windows the first; formulas of PS3.3 C.11.2.1, written out."""
    stored, center, width = ramp(), 1500.0, 800.0
    tags = {"WindowCenter": ["1500", "9"], "WindowWidth": ["800", "9"]}
    if function:
        tags["VOILUTFunction"] = function
    found = read_image(save(tmp_path / "a.dcm", stored, **tags))
    if function == "SIGMOID":
        expected = 1 / (1 + np.exp(-4 * (stored - center) / width))
    elif function == "LINEAR_EXACT":
        expected = ((stored - center) / width + 0.5).clip(0, 1)
    else:
        expected = ((stored - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    near(found, expected)


@pytest.mark.parametrize("polarity", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("tags", [{}, {"WindowCenter": "1725", "WindowWidth": "2550"}])
def test_a_slope_below_zero_turns_the_values_over(tmp_path, tags, polarity):
    """The window lies over what slope and intercept give, 3000 - 10 v here: the brightest is where v is 0."""
    tags |= {"RescaleSlope": "-10", "RescaleIntercept": "3000", "PhotometricInterpretation": polarity}
    found = read_image(save(tmp_path / "a.dcm", ramp(8), bits=8, **tags))
    near(found, RAMP if polarity == "MONOCHROME1" else 1 - RAMP)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"RescaleIntercept": "-1000"}, (ramp() - 1500) / 1000 + 0.5),
        ({"RescaleSlope": "2", "RescaleIntercept": None}, (2 * ramp() - 500) / 1000 + 0.5),
        ({"RescaleSlope": None, "RescaleIntercept": None}, (ramp() - 500) / 1000 + 0.5),
        ({"WindowWidth": None}, RAMP),
        ({"VOILUTSequence": [Dataset()]}, (ramp() - 500) / 1000 + 0.5),
    ],
)
def test_parts_that_are_missing_or_empty_change_nothing(tmp_path, tags, expected):
    """A slope of 1, an intercept of 0, no window, no table."""
    path = save(tmp_path / "a.dcm", ramp(), WindowCenter="500", WindowWidth="1000", VOILUTFunction="LINEAR_EXACT")
    data = dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)
    near(read_image(path), expected.clip(0, 1))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "RescaleSlope 0 makes all pixels the same"),
        ({"WindowCenter": "5", "WindowWidth": "0"}, "WindowWidth 0 is too small"),
        ({"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": "LOG"}, "VOILUTFunction LOG is none of"),
        ({"WindowCenter": "nan", "WindowWidth": "9"}, "WindowCenter nan is no number"),
        ({"WindowCenter": "5", "WindowWidth": "1e999"}, "WindowWidth 1e999 is no number"),
        ({"RescaleSlope": "nan"}, "RescaleSlope nan is no number"),
        ({"RescaleIntercept": "-inf"}, "RescaleIntercept -inf is no number"),
        ({"WindowCenter": "99999", "WindowWidth": "9"}, "what it says of slope, window .* makes all pixels the same"),
        ({"RescaleSlope": "1e-300"}, "what it says of slope, window .* makes all pixels the same"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_a_transform_that_shows_nothing_is_a_line(tmp_path, tags, message):
    with pytest.raises(ValueError, match=f"a.dcm: {message}"):
        read_image(save(tmp_path / "a.dcm", ramp(), **tags))


def table(values, first, bits) -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), first, bits], np.asarray(values).astype("<u2").tobytes()
    return item


def test_a_window_lies_over_what_the_modality_s_table_gives(tmp_path):
    """Also where it begins below the lowest value of the table."""
    tables = [table(np.arange(4095, -1, -1), 0, 12)]
    tags = {"ModalityLUTSequence": tables, "WindowCenter": "2048", "WindowWidth": "8192"}
    found = read_image(save(tmp_path / "a.dcm", ramp(), VOILUTFunction="LINEAR_EXACT", **tags))
    near(found, (1 - RAMP) / 2 + 0.25)


def test_a_table_of_8_bits_and_one_after_a_slope_below_zero(tmp_path):
    """Tables are looked up at the rescaled value, beyond their ends at the end."""
    eight = [table(np.arange(4096) // 16, 0, 8)]
    near(read_image(save(tmp_path / "a.dcm", ramp(), VOILUTSequence=eight)), RAMP)
    turned = {"RescaleSlope": "-100", "RescaleIntercept": "204750"}  # 204750 down to -204750
    found = read_image(save(tmp_path / "b.dcm", ramp(), VOILUTSequence=[table(range(4096), 0, 12)], **turned))
    near(found, ((204750 - 100 * ramp()) / 4095).clip(0, 1))


def test_a_look_up_table_comes_before_a_window(tmp_path):
    tables = [table(np.arange(65535, -1, -16), 0, 16)]
    path = save(tmp_path / "a.dcm", ramp(), VOILUTSequence=tables, WindowCenter="10", WindowWidth="10")
    near(read_image(path), 1 - RAMP, limit=2)


def test_padding_is_black_and_does_not_stretch_the_rest(tmp_path):
    stored = 1000 + RAMP * 1000
    stored[:5] = 4095
    found = read_image(save(tmp_path / "a.dcm", np.rint(stored), PixelPaddingValue=4095))
    assert (found[:5] == 0).all()
    rest = RAMP[5:]
    near(found[5:], (rest - rest.min()) / (rest.max() - rest.min()))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_compressions(tmp_path, syntax):
    near(read_image(save(tmp_path / "a.dcm", ramp(), syntax=syntax)), RAMP)


@pytest.mark.parametrize("syntax", ["JPEGLSLossless", "JPEGLosslessProcess14_1", "JPEGBaselineProcess1"])
def test_compressions_that_only_gdcm_writes(tmp_path, syntax):
    source = gdcm.ImageReader()
    bits = 8 if "Baseline" in syntax else 12
    source.SetFileName(str(save(tmp_path / "plain.dcm", ramp(bits), bits=bits)))
    assert source.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(source.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(source.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "a.dcm"))
    assert writer.Write()
    near(read_image(tmp_path / "a.dcm"), RAMP, limit=4 if "Baseline" in syntax else 1)


def test_content_tells_a_dicom_file_not_its_name(tmp_path):
    near(read_image(save(tmp_path / "I0000001", ramp())), RAMP)
    near(read_image(save(tmp_path / "old.dcm", ramp(), preamble=False)), RAMP)  # no preamble: by its name


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_secondary_capture_in_colour_is_its_grey(tmp_path, bits):
    grey = np.repeat(ramp(bits)[..., None], 3, axis=2)
    tags = {"PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    near(read_image(save(tmp_path / "a.dcm", grey, bits=bits, **tags)), RAMP)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Modality": "CT"}, "modality CT is no projection radiograph"),
        ({"Modality": "MG"}, "modality MG is no projection radiograph"),
        ({"BodyPartExamined": "HAND"}, "body part HAND is not the chest"),
        ({"NumberOfFrames": 3, "Rows": 16}, "3 frames, a radiograph has one"),
        ({"Rows": 40000, "Columns": 40000}, "40,000 x 40,000 pixels, more than 100,000,000: save it smaller"),
    ],
)
def test_what_is_no_chest_radiograph_is_refused_with_the_reason(tmp_path, tags, message):
    with pytest.raises(ValueError, match=message) as error:
        read_image(save(tmp_path / "a.dcm", ramp(), **tags))
    assert "a.dcm" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("preamble", [True, False])
def test_of_a_stranger_s_file_nothing_is_inflated(tmp_path, monkeypatch, preamble):
    """Some kilobytes become gigabytes there; and a file without preamble is DICOM by its name alone."""
    path = save(tmp_path / "a.dcm", ramp(), syntax=DeflatedExplicitVRLittleEndian)
    near(read_image(path), RAMP)
    path.write_bytes(path.read_bytes() if preamble else path.read_bytes()[132:])
    monkeypatch.setattr("zlib.decompress", lambda *_: pytest.fail("inflated"))
    with pytest.raises(ValueError, match=f"^{path}: deflated DICOM: save it without, or use `xpronet generate`$"):
        read_image(path, most=10**9)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_of_a_stranger_s_file_no_more_pixels_are_decoded_than_allowed(tmp_path, monkeypatch, syntax):
    path = save(tmp_path / "a.dcm", ramp(), syntax=syntax)
    near(read_image(path, most=64 * 48), RAMP)
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("decoded")))
    with pytest.raises(ValueError, match=f"^{path}: 48 x 64 pixels, more than 3,071: save it smaller$"):
        read_image(path, most=64 * 48 - 1)


def test_a_radiograph_that_does_not_say_what_it_shows_is_read(tmp_path):
    near(read_image(save(tmp_path / "a.dcm", ramp(), Modality=None, BodyPartExamined=None)), RAMP)


def test_broken_files_are_one_line(tmp_path):
    whole = save(tmp_path / "a.dcm", ramp()).read_bytes()
    for name, content in {"cut": whole[:-1000], "header": whole[:300], "empty": b"", "text": b"no image" * 100}.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.dcm") as error:
            read_image(path)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged tags
@pytest.mark.parametrize("suffix", [".dcm", ".png", ".jpg"])
def test_whatever_is_damaged_the_file_is_named(tmp_path, suffix):
    """Cut anywhere, or with any byte changed: an image, or one line; never an error of a decoder's own."""
    path, random = tmp_path / f"whole{suffix}", np.random.default_rng(4)
    if suffix == ".dcm":
        save(path, ramp(), WindowCenter="2000", WindowWidth="3000", PixelPaddingValue=7, RescaleSlope="1")
    else:
        Image.fromarray(ramp(8).astype(np.uint8)).save(path)
    whole, damaged = path.read_bytes(), []
    head = min(len(whole), 700)  # where an error is more than another grey
    damaged += [whole[:end] for end in range(head)]
    for place in random.integers(head, size=700):
        damaged.append(whole[:place] + bytes([whole[place] ^ random.integers(1, 256)]) + whole[place + 1 :])
    path, lines = tmp_path / f"damaged{suffix}", set()
    for content in damaged:
        path.write_bytes(content)
        try:
            assert read_image(path).dtype == np.uint8
        except ValueError as error:
            lines.add(str(error))
    assert len(lines) > 5
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in lines)


@pytest.mark.parametrize("suffix", [".dcm", ".png", ".jpg"])
def test_training_and_inference_see_the_same_pixels(tmp_path, suffix):
    """What the pack holds is what reading the file anew gives: no second way of decoding anywhere."""
    path = tmp_path / f"image{suffix}"
    if suffix == ".dcm":
        save(path, ramp(), PhotometricInterpretation="MONOCHROME1", WindowCenter="2000", WindowWidth="3000")
    else:
        Image.fromarray(ramp(8).astype(np.uint8)).save(path)
    packed = pack_image(read_image(path), resize=40, crop=32, train=False)
    write_pack(tmp_path / "images.u8", tmp_path / "images.json", [packed], resize=40, crop=32)
    again = pack_image(read_image(path), resize=40, crop=32, train=False)
    np.testing.assert_array_equal(ImagePack(tmp_path / "images.u8", tmp_path / "images.json").square(0), again.square)
