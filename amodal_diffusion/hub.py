"""Folders of saved pipelines, here and on the Hub: finding them, reading their index, publishing them."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .display import describe
from .files import atomic_folder, check_path, check_replaced, read_json, write_text

INDEX_NAME = "model_index.json"
PIPELINE_FILE_NAME = "pipeline.py"
RECIPE_NAME = "recipe.json"
"""In a folder that says how a pipeline is made, without its weights."""
ONNX_DESCRIPTION_NAME = "onnx.json"
"""In a folder of ONNX files for other programs."""

LIBRARIES = ("amodal_diffusion", "diffusers", "transformers")
HUB_KEYS = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision")

_HUB_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
_FILE_SUFFIXES = (".json", ".parquet")
_PIPELINE_LINE = re.compile(r"from [\w.]+ import \w+  # noqa: F401\n")  # what `write_pipeline_file` writes


# Ids


def is_hub_id(path: str | os.PathLike[str], *, with_owner: bool = True) -> bool:
    """Whether a text has the form of a Hub id and names nothing that lies here.

    Args:
        path: a path is never a Hub id, nor is a text that ends as the name of a JSON or Parquet file.
        with_owner: only "owner/name"; False takes a "name" alone too, as the oldest repositories have it.

    Example:
        >>> is_hub_id("org/name"), is_hub_id("org/name.json"), is_hub_id("name"), is_hub_id("./name")
        (True, False, False, False)
    """
    if not isinstance(path, str) or _HUB_ID.fullmatch(path) is None or ("/" not in path and with_owner):
        return False
    return not path.lower().endswith(_FILE_SUFFIXES) and not os.path.exists(path)


def check_hub_id(path_or_id: str | os.PathLike[str], expected: str = "the folder of a saved pipeline") -> None:
    """Refuse what is no folder and cannot be a Hub id, before the network is asked for it.

    Args:
        path_or_id: what a user gave and is no folder here.
        expected: what it should have been, for the error.

    Raises:
        FileNotFoundError: a path or another text that is no Hub id.
        ValueError: the path of a file.

    Example:
        >>> check_hub_id("org/name")
        >>> check_hub_id("./gone")
        Traceback (most recent call last):
        FileNotFoundError: There is no folder './gone', and it is no Hub id of the form 'organisation/name'.
    """
    text = os.fspath(path_or_id)
    if os.path.isfile(text):
        raise ValueError(f"'{text}' is a file; expected {expected} or a Hub id.")
    if not isinstance(path_or_id, str) or _HUB_ID.fullmatch(text) is None:
        raise FileNotFoundError(f"There is no folder '{text}', and it is no Hub id of the form 'organisation/name'.")


def check_repo_id(repo_id: str, *, with_owner: bool = True) -> None:
    """Refuse what is no id of a repository to publish to.

    Args:
        repo_id: "user/name".
        with_owner: False takes a "name" alone too, in one's own namespace.

    Raises:
        ValueError: not of that form.

    Example:
        >>> check_repo_id("me/cups")
    """
    if not isinstance(repo_id, str) or ("/" not in repo_id and with_owner) or _HUB_ID.fullmatch(repo_id) is None:
        raise ValueError(f"`repo_id` must be of the form 'user/name', got {repo_id!r}.")


# Folders and their index


@dataclass(frozen=True)
class PipelineFolder:
    """A saved pipeline whose index is read; made by `find_pipeline_folder`.

    Attributes:
        place: the folder of the pipeline, or the Hub id of a repository that has it at its root.
        index: the checked `model_index.json`.
        path_or_id: the folder or Hub id that the user gave.
        subfolder: the subfolder that the user gave.

    Example:
        >>> PipelineFolder("org/name", {"_class_name": "ASBUPipeline"}, "org/name").class_name
        'ASBUPipeline'
    """

    place: str
    index: dict[str, Any]
    path_or_id: str | os.PathLike[str]
    subfolder: str | None = None

    @property
    def class_name(self) -> str:
        """Name of the class of the pipeline."""
        return str(self.index["_class_name"])


def find_pipeline_folder(
    path_or_id: str | os.PathLike[str], subfolder: str | None = None, **hub_options: Any
) -> PipelineFolder:
    """Find a saved pipeline here or on the Hub, and read its index.

    Args:
        path_or_id: a local folder or a Hub id such as "org/name".
        subfolder: of the folder or repository.
        hub_options: see `HUB_KEYS`.

    Raises:
        TypeError: `path_or_id` is neither a text nor a path.
        FileNotFoundError, ValueError, OSError: as `resolve_subfolder` and `read_model_index` say.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "model_index.json").write_text('{"_class_name": "ASBUPipeline"}')
        ...     find_pipeline_folder(folder).class_name
        'ASBUPipeline'
    """
    if not isinstance(path_or_id, str | os.PathLike):
        raise TypeError(f"`pretrained_model_name_or_path` must be a folder or a Hub id, got {path_or_id!r}.")
    place = resolve_subfolder(path_or_id, subfolder, **hub_options)
    return PipelineFolder(place, read_model_index(place, **hub_options), path_or_id, subfolder)


def resolve_subfolder(path_or_id: str | os.PathLike[str], subfolder: str | None, **hub_options: Any) -> str:
    """The pipeline folder `subfolder` of a local folder or of a Hub repository, which is downloaded if need be.

    diffusers loads pipelines from the root of a repository only. Of a repository, only configuration files, safetensors
    and `pipeline.py` are downloaded.

    Args:
        path_or_id: a local folder or a Hub id.
        subfolder: relative path with "/" between its parts; None gives `path_or_id` back as it is.
        hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

    Raises:
        FileNotFoundError: no such folder, and no Hub id either; a local folder without `subfolder`.
        ValueError: where `subfolder` leaves the repository.
        OSError: where the Hub does not give the files.

    Example:
        >>> resolve_subfolder("org/name", None)
        'org/name'
    """
    if subfolder is None:
        return os.fspath(path_or_id)
    parts = Path(subfolder).parts
    if not parts or Path(subfolder).is_absolute() or ".." in parts:
        raise ValueError(f"`subfolder` must be a relative path inside of the repository, got {subfolder!r}.")
    if os.path.isdir(path_or_id):
        if not Path(path_or_id, subfolder).is_dir():
            raise FileNotFoundError(f"The folder '{os.fspath(path_or_id)}' holds no `subfolder` {subfolder!r}.")
        return str(Path(path_or_id, subfolder))
    check_hub_id(path_or_id)
    prefix = "/".join(parts)
    patterns = [f"{prefix}/{name}" for name in ("*.json", "*.safetensors", "*.txt", PIPELINE_FILE_NAME)]
    options = {key: value for key, value in hub_options.items() if value is not None and key != "proxies"}
    try:
        folder = snapshot_download(os.fspath(path_or_id), allow_patterns=patterns, **options)
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise _not_found(os.fspath(path_or_id), error) from error
    return str(Path(folder, subfolder))


def read_model_index(path_or_id: str | os.PathLike[str], **hub_options: Any) -> dict[str, Any]:
    """The checked `model_index.json` of a local folder or a Hub repository.

    Args:
        path_or_id: a local folder or a Hub id such as "org/name".
        hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`, `proxies`.

    Returns:
        The index; `_class_name` is the name of the class, also where the file says `["pipeline", name]`.

    Raises:
        FileNotFoundError: where there is no such folder, or it holds no `model_index.json`.
        ValueError: where the index is no JSON object or names no class.
        OSError: where the Hub does not give the file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "model_index.json").write_text('{"_class_name": ["pipeline", "ASBUPipeline"]}')
        ...     read_model_index(folder)
        {'_class_name': 'ASBUPipeline'}
    """
    text = os.fspath(path_or_id)
    if os.path.isdir(text):
        path = Path(text, INDEX_NAME)
        if not path.is_file():
            raise FileNotFoundError(f"The folder '{text}' holds no {INDEX_NAME}{_what_else(text)}.")
        name = f"'{path}'"
    else:
        path = download_file(path_or_id, INDEX_NAME, **hub_options)
        name = f"{INDEX_NAME} of {text!r}"
    return check_model_index(read_json(path, name), name)


def check_model_index(index: Any, name: str) -> dict[str, Any]:
    """Refuse an index that is no JSON object or names no class; its components are the class's to check.

    Args:
        index: the parsed content of a `model_index.json`.
        name: how errors call it.

    Returns:
        A copy in which `_class_name` is the name of the class alone.

    Raises:
        ValueError: as above.

    Example:
        >>> check_model_index({"_class_name": "ASBUPipeline"}, "the index")
        {'_class_name': 'ASBUPipeline'}
    """
    if not isinstance(index, Mapping):
        raise ValueError(f"{name} must hold a JSON object, got {type(index).__name__}.")
    class_name = index.get("_class_name")
    if isinstance(class_name, Sequence) and len(class_name) == 2 and class_name[0] == Path(PIPELINE_FILE_NAME).stem:
        class_name = class_name[1]  # how diffusers is told that the class is in `pipeline.py`
    if not isinstance(class_name, str) or not class_name:
        raise ValueError(f"{name}: `_class_name` must be the name of a pipeline class, got {class_name!r}.")
    return {**index, "_class_name": class_name}


def holds_component(index: Mapping[str, Any], name: str) -> bool:
    """Whether a folder holds a component, by its index.

    Example:
        >>> holds_component({"model": ["amodal_diffusion", "PCNetMask"], "inpainter": [None, None]}, "inpainter")
        False
    """
    entry = index.get(name)
    return isinstance(entry, list | tuple) and len(entry) == 2 and entry[1] is not None


def download_file(path_or_id: str | os.PathLike[str], name: str, **hub_options: Any) -> Path:
    """A file of a Hub repository, from the cache where the Hub cannot be reached, which is found out at once.

    Args:
        path_or_id: a Hub id such as "org/name".
        name: of the file, within the repository.
        hub_options: as `read_model_index` takes them.

    Raises:
        FileNotFoundError: `path_or_id` cannot be a Hub id.
        OSError: neither the Hub nor the cache gives the file, and why.

    Example:
        >>> download_file("./nowhere", "config.json")
        Traceback (most recent call last):
        FileNotFoundError: There is no folder './nowhere', and it is no Hub id of the form 'organisation/name'.
    """
    check_hub_id(path_or_id)
    repo_id = os.fspath(path_or_id)
    options = {key: value for key, value in hub_options.items() if value is not None}
    reason: Exception | None = None
    if not options.get("local_files_only"):
        # `hf_hub_download` tries for 23 seconds to reach a Hub that cannot be reached; this asks once.
        url = hf_hub_url(repo_id, name, revision=options.get("revision"))
        try:
            get_hf_file_metadata(url, token=options.get("token"))
        except (RevisionNotFoundError, EntryNotFoundError) as error:
            raise _not_found(repo_id, error, name) from error
        except Exception as error:  # the Hub's refusals, and whatever the HTTP library has for a network that is gone
            reason = error
            options = {**options, "local_files_only": True, "force_download": False}
    try:
        return Path(hf_hub_download(repo_id, name, **options))
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise _not_found(repo_id, reason or error, name) from error


def _not_found(repo_id: str, error: Exception, name: str = INDEX_NAME) -> OSError:
    """The error for a name that is no folder here, with what the Hub has to say of it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        problem = "the Hub lets only those read the repository of that name who accepted its terms and give a `token`"
    elif isinstance(error, RepositoryNotFoundError):
        problem = "the Hub has no repository of that name that is public or that `token` may read"
    elif isinstance(error, RevisionNotFoundError):
        problem = "the Hub's repository of that name has no such `revision`"
    elif isinstance(error, LocalEntryNotFoundError):
        problem = "the Hub may not be asked (offline mode or `local_files_only`) and the cache does not hold it"
    elif isinstance(error, EntryNotFoundError):
        problem = f"the Hub's repository of that name holds no {name}"
        problem += ", so it is no saved pipeline" * (name == INDEX_NAME)
    elif isinstance(error, HfHubHTTPError) and status is not None:
        problem = f"the Hub answers {status} for the repository of that name"
    else:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = f"the Hub cannot be reached for a repository of that name ({first}), nor does the cache hold it"
    return OSError(f"There is no folder '{repo_id}' here, and {problem}.")


def _what_else(folder: str) -> str:
    """What a folder without index is, as the rest of the sentence."""
    if os.path.isfile(os.path.join(folder, RECIPE_NAME)):
        return (
            f": it is a recipe without weights ({RECIPE_NAME}). Its README.md says how to train or convert the "
            "pipeline; load the folder that comes of it"
        )
    if os.path.isfile(os.path.join(folder, ONNX_DESCRIPTION_NAME)):
        return (
            f": it holds ONNX files for other programs ({ONNX_DESCRIPTION_NAME}). Load the pipeline of which they were "
            'made, with runtime="onnx"'
        )
    return ", so it is no saved pipeline"


# Writing and publishing


@contextmanager
def pipeline_output(folder: str | os.PathLike[str], components: Iterable[str], variant: Any = None) -> Iterator[Path]:
    """A temporary folder for a pipeline, whose files take the place of an earlier one's when the block ends well.

    Args:
        folder: made where it lacks; what is no part of a pipeline stays in it. Where it holds no pipeline yet, so does
            what is in subfolders of these names, as diffusers has it.
        components: their names, as those of their subfolders.
        variant: of the weights that are written; those of others then stay.

    Raises:
        TypeError, ValueError: `folder` is no path, or a file; `variant` is none.
        FileExistsError: `folder` holds no pipeline and a file of such a name, such as another `pipeline.py`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "notes.txt").touch()
        >>> with pipeline_output(folder, ["model"]) as staged:
        ...     (staged / "model").mkdir()
        >>> sorted(path.name for path in folder.iterdir())
        ['model', 'notes.txt']
    """
    folder, names = check_path(folder, "save_directory"), [*components]
    check_variant(variant)
    if folder.is_file():
        raise ValueError(f"`save_directory` must be a folder, but '{folder}' is a file.")
    is_pipeline = (folder / INDEX_NAME).is_file()
    if not is_pipeline:
        own = [name for name in names if (folder / name).is_dir()]
        own += [PIPELINE_FILE_NAME] if _is_pipeline_file(folder / PIPELINE_FILE_NAME) else []
        check_replaced(folder, [*names, PIPELINE_FILE_NAME], own)
    with atomic_folder(folder, replaces=(*names, PIPELINE_FILE_NAME, INDEX_NAME)) as staged:
        for name in names if variant is not None or not is_pipeline else []:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, staged / name)
        yield staged


def check_variant(variant: Any) -> str | None:
    """`variant` where it can be a part of the names of weights, as "fp16", or None.

    Raises:
        TypeError, ValueError: otherwise, naming it.

    Example:
        >>> check_variant("fp16")
        'fp16'
    """
    if variant is None:
        return None
    if not isinstance(variant, str):
        raise TypeError(f"`variant` must be a text such as 'fp16', or None, got {describe(variant)}.")
    if not re.fullmatch(r"[\w.+-]+", variant):
        raise ValueError(f"`variant` must be of letters, digits and '_.+-', such as 'fp16', got {describe(variant)}.")
    return variant


def _is_pipeline_file(path: Path) -> bool:
    try:
        return _PIPELINE_LINE.fullmatch(path.read_text(encoding="utf-8")) is not None
    except (OSError, ValueError):
        return False


def write_pipeline_file(folder: str | os.PathLike[str], class_name: str, module: str = "amodal_diffusion") -> Path:
    r"""Write the one-line `pipeline.py` that makes `folder` loadable by diffusers itself.

    Plain `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` finds the class in that file.

    Args:
        folder: an existing folder.
        class_name: name of a pipeline class.
        module: where it is imported from.

    Returns:
        The path of the file.

    Raises:
        ValueError: where `class_name` is no Python identifier, or `module` no name of a module.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_pipeline_file(folder, "ASBUPipeline").read_text()
        'from amodal_diffusion import ASBUPipeline  # noqa: F401\n'
    """
    if not class_name.isidentifier():
        raise ValueError(f"`class_name` must be a Python identifier, got {class_name!r}.")
    if not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"`module` must be the name of a module, got {module!r}.")
    path = Path(folder) / PIPELINE_FILE_NAME
    write_text(path, f"from {module} import {class_name}  # noqa: F401\n")
    return path


def push_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload with amodal_diffusion",
    allow: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    delete: Sequence[str] | None = None,
) -> str:
    """Publish the files of a folder in one commit; the repository is made where it does not exist.

    Args:
        folder: what to publish.
        repo_id: "user/name", or a "name" alone in one's own namespace.
        repo_type: "model" or "dataset".
        private: make the repository private where it is made.
        token: access token; the stored one where None.
        revision: branch to commit to.
        message: of the commit.
        allow: patterns of the files to publish; None takes all.
        ignore: patterns of the files to leave out.
        delete: patterns of files of an earlier push that are deleted.

    Returns:
        URL of the commit.

    Raises:
        ValueError: `repo_id` is no Hub id.

    Example:
        >>> push_folder("out", "me/my cups")
        Traceback (most recent call last):
            ...
        ValueError: `repo_id` must be of the form 'user/name', got 'me/my cups'.
    """
    check_repo_id(repo_id, with_owner=False)
    api = HfApi(token=token)
    full_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
    commit = api.upload_folder(
        repo_id=full_id,
        repo_type=repo_type,
        folder_path=os.fspath(folder),
        revision=revision,
        commit_message=message,
        allow_patterns=None if allow is None else list(allow),
        ignore_patterns=None if ignore is None else list(ignore),
        delete_patterns=None if delete is None else list(delete),
    )
    return str(commit.commit_url)
