"""Tiny random models of the SAM family of transformers."""

import torch
import transformers

from diffusion_helpers import tiny_tokenizer

PROMPTS = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
DECODER = {
    "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_depth": 2,
    "iou_head_hidden_dim": 16,
}  # fmt: skip
PADDED_VISION = {
    "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
    "patch_size": 16, "window_size": 2, "global_attn_indexes": [0], "mlp_dim": 32, "num_pos_feats": 8,
}  # fmt: skip
FPN = {
    "fpn_hidden_size": 16, "backbone_channel_list": [32, 16, 8, 4],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
}  # fmt: skip


def sam_hq():
    config = transformers.SamHQConfig(
        vision_config=PADDED_VISION, prompt_encoder_config=PROMPTS, mask_decoder_config={**DECODER, "vit_dim": 16}
    )
    return transformers.SamHQModel(config)


def sam2():
    backbone = {
        "hidden_size": 4, "num_attention_heads": 1, "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [4, 8, 16, 32], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {"backbone_config": {"model_type": "sam2_hiera_det_model", **backbone}, **FPN}
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER)
    return transformers.Sam2Model(config)


def sam3_tracker():
    # The tracker leaves out the coarsest of the four levels of the neck.
    config = transformers.Sam3TrackerConfig(
        vision_config=_sam3_vision(), prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER
    )
    return transformers.Sam3TrackerModel(config)


def sam3():
    layers = {"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {
        "model_type": "clip_text_model", "vocab_size": 6, "hidden_size": 16, "intermediate_size": 16,
        "projection_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    config = transformers.Sam3Config(
        vision_config=_sam3_vision(), text_config=text, geometry_encoder_config=layers, detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 5},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    return transformers.Sam3Model(config)


def _sam3_vision():
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [0],
        "pretrain_image_size": 32,
    }  # fmt: skip
    return {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip


POINT_MODELS = {"sam_hq": sam_hq, "sam2": sam2, "sam3_tracker": sam3_tracker}


def make(name):
    """A model with the same random weights at every call."""
    torch.manual_seed(0)
    return {**POINT_MODELS, "sam3": sam3}[name]().eval()


def sam3_tokenizer():
    return tiny_tokenizer()
