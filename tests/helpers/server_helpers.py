"""Servers in processes of their own, as users start them, and in threads."""

import contextlib
import json
import os
import socket
import threading
import time
import urllib.request

import pytest

START = 180.0 * float(os.environ.get("BROWSER_PATIENCE", "1"))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(server, url, log, name):
    """Until a server answers; fails with what it wrote where it does not."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"{name} did not start:\n{log.read_text(encoding='utf-8', errors='replace')}", pytrace=False)


@contextlib.contextmanager
def serving(server):
    """The address of a server that runs in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def get(url):
    with urllib.request.urlopen(url) as reply:
        return reply.read()


def post(url, content, kind="application/json"):
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": kind})
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())
