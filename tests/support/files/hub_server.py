"""A hub on 127.0.0.1 that answers huggingface_hub's requests, with any fault.

    with HubServer() as hub:
        commit = hub.commit("someone/model", {"config.json": b"{}"})     # moves "main"
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

Protocol: HEAD and GET of /ID/resolve/REVISION/FILE, with ETag, X-Repo-Commit and Content-Length. Big
files have another address ("storage"), to which the hub redirects with X-Linked-Etag and
X-Linked-Size. For what does not exist the answer is a 404 with X-Error-Code.
"""

import contextlib
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

BIG = 20_000
"""Files of more bytes than this are redirected to the storage."""


class HubServer:
    """``requests`` lists (method, file) of every request; ``faults`` maps a file to a fault.

    A fault is a status, or one of "hang", "cut" (half of the body, resumable), "cut anew" (half of
    the body each time, not resumable), "longer" (than announced), "shorter", "no commit", "no
    etag", "bad commit", "plain 404", "web page", "short answer" (the connection closes), "loop" (of
    redirects), "moved" (to another name of the repository), "head only" (500 for a GET),
    "gated". It may apply to one method: ``faults["GET config.json"]``. ``tokens`` contains "hub"
    and "storage" once they have received a token.
    """

    def __init__(self):
        self.repositories = {}  # id -> {revision or commit: {file: bytes}}
        self.commits = {}  # (id, revision) -> commit
        self.requests = []
        self.faults = {}
        self.tokens = set()
        self._servers = []

    def __enter__(self):
        self.url, self.storage = self._serve(_Hub), self._serve(_Storage)
        return self

    def __exit__(self, *_):
        self.stop()

    def _serve(self, handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.hub, server.daemon_threads, server.block_on_close = self, True, False
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    def stop(self):
        """Shut down: connections are refused, as without a network."""
        while self._servers:
            server = self._servers.pop()
            server.shutdown()
            server.server_close()

    def commit(self, name, files, revision="main"):
        """Make ``files`` the revision's newest commit; return the commit's hash."""
        digest = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        self.repositories.setdefault(name, {})[digest] = dict(files)
        self.commits[name, revision] = self.commits[name, digest] = digest
        return digest

    def folder(self, name, folder, revision="main"):
        """Commit the files of a local folder."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return self.commit(name, files, revision)

    def requested(self, method):
        """The files requested by this method, in order."""
        return [file for used, file in self.requests if used == method]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def handle_one_request(self):
        with contextlib.suppress(ConnectionError):  # some faults make the client close it
            super().handle_one_request()

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def send(self, status, headers=(), body=b"", length=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_file(self, data, headers, fault):
        """The file, or its end if the client resumes; or what the fault makes of it."""
        start, total = 0, len(data)
        resumed = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if resumed and fault != "cut anew":
            start = int(resumed[1])
            headers = {**headers, "Content-Range": f"bytes {start}-{total - 1}/{total}"}
        status = 206 if start else 200
        rest = data[start:]
        if fault in ("cut", "cut anew") and self.command == "GET":
            self.send(status, headers, rest[: max(len(rest) // 2, 500)], length=len(rest))
        elif fault in ("longer", "shorter") and self.command == "GET":
            other = data + b"more" if fault == "longer" else data[:-1]
            self.send(200, headers, other)
        else:
            self.send(status, headers, rest)


class _Hub(_Handler):
    def answer(self):
        hub = self.server.hub
        path = re.fullmatch(r"/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/([^/]+)", self.path)
        if not path:
            return self.send(404)
        name, revision, file = map(unquote, path.groups())
        hub.requests.append((self.command, f"{name}@{revision}/{file}"))
        if self.headers.get("Authorization"):
            hub.tokens.add("hub")
        fault = hub.faults.get(f"{self.command} {file}", hub.faults.get(file))
        if fault == "moved" and not name.startswith("moved"):
            return self.send(307, {"Location": self.path.replace(name, f"moved/{name[-4:]}")})
        if self.answer_fault(fault, file):
            return None
        if name not in hub.repositories:
            return self.missing("RepoNotFound")
        if (name, revision) not in hub.commits:
            return self.missing("RevisionNotFound")
        commit = hub.commits[name, revision]
        data = hub.repositories[name][commit].get(file)
        if data is None:
            return self.missing("EntryNotFound", {"X-Repo-Commit": commit})
        etag = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers |= {"no etag": {"ETag": ""}, "bad commit": {"X-Repo-Commit": "../.."}}.get(
            fault, {}
        )
        if fault == "no commit":
            del headers["X-Repo-Commit"]
        if len(data) <= BIG:
            return self.send_file(data, headers, fault)
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        address = f"{hub.storage}/{name}/{commit}/{file}"
        return self.send(302, {**headers, "ETag": '"redirect"', "Location": address})

    def answer_fault(self, fault, file):
        """Answer as the fault says; whether that was a complete answer."""
        if fault == "hang":
            threading.Event().wait(5)
        elif isinstance(fault, int):
            self.send(fault, {"X-Error-Message": "two\tlines"}, b"<html>\nno\n</html>")
        elif fault == "plain 404":
            self.send(404, {}, b"not found")
        elif fault == "gated":
            self.send(403, {"X-Error-Code": "GatedRepo"})
        elif fault == "web page":
            self.send(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
        elif fault == "loop":
            self.send(302, {"Location": self.path})
        elif fault == "short answer":
            self.close_connection = True
        elif fault == "head only" and self.command == "GET":
            self.send(500)
        else:
            return False
        return True

    def missing(self, code, headers=()):
        self.send(404, {**dict(headers), "X-Error-Code": code, "X-Error-Message": code})


class _Storage(_Handler):
    def answer(self):
        hub = self.server.hub
        *name, commit, file = self.path.strip("/").split("/")
        hub.requests.append((self.command, f"storage {file}"))
        if self.headers.get("Authorization"):
            hub.tokens.add("storage")
        fault = hub.faults.get(f"{self.command} {file}", hub.faults.get(file))
        self.send_file(hub.repositories["/".join(name)][commit][file], {}, fault)
