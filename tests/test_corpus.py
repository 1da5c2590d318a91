"""Malformed inputs: no raw trace, no wrong value, no hang, no gigabyte, no half of a file."""

import logging
import resource
import signal
import time
import warnings
from collections import Counter

import pytest

from amodal_diffusion import files
from corpus import make_corpus

SECONDS, BYTES = 20, 2**30
SHARE = 12
"""`make test` takes one case of so many, `make test-slow` all."""
_USERS = (ValueError, TypeError, OSError)
"""What a user's mistake raises; other errors are ours."""


class Hang(BaseException):
    pass


def faults_of(case, folder):
    """What is wrong with how a case ended; None where all is well."""
    folder.mkdir()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()

    def stop(*_):
        raise Hang

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    logging.disable(logging.CRITICAL)  # what is logged has names that a report of pytest cannot carry
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = case.call(folder)
            signal.alarm(0)
            case.check(result)
        fault = "silent" if case.refused else None
        detail = "it was read"
    except _USERS as error:
        detail = " ".join(str(error).split())[:300]
        named = not case.names or any(name in detail for name in (*case.names, str(folder)))
        # A codec says neither what it could not write nor where that came from.
        raw = isinstance(error, UnicodeError) or not detail or type(error).__module__ == "json.decoder"
        fault = "raw" if raw else None if named else "unnamed"
        detail = f"{type(error).__name__}: {detail}"
    except AssertionError as error:
        fault, detail = "wrong", f"{error}"[:400]
    except Hang:
        fault, detail = "hang", f"{SECONDS} s"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        fault, detail = "raw", f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        logging.disable(logging.NOTSET)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if fault is None and grown > BYTES:
        fault, detail = "memory", f"{grown / 2**30:.1f} GB"
    if fault is None and (half := [path for path in folder.rglob(f"{files.PARTIAL}*")]):
        fault, detail = "half", str(half[0])
    return (
        None if fault is None else (fault, f"{case.kind}: {case.name}: {detail} ({time.monotonic() - started:.1f} s)")
    )


def check_all(cases, tmp_path):
    faults = [fault for number, case in enumerate(cases) if (fault := faults_of(case, tmp_path / str(number)))]
    counts = Counter(kind for kind, _ in faults)
    assert not faults, f"{dict(counts)} of {len(cases)}\n" + "\n".join(
        f"{kind}  {text}".encode("ascii", "backslashreplace").decode() for kind, text in sorted(faults)
    )


@pytest.fixture(scope="module")
def cases():
    return make_corpus(seed=0)


def test_enough_of_every_kind(cases):
    counts = Counter(case.kind for case in cases)
    assert sum(counts.values()) >= 1500 and min(counts.values()) >= 100
    assert set(counts) == {
        "images", "masks", "run lengths", "polygons", "JSON", "checkpoints", "scene files", "arguments",
    }  # fmt: skip
    again = make_corpus(seed=0)
    assert [case.name for case in again] == [case.name for case in cases]


def test_a_sample(cases, tmp_path):
    check_all(cases[::SHARE], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_all(tmp_path, seed):
    check_all(make_corpus(seed), tmp_path)
