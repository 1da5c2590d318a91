"""Features of photos for training: computed by the extractor, or read from the cache."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from amodal_diffusion.data.samplers import PhotoError
from amodal_diffusion.pipelines.sdamodal.features import DiffusionFeatureExtractor
from amodal_diffusion.pipelines.sdamodal.photo_features import (
    PhotoFeatures,
    cached_features,
    freeze_extractor,
    place_extractor,
)
from diffusion_helpers import tiny_components
from photo_helpers import draw_scene, edited_photos, open_objects, write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "a", images=6)
    write_photos(folder / "b", images=3, first=50)
    return folder


PLACE = SimpleNamespace(
    device=torch.device("cpu"), process_index=0, num_processes=1, is_main_process=True, wait_for_everyone=lambda: None
)


def tiny_extractor(**settings):
    settings = {"resolution": 64, "num_draws": 2, **settings}
    extractor = DiffusionFeatureExtractor(**tiny_components(), **settings)
    freeze_extractor(extractor)
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


def test_features_from_the_cache_are_those_of_the_extractor(folder, tmp_path):
    objects = open_objects(folder / "b")
    extractor = Counting(tiny_extractor())
    cached = cached_features(str(tmp_path / "cache"), extractor, [(objects, objects.photos)], PLACE)
    assert extractor.photos == 3
    direct = PhotoFeatures(extractor, PLACE.device)
    for photo in objects.photos:
        (found,) = cached([cached.read(objects, photo)])
        (expected,) = direct([direct.read(objects, photo)])
        assert len(found) == 4
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.bfloat16
            torch.testing.assert_close(one.float(), other, rtol=2**-8, atol=1e-6)
            assert not one.requires_grad
    again = Counting(tiny_extractor())
    cached_features(str(tmp_path / "cache"), again, [(objects, objects.photos)], PLACE)
    assert again.photos == 0
    cached_features(str(tmp_path / "cache"), again, [(objects, objects.photos)], PLACE, rebuild=True)
    assert again.photos == 3


def test_a_stale_cache_is_refused_by_the_setting_that_differs(folder, tmp_path):
    objects = open_objects(folder / "b")
    arguments = (str(tmp_path / "cache"), [(objects, objects.photos[:1])], PLACE)

    def fill(extractor, **options):
        return cached_features(arguments[0], extractor, *arguments[1:], **options)

    fill(tiny_extractor())
    for name, value in {"time_step": 9, "num_draws": 3, "noise_seed": 1, "resolution": 32, "up_blocks": (0, 1)}.items():
        with pytest.raises(ValueError, match=f"{name}: the cache has"):
            fill(tiny_extractor(**{name: value}))
    other = tiny_extractor()
    place_extractor(other, torch.bfloat16, PLACE.device)
    with pytest.raises(ValueError, match="dtype: the cache has 'float32', this run 'bfloat16'"):
        fill(other)
    weights = tiny_components()
    with torch.no_grad():
        next(weights["unet"].parameters()).add_(0.1)
    other = DiffusionFeatureExtractor(**weights, resolution=64, num_draws=2)
    with pytest.raises(ValueError, match="checkpoint: the cache has"):
        fill(other)
    fill(tiny_extractor())  # nothing of it touched the cache
    fill(other, rebuild=True)


def test_a_changed_photo_is_noticed(folder, tmp_path):
    place = edited_photos(folder / "b", tmp_path, lambda content: None)
    cache = str(tmp_path / "cache")
    objects = open_objects(place)
    cached_features(cache, tiny_extractor(), [(objects, objects.photos)], PLACE)
    Image.fromarray(255 - draw_scene(51)[0]).save(tmp_path / "1.png")
    objects = open_objects(place)
    with pytest.raises(ValueError, match=r"1 photos are not those it was made from, the first is .*/2 \(1.png\)"):
        cached_features(cache, tiny_extractor(), [(objects, objects.photos)], PLACE)


def test_processes_fill_disjoint_photos(folder, tmp_path):
    objects = open_objects(folder / "a")
    cache, counted = str(tmp_path / "cache"), []
    chosen = [(objects, objects.photos)]
    for process in range(2):  # one after the other: each finds what it is to do before the other has written
        extractor = Counting(tiny_extractor())
        place = SimpleNamespace(**{**vars(PLACE), "process_index": process, "num_processes": 2})
        cached_features(cache, extractor, chosen, place)
        counted.append(extractor.photos)
    assert counted == [3, 1]  # 3 of 6; then the second half of the 3 that lack


def test_unreadable_photos_are_left_out_of_the_cache(folder, tmp_path, caplog):
    place = edited_photos(folder / "b", tmp_path, lambda content: None)
    objects = open_objects(place)
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    (tmp_path / "2.png").unlink()
    arguments = (str(tmp_path / "cache"), tiny_extractor(), [(objects, objects.photos)], PLACE)
    features = cached_features(*arguments)
    assert "skipped photo" in caplog.text
    assert len(features.cache) == 1
    features.read(objects, objects.photos[1])
    with pytest.raises(PhotoError, match=r"/1 \(0.png\) has no features in the cache"):
        features.read(objects, objects.photos[0])
    with pytest.raises(PhotoError, match=r"/3 \(2.png\) is missing"):
        features.read(objects, objects.photos[2])
    with pytest.raises(PhotoError, match=r"/3 \(2.png\) is missing"):
        cached_features(*arguments, on_error="raise")
    (tmp_path / "2.png").write_bytes((folder / "b" / "2.png").read_bytes())
    with pytest.raises(PhotoError, match=r"/1 \(0.png\) cannot be read"):
        cached_features(*arguments, on_error="raise")


def test_too_little_disk_is_told_before_anything_is_computed(folder, tmp_path, monkeypatch):
    objects = open_objects(folder / "b")
    disk = "amodal_diffusion.pipelines.sdamodal.feature_cache.shutil.disk_usage"
    monkeypatch.setattr(disk, lambda folder: SimpleNamespace(free=1000))
    extractor = Counting(tiny_extractor())
    with pytest.raises(OSError, match="features of 3 photos need .* but 0.00 MB are free"):
        cached_features(str(tmp_path / "cache"), extractor, [(objects, objects.photos)], PLACE)
    assert extractor.photos == 0
