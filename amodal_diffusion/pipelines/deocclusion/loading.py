"""Folders of scene pipelines: components in subfolders, or elsewhere by reference."""

import json
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers

from ...files import write_text
from ...hub import INDEX_NAME, PIPELINE_FILE_NAME, PipelineFolder, holds_component, write_pipeline_file
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
SETTINGS = ("min_hidden_width", "seam_width")

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
    index, path_or_id, subfolder = folder.index, folder.path_or_id, folder.subfolder
    name = f"{INDEX_NAME} of '{folder.place}'"
    references = index.get("references", {})
    if not isinstance(references, Mapping) or not all(isinstance(value, str) for value in references.values()):
        raise ValueError(f"{name}: `references` must map names of components to paths or Hub ids, got {references!r}.")
    unknown = sorted(set(references) - set(LOADERS))
    if unknown:
        raise ValueError(f"{name}: `references` names {unknown}; components are {', '.join(LOADERS)}.")
    components = {**{setting: index[setting] for setting in SETTINGS if setting in index}, **given}
    for component, loader in LOADERS.items():
        if component in given or not (component in references or holds_component(index, component)):
            continue
        where, inner = _locate(path_or_id, subfolder, component, references.get(component), name)
        elsewhere = os.fspath(where) != os.fspath(path_or_id)
        chosen = {**options, "revision": None} if elsewhere else options
        chosen = {key: value for key, value in chosen.items() if value is not None}
        components[component] = loader.from_pretrained(where, subfolder=inner, **chosen)
    missing = [component for component in _REQUIRED if component not in components]
    if missing:
        raise ValueError(f"{name} names no {' and no '.join(f'`{component}`' for component in missing)}.")
    return components


def save_scene_pipeline(
    folder: str | os.PathLike[str],
    class_name: str,
    components: Mapping[str, Any],
    settings: Mapping[str, Any],
    **options: Any,
) -> None:
    """Write all components into subfolders, `pipeline.py`, and at last the index that says that all is there.

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
        >>> save_scene_pipeline(folder, "ScenePipeline", {"segmenter": None}, {"seam_width": 2})
        >>> sorted(os.listdir(folder))
        ['model_index.json', 'pipeline.py']
    """
    if os.path.isfile(folder):
        raise ValueError(f"`save_directory` must be a folder, but '{os.fspath(folder)}' is a file.")
    os.makedirs(folder, exist_ok=True)
    index: dict[str, Any] = {
        "_class_name": [Path(PIPELINE_FILE_NAME).stem, class_name],
        "_diffusers_version": diffusers.__version__,
        **settings,
    }
    for name, component in components.items():
        if component is None:
            index[name] = [None, None]
            continue
        component.save_pretrained(Path(folder, name), **(options if name in _REQUIRED else {}))
        index[name] = [type(component).__module__.split(".")[0], type(component).__name__]
    write_pipeline_file(folder, class_name)
    write_text(Path(folder, INDEX_NAME), json.dumps(index, indent=2, sort_keys=True) + "\n")


def _locate(
    path_or_id: str | os.PathLike[str], subfolder: str | None, component: str, reference: str | None, name: str
) -> tuple[str | os.PathLike[str], str | None]:
    """Folder or Hub id of a component, and the subfolder of it there."""
    local = os.path.isdir(path_or_id)
    if reference is None or reference.startswith("."):
        inner = posixpath.normpath(posixpath.join(subfolder or "", reference or component))
        if not local:
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
