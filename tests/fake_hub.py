"""A hub on this machine: one model, served as huggingface.co serves it; it can fall silent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Serves one model folder as the hub's API does, and notes what was asked for."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.folder = folder
        self.requests: list[str] = []
        self.silent = threading.Event()
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class FakeHubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.silent.is_set():
            self.server.ended.wait()
            self.close_connection = True
            return
        path, folder = self.path.partition("?")[0], self.server.folder
        files = sorted(item.name for item in folder.iterdir())
        if path in (f"/api/models/org/m/revision/{name}" for name in ("main", COMMIT)):
            self.reply_json({"id": "org/m", "sha": COMMIT, "siblings": []})
        elif path == f"/api/models/org/m/tree/{COMMIT}":
            self.reply_json([
                {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": name}
                for name in files
            ])  # fmt: skip
        elif path in (f"/org/m/resolve/{COMMIT}/{name}" for name in files):
            self.reply((folder / path.rpartition("/")[2]).read_bytes())
        elif path.startswith("/api/models/org/m/"):
            self.reply(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def reply_json(self, value):
        self.reply(json.dumps(value).encode(), 200, {"Content-Type": "application/json"})

    def reply(self, content, status=200, headers=None):
        self.send_response(status)
        name = self.path.rpartition("/")[2]
        fixed = {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"', "Content-Length": str(len(content))}
        for key, value in {**fixed, **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass
