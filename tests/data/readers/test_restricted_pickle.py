"""MP3D-Amodal: pickles, of which nothing is run."""

import collections
import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from amodal_diffusion.data import AnnotationError, detect_format, iter_annotations, iter_cocoa, record_masks
from amodal_diffusion.data.readers.restricted_pickle import PickleError, load_pickle
from amodal_diffusion.masks import encode_rle
from data_helpers import box_mask, cocoa, region


def rle(mask, counts=bytes):
    encoded = encode_rle(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].encode() if counts is bytes else encoded["counts"]}


def mp3d(counts=bytes):
    regions = [
        region(0, 0, 1, 1, segmentation=rle(box_mask(0, 0, 8, 8), counts), category_id=3, name=None),
        region(0, 0, 1, 1, segmentation=rle(box_mask(4, 0, 8, 8), counts), category_id=5),
    ]
    regions[1]["visible_mask"] = rle(box_mask(8, 0, 4, 8), counts)
    return cocoa(*regions) | {"categories": [{"id": 3, "name": "chair"}]}


def save(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("counts", [bytes, str])
def test_rows(tmp_path, protocol, counts):
    path = save(tmp_path / "eval.pkl", mp3d(counts), protocol)
    assert detect_format(path) == "mp3d-amodal"
    for rows in (iter_cocoa(path), iter_annotations(path), iter_annotations(path, format="mp3d-amodal")):
        (row,) = rows
        modal, amodal = record_masks(row)
        np.testing.assert_array_equal(amodal, [box_mask(0, 0, 8, 8), box_mask(4, 0, 8, 8)])
        np.testing.assert_array_equal(modal, [box_mask(0, 0, 8, 8), box_mask(8, 0, 4, 8)])
        assert [item["name"] for item in row["objects"]] == ["chair", "thing"]
        assert [item["category_id"] for item in row["objects"]] == [3, 5]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([True, False]),
        np.zeros((0, 2), np.uint8), np.arange(4, dtype=">i4"), np.float32([1.5, np.inf]),
    ],
    ids=["int", "by-column", "bool", "empty", "big-endian", "float"],
)  # fmt: skip
def test_arrays_become_lists(tmp_path, protocol, array):
    content = load_pickle(
        save(tmp_path / "a.pkl", {"array": array, "set": {1, 2}, "bytes": bytearray(b"a\xff")}, protocol)
    )
    assert content == {"array": array.tolist(), "set": {1, 2}, "bytes": b"a\xff"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_of_numpy_become_plain(tmp_path, protocol):
    content = load_pickle(save(tmp_path / "a.pkl", [np.int64(7), np.float32(0.5), np.bool_(True)], protocol))
    assert content == [7, 0.5, True] and [type(item) for item in content] == [int, float, bool]


def test_numpy_before_2_named_its_modules_otherwise(tmp_path):
    raw = pickle.dumps([np.arange(3), np.int64(7)], protocol=0).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "old.pkl").write_bytes(raw)
    assert load_pickle(tmp_path / "old.pkl") == [[0, 1, 2], 7]


def test_text_of_python_2(tmp_path):
    (tmp_path / "old.pkl").write_bytes(b"(dp0\nS'name'\np1\nS'caf\\xe9'\np2\ns.")
    assert load_pickle(tmp_path / "old.pkl") == {"name": "café"}


class Runs:
    """Unpickled by the standard library, it would leave a file behind."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda mark: Runs(os.system, f"touch {mark}"), rf"{os.system.__module__}\.system"),
        (lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"), r"builtins\.eval"),
        (lambda mark: Runs(exec, f"open({str(mark)!r}, 'w')"), r"builtins\.exec"),
        (lambda mark: Runs(getattr, {}, "items"), r"builtins\.getattr"),
        (lambda mark: Runs(__import__, "os"), r"builtins\.__import__"),
        (lambda mark: Runs(np.save, str(mark), 1), r"numpy\.save"),
        (lambda mark: collections.OrderedDict(a=1), r"collections\.OrderedDict"),
        (lambda mark: np.random.default_rng(0), r"numpy\.random\._pickle\.__generator_ctor"),
    ],
    ids=["system", "eval", "exec", "getattr", "import", "numpy-save", "class", "generator"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_names_are_refused(tmp_path, make, name, protocol):
    mark = tmp_path / "mark"
    path = save(tmp_path / "evil.pkl", {"images": [], "annotations": [make(mark)]}, protocol)
    with pytest.raises(AnnotationError, match=rf"evil\.pkl: file: refused pickle: it names .*{name.split('.')[-1]}, "):
        iter_cocoa(path, on_error="skip")
    assert not mark.exists()


def test_a_path_of_names_is_no_way_around(tmp_path):
    raw = b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93."  # STACK_GLOBAL numpy, dtype.__init__
    (tmp_path / "a.pkl").write_bytes(raw)
    with pytest.raises(PickleError, match=r"it names numpy\.dtype\.__init__"):
        load_pickle(tmp_path / "a.pkl")


def test_objects_outside_of_the_file(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"Pname\n.")
    with pytest.raises(PickleError, match="refers to objects outside of the file"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("array", [np.array([{}, []], dtype=object), np.array(["a"]), np.zeros(2, "i4,f8")])
def test_arrays_of_anything_else(tmp_path, array):
    with pytest.raises(PickleError, match="only plain numbers are read"):
        load_pickle(save(tmp_path / "a.pkl", array))


def test_arrays_whose_bytes_do_not_fit(tmp_path):
    state = pickle.dumps(np.arange(3, dtype=np.int64), protocol=2)
    shape = next(pos for op, arg, pos in pickletools.genops(state) if op.name == "BININT1" and arg == 3)
    forged = state[:shape] + b"J" + struct.pack("<i", 2**30) + state[shape + 2 :]
    (tmp_path / "a.pkl").write_bytes(forged)
    with pytest.raises(PickleError, match=r"broken pickle: an array of shape \(1073741824,\) has 24 bytes"):
        load_pickle(tmp_path / "a.pkl")


def test_a_length_makes_no_bytes(tmp_path):
    out = io.BytesIO(b"cbuiltins\nbytearray\n(I99999999999\ntR.")
    (tmp_path / "a.pkl").write_bytes(out.getvalue())
    with pytest.raises(PickleError, match="broken pickle"):
        load_pickle(tmp_path / "a.pkl")


def test_every_cut_of_a_pickle_is_an_error(tmp_path):
    raw = pickle.dumps(mp3d() | {"array": np.arange(4), "number": np.int64(1)}, protocol=4)
    path = tmp_path / "cut.pkl"
    for length in range(0, len(raw), 7):
        path.write_bytes(raw[:length])
        with pytest.raises(AnnotationError, match=r"cut\.pkl: file: broken pickle: "):
            iter_cocoa(path)


def test_noise_is_an_error(tmp_path):
    rng = np.random.default_rng(0)
    raw = pickle.dumps(mp3d() | {"array": np.arange(4), "number": np.int64(1)}, protocol=2)
    path = tmp_path / "noise.pkl"
    for _ in range(300):
        spoiled = bytearray(raw)
        for place in rng.integers(0, len(raw), 3):
            spoiled[place] = rng.integers(0, 256)
        path.write_bytes(spoiled)
        try:
            list(iter_cocoa(path, on_error="skip"))
        except AnnotationError:
            continue


def test_a_pickle_of_something_else(tmp_path):
    with pytest.raises(AnnotationError, match="expected an object at the top level, got list"):
        iter_cocoa(save(tmp_path / "a.pkl", [1]))
    with pytest.raises(FileNotFoundError):
        iter_cocoa(tmp_path / "nowhere.pkl")
