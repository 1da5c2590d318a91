"""FiftyOne: the labels of a row; the model on a data set of the real package, where its database runs.

FiftyOne keeps its data sets in MongoDB. `FIFTYONE_DATABASE_URI` names a running one; without it the package starts its
own, for which `fiftyone-db` must have found its binary when it was installed.
"""

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data import record_masks
from amodal_diffusion.interop import fiftyone_labels, fiftyone_model
from interop_helpers import FakeSegmenter, kitchen_row, open_fiftyone
from pipeline_helpers import gap_filler


@pytest.fixture(scope="module")
def fiftyone():
    return open_fiftyone()


def full(detection, height, width):
    """The mask of a detection in the frame, as FiftyOne itself draws it."""
    return detection.to_segmentation(frame_size=(width, height), target=1).mask.astype(bool)


def test_row(fiftyone):
    row = kitchen_row()
    labels = fiftyone_labels(row)
    size = (row["height"], row["width"])
    for masks, name in zip(record_masks(row), ("modal", "amodal"), strict=True):
        found = labels[name].detections
        assert [item.label for item in found] == ["plate", "cup & <saucer>", None]
        for mask, item in zip(masks, found, strict=True):
            np.testing.assert_array_equal(full(item, *size), mask)
    plate, cup, front = (item.id for item in labels["modal"].detections)
    whole = labels["amodal"].detections
    assert [item.modal_id for item in whole] == [plate, cup, front]
    assert [item.occluded_by for item in whole] == [[cup, front], [front], []]
    assert [item.z_order for item in whole] == [0, 1, 2]
    assert whole[2].occlusion_rate == 0 < whole[1].occlusion_rate < 1
    assert fiftyone_labels({**row, "objects": [], "order_relations": None})["modal"].detections == []
    for item in row["objects"]:
        item["amodal_mask"] = None
    assert set(fiftyone_labels({**row, "order_relations": None})) == {"modal"}


@pytest.fixture
def dataset(fiftyone, tmp_path):
    """Two photos with two objects, one of them with masks of half the size, and one without objects."""
    dataset = fiftyone.Dataset()
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 12)).save(path)
        detections = [
            fiftyone.Detection.from_mask(mask, label=name)
            for mask, name in zip(FakeSegmenter.masks[: 0 if number == 2 else 2], ("cup", "plate"), strict=False)
        ]
        if number == 1:
            for item in detections:
                item.mask = item.mask[::2, ::2]
        sample = fiftyone.Sample(filepath=str(path))
        sample["drawn"] = fiftyone.Detections(detections=detections)
        dataset.add_sample(sample)
    yield dataset
    dataset.delete()


@pytest.mark.parametrize("batch_size", [None, 3])
def test_model(dataset, batch_size):
    pipeline = gap_filler()
    model = fiftyone_model(pipeline)
    dataset.apply_model(model, "whole", modal="drawn", batch_size=batch_size, skip_failures=False, progress=False)
    dataset.reload()
    expected = pipeline(None, FakeSegmenter.masks)
    for sample in dataset.head(2):
        whole, drawn = sample["whole"].detections, sample["drawn"].detections
        assert [item.label for item in whole] == ["cup", "plate"]
        assert [item.modal_id for item in whole] == [item.id for item in drawn]
        for index, item in enumerate(whole):
            np.testing.assert_array_equal(full(item, 12, 16), expected.amodal_masks[index])
            hidden = expected.amodal_masks[index] & ~FakeSegmenter.masks[index]
            assert item.occlusion_rate == pytest.approx(hidden.sum() / expected.amodal_masks[index].sum())
            front = [drawn[other].id for other in np.flatnonzero(expected.order[:, index] == 1)]
            assert list(item.occluded_by) == front
    assert dataset.last()["whole"].detections == []


def test_wrong_use(fiftyone, dataset):
    model = fiftyone_model(gap_filler())
    with pytest.raises(ValueError, match="`modal` must name the field of the visible masks"):
        dataset.apply_model(model, "whole", skip_failures=False, progress=False)
    sample = dataset.first()
    sample["drawn"].detections[0].mask = None
    sample["kind"] = fiftyone.Classification(label="kitchen")
    sample.save()
    for field, error, message in (("drawn", ValueError, "has no mask"), ("kind", TypeError, "must hold Detections")):
        with pytest.raises(error, match=message):
            dataset.apply_model(model, "whole", modal=field, skip_failures=False, progress=False)


def test_unknown_options_are_refused_first():
    with pytest.raises(TypeError, match="takes no `colour`"):
        fiftyone_model(gap_filler(), colour=1)
