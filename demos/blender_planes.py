"""The layers of a scene as planes in order of depth, in Blender: `blender_planes.py scene.ora planes.blend`.

Runs in any Python with `bpy` (`pip install bpy`, or Blender's own: `blender -b -P demos/blender_planes.py -- scene.ora
planes.blend`) and needs nothing of this package. From where the camera stands the planes show the picture; as it moves,
they shift against each other, and what was hidden comes into sight. `--render` writes what the camera sees.
"""

import argparse
import math
import sys
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree  # noqa: S405 - of a file of one's own

import bpy

# What our .ora files hold beside the objects, so that a flat stack shows the picture to the bit; in space it floats.
FLAT_ONLY = ("Photo around the objects", "In front in the photo")


def add_plane(image, corners, distance, name):
    """A plane that shines with the colours of a picture; `corners` are (left, top, right, bottom) at distance 1."""
    left, top, right, bottom = (value * distance for value in corners)
    mesh = bpy.data.meshes.new(name)
    points = [(left, bottom, -distance), (right, bottom, -distance), (right, top, -distance), (left, top, -distance)]
    mesh.from_pydata(points, [], [(0, 1, 2, 3)])
    for loop, place in zip(mesh.uv_layers.new().data, [(0, 0), (1, 0), (1, 1), (0, 1)], strict=True):
        loop.uv = place
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    texture, clear, light, mix, out = (
        nodes.new(f"ShaderNode{kind}")
        for kind in ("TexImage", "BsdfTransparent", "Emission", "MixShader", "OutputMaterial")
    )
    texture.image, texture.extension = image, "EXTEND"
    links.new(texture.outputs["Color"], light.inputs["Color"])
    links.new(texture.outputs["Alpha"], mix.inputs[0])
    links.new(clear.outputs[0], mix.inputs[1])
    links.new(light.outputs[0], mix.inputs[2])
    links.new(mix.outputs[0], out.inputs[0])
    mesh.materials.append(material)
    bpy.context.collection.objects.link(bpy.data.objects.new(name, mesh))


def build(path, gap):
    """Planes from back to front, each `gap` nearer than the one behind it; the frontmost is at distance 1."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        stack = ElementTree.fromstring(archive.read("stack.xml"))  # noqa: S314
        width, height = int(stack.get("w")), int(stack.get("h"))
        layers = [
            layer
            for layer in stack.iter("layer")
            if layer.get("visibility") != "hidden" and layer.get("name") not in FLAT_ONLY
        ]
        for place, layer in enumerate(layers):  # the first is in front
            file = Path(folder, f"{place:03}.png")
            file.write_bytes(archive.read(layer.get("src")))
            image = bpy.data.images.load(str(file))
            image.alpha_mode = "STRAIGHT"
            image.pack()
            x, y = int(layer.get("x")), int(layer.get("y"))
            edges = (x / width - 0.5, (height / 2 - y) / width)
            corners = (*edges, edges[0] + image.size[0] / width, edges[1] - image.size[1] / width)
            add_plane(image, corners, 1 + gap * place, layer.get("name") or f"layer {place}")
    camera = bpy.data.cameras.new("Camera")
    camera.sensor_fit, camera.angle = "HORIZONTAL", 2 * math.atan(0.5)
    bpy.context.collection.objects.link(bpy.data.objects.new("Camera", camera))
    scene = bpy.context.scene
    scene.camera = bpy.data.objects["Camera"]
    scene.render.engine, scene.cycles.samples, scene.cycles.transparent_max_bounces = "CYCLES", 16, len(layers) + 8
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.cycles.pixel_filter_type = "BOX"
    scene.view_settings.view_transform = "Standard"
    return scene


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path, help="a scene saved as .ora")
    parser.add_argument("output", type=Path, help="a .blend file")
    parser.add_argument("--gap", type=float, default=0.1, help="distance between planes; the nearest is at 1")
    parser.add_argument("--render", type=Path, help="write what the camera sees as PNG")
    parser.add_argument("--camera-x", type=float, default=0.0, help="move the camera to the right, in pictures' widths")
    own = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else None
    args = parser.parse_args(own)
    scene = build(args.scene, args.gap)
    scene.camera.location.x = args.camera_x
    bpy.ops.wm.save_as_mainfile(filepath=str(args.output.resolve()))
    if args.render:
        scene.render.filepath = str(args.render.resolve())
        bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    main()
