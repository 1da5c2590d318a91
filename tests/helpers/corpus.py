"""Malformed inputs at every door of the package, made from a seed.

A case calls a door in an empty folder. It may refuse its input, by an error of a user that says something, or read it:
then what came out is checked, against an independent reading where there is one.
"""

import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 12, 20


@dataclass
class Case:
    """One input.

    Attributes:
        kind: class that it is counted under.
        name: of the case.
        call: takes an empty folder; its result goes to `check`.
        check: raises AssertionError for a wrong result.
        names: one of these must stand in an error; empty where the input has no name.
        refused: it must be.
    """

    kind: str
    name: str
    call: Callable[[Path], Any]
    check: Callable[[Any], None] = lambda result: None
    names: tuple[str, ...] = ()
    refused: bool = False


def make_corpus(seed=0):
    """All cases, in an order that the seed gives."""
    makers = (
        images,
        mask_files,
        mask_arrays,
        run_lengths,
        polygons,
        documents,
        indices,
        checkpoints,
        scenes,
        options,
        command_lines,
    )
    cases = []
    for number, maker in enumerate(makers):
        cases += maker(np.random.default_rng([seed, number]))
    return [cases[place] for place in np.random.default_rng(seed).permutation(len(cases))]


# Mutations


def broken_bytes(rng, content, count):
    """(name, bytes): cut off, flipped, zeroed, doubled, with rubbish before, inside or behind."""
    yield "empty", b""
    yield "rubbish", rng.bytes(200)
    yield "zeros", bytes(len(content))
    yield "twice", content + content
    yield "behind rubbish", rng.bytes(7) + content
    for number in range(count):
        place, length = int(rng.integers(1, len(content))), int(rng.integers(1, 24))
        kind = ("cut", "flipped", "zeroed", "inserted", "removed")[number % 5]
        head, tail = content[:place], content[place:]
        yield (
            f"{kind} {number}",
            {
                "cut": head,
                "flipped": head + bytes(value ^ 0x5A for value in tail[:length]) + tail[length:],
                "zeroed": head + bytes(min(length, len(tail))) + tail[length:],
                "inserted": head + rng.bytes(length) + tail,
                "removed": head + tail[length:],
            }[kind],
        )


HOSTILE = [
    None,
    True,
    False,
    -1,
    0,
    0.5,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    "",
    "x",
    "1",
    "-1",
    "nan",
    "1e5",
    "\x00",
    "\ud800",
    "a" * 5000,
    "../../etc/passwd",
    "猫",
    [],
    [[]],
    [None],
    [0],
    [1, 2],
    [[1, 2, 3]],
    {},
    {"a": 1},
    {"counts": 1},
    [math.nan] * 6,
    [1e300] * 6,
    [10**30] * 6,
    ["a"] * 6,
    [True] * 6,
    [{}],
    [[[[]]]],
]
"""Values that may stand anywhere in JSON."""


def paths_of(value, path=()):
    """The path of every node below the top."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield from paths_of(item, (*path, key))


def changed(content, path, value, *, delete=False):
    """A copy of JSON with another value at a path, or none."""
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if delete:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


def broken_json(rng, content, count):
    """(name, bytes): values of other types anywhere, keys that lack, text that is none, long numbers, depth."""
    text = json.dumps(content)
    yield "deep", b"[" * 100_000
    yield "deep and closed", b"[" * 100_000 + b"]" * 100_000
    yield "deep objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    yield "digits", text.replace("1", "9" * 400, 1).encode()
    yield "many digits", text.replace("1", "9" * 5000, 1).encode()
    yield "mark", b"\xef\xbb\xbf" + text.encode()
    yield "UTF-16", text.encode("utf-16")
    yield "latin", text.replace("a", "\xe9").encode("latin-1")
    yield "list", b"[" + text.encode() + b"]"
    for word in ("null", "1", '"x"', "[]", "{}", "NaN", "[null]", "true"):
        yield word, word.encode()
    yield from broken_bytes(rng, text.encode(), count // 4)
    paths = list(paths_of(content))
    for number in range(count):
        path = paths[int(rng.integers(len(paths)))]
        value = HOSTILE[int(rng.integers(len(HOSTILE)))]
        place = ".".join(map(str, path))
        if number % 6 == 0:
            yield f"without {place}", json.dumps(changed(content, path, None, delete=True)).encode()
        else:
            shown = repr(value)[:20] if not isinstance(value, int) or abs(value) < 2**70 else "10**400"
            yield f"{place} = {shown}", json.dumps(changed(content, path, value)).encode("utf-8", "surrogatepass")


def file_case(kind, name, suffix, content, read, check=lambda result: None, refused=False):
    """A case that writes bytes into a file and reads it, whose errors must name the file."""
    file_name = f"input{suffix}"

    def call(folder):
        path = folder / file_name
        path.write_bytes(content)
        return read(path)

    return Case(kind, name, call, check, (file_name,), refused)


# Pictures


def pictures():
    """Good files by name: (suffix, content)."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {
        "PNG": (rgb, ".png", {}),
        "JPEG": (rgb, ".jpg", {}),
        "turned JPEG": (rgb, ".jpg", {"exif": exif}),
        "progressive": (rgb, ".jpg", {"progressive": True}),
        "TIFF": (rgb, ".tif", {}),
        "BMP": (rgb, ".bmp", {}),
        "deflated TIFF": (rgb, ".tif", {"compression": "tiff_adobe_deflate"}),
        "GIF": (rgb.quantize(), ".gif", {}),
        "WEBP": (rgb, ".webp", {}),
        "palette": (rgb.quantize(), ".png", {}),
        "turned PNG": (rgb, ".png", {"exif": exif}),
        "16 bit": (Image.fromarray(rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)), ".png", {}),
        "RGBA": (rgb.convert("RGBA"), ".png", {}),
        "CMYK": (rgb.convert("CMYK"), ".jpg", {}),
    }
    found = {}
    for name, (picture, suffix, more) in options.items():
        file = io.BytesIO()
        kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
        picture.save(file, kind, **more)
        found[name] = suffix, file.getvalue()
    return found


def images(rng):
    from amodal_diffusion.images import check_image, image_size, load_image

    def read(path):
        size = image_size(path)
        return size, check_image(path), load_image(path)

    def check(result):
        size, checked, picture = result
        assert picture.mode == "RGB" and picture.size == size[::-1] and checked == size

    cases = []
    for name, (suffix, content) in pictures().items():
        for change, bad in broken_bytes(rng, content, 12):
            must = change in ("empty", "rubbish", "zeros")
            cases.append(file_case("images", f"{name}, {change}", suffix, bad, read, check, must))
    return cases


def mask_files(rng):
    from amodal_diffusion.io import read_object_masks

    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[2:8, 3:9], labels[4:11, 9:15] = 1, 2
    kinds = {"map": labels, "mask": (labels == 1).astype(np.uint8) * 255, "16 bit": labels.astype(np.uint16) * 1000}
    cases = []
    for name, array in kinds.items():
        for suffix in (".png", ".tif", ".bmp"):
            if suffix == ".bmp" and array.dtype == np.uint16:
                continue
            file = io.BytesIO()
            Image.fromarray(array).save(file, {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}[suffix])
            for change, bad in broken_bytes(rng, file.getvalue(), 10):

                def read(path):
                    return read_object_masks(path, size=(HEIGHT, WIDTH))

                cases.append(file_case("masks", f"{name}{suffix}, {change}", suffix, bad, read, check_objects))
    return cases


def check_objects(objects):
    assert objects.masks.dtype == bool and objects.masks.shape[1:] == (HEIGHT, WIDTH)
    assert len(objects.masks) == len(objects.names) == len(objects.category_ids) == len(objects.scores)
    assert all(math.isfinite(score) for score in objects.scores)


def mask_arrays(rng):
    """Arrays, tensors and lists in place of masks, each by itself and in a call of a pipeline."""
    from amodal_diffusion.masks import to_mask_stack

    tiny()  # what it imports is no case's time
    good = rng.random((2, HEIGHT, WIDTH)) > 0.5
    tensor = torch.from_numpy(good)
    shapes = [
        (),
        (0,),
        (5,),
        (0, 0),
        (HEIGHT, WIDTH),
        (2, 0, WIDTH),
        (2, HEIGHT, 0),
        (0, HEIGHT, WIDTH),
        (1, 1, 1),
        (2, 3, HEIGHT, WIDTH),
        (2, 1, HEIGHT, WIDTH),
        (HEIGHT, WIDTH, 3),
        (1,) * 7,
    ]
    kinds = [
        "bool",
        "uint8",
        "int8",
        "int64",
        "uint16",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "object",
        "<U3",
        "S3",
        "datetime64[s]",
        "timedelta64[s]",
        "V4",
    ]
    inputs = {}
    for shape in shapes:
        for kind in kinds:
            values = np.zeros(shape, kind)
            if shape and values.size and kind not in ("V4",):
                values.reshape(-1)[: values.size // 2] = 1 if "64[s]" not in kind else np.array(1, kind)
            inputs[f"array {shape} {kind}"] = values
    for value in (math.nan, math.inf, -math.inf, -1.0, 0.5, 2.0, 255.0, 1e300):
        inputs[f"floats of {value}"] = np.full((2, HEIGHT, WIDTH), value)
    for value in (-1, 2, 255, 65535, 2**62):
        inputs[f"integers of {value}"] = np.full((2, HEIGHT, WIDTH), value)
    numbers = tensor.float()
    inputs |= {
        "negative bit": torch.complex(numbers, numbers).conj().imag,
        "conjugate bit": torch.complex(numbers, numbers).conj(),
        "sparse": numbers.to_sparse(),
        "sparse rows": numbers[0].to_sparse_csr(),
        "meta": tensor.to("meta"),
        "gradient": numbers.clone().requires_grad_(),
        "bfloat16": numbers.bfloat16(),
        "float8": numbers.to(torch.float8_e4m3fn),
        "complex": torch.complex(numbers, numbers),
        "quantized": torch.quantize_per_tensor(numbers, 1.0, 0, torch.quint8),
        "nested": torch.nested.nested_tensor([numbers[0]]),
        "expanded": tensor[:1].expand(2, -1, -1),
        "turned": tensor.transpose(1, 2).contiguous().transpose(1, 2),
        "masked": np.ma.masked_array(good, mask=~good),
        "reversed": good[:, ::-1, ::-1],
        "big-endian": good.astype(">f4"),
        "ragged": [good[0], good[1][:5]],
        "of lists": good.tolist(),
        "of text": ["a", "b"],
        "of None": [None],
        "text": "masks",
        "bytes": b"masks",
        "number": 5,
        "dict": {"masks": good},
        "set": {1, 2},
        "generator": (mask for mask in good),
        "object": object(),
        "type": bool,
        "nothing": None,
        "pictures": [Image.fromarray(mask) for mask in good],
        "picture": Image.new("RGB", (WIDTH, HEIGHT)),
        "floats picture": Image.new("F", (WIDTH, HEIGHT), 3.5),
        "empty picture": Image.new("L", (0, 0)),
        "mixed": [good[0], tensor[1]],
        "recarray": np.rec.array([(1, 2.0)]),
    }
    cases = []
    for name, value in inputs.items():

        def check(masks):
            assert isinstance(masks, np.ndarray) and masks.dtype == bool and masks.ndim == 3

        cases.append(Case("masks", name, lambda folder, value=value: to_mask_stack(value), check, ("`masks`", "mask")))
    for name, value in inputs.items():
        if not name.startswith("array") or "bool" in name or "float32" in name:

            def complete(folder, value=value):
                return tiny()(None, value)

            def check_output(output):
                masks = output.amodal_masks
                assert all(mask.dtype == bool for mask in (masks if isinstance(masks, list) else [masks]))

            cases.append(Case("masks", f"call, {name}", complete, check_output, ("`masks`", "mask")))
    return cases


_TINY: dict[str, Any] = {}


def tiny():
    """One small pipeline for all cases."""
    if "mask" not in _TINY:
        from pipeline_helpers import tiny_pipeline

        _TINY["mask"] = tiny_pipeline()
    return _TINY["mask"]


# Run lengths and polygons


def decode_by_hand(segmentation):
    """What COCO's format says, pixel by pixel; None where it is none."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    try:
        height, width = (int(value) for value in size)
        if isinstance(counts, str | bytes):
            text, counts, place = counts.encode() if isinstance(counts, str) else counts, [], 0
            while place < len(text):
                value, shift, more = 0, 0, True
                while more:
                    code = text[place] - 48
                    if not 0 <= code < 64:
                        return None
                    value |= (code & 31) << 5 * shift
                    more, place, shift = bool(code & 32), place + 1, shift + 1
                    if not more and code & 16:
                        value |= -1 << 5 * shift
                counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        counts = [int(value) for value in counts]
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if min(height, width, *counts, 0) < 0 or sum(counts) != height * width or height * width > 10**6:
        return None
    flat, value = [], False
    for count in counts:
        flat += [value] * count
        value = not value
    return np.array(flat, bool).reshape(width, height).T


def run_lengths(rng):
    from amodal_diffusion.masks import decode_rle, decode_segmentation

    mask = rng.random((HEIGHT, WIDTH)) > 0.5
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text, plain = (
        packed["counts"].decode(),
        np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=2)), prepend=0),
    )
    plain = [int(value) for value in plain]
    inputs = {}
    for number in range(60):
        place, letter = int(rng.integers(len(text))), chr(int(rng.integers(1, 200)))
        inputs[f"letter {number}"] = {"size": [HEIGHT, WIDTH], "counts": text[:place] + letter + text[place + 1 :]}
        inputs[f"cut {number}"] = {"size": [HEIGHT, WIDTH], "counts": text[:place]}
        runs, index = list(plain), int(rng.integers(len(plain)))
        runs[index] += int(rng.integers(-5, 6))
        inputs[f"run {number}"] = {"size": [HEIGHT, WIDTH], "counts": runs}
    for number, value in enumerate(HOSTILE):
        inputs[f"counts {number}"] = {"size": [HEIGHT, WIDTH], "counts": value}
        inputs[f"size {number}"] = {"size": value, "counts": text}
        inputs[f"height {number}"] = {"size": [value, WIDTH], "counts": plain}
        inputs[f"run of {number}"] = {"size": [HEIGHT, WIDTH], "counts": [value, *plain[1:]]}
        inputs[f"all {number}"] = value
    for name, size in {
        "turned": [WIDTH, HEIGHT],
        "huge": [10**6, 10**6],
        "larger": [2**31, 2**31],
        "none": [0, 0],
    }.items():
        inputs[name] = {"size": size, "counts": text}
    cases = []
    for name, value in inputs.items():

        def check(found, value=value):
            wanted = decode_by_hand(value) if isinstance(value, dict) else None
            assert wanted is not None and found.dtype == bool and np.array_equal(found, wanted)

        cases.append(Case("run lengths", name, lambda folder, value=value: decode_rle(value), check))

        def check_size(found):
            assert found.dtype == bool and found.shape == (HEIGHT, WIDTH)

        call = lambda folder, value=value: decode_segmentation(value, HEIGHT, WIDTH)  # noqa: E731
        if isinstance(value, dict):
            cases.append(
                Case("run lengths", f"segmentation, {name}", call, lambda found, c=check: (check_size(found), c(found)))
            )
    return cases


def polygons(rng):
    from amodal_diffusion.masks import decode_segmentation

    good = [2.0, 3.0, 10.0, 3.0, 10.0, 9.0, 2.0, 9.0]
    inputs = {}
    for number, value in enumerate(HOSTILE):
        inputs[f"all {number}"] = value
        inputs[f"polygon {number}"] = [value]
        inputs[f"beside {number}"] = [good, value]
        for place in (0, 3, 7):
            inputs[f"point {number}, {place}"] = [[*good[:place], value, *good[place + 1 :]]]
    for length in (0, 1, 2, 3, 4, 5, 7, 9):
        inputs[f"length {length}"] = [(good * 2)[:length]]
    for name, array in {
        "array": np.array(good),
        "points": np.array(good).reshape(4, 2),
        "strings": np.array(["1"] * 8),
        "tensor": torch.tensor(good),
        "objects": np.array([good, None], object),
        "far": np.array(good) * 1e6,
        "negative": -np.array(good),
        "tuple": tuple(good),
    }.items():
        inputs[name] = [array]
    cases = []
    for name, value in inputs.items():

        def check(found):
            assert found.dtype == bool and found.shape == (HEIGHT, WIDTH)

        call = lambda folder, value=value: decode_segmentation(value, HEIGHT, WIDTH)  # noqa: E731
        cases.append(Case("polygons", name, call, check))
    return cases


# Documents


def coco_content():
    rle = coco_mask.encode(
        np.asfortranarray((np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 7 < 3).astype(np.uint8))
    )
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "order_relations": []}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 7,
                "segmentation": [[2, 3, 10, 3, 10, 9, 2, 9]],
                "iscrowd": 0,
                "score": 0.5,
                "bbox": [2, 3, 8, 6],
                "area": 48,
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 7,
                "iscrowd": 0,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
            },
        ],
        "categories": [{"id": 7, "name": "cup"}],
    }


def cocoa_content():
    from data_helpers import region

    return {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "depth_constraint": "1-2",
                "size": 2,
                "regions": [region(0, 0, 4, 8), region(2, 0, 6, 8)],
            },
        ],
    }


def documents(rng):
    from amodal_diffusion.data import amodal_features, iter_annotations
    from amodal_diffusion.data.parquet import row_tables
    from amodal_diffusion.io import read_object_masks

    def read_masks(path):
        return read_object_masks(path, size=(HEIGHT, WIDTH))

    def read_rows(on_error, path):
        rows = list(iter_annotations(path, on_error=on_error))
        return rows, list(row_tables(rows, amodal_features()))

    def check_rows(result):
        rows, _ = result
        for row in rows:
            assert row["height"] > 0 and row["width"] > 0 and isinstance(row["file_name"], str)
            for obj in row["objects"]:
                for kind in ("modal_mask", "amodal_mask"):
                    assert obj[kind] is None or obj[kind]["size"] == [row["height"], row["width"]]

    cases = []
    for name, content, count in (("coco", coco_content(), 150), ("cocoa", cocoa_content(), 90)):
        for number, (change, bad) in enumerate(broken_json(rng, content, count)):
            on_error = ("raise", "skip")[number % 2]
            read = lambda path, on_error=on_error: read_rows(on_error, path)  # noqa: E731
            cases.append(file_case("JSON", f"{name}, {on_error}, {change}", ".json", bad, read, check_rows))
            if number % 2:
                cases.append(file_case("JSON", f"{name}, objects, {change}", ".json", bad, read_masks, check_objects))
    return cases


def saved_pipeline():
    """The files of a small pipeline: content by path."""
    if "files" not in _TINY:
        import tempfile

        from pipeline_helpers import tiny_model, tiny_pipeline

        with tempfile.TemporaryDirectory() as folder:
            tiny_pipeline(tiny_model(block_out_channels=(2, 2), sample_size=8)).save_pretrained(folder)
            found = {
                str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
            }
        _TINY["files"] = found
    return _TINY["files"]


def pipeline_case(kind, name, file, content, check=lambda result: None, refused=False):
    def call(folder):
        from diffusers.utils import logging

        from amodal_diffusion import AmodalPipeline

        logging.disable_progress_bar()
        for path, good in saved_pipeline().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content if path == file else good)
        return AmodalPipeline.from_pretrained(folder)

    names = (file.rsplit("/", 1)[-1], f"{file.split('/')[0]}'")  # the file, or its folder in quotes
    return Case(kind, name, call, check, names, refused)


def check_pipeline(pipeline):
    from pipeline_helpers import crossing_bars

    modal = crossing_bars()[0]
    masks = pipeline(None, modal).amodal_masks
    assert masks.shape == modal.shape and masks.dtype == bool


def indices(rng):
    cases = []
    for file, count in (("model_index.json", 60), ("model/config.json", 60)):
        content = json.loads(saved_pipeline()[file])
        for change, bad in broken_json(rng, content, count):
            cases.append(pipeline_case("JSON", f"{file}, {change}", file, bad))
    return cases


def checkpoints(rng):
    from safetensors.torch import load, save

    from amodal_diffusion.checkpoints import load_published_state_dict
    from amodal_diffusion.evaluation import read_detections

    file = "model/diffusion_pytorch_model.safetensors"
    good = saved_pipeline()[file]
    length = 8 + struct.unpack("<Q", good[:8])[0]
    cases = []
    for change, bad in broken_bytes(rng, good[:length], 40):  # in the header, where a change can be told
        cases.append(pipeline_case("checkpoints", f"header, {change}", file, bad + good[length:]))
    for number in range(10):
        cases.append(
            pipeline_case(
                "checkpoints", f"cut {number}", file, good[: int(rng.integers(length, len(good)))], refused=True
            )
        )
    tensors = load(good)
    first = min(key for key, value in tensors.items() if value.is_floating_point())  # `load` gives them in any order
    for name, changed_tensors in {
        "more": tensors | {"extra": torch.zeros(1)},
        "fewer": {key: tensors[key] for key in tensors if key != first},
        "shape": tensors | {first: torch.zeros(1)},
        "none": {},
        "renamed": {f"x.{key}": value for key, value in tensors.items()},
        "NaN": tensors | {first: torch.full_like(tensors[first], math.nan)},
        "infinity": tensors | {first: torch.full_like(tensors[first], math.inf)},
    }.items():
        cases.append(pipeline_case("checkpoints", name, file, save(changed_tensors), refused=True))
    torch_file = io.BytesIO()
    torch.save({"state_dict": {"module.weight": torch.ones(3, 3)}}, torch_file)
    stored = save({"weight": torch.ones(3, 3)})
    for name, content in (("torch", torch_file.getvalue()), ("safetensors", stored)):
        for change, bad in broken_bytes(rng, content, 30):
            check = lambda found: None  # noqa: E731
            cases.append(file_case("checkpoints", f"{name}, {change}", ".pth", bad, load_published_state_dict, check))
    for suffix, content in ((".pth", torch_file.getvalue()), (".safetensors", stored)):  # of another network
        for change, bad in broken_bytes(rng, content, 10):
            cases.append(file_case("checkpoints", f"Mask R-CNN, {change}", suffix, bad, read_detections, refused=True))
    return cases


def scenes(rng):
    import tempfile

    from amodal_diffusion.scene.formats import load_scene
    from scene_format_helpers import make_scene

    scene, cases = make_scene(count=2), []
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        for name, path in (("folder", "scene"), ("ora", "scene.ora"), ("psd", "scene.psd"), ("coco", "scene.json")):
            root = place / name
            root.mkdir()
            scene.save(root / path)
            files = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
            for file, content in sorted(files.items()):
                is_json = file.endswith(".json")
                many = 60 if is_json else 25 if file == path else 5
                changes = broken_json(rng, json.loads(content), many) if is_json else broken_bytes(rng, content, many)
                for change, bad in changes:

                    def call(folder, files=files, file=file, bad=bad, path=path):
                        for other, good in files.items():
                            (folder / other).parent.mkdir(parents=True, exist_ok=True)
                            (folder / other).write_bytes(bad if other == file else good)
                        return load_scene(folder / path)

                    names = (path, file, file.rsplit("/", 1)[-1])
                    cases.append(Case("scene files", f"{name}, {file}, {change}", call, check_scene, names))
    return cases


def check_scene(scene):
    picture = scene.render()
    assert picture.size == (scene.background.shape[1], scene.background.shape[0])


# Arguments


def options(rng):
    """Values of options in Python."""
    from amodal_diffusion.images import load_image
    from pipeline_helpers import crossing_bars
    from scene_format_helpers import make_scene

    scene, modal = make_scene(count=2), crossing_bars()[0]
    values = [
        *HOSTILE,
        np.array([1, 2]),
        np.array("np"),
        torch.tensor(0.5),
        torch.tensor([1]),
        np.float32(0.5),
        np.int64(2),
        object(),
        lambda *_: None,
        b"np",
        1j,
        range(3),
        float("-0.0"),
    ]
    cases = []
    for option in (
        "mask_threshold",
        "order_threshold",
        "eraser_dilation",
        "batch_size",
        "output_type",
        "category_ids",
        "generator",
        "callback",
        "return_dict",
        "occluder_masks",
    ):
        for number, value in enumerate(values):

            def call(folder, option=option, value=value):
                return tiny()(None, modal, **{option: value})

            def check(output):
                masks = output[0] if isinstance(output, tuple) else output.amodal_masks
                assert len(masks) == len(modal)

            cases.append(Case("arguments", f"{option}, {number}", call, check, ("`",)))
    for number, value in enumerate(values):
        cases.append(
            Case("arguments", f"image, {number}", lambda folder, value=value: load_image(value), check_picture)
        )
        cases.append(
            Case(
                "arguments",
                f"shape, {number}",
                lambda folder, value=value: scene.reshape(0, value),
                check_scene,
                ("`",),
            )
        )
    for name, image in {
        "no pixels": Image.new("RGB", (0, 0)),
        "no rows": Image.new("L", (5, 0)),
        "negative bit": torch.zeros(3, 4, 4).conj(),
        "meta": torch.zeros(3, 4, 4, device="meta"),
        "sparse": torch.zeros(3, 4, 4).to_sparse(),
        "complex": torch.zeros(3, 4, 4, dtype=torch.complex64),
        "no array": np.zeros((0, 4, 3), np.uint8),
    }.items():
        cases.append(Case("arguments", f"image, {name}", lambda folder, image=image: load_image(image), check_picture))
    return cases


def check_picture(picture):
    assert picture.mode == "RGB" and min(picture.size) > 0


TEXTS = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\udcff",
    "a\ud800",
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "9" * 400,
    str(2**63),
    "9" * 5000,
    "x" * 300,
    "../..",
    "/dev/null",
    "/proc/self/mem",
    "-",
    "--",
    "~",
    "*",
    "猫",
    "\n",
    "1,2",
    "0x10",
    "1_000",
]


def command_lines(rng):
    """Values of options on the command line; `fast` ones ask nothing of the Hub."""
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="corpus-"))
    for path, content in saved_pipeline().items():
        (place / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        (place / "model" / path).write_bytes(content)
    (place / "a.json").write_text(json.dumps(coco_content()))
    Image.new("RGB", (WIDTH, HEIGHT)).save(place / "a.png")
    model, masks, photo = str(place / "model"), str(place / "a.json"), str(place / "a.png")
    commands = {
        "complete": (
            ["complete", photo, "--masks", masks, "--model", model, "--output", "OUT"],
            [
                "--seed",
                "--num-samples",
                "--batch-size",
                "--mask-threshold",
                "--order-threshold",
                "--eraser-dilation",
                "--device",
                "--dtype",
            ],
        ),
        "annotate": (
            ["annotate", masks, "--model", model, "--output", "OUT"],
            [
                "--shard-rows",
                "--num-workers",
                "--shard",
                "--mask-threshold",
                "--batch-size",
                "--split",
                "--images",
                "--push-to-hub",
            ],
        ),
        "convert": (
            ["dataset", "convert", masks, "--output", "OUT"],
            ["--shard-size", "--images", "--format", "--photos", "--push-to-hub", "--detections", "--category-ids"],
        ),
    }
    cases = []
    for command, (line, flags) in commands.items():
        for flag in flags:
            for number, text in enumerate(TEXTS):
                if flag == "--num-workers" and text in ("9" * 400, str(2**63), "9" * 5000, "1_000"):
                    continue  # so many processes are what was asked for
                cases.append(
                    command_case(
                        f"{command} {flag}, {number}",
                        [*line, flag, text],
                        (flag, flag.strip("-").replace("-", "_"), text.strip(), "repo_id"),
                    )
                )
        for position, what in ((1, "input"), (3, "masks"), (5, "model")):
            for number, text in enumerate(TEXTS):
                if position >= len(line) or not line[position].startswith("/") or text in ("~", "x" * 300, "../.."):
                    continue
                changed_line = [*line[:position], text, *line[position + 1 :]]
                cases.append(
                    command_case(
                        f"{command} {what}, {number}",
                        changed_line,
                        (text[:50], "--", "PHOTO", "photo", "masks", "folder"),
                    )
                )
        for number, text in enumerate(("\x00", "a\x00b", "/dev/null", "/proc/none/such", "a.json")):
            output = str(place / "a.json") if text == "a.json" else text
            cases.append(
                command_case(f"{command} output, {number}", [*line[:-1], output], ("--output", output, "output"))
            )
    names = {
        "surrogate": {"annotations.0.category_id": 7, "categories.0.name": "\ud800"},
        "NUL": {"categories.0.name": "a\x00b"},
        "surrogate file": {"images.0.file_name": "\udcff.png"},
        "NUL file": {"images.0.file_name": "a\x00.png"},
        "digits": {"annotations.0.id": 10**400},
        "digits id": {"images.0.id": 10**400},
        "cat": {"categories.0.name": "猫"},
    }
    for name, changes in names.items():
        content = coco_content()
        for path, value in changes.items():
            content = changed(content, [int(key) if key.isdecimal() else key for key in path.split(".")], value)
        file = place / f"{name}.json".replace(" ", "-")
        file.write_text(json.dumps(content))
        for command in ("complete", "annotate", "convert"):
            line = [str(file) if part == masks else part for part in commands[command][0]]
            cases.append(command_case(f"{command} of {name}", line, (file.name, "photo", "--")))
    return cases


def command_case(name, line, names):
    def call(folder):
        from contextlib import redirect_stderr, redirect_stdout

        from amodal_diffusion.cli.main import main

        out = folder / "out"
        stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True) for _ in range(2))
        with redirect_stdout(stdout), redirect_stderr(stderr):
            try:
                code = main([str(out) if part == "OUT" else part for part in line])
            except SystemExit as error:
                code = error.code
        error = stderr.buffer.getvalue().decode("ascii")
        return code, error, out

    def check(result):
        code, error, out = result
        lines = [text for text in error.splitlines() if "error: " in text]
        assert code in (0, 2), (code, error)
        assert "Traceback" not in error, error
        assert (code == 0) == (not lines) and len(lines) <= 1, error
        if code:
            shown = [text.encode("ascii", "backslashreplace").decode() for text in names if text]
            assert any(text in lines[0] or repr(text)[1:-1] in lines[0] for text in shown), (lines[0], names)
            assert not out.exists() or not any(out.rglob("*")), sorted(out.rglob("*"))

    return Case("arguments", name, call, check)
