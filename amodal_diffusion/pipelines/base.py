"""What every pipeline of this package does alike: loading, saving, evaluation mode, batch sizes, progress."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeGuard, TypeVar, cast

import torch
from diffusers import DiffusionPipeline
from torch import nn

from ..arguments.choices import check_choice
from ..arguments.numeric import check_integer
from ..hub import (
    HUB_KEYS,
    INDEX_NAME,
    LIBRARIES,
    PIPELINE_FILE_NAME,
    PipelineFolder,
    check_model_index,
    check_variant,
    find_pipeline_folder,
    pipeline_output,
    write_pipeline_file,
)
from ..images import OUTPUT_TYPES
from ..runtimes import check_runtime, graphs_of, recorded_calls, use_runtime
from .contexts import evaluation_mode
from .registry import find_pipeline

# Positions (pixels of the largest maps) in one pass through the network. On a CPU two maps of 256 pixels are what stays
# in cheap memory: larger batches are slower there, smaller ones too.
_POSITIONS_CPU = 2 * 256**2
_POSITIONS_ACCELERATOR = 64 * 256**2

SAVE_OPTIONS = ("variant", "max_shard_size")
_PUSH_OPTIONS = "push_to_hub", "repo_id", "commit_message", "private", "create_pr", "token"  # as diffusers has them

# The index of the pipeline that is being loaded, so that it is read once.
_INDEX: ContextVar[dict[str, Any] | None] = ContextVar("index", default=None)

PipelineCallback = Callable[[Any, str, int, int], Any]
"""Called as `callback(pipeline, stage, done, total)` when a stage of a call begins (`done` is 0) and after every batch.

`stage` is "order" while pairs of objects are compared, "pairs" while a second network compares them, "masks" while
objects are completed, "shapes" while a second network completes them, and "contents" while their hidden parts are
filled with colour; `done` of `total` crops of that stage have gone through the network. "background" is told in
percent, with 100 as `total`. Between the steps of an inpainter it is called, too, with what is done so far. A stage
without work is not reported: a call without masks, for example, never calls back. A callback that returns False ends
the call with `CallInterruptedError`.
"""


class CallInterruptedError(RuntimeError):
    """A `callback` ended the call of a pipeline. The pipeline can be called again.

    Example:
        >>> raise CallInterruptedError("`callback` ended the call at 2 of 9 (masks).")
        Traceback (most recent call last):
            ...
        amodal_diffusion.pipelines.base.CallInterruptedError: `callback` ended the call at 2 of 9 (masks).
    """


_P = ParamSpec("_P")
_Result = TypeVar("_Result")


def named_options(call: Callable[_P, _Result]) -> Callable[_P, _Result]:
    """Decorate a method whose options are keywords: one that it does not take is refused by what it takes.

    Example:
        >>> class Painter:
        ...     @named_options
        ...     def paint(self, photo, *, colour="red"):
        ...         return colour
        >>> Painter().paint(None, color="blue")
        Traceback (most recent call last):
        TypeError: Painter.paint takes no `color`; its options are colour.
    """
    parameters = inspect.signature(call).parameters.values()
    options = ", ".join(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
    known = {one.name for one in parameters}

    @functools.wraps(call)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _Result:
        unknown = next((name for name in kwargs if name not in known), None)
        if unknown is not None:
            owner = type(args[0]).__name__
            where = owner if call.__name__ == "__call__" else f"{owner}.{call.__name__}"
            raise TypeError(f"{where} takes no `{unknown}`; its options are {options}.")
        return call(*args, **kwargs)

    return checked


def check_callback(callback: Any) -> PipelineCallback | None:
    """`callback` if it is a function or None.

    Raises:
        TypeError: otherwise.

    Example:
        >>> check_callback(None) is None
        True
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be a function or None, got {type(callback).__name__}.")
    return cast(PipelineCallback | None, callback)


def take_dtype(options: dict[str, Any]) -> torch.dtype | None:
    """Take `dtype`, or by its older name `torch_dtype`, out of the arguments of `from_pipe`; None where there is none.

    Raises:
        TypeError: what is no torch.dtype.
        ValueError: both names.

    Example:
        >>> options = {"torch_dtype": torch.bfloat16, "mask_threshold": 0.5}
        >>> take_dtype(options), options
        (torch.bfloat16, {'mask_threshold': 0.5})
    """
    given = {name: options.pop(name, None) for name in ("dtype", "torch_dtype")}
    chosen = [value for value in given.values() if value is not None]
    if len(chosen) > 1:
        raise ValueError("`dtype` must be given by this name or as `torch_dtype`, got both.")
    if chosen and not isinstance(chosen[0], torch.dtype):
        raise TypeError(f"`dtype` must be a torch.dtype, got {chosen[0]!r}.")
    return chosen[0] if chosen else None


def check_save_options(owner: str, given: Mapping[str, Any]) -> None:
    """Refuse what `save_pretrained` of the class `owner` does not take, as diffusers has it.

    Raises:
        TypeError: naming it, and the options.

    Example:
        >>> check_save_options("AmodalVAEPipeline", {"shard": 1})
        Traceback (most recent call last):
        TypeError: AmodalVAEPipeline.save_pretrained takes no `shard`; its options are variant, max_shard_size, ...
    """
    options = (*SAVE_OPTIONS, *_PUSH_OPTIONS)
    unknown = next((name for name in given if name not in options), None)
    if unknown is not None:
        names = ", ".join(options)
        raise TypeError(f"{owner}.save_pretrained takes no `{unknown}`; its options are {names}.")


class SafePipeline(DiffusionPipeline):
    """Base class of the pipelines of this package: a folder of safetensors that loads here and by diffusers itself.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> with TemporaryDirectory() as folder:
        ...     pipe.save_pretrained(folder)
        ...     loaded = AmodalVAEPipeline.from_pretrained(folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['model', 'model_index.json', 'pipeline.py']
        >>> isinstance(loaded, SafePipeline), loaded.settings == pipe.settings
        (True, True)
    """

    if TYPE_CHECKING:
        # diffusers' `ConfigMixin` has one that serves old code, by which type checkers would take every misspelt method
        # for an attribute.
        __getattr__: None  # type: ignore[misc]

    output_types: ClassVar[tuple[str, ...]] = OUTPUT_TYPES
    """The containers that a call can return."""

    @property
    def networks(self) -> list[nn.Module]:
        """The networks that this package trains."""
        raise NotImplementedError(f"{type(self).__name__} does not say which networks it has.")

    # Loading and saving

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load from a local folder or a Hub id; see `DiffusionPipeline.from_pretrained`.

        Three differences: `subfolder` names the folder of the pipeline where a folder or repository holds several;
        `runtime`, one of "torch", "onnx" and "openvino", says what computes, see `use_runtime`; and only safetensors
        are read, never pickled weights.

        Raises:
            FileNotFoundError: where there is no such folder, or it holds no `model_index.json`.
            TypeError: a `dtype` or `variant` that is none.
            ValueError: where the index is broken or of another pipeline, or `use_safetensors` is False.
            OSError: where the Hub does not give the files.
            ImportError: where the runtime is not installed.
        """
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        folder = find_pipeline_folder(pretrained_model_name_or_path, kwargs.pop("subfolder", None), **hub_options)
        cls._check_class(folder)
        return cls.from_folder(folder, **kwargs)

    @classmethod
    def from_folder(cls, folder: PipelineFolder, **kwargs: Any) -> Self:
        """Load a pipeline whose index is read already; what `from_pretrained` ends with.

        A subclass that finds components elsewhere than diffusers does puts them into `kwargs` here.

        Args:
            folder: from `find_pipeline_folder`.
            kwargs: as of `from_pretrained`, without `subfolder`.
        """
        if kwargs.pop("use_safetensors", None) is False:
            raise ValueError("`use_safetensors` must be True: pickled weights can run code when they are loaded.")
        runtime = check_runtime(kwargs.pop("runtime", "torch"))
        check_variant(kwargs.get("variant"))
        for name in ("dtype", "torch_dtype"):
            if not isinstance(kwargs.get(name), torch.dtype | dict | None):  # of which diffusers makes float32
                raise TypeError(f"`{name}` must be a torch.dtype, or a dictionary of them, got {kwargs[name]!r}.")
        cls._check_components(folder, kwargs)
        token = _INDEX.set(folder.index)
        try:
            pipeline = super().from_pretrained(folder.place, use_safetensors=True, **kwargs)
        except (ValueError, TypeError) as error:
            if folder.place in str(error):
                raise
            raise type(error)(f"'{folder.place}' cannot be loaded as {cls.__name__}: {error}") from error
        finally:
            _INDEX.reset(token)
        return pipeline.use_runtime(runtime)

    @classmethod
    def _check_class(cls, folder: PipelineFolder) -> None:
        """Refuse a folder that holds another pipeline."""
        name = folder.class_name
        if name == cls.__name__:
            return
        held = find_pipeline(name)
        if held is None:
            raise ValueError(f"'{folder.place}' holds `{name}`, which is no pipeline of amodal_diffusion.")
        if not issubclass(cls, held):
            raise ValueError(
                f"'{folder.place}' holds `{name}`, not `{cls.__name__}`: load it by `{name}.from_pretrained`, or "
                "by `AmodalPipeline.from_pretrained`, which takes every pipeline."
            )

    @classmethod
    def _check_components(cls, folder: PipelineFolder, given: dict[str, Any]) -> None:
        """Refuse an index that lacks a component that is neither given nor optional, or takes one from elsewhere.

        diffusers imports the library that an entry names; only ours, diffusers and transformers may be imported.
        """
        where = f"{INDEX_NAME} of '{folder.place}'"
        components, settings = cls._get_signature_keys(cls)
        for name in settings:
            if folder.index.get(name) == [] or isinstance(folder.index.get(name), dict):
                raise ValueError(f"{where}: `{name}` is {folder.index[name]!r:.200}.")
        for name in sorted(components):
            entry = folder.index.get(name)
            if not _is_component(entry):
                if name in folder.index or name not in {*cls._optional_components, *given}:
                    raise ValueError(f"{where} must hold `{name}` as [library, class], got {entry!r}.")
                continue
            library = entry[0]
            if library is not None and library not in LIBRARIES:
                raise ValueError(
                    f"{where}: component `{name}` comes from the library {library!r}; allowed are "
                    f"{', '.join(LIBRARIES)}."
                )

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike[str]) -> dict[str, Any]:
        """What diffusers takes for the index: the one that is read and checked already.

        Its `_class_name` is the name alone: at `["pipeline", name]` diffusers would want to run `pipeline.py`.
        """
        index = _INDEX.get()
        return (
            check_model_index(super()._dict_from_json_file(json_file), f"'{json_file}'") if index is None else {**index}
        )

    def to_json_string(self) -> str:
        """The content of `model_index.json`, whose `_class_name` tells plain diffusers to look into `pipeline.py`."""
        index = json.loads(super().to_json_string())
        index["_class_name"] = [Path(PIPELINE_FILE_NAME).stem, type(self).__name__]
        return json.dumps(index, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Self:
        """A pipeline with the components and settings of another one in memory, and other settings where given.

        The components are the same objects, so without `dtype` their weights keep dtype and device. With it, the
        networks of both pipelines are converted, as in diffusers (where they become float32 without it): for two
        dtypes, give a `copy.deepcopy` of `pipeline`.

        Args:
            pipeline: one of this class or of a base class of it.
            kwargs: components and settings by name, which take the place of those of `pipeline`; `dtype` (diffusers'
                older name, `torch_dtype`, does too).

        Raises:
            TypeError: another pipeline, or a `dtype` that is none.
            ValueError: both names of the dtype.
        """
        if not isinstance(pipeline, SafePipeline) or not issubclass(cls, type(pipeline)):
            raise TypeError(f"`pipeline` must be of {cls.__name__}, got {type(pipeline).__name__}.")
        dtype = take_dtype(kwargs)
        made = cls(**{**pipeline.components, **pipeline.settings, **kwargs})
        return made if dtype is None else made.to(dtype=dtype)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the pipeline by name, as `model_index.json` has them."""
        _, names = self._get_signature_keys(self)
        return {name: self.config[name] for name in names}

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Save the components, `model_index.json` and the `pipeline.py` that lets diffusers load the folder by itself.

        They appear together, in place of those of an earlier pipeline; other files in the folder stay.
        `push_to_hub(repo_id)`, and `push_to_hub=True` here, publish the same files.

        Args:
            save_directory: folder, made where it is missing.
            safe_serialization: only True: weights are written as safetensors.
            kwargs: see `DiffusionPipeline.save_pretrained`.

        Raises:
            ValueError: where `safe_serialization` is False or `save_directory` is a file.
            TypeError: an option that diffusers does not take, which it would pass over in silence.
        """
        if not safe_serialization:
            raise ValueError("`safe_serialization` must be True: pickled weights can run code when they are loaded.")
        check_save_options(type(self).__name__, kwargs)
        package = type(self).__module__.split(".")[0]
        module = package if package == __name__.split(".")[0] else type(self).__module__
        with pipeline_output(save_directory, self.components, kwargs.get("variant")) as staged:
            write_pipeline_file(staged, type(self).__name__, module)
            super().save_pretrained(os.fspath(staged), safe_serialization=True, **kwargs)

    def use_runtime(self, runtime: str, *, calibration: Callable[[], Any] | None = None) -> Self:
        """Let an engine answer for the networks of this package, or torch again; see `runtimes.use_runtime`.

        They stay what they are: the pipeline is called, saved, published, moved and copied as ever. A saved folder does
        not say what computed; loading says it again.

        Args:
            runtime: "torch", "onnx" (ONNX Runtime) or "openvino".
            calibration: given, an engine computes in 8 bits. It is called once and has to call the pipeline, while
                torch answers, on a few typical photos: what the networks are given there sets the ranges of numbers.

        Raises:
            ValueError: another name; a calibration without an engine, or one that does not reach every network.
            TypeError: a calibration that is no function.
            ImportError: naming the extra that is not installed.
        """
        check_runtime(runtime)
        if calibration is None:
            for network in self.networks:
                use_runtime(network, runtime)
            return self
        if not callable(calibration):
            raise TypeError(f"`calibration` must be a function or None, got {type(calibration).__name__}.")
        if runtime == "torch":
            raise ValueError("`calibration` must be None where torch computes.")
        with recorded_calls(self.networks) as found:
            calibration()
        for network, calls in zip(self.networks, found, strict=True):  # all, before the first one changes
            if not graphs_of(network).keys() <= calls.keys():
                raise ValueError(f"`calibration` must call the pipeline so that {type(network).__name__} is asked.")
        for network, calls in zip(self.networks, found, strict=True):
            use_runtime(network, runtime, calls)
        return self

    def prepare(self, device: str | torch.device) -> Self:
        """Make ready for a run over many photos: on its device, in the faster memory layout, without progress bars."""
        self.to(device)
        for network in self.networks:
            # Convolutions are a third to a half faster in this layout.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.set_progress_bar_config(disable=True)
        return self

    def check_call(self, batch_size: Any, output_type: Any, side: int) -> int:
        """The batch size to use: the caller's, or what suits the device and the side of the network's largest maps."""
        check_choice("output_type", output_type, self.output_types)
        if batch_size is not None:
            return check_integer("batch_size", batch_size, 1)
        positions = _POSITIONS_CPU if self._execution_device.type == "cpu" else _POSITIONS_ACCELERATOR
        return max(1, positions // side**2)

    def evaluation_mode(self) -> AbstractContextManager[None]:
        """Batch norm and dropout of the networks as at inference inside of the block, as they were after it."""
        return evaluation_mode(*self.networks)

    @contextmanager
    def progress(self, stage: str, total: int, callback: PipelineCallback | None) -> Iterator[Callable[[int], None]]:
        """A progress bar, and a function that tells it and the callback how many more crops are done.

        Raises:
            CallInterruptedError: at the beginning or by that function, where the callback returns False.
        """
        done = 0
        if total:
            self.report(callback, stage, done, total)
        with self.progress_bar(total=total) as bar:
            bar.set_description(stage, refresh=False)

            def advance(count: int) -> None:
                nonlocal done
                done += count
                bar.update(count)
                self.report(callback, stage, done, total)

            yield advance

    def report(self, callback: PipelineCallback | None, stage: str, done: int, total: int) -> None:
        """Tell the callback how far a call is.

        Raises:
            CallInterruptedError: where the callback returns False.
        """
        if callback is not None and callback(self, stage, done, total) is False:
            raise CallInterruptedError(f"`callback` ended the call at {done} of {total} ({stage}).")

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        """As in diffusers, but a bar appears only where the work takes more than three seconds."""
        config = getattr(self, "_progress_bar_config", {})
        self._progress_bar_config = {"delay": 3, "leave": False, **config}
        return super().progress_bar(iterable, total)


def _is_component(entry: Any) -> TypeGuard[Sequence[str | None]]:
    """Whether an entry of an index has the form [library, class]."""
    pair = isinstance(entry, list | tuple) and len(entry) == 2
    return pair and all(part is None or isinstance(part, str) for part in entry)
