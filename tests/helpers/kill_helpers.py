"""Killing a writer at every step that changes a folder, and filling the disk under it.

Most tests kill in-process: from one step on, every further change raises `Killed`, which no handler of the package
takes, so nothing changes any more, as after SIGKILL. That costs a hundredth of a process for each step.
"""

import os
import resource
import signal
import sys
from contextlib import contextmanager
from unittest.mock import patch

import torch

from amodal_diffusion import files

CREATES = ("os.mkdir", "os.link", "os.symlink", "open")
CHANGES = (*CREATES, "os.rename", "os.remove", "os.rmdir", "os.truncate")


class Killed(BaseException):
    """Not an `Exception`: no handler of the package takes it."""


def killed_at_every_step(action, before_each=lambda: None, stride=1, first=0, limit=500):
    """Run `action` until it would make its first change of a file or folder, its second, and so on.

    Yields after each, with the number of changes that were made, and ends when the action has come to its end.
    """
    for steps in range(first, limit, stride):
        _quickly(before_each)
        with _without_sync(), _steps(CHANGES, steps, Killed) as counter:
            try:
                action()
            except Killed:
                pass
            else:
                assert counter.left >= 0, "the action took no notice of being killed"
                return
        yield steps
    raise AssertionError(f"more than {limit} steps")


def full_disk_at_every_step(action, before_each=lambda: None, stride=1, first=0, limit=500):
    """Likewise with a disk that is full from a step on: nothing can be made, what there is can be renamed and removed.

    Yields the error, or None where the action got along without what it could not do.
    """
    for steps in range(first, limit, stride):
        _quickly(before_each)
        with _without_sync(), _steps(CREATES, steps, lambda: OSError(28, "No space left on device")) as counter:
            try:
                action()
                error = None
            except OSError as caught:
                error = caught
        if error is None and counter.left >= 0:
            return
        yield error
    raise AssertionError(f"more than {limit} steps")


def full_files(action, before_each=lambda: None, stride=1, largest=2**24):
    """Run `action` where no file may become larger than 0 bytes, 1, 7, and so on, also those that C code writes.

    Yields the error of each that fails.
    """
    size = 0
    while size < largest:
        _quickly(before_each)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            action()
            return
        except Exception as error:  # noqa: BLE001 - what a library makes of it differs
            caught = error
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        yield caught
        size = size * (2 + 4 * stride) + 1
    raise AssertionError(f"a file has more than {largest} bytes")


def really_killed_at_every_step(action, before_each=lambda: None, limit=500):
    """As `killed_at_every_step`, by SIGKILL of processes of their own."""
    for steps in range(limit):
        _quickly(before_each)
        child = os.fork()
        if not child:
            torch.set_num_threads(1)  # threads do not survive a fork
            try:
                with _steps(CHANGES, steps, lambda: os.kill(os.getpid(), signal.SIGKILL)):
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


class _Counter:
    """Counts the changes that are left before `ending` comes; in force only while it is `active`."""

    active = None
    hooked = False

    def __init__(self, events, steps, ending):
        self.events, self.left, self.ending = events, steps, ending

    def step(self):
        self.left -= 1
        if self.left < 0:
            self.left = -1
            raise self.ending()

    @classmethod
    def watch(cls, event, arguments):
        counter = cls.active
        if counter is None or event not in counter.events or (event == "open" and not _writes(arguments)):
            return
        counter.step()


@contextmanager
def _steps(events, steps, ending):
    if not _Counter.hooked:  # such hooks stay as long as the process
        _Counter.hooked = True
        sys.addaudithook(_Counter.watch)
    counter, exchange = _Counter(events, steps, ending), files._exchange

    def watched(first, second):
        if "os.rename" in events:
            counter.step()
        return exchange(first, second)

    with patch.object(files, "_exchange", watched):
        _Counter.active = counter
        try:
            yield counter
        finally:
            _Counter.active = None


def _quickly(action):
    with _without_sync():
        action()


def _without_sync():
    """What is killed here was written already; waiting for the disk would be most of a test."""
    return patch.object(os, "fsync", lambda handle: None)


def _writes(arguments):
    path, _, flags = arguments
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and not str(path).startswith("/dev/")


def tree(folder):
    """All files of a folder with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
