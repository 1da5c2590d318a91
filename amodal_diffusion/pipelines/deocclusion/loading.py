"""Folders of scene pipelines: components in subfolders, or elsewhere by reference."""

import json
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import diffusers
from diffusers import DiffusionPipeline, ModelMixin

from ...hub import (
    INDEX_NAME,
    PIPELINE_FILE_NAME,
    PipelineFolder,
    find_pipeline_folder,
    holds_component,
    pipeline_output,
    write_pipeline_file,
)
from ..auto import AmodalPipeline
from ..content.pipeline import ContentPipeline
from ..segmentation.segmenter import Segmenter

LOADERS: dict[str, Any] = {
    "mask_pipeline": AmodalPipeline,
    "content_pipeline": ContentPipeline,
    "segmenter": Segmenter,
}
"""What loads each component of a scene pipeline."""

COMPONENTS = tuple(LOADERS)
SETTINGS = ("min_hidden_width", "edge_width", "shadows")

_REQUIRED = ("mask_pipeline", "content_pipeline")


def load_scene_pipeline(folder: PipelineFolder, given: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """The components that `model_index.json` names, from their subfolders or where references point, and the settings.

    Args:
        folder: from `find_pipeline_folder`.
        given: components and settings by name that take the place of those in the folder.
        options: of `from_pretrained` of the components.

    Raises:
        FileNotFoundError, ValueError, OSError: naming the file and the component.

    Example:
        >>> folder = PipelineFolder("there", {"references": {"camera": "../x"}}, "there")
        >>> load_scene_pipeline(folder, {})
        Traceback (most recent call last):
        ...
        ValueError: model_index.json of 'there': `references` names ['camera']; components are mask_pipeline, ...
    """
    references = _references(folder)
    components = {**{setting: folder.index[setting] for setting in SETTINGS if setting in folder.index}, **given}
    for component in COMPONENTS:
        if component not in given and (component in references or holds_component(folder.index, component)):
            components[component] = load_component(folder, component, **options)
    missing = [component for component in _REQUIRED if component not in components]
    if missing:
        names = " and no ".join(f"`{component}`" for component in missing)
        raise ValueError(f"{INDEX_NAME} of '{folder.place}' names no {names}.")
    return components


def load_component(folder: PipelineFolder, component: str, **options: Any) -> Any:
    """One component of a scene pipeline, from its subfolder or from where a reference points.

    Args:
        folder: from `find_pipeline_folder`.
        component: one of `COMPONENTS`.
        options: of its `from_pretrained`.

    Raises:
        FileNotFoundError, ValueError, OSError: naming the file and the component.

    Example:
        >>> folder = PipelineFolder("there", {"references": {"mask_pipeline": "/asbu"}}, "there")
        >>> load_component(folder, "mask_pipeline")
        Traceback (most recent call last):
        ...
        ValueError: model_index.json of 'there': `mask_pipeline` must refer to a relative path or a Hub id, got '/asbu'.
    """
    where, subfolder = _locate(folder, component)
    if os.fspath(where) != os.fspath(folder.path_or_id):
        options = {**options, "revision": None}  # which is one of the folder's repository
    options = {key: value for key, value in options.items() if value is not None}
    return LOADERS[component].from_pretrained(where, subfolder=subfolder, **options)


def save_scene_pipeline(
    folder: str | os.PathLike[str],
    class_name: str,
    components: Mapping[str, Any],
    settings: Mapping[str, Any],
    **options: Any,
) -> None:
    """Write all components into subfolders, `pipeline.py` and the index, which appear together.

    Args:
        folder: made where it is missing.
        class_name: of the pipeline.
        components: by name; None for one that is missing.
        settings: by name.
        options: of `save_pretrained` of the pipelines.

    Raises:
        ValueError: where `folder` is a file.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> save_scene_pipeline(folder, "ScenePipeline", {"segmenter": None}, {"edge_width": 3.0})
        >>> sorted(os.listdir(folder))
        ['model_index.json', 'pipeline.py']
    """
    index: dict[str, Any] = {
        "_class_name": [Path(PIPELINE_FILE_NAME).stem, class_name],
        "_diffusers_version": diffusers.__version__,
        **settings,
    }
    with pipeline_output(folder, components, options.get("variant")) as staged:
        for name, component in components.items():
            if component is None:
                index[name] = [None, None]
                continue
            component.save_pretrained(staged / name, **(options if name in _REQUIRED else {}))
            index[name] = [type(component).__module__.split(".")[0], type(component).__name__]
        write_pipeline_file(staged, class_name)
        (staged / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# Plain diffusers


# What of the arguments that diffusers gives to a network goes for a whole component. It finds no `variant` in folders
# of pipelines, and gives `token`, `cache_dir` and the like to none: a component elsewhere on the Hub is read as the
# environment says (HF_TOKEN, HF_HOME).
_HANDED_ON = {"torch_dtype": "dtype", "dtype": "dtype"} | {
    name: name for name in ("device_map", "max_memory", "use_safetensors", "quantization_config")
}


class _ComponentLoader(DiffusionPipeline, ModelMixin):
    """Stands for a component in the index that plain diffusers reads, which finds no references and no segmenters.

    diffusers looks a component's class up by name in the library that the index says, here this module, and gives its
    `from_pretrained` the component's subfolder, or the scene's folder where there is no such subfolder. It is a
    `ModelMixin` since diffusers says dtype and device to networks alone.
    """

    component: ClassVar[str]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        path = Path(pretrained_model_name_or_path)
        is_subfolder = path.name == cls.component and Path(path.parent, INDEX_NAME).is_file()
        options = {_HANDED_ON[key]: value for key, value in kwargs.items() if key in _HANDED_ON}
        return load_component(find_pipeline_folder(path.parent if is_subfolder else path), cls.component, **options)


class _MaskPipelineLoader(_ComponentLoader):
    component = "mask_pipeline"


class _ContentPipelineLoader(_ComponentLoader):
    component = "content_pipeline"


class _SegmenterLoader(_ComponentLoader):
    component = "segmenter"


def index_for_diffusers(index: Mapping[str, Any]) -> dict[str, Any]:
    """The index of a scene pipeline as plain diffusers can follow it: without references, a loader for each component.

    Args:
        index: the content of `model_index.json`.

    Example:
        >>> index_for_diffusers({"references": {"mask_pipeline": "../asbu"}, "segmenter": [None, None]})
        {'segmenter': [None, None], 'mask_pipeline': ['amodal_diffusion.pipelines.deocclusion.loading', '_Mask...']}
    """
    references = index.get("references", {})
    loaders = {
        loader.component: [__name__, loader.__name__]
        for loader in (_MaskPipelineLoader, _ContentPipelineLoader, _SegmenterLoader)
        if loader.component in references or holds_component(index, loader.component)
    }
    return {**{key: value for key, value in index.items() if key != "references"}, **loaders}


# References


def _references(folder: PipelineFolder) -> Mapping[str, str]:
    """From the name of a component to the path or the Hub id where it lies."""
    references = folder.index.get("references", {})
    name = f"{INDEX_NAME} of '{folder.place}'"
    if not isinstance(references, Mapping) or not all(isinstance(value, str) for value in references.values()):
        raise ValueError(f"{name}: `references` must map names of components to paths or Hub ids, got {references!r}.")
    unknown = sorted(set(references) - set(COMPONENTS))
    if unknown:
        raise ValueError(f"{name}: `references` names {unknown}; components are {', '.join(COMPONENTS)}.")
    return references


def _locate(folder: PipelineFolder, component: str) -> tuple[str | os.PathLike[str], str | None]:
    """Folder or Hub id of a component, and the subfolder of it there."""
    path_or_id, name = folder.path_or_id, f"{INDEX_NAME} of '{folder.place}'"
    reference = _references(folder).get(component)
    if reference is None or reference.startswith("."):
        inner = posixpath.normpath(posixpath.join(folder.subfolder or "", reference or component))
        if not os.path.isdir(path_or_id):
            if inner.startswith(".."):
                raise ValueError(
                    f"{name}: the reference of `{component}` to {reference!r} leaves the repository; load it by "
                    f"`{component}=` or give `subfolder` in a repository that holds both."
                )
            return path_or_id, inner
        found = Path(path_or_id, inner)
        if not (found.is_dir() or component == "segmenter"):
            raise FileNotFoundError(f"{name}: `{component}` refers to '{found}', where there is no folder.")
        return found, None
    if os.path.isabs(reference):
        raise ValueError(f"{name}: `{component}` must refer to a relative path or a Hub id, got {reference!r}.")
    return reference, None
