"""Tiny random SAM and Mask2Former pipelines, a photo for them, and what stands for a Mask R-CNN."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SamConfig, SamModel, SwinConfig
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil


@pytest.fixture(scope="module")
def sam():
    return sam_pipeline()


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8))


def sam_pipeline(**settings):
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [0], "mlp_dim": 32,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_depth": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    settings = {"points_per_crop": 4, "pred_iou_thresh": -10.0, "stability_score_thresh": -1.0, **settings}
    return transformers.pipeline(
        "mask-generation", model=SamModel(config).eval(), image_processor=processor, **settings
    )


def mask2former_pipeline(**settings):
    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1,
        encoder_feedforward_dim=16, decoder_layers=2, dim_feedforward=16, num_attention_heads=2, num_queries=6,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config).eval()
    model.class_predictor.bias.data[-1] = -10  # every query finds something
    processor = Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}, num_labels=2)
    settings = {"threshold": 0.0, "mask_threshold": 0.0, "overlap_mask_area_threshold": 0.0, **settings}
    return transformers.pipeline("image-segmentation", model=model, image_processor=processor, **settings)


class Finder(torch.nn.Module):
    """Finds the left half of a photo, of class 2, and the right one, of class 1; and nothing, with a low score."""

    def forward(self, photos):
        assert all(photo.dtype == torch.float32 and 0 <= photo.min() and photo.max() <= 1 for photo in photos)
        answers = []
        for photo in photos:
            height, width = photo.shape[1:]
            masks = torch.zeros(3, 1, height, width)
            masks[0, 0, :, width // 2 :], masks[1, 0, :, : width // 2] = 0.7, 0.7
            scores, labels = torch.tensor([0.6, 0.9, 0.1]), torch.tensor([1, 2, 1])
            answers.append({"masks": masks, "scores": scores, "labels": labels})
        return answers
