"""How a script is run: a user's error is one line on stderr and exit code 2, a fault of ours keeps its trace."""

import linecache
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import amodal_diffusion

_OURS = (Path(amodal_diffusion.__file__).resolve().parent, Path(__file__).resolve().parents[1])


def run(main: Callable[[], None]) -> None:
    """Call the `main` of a script; `--debug` on its command line shows the trace of every error.

    A user's error is a path that cannot be opened, a package that is missing, memory that does not suffice, or what
    this project raises by name.
    """
    try:
        main()
    except Exception as error:
        if "--debug" in sys.argv[1:] or not is_users(error):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        if is_memory(error):
            message = f"out of memory; a smaller `--train_batch_size` or a smaller network needs less ({message})"
        sys.stderr.write(f"{Path(sys.argv[0]).name}: error: {message}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def is_users(error: Exception) -> bool:
    """Whether the user can mend it: of errors in general, those that a `raise` of this project made."""
    if isinstance(error, OSError | ImportError) or is_memory(error):
        return True
    if not isinstance(error, ValueError | TypeError | ArithmeticError | RuntimeError) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    file = Path(last.tb_frame.f_code.co_filename).resolve()
    line = linecache.getline(str(file), last.tb_lineno).strip()
    return line.startswith("raise") and any(file.is_relative_to(folder) for folder in _OURS)


def is_memory(error: Exception) -> bool:
    """Whether a run asked for more memory than there is; on the CPU torch has no class for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
