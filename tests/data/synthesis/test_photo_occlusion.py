"""The bank of objects in their photos, and the samples pasted together from it."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.crops import crop_boxes
from amodal_diffusion.data import load_amodal_dataset, photos, read_annotations
from amodal_diffusion.data.synthesis import (
    AMODAL,
    INSIDE,
    MODAL,
    OCCLUDER,
    OTHERS,
    PASTED,
    PhotoBank,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
)
from amodal_diffusion.images import load_image
from amodal_diffusion.masks import encode_rle, mask_boxes
from photo_helpers import draw_scene, write_broken_parquet, write_photos

FIELDS = ("image", "modal", "amodal", "occluder", "known", "pasted")
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = write_photos(tmp_path_factory.mktemp("photos"), images=6)
    return read_annotations(path, path.parent)


@pytest.fixture(scope="module")
def modal_rows(tmp_path_factory):
    path = write_photos(tmp_path_factory.mktemp("modal"), images=4, amodal=False)
    return read_annotations(path, path.parent)


@pytest.fixture(scope="module")
def bank(rows):
    return PhotoBank.from_sources([rows], resolution=48, min_area=40)


def plain(**changes):
    """A recipe that changes nothing but the crop."""
    quiet = {"front_probability": 0, "behind_probability": 0, "region_probability": 0, "rotation": 0, "colour": 0}
    return PhotoSynthesisConfig(**{"size": 32, **quiet, **changes})


def synthesizer(bank, config, seed=0, **options):
    return PhotoOcclusionSynthesizer(bank, config, seed=seed, **options)


def _row(modal, amodal):
    """A row of the common schema: the photo of `draw_scene(0)` with these objects."""
    objects = [
        {"modal_mask": encode_rle(m), "amodal_mask": encode_rle(a), "is_crowd": False, "category_id": None}
        for m, a in zip(modal, amodal, strict=True)
    ]
    photo = Image.fromarray(draw_scene(0)[0])
    height, width = modal.shape[1:]
    return {"image": photo, "image_id": 1, "height": height, "width": width, "objects": objects, "file_name": "0.png",
            "order_relations": None, "source": "drawn"}  # fmt: skip


# The bank


def test_layers_say_what_the_ground_truth_says(rows, bank):
    bits = bank.layers.int()
    modal, amodal, occluder = ((bits & bit) > 0 for bit in (MODAL, AMODAL, OCCLUDER))
    assert bank.known.all()
    assert not (modal & ~amodal).any()
    assert not (modal & occluder).any()
    assert not (occluder & ~((bits & OTHERS) > 0)).any()
    hidden = (amodal & ~modal).flatten(1).any(1)
    assert hidden.any() and not hidden.all()
    covered = (amodal & ~modal & occluder).flatten(1).sum(1) / (amodal & ~modal).flatten(1).sum(1).clamp(min=1)
    assert (covered[hidden] > 0.9).all()  # what is hidden lies under what hides it


def test_squares_are_cut_around_the_crop_rule(bank, rows):
    photo, modal, _ = draw_scene(0)
    first = rows[0]["objects"][0]  # COCOA lists the front first
    x, y, side, _ = crop_boxes(mask_boxes(modal[2][None]))[0]
    assert first["modal_box"][2] > 0
    wide = round(side * 1.5)
    left, top = x + (side - wide) // 2, y + (side - wide) // 2
    middle = (bank.pixels[0, :, 24, 24]).tolist()
    expected = photo[top + wide // 2, left + wide // 2].tolist()
    assert np.abs(np.array(middle, int) - expected).max() <= 40
    inside = ((bank.layers & INSIDE) > 0).float()
    outside = torch.nn.functional.max_pool2d(inside, 5, 1, 2) == 0  # beyond the reach of the kernel
    assert outside.any() and not bank.pixels.amax(1)[outside].any()


def test_modal_masks_alone(modal_rows):
    bank = PhotoBank.from_sources([modal_rows], resolution=32, min_area=40)
    assert not bank.known.any()
    assert torch.equal((bank.layers & MODAL) > 0, (bank.layers & AMODAL) > 0)
    assert not (bank.layers & OCCLUDER).any()


def test_a_labeller_completes_modal_masks(modal_rows):
    seen = []

    def labeller(image, modal):
        seen.append((image.size, modal.shape))
        order = np.zeros((len(modal), len(modal)), np.int8)
        order[0, 1], order[1, 0] = -1, 1
        amodal = modal.copy()
        amodal[0] |= modal[1]
        return amodal, order

    bank = PhotoBank.from_sources([modal_rows], resolution=32, min_area=40, labeller=labeller)
    assert seen and all(shape[1:] == (size[1], size[0]) for size, shape in seen)
    assert bank.known.any()
    hidden = ((bank.layers & AMODAL) > 0) & ((bank.layers & MODAL) == 0)
    assert torch.equal(hidden, hidden & ((bank.layers & OCCLUDER) > 0)) and hidden.any()


def test_the_annotated_order_tells_the_occluders():
    """[Z24] takes COCOA's annotated order; where it says nothing the masks do."""
    _, modal, amodal = draw_scene(0)
    row = {**_row(modal, amodal), "order_relations": [{"front": 0, "behind": 2}]}  # against the masks
    bank = PhotoBank.from_sources([[row]], resolution=48, min_area=40)
    occluder = (bank.layers.int() & OCCLUDER) > 0
    assert bank.known.tolist() == [False, True, True]  # then nobody says what hides object 0
    assert occluder[2].any() and not occluder[0].any()
    plain_bank = PhotoBank.from_sources([[_row(modal, amodal)]], resolution=48, min_area=40)
    assert not ((plain_bank.layers[2].int() & OCCLUDER) > 0).any()


def test_what_hides_an_object_may_be_unknown():
    """MP3D-Amodal: one annotated object a photo, under things that nobody named."""
    _, modal, amodal = draw_scene(0)
    hidden = [index for index in range(3) if (amodal[index] & ~modal[index]).sum() > 40]
    for index in range(3):
        row = _row(modal[[index]], amodal[[index]])
        bank = PhotoBank.from_sources([[row]], resolution=48, min_area=40)
        assert bank.known.tolist() == [index not in hidden] and not ((bank.layers.int() & OCCLUDER) > 0).any()
        batch = synthesizer(bank, plain()).sample(0, 4)
        assert batch.unexplained.tolist() == [index in hidden] * 4
    assert hidden and len(hidden) < 3


def test_source_weights_are_frequencies_of_sources(bank):
    parts = [torch.cat([part, part]) for part in (bank.pixels, bank.layers, bank.known)]
    sources, categories = (torch.cat([part, part + 1]) for part in (bank.sources, 0 * bank.sources + 4))
    both = PhotoBank(*parts, sources, bank.context, categories)
    drawn = [synthesizer(both, plain(), source_weights=[0.9, 0.1]).sample(step, 64) for step in range(8)]
    second = torch.cat([batch.category_ids for batch in drawn]) >= 5
    assert second.float().mean().item() == pytest.approx(0.1, abs=0.06)
    with pytest.raises(ValueError, match="`source_weights` must be 2 non-negative numbers"):
        synthesizer(both, plain(), source_weights=[1.0])


def test_small_and_crowd_objects_are_left_out(rows):
    everything = PhotoBank.from_sources([rows], resolution=16, min_area=1)
    some = PhotoBank.from_sources([rows], resolution=16, min_area=2000)
    assert 0 < len(some) < len(everything)
    with pytest.raises(ValueError, match="holds no object"):
        PhotoBank.from_sources([rows], resolution=16, min_area=10**6)


def test_missing_and_mismatched_photos_are_named(rows):
    bare = [{**rows[0], "image": None}]
    with pytest.raises(ValueError, match=r"image 1 of .* has no photo"):
        PhotoBank.from_sources([bare], resolution=16)
    small = [{**rows[0], "image": rows[0]["image"].resize((20, 30))}]
    with pytest.raises(ValueError, match=r"photo 0\.png of image 1 of .* is 20x30 pixels, its masks are 128x96"):
        PhotoBank.from_sources([small], resolution=16)


@pytest.mark.parametrize("streaming", [False, True])
def test_broken_photos_are_named(rows, tmp_path, streaming):
    broken = load_amodal_dataset(write_broken_parquet(rows, tmp_path / "rows"), streaming=streaming)
    with pytest.raises(ValueError, match=r"photo 0\.png of image 1 of .* cannot be read: .*truncated"):
        PhotoBank.from_sources([broken], resolution=16)


def test_bad_parts_are_refused(bank):
    parts = (bank.pixels, bank.layers, bank.known, bank.sources)
    with pytest.raises(ValueError, match="must have shapes"):
        PhotoBank(*parts[:3], bank.sources[:-1], context=1.5)
    with pytest.raises(ValueError, match="`context` must be at least 1"):
        PhotoBank(*parts, context=0.5)


def test_subset_and_device(bank):
    part = bank.subset(torch.tensor([2, 0])).to("cpu")
    assert len(part) == 2 and torch.equal(part.pixels[1], bank.pixels[0])


# The samples


def test_same_arguments_same_batch(bank):
    config = PhotoSynthesisConfig(size=32)
    one, two = synthesizer(bank, config, seed=3), synthesizer(bank, config, seed=3)
    two.sample(0, 4)
    first, second, other = one.sample(7, 8), two.sample(7, 8), one.sample(8, 8)
    for name in FIELDS:
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(first.image, other.image)
    processes = [synthesizer(bank, config, seed=3, process_index=i, num_processes=2).sample(7, 8) for i in range(2)]
    assert not torch.equal(processes[0].image, processes[1].image)


def test_shapes_and_values(bank):
    batch = synthesizer(bank, PhotoSynthesisConfig(size=32)).sample(0, 16)
    assert batch.image.shape == (16, 3, 32, 32)
    pixels = batch.image * STD + MEAN
    assert -1e-5 <= pixels.min() and pixels.max() <= 1 + 1e-5
    for name in FIELDS[1:]:
        plane = getattr(batch, name)
        assert plane.shape == (16, 1, 32, 32) and set(plane.unique().tolist()) <= {0.0, 1.0}
    assert not (batch.modal * batch.occluder).any()
    assert not (batch.modal * (1 - batch.amodal)).any()
    assert torch.equal(batch.hidden, batch.amodal - batch.modal)


def test_the_crop_is_that_of_the_visible_part(bank):
    batch = synthesizer(bank, plain(scale=(1, 1), shift=(0, 0), size=64)).sample(0, 32)
    modal = batch.modal[:, 0].bool().numpy()
    boxes = mask_boxes(modal)
    sides = np.maximum(np.sqrt(3.0 * boxes[:, 2] * boxes[:, 3]), 1.1 * boxes[:, 2:].max(1))
    assert np.median(np.abs(sides / 64 - 1)) < 0.06
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    assert np.median(np.abs(centres - 32)) < 2


def test_pasted_in_front(bank):
    config = plain(front_probability=1)
    before = synthesizer(bank, plain(), seed=5).sample(0, 64)
    batch = synthesizer(bank, config, seed=5).sample(0, 64)
    share = batch.hidden.flatten(1).sum(1) / batch.amodal.flatten(1).sum(1)
    assert (share > 0).float().mean() > 0.9 > (before.hidden.flatten(1).sum(1) > 0).float().mean()
    under = (batch.hidden * batch.occluder).sum() / batch.hidden.sum()
    assert under > 0.97


def test_pasted_behind_hides_nothing_more(bank):
    quiet = {"scale": (1, 1), "shift": (0, 0)}
    batch = synthesizer(bank, plain(behind_probability=1, **quiet), seed=5).sample(0, 32)
    before = synthesizer(bank, plain(**quiet), seed=5).sample(0, 32)
    for name in ("modal", "amodal", "occluder"):
        assert torch.equal(getattr(batch, name), getattr(before, name))
    changed = (batch.image - before.image).abs().amax(1, keepdim=True) > 0.05
    assert changed.flatten(1).any(1).float().mean() > 0.7
    inner = 1 - torch.nn.functional.max_pool2d(1 - batch.modal, 5, 1, 2)  # its soft edge reaches two pixels in
    assert not (changed & (inner > 0)).any()


def test_pasted_is_what_is_seen_of_the_pasted_object(bank):
    front = synthesizer(bank, plain(front_probability=1)).sample(0, 32)
    assert front.pasted.any() and not (front.pasted * (1 - front.occluder)).any()
    behind = synthesizer(bank, plain(behind_probability=1)).sample(0, 32)
    assert behind.pasted.any() and not (behind.pasted * (behind.modal + behind.occluder)).any()
    assert not synthesizer(bank, plain()).sample(0, 32).pasted.any()


GREYS = (50, 200)


@pytest.fixture(scope="module")
def grey_bank():
    """Two discs, each in a photo of one grey."""
    axis = torch.arange(48) - 23.5
    disc = (axis**2 + axis[:, None] ** 2 < 12**2).to(torch.uint8)
    pixels = torch.tensor(GREYS, dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 48, 48)
    layers = (disc * (MODAL + AMODAL) + INSIDE).expand(2, 48, 48)
    return PhotoBank(pixels, layers, torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64), context=1.5)


@pytest.mark.parametrize("where", ["front_probability", "behind_probability"])
def test_matting_mixes_both_photos(grey_bank, where):
    config = plain(**{where: 1}, matting=(0.8, 0.5), scale=(1, 1), shift=(0, 0), max_redraws=50)
    batch = synthesizer(grey_bank, config).sample(0, 64)
    shades = ((batch.image * STD + MEAN) * 255).mean(1).numpy()
    mixed = 0
    for shade, pasted, modal in zip(shades, batch.pasted[:, 0].numpy(), batch.modal[:, 0].numpy(), strict=True):
        own = float(np.median(shade[modal > 0]))
        other = GREYS[0] if abs(own - GREYS[1]) < 1 else GREYS[1]
        around = np.pad(pasted, 1, mode="edge")  # the outline has a pixel outside among its 8 neighbours
        rows, columns = np.indices(pasted.shape)
        inner = np.min([around[rows + dy, columns + dx] for dy in range(3) for dx in range(3)], axis=0) > 0
        outline = (pasted > 0) & ~inner
        np.testing.assert_allclose(shade[pasted == 0], own, atol=0.01)
        if not inner.any() or abs(shade[inner].mean() - own) < 1:
            continue  # the disc of the same photo
        np.testing.assert_allclose(shade[inner], 0.8 * other + 0.2 * own, atol=0.01)
        np.testing.assert_allclose(shade[outline], 0.5 * other + 0.5 * own, atol=0.01)
        mixed += 1
    assert mixed > 10


def test_matting_changes_the_photo_alone(bank):
    soft = synthesizer(bank, plain(front_probability=1)).sample(0, 16)
    matted = synthesizer(bank, plain(front_probability=1, matting=(0.8, 0.5))).sample(0, 16)
    for name in FIELDS[1:]:
        assert torch.equal(getattr(soft, name), getattr(matted, name))
    assert not torch.equal(soft.image, matted.image)


def test_occluders_of_unknown_photos_are_trusted_where_they_were_pasted(modal_rows):
    bank = PhotoBank.from_sources([modal_rows], resolution=48, min_area=40)
    batch = synthesizer(bank, plain(front_probability=1)).sample(0, 32)
    assert not (batch.occluder * (1 - batch.known)).any()
    assert not (batch.modal * (1 - batch.known)).any()
    assert 0 < batch.known.mean() < 1


def test_regions_lie_behind_the_objects(bank):
    batch = synthesizer(bank, plain(region_probability=1)).sample(0, 64)
    assert (batch.known == 1).all()
    assert batch.hidden.sum() > 0
    assert not (batch.hidden * (1 - batch.occluder)).any()


def test_colours_change_the_photo_alone(bank):
    loud = synthesizer(bank, plain(colour=0.3), seed=2).sample(0, 8)
    again = synthesizer(bank, plain(colour=0.3), seed=2).sample(0, 8)
    assert torch.equal(loud.image, again.image)
    quiet = synthesizer(bank, plain(), seed=2).sample(0, 8)
    assert torch.equal(loud.amodal, quiet.amodal)
    assert not torch.allclose(loud.image, quiet.image, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"front_probability": 1.2}, r"`front_probability` must lie in \[0, 1\], got 1.2"),
        ({"front_probability": 0.7, "behind_probability": 0.7}, "must add up to 1 at most"),
        ({"cut_range": (0.5, 0.1)}, "`cut_range` must be"),
        ({"scale": (0, 1)}, "must be positive"),
        ({"size": 4}, "`size` must be at least 8"),
        ({"colour": 1.0}, r"`colour` must lie in \[0, 1\), got 1.0"),
        ({"matting": (0.8, 1.5)}, r"`matting` must be None or \(inside, outline\), both in \[0, 1\], got \(0.8, 1.5\)"),
        ({"matting": (0.8,)}, "`matting` must be None or"),
    ],
)
def test_bad_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PhotoSynthesisConfig(), **change)


def test_process_index_is_checked(bank):
    with pytest.raises(ValueError, match=r"`process_index` must lie in \[0, 1\], got 2"):
        synthesizer(bank, plain(), process_index=2, num_processes=2)


def test_a_photo_is_loaded_once(modal_rows, monkeypatch):
    loaded, seen = [], []
    monkeypatch.setattr(photos, "load_image", lambda photo: loaded.append(photo) or load_image(photo))

    def labeller(image, modal):
        seen.append(image)
        return modal, np.zeros((len(modal), len(modal)), np.int8)

    rows = list(modal_rows)
    PhotoBank.from_sources([rows], resolution=32, min_area=40, labeller=labeller)
    assert len(loaded) == len(rows)
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for image in seen)
    loaded.clear()
    with pytest.raises(ValueError, match="holds no object"):
        PhotoBank.from_sources([rows], min_area=10**6, labeller=labeller)
    assert not loaded  # no object of theirs is taken


def test_instances_tell_the_objects_of_a_photo_apart(rows, tmp_path):
    bank = PhotoBank.from_sources([rows], resolution=48, min_area=40, with_instances=True)
    bits, numbers = bank.layers, bank.instances
    assert (numbers[(bits & MODAL) > 0] > 0).all()
    others = numbers.masked_fill((bits & MODAL) > 0, 0)
    assert torch.equal(others > 0, ((bits & OTHERS) > 0) & ((bits & MODAL) == 0))
    synthesizer = PhotoOcclusionSynthesizer(bank, PhotoSynthesisConfig(size=32, front_probability=0.5))
    batch = synthesizer.sample(0, 32)
    assert batch.others.dtype == torch.uint8 and not (batch.others * batch.modal.byte()).any()
    assert torch.equal(batch.others == PASTED, batch.pasted > 0)
    assert not (batch.occluder.bool() & (batch.others == 0) & (batch.modal == 0)).any()
    bank.save(tmp_path / "bank.safetensors")
    again = PhotoBank.load(tmp_path / "bank.safetensors")
    for name in ("pixels", "layers", "known", "sources", "category_ids", "instances"):
        assert torch.equal(getattr(again, name), getattr(bank, name))
    assert again.context == bank.context
    assert torch.equal(again.subset(torch.tensor([1])).instances, bank.instances[1:2])
    with pytest.raises(ValueError, match="`instances` must have shape"):
        PhotoBank(bits.new_zeros(1, 3, 48, 48), bits[:1], bank.known[:1], bank.sources[:1], 1.5, None, bits)


def test_without_instances_nothing_is_told_apart(bank):
    assert bank.instances is None
    assert PhotoOcclusionSynthesizer(bank, PhotoSynthesisConfig(size=32)).sample(0, 2).others is None
