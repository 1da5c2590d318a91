"""Samplers of objects on photos: reading objects with their photos, drawing batches, cropping."""

import threading
from contextvars import ContextVar

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.crops import crop_boxes, crop_masks
from amodal_diffusion.data import read_annotations, save_parquet
from amodal_diffusion.data.samplers import (
    ObjectCropper,
    ObjectFilter,
    ObjectSampler,
    Photo,
    PhotoError,
    PhotoObjects,
    Prefetcher,
)
from amodal_diffusion.masks import mask_boxes
from photo_helpers import draw_scene, edited_photos, open_objects, write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "a", images=6)
    write_photos(folder / "b", images=3, first=50)
    return folder


def as_parquet(folder, target, change=None):
    """A Parquet copy, where photos need not be as annotated."""
    dataset = read_annotations(folder / "annotations.json", folder)
    if change is not None:
        dataset = dataset.map(change, with_indices=True, features=dataset.features)
    save_parquet(dataset, target)
    return target


def open_parquet(folder, **options):
    return PhotoObjects([read_annotations(folder)], [folder.name], ObjectFilter(), **options)


# Reading


def test_masks_and_photos_are_those_of_the_data_set(folder):
    objects = open_objects(folder / "a", folder / "b")
    assert len(objects.photos) == 9
    assert objects.counts == [sum(len(p.objects) for p in objects.photos if p.source == n) for n in (0, 1)]
    photo = objects.photos[7]  # the second of b
    scene, modal, amodal = draw_scene(51)
    np.testing.assert_array_equal(np.asarray(objects.image(photo)), scene)
    shown = [n for n in range(3) if modal[n].sum() > 30][::-1]  # as in the file, from the front
    found_modal, found_amodal = objects.masks(photo, [0, 1, 0])
    np.testing.assert_array_equal(found_modal, modal[[shown[0], shown[1], shown[0]]])
    np.testing.assert_array_equal(found_amodal, amodal[[shown[0], shown[1], shown[0]]])


def test_parquet_brings_its_own_photos(folder, tmp_path):
    objects = open_parquet(as_parquet(folder / "b", tmp_path / "parquet"))
    np.testing.assert_array_equal(np.asarray(objects.image(objects.photos[0])), draw_scene(50)[0])
    from_files = open_objects(folder / "b")
    assert objects.content_key(objects.photos[0]) == from_files.content_key(from_files.photos[0])
    assert objects.content_key(objects.photos[0]) != objects.content_key(objects.photos[1])


def test_filters_leave_out_what_they_say(folder, tmp_path, caplog):
    def change(content):
        regions = content["annotations"][0]["regions"]
        regions[0]["isStuff"] = 1
        regions[1].pop("visible_mask", None)

    place = edited_photos(folder / "b", tmp_path, change)
    everything = sum(open_objects(place, min_area=1).counts)
    with caplog.at_level("INFO"):
        assert sum(open_objects(place, min_area=1, keep_stuff=False).counts) == everything - 1
    assert f"{everything - 1} objects; left out: 1 background" in caplog.text
    half = open_objects(place, min_area=1, min_occlusion_rate=0.1)
    for photo in half.photos:
        modal, amodal = half.masks(photo, photo.objects)
        assert ((amodal & ~modal).sum((1, 2)) >= 0.1 * amodal.sum((1, 2))).all()
    large = open_objects(place, min_area=900)
    assert 0 < sum(large.counts) < everything
    assert all((large.masks(photo, photo.objects)[0].sum((1, 2)) >= 900).all() for photo in large.photos)


def test_crowds_are_kept_only_where_asked():
    refusal = ObjectFilter().refusal
    item = {"modal_mask": None, "amodal_mask": None, "is_crowd": True, "is_stuff": False}
    assert refusal(item, (4, 4)) == "crowd"
    assert ObjectFilter(keep_crowd=True).refusal(item, (4, 4)) == "no amodal mask"


def test_objects_without_amodal_mask_are_counted_or_refused(tmp_path):
    write_photos(tmp_path, images=2, amodal=False)
    with pytest.raises(ValueError, match=r"has no usable object: \d no amodal mask"):
        open_objects(tmp_path)
    with pytest.raises(ValueError, match=r"photo .*/1 \(0.png\): object 1: no amodal mask"):
        open_objects(tmp_path, on_error="raise")


def test_masks_of_another_size_are_refused(folder, tmp_path):
    def change(row, index):
        return {**row, "height": row["height"] + 1} if index == 1 else row

    parquet = as_parquet(folder / "b", tmp_path / "parquet", change)
    assert len(open_parquet(parquet).photos) == 2
    with pytest.raises(ValueError, match="mask of another size than the photo"):
        open_parquet(parquet, on_error="raise")


def test_bad_photos_are_named(folder, tmp_path):
    content = (folder / "b" / "0.png").read_bytes()
    Image.fromarray(draw_scene(50)[0][:90]).save(tmp_path / "small.png")
    replaced = [
        {"bytes": content[: len(content) // 2], "path": "0.png"},
        {"bytes": (tmp_path / "small.png").read_bytes(), "path": "1.png"},
        None,
    ]
    parquet = as_parquet(folder / "b", tmp_path / "parquet")
    objects = open_parquet(parquet)
    objects._files = [[{"image": value} for value in replaced]]
    with pytest.raises(ValueError, match=r"photo .*/1 \(0.png\) cannot be read"):
        objects.image(objects.photos[0])
    with pytest.raises(ValueError, match=r"photo .*/2 \(1.png\) is 90 x 128 .*, annotated 96 x 128"):
        objects.image(objects.photos[1])
    with pytest.raises(ValueError, match=r"photo .*/3 \(2.png\) is missing"):
        objects.content_key(objects.photos[2])


def test_a_photo_that_disappears_is_named(folder, tmp_path):
    objects = open_objects(edited_photos(folder / "b", tmp_path, lambda content: None))
    (tmp_path / "1.png").unlink()
    with pytest.raises(PhotoError, match=r"photo .*/2 \(1.png\) is missing"):
        objects.image(objects.photos[1])


# Held-out photos


def test_held_out_photos_share_nothing_with_the_others(folder):
    objects = open_objects(folder / "a", folder / "b")
    train, held_out = objects.split(0.34)
    assert sorted(train + held_out) == sorted(objects.photos)
    assert len({photo.group for photo in held_out}) == 2
    assert not {photo.group for photo in train} & {photo.group for photo in held_out}
    assert objects.split(0.34) == (train, held_out)


def test_one_photo_cannot_be_split(tmp_path):
    write_photos(tmp_path, images=1)
    with pytest.raises(ValueError, match="of 1 photos leaves none to train on; hold out photos of another data set"):
        open_objects(tmp_path).split(0.02)


# Drawing


def photos_of(*sizes_by_source):
    make = Photo
    return [
        make(f"{source}/{row}", source, row, tuple(range(size)), f"{source}/{row}")
        for source, sizes in enumerate(sizes_by_source)
        for row, size in enumerate(sizes)
    ]


def sampler_of(photos, weights=None, *, images_per_batch=4, seed=3, process_index=0):
    sources = max(photo.source for photo in photos) + 1
    return ObjectSampler(
        photos, sources, weights, images_per_batch=images_per_batch, seed=seed, process_index=process_index
    )


def keep(photo, places, generator):
    return photo, places, generator.random()


@pytest.mark.parametrize("images_per_batch", [2, 5, None])
def test_data_sets_come_in_the_ratio_asked_for_and_objects_equally_often(images_per_batch):
    photos = photos_of((1, 2, 9) * 12, (4, 8) * 4)
    sampler = sampler_of(photos, [0.9, 0.1], images_per_batch=images_per_batch)
    counts = {}
    for step in range(600):
        for photo, places, _ in sampler.draw(step, 10, keep):
            for place in places:
                key = (photo.source, photo.row, place)
                counts[key] = counts.get(key, 0) + 1
    total = 6_000
    first, second = ([count for key, count in counts.items() if key[0] == source] for source in (0, 1))
    assert (len(first), len(second)) == (144, 48)
    assert sum(first) / total == pytest.approx(0.9, abs=0.02)
    sizes = {1: [], 2: [], 9: []}  # a large photo's objects come as often as one that is alone
    for (source, row, _), count in counts.items():
        if source == 0:
            sizes[(1, 2, 9)[row % 3]].append(count)
    for alike in sizes.values():
        assert np.mean(alike) == pytest.approx(0.9 * total / 144, rel=0.1)
    np.testing.assert_allclose(np.mean(second), 0.1 * total / 48, rtol=0.15)


def test_without_weights_every_object_is_drawn_equally_often():
    sampler = sampler_of(photos_of((2, 2), (12,)), images_per_batch=None)
    drawn = [photo.source for step in range(400) for photo, *_ in sampler.draw(step, 10, keep)]
    assert np.mean(drawn) == pytest.approx(12 / 16, abs=0.03)


def test_a_batch_has_its_size_and_its_number_of_photos():
    sampler = sampler_of(photos_of((7, 3, 5, 1, 6)), images_per_batch=3)
    for step in range(20):
        batch = sampler.draw(step, 11, keep)
        assert sum(len(places) for _, places, _ in batch) == 11
        assert 3 <= len(batch) and all(len(places) <= 4 for _, places, _ in batch)
    assert len(sampler.draw(0, 2, keep)) == 2


@pytest.mark.parametrize("images_per_batch", [1, 3, None])
def test_no_object_comes_twice_before_all_others(images_per_batch):
    sampler = sampler_of(photos_of((1, 1, 2), (4,)), images_per_batch=images_per_batch)
    for step in range(40):
        drawn = [(photo.name, place) for photo, places, _ in sampler.draw(step, 8, keep) for place in places]
        assert len(set(drawn)) == 8
        assert len(sampler.draw(step, 20, keep)) and sum(len(x) for _, x, _ in sampler.draw(step, 20, keep)) == 20


def test_batches_are_a_function_of_seed_step_and_process():
    photos = photos_of((3, 4, 5))
    sampler = sampler_of(photos)
    first = [sampler.draw(step, 8, keep) for step in range(3)]
    assert [sampler_of(photos).draw(step, 8, keep) for step in (2, 1, 0)] == first[::-1]
    others = [sampler.draw(1, 8, keep), sampler_of(photos, seed=4).draw(0, 8, keep)]
    others.append(sampler_of(photos, process_index=1).draw(0, 8, keep))
    assert all(other != first[0] for other in others)
    assert sampler_of(photos, seed=-1).draw(0, 8, keep)


def test_bad_photos_are_replaced_and_do_not_change_the_draw(caplog):
    photos = photos_of((3, 4, 5, 2))

    def load(photo, places, generator):
        if photo.row == 2:
            raise PhotoError("photo 0/2 cannot be read")
        return photo.row, places

    sampler = sampler_of(photos)
    batches = [sampler.draw(step, 8, load) for step in range(6)]
    assert all(row != 2 for batch in batches for row, _ in batch)
    assert all(sum(len(places) for _, places in batch) == 8 for batch in batches)
    assert sampler_of(photos).draw(5, 8, load) == batches[5]  # whatever was met before
    assert sampler.skipped == ["photo 0/2 cannot be read"]
    assert caplog.text.count("skipped photo 0/2 cannot be read") == 2  # once a sampler
    with pytest.raises(ValueError, match="photo 0/2 cannot be read"):
        for step in range(6):
            sampler_of(photos).draw(step, 8, load, "raise")


def test_photos_that_are_all_bad_are_an_error():
    def load(photo, places, generator):
        raise PhotoError(f"photo {photo.name} is missing")

    sampler = sampler_of(photos_of((3, 4), (1,)), [1, 0])
    with pytest.raises(ValueError, match="none of the 2 photos can be used; the last: photo 0/. is missing"):
        sampler.draw(0, 8, load)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"must hold one weight for each of the 2 data sets, got \[1.0\]"),
        ([1.0, -1.0], "must not be negative and sum to more than 0"),
        ([0.0, 0.0], "must not be negative and sum to more than 0"),
        ([float("nan"), 1.0], "must not be negative and sum to more than 0"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=f"`weights` {message}"):
        sampler_of(photos_of((3,), (4,)), weights)


def test_a_data_set_without_photos_to_train_on_gets_no_weight():
    photos = photos_of((3,))
    with pytest.raises(ValueError, match="`weights` gives 0.5 to data set 1, which has no photo"):
        ObjectSampler(photos, 2, [0.5, 0.5], images_per_batch=2, seed=0)


# Cropping


def test_crops_are_those_of_the_pipelines(folder):
    objects = open_objects(folder / "a")
    photo = objects.photos[0]
    modal, amodal = objects.masks(photo, photo.objects)
    crops = ObjectCropper(objects, 32, enlarge_box=2.0)(photo, photo.objects, np.random.default_rng(0))
    boxes = crop_boxes(mask_boxes(modal), enlarge_box=2.0)
    np.testing.assert_array_equal(crops.boxes, boxes)
    assert torch.equal(crops.modal, crop_masks(torch.from_numpy(modal), boxes, 32))
    assert torch.equal(crops.target, crop_masks(torch.from_numpy(amodal), boxes, 32))
    assert crops.size == (96, 128)


def test_moved_boxes_stay_within_their_bounds(folder):
    objects = open_objects(folder / "a")
    photo = objects.photos[0]
    cropper = ObjectCropper(objects, 32, shift=0.2, scale=0.25)
    plain = ObjectCropper(objects, 32)(photo, photo.objects).boxes
    assert torch.equal(cropper(photo, photo.objects).boxes, plain)  # validation gives no generator
    ratios, moves = [], []
    for seed in range(100):
        boxes = cropper(photo, photo.objects, np.random.default_rng(seed)).boxes
        assert torch.equal(boxes[:, 2], boxes[:, 3])
        ratios.append(plain[:, 2] / boxes[:, 2])
        centres = [box[:, :2] + box[:, 2:] / 2 for box in (boxes, plain)]
        moves.append((centres[0] - centres[1]) / plain[:, 2:])
    ratios, moves = torch.cat(ratios), torch.cat(moves)
    assert 0.73 < ratios.min() < 0.8
    assert 1.2 < ratios.max() < 1.27
    assert 0.17 < moves.abs().max() < 0.22
    again = cropper(photo, photo.objects, np.random.default_rng(99)).boxes
    assert torch.equal(again, boxes)


def test_what_is_prefetched_has_the_context_variables_of_who_asks():
    visitor = ContextVar("visitor", default="nobody")
    fetch = Prefetcher(lambda step, batch_size: (visitor.get(), threading.get_ident()))
    visitor.set("ann")
    found = [fetch(step, 1) for step in (0, 1, 2, 9)]
    assert {name for name, _ in found} == {"ann"} and threading.get_ident() not in {thread for _, thread in found}


def test_prefetching_changes_nothing():
    calls = []

    def prepare(step, batch_size):
        calls.append((step, batch_size))
        if step == 9:
            raise PhotoError("step 9")
        return step * batch_size

    fetch = Prefetcher(prepare)
    assert [fetch(step, 2) for step in (0, 1, 2, 7, 3)] == [0, 2, 4, 14, 6]
    assert fetch(4, 5) == 20
    assert set(calls) >= {(1, 2), (2, 2), (3, 2), (7, 2)}
    assert fetch(8, 2) == 16
    with pytest.raises(ValueError, match="step 9"):
        fetch(9, 2)
