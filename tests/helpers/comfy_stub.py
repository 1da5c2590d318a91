"""Stands in for what ComfyUI gives a node pack (`comfy_api.latest`, `folder_paths`), and checks what ComfyUI does.

Written from the public documentation of the V3 schema: the names and arguments that the pack uses, and no others.
"""

import inspect
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType, SimpleNamespace

NUMBER = {"default", "min", "max", "step"}
WIDGETS = {
    "STRING": {"default", "multiline"},
    "COMBO": {"options", "default"},
    "INT": NUMBER,
    "FLOAT": NUMBER,
    "BOOLEAN": {"default"},
}


class Slot:
    def __init__(self, id=None, display_name=None, optional=False, tooltip=None, **widget):
        unknown = set(widget) - WIDGETS.get(self.io_type, set())
        assert not unknown, f"{self.io_type} takes no {unknown}"
        self.id, self.display_name, self.optional, self.widget = id, display_name, optional, widget
        if "options" in widget:
            assert widget["default"] in widget["options"]


def custom(io_type):
    """A type with its `Input` and `Output`."""
    slots = {side: type(side, (Slot,), {"io_type": io_type}) for side in ("Input", "Output")}
    return SimpleNamespace(io_type=io_type, **slots)


class Schema:
    def __init__(self, node_id, display_name, category, inputs, outputs, description="", is_output_node=False):
        ids = [slot.id for slot in inputs]
        assert len(set(ids)) == len(ids) and None not in ids
        self.node_id, self.display_name, self.category, self.description = node_id, display_name, category, description
        self.inputs, self.outputs, self.is_output_node = inputs, outputs, is_output_node


class NodeOutput:
    def __init__(self, *args, ui=None):
        self.args, self.ui = args, ui


class ComfyNode(ABC):
    """Nodes are classes; `run` calls one as ComfyUI does, with its inputs by name and defaults of its widgets."""

    @classmethod
    @abstractmethod
    def define_schema(cls): ...

    @classmethod
    @abstractmethod
    def execute(cls, **inputs): ...


def run(node, **inputs):
    schema = node.define_schema()
    parameters = inspect.signature(node.execute).parameters
    assert set(parameters) == {slot.id for slot in schema.inputs}
    given = {slot.id: slot.widget["default"] for slot in schema.inputs if "default" in slot.widget} | inputs
    missing = {slot.id for slot in schema.inputs if not slot.optional} - set(given)
    assert not missing, f"{schema.node_id} needs {missing}"
    output = node.execute(**given)
    assert isinstance(output, NodeOutput) and len(output.args) == len(schema.outputs)
    for slot, value in zip(schema.outputs, output.args, strict=True):
        if slot.io_type in ("IMAGE", "MASK"):
            assert str(value.dtype) == "torch.float32" and value.min() >= 0 and value.max() <= 1
            assert value.ndim == (4 if slot.io_type == "IMAGE" else 3)
            assert slot.io_type == "MASK" or value.shape[-1] == 3
        if slot.io_type == "STRING":
            assert isinstance(value, str)
    return output


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self): ...


def modules(output_folder):
    """The modules by name, for `sys.modules`."""

    def get_save_image_path(filename_prefix, output_dir, width=0, height=0):
        path = Path(output_dir, filename_prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path.parent), path.name, 1, str(Path(filename_prefix).parent), filename_prefix

    made = {name: ModuleType(name) for name in ("comfy_api", "comfy_api.latest", "folder_paths")}
    types = {
        name.capitalize(): custom(name) for name in ("IMAGE", "MASK", "STRING", "INT", "FLOAT", "BOOLEAN", "COMBO")
    }
    made["comfy_api.latest"].io = SimpleNamespace(
        ComfyNode=ComfyNode, Schema=Schema, NodeOutput=NodeOutput, Custom=custom, **types
    )
    made["comfy_api.latest"].ComfyExtension = ComfyExtension
    made["folder_paths"].get_output_directory = lambda: str(output_folder)
    made["folder_paths"].get_save_image_path = get_save_image_path
    return made
