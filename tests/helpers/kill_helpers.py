"""Killing a writer at every step that changes a folder."""

import os
import signal
import sys

import torch

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "open")


def killed_at_every_step(action, before_each=lambda: None, limit=500):
    """Run `action` in processes that are killed before their first change of a file or folder, their second, and so on.

    Yields after each, with the number of changes that were made, and ends when the action has come to its end.
    """
    for steps in range(limit):
        before_each()
        child = os.fork()
        if not child:
            torch.set_num_threads(1)  # threads do not survive a fork
            _die_after(steps)
            try:
                action()
            finally:
                os._exit(0 if sys.exc_info()[0] is None else 1)
        status = os.waitpid(child, 0)[1]
        assert not os.WIFSIGNALED(status) or os.WTERMSIG(status) == signal.SIGKILL, status
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the action failed"
            return
        yield steps
    raise AssertionError(f"more than {limit} steps")


def _die_after(steps):
    left = steps

    def watch(event, arguments):
        nonlocal left
        if event not in CHANGES or (event == "open" and not _writes(arguments)):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(watch)


def _writes(arguments):
    path, _, flags = arguments
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and not str(path).startswith("/dev/")


def tree(folder):
    """All files of a folder with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
