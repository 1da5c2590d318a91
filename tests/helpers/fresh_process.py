"""Code in a process that has imported nothing of ours, without paying for torch and diffusers each time."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from repository_helpers import ROOT

_SERVER = """
import json, os, sys, traceback, types
import accelerate, datasets, torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from transformers import CLIPTextModel, CLIPTokenizer

def run(job):
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(job["folder"])
    sys.argv = ["-c", *job["arguments"]]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(job["code"], "<fresh>", "exec"), main.__dict__)

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 1
        try:
            run(json.loads(line))
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ours = any(name.split(".")[0] == "amodal_diffusion" for name in sys.modules)
    print(json.dumps([status, ours]), flush=True)
"""
"""Forks a child for each job; it has the libraries already, and of our package neither modules nor registrations."""


@functools.cache
def _server():
    home = tempfile.mkdtemp(prefix="fresh-")
    environment = {"HF_HOME": home, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": os.defpath}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )

    def end():
        process.stdin.close()
        process.wait()
        process.stdout.close()
        shutil.rmtree(home, ignore_errors=True)

    atexit.register(end)
    return process


def run_fresh(code, *arguments, folder=ROOT):
    """What the code writes to stdout and stderr; `sys.argv[1:]` are the arguments, `folder` is where it runs.

    Without network, in an empty cache of the Hub. AssertionError, with all that it wrote, where it fails.
    """
    server = _server()
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "output")
        job = {"code": code, "arguments": [*map(str, arguments)], "folder": str(folder), "output": str(output)}
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        status, ours = json.loads(server.stdout.readline())
        written = output.read_text(encoding="utf-8")
    assert not ours and status == 0, f"ended with {status}:\n{written[-6000:]}"
    return written
