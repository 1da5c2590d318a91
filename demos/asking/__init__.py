"""What the pages that ask people share: the server, how pictures are drawn and sent, style and script of the pages."""

import io
import json
import math
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np

from amodal_diffusion.display import describe

FOLDER = Path(__file__).parent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
MODAL, AMODAL = (40, 220, 255), (255, 70, 60)
LARGEST_CONTENT = 65536


def make_server(page, gets, posts, host="127.0.0.1", port=0):
    """A server that is bound and not started; port 0 takes a free one.

    Args:
        page: file of this folder at "/".
        gets: path → function of the query (a dict of texts); it returns a dict, or (bytes, type).
        posts: path → function of the JSON that was sent; it returns a dict.
        host: name or address that it listens at.
        port: likewise.
    """
    files = {"/": FOLDER / page, "/page.css": FOLDER / "page.css", "/page.js": FOLDER / "page.js"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the name that http.server asks for
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if parts.path in files:
                file = files[parts.path]
                self.reply(file.read_bytes(), KINDS[file.suffix] + "; charset=utf-8")
            else:
                self.answer(gets.get(parts.path), lambda: query)

        def do_POST(self):  # noqa: N802
            self.answer(posts.get(self.path), self.content)

        def content(self):
            # A page of another site can send a form, but not this type, without the browser asking us first.
            if self.headers.get_content_type() != "application/json":
                raise ValueError("the content must be application/json")
            length = self.headers["Content-Length"] or ""
            if not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= LARGEST_CONTENT):
                raise ValueError(f"the content must have a Content-Length of at most {LARGEST_CONTENT}")
            try:
                content = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                raise ValueError("the content must be JSON") from None
            if not isinstance(content, dict):
                raise ValueError("the content must be a JSON object")
            return content

        def answer(self, ask, content):
            if ask is None:
                self.send_error(404)
                return
            try:
                found = ask(content())
            except (KeyError, ValueError, IndexError, TypeError) as error:
                self.reply_json({"error": str(error)}, 400)
                return
            if isinstance(found, dict):
                self.reply_json(found)
            else:
                self.reply(*found)

        def reply_json(self, content, status=200):
            text = json.dumps(finite(content), allow_nan=False)
            self.reply(text.encode(), "application/json", status)

        def reply(self, content, kind, status=200):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    return ThreadingHTTPServer((host, port), Handler)


def read_text(content, name):
    """A text that was sent; ValueError naming it where it is none, or is missing."""
    value = content.get(name)
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a text, got {describe(value)}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # halves of letters, which no file can hold
        raise ValueError(f"`{name}` must be a text of whole letters, got {describe(value)}")
    return value


def read_number(content, name):
    """A whole number from 0 that was sent, in a query as its digits; ValueError naming it otherwise."""
    value = content.get(name)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"`{name}` must be a whole number from 0, got {describe(value)}")
    return value


def read_choice(content, name, choices):
    """One of `choices` that was sent; ValueError naming it otherwise."""
    value = content.get(name)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"`{name}` must be one of {', '.join(map(json.dumps, choices))}, got {describe(value)}")
    return value


def serve(server, what):
    """Say where the page is, and serve until Ctrl-C."""
    with server:
        host, port = server.server_address[:2]
        print(f"{what} on http://{host}:{port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


def run(main):
    """Call `main`; what a user gave wrong is one line on stderr, and exit code 2."""
    try:
        main()
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}\n")
        sys.exit(2)


def finite(content):
    """The content with None for numbers that JSON does not know, NaN and infinities; texts stay as they are."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def outline(mask):
    """Pixels of a mask beside others; those at the edge of the photo too."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def outlines_of(modal, amodal):
    """Both outlines on a clear ground, RGBA, twice as large as the (H, W) masks: amodal red, modal cyan over it."""
    picture = np.zeros((2 * modal.shape[0], 2 * modal.shape[1], 4), dtype=np.uint8)
    for mask, color in ((amodal, AMODAL), (modal, MODAL)):
        picture[outline(np.repeat(np.repeat(mask, 2, 0), 2, 1))] = (*color, 255)
    return picture


def encoded(picture, kind, **options):
    """A picture of Pillow as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
