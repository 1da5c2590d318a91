"""Folders of saved pipelines, here and on the Hub: reading their index, checking it, making them complete."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download

from .files import write_text

INDEX_NAME = "model_index.json"
PIPELINE_FILE_NAME = "pipeline.py"
LIBRARIES = ("amodal_diffusion", "diffusers", "transformers")
HUB_KEYS = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision")


def write_pipeline_file(folder: str | os.PathLike[str], class_name: str) -> Path:
    """Write the one-line `pipeline.py` that makes `folder` loadable by diffusers itself.

    Plain `DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)` looks for exactly
    one pipeline class in that file.

    Args:
        folder: an existing folder.
        class_name: name of a pipeline class that `amodal_diffusion` exports.

    Returns:
        The path of the file.

    Raises:
        ValueError: where `class_name` is no Python identifier.
    """
    if not class_name.isidentifier():
        raise ValueError(f"`class_name` must be a Python identifier, got {class_name!r}.")
    path = Path(folder) / PIPELINE_FILE_NAME
    write_text(path, f"from amodal_diffusion import {class_name}  # noqa: F401\n")
    return path


def resolve_subfolder(path_or_id: str | os.PathLike[str], subfolder: str | None, **hub_options: Any) -> str:
    """The pipeline folder `subfolder` of a local folder or of a Hub repository, which is downloaded if need be.

    diffusers loads pipelines from the root of a repository only. Of a repository, only configuration files, safetensors
    and `pipeline.py` are downloaded.

    Args:
        path_or_id: a local folder or a Hub id.
        subfolder: relative path with "/" between its parts; None gives `path_or_id` back as it is.
        hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

    Raises:
        ValueError: where `subfolder` leaves the repository.
    """
    if subfolder is None:
        return os.fspath(path_or_id)
    parts = Path(subfolder).parts
    if not parts or Path(subfolder).is_absolute() or ".." in parts:
        raise ValueError(f"`subfolder` must be a relative path inside of the repository, got {subfolder!r}.")
    if os.path.isdir(path_or_id):
        return str(Path(path_or_id, subfolder))
    check_repo_id(path_or_id)
    prefix = "/".join(parts)
    patterns = [f"{prefix}/{name}" for name in ("*.json", "*.safetensors", "*.txt", PIPELINE_FILE_NAME)]
    options = {key: value for key, value in hub_options.items() if value is not None and key != "proxies"}
    folder = snapshot_download(os.fspath(path_or_id), allow_patterns=patterns, **options)
    return str(Path(folder, subfolder))


def read_model_index(path_or_id: str | os.PathLike[str], **hub_options: Any) -> dict[str, Any]:
    """The checked `model_index.json` of a local folder or a Hub repository.

    Args:
        path_or_id: a local folder or a Hub id such as "org/name".
        hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`, `proxies`.

    Raises:
        FileNotFoundError: where there is no such folder, or it holds no `model_index.json`.
        ValueError: where the index is no JSON object, names no class, or names a library that is none of ours.
        OSError: where the Hub does not give the file.
    """
    folder = Path(path_or_id)
    if not folder.is_dir():
        check_repo_id(path_or_id)
        options = {key: value for key, value in hub_options.items() if value is not None}
        index = DiffusionPipeline.load_config(os.fspath(path_or_id), **options)
        return check_model_index(index, f"{INDEX_NAME} of {os.fspath(path_or_id)!r}")
    path = folder / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"The folder '{folder}' holds no {INDEX_NAME}, so it is no saved pipeline.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not valid JSON: {error}") from error
    return check_model_index(index, f"'{path}'")


def check_model_index(index: Any, name: str) -> dict[str, Any]:
    """Refuse an index that names no class, or a component from a library other than ours, diffusers and transformers.

    Args:
        index: the parsed content of a `model_index.json`.
        name: how errors call it.

    Raises:
        ValueError: as above.
    """
    if not isinstance(index, Mapping):
        raise ValueError(f"{name} must hold a JSON object, got {type(index).__name__}.")
    class_name = index.get("_class_name")
    if not isinstance(class_name, str) or not class_name:
        raise ValueError(f"{name}: `_class_name` must be the name of a pipeline class, got {class_name!r}.")
    for component, value in index.items():
        if component.startswith("_") or not isinstance(value, list | tuple):
            continue
        library = value[0] if value else None
        if library is not None and library not in LIBRARIES:
            raise ValueError(
                f"{name}: component `{component}` comes from the library {library!r}; "
                f"allowed are {', '.join(LIBRARIES)}."
            )
    return dict(index)


def check_repo_id(path_or_id: str | os.PathLike[str]) -> None:
    """Refuse what cannot be a Hub id, with the error of a missing folder instead of one about the network.

    Raises:
        FileNotFoundError: a path or another text that is no Hub id.
        ValueError: the path of a file.
    """
    text = os.fspath(path_or_id)
    if os.path.isfile(text):
        raise ValueError(f"'{text}' is a file; expected the folder of a saved pipeline or a Hub id.")
    if (
        not isinstance(path_or_id, str)
        or text.count("/") > 1
        or text.startswith((".", "/", "~", "\\"))
        or not text.strip()
    ):
        raise FileNotFoundError(f"There is no folder '{text}', and it is no Hub id of the form 'organisation/name'.")
