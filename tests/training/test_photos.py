"""`training/trainer/photo_*.py`: reading objects with their photos, drawing batches, cropping, features of photos."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.data import read_annotations, save_parquet
from amodal_diffusion.pipelines.sdamodal.features import DiffusionFeatureExtractor
from diffusion_helpers import tiny_components
from photo_helpers import draw_scene, write_photos
from repository_helpers import ROOT


@pytest.fixture
def trainer(monkeypatch):
    """The modules under test."""
    monkeypatch.syspath_prepend(str(ROOT / "training"))
    from trainer import feature_cache, photo_batches, photo_features, photo_objects

    return SimpleNamespace(objects=photo_objects, batches=photo_batches, features=photo_features, cache=feature_cache)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "a", images=6)
    write_photos(folder / "b", images=3, first=50)
    return folder


def open_objects(trainer, *folders, on_error="skip", **chosen):
    paths = [str(folder / "annotations.json") for folder in folders]
    sources = trainer.objects.open_sources(paths, [str(folder) for folder in folders], on_error)
    return trainer.objects.PhotoObjects(sources, paths, trainer.objects.ObjectFilter(**chosen), on_error)


def edited(folder, tmp_path, change):
    """A copy of a data set with its annotations changed."""
    content = json.loads((folder / "annotations.json").read_text())
    change(content)
    for photo in folder.glob("*.png"):
        (tmp_path / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def as_parquet(folder, target, change=None):
    """A Parquet copy, where photos need not be as annotated."""
    dataset = read_annotations(folder / "annotations.json", folder)
    if change is not None:
        dataset = dataset.map(change, with_indices=True, features=dataset.features)
    save_parquet(dataset, target)
    return target


def open_parquet(trainer, folder, **options):
    sources = trainer.objects.open_sources([str(folder)], None, "skip")
    return trainer.objects.PhotoObjects(sources, [str(folder)], trainer.objects.ObjectFilter(), **options)


# Reading


def test_masks_and_photos_are_those_of_the_data_set(trainer, folder):
    objects = open_objects(trainer, folder / "a", folder / "b")
    assert len(objects.photos) == 9
    assert objects.counts == [sum(len(p.objects) for p in objects.photos if p.source == n) for n in (0, 1)]
    photo = objects.photos[7]  # the second of b
    scene, modal, amodal = draw_scene(51)
    np.testing.assert_array_equal(np.asarray(objects.image(photo)), scene)
    shown = [n for n in range(3) if modal[n].sum() > 30][::-1]  # as in the file, from the front
    found_modal, found_amodal = objects.masks(photo, [0, 1, 0])
    np.testing.assert_array_equal(found_modal, modal[[shown[0], shown[1], shown[0]]])
    np.testing.assert_array_equal(found_amodal, amodal[[shown[0], shown[1], shown[0]]])


def test_parquet_brings_its_own_photos(trainer, folder, tmp_path):
    objects = open_parquet(trainer, as_parquet(folder / "b", tmp_path / "parquet"))
    np.testing.assert_array_equal(np.asarray(objects.image(objects.photos[0])), draw_scene(50)[0])
    from_files = open_objects(trainer, folder / "b")
    assert objects.content_key(objects.photos[0]) == from_files.content_key(from_files.photos[0])
    assert objects.content_key(objects.photos[0]) != objects.content_key(objects.photos[1])


def test_filters_leave_out_what_they_say(trainer, folder, tmp_path, caplog):
    def change(content):
        regions = content["annotations"][0]["regions"]
        regions[0]["isStuff"] = 1
        regions[1].pop("visible_mask", None)

    place = edited(folder / "b", tmp_path, change)
    everything = sum(open_objects(trainer, place, min_area=1).counts)
    with caplog.at_level("INFO"):
        assert sum(open_objects(trainer, place, min_area=1, keep_stuff=False).counts) == everything - 1
    assert f"{everything - 1} objects; left out: 1 background" in caplog.text
    half = open_objects(trainer, place, min_area=1, min_occlusion_rate=0.1)
    for photo in half.photos:
        modal, amodal = half.masks(photo, photo.objects)
        assert ((amodal & ~modal).sum((1, 2)) >= 0.1 * amodal.sum((1, 2))).all()
    large = open_objects(trainer, place, min_area=900)
    assert 0 < sum(large.counts) < everything
    assert all((large.masks(photo, photo.objects)[0].sum((1, 2)) >= 900).all() for photo in large.photos)


def test_crowds_are_kept_only_where_asked(trainer):
    refusal = trainer.objects.ObjectFilter().refusal
    item = {"modal_mask": None, "amodal_mask": None, "is_crowd": True, "is_stuff": False}
    assert refusal(item, (4, 4)) == "crowd"
    assert trainer.objects.ObjectFilter(keep_crowd=True).refusal(item, (4, 4)) == "no amodal mask"


def test_objects_without_amodal_mask_are_counted_or_refused(trainer, tmp_path):
    write_photos(tmp_path, images=2, amodal=False)
    with pytest.raises(ValueError, match=r"has no usable object: \d no amodal mask"):
        open_objects(trainer, tmp_path)
    with pytest.raises(ValueError, match=r"photo .*/1 \(0.png\): object 1: no amodal mask"):
        open_objects(trainer, tmp_path, on_error="raise")


def test_masks_of_another_size_are_refused(trainer, folder, tmp_path):
    def change(row, index):
        return {**row, "height": row["height"] + 1} if index == 1 else row

    parquet = as_parquet(folder / "b", tmp_path / "parquet", change)
    assert len(open_parquet(trainer, parquet).photos) == 2
    with pytest.raises(ValueError, match="mask of another size than the photo"):
        open_parquet(trainer, parquet, on_error="raise")


def test_data_sets_without_photos_are_named(trainer, folder):
    path = str(folder / "a" / "annotations.json")
    with pytest.raises(ValueError, match=r"`--dataset` .*annotations.json has no photos; .* by `--images`"):
        trainer.objects.open_sources([path], None, "skip")
    with pytest.raises(ValueError, match="`--validation_images` must name one folder for each of the 1 data sets"):
        trainer.objects.open_sources([path], ["x", "y"], "skip", "--validation_dataset")


def test_bad_photos_are_named(trainer, folder, tmp_path):
    content = (folder / "b" / "0.png").read_bytes()
    Image.fromarray(draw_scene(50)[0][:90]).save(tmp_path / "small.png")
    replaced = [
        {"bytes": content[: len(content) // 2], "path": "0.png"},
        {"bytes": (tmp_path / "small.png").read_bytes(), "path": "1.png"},
        None,
    ]
    parquet = as_parquet(folder / "b", tmp_path / "parquet")
    objects = open_parquet(trainer, parquet)
    objects._files = [[{"image": value} for value in replaced]]
    with pytest.raises(ValueError, match=r"photo .*/1 \(0.png\) cannot be read"):
        objects.image(objects.photos[0])
    with pytest.raises(ValueError, match=r"photo .*/2 \(1.png\) is 90 x 128 .*, annotated 96 x 128"):
        objects.image(objects.photos[1])
    with pytest.raises(ValueError, match=r"photo .*/3 \(2.png\) is missing"):
        objects.content_key(objects.photos[2])


def test_a_photo_that_disappears_is_named(trainer, folder, tmp_path):
    objects = open_objects(trainer, edited(folder / "b", tmp_path, lambda content: None))
    (tmp_path / "1.png").unlink()
    with pytest.raises(trainer.objects.PhotoError, match=r"photo .*/2 \(1.png\) is missing"):
        objects.image(objects.photos[1])


# Held-out photos


def test_held_out_photos_share_nothing_with_the_others(trainer, folder):
    objects = open_objects(trainer, folder / "a", folder / "b")
    train, held_out = objects.split(0.34)
    assert sorted(train + held_out) == sorted(objects.photos)
    assert len({photo.group for photo in held_out}) == 2
    assert not {photo.group for photo in train} & {photo.group for photo in held_out}
    assert objects.split(0.34) == (train, held_out)


def test_one_photo_cannot_be_split(trainer, tmp_path):
    write_photos(tmp_path, images=1)
    with pytest.raises(ValueError, match="of 1 photos leaves none to train on; give a `--validation_dataset`"):
        open_objects(trainer, tmp_path).split(0.02)


# Drawing


def photos_of(trainer, *sizes_by_source):
    make = trainer.objects.Photo
    return [
        make(f"{source}/{row}", source, row, tuple(range(size)), f"{source}/{row}")
        for source, sizes in enumerate(sizes_by_source)
        for row, size in enumerate(sizes)
    ]


def sampler_of(trainer, photos, weights=None, *, images_per_batch=4, seed=3, process_index=0):
    sources = max(photo.source for photo in photos) + 1
    return trainer.objects.ObjectSampler(
        photos, sources, weights, images_per_batch=images_per_batch, seed=seed, process_index=process_index
    )


def keep(photo, places, generator):
    return photo, places, generator.random()


@pytest.mark.parametrize("images_per_batch", [2, 5, None])
def test_data_sets_come_in_the_ratio_asked_for_and_objects_equally_often(trainer, images_per_batch):
    photos = photos_of(trainer, (1, 2, 9), (4, 8))
    sampler = sampler_of(trainer, photos, [0.9, 0.1], images_per_batch=images_per_batch)
    counts = {}
    for step in range(1200):
        for photo, places, _ in sampler.draw(step, 10, keep):
            for place in places:
                key = (photo.source, photo.row, place)
                counts[key] = counts.get(key, 0) + 1
    total = 12_000
    first = [count for (source, *_), count in counts.items() if source == 0]
    second = [count for (source, *_), count in counts.items() if source == 1]
    assert len(first) == len(second) == 12
    assert sum(first) / total == pytest.approx(0.9, abs=0.02)
    np.testing.assert_allclose(np.array(first) / total, 0.9 / 12, rtol=0.15)
    np.testing.assert_allclose(np.array(second) / total, 0.1 / 12, rtol=0.35)


def test_without_weights_every_object_is_drawn_equally_often(trainer):
    sampler = sampler_of(trainer, photos_of(trainer, (2, 2), (12,)), images_per_batch=None)
    drawn = [photo.source for step in range(400) for photo, *_ in sampler.draw(step, 10, keep)]
    assert np.mean(drawn) == pytest.approx(12 / 16, abs=0.03)


def test_a_batch_has_its_size_and_its_number_of_photos(trainer):
    sampler = sampler_of(trainer, photos_of(trainer, (7, 3, 5, 1, 6)), images_per_batch=3)
    for step in range(20):
        batch = sampler.draw(step, 11, keep)
        assert [len(places) for _, places, _ in batch] == [4, 4, 3]
        for photo, places, _ in batch:
            assert len(set(places)) == min(len(places), len(photo.objects))  # none twice before all once
    assert len(sampler.draw(0, 2, keep)) == 2


def test_batches_are_a_function_of_seed_step_and_process(trainer):
    photos = photos_of(trainer, (3, 4, 5))
    sampler = sampler_of(trainer, photos)
    first = [sampler.draw(step, 8, keep) for step in range(3)]
    assert [sampler_of(trainer, photos).draw(step, 8, keep) for step in (2, 1, 0)] == first[::-1]
    others = [sampler.draw(1, 8, keep), sampler_of(trainer, photos, seed=4).draw(0, 8, keep)]
    others.append(sampler_of(trainer, photos, process_index=1).draw(0, 8, keep))
    assert all(other != first[0] for other in others)
    assert sampler_of(trainer, photos, seed=-1).draw(0, 8, keep)


def test_bad_photos_are_replaced_and_do_not_change_the_draw(trainer, caplog):
    photos = photos_of(trainer, (3, 4, 5, 2))

    def load(photo, places, generator):
        if photo.row == 2:
            raise trainer.objects.PhotoError("photo 0/2 cannot be read")
        return photo.row, places

    sampler = sampler_of(trainer, photos)
    batches = [sampler.draw(step, 8, load) for step in range(6)]
    assert all(row != 2 for batch in batches for row, _ in batch)
    assert all(sum(len(places) for _, places in batch) == 8 for batch in batches)
    assert sampler_of(trainer, photos).draw(5, 8, load) == batches[5]  # whatever was met before
    assert sampler.skipped == ["photo 0/2 cannot be read"]
    assert caplog.text.count("skipped photo 0/2 cannot be read") == 2  # once a sampler
    with pytest.raises(ValueError, match="photo 0/2 cannot be read"):
        for step in range(6):
            sampler_of(trainer, photos).draw(step, 8, load, "raise")


def test_photos_that_are_all_bad_are_an_error(trainer):
    def load(photo, places, generator):
        raise trainer.objects.PhotoError(f"photo {photo.name} is missing")

    sampler = sampler_of(trainer, photos_of(trainer, (3, 4), (1,)), [1, 0])
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
def test_bad_weights_are_refused(trainer, weights, message):
    with pytest.raises(ValueError, match=f"`--dataset_weights` {message}"):
        sampler_of(trainer, photos_of(trainer, (3,), (4,)), weights)


def test_a_data_set_without_photos_to_train_on_gets_no_weight(trainer):
    photos = photos_of(trainer, (3,))
    with pytest.raises(ValueError, match="`--dataset_weights` gives 0.5 to data set 1, which has no photo"):
        trainer.objects.ObjectSampler(photos, 2, [0.5, 0.5], images_per_batch=2, seed=0)


# Cropping


def test_crops_are_those_of_the_pipelines(trainer, folder):
    from amodal_diffusion.crops import crop_boxes, crop_masks
    from amodal_diffusion.masks import mask_boxes

    objects = open_objects(trainer, folder / "a")
    photo = objects.photos[0]
    modal, amodal = objects.masks(photo, photo.objects)
    crops = trainer.batches.ObjectCropper(objects, 32, enlarge_box=2.0)(photo, photo.objects, np.random.default_rng(0))
    boxes = crop_boxes(mask_boxes(modal), enlarge_box=2.0)
    np.testing.assert_array_equal(crops.boxes, boxes)
    assert torch.equal(crops.modal, crop_masks(torch.from_numpy(modal), boxes, 32))
    assert torch.equal(crops.target, crop_masks(torch.from_numpy(amodal), boxes, 32))
    assert crops.size == (96, 128)


def test_moved_boxes_stay_within_their_bounds(trainer, folder):
    objects = open_objects(trainer, folder / "a")
    photo = objects.photos[0]
    cropper = trainer.batches.ObjectCropper(objects, 32, shift=0.2, scale=0.25)
    plain = trainer.batches.ObjectCropper(objects, 32)(photo, photo.objects).boxes
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


def test_prefetching_changes_nothing(trainer):
    calls = []

    def prepare(step, batch_size):
        calls.append((step, batch_size))
        if step == 9:
            raise trainer.objects.PhotoError("step 9")
        return step * batch_size

    fetch = trainer.batches.Prefetcher(prepare)
    assert [fetch(step, 2) for step in (0, 1, 2, 7, 3)] == [0, 2, 4, 14, 6]
    assert fetch(4, 5) == 20
    assert set(calls) >= {(1, 2), (2, 2), (3, 2), (7, 2)}
    assert fetch(8, 2) == 16
    with pytest.raises(ValueError, match="step 9"):
        fetch(9, 2)


def test_pictures_show_truth_above_and_prediction_below(trainer):
    images = torch.zeros(2, 3, 8, 8)
    mask, target = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 2:4], target[:, :, 2:6, 2:6] = 1, 1
    picture = trainer.batches.photo_grid(images, mask, target, torch.zeros(2, 1, 8, 8))
    assert picture.shape == (16, 16, 3)
    assert picture[4, 5, 0] > 150 > picture[4, 5, 2]  # orange
    assert (picture[12, 5] == 0).all()  # nothing predicted
    assert picture[4, 3].min() > 130  # visible
    assert (picture[12, 3] == picture[4, 3]).all()


# Features


PLACE = SimpleNamespace(
    device=torch.device("cpu"), process_index=0, num_processes=1, is_main_process=True, wait_for_everyone=lambda: None
)


def tiny_extractor(trainer, **settings):
    settings = {"resolution": 64, "num_draws": 2, **settings}
    extractor = DiffusionFeatureExtractor(**tiny_components(), **settings)
    trainer.features.freeze_extractor(extractor)
    return extractor


class Counting:
    """An extractor that counts the photos it is given."""

    def __init__(self, extractor):
        self.extractor, self.photos = extractor, 0

    def __getattr__(self, name):
        return getattr(self.extractor, name)

    def __call__(self, images):
        self.photos += len(images)
        return self.extractor(images)


def test_features_from_the_cache_are_those_of_the_extractor(trainer, folder, tmp_path):
    objects = open_objects(trainer, folder / "b")
    extractor = Counting(tiny_extractor(trainer))
    cached = trainer.features.cached_features(str(tmp_path / "cache"), extractor, [(objects, objects.photos)], PLACE)
    assert extractor.photos == 3
    direct = trainer.features.PhotoFeatures(extractor, PLACE.device)
    for photo in objects.photos:
        (found,) = cached([cached.read(objects, photo)])
        (expected,) = direct([direct.read(objects, photo)])
        assert len(found) == 4
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.bfloat16
            torch.testing.assert_close(one.float(), other, rtol=2**-8, atol=1e-6)
            assert not one.requires_grad
    again = Counting(tiny_extractor(trainer))
    trainer.features.cached_features(str(tmp_path / "cache"), again, [(objects, objects.photos)], PLACE)
    assert again.photos == 0
    trainer.features.cached_features(str(tmp_path / "cache"), again, [(objects, objects.photos)], PLACE, rebuild=True)
    assert again.photos == 3


def test_a_stale_cache_is_refused_by_the_setting_that_differs(trainer, folder, tmp_path):
    objects = open_objects(trainer, folder / "b")
    arguments = (str(tmp_path / "cache"), [(objects, objects.photos[:1])], PLACE)

    def fill(extractor, **options):
        return trainer.features.cached_features(arguments[0], extractor, *arguments[1:], **options)

    fill(tiny_extractor(trainer))
    for name, value in {"time_step": 9, "num_draws": 3, "noise_seed": 1, "resolution": 32, "up_blocks": (0, 1)}.items():
        with pytest.raises(ValueError, match=f"{name}: the cache has"):
            fill(tiny_extractor(trainer, **{name: value}))
    other = tiny_extractor(trainer)
    trainer.features.place_extractor(other, torch.bfloat16, PLACE.device)
    with pytest.raises(ValueError, match="dtype: the cache has 'float32', this run 'bfloat16'"):
        fill(other)
    weights = tiny_components()
    with torch.no_grad():
        next(weights["unet"].parameters()).add_(0.1)
    other = DiffusionFeatureExtractor(**weights, resolution=64, num_draws=2)
    with pytest.raises(ValueError, match="checkpoint: the cache has"):
        fill(other)
    fill(tiny_extractor(trainer))  # nothing of it touched the cache
    fill(other, rebuild=True)


def test_a_changed_photo_is_noticed(trainer, folder, tmp_path):
    place = edited(folder / "b", tmp_path, lambda content: None)
    cache = str(tmp_path / "cache")
    objects = open_objects(trainer, place)
    trainer.features.cached_features(cache, tiny_extractor(trainer), [(objects, objects.photos)], PLACE)
    Image.fromarray(255 - draw_scene(51)[0]).save(tmp_path / "1.png")
    objects = open_objects(trainer, place)
    with pytest.raises(ValueError, match=r"1 photos are not those it was made from, the first is .*/2 \(1.png\)"):
        trainer.features.cached_features(cache, tiny_extractor(trainer), [(objects, objects.photos)], PLACE)


def test_processes_fill_disjoint_photos(trainer, folder, tmp_path):
    objects = open_objects(trainer, folder / "a")
    cache, counted = str(tmp_path / "cache"), []
    chosen = [(objects, objects.photos)]
    for process in range(2):  # one after the other: each finds what it is to do before the other has written
        extractor = Counting(tiny_extractor(trainer))
        place = SimpleNamespace(**{**vars(PLACE), "process_index": process, "num_processes": 2})
        trainer.features.cached_features(cache, extractor, chosen, place)
        counted.append(extractor.photos)
    assert counted == [3, 1]  # 3 of 6; then the second half of the 3 that lack


def test_unreadable_photos_are_left_out_of_the_cache(trainer, folder, tmp_path, caplog):
    place = edited(folder / "b", tmp_path, lambda content: None)
    objects = open_objects(trainer, place)
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    (tmp_path / "2.png").unlink()
    arguments = (str(tmp_path / "cache"), tiny_extractor(trainer), [(objects, objects.photos)], PLACE)
    features = trainer.features.cached_features(*arguments)
    assert "skipped photo" in caplog.text
    assert len(features.cache) == 1
    features.read(objects, objects.photos[1])
    with pytest.raises(trainer.objects.PhotoError, match=r"/1 \(0.png\) has no features in the cache"):
        features.read(objects, objects.photos[0])
    with pytest.raises(trainer.objects.PhotoError, match=r"/3 \(2.png\) is missing"):
        features.read(objects, objects.photos[2])
    with pytest.raises(trainer.objects.PhotoError, match=r"/3 \(2.png\) is missing"):
        trainer.features.cached_features(*arguments, on_error="raise")
    (tmp_path / "2.png").write_bytes((folder / "b" / "2.png").read_bytes())
    with pytest.raises(trainer.objects.PhotoError, match=r"/1 \(0.png\) cannot be read"):
        trainer.features.cached_features(*arguments, on_error="raise")


def test_too_little_disk_is_told_before_anything_is_computed(trainer, folder, tmp_path, monkeypatch):
    objects = open_objects(trainer, folder / "b")
    monkeypatch.setattr(trainer.cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    extractor = Counting(tiny_extractor(trainer))
    with pytest.raises(OSError, match="features of 3 photos need .* but 0.00 MB are free"):
        trainer.features.cached_features(str(tmp_path / "cache"), extractor, [(objects, objects.photos)], PLACE)
    assert extractor.photos == 0
