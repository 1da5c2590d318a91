"""The rows of models that draw samples, and the row of the nearest mask."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import (
    AmodalPipelineOutput,
    AmodalVAE,
    AmodalVAEPipeline,
    MaskPipeline,
    PCNetMask,
    PCNetMaskPipeline,
)
from amodal_diffusion.baselines.nearest_mask import NearestMaskBank
from amodal_diffusion.cli import main as cli
from amodal_diffusion.data import read_annotations
from amodal_diffusion.evaluation import (
    METHODS,
    PipelineMethod,
    PosteriorMethod,
    PosteriorSamples,
    TrueBoxMethod,
    call_pipeline,
    evaluate_methods,
    load_methods,
    make_sample,
    posterior_methods,
)
from amodal_diffusion.io import ObjectMasks, coco_document
from amodal_diffusion.masks import decode_rle, encode_rle

HEIGHT, WIDTH = 24, 32


def make_content(hidden=8):
    """One image, two squares: object 2 hides the right part of object 1."""
    whole, front = np.zeros((2, HEIGHT, WIDTH), bool)
    whole[4:20, 4:20], front[8:16, 20 - hidden : 30] = True, True
    regions = [
        {"segmentation": encode_rle(whole), "visible_mask": encode_rle(whole & ~front), "name": "back"},
        {"segmentation": encode_rle(front), "name": "front"},
    ]
    image = {"id": 4, "file_name": "p.png", "height": HEIGHT, "width": WIDTH}
    return {"images": [image], "annotations": [{"id": 4, "image_id": 4, "depth_constraint": "2-1", "regions": regions}]}


@pytest.fixture
def dataset():
    return read_annotations(make_content())


def vae_folder(path, **config):
    torch.manual_seed(0)
    model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8), **config)
    AmodalVAEPipeline(model).save_pretrained(path)
    return str(path)


class Guesser(MaskPipeline):
    """Draws three samples: the visible part, the truth's box without its last row, and everything.

    Scores prefer everything; the mean is the visible part; a box is filled.
    """

    needs_occluders = sees_neighbours = False
    call_options = ("num_samples", "amodal_box")

    def __init__(self):
        super().__init__()
        self.calls = []

    def __call__(self, image, masks, *, num_samples=None, generator=None, amodal_box=None, **_):
        self.calls.append((num_samples, generator, amodal_box))
        guess = np.zeros_like(masks)
        guess[0, 4:19, 4:20] = True
        samples = np.stack([masks, guess | masks, np.ones_like(masks)], axis=1)
        scores = np.tile(np.float32([0.1, 0.2, 0.3]), (len(masks), 1))
        amodal = masks.copy()
        for mask, box in zip(amodal, amodal_box or [], strict=False):
            x, y, width, height = (0, 0, 0, 0) if box is None else map(int, box)
            mask[y : y + height, x : x + width] = True
        drawn = (samples, scores) if num_samples else (None, None)
        return AmodalPipelineOutput(amodal, masks.astype(np.float32), None, None, None, *drawn)


def test_the_width_of_the_samples_by_hidden_share(dataset):
    """[L20], supplement: how far the samples are apart, as a function of what is hidden."""
    content = make_content(hidden=2)
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = 5
    pipeline = Guesser()
    rows = [*dataset, *read_annotations(content)]
    report = evaluate_methods(
        rows, [PipelineMethod(pipeline, "g"), *posterior_methods(pipeline, "g", 3)], order_methods=(),
        groups=("hidden",), resamples=20,
    )  # fmt: skip
    name = "g, best of 3 by visible"
    assert [row for row, metrics in report.completion.items() if "sample_width" in metrics] == [name]

    def width(hidden, whole=16 * 16, everything=HEIGHT * WIDTH):
        seen = whole - 8 * hidden
        return 1 - np.mean([seen / whole, seen / everything, whole / everything])

    groups = {group.name: group.metrics[name]["sample_width"] for group in report.groups}
    assert groups == {"0 to 10 %": pytest.approx(width(2)), "10 to 30 %": pytest.approx(width(8))}
    assert width(2) < width(8) and 0 < report.completion[name]["sample_width"] < 1
    assert report.intervals["completion"][name]["sample_width"][0] < report.completion[name]["sample_width"]
    text = report.to_text()
    assert "How far apart the samples of an object are" in text and "width of the samples" in text


@pytest.mark.parametrize("occluders_given", [True, False])
def test_rows_say_what_choice_and_box_gain(dataset, occluders_given):
    pipeline = Guesser()
    methods = [METHODS["raw"], PipelineMethod(pipeline, "g"), *posterior_methods(pipeline, "g", 3)]
    report = evaluate_methods(dataset, methods, occluders_given=occluders_given, order_methods=())
    names = ["raw", "g", "g, best of 3 by visible", "g, best of 3 by truth *", "g, true box *"]
    assert list(report.completion) == names == list(report.seconds)
    by_name = {name: row["inv_miou_mean"] for name, row in report.completion.items()}
    whole, visible, drawn = 16 * 16, 16 * 16 - 8 * 8, 16 * 15
    assert by_name["raw"] == by_name["g"] == 0
    assert by_name[names[2]] == pytest.approx((8 * 8) / (HEIGHT * WIDTH - visible))
    assert by_name[names[3]] == by_name[names[4]] == 1  # the row that the guess lacks is visible
    assert report.completion[names[3]]["miou_mean"] == 1 and drawn < whole
    # Samples are drawn once for both choices, without any mask but the visible ones.
    assert sum(call[0] == 3 for call in pipeline.calls) == 1


def test_rows_that_look_at_the_truth_are_marked_everywhere(dataset):
    report = evaluate_methods(dataset, posterior_methods(Guesser(), "g", 3))
    marked = ["g, best of 3 by truth *", "g, true box *"]
    assert report.uses_truth == marked
    text, markdown = report.to_text(), report.to_markdown()
    footnote = (
        "looks at the ground truth of the objects that it completes: a bound on what a choice can gain, no result."
    )
    assert f"\n\n* {footnote}" in text and f"\n\n\\* {footnote}" in markdown
    for name in marked:
        assert name in text and f"| {name.replace('*', chr(92) + '*')} |" in markdown
    values = json.loads(report.to_json())
    assert values["uses_truth"] == marked and values["footnote"] == f"* {footnote}"
    assert set(marked) < set(values["completion"])
    plain = evaluate_methods(dataset, [METHODS["raw"], PipelineMethod(Guesser(), "g")])
    assert plain.uses_truth == [] and footnote not in plain.to_text() + plain.to_markdown() + plain.to_json()


def test_only_marked_methods_use_the_truth(dataset):
    """Rows without a mark stay as they are when the truth changes."""
    sample = make_sample(dataset[0])
    other = make_sample(read_annotations(make_content(hidden=4))[0])
    other.modal = sample.modal
    other.amodal = np.zeros_like(sample.amodal)
    other.amodal[:, :6, :9] = True
    torch.manual_seed(0)
    vae = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)))
    vae.set_progress_bar_config(disable=True)
    for method in (PipelineMethod(vae, "v"), *posterior_methods(vae, "v", 8)):
        same = (method(sample).masks == method(other).masks).all()
        assert same != getattr(method, "uses_truth", False), method.name


def test_seed_and_image_decide_the_samples(dataset):
    vae = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)))
    vae.set_progress_bar_config(disable=True)

    def draw(seed, image_id="4"):
        sample = make_sample(dataset[0])
        sample.image_id = image_id
        return PosteriorSamples(vae, 4, seed=seed)(sample).sample_scores

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any() and (draw(1) != draw(1, "5")).any()


def test_true_boxes_of_objects_that_are_not_visible_or_lie_elsewhere(dataset):
    sample = make_sample(dataset[0])
    sample.modal[1] = False
    pipeline = Guesser()
    TrueBoxMethod(pipeline, "g")(sample)
    assert pipeline.calls[-1][2] == [[4, 4, 16, 16], None]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`num_samples` must be at least 1, got 0"):
        PosteriorSamples(Guesser(), 0)
    with pytest.raises(TypeError, match="Guesser takes no `mask_threshold`"):
        PosteriorSamples(Guesser(), 2, mask_threshold=0.3)
    with pytest.raises(ValueError, match="`choose` must be 'visible' or 'truth', got 'luck'"):
        PosteriorMethod(PosteriorSamples(Guesser(), 2), "g", "luck")
    pcnet = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
    with pytest.raises(TypeError, match="PCNetMaskPipeline takes no `amodal_box`"):
        TrueBoxMethod(pcnet, "p")
    with pytest.raises(TypeError, match="PCNetMaskPipeline takes no `num_samples`"):
        PosteriorSamples(pcnet, 2)


def test_unknown_categories_are_the_pipelines_to_name():
    seen = []

    class Conditioned(MaskPipeline):
        sees_neighbours = False

        def __call__(self, image, masks, *, category_ids=None, output_type="np"):
            seen.append(category_ids.tolist())
            return AmodalPipelineOutput(masks, masks.astype(np.float32))

    pipeline = Conditioned()
    masks = np.ones((3, 4, 4), bool)
    call_pipeline(pipeline, None, masks, [None, 3, None])
    pipeline.unknown_category_id = 0
    call_pipeline(pipeline, None, masks, [None, 3, None])
    assert seen == [[1, 3, 1], [0, 3, 0]]


# by name


def test_load_methods(tmp_path, dataset):
    folder = vae_folder(tmp_path / "vae")
    methods = load_methods(["raw", folder], posterior=2, seed=5, mask_threshold=0.4)
    assert [method.name.removeprefix(folder) for method in methods] == [
        "raw", "", ", best of 2 by visible", ", best of 2 by truth", ", true box",
    ]  # fmt: skip
    assert methods[2].samples is methods[3].samples and methods[2].samples.seed == 5
    assert methods[2].samples.call_options == {"mask_threshold": 0.4} == methods[4].call_options
    assert len(load_methods([folder])) == 1  # never without being asked for
    with pytest.raises(ValueError, match="`posterior` is given, but none of the methods draws samples"):
        load_methods(["raw"], posterior=2)
    with pytest.raises(ValueError, match="`posterior` must be at least 1, got 0"):
        load_methods([folder], posterior=0)
    with pytest.raises(ValueError, match="method 'nearest-mask' needs `nearest_masks`, a bank made from annotations"):
        load_methods(["nearest-mask"])
    with pytest.raises(ValueError, match="method 'nearest' is none of raw, .*, nearest-mask"):
        load_methods(["nearest"])


@pytest.mark.parametrize("occluders_given", [True, False])
def test_nearest_mask_is_a_method(dataset, occluders_given):
    masks = np.zeros((1, HEIGHT, WIDTH), bool)
    masks[0, 4:20, 4:20] = True
    item = {"modal_mask": encode_rle(masks[0]), "is_crowd": False, "category_id": None}
    bank = NearestMaskBank.from_sources([[{"objects": [item]}]], occlusions=60)
    (method,) = load_methods(["nearest-mask"], nearest_masks=bank)
    report = evaluate_methods(dataset, [method, METHODS["raw"]], occluders_given=occluders_given)
    assert report.completion["nearest-mask"]["inv_miou_mean"] > 0.5 > report.completion["raw"]["inv_miou_mean"]


# the command line


@pytest.fixture
def files(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(make_content()), encoding="utf-8")
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:20, 6:26] = True
    image = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    annotations = [{"id": 1, "image_id": 1, "category_id": 7, "iscrowd": 0, "segmentation": encode_rle(mask)}]
    document = {"images": [image], "annotations": annotations, "categories": [{"id": 7, "name": "cup"}]}
    (tmp_path / "bank.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_evaluate_with_samples_and_nearest_mask(files, capsys):
    vae = vae_folder(files / "vae")
    base = ["evaluate", "--annotations", files / "truth.json", "--json", files / "r.json"]
    options = ["--methods", f"raw,nearest-mask,{vae}", "--posterior", 4, "--nearest-masks", files / "bank.json"]
    assert run(*base, *options, "--seed", 1) == 0
    out = capsys.readouterr().out
    assert f"{vae}, best of 4 by truth *" in out and "\n* looks at the ground truth" in out
    first = json.loads((files / "r.json").read_text(encoding="utf-8"))
    rows = [name.removeprefix(vae) for name in first["completion"]]
    assert rows == ["raw", "nearest-mask", "", ", best of 4 by visible", ", best of 4 by truth *", ", true box *"]
    best = [first["completion"][f"{vae}, best of 4 by {by}"]["miou_pooled"] for by in ("visible", "truth *")]
    assert best[1] >= best[0]
    assert run(*base, *options, "--seed", 1, "--no-occluders") == 0
    alone = json.loads((files / "r.json").read_text(encoding="utf-8"))
    assert alone["completion"] == first["completion"]  # no row profits from the other masks


def test_evaluate_names_what_is_wrong_with_samples_and_banks(files, capsys):
    base = ["evaluate", "--annotations", files / "truth.json", "--methods"]
    bank = ["--nearest-masks", files / "bank.json"]
    for arguments, message in (
        ([*base, "nearest-mask"], "the method nearest-mask and --nearest-masks FILE [FILE ...] need each other"),
        ([*base, "raw", *bank], "the method nearest-mask and --nearest-masks FILE [FILE ...] need each other"),
        ([*base, "nearest-mask", "--nearest-masks", files / "truth.json"], "are the annotations that are scored"),
        ([*base, "nearest-mask", "--nearest-masks", files / "none.json"], "none.json"),
        ([*base, "nearest-mask", *bank, "--nearest-limit", 0], "`limit` must be at least 1, got 0"),
        ([*base, "raw", "--posterior", 3], "none of the methods draws samples"),
        ([*base, "raw", "--posterior", 0], "`posterior` must be at least 1, got 0"),
    ):
        assert run(*arguments) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_complete_writes_samples(files, capsys):
    vae, out = vae_folder(files / "vae", num_categories=3), files / "out"
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4:20, 4:12], labels[8:16, 12:30] = 1, 2
    Image.fromarray(labels).save(files / "labels.png")
    base = ["complete", "--no-photo", "--masks", files / "labels.png", "--model", vae, "--output", out]
    assert run(*base, "--num-samples", 3, "--seed", 5) == 0
    assert [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()] == [
        "amodal_masks", "samples", "overlay.png", "amodal.json",
    ]  # fmt: skip
    modal = np.stack([labels == 1, labels == 2])
    pipeline = AmodalVAEPipeline.from_pretrained(vae)
    generator = torch.Generator().manual_seed(5)
    expected = pipeline(None, modal, num_samples=3, sample_choice="diverse", generator=generator)  # unknown categories
    names = [f"00{index}-label-{index + 1}" for index in range(2)]
    written = sorted(path.name for path in (out / "samples").iterdir())
    assert written == sorted(f"{name}{end}.png" for name in names for end in ("", "_00", "_01", "_02"))
    annotations = json.loads((out / "amodal.json").read_text(encoding="utf-8"))["annotations"]
    for index, annotation in enumerate(annotations):
        for k, sample in enumerate(annotation["samples"]):
            np.testing.assert_array_equal(decode_rle(sample["segmentation"]), expected.samples[index, k])
            assert sample["score"] == pytest.approx(expected.sample_scores[index, k], abs=1e-6)
            picture = np.asarray(Image.open(out / "samples" / f"{names[index]}_{k:02d}.png"))
            np.testing.assert_array_equal(picture > 0, expected.samples[index, k])
    assert run(*base) == 0  # a run without samples takes the earlier ones away
    assert not (out / "samples").exists()
    assert "samples" not in json.loads((out / "amodal.json").read_text(encoding="utf-8"))["annotations"][0]


def test_document_refuses_samples_that_do_not_fit():
    masks = np.zeros((2, 4, 5), bool)
    samples = np.zeros((2, 3, 4, 5), bool)
    for drawn, scores, message in (
        (
            samples[:1],
            np.ones((1, 3)),
            r"`samples` must be a stack \(N, K, H, W\) for .* \(2, 4, 5\), got \(1, 3, 4, 5\)",
        ),
        (masks, np.ones((2, 3)), r"`samples` must be a stack \(N, K, H, W\)"),
        (samples, np.ones((2, 2)), r"`sample_scores` must have shape \(2, 3\), got \(2, 2\)"),
        (samples, None, r"`sample_scores` must have shape \(2, 3\), got None"),
    ):
        with pytest.raises(ValueError, match=message):
            coco_document(ObjectMasks(masks), masks, samples=drawn, sample_scores=scores)
