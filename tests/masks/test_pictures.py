"""One object, a map of labels, or neither: the same rule at every door."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from amodal_diffusion.masks import decode_segmentation, labelled_objects, one_object, picture_planes, to_mask_stack

Y, X = np.mgrid[:120, :160]


def disk(radius, x=80, y=60):
    return (X - x) ** 2 + (Y - y) ** 2 < radius**2


DISK = Image.fromarray(disk(30).astype(np.uint8) * 255)
BOX = Image.new("L", (160, 120))
ImageDraw.Draw(BOX).rectangle((40, 30, 100, 90), fill=255)
LABELS = np.zeros((120, 160), np.int32)
LABELS[10:40, 10:50], LABELS[30:80, 40:90], LABELS[60:110, 85:150] = 1, 2, 3


def jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


SOFT = {
    **{f"blur {radius}": DISK.filter(ImageFilter.GaussianBlur(radius)) for radius in (0.5, 1, 2, 5, 10, 20)},
    **{f"box {radius}": BOX.filter(ImageFilter.BoxBlur(radius)) for radius in (1, 3, 7)},
    **{
        f"{name} {size}": image.resize(size, way)
        for name, image in (("disk", DISK), ("box", BOX))
        for way in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
        for size in ((320, 240), (80, 60), (213, 117), (40, 30))
    },
    "turned": DISK.rotate(17, Image.Resampling.BICUBIC),
    **{f"jpeg {quality}": jpeg(BOX, quality) for quality in (30, 75, 95)},
}


class TestSoft:
    @pytest.mark.parametrize("name", SOFT)
    def test_is_one_object_above_half(self, name):
        grey = np.asarray(SOFT[name])
        expected = grey >= 128
        forms = {
            "8 bit": grey,
            "16 bit": grey.astype(np.uint16) * 257,
            "32 bit": grey.astype(np.int32),
            "floats to 1": grey.astype(np.float32) / 255,
            "floats to 255": grey.astype(np.float32),
        }
        for form in forms.values():
            labels, masks = labelled_objects(form)
            assert len(labels) == 1
            np.testing.assert_array_equal(masks[0], expected)
            np.testing.assert_array_equal(one_object(form), expected)
            np.testing.assert_array_equal(to_mask_stack(form), expected[None])
            np.testing.assert_array_equal(to_mask_stack([form, form]), np.stack([expected] * 2))
        np.testing.assert_array_equal(to_mask_stack(SOFT[name]), expected[None])

    def test_a_large_picture_with_a_wide_blur(self):
        y, x = np.mgrid[:900, :1200]
        image = Image.fromarray(((x - 600) ** 2 + (y - 450) ** 2 < 400**2).astype(np.uint8) * 255)
        for radius in (3, 90):
            soft = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))
            np.testing.assert_array_equal(labelled_objects(soft)[1][0], soft >= 128)

    @pytest.mark.parametrize("share", [0.1, 0.4, 0.5])
    def test_nowhere_above_half_is_refused_and_not_empty(self, share):
        soft = np.asarray(DISK.filter(ImageFilter.GaussianBlur(2))) / 255 * share
        for form in (soft, (soft * 255).astype(np.uint8), (soft * 65535).astype(np.uint16)):
            with pytest.raises(ValueError, match=r"`masks` is a soft mask of at most 0\.\d+ of the full value"):
                to_mask_stack(form)
            assert not to_mask_stack(form, allow_faint=True).any()
        with pytest.raises(ValueError, match=r"`masks\[1\]` is a soft mask"):
            to_mask_stack(np.stack([disk(9).astype(float), soft]))

    def test_an_empty_mask_is_empty(self):
        for dtype in (bool, np.uint8, np.float32):
            assert not one_object(np.zeros((4, 6), dtype)).any()
            assert labelled_objects(np.zeros((4, 6), dtype))[1].shape == (0, 4, 6)
            assert to_mask_stack(np.zeros((4, 6), dtype)).shape == (1, 4, 6)


class TestLabels:
    @pytest.mark.parametrize(
        "labels",
        [LABELS.astype(np.uint8), LABELS * 50, LABELS * 85, LABELS * 1000, np.where(LABELS, 26000 + LABELS, 0)]
        + [LABELS.astype(np.float32), (LABELS * 1000).astype(np.uint16)],
        ids=str,
    )
    def test_a_map_stays_one(self, labels):
        names, masks = labelled_objects(labels)
        assert names == np.unique(labels)[1:].astype(int).tolist()
        np.testing.assert_array_equal(masks, np.arange(1, 4)[:, None, None] == LABELS)
        np.testing.assert_array_equal(to_mask_stack(labels), masks)
        with pytest.raises(ValueError, match=r"`masks\[0\]` has 3 labels .* expected one object"):
            to_mask_stack([labels])

    def test_objects_inside_each_other(self):
        cups = np.zeros((120, 160), np.uint8)
        for index, radius in enumerate((50, 35, 20, 8)):
            cups[disk(radius)] = 60 * (index + 1)
        assert labelled_objects(cups)[0] == [60, 120, 180, 240]

    def test_a_whole_partition_and_many_small_ones(self):
        rng = np.random.default_rng(0)
        points = rng.integers(0, (120, 160), (60, 2))
        cells = np.argmin([(Y - y) ** 2 + (X - x) ** 2 for y, x in points], axis=0) + 1
        assert labelled_objects(cells)[0] == np.unique(cells).tolist()
        small = np.zeros((120, 160), np.uint16)
        for index in range(200):
            y, x = rng.integers(0, (118, 158))
            small[y : y + 2, x : x + 2] = index + 1
        assert labelled_objects(small)[0] == np.unique(small)[1:].tolist()

    def test_void_is_no_object(self):
        around = np.asarray(Image.fromarray((LABELS > 0).astype(np.uint8)).filter(ImageFilter.MaxFilter(5))) > 0
        ring = around & (LABELS == 0)
        for void, labels in ((255, LABELS), (65535, LABELS * 1000), (-1, LABELS)):
            names, masks = labelled_objects(np.where(ring, void, labels))
            assert names == np.unique(labels)[1:].tolist()
            np.testing.assert_array_equal(masks.any(axis=0), LABELS > 0)
        one = np.where(ring, 255, (LABELS > 0) * 15)
        np.testing.assert_array_equal(one_object(one), LABELS > 0)
        assert labelled_objects(np.where(LABELS == 3, 255, LABELS * 100))[0] == [100, 200, 255]

    def test_what_is_neither_is_refused(self):
        image = Image.fromarray((LABELS * 85).astype(np.uint8))
        for way in (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS):
            with pytest.raises(ValueError, match="neither one soft mask .* nor a map of labels"):
                to_mask_stack(image.resize((213, 117), way))
        with pytest.raises(ValueError, match="neither"):
            one_object(np.asarray(image.filter(ImageFilter.GaussianBlur(2))))
        np.testing.assert_array_equal(labelled_objects(np.asarray(image.resize((213, 117), 0)))[0], [85, 170, 255])

    @pytest.mark.parametrize(
        ("plane", "message"),
        [
            (np.array([[-2, 1]]), "integers from -2 to 1"),
            (np.array([[-1, 0]]), "nothing above 0"),
            (np.array([[-3.5, 4.5]]), "floats from -3.5 to 4.5"),
            (np.array([[np.inf, 0]]), "infinite"),
            (np.array([[np.nan, 0]]), "NaN"),
        ],
    )
    def test_values_of_no_mask(self, plane, message):
        for door in (one_object, labelled_objects, to_mask_stack):
            with pytest.raises(ValueError, match=message):
                door(plane)


class TestPictures:
    @pytest.mark.parametrize(
        ("colours", "indices"),
        [
            ([255, 255, 255, 0, 0, 0], [[0, 1, 1]]),  # white first
            ([0, 0, 0, 255, 255, 255], [[1, 0, 0]]),
            ([200, 30, 30, 0, 0, 0], [[0, 1, 1]]),
            ([0, 0, 0, 128, 0, 0], [[1, 0, 0]]),  # VOC
        ],
    )
    def test_black_of_a_palette_is_the_ground(self, colours, indices):
        image = Image.fromarray(np.array(indices, np.uint8), "P")
        image.putpalette(colours)
        assert to_mask_stack(image).tolist() == [[[True, False, False]]]

    def test_palettes_without_black_and_greys(self):
        image = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
        image.putpalette([9, 9, 9, 0, 128, 0])
        assert to_mask_stack(image).tolist() == [[[False, True, True]]]
        soft = SOFT["blur 5"].convert("P")
        np.testing.assert_array_equal(to_mask_stack(soft)[0], np.asarray(SOFT["blur 5"]) >= 128)

    def test_one_bit(self):
        assert to_mask_stack(Image.fromarray(np.array([[True, False]]))).tolist() == [[[True, False]]]

    def test_every_page_is_a_mask(self, tmp_path):
        pages = [Image.fromarray(disk(9, x).astype(np.uint8) * 255) for x in (20, 60, 120)]
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
        with Image.open(tmp_path / "a.tif") as image:
            assert len(picture_planes(image)) == 3 and image.tell() == 0
            np.testing.assert_array_equal(to_mask_stack(image), [disk(9, x) for x in (20, 60, 120)])


class TestPolygons:
    POINTS = np.array([[20, 10], [70, 10], [70, 40], [20, 40]])
    MASK = (Y >= 10) & (Y < 40) & (X >= 20) & (X < 70)

    @pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
    def test_points_in_arrays(self, dtype):
        points, size = self.POINTS.astype(dtype), {"height": 120, "width": 160}
        forms = [
            points,
            points[:, None],
            points.ravel(),
            points.tolist(),
            [points],
            [points.ravel()],
            [points.tolist()],
        ]
        for form in (*forms, [[points.tolist()]]):
            np.testing.assert_array_equal(to_mask_stack(form, **size), self.MASK[None])
        assert to_mask_stack([points, points], **size).shape == (2, 120, 160)
        for form in (points, [points.ravel()], [points.tolist()], points.tolist()):
            np.testing.assert_array_equal(decode_segmentation(form, 120, 160), self.MASK)
        with pytest.raises(ValueError, match="made of polygons: height and width are needed"):
            to_mask_stack(points)

    def test_shares_of_the_sides_are_refused(self):
        shares = (self.POINTS / (160, 120)).ravel().tolist()
        with pytest.raises(ValueError, match="shares of the sides; expected pixels, so multiply x by 160 and y by 120"):
            to_mask_stack([shares], height=120, width=160)

    def test_a_fragment_beside_a_whole_polygon_is_nothing(self):
        whole = self.POINTS.ravel().tolist()
        for fragment in ([1, 1, 5, 5], [1, 1], []):
            np.testing.assert_array_equal(decode_segmentation([fragment, whole], 120, 160), self.MASK)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_pictures_are_no_stacks(self, channels):
        for size in ({}, {"height": 80, "width": 60}):
            with pytest.raises(ValueError, match=rf"shape \(80, 60, {channels}\), as a picture"):
                to_mask_stack(np.zeros((80, 60, channels), np.uint8), **size)
        assert to_mask_stack(np.zeros((80, 60, channels), bool), height=60, width=channels).shape[0] == 80


class TestRunLengths:
    @pytest.mark.parametrize("size", [[2.0, 4.0], np.array([2, 4]), (np.int64(2), np.float32(4)), ["2", "4"]], ids=str)
    def test_sizes_of_any_number(self, size):
        for counts in ("242", [2, 4, 2], np.array([2, 4, 2])):
            assert to_mask_stack({"size": size, "counts": counts})[0].astype(int).tolist() == [[0, 1, 1, 0]] * 2
