import io
import struct

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from amodal_diffusion.crops import crop_images
from amodal_diffusion.images import image_size, image_to_tensor, load_image, postprocess_masks


@pytest.fixture(scope="module")
def photo():
    """(H, W, 3) uint8, every pixel of its own colour."""
    rows, columns = np.mgrid[:12, :20]
    return np.stack([rows * 20, columns * 12, (rows + columns) * 8], axis=2).astype(np.uint8)


class TestLoadImage:
    def check(self, image, expected):
        loaded = load_image(image)
        assert loaded.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(loaded), expected)

    def test_one_photo_in_any_form(self, photo, tmp_path):
        path = tmp_path / "photo.png"
        Image.fromarray(photo).save(path)
        tensor = torch.from_numpy(photo).permute(2, 0, 1)
        for image in (
            path,
            str(path),
            Image.fromarray(photo),
            Image.open(path),
            photo,
            photo / 255.0,
            (photo / 255.0).astype(np.float32) * 1.0005,
            photo.astype(np.uint16) * 257,
            photo[:, ::-1][:, ::-1],
            tensor,
            tensor[None],
            tensor.double() / 255,
            tensor.float().requires_grad_() / 255,
        ):
            self.check(image, photo)

    def test_result_is_new(self, photo):
        image = Image.fromarray(photo)
        load_image(image).putpixel((0, 0), (9, 9, 9))
        np.testing.assert_array_equal(np.asarray(image), photo)

    def test_grey(self, photo, tmp_path):
        grey = photo[:, :, 1]
        expected = np.repeat(grey[:, :, None], 3, axis=2)
        path = tmp_path / "grey.png"
        Image.fromarray(grey).save(path)
        for image in (path, grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
            self.check(image, expected)

    def test_sixteen_bits_are_scaled(self, photo, tmp_path):
        grey = photo[:, :, 1]
        expected = np.repeat(grey[:, :, None], 3, axis=2)
        for suffix in ("png", "tif"):
            path = tmp_path / f"grey.{suffix}"
            Image.fromarray(grey.astype(np.uint16) * 257).save(path)
            self.check(path, expected)
        self.check(Image.fromarray(grey.astype(np.int32) * 257), expected)
        self.check(Image.fromarray(grey.astype(np.float32) / 255), expected)

    def test_transparency_is_composited_over_white(self, photo):
        alpha = np.full(photo.shape[:2], 255, np.uint8)
        alpha[:6] = 0
        expected = photo.copy()
        expected[:6] = 255
        rgba = np.dstack([photo, alpha])
        for image in (rgba, Image.fromarray(rgba), torch.from_numpy(rgba).permute(2, 0, 1), rgba / 255.0):
            self.check(image, expected)
        grey = Image.fromarray(photo[:, :, 0]).convert("LA")
        grey.putalpha(Image.fromarray(alpha))
        assert np.asarray(load_image(grey))[:6].min() == 255

    def test_transparent_palette_index(self, tmp_path):
        image = Image.new("P", (4, 2))
        image.putpalette([10, 20, 30, 200, 0, 0])
        image.putpixel((1, 0), 1)
        path = tmp_path / "palette.png"
        image.save(path, transparency=0)
        assert np.asarray(load_image(path))[0, :2].tolist() == [[255, 255, 255], [200, 0, 0]]

    @pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "PA", "RGBa", "RGBX"])
    def test_other_modes(self, mode):
        loaded = load_image(Image.new(mode, (3, 2)))
        assert (loaded.mode, loaded.size) == ("RGB", (3, 2))

    def test_mode_without_conversion(self):
        with pytest.raises(ValueError, match="`image` cannot be read: conversion from La"):
            load_image(Image.new("La", (3, 2)))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, photo, tmp_path, orientation):
        path = tmp_path / "photo.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        # What the camera stores is the upright photo, turned the other way.
        stored = {
            1: photo,
            2: photo[:, ::-1],
            3: photo[::-1, ::-1],
            4: photo[::-1],
            5: photo.transpose(1, 0, 2),
            6: np.rot90(photo),
            7: photo[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(photo, -1),
        }[orientation]
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
        self.check(path, photo)
        self.check(Image.open(path), photo)
        assert image_size(path) == (12, 20)
        self.check(load_image(path), photo)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_broken_exif_does_not_stop_a_good_photo(self, photo, tmp_path):
        path = tmp_path / "photo.jpg"
        Image.fromarray(photo).save(path, exif=b"Exif\x00\x00" + b"II*\x00" + struct.pack("<I", 2**31) + b"junk" * 4)
        assert load_image(path).size == (20, 12)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp"])
    def test_truncated_files_are_named(self, photo, tmp_path, suffix):
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
        whole = buffer.getvalue()
        for length in (1, 10, 40, len(whole) // 2):
            path = tmp_path / f"cut.{suffix}"
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=rf"photo .*cut\.{suffix} cannot be read"):
                load_image(path)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("seed", range(20))
    def test_damaged_files_load_or_are_named(self, photo, tmp_path, seed):
        rng = np.random.default_rng(seed)
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, rng.choice(["PNG", "JPEG", "TIFF", "GIF", "WEBP"]))
        data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        data[rng.integers(0, len(data), 12)] = rng.integers(0, 255, 12)
        path = tmp_path / "damaged"
        path.write_bytes(data.tobytes())
        try:
            load_image(path)
        except ValueError as error:
            assert "damaged" in str(error)

    def test_truncated_pil_image(self, photo):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
        with pytest.raises(ValueError, match="`image` cannot be read: .*truncated"):
            load_image(Image.open(io.BytesIO(buffer.getvalue()[:900])))

    def test_decompression_bomb(self, photo, tmp_path, monkeypatch):
        path = tmp_path / "bomb.png"
        Image.fromarray(photo).save(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(ValueError, match=r"bomb\.png cannot be read"):
            load_image(path)

    def test_file_is_closed(self, photo, tmp_path, monkeypatch):
        path = tmp_path / "photo.png"
        Image.fromarray(photo).save(path)
        opened, open_image = [], Image.open
        monkeypatch.setattr(Image, "open", lambda name: opened.append(open_image(name)) or opened[-1])
        load_image(path)
        assert [image.fp for image in opened] == [None]

    def test_paths(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"photo .*none\.png does not exist"):
            load_image(tmp_path / "none.png")
        with pytest.raises(ValueError, match="is not a file"):
            load_image(tmp_path)
        (tmp_path / "text.jpg").write_text("not a photo")
        with pytest.raises(ValueError, match=r"text\.jpg cannot be read"):
            load_image(tmp_path / "text.jpg")

    @pytest.mark.parametrize(
        ("image", "error", "message"),
        [
            (None, TypeError, "`image` must be a path, .* got NoneType"),
            (np.zeros((3, 12, 20), np.uint8), ValueError, r"1, 3 or 4 channels, got \(3, 12, 20\)"),
            (np.zeros((1, 2, 2, 3), np.uint8), ValueError, r"got \(1, 2, 2, 3\)"),
            (np.zeros((0, 4, 3), np.uint8), ValueError, r"no pixels, its shape is \(0, 4, 3\)"),
            (np.zeros((2, 2), np.int64), TypeError, "got dtype int64"),
            (np.zeros((2, 2), bool), TypeError, "got dtype bool"),
            (np.full((2, 2), 2.0), ValueError, "floats from 2 to 2, expected 0 to 1"),
            (np.full((2, 2), -0.1), ValueError, "floats from -0.1"),
            (np.full((2, 2), np.nan), ValueError, "floats from nan to nan, expected 0 to 1 without NaN"),
            (torch.zeros(12, 20, 3), ValueError, r"tensor \(C, height, width\) .* got \(12, 20, 3\)"),
            (torch.zeros(2, 3, 4, 4), ValueError, r"got \(2, 3, 4, 4\)"),
            (Image.fromarray(np.full((2, 2), 70000, np.int32)), ValueError, "values from 70000 to 70000"),
            (Image.fromarray(np.full((2, 2), -1, np.int32)), ValueError, "expected 0 to 65535"),
        ],
    )
    def test_errors(self, image, error, message):
        with pytest.raises(error, match=message):
            load_image(image)


def test_image_to_tensor(photo):
    tensor = image_to_tensor(photo)
    assert (tensor.shape, tensor.dtype) == ((3, 12, 20), torch.float32)
    assert tensor.is_contiguous()
    np.testing.assert_array_equal((tensor * 255).round().permute(1, 2, 0).numpy(), photo)
    np.testing.assert_array_equal(np.asarray(load_image(tensor)), photo)


def test_image_size(photo):
    assert image_size(photo) == image_size(torch.from_numpy(photo).permute(2, 0, 1)) == (12, 20)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_image_size_decodes_nothing(photo, tmp_path, monkeypatch, suffix, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / f"photo.{suffix}", exif=exif)
    expected = load_image(tmp_path / f"photo.{suffix}").size[::-1]
    assert expected == ((20, 12) if orientation in (6, 8) else (12, 20))

    def load(image):
        raise AssertionError("the pixels were decoded")

    for kind in (ImageFile.ImageFile, TiffImageFile, WebPImageFile):
        monkeypatch.setattr(kind, "load", load)
    assert image_size(tmp_path / f"photo.{suffix}") == expected
    with Image.open(tmp_path / f"photo.{suffix}") as opened:
        assert image_size(opened) == expected


def test_orientation_behind_the_pixels_of_a_png(photo, tmp_path):
    """The standard allows it there, and Pillow heeds it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(photo).save(plain, "png")
    Image.fromarray(photo).save(turned, "png", exif=exif)
    start = turned.getvalue().index(b"eXIf") - 4
    chunk = turned.getvalue()[start : start + 12 + int.from_bytes(turned.getvalue()[start : start + 4], "big")]
    path = tmp_path / "photo.png"
    path.write_bytes(plain.getvalue()[:-12] + chunk + plain.getvalue()[-12:])
    assert load_image(path).size == (12, 20)
    assert image_size(path) == (20, 12)
    with Image.open(path) as opened:
        assert image_size(opened) == (20, 12)
        assert load_image(opened).size == (12, 20)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 5, 2)), torch.zeros(2, 4, 5), np.zeros((0, 5, 3)), torch.zeros(3, 4, 0)]
)
def test_image_size_refuses_the_shapes_that_load_image_refuses(wrong):
    for read in (image_size, load_image):
        with pytest.raises(ValueError, match="1, 3 or 4 channels|has no pixels"):
            read(wrong)


def test_image_size_of_what_is_no_photo(tmp_path):
    with pytest.raises(TypeError, match="`image` must be a path"):
        image_size(3)
    with pytest.raises(FileNotFoundError, match=r"none\.png does not exist"):
        image_size(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"photo .*text\.png cannot be read"):
        image_size(tmp_path / "text.png")


def test_loading_a_photo_leaves_its_array_alone(photo):
    before = photo.copy()
    loaded = load_image(photo)
    loaded.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(photo, before)
    again = load_image(opened := Image.fromarray(photo))
    again.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(opened), before)


class TestCropImages:
    @pytest.mark.parametrize("seed", range(20))
    def test_equals_opencv(self, seed):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(8, 120, 2)
        image = rng.random((height, width, 3), dtype=np.float32)
        boxes = []
        for _ in range(3):
            side = int(rng.integers(1, 150))
            boxes.append([int(rng.integers(-side, width)), int(rng.integers(-side, height)), side, side])
        size = int(rng.choice([1, 9, 64, 128]))
        patches = crop_images(torch.from_numpy(image).permute(2, 0, 1), np.array(boxes), size)
        assert (patches.shape, patches.dtype) == ((3, 3, size, size), torch.float32)
        for (x, y, side, _), patch in zip(boxes, patches, strict=True):
            crop = np.zeros((side, side, 3), np.float32)
            top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
            crop[top - y : bottom - y, left - x : right - x] = image[top:bottom, left:right]
            expected = cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC)
            np.testing.assert_allclose(patch.permute(1, 2, 0), expected, atol=2e-5)

    def test_empty_boxes_and_boxes_outside(self):
        patches = crop_images(torch.ones(3, 10, 10), torch.tensor([[0, 0, 0, 0], [20, 0, 5, 5], [2, 2, 5, 5]]), 4)
        assert not patches[:2].any()
        torch.testing.assert_close(patches[2], torch.ones(3, 4, 4))
        assert crop_images(torch.ones(3, 10, 10), torch.zeros(0, 4), 4).shape == (0, 3, 4, 4)

    def test_autocast_does_not_blur(self):
        image, box = torch.rand(3, 20, 20), torch.tensor([[1, 2, 13, 13]])
        expected = crop_images(image, box, 16)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(crop_images(image, box, 16), expected)

    @pytest.mark.parametrize(
        ("image", "boxes", "size", "error", "message"),
        [
            (torch.zeros(10, 10), [[0, 0, 2, 2]], 4, ValueError, r"\(C, height, width\), got \(10, 10\)"),
            (torch.zeros(3, 9, 9, dtype=torch.int64), [[0, 0, 2, 2]], 4, TypeError, "floats or uint8, got torch.int64"),
            (torch.zeros(3, 9, 9), [[0, 0, 2, 3]], 4, ValueError, "`boxes` must be squares"),
            (torch.zeros(3, 9, 9), [[0, 0, 2, 2]], 0, ValueError, "`size` must be at least 1, got 0"),
        ],
    )
    def test_errors(self, image, boxes, size, error, message):
        with pytest.raises(error, match=message):
            crop_images(image, torch.tensor(boxes), size)


class TestPostprocessMasks:
    MASKS = np.arange(24).reshape(2, 3, 4) % 3 == 0

    @pytest.mark.parametrize("masks", [MASKS, MASKS.astype(np.uint8), torch.from_numpy(MASKS)], ids=["np", "int", "pt"])
    def test_forms(self, masks):
        array = postprocess_masks(masks)
        assert array.dtype == np.bool_
        np.testing.assert_array_equal(array, self.MASKS)
        tensor = postprocess_masks(masks, "pt")
        assert tensor.dtype == torch.bool
        np.testing.assert_array_equal(tensor, self.MASKS)
        images = postprocess_masks(masks, "pil")
        assert [image.mode for image in images] == ["L", "L"]
        np.testing.assert_array_equal(np.stack(images), self.MASKS * 255)

    def test_no_masks(self):
        assert postprocess_masks(self.MASKS[:0], "pil") == []

    def test_errors(self):
        with pytest.raises(ValueError, match="`output_type` must be one of 'np', 'pt', 'pil', got 'latent'"):
            postprocess_masks(self.MASKS, "latent")
        with pytest.raises(ValueError, match=r"`masks` must have shape \(N, height, width\), got \(3, 4\)"):
            postprocess_masks(self.MASKS[0])


def exif_data(*entries):
    """EXIF data of tags (tag, type, four bytes or eight), as they stand in a file."""
    start, extra = 8 + 2 + 12 * len(entries) + 4, b""
    table = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, kind, value in entries:
        table += struct.pack("<HHI", tag, kind, 1)
        table += value if len(value) == 4 else struct.pack("<I", start + len(extra))
        extra += value if len(value) > 4 else b""
    return b"Exif\0\0" + table + struct.pack("<I", 0) + extra


TURNED = (0x0112, 3, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(
    ("data", "turned"),
    [
        (exif_data(TURNED, (0x011A, 10, struct.pack("<ii", -1, 0))), True),
        (exif_data(TURNED, (0x9204, 5, struct.pack("<ii", -1, 3))), True),
        (exif_data((0x0112, 10, struct.pack("<ii", -6, 1))), False),
        (exif_data((0x0112, 2, b"6\0\0\0")), False),
        (exif_data((0x0112, 3, struct.pack("<HH", 99, 0))), False),
        (exif_data(TURNED)[:20], False),
        (b"Exif\0\0garbage", False),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_broken_exif_data_costs_no_pixels(photo, tmp_path, kind, data, turned):
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(photo).save(path, exif=data)
    loaded = load_image(path)
    assert loaded.size == ((12, 20) if turned else (20, 12)) and loaded.size[::-1] == image_size(path)
    assert load_image(loaded).size == loaded.size and load_image(Image.open(path)).size == loaded.size


def test_photos_as_bytes():
    photo = np.random.RandomState(0).randint(0, 256, (5, 4, 3)).astype(np.uint8)
    planes = image_to_tensor(photo, torch.uint8)
    assert planes.dtype == torch.uint8 and planes.is_contiguous()
    assert torch.equal(planes, torch.from_numpy(photo).permute(2, 0, 1))
    assert torch.equal(planes.float().div(255), image_to_tensor(photo))
