"""SDAmodal on one photo: our pipeline against the published flow, same random weights and noise, in turn.

The components have the sizes of Stable Diffusion 2.1 (or tiny ones) and random weights, so nothing is downloaded; what
they compute is meaningless, how long it takes is not. The published flow [Z24] is written plainly in
`sdamodal/published_sdamodal.py`. Figures: seconds and peak memory for 1, 5 and 20 masks, with the stages of both, the
cost of one more mask in image passes, and agreement of features and masks.

    python benchmarks/sdamodal_speed.py --size full --json sdamodal_speed.json
    python benchmarks/sdamodal_speed.py --size full --device cuda --dtype fp16
    python benchmarks/sdamodal_speed.py                      # tiny components: does it run?

Full size writes about 5 GiB to a temporary folder. On a CPU it takes many minutes, and the published flow, which sends
all draws through the VAE at once, up to 18 GiB of memory; --baseline-draw-batch 2 bounds that.
"""

import argparse
import ctypes
import gc
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers.utils.logging
import numpy as np
import torch
import transformers.utils.logging
from common import environment, format_environment, median_ratio, write_json
from PIL import Image
from sdamodal import published_sdamodal
from sdamodal.random_diffusion import SIZES, decoder_config, draw_masks, make_photo, save_stable_diffusion

from amodal_diffusion import SDAmodalDecoder, SDAmodalPipeline
from amodal_diffusion.files import atomic_folder
from amodal_diffusion.runtimes import has_fast_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PUBLISHED_SETTINGS = {"feature_crop": "cells", "paste": "binary", "keep_modal": False}  # the rest is the default
ENCODING = ("rebuild", "text", "vae", "unet", "write")  # the published flow's stages for one image
CENTRING_STEPS = 3
START = time.perf_counter()


# Measuring


def say(text: str) -> None:
    sys.stderr.write(f"[{time.perf_counter() - START:7.1f} s] {text}\n")
    sys.stderr.flush()


class Stopwatch:
    """Seconds by name: `with watch("unet"):` adds to `watch.seconds["unet"]`, also where the block ends by an error."""

    def __init__(self, device: str, clock: str, label: str = "") -> None:
        self.device, self.label = device, label
        self.now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        synchronize(self.device)
        start = self.now()
        try:
            yield
        finally:
            synchronize(self.device)
            self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start
            if self.label:
                say(f"{self.label}: {name} {self.seconds[name]:.2f} s")


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """Most memory in use inside of the block, in GiB: the GPU's allocations, or the resident set of this process."""

    def __init__(self, device: str, interval: float = 0.01) -> None:
        self.device, self.interval, self.cuda = device, interval, torch.device(device).type == "cuda"
        self.gib: dict[str, float] = {}

    def __enter__(self) -> "PeakMemory":
        release()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            self.gib["before"] = torch.cuda.memory_allocated(self.device) / 2**30
            return self
        self.gib["before"] = self.gib["peak"] = resident_gib()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            self.gib["peak"] = torch.cuda.max_memory_allocated(self.device) / 2**30
            return
        self.done.set()
        self.thread.join()

    def _sample(self) -> None:
        while not self.done.wait(self.interval):
            self.gib["peak"] = max(self.gib["peak"], resident_gib())


def resident_gib() -> float:
    """Resident set of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 2**30


def release() -> None:
    """Give freed memory back, so that what is over does not count for what follows."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


# What is measured


def prepare(work: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Folders of Stable Diffusion, made where `work` does not hold it yet, and of our pipeline that refers to it."""
    stable_diffusion = work / f"stable-diffusion-{options.size}"
    if not stable_diffusion.is_dir():
        with atomic_folder(stable_diffusion) as partial:
            save_stable_diffusion(partial, options.size, say)
    torch.manual_seed(9)
    decoder = SDAmodalDecoder(**decoder_config(options.size, options.resolution)).eval()
    pipeline = SDAmodalPipeline(
        None, None, None, None, None, decoder, stable_diffusion=str(stable_diffusion.resolve()),
        resolution=options.resolution, num_draws=options.draws, noise_seed=options.seed,
        draw_batch_size=options.draw_batch_size, **PUBLISHED_SETTINGS,
    )  # fmt: skip
    folder = work / "sdamodal"
    pipeline.save_pretrained(folder)
    return stable_diffusion, folder


# The two sides


def measure_ours(
    folder: Path, photo: Image.Image, masks: np.ndarray, options: argparse.Namespace, warmup: int
) -> tuple[dict[str, Any], np.ndarray, list[torch.Tensor]]:
    """Seconds and memory, the masks, and the feature maps (C, h, w) float32 on the CPU."""
    watch = Stopwatch(options.device, options.clock, "ours")
    with watch("load"):
        pipeline = SDAmodalPipeline.from_pretrained(folder, dtype=DTYPES[options.dtype]).to(options.device)
    with watch("prompt"):
        pipeline.drop_text_encoder()
    pipeline.set_progress_bar_config(disable=True)
    if not options.contiguous:
        for network in (pipeline.unet, pipeline.vae, pipeline.decoder):
            network.to(memory_format=torch.channels_last)
    for _ in range(warmup):
        pipeline.encode_image(photo)
    memory = PeakMemory(options.device)
    with memory, timed_parts(pipeline, watch), watch("features"):
        features = pipeline.encode_image(photo)
    peaks: dict[str, Any] = {"features": memory.gib, "objects": {}}
    centre_answers(pipeline, features, masks[:1], folder)  # and warm up
    for count in options.masks if warmup else ():
        pipeline(None, masks[:count], features=features)
    objects = {}
    for count in options.masks:
        alone, memory = Stopwatch(options.device, options.clock, f"ours: {count} masks"), PeakMemory(options.device)
        with memory, alone("objects"):
            output = pipeline(None, masks[:count], features=features)
        objects[str(count)], peaks["objects"][str(count)] = alone.seconds["objects"], memory.gib
    maps = [feature.mean(0, dtype=torch.float32).cpu() for feature in features.maps]
    return {"seconds": {**watch.seconds, "objects": objects}, "gib": peaks}, output.amodal_masks, maps


def centre_answers(pipeline: SDAmodalPipeline, features: Any, masks: np.ndarray, folder: Path) -> None:
    """Shift the last bias, here and in `folder`, so that random weights do not answer the same for all pixels."""
    stored = SDAmodalDecoder.from_pretrained(folder, subfolder="decoder")
    bias = stored.unet.conv_out.bias.data
    for _ in range(CENTRING_STEPS):  # more than one where the answers are certain
        probabilities = pipeline(None, masks, features=features).probabilities
        logits = torch.from_numpy(probabilities[probabilities > 0]).double().clamp(1e-6, 1 - 1e-6).logit()
        if not len(logits):  # not a number: an overflow, which the agreement will tell
            return
        bias[1] -= logits.median().item()
        pipeline.decoder.unet.conv_out.bias.data.copy_(bias)
    stored.save_pretrained(folder / "decoder")


@contextmanager
def timed_parts(pipeline: Any, watch: Stopwatch) -> Iterator[None]:
    """Inside of the block `watch` also has the VAE's and the U-Net's share."""

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            with watch(name):
                return function(*arguments, **keywords)

        return call

    pipeline.vae.encode, pipeline.unet.forward = (
        timed("vae", pipeline.vae.encode),
        timed("unet", pipeline.unet.forward),
    )
    try:
        yield
    finally:
        del pipeline.vae.encode, pipeline.unet.forward


def measure_published(
    folders: tuple[Path, Path], photo: Image.Image, masks: np.ndarray, options: argparse.Namespace, warmup: int
) -> tuple[dict[str, Any], np.ndarray, list[torch.Tensor]]:
    """As `measure_ours`. One encoding of the photo serves all counts."""
    stable_diffusion, folder = folders
    settings = {"resolution": options.resolution, "draws": options.draws, "seed": options.seed}
    settings |= {"vae_once": options.baseline_vae_once, "draw_batch": options.baseline_draw_batch}
    place: dict[str, Any] = {"device": options.device}
    with tempfile.TemporaryDirectory(dir=folder.parent) as text:
        target = Path(text)
        for _ in range(warmup):
            scratch = Stopwatch(options.device, options.clock)
            published_sdamodal.encode_photo(stable_diffusion, photo, target, stage=scratch, **settings, **place)
            release()
        watch, memory = Stopwatch(options.device, options.clock, "published"), PeakMemory(options.device)
        with memory:
            published_sdamodal.encode_photo(stable_diffusion, photo, target, stage=watch, **settings, **place)
        peaks: dict[str, Any] = {"features": memory.gib, "objects": {}}
        release()
        decoder = SDAmodalDecoder.from_pretrained(folder, subfolder="decoder").to(options.device).eval()
        scratch = Stopwatch(options.device, options.clock)
        published_sdamodal.complete_objects(decoder, target, masks[:1], stage=scratch, **place)  # to warm up
        objects = {}
        for count in options.masks:
            stages, memory = Stopwatch(options.device, options.clock), PeakMemory(options.device)
            total = Stopwatch(options.device, options.clock, f"published: {count} masks")
            with memory, total("objects"):
                answers = published_sdamodal.complete_objects(decoder, target, masks[:count], stage=stages, **place)
            objects[str(count)] = {"total": total.seconds["objects"], **stages.seconds}
            peaks["objects"][str(count)] = memory.gib
        maps = [torch.from_numpy(np.load(path)) for path in sorted(target.glob("*.npy"))]
    return {"seconds": {**watch.seconds, "objects": objects}, "gib": peaks}, answers, maps


# Figures


def compare(
    modal: np.ndarray,
    ours: tuple[np.ndarray, list[torch.Tensor]],
    published: tuple[np.ndarray, list[torch.Tensor]],
) -> dict[str, Any]:
    """IoU of the masks, their area in areas of the modal masks, and relative error of each feature map (L2)."""
    first, second = ours[0], published[0]
    union = (first | second).sum(axis=(1, 2))
    iou = np.where(union > 0, (first & second).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours[1], published[1], strict=True)]
    return {
        "iou_mean": float(iou.mean()),
        "iou_min": float(iou.min()),
        "area": float(second.sum() / modal.sum()),
        "feature_errors": errors,
    }


def summarise(record: dict[str, Any]) -> dict[str, Any]:
    """Medians over the repeats so far: totals for each count, ratios, and the cost of one more mask."""
    ours, published = record["ours"], record["published"]
    counts = record["setup"]["masks"]
    passes = [run["seconds"]["features"] for run in ours]
    summary: dict[str, Any] = {"image_pass": statistics.median(passes), "counts": {}}
    for count in map(str, counts):
        own = [image + run["seconds"]["objects"][count] for image, run in zip(passes, ours, strict=True)]
        row = {"ours": statistics.median(own), "ours_peak_gib": peak(ours, count)}
        if published:
            theirs = [published_total(run["seconds"], count) for run in published]
            pairs = own[: len(theirs)]  # a side may be ahead by one repeat
            row |= {"published": statistics.median(theirs), "published_peak_gib": peak(published, count)}
            row["ratio"] = median_ratio(theirs, pairs)
            if not record["setup"]["baseline_vae_once"]:
                once = [published_total(run["seconds"], count, vae="vae once") for run in published]
                row["ratio_vae_once"] = median_ratio(once, pairs)
        summary["counts"][count] = row
    if len(counts) > 1:
        low, high = counts[0], counts[-1]
        slopes = [
            (run["seconds"]["objects"][str(high)] - run["seconds"]["objects"][str(low)]) / (high - low) for run in ours
        ]
        shares = [slope / image for slope, image in zip(slopes, passes, strict=True)]
        summary["one_more_mask"] = {
            "seconds": statistics.median(slopes),
            "of_image_pass": statistics.median(shares),
        }
    return summary


def published_total(seconds: dict[str, Any], count: str, vae: str = "vae") -> float:
    stages = [vae if name == "vae" else name for name in ENCODING]
    return sum(seconds[name] for name in stages) + seconds["objects"][count]["total"]


def peak(runs: list[dict[str, Any]], count: str) -> float:
    """Most over encoding and objects, median over the repeats."""
    return statistics.median(max(run["gib"]["features"]["peak"], run["gib"]["objects"][count]["peak"]) for run in runs)


def format_summary(record: dict[str, Any]) -> str:
    summary, lines = record["summary"], []
    for count, row in summary["counts"].items():
        line = f"{count:>3} masks: ours {row['ours']:8.2f} s, {row['ours_peak_gib']:5.1f} GiB"
        if "ratio" in row:
            line += f" | published {row['published']:8.2f} s, {row['published_peak_gib']:5.1f} GiB"
            line += f" | {row['ratio']:5.1f}x"
        if "ratio_vae_once" in row:
            line += f" ({row['ratio_vae_once']:.1f}x if it encoded the photo once)"
        lines.append(line)
    lines.append(f"one image pass of ours: {summary['image_pass']:.2f} s")
    if "one_more_mask" in summary:
        more = summary["one_more_mask"]
        lines.append(f"one more mask: {more['seconds']:.3f} s, 1/{1 / max(more['of_image_pass'], 1e-9):.0f} of it")
    for side in ("ours", "published"):
        if record[side]:
            lines.append(f"{side}, last repeat: {format_stages(record[side][-1]['seconds'])}")
    if record["agreement"]:
        same = record["agreement"]
        errors = ", ".join(f"{error:.1e}" for error in same["feature_errors"])
        iou = f"IoU {same['iou_mean']:.4f} (least {same['iou_min']:.4f})"
        lines.append(f"masks: {iou}, {same['area']:.2f} modal areas; features differ by {errors}")
    return "\n".join(lines)


def format_stages(seconds: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items() if name != "objects")


# The run


def run(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and write what is known to `options.json` after each part."""
    height, width = SIZES[options.size]["photo"]
    photo = Image.open(options.photo).convert("RGB") if options.photo else make_photo(height, width)
    masks = draw_masks(options.masks[-1], photo.height, photo.width)
    setup = {key: value for key, value in vars(options).items() if key not in ("json", "work")}
    setup |= {"photo": f"{options.photo.name if options.photo else 'synthetic'}, {photo.width} x {photo.height}"}
    excluded = {
        "ours": "load and prompt: once for any number of photos",
        "published": "making the weights, loading the decoder; one encoding of the photo serves all counts",
    }
    record: dict[str, Any] = {"environment": describe_environment(options.device), "setup": setup}
    record |= {"excluded": excluded, "ours": [], "published": [], "agreement": {}, "summary": {}, "complete": False}
    save(record, options.json)
    folders = prepare(work, options)
    for repeat in range(options.repeats):
        warmup = options.warmup if repeat == 0 else 0
        say(f"repeat {repeat + 1} of {options.repeats}: ours")
        figures, *ours = measure_ours(folders[1], photo, masks, options, options.warmup)
        release()
        record["ours"].append(figures)
        save(record, options.json)
        if options.baseline:
            say(f"repeat {repeat + 1} of {options.repeats}: published flow")
            figures, *published = measure_published(folders, photo, masks, options, warmup)
            release()
            record["published"].append(figures)
            record["agreement"] = compare(masks, tuple(ours), tuple(published))
            save(record, options.json)
    record["complete"] = True
    save(record, options.json)
    return record


def describe_environment(device: str) -> dict[str, Any]:
    found = environment(device)
    if torch.device(device).type == "cuda":
        convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        found["tf32"] = f"convolutions {convolutions}, products {products}"
    return found


def save(record: dict[str, Any], path: Path | None) -> None:
    if record["ours"]:
        record["summary"] = summarise(record)
    if path:
        write_json(path, record)


def parse_counts(text: str) -> list[int]:
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = [0]
    if counts[0] < 1:
        raise argparse.ArgumentTypeError(f"expected numbers of masks such as 1,5,20, got {text!r}")
    return counts


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", choices=tuple(SIZES), default="tiny", help="full: as Stable Diffusion 2.1")
    add("--device", default="cpu")
    add("--dtype", choices=tuple(DTYPES), help="of ours; where it is not given, what a CPU is fast in, fp16 elsewhere")
    add("--draws", type=int, default=8, help="noise draws, of both")
    add("--masks", type=parse_counts, default=[1, 5, 20], help="numbers of masks, such as 1,5,20")
    add("--resolution", type=int, help="side that the photo is squashed to; 768 at full size")
    add("--photo", type=Path, help="a photo instead of a synthetic one of 640 x 480")
    add("--seed", type=int, default=0, help="of the noise, the same for both")
    add("--repeats", type=int, help="timed runs of each; the median counts; 1 on a CPU, 5 elsewhere")
    add("--warmup", type=int, help="encodings of the photo before the timed one; 0 on a CPU, 1 elsewhere")
    add("--draw-batch-size", type=int, help="of ours: draws in one pass (all)")
    add("--contiguous", action="store_true", help="ours without channels last in memory")
    add("--no-baseline", dest="baseline", action="store_false", help="ours alone")
    add("--baseline-vae-once", action="store_true", help="the published flow encodes the photo once, not once a draw")
    add("--baseline-draw-batch", type=int, help="draws in one pass of the published flow (all), to bound its memory")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use, with --threads 1")
    add("--threads", type=int, help="torch threads")
    add("--work", type=Path, help="folder that keeps the random Stable Diffusion for other runs; else a temporary one")
    add("--json", type=Path, help="write the figures here, after each part")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: no such device here")
    if options.photo and not options.photo.is_file():
        parser.error(f"--photo {options.photo} does not exist")
    cpu = device.type == "cpu"
    fast = "bf16" if has_fast_bf16() else "fp32"
    options.dtype = options.dtype or (fast if cpu else "fp16")
    options.resolution = options.resolution or SIZES[options.size]["resolution"]
    options.repeats = (1 if cpu else 5) if options.repeats is None else options.repeats
    options.warmup = (0 if cpu else 1) if options.warmup is None else options.warmup
    for name in ("draws", "repeats", "resolution"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    sys.stdout.write(format_environment(describe_environment(options.device)) + "\n\n")
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
        record = run(options.work, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            record = run(Path(folder), options)
    sys.stdout.write(format_summary(record) + "\n")
    if options.size == "tiny":
        sys.stdout.write("Tiny components show that it runs; for figures take --size full.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
