"""Pairs of objects with a known order: which they are, and how they are cropped."""

import numpy as np
import pytest
import torch

from amodal_diffusion.crops import crop_boxes, crop_images, crop_masks
from amodal_diffusion.data.samplers import OrderPairs, PairCropper
from amodal_diffusion.data.samplers.order_pairs import FIRST, SECOND, UNRELATED
from amodal_diffusion.images import image_to_tensor
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.ordering import neighbours, order_from_masks
from photo_helpers import edited_photos, open_depth_objects, open_objects, write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, images=6)
    return folder


@pytest.fixture(scope="module")
def objects(folder):
    return open_objects(folder, min_area=20)


def truth(objects, photo):
    modal, amodal = objects.masks(photo, photo.objects)
    return modal, order_from_masks(modal, amodal)


def test_pairs_are_those_of_the_true_order(objects):
    pairs = OrderPairs(objects, objects.photos)
    assert len(pairs) == sum(len(photo.objects) for photo in pairs.photos) > 4
    by_row = {photo.row: photo for photo in pairs.photos}
    for photo in objects.photos:
        modal, order = truth(objects, photo)
        expected = {(photo.objects[i], photo.objects[j]) for i, j in np.argwhere(order == 1)}
        found = pairs.table(by_row[photo.row])[:, :2].tolist() if photo.row in by_row else []
        assert set(map(tuple, found)) == expected


def test_unrelated_pairs_touch_and_hide_nothing(objects):
    pairs = OrderPairs(objects, objects.photos, unrelated=True)
    numbers = {FIRST: 0, UNRELATED: 0}
    for photo in pairs.photos:
        places = next(known.objects for known in objects.photos if known.row == photo.row)
        modal, order = truth(objects, photo._replace(objects=places))
        touch = neighbours(modal)
        for first, second, relation in pairs.table(photo).tolist():
            i, j = places.index(first), places.index(second)
            assert touch[i, j] and order[i, j] == (1 if relation == FIRST else 0)
            numbers[relation] += 1
    assert numbers[FIRST] and sum(numbers.values()) == len(pairs)


def test_the_annotated_order_is_taken_as_it_stands(objects, folder, tmp_path):
    """Of a photo whose annotation says the reverse of its masks; what does not touch is no pair in either case."""
    photo = OrderPairs(objects, objects.photos).photos[0]
    first, second, _ = OrderPairs(objects, objects.photos).table(photo)[0].tolist()

    def change(content):
        content["annotations"][photo.row]["depth_constraint"] = f"{second + 1}-{first + 1}"

    turned = open_objects(edited_photos(folder, tmp_path, change), min_area=20)
    for source, expected in (("masks", [first, second]), ("annotated", [second, first])):
        pairs = OrderPairs(turned, turned.photos, source=source)
        table = pairs.table(next(other for other in pairs.photos if other.row == photo.row))
        assert [*expected, FIRST] in table.tolist() and [*expected[::-1], FIRST] not in table.tolist()


def test_crops_are_around_both_objects(objects):
    pairs = OrderPairs(objects, objects.photos)
    photo = pairs.photos[0]
    crops = PairCropper(pairs, 32)(photo, [0])
    first, second, _ = pairs.table(photo)[0]
    modal, _ = objects.masks(photo, [first, second])
    box = crop_boxes(mask_boxes(modal.any(0, keepdims=True)), enlarge_box=2.0)
    expected = crop_masks(torch.from_numpy(modal), np.repeat(box, 2, 0), 32)
    assert torch.equal(torch.cat([crops.first, crops.second]), expected) and crops.relation.tolist() == [FIRST]
    image = crop_images(image_to_tensor(objects.image(photo)), box, 32)
    torch.testing.assert_close(crops.image, image.clamp(0, 1))
    assert PairCropper(pairs, 32, with_image=False)(photo, [0]).image is None


def test_random_crops_keep_who_is_in_front(objects):
    pairs = OrderPairs(objects, objects.photos)
    photo = pairs.photos[0]
    plain, cropper = PairCropper(pairs, 32)(photo, [0]), PairCropper(pairs, 32, flip=1.0)
    seen = set()
    for seed in range(12):
        found = cropper(photo, [0], np.random.default_rng(seed))
        relation = found.relation.item()
        front, behind = (found.first, found.second) if relation == FIRST else (found.second, found.first)
        assert torch.equal(front.flip(-1), plain.first) and torch.equal(behind.flip(-1), plain.second)
        torch.testing.assert_close(found.image.flip(-1), plain.image)
        seen.add(relation)
    assert seen == {FIRST, SECOND}
    moved = PairCropper(pairs, 32, shift=0.2, scale=0.2)
    again = [moved(photo, [0], np.random.default_rng(5)) for _ in range(2)]
    assert torch.equal(again[0].first, again[1].first) and not torch.equal(again[0].first, plain.first)


def test_depth_is_asked_of_all_pairs_whose_depths_are_known(objects):
    known = open_depth_objects(4, min_area=20)
    pairs = OrderPairs(known, known.photos, answer="depth")
    numbers = {FIRST: 0, UNRELATED: 0}
    for photo in pairs.photos:
        places = next(item.objects for item in known.photos if item.row == photo.row)
        depths = dict(zip(places, known.depths(photo._replace(objects=places)), strict=True))
        table = pairs.table(photo)
        asked = [place for place in places if not np.isnan(depths[place]).any()]
        assert len(table) == len(asked) * (len(asked) - 1) / 2
        for first, second, relation in table.tolist():
            numbers[relation] += 1
            (near, far), (other, end) = depths[first], depths[second]
            assert (far < other) if relation == FIRST else (near <= end and other <= far)
    assert min(numbers.values()) > 0
    assert not len(OrderPairs(objects, objects.photos, answer="depth"))  # a data set without depths
