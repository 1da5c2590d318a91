"""Mask R-CNN of detectron2: its checkpoints by hand, and its answers by a plain computation from their weights."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from amodal_diffusion.conversion.detectron2 import (
    COCO_IDS,
    Detectron2Anchors,
    Detectron2Pooler,
    Detectron2Transform,
    convert_detectron2_weights,
    to_torchvision,
)
from amodal_diffusion.evaluation import MaskRCNNDetections
from repository_helpers import needs_torchvision

MSRA = {"colours": (103.53, 116.28, 123.675), "deviation": (1.0, 1.0, 1.0)}  # BGR
R_50 = {"colours": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}  # RGB
FIRST, LAST = "backbone.bottom_up.stem.conv1", "roi_heads.mask_head.predictor"
LOGITS, DELTAS = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"

PROPOSALS = 60  # instead of 1,000


def layers(res4=6, classes=3):
    """(name, shape of the weight, normed) of all layers of detectron2's R50-FPN."""
    yield FIRST, (64, 3, 7, 7), True
    seen = 64
    for stage, (blocks, wide) in enumerate(((3, 256), (4, 512), (res4, 1024), (3, 2048)), start=2):
        for block in range(blocks):
            name = f"backbone.bottom_up.res{stage}.{block}"
            yield f"{name}.conv1", (wide // 4, seen, 1, 1), True
            yield f"{name}.conv2", (wide // 4, wide // 4, 3, 3), True
            yield f"{name}.conv3", (wide, wide // 4, 1, 1), True
            if block == 0:
                yield f"{name}.shortcut", (wide, seen, 1, 1), True
            seen = wide
        yield f"backbone.fpn_lateral{stage}", (256, wide, 1, 1), False
        yield f"backbone.fpn_output{stage}", (256, 256, 3, 3), False
    for name, outputs, side in (("conv", 256, 3), ("objectness_logits", 3, 1), ("anchor_deltas", 12, 1)):
        yield f"proposal_generator.rpn_head.{name}", (outputs, 256, side, side), False
    yield "roi_heads.box_head.fc1", (1024, 12544), False
    yield "roi_heads.box_head.fc2", (1024, 1024), False
    yield LOGITS, (classes + 1, 1024), False
    yield DELTAS, (4 * classes, 1024), False
    for number in range(1, 5):
        yield f"roi_heads.mask_head.mask_fcn{number}", (256, 256, 3, 3), False
    yield "roi_heads.mask_head.deconv", (256, 256, 2, 2), False
    yield LAST, (classes, 256, 1, 1), False


def checkpoint(style=MSRA, **sizes):
    """Zeros in the form of detectron2, which take no memory."""
    weights = {}
    for name, shape, normed in layers(**sizes):
        weights[f"{name}.weight"] = torch.zeros(()).expand(shape)
        if normed:
            for part in ("weight", "bias", "running_mean"):
                weights[f"{name}.norm.{part}"] = torch.zeros(shape[0])
            weights[f"{name}.norm.running_var"] = torch.full((shape[0],), 1 - 1e-5)
        else:
            weights[f"{name}.bias"] = torch.zeros(shape[1 if "deconv" in name else 0])
    if style is R_50:
        weights[f"{FIRST}.norm.running_mean"] = torch.full((64,), 0.1)
    return weights


def random_checkpoint(style):
    generator = torch.Generator().manual_seed(0)
    weights = checkpoint(style)
    for name, value in weights.items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            weights[name] = noise * math.sqrt(2 / value[0].numel())
        elif name.endswith("norm.weight"):
            weights[name] = 0.5 + 0.1 * noise
        elif name.endswith("running_mean") and style is R_50:
            weights[name] = 0.1 * noise
        elif not name.endswith(("running_mean", "running_var")):
            weights[name] = 0.1 * noise
    if style is MSRA:  # whose first layer sees bytes
        weights[f"{FIRST}.weight"] = weights[f"{FIRST}.weight"] / 60
    for name in ("proposal_generator.rpn_head.anchor_deltas.weight", f"{DELTAS}.weight"):
        weights[name] = weights[name] * 0.2
    return weights


# What detectron2 computes, one thing after the other


class Detectron2:
    def __init__(self, weights, style, min_size, max_size):
        self.weights, self.style, self.min_size, self.max_size = weights, style, min_size, max_size

    def conv(self, name, x, stride=1):
        weight = self.weights[f"{name}.weight"]
        x = F.conv2d(x, weight, self.weights.get(f"{name}.bias"), stride, weight.shape[-1] // 2)
        if f"{name}.norm.weight" not in self.weights:
            return x
        gain, shift, mean, var = (
            self.weights[f"{name}.norm.{part}"].view(-1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + shift

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def features(self, x):
        x = F.max_pool2d(self.conv(FIRST, x, 2).relu(), 3, 2, 1)
        stages = []
        for stage, blocks in enumerate((3, 4, 6, 3), start=2):
            for block in range(blocks):
                name = f"backbone.bottom_up.res{stage}.{block}"
                stride = 2 if stage > 2 and block == 0 else 1
                first, second = (stride, 1) if self.style is MSRA else (1, stride)
                y = self.conv(f"{name}.conv1", x, first).relu()
                y = self.conv(f"{name}.conv3", self.conv(f"{name}.conv2", y, second).relu())
                x = (y + (self.conv(f"{name}.shortcut", x, stride) if block == 0 else x)).relu()
            stages.append(x)
        top, maps = None, []
        for stage in (5, 4, 3, 2):
            lateral = self.conv(f"backbone.fpn_lateral{stage}", stages[stage - 2])
            top = lateral if top is None else lateral + top.repeat_interleave(2, 2).repeat_interleave(2, 3)
            maps.insert(0, self.conv(f"backbone.fpn_output{stage}", top))
        return [*maps, maps[-1][:, :, ::2, ::2]]

    def proposals(self, maps, height, width):
        boxes, scores, levels = [], [], []
        for level, (x, size, stride) in enumerate(zip(maps, (32, 64, 128, 256, 512), (4, 8, 16, 32, 64), strict=True)):
            t = self.conv("proposal_generator.rpn_head.conv", x).relu()
            logits = self.conv("proposal_generator.rpn_head.objectness_logits", t)[0]
            deltas = self.conv("proposal_generator.rpn_head.anchor_deltas", t)[0]
            for row, column, kind in product(range(x.shape[2]), range(x.shape[3]), range(3)):
                wide = size / math.sqrt((0.5, 1, 2)[kind])
                high = size * size / wide
                anchor = [column * stride - wide / 2, row * stride - high / 2]
                anchor = torch.tensor([[*anchor, anchor[0] + wide, anchor[1] + high]])
                boxes.append(self.moved(anchor, deltas[4 * kind : 4 * kind + 4, row, column][None], (1, 1, 1, 1)))
                scores.append(logits[kind, row, column])
                levels.append(level)
        boxes, scores, levels = clip(torch.cat(boxes), height, width), torch.stack(scores), torch.tensor(levels)
        return boxes[keep_best(boxes, scores, levels, 0.7)[:PROPOSALS]]

    def moved(self, boxes, deltas, weights):
        dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(1)
        size, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
        centre = centre + torch.stack([dx, dy], 1) * size
        size = size * torch.stack([dw, dh], 1).clamp(max=math.log(1000 / 16)).exp()
        return torch.cat([centre - size / 2, centre + size / 2], 1)

    def pooled(self, maps, boxes, side):
        found = []
        for box in boxes:
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            level = min(max(math.floor(4 + math.log2(math.sqrt(area) / 224 + 1e-8)), 2), 5)
            found.append(roi_align(maps[level - 2][0], box / 2**level, side))
        return torch.stack(found)

    def __call__(self, photo):
        height, width = photo.shape[:2]
        scale = self.min_size / min(height, width)
        if scale * max(height, width) > self.max_size:
            scale = self.max_size / max(height, width)
        rows, columns = int(height * scale + 0.5), int(width * scale + 0.5)
        seen = photo[..., ::-1] if self.style is MSRA else photo
        seen = np.array(Image.fromarray(np.ascontiguousarray(seen)).resize((columns, rows), Image.BILINEAR))
        x = torch.zeros(1, 3, -(-rows // 32) * 32, -(-columns // 32) * 32)
        for channel in range(3):
            plane = torch.from_numpy(seen[..., channel].astype(np.float32))
            x[0, channel, :rows, :columns] = (plane - self.style["colours"][channel]) / self.style["deviation"][channel]
        maps = self.features(x)
        proposals = self.proposals(maps, rows, columns)
        hidden = self.pooled(maps, proposals, 7).flatten(1)
        for name in ("fc1", "fc2"):
            hidden = self.linear(f"roi_heads.box_head.{name}", hidden).relu()
        scores = self.linear(LOGITS, hidden).softmax(1)[:, :-1]  # without the background
        deltas = self.linear(DELTAS, hidden).view(len(proposals), -1, 4)
        boxes = torch.stack([self.moved(proposals, part, (10, 10, 5, 5)) for part in deltas.unbind(1)], 1)
        boxes = clip(boxes.view(-1, 4), rows, columns).view_as(boxes)
        place, kind = (scores > 0.05).nonzero().T
        boxes, scores = boxes[place, kind], scores[place, kind]
        kept = keep_best(boxes, scores, kind, 0.5)[:100]
        boxes, scores, kind = boxes[kept], scores[kept], kind[kept]
        hidden = self.pooled(maps, boxes, 14)
        for number in range(1, 5):
            hidden = self.conv(f"roi_heads.mask_head.mask_fcn{number}", hidden).relu()
        up = (self.weights[f"roi_heads.mask_head.deconv.{part}"] for part in ("weight", "bias"))
        hidden = F.conv_transpose2d(hidden, *up, stride=2).relu()
        masks = self.conv(LAST, hidden)[range(len(kind)), kind].sigmoid()
        boxes = clip(boxes * torch.tensor([width / columns, height / rows] * 2), height, width)
        return (
            boxes,
            scores,
            kind,
            torch.stack([paste(*each, height, width) for each in zip(masks, boxes, strict=True)]),
        )


def clip(boxes, height, width):
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], 1)


def keep_best(boxes, scores, groups, most):
    kept = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order = [i for i in scores.argsort(descending=True).tolist() if areas[i] > 0]
    for i in order:
        rivals = [j for j in kept if groups[j] == groups[i]]
        corner = torch.maximum(boxes[rivals, :2], boxes[i, :2]), torch.minimum(boxes[rivals, 2:], boxes[i, 2:])
        common = (corner[1] - corner[0]).clamp(min=0).prod(1)
        if not (common / (areas[i] + areas[rivals] - common) > most).any():
            kept.append(i)
    return kept


def roi_align(plane, box, side):
    """(C, side, side): the mean of ceil(cell) squared samples of each cell; pixel centres lie at halves."""
    left, top, right, bottom = (float(value) - 0.5 for value in box)
    wide, high = (right - left) / side, (bottom - top) / side
    across, down = max(1, math.ceil(wide)), max(1, math.ceil(high))
    xs = torch.tensor([left + wide * (i + (k + 0.5) / across) for i in range(side) for k in range(across)])
    ys = torch.tensor([top + high * (i + (k + 0.5) / down) for i in range(side) for k in range(down)])
    height, width = plane.shape[1:]
    weights = []
    for at, length in ((ys, height), (xs, width)):
        inside = ((at >= -1) & (at <= length)).float()
        at = at.clamp(0, length - 1)
        hat = (1 - (at[:, None] - torch.arange(length)).abs()).clamp(min=0)  # linear between two pixels
        weights.append(hat * inside[:, None])
    read = torch.einsum("yh,chw,xw->cyx", weights[0], plane, weights[1])
    return F.avg_pool2d(read, (down, across))


def paste(mask, box, height, width):
    """(height, width) bool of probabilities that end in 0 half a cell outside of their box."""
    weights = []
    for axis, length in ((1, height), (0, width)):
        at = (torch.arange(length) + 0.5 - box[axis]) / (box[axis + 2] - box[axis]) * len(mask) - 0.5
        weights.append((1 - (at[:, None] - torch.arange(len(mask))).abs()).clamp(min=0))
    return weights[0] @ mask @ weights[1].T >= 0.5


@needs_torchvision
@pytest.mark.parametrize("style", [MSRA, R_50], ids=["MSRA", "RGB"])
def test_it_answers_as_detectron2(style, tmp_path):
    """Boxes, scores, classes and masks, from a file by detectron2's names."""
    weights = random_checkpoint(style)
    torch.save({"model": weights, "iteration": 7}, tmp_path / "model_final.pth")
    photo = np.random.default_rng(0).integers(0, 256, (10, 13, 3), np.uint8)
    photo = np.array(Image.fromarray(photo).resize((52, 40), Image.BICUBIC))
    network = MaskRCNNDetections.from_weights(tmp_path / "model_final.pth", category_ids=[2, 5, 9])
    network.model.transform.min_size, network.model.transform.max_size = 64, 80
    network.model.rpn._post_nms_top_n["testing"] = PROPOSALS
    pixels = torch.from_numpy(photo).permute(2, 0, 1) / 255
    with torch.no_grad():
        (found,) = network.model([pixels])
        boxes, scores, kinds, masks = Detectron2(weights, style, 64, 80)(photo)
    assert len(boxes) > 10 and len(set(kinds.tolist())) == 3 and 0.005 < masks.float().mean() < 0.9
    torch.testing.assert_close(found["scores"], scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["boxes"], boxes, rtol=1e-3, atol=2e-2)
    assert found["labels"].tolist() == [(2, 5, 9)[kind] for kind in kinds]
    assert (found["masks"][:, 0] != masks).float().mean() < 1e-3
    again = network.find("1", 40, 52, lambda: Image.fromarray(photo))
    assert set(again.category_ids.tolist()) <= {2, 5, 9} and again.masks.shape[1:] == (40, 52)


@needs_torchvision
def test_101_layers_and_the_classes_of_coco():
    network = convert_detectron2_weights(checkpoint(res4=23, classes=80))
    assert len(network.backbone.body["layer3"]) == 23
    assert network.transform.category_ids.tolist() == [0, *COCO_IDS] and COCO_IDS[-1] == 90
    for ids, count in (([1, 2], 3), ([1, 2, 3, 4], 3)):
        with pytest.raises(
            ValueError, match=f"`category_ids` must have {count} ids, one for each class, got {len(ids)}"
        ):
            convert_detectron2_weights(checkpoint(), ids)


def test_classes_colours_and_names_are_torchvisions():
    weights = checkpoint()
    for name in (FIRST, LOGITS, DELTAS, LAST):
        weights[f"{name}.weight"] = torch.randn(weights[f"{name}.weight"].shape)
    weights[f"{LOGITS}.bias"] = torch.arange(4.0)
    state, settings = to_torchvision(weights)
    assert torch.equal(state["backbone.body.conv1.weight"], weights[f"{FIRST}.weight"][:, [2, 1, 0]])
    box = "roi_heads.box_predictor"
    assert torch.equal(state[f"{box}.cls_score.weight"], weights[f"{LOGITS}.weight"][[3, 0, 1, 2]])
    assert state[f"{box}.cls_score.bias"].tolist() == [3, 0, 1, 2]
    assert state[f"{box}.bbox_pred.weight"].shape == (16, 1024) and not state[f"{box}.bbox_pred.weight"][:4].any()
    assert torch.equal(state[f"{box}.bbox_pred.weight"][4:], weights[f"{DELTAS}.weight"])
    logits = state["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    assert torch.equal(logits[1:], weights[f"{LAST}.weight"]) and not logits[0].any()
    assert state["rpn.head.conv.0.0.weight"].shape == (256, 256, 3, 3)
    assert state["backbone.body.layer4.0.downsample.1.running_var"].shape == (2048,)
    assert (settings.backbone, settings.num_classes, settings.stride_in_1x1) == ("resnet50", 3, True)
    assert settings.mean == (123.675, 116.28, 103.53) and settings.std == (1, 1, 1)


def test_what_it_sees_is_told_by_its_weights():
    weights = checkpoint(R_50)
    weights[f"{FIRST}.weight"] = torch.randn(64, 3, 7, 7)
    state, settings = to_torchvision(weights)
    assert not settings.stride_in_1x1 and settings.std == R_50["deviation"] and settings.mean == R_50["colours"]
    assert torch.equal(state["backbone.body.conv1.weight"], weights[f"{FIRST}.weight"])
    given = {"pixel_mean": torch.tensor([1.0, 2, 3]).view(3, 1, 1), "pixel_std": torch.tensor([4.0, 5, 6])}
    state, settings = to_torchvision({**weights, **given})
    assert (settings.mean, settings.std, settings.stride_in_1x1) == ((3, 2, 1), (6, 5, 4), False)
    assert torch.equal(state["backbone.body.conv1.weight"], weights[f"{FIRST}.weight"].flip(1))
    _, settings = to_torchvision({**weights, "pixel_std": torch.ones(3, 1, 1)})  # MSRA's, with batch norm that learns
    assert settings.stride_in_1x1 and settings.std == (1, 1, 1)
    counted = {f"{FIRST}.norm.num_batches_tracked": torch.tensor(7)}
    anchors = {
        f"proposal_generator.anchor_generator.cell_anchors.{level}": cell
        for level, cell in enumerate(Detectron2Anchors().cells())
    }
    assert len(to_torchvision({**weights, **counted, **anchors})[0]) == len(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{LAST}.bias"), rf"resnet50, 3 classes\). Keys missing \(1\): {LAST}.bias"),
        (lambda w: w.update({"roi_heads.mask_head.mask_fcn5.bias": torch.zeros(1)}), r"unexpected \(1\): .*mask_fcn5"),
        (lambda w: w.update({f"{DELTAS}.bias": torch.zeros(4)}), r"bbox_pred.bias: \(4,\) instead of \(12"),
        (lambda w: w.pop(f"{FIRST}.norm.running_mean"), "missing .*stem.conv1.norm.running_mean"),
        (lambda w: w.pop(f"{LOGITS}.weight"), f"holds no Mask R-CNN of detectron2: it has no {LOGITS}.weight"),
        (lambda w: [w.pop(key) for key in [*w] if ".res4.5." in key], "6 or 23 blocks in .*res4, got 5"),
        (lambda w: w.update(pixel_std=torch.ones(4)), "three numbers in pixel_std, got 4"),
        (
            lambda w: w.update({"proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}),
            "usual anchors in proposal_generator.anchor_generator.cell_anchors.0",
        ),
    ],
)  # fmt: skip
def test_other_networks_are_refused_by_key(change, message):
    weights = checkpoint()
    change(weights)
    with pytest.raises(ValueError, match=message):
        to_torchvision(weights)


def test_photos_are_scaled_as_bytes_and_padded():
    transform = Detectron2Transform((1.0, 2.0, 3.0), (2.0, 4.0, 8.0), (0, 1), min_size=40, max_size=70)
    assert [transform.size(*sides) for sides in ((20, 30), (20, 60), (60, 20))] == [(40, 60), (23, 70), (70, 23)]
    photos = [np.random.default_rng(i).integers(0, 256, (20, 30 + 10 * i, 3), np.uint8) for i in range(2)]
    planes, sizes = transform.batch([torch.from_numpy(photo).permute(2, 0, 1) / 255 for photo in photos])
    assert planes.shape == (2, 3, 64, 96) and sizes == [(40, 60), (35, 70)]
    for plane, photo, (rows, columns) in zip(planes, photos, sizes, strict=True):
        scaled = np.array(Image.fromarray(photo).resize((columns, rows), Image.BILINEAR)).astype(np.float32)
        expected = (scaled - np.array([1, 2, 3])) / np.array([2, 4, 8])
        np.testing.assert_allclose(plane[:, :rows, :columns].permute(1, 2, 0), expected, rtol=1e-5)
        assert not plane[:, rows:].any() and not plane[:, :, columns:].any()


def test_masks_come_back_at_the_centres_of_pixels():
    transform = Detectron2Transform((0.0,) * 3, (1.0,) * 3, (0, 7, 9))
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 1, 6, 6, generator=generator)
    boxes = torch.tensor([[4.0, 6, 50, 40], [-9, 3, 20, 30], [10, 10, 10, 30], [61, 41, 90, 80]])
    result = {"boxes": boxes, "scores": torch.rand(4), "labels": torch.tensor([1, 2, 1, 1]), "masks": masks}
    (found,) = transform.postprocess([result], [(48, 64)], [(24, 32)])
    assert found["labels"].tolist() == [7, 9, 7] and len(found["scores"]) == 3  # the third one has no width
    halved = clip(boxes[[0, 1, 3]] / 2, 24, 32)
    assert torch.equal(found["boxes"], halved)
    expected = torch.stack([paste(*each, 24, 32) for each in zip(masks[[0, 1, 3], 0], halved, strict=True)])
    assert torch.equal(found["masks"][:, 0], expected) and expected.flatten(1).any(1).all()
    (empty,) = transform.postprocess([{key: value[:0] for key, value in result.items()}], [(48, 64)], [(24, 32)])
    assert empty["masks"].shape == (0, 1, 24, 32)


def test_anchors_are_detectron2s():
    maps = [torch.zeros(1, 1, *size) for size in ((4, 6), (2, 3), (1, 2), (1, 1), (1, 1))]
    (found,) = Detectron2Anchors()(type("Images", (), {"image_sizes": [(16, 24)]}), maps)
    expected = []
    for plane, size, stride in zip(maps, (32, 64, 128, 256, 512), (4, 8, 16, 32, 64), strict=True):
        for row, column, ratio in product(range(plane.shape[2]), range(plane.shape[3]), (0.5, 1, 2)):
            wide, high = size / ratio**0.5, size * ratio**0.5
            x, y = column * stride, row * stride
            expected.append([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2])
    torch.testing.assert_close(found, torch.tensor(expected))


def test_levels_of_boxes():
    sides = [10, 111, 113, 223, 225, 447, 449, 2000]
    boxes = torch.tensor([[5.0, 5, 5 + side, 5 + side] for side in sides])
    assert Detectron2Pooler(7).levels(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@needs_torchvision
def test_features_are_read_without_the_shift_of_half_a_cell():
    maps = {str(i): torch.randn(2, 3, 64 >> i, 64 >> i, generator=torch.Generator().manual_seed(i)) for i in range(5)}
    boxes = [torch.tensor([[8.0, 16, 120, 100], [3, 5, 250, 255]]), torch.tensor([[0.0, 0, 17, 9]])]
    found = Detectron2Pooler(7)(maps, boxes, [(256, 256)] * 2)
    expected = [
        roi_align(maps[str(level)][photo], box / 4 / 2**level, 7)
        for photo, level, box in ((0, 0, boxes[0][0]), (0, 2, boxes[0][1]), (1, 0, boxes[1][0]))
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
