"""Files of scenes that are damaged, hostile, or from other programs."""

import io
import json
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from psd_tools.api.layers import Group, PixelLayer
from psd_tools.constants import BlendMode, Tag

from amodal_diffusion import Layer, Scene
from amodal_diffusion.scene import formats as scene_formats
from amodal_diffusion.scene.formats import archive as _archive
from amodal_diffusion.scene.formats import check_scene_output, load_scene, save_scene
from amodal_diffusion.scene.formats import document as _codec
from scene_format_helpers import HEIGHT, WIDTH, make_scene


@pytest.fixture(scope="module")
def scene():
    return make_scene().rotate(1, 20)


@pytest.fixture
def folder(tmp_path, scene):
    save_scene(scene, tmp_path / "scene")
    return tmp_path / "scene"


@pytest.fixture(scope="module")
def saved(tmp_path_factory, scene):
    """The bytes of the scene as .ora and .psd."""
    place = tmp_path_factory.mktemp("saved")
    for suffix in ("ora", "psd"):
        save_scene(scene, place / f"s.{suffix}")
    return {suffix: (place / f"s.{suffix}").read_bytes() for suffix in ("ora", "psd")}


def edit(folder, change, path="scene.json"):
    document = json.loads((folder / path).read_text())
    change(document)
    (folder / path).write_text(json.dumps(document))


def put(*keys, value):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def drop(*keys):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


BROKEN = [
    (put("format", value="other"), r"`format` must be 'amodal_diffusion\.scene', got 'other'"),
    (put("version", value=2), r"`version` must be 1, got 2"),
    (put("extra", value=1), r"`extra` is unknown"),
    (drop("layers"), r"`layers` is missing"),
    (put("layers", value={}), r"`layers` must be a list of objects"),
    (put("scene", value=[]), r"`scene` must be an object"),
    (drop("scene", "background"), r"`scene\.background` is missing"),
    (put("scene", "sky", value=1), r"`scene\.sky` is unknown"),
    (put("layers", 1, "depth", value=1), r"`layers\[1\]\.depth` is unknown; known are amodal, id"),
    (drop("layers", 2, "rgba"), r"`layers\[2\]\.rgba` is missing"),
    (put("layers", 0, "name", value=3), r"`layers\[0\]`: `name` must be a string"),
    (put("layers", 0, "id", value=3), r"`scene`: `layers` must have unique ids"),
    (put("layers", 0, "name", value=[1]), r"`layers\[0\]\.name` must be a finite number, a text, an array or null"),
    (put("layers", 0, "id", value=float("nan")), r"`layers\[0\]\.id` must be a finite number"),
    (put("layers", 0, "rgba", value=None), r"`layers\[0\]`: `rgba` must have dtype uint8"),
    (put("layers", 0, "rgba", "file", value="../x.png"), r"`layers\[0\]\.rgba\.file` must be a relative name"),
    (put("layers", 0, "rgba", "file", value="/etc/x.png"), r"must be a relative name"),
    (put("layers", 0, "rgba", "file", value="layers\\x.png"), r"must be a relative name"),
    (put("layers", 0, "rgba", "file", value=7), r"must be a relative name .*, got 7"),
    (
        put("layers", 0, "rgba", "file", value="layers/x.png"),
        r"picture layers/x\.png of `layers\[0\]\.rgba` is missing",
    ),
    (put("layers", 0, "rgba", "file", value="scene.json"), r"must be a relative name"),
    (put("layers", 0, "rgba", "file", value="background.png"), r"must be RGBA of .* pixels, got RGB of 48x36"),
    (put("layers", 0, "rgba", "mode", value="RGBA"), r"`layers\[0\]\.rgba\.mode` is unknown"),
    (put("layers", 0, "rgba", "dtype", value="object"), r"`layers\[0\]\.rgba` has dtype 'object' and shape"),
    (put("layers", 0, "rgba", "shape", value=[3, 4, 4]), r"must be RGBA of 4x3 pixels, got RGBA of"),
    (put("layers", 0, "rgba", "shape", value=[-1, 4, 4]), r"`layers\[0\]\.rgba\.shape` must be a list of at most 3"),
    (put("layers", 0, "rgba", "shape", value=[1.0, 4, 4]), r"`layers\[0\]\.rgba\.shape` must be a list of at most 3"),
    (
        put("layers", 0, "rgba", "shape", value=[0, 4, 4]),
        r"`layers\[0\]\.rgba` must have 1 to 67108864 pixels, got 4x0",
    ),
    (put("scene", "background", "shape", value=[10**9, 10**9, 3]), r"may take 4294967296 bytes at most"),
    (put("scene", "background", "shape", value=[2**26, 2, 3]), r"`scene\.background` must have 1 to 67108864 pixels"),
    (put("scene", "order", "values", value=[0] * 3), r"`scene\.order\.values` must be a list of 16 values of int8"),
    (put("scene", "order", "values", value=[True] * 16), r"`scene\.order\.values` must be a list of 16 values of int8"),
    (put("scene", "order", "values", value=[300] * 16), r"`scene\.order\.values` must fit int8"),
    (put("scene", "order", "values", value=[1] * 16), r"`scene`: "),
    (put("scene", "order", "dtype", value="O"), r"`scene\.order\.dtype` must be one of bool, int8, int64, float64"),
    (put("scene", "evidence", "values", value=[1] * 16), r"must be a list of 16 values of bool"),
    (put("layers", 0, "transform", "values", value=[float("nan")] * 6), r"`layers\[0\]`: `transform` must be finite"),
    (put("layers", 0, "transform", "values", value=["1"] * 6), r"must be a list of 6 values of float64"),
    (
        put("layers", 0, "transform", "values", value=[10**400] * 6),
        r"`layers\[0\]\.transform\.values` must fit float64",
    ),
    (put("layers", value=[{}]), r"`layers\[0\]\.amodal` is missing"),
    (put("scene", "rim", value=-1), r"`scene`: `rim` must be at least 0"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_documents_are_refused_by_name(folder, change, message):
    edit(folder, change)
    with pytest.raises(ValueError, match=rf"scene: .*{message}"):
        load_scene(folder)


WRONG = [
    *(None, -1.5, "x" * 5000, [], {}, True, math.nan, 10**400, [None], "../../a.png"),
    {"dtype": "float64", "shape": [2, 3], "values": [1e308] * 6},
    {"dtype": "float64", "shape": [2, 3], "values": [1e-308] * 6},
    {"dtype": "uint8", "shape": [4, 4, 4], "file": "/etc/passwd"},
]


def _places(value, place=()):
    """The keys that lead to each value of a document; of lists to the first two."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*place, key)
        yield from _places(inner, (*place, key))


@pytest.mark.filterwarnings("error")
def test_any_wrong_value_gives_a_scene_or_one_short_line(tmp_path):
    """As people who edit the document by hand write it: at every place, every value."""
    folder = tmp_path / "scene"
    layer = Layer(np.full((3, 4, 4), 255, np.uint8), np.ones((3, 4), bool), np.ones((3, 4), bool), name="cup")
    save_scene(Scene(np.zeros((6, 8, 3), np.uint8), [replace(layer, origin=layer.transform)]), folder)
    text = (folder / "scene.json").read_text()
    for place in _places(json.loads(text)):
        for value in WRONG:
            (folder / "scene.json").write_text(text)
            edit(folder, put(*place, value=value))
            try:
                load_scene(folder).render()
            except ValueError as error:
                message = str(error)
                assert message.startswith(f"{folder}: ") and "\n" not in message, (place, value)
                assert len(message) < len(str(folder)) + 300, (place, value)


def test_a_file_without_an_ending_is_no_scene(tmp_path):
    (tmp_path / "scene").write_text("{}")
    with pytest.raises(ValueError, match=r"scene is a file without the ending of a scene, one of \.ora, \.psd, \.json"):
        load_scene(tmp_path / "scene")


@pytest.mark.parametrize("path", ["", " ", "a\0.ora", None, 5, b"a.ora"])
def test_what_is_no_path_is_refused(path):
    scene = Scene(np.zeros((4, 6, 3), np.uint8))
    for call in (lambda: save_scene(scene, path), lambda: load_scene(path), lambda: check_scene_output(path)):
        with pytest.raises((TypeError, ValueError), match="^`path` must be a path, got "):
            call()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "scene.json is no valid JSON"),
        (b'{"format": ', "scene.json is no valid JSON"),
        (b"\xff\xfe\xff", "scene.json is no valid JSON"),
        (b"[" * 100_000, "scene.json is no valid JSON"),
        (b"[]", "scene.json must hold a JSON object, got list"),
    ],
)
def test_broken_json_is_refused(folder, content, message):
    (folder / "scene.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_scene(folder)


def test_layer_count_is_bounded(folder):
    edit(folder, lambda document: document["layers"].extend(document["layers"][:1] * 1000))
    with pytest.raises(ValueError, match="a scene may have 1000 layers at most, got 1004"):
        load_scene(folder)


@pytest.mark.parametrize("cut", [0, 5, 20, 60, -40])
def test_truncated_pictures_are_refused(folder, cut):
    path = folder / "layers" / "001-cat_rgba.png"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"picture layers/001-cat_rgba\.png cannot be read"):
        load_scene(folder)


def test_pictures_of_another_format_are_refused(folder):
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "background.png", format="JPEG")
    with pytest.raises(ValueError, match=r"picture background\.png cannot be read"):
        load_scene(folder)


def test_file_sizes_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(scene_formats.png_folder, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"scene\.json may have 1000 bytes at most"):
        load_scene(folder)


def test_large_scenes_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_codec, "MAX_PICTURE_PIXELS", 1000)
    with pytest.raises(ValueError, match="`background` must have 1 to 1000 pixels, got 48x36"):
        save_scene(make_scene(), tmp_path / "scene")
    monkeypatch.undo()
    monkeypatch.setattr(_codec, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="may take 1000 bytes at most"):
        save_scene(make_scene(), tmp_path / "scene.ora")
    monkeypatch.undo()
    monkeypatch.setattr(scene_formats.photoshop, "MAX_SIDE", 40)
    with pytest.raises(ValueError, match=r"a PSD may have sides of 40 pixels at most, got \(48, 36\)"):
        save_scene(make_scene(), tmp_path / "scene.psd")
    assert not list(tmp_path.iterdir())


def test_coco_without_a_scene_is_refused(tmp_path, scene):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(ValueError, match=r"s\.json: `amodal_diffusion` must be an object, .* COCO without a scene"):
        load_scene(path)
    save_scene(scene, path)
    next((tmp_path / "s_files").glob("*/photo.png")).unlink()
    with pytest.raises(ValueError, match=r"picture photo\.png of `scene\.photo` is missing"):
        load_scene(path)


# Archives


def rewritten(content, changes=None, *, extra=()):
    """An archive with entries replaced, or dropped where their content is None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            data = (changes or {}).get(name, source.read(name))
            if data is not None:
                target.writestr(name, data)
        for name, data in extra:
            target.writestr(name, data)
    return buffer.getvalue()


def load_bytes(tmp_path, content, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    return load_scene(path)


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_archives_are_refused(tmp_path, saved, part):
    with pytest.raises(ValueError, match=r"x\.ora: no complete zip archive"):
        load_bytes(tmp_path, saved["ora"][: int(part * len(saved["ora"]))], "ora")


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../b", "..\\evil", "C:/evil"])
def test_entries_outside_of_the_archive_are_refused(tmp_path, saved, name):
    with pytest.raises(ValueError, match="the archive has an entry outside of it"):
        load_bytes(tmp_path, rewritten(saved["ora"], extra=[(name, b"")]), "ora")


def test_archives_are_bounded(tmp_path, saved, monkeypatch):
    with pytest.raises(ValueError, match="the archive may have 8000 entries at most, got"):
        load_bytes(tmp_path, rewritten(saved["ora"], extra=[(f"x{k}", b"") for k in range(8000)]), "ora")
    monkeypatch.setattr(_archive, "MAX_BYTES", 10_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("mimetype", b"image/openraster")
        bomb.writestr("stack.xml", b"\0" * 20_000_000)
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ValueError, match="the archive may unpack to 10000000 bytes at most, got 20000016"):
        load_bytes(tmp_path, buffer.getvalue(), "ora")


def test_damaged_entries_are_refused(tmp_path, saved):
    content = bytearray(saved["ora"])
    content[content.index(b"data/layer000.png") + 60] ^= 255
    with pytest.raises(ValueError, match=r"entry 'data/layer000\.png' of the archive is damaged"):
        load_bytes(tmp_path, bytes(content), "ora")


XML = b'<image w="4" h="3"><stack>%s</stack></image>'
LAYER = b'<layer name="a" src="data/layer000.png" %s/>'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mimetype": b"application/zip"}, "`mimetype` must be image/openraster"),
        ({"mimetype": None}, "`mimetype` must be image/openraster"),
        ({"stack.xml": None}, "stack.xml is missing"),
        ({"stack.xml": b"<image"}, "stack.xml cannot be read"),
        ({"stack.xml": b""}, "stack.xml cannot be read"),
        ({"stack.xml": b"<svg/>"}, "stack.xml must hold an `image` with a `stack`"),
        ({"stack.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><image><stack name="&b;"/></image>'}, "cannot be read: DTD"),
        ({"stack.xml": XML % b""}, "stack.xml has no visible layer"),
        ({"stack.xml": XML % (LAYER % b'visibility="hidden"')}, "stack.xml has no visible layer"),
        ({"stack.xml": XML % (LAYER % b'opacity="2"')}, "`opacity` must be a number from 0 to 1, got '2'"),
        ({"stack.xml": XML % (LAYER % b'opacity="nan"')}, "`opacity` must be a number from 0 to 1, got 'nan'"),
        ({"stack.xml": XML % (LAYER % b'x="1.5"')}, "`x` of `layer` must be a whole number, got '1.5'"),
        ({"stack.xml": XML % (LAYER % b'y="99999999999"')}, "`y` of `layer` must be a whole number"),
        ({"stack.xml": XML % b'<layer name="b" src="no.png"/>'}, "the picture 'no.png' of layer 'b' is missing"),
        ({"stack.xml": XML % b'<layer name="b"/>'}, "the picture '' of layer 'b' is missing"),
        ({"stack.xml": b'<image w="4"><stack/></image>'}, "`h` of `image` must be a whole number, got ''"),
        ({"stack.xml": b'<image w="9000" h="9000"><stack/></image>'}, "the canvas must have 1 to 67108864 pixels"),
        ({"stack.xml": XML % (b"<stack>" * 70 + b"</stack>" * 70)}, "stack.xml may nest 64 stacks at most"),
        (
            {"stack.xml": XML % (LAYER % b""), "data/layer000.png": b"GIF89a"},
            "picture data/layer000.png cannot be read",
        ),
        ({"stack.xml": XML % (LAYER % b"" * 1002)}, "a scene may have 1000 layers at most, got 1001"),
        ({"amodal_diffusion/scene.json": b"{"}, "amodal_diffusion/scene.json is no valid JSON"),
        ({"amodal_diffusion/background.png": None}, "picture background.png of `scene.background` is missing"),
    ],
)
def test_broken_open_raster_is_refused_by_name(tmp_path, saved, changes, message):
    with pytest.raises(ValueError, match=message):
        load_bytes(tmp_path, rewritten(saved["ora"], changes), "ora")


# Photoshop


@pytest.mark.parametrize("part", [0.001, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_truncated_photoshop_is_refused(tmp_path, saved, part):
    content = saved["psd"][: int(part * len(saved["psd"]))]
    with pytest.raises(ValueError, match=r"x\.psd: "):
        load_bytes(tmp_path, content, "psd")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is no Photoshop document"),
        (b"\x89PNG" + bytes(100), "the file is no Photoshop document"),
        (b"8BPS\0\1", "the Photoshop document is cut off"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\xff\xff" * 2 + b"\0\x08\0\3", "the canvas must have 1 to"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3" + bytes(8) + b"\0\x08\0\3", "the canvas must have 1 to"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x09" * 2 + b"\0\x08\0\3", "is cut off"),
        (b"8BPS\0\2" + bytes(6) + b"\0\3" + b"\0\0\0\x09" * 2 + b"\0\x08\0\3" + bytes(8) + b"\xff" * 8, "is cut off"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\1" * 2 + b"\0\x08\0\x63" + bytes(99), "cannot be read"),
    ],
)
def test_other_files_are_no_photoshop(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load_bytes(tmp_path, content, "psd")


def test_damaged_photoshop_gives_a_scene_or_an_error(tmp_path, saved, scene):
    rng = np.random.default_rng(0)
    outcomes = []
    for position in rng.integers(0, len(saved["psd"]), 40):
        content = bytearray(saved["psd"])
        content[position] ^= int(rng.integers(1, 256))
        try:
            outcomes.append(load_bytes(tmp_path, bytes(content), "psd").equals(scene))
        except ValueError as error:
            assert str(error).startswith(str(tmp_path))
            outcomes.append(None)
    assert None in outcomes


# Layers of other programs


def ora_of_another_program(tmp_path):
    """Canvas 8x6: a hidden layer, two objects that overlap, one in a group, and a background that leaves a rim."""
    red, green, grey = ((255, 0, 0, 255), (0, 255, 0, 128), (90, 90, 90, 255))
    pictures = {"r": ((3, 3), red), "g": ((4, 4), green), "b": ((7, 6), grey)}
    stack = """<?xml version='1.0' encoding='UTF-8'?><image w="8" h="6" xres="72"><stack>
      <layer name="hidden" src="data/r.png" visibility="hidden"/><text x="1"/>
      <stack opacity="0.5" name="group"><layer name="rot 猫" src="data/r.png" x="6" y="-1" opacity="0.6"/></stack>
      <layer name="grün" src="data/g.png" x="4" y="1" composite-op="svg:multiply"/>
      <layer src="data/b.png"/></stack></image>"""
    path = tmp_path / "other.ora"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "image/openraster")
        archive.writestr("stack.xml", stack)
        for name, (size, colour) in pictures.items():
            buffer = io.BytesIO()
            Image.new("RGBA", size, colour).save(buffer, format="PNG")
            archive.writestr(f"data/{name}.png", buffer.getvalue())
    return path


def test_open_raster_of_another_program_gives_its_layers(tmp_path):
    scene = load_scene(ora_of_another_program(tmp_path))
    assert scene.size == (8, 6) and scene.photo is None
    assert (scene.background[:, :7] == 90).all() and (scene.background[:, 7] == 255).all()
    assert [layer.name for layer in scene.layers] == ["grün", "rot 猫", "hidden"]
    assert [layer.id for layer in scene.layers] == [0, 1, 2] and [layer.visible for layer in scene.layers][1:] == [
        True,
        False,
    ]
    assert scene.order[:2, :2].tolist() == [[0, -1], [1, 0]] and not scene.evidence.any()
    green, red, hidden = scene.layers
    assert hidden.box == (0, 0, 3, 3) and hidden.modal.all()
    assert green.box == (4, 1, 4, 4) and red.box == (6, -1, 3, 3)
    assert (green.rgba == [0, 255, 0, 128]).all() and (red.rgba == [255, 0, 0, 255]).all()
    assert green.opacity == 1 and red.opacity == 0.5 * 0.6
    assert green.amodal.all() and green.modal.all()  # nothing opaque lies on it
    assert red.modal.sum() == 4 and not red.modal[0].any()  # of the pixels on the canvas
    save_scene(scene, tmp_path / "again.psd")
    assert load_scene(tmp_path / "again.psd").equals(scene)


def test_open_raster_changed_by_another_program_gives_its_layers(tmp_path, saved, scene):
    with zipfile.ZipFile(io.BytesIO(saved["ora"])) as archive:
        stack = archive.read("stack.xml")
        picture = np.array(Image.open(io.BytesIO(archive.read("data/layer000.png"))))
    assert load_bytes(tmp_path, rewritten(saved["ora"]), "ora").equals(scene)  # packed in another way alone
    renamed = load_bytes(tmp_path, rewritten(saved["ora"], {"stack.xml": stack.replace(b'"cat"', b'"dog"')}), "ora")
    assert {"dog"} <= {layer.name for layer in renamed.layers} and renamed.photo is None
    buffer = io.BytesIO()
    Image.fromarray(255 - picture).convert("RGB").save(buffer, format="PNG")
    painted = load_bytes(tmp_path, rewritten(saved["ora"], {"data/layer000.png": buffer.getvalue()}), "ora")
    assert np.array_equal(painted.background, 255 - scene.background)


def test_photoshop_of_another_program_gives_its_layers(tmp_path):
    document = PSDImage.new("RGB", (8, 6))
    solid = {
        name: np.full((3, 4, 4), [*colour, 255], np.uint8) for name, colour in (("r", (200, 0, 0)), ("g", (0, 100, 0)))
    }
    PixelLayer.fromarray(np.full((6, 8, 3), 70, np.uint8), document, name="base")
    PixelLayer.fromarray(solid["g"], document, name="below", top=1, left=5)
    group = Group.new(document, name="group")
    group.opacity = 128
    upper = PixelLayer.fromarray(solid["r"], group, name="above", top=2, left=2)
    upper.opacity = 51
    PixelLayer.fromarray(solid["r"], document, name="away").visible = False
    masked = PixelLayer.fromarray(solid["r"], document, name="masked", top=0, left=0)
    masked.create_mask(Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)), top=0, left=0)
    document.save(tmp_path / "other.psd")
    scene = load_scene(tmp_path / "other.psd")
    assert [layer.name for layer in scene.layers] == ["below", "above", "away", "masked"]
    assert (scene.background == 70).all() and scene.photo is None
    below, above, away, masked = scene.layers
    assert [layer.visible for layer in scene.layers] == [True, True, False, True] and (
        away.rgba == [200, 0, 0, 255]
    ).all()
    assert below.box == (5, 1, 4, 3) and above.box == (2, 2, 4, 3)
    assert (below.rgba == [0, 100, 0, 255]).all() and (above.rgba == [200, 0, 0, 255]).all()
    assert above.opacity == pytest.approx(128 / 255 * 51 / 255) and below.opacity == 1
    assert masked.rgba[:2, :2, 3].tolist() == [[255, 0], [0, 255]]
    assert scene.order[1, 0] == 1 and scene.order[3, 0] == 0


def test_photoshop_shows_clipped_and_filled_layers_as_the_composite(tmp_path, caplog):
    document = PSDImage.new("RGB", (16, 12))
    PixelLayer.fromarray(np.full((12, 16, 3), 70, np.uint8), document, name="ground")
    soft = np.zeros((8, 8, 4), np.uint8)
    soft[..., 1], soft[..., 3] = 200, np.linspace(0, 255, 8)[:, None]
    base = PixelLayer.fromarray(soft, document, name="base", top=2, left=2)
    base.opacity = 200
    clipped = PixelLayer.fromarray(np.full((6, 9, 4), [250, 0, 0, 255], np.uint8), document, name="clip", top=1, left=4)
    clipped.clipping, clipped.opacity = True, 128
    faint = PixelLayer.fromarray(np.full((4, 4, 4), [0, 0, 250, 255], np.uint8), document, name="faint", top=7, left=11)
    faint.tagged_blocks.set_data(Tag.BLEND_FILL_OPACITY, 64)
    document.save(tmp_path / "clip.psd")
    scene = load_scene(tmp_path / "clip.psd")
    _, clip, faint = scene.layers
    assert (faint.rgba[..., 3] == 64).all()
    expected = np.zeros((6, 9))
    expected[1:, :6] = (soft[:5, 2:, 3] * (200 / 255)).round() * 128 / 255
    np.testing.assert_allclose(clip.rgba[..., 3] * clip.opacity, expected, atol=1)
    shown = np.asarray(PSDImage.open(tmp_path / "clip.psd").composite(force=True).convert("RGB")).astype(int)
    rendered = scene.render(output_type="np").astype(int)
    outside = np.ones((12, 16), bool)
    outside[2:10, 2:10] = False  # what is painted on a half transparent base is mixed in another order
    assert np.abs(shown - rendered)[outside].max() <= 2 and not caplog.records


def test_photoshop_names_what_it_leaves_out(tmp_path, caplog):
    document = PSDImage.new("RGB", (8, 6))
    PixelLayer.fromarray(np.full((6, 8, 3), 70, np.uint8), document, name="ground")
    layer = PixelLayer.fromarray(np.full((3, 4, 3), 200, np.uint8), document, name="shade")
    layer.blend_mode = BlendMode.MULTIPLY
    group = Group.new(document, name="folder")
    PixelLayer.fromarray(np.full((3, 4, 3), 90, np.uint8), group, name="inner")
    PixelLayer.fromarray(np.full((3, 4, 3), 90, np.uint8), document, name="over").clipping = True
    document.save(tmp_path / "rest.psd")
    load_scene(tmp_path / "rest.psd")
    assert "layer 'shade': its blend mode multiply cannot be shown" in caplog.text
    assert "layer 'over' is clipped to 'folder', which has no pixels" in caplog.text


def test_photoshop_changed_by_another_program_gives_its_layers(tmp_path, saved, scene):
    document = PSDImage.open(io.BytesIO(saved["psd"]))
    document.save(tmp_path / "same.psd")
    assert load_scene(tmp_path / "same.psd").equals(scene)
    cat = next(layer for layer in document if layer.name == "cat")
    cat.left += 3
    name, box = cat.name, (cat.left, cat.top, cat.width, cat.height)
    document.save(tmp_path / "moved.psd")
    moved = load_scene(tmp_path / "moved.psd")
    assert moved.photo is None
    assert box in [layer.box for layer in moved.layers if layer.name == name]


def test_photoshop_without_layers_is_all_background(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    PSDImage.frompil(Image.fromarray(picture)).save(tmp_path / "flat.psd")
    scene = load_scene(tmp_path / "flat.psd")
    assert len(scene) == 0 and np.array_equal(scene.background, picture)
