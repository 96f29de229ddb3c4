"""What the server writes into its log."""

import io
import json
import logging
from pathlib import Path

from ffsplat.stream.engine.log import JsonFormatter
from ffsplat.stream.protocol.control import Bye, Hello
from ffsplat.stream.server.routes import MAX_PATH
from tests.stream.server.talk import ask, client, raw, serving

TOKEN = "a-token-of-many-letters"


def test_sessions_and_requests_are_logged_as_facts_and_secrets_are_not(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("ffsplat.stream.server")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with serving(token_file=file) as (_, address):
            with client(address) as one:
                one.greet(token=TOKEN, role="viewer")
                one.send(Bye())
                one.closed()
            with client(address) as two:
                two.send(Hello(token="wrong"))
                two.closed()
            ask(address, "/secret\u00e9" * 300)
            ask(address, "/nothing", f"Authorization: Bearer {TOKEN}")
            ask(address, "/healthz")
            raw(address).close()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    began = next(line for line in lines if line["message"] == "session began")
    ended = [line for line in lines if line["message"] == "session ended"]
    requests = [line for line in lines if line["message"] == "request"]
    assert (began["role"], began["peer"]) == ("viewer", "127.0.0.1")
    assert {line["code"] for line in ended} == {1000, 4401}
    asked = [(line["path"], line["status"]) for line in requests]
    assert asked[-1] == ("/nothing", 404)
    # Some versions of websockets refuse a path that is not ASCII before we see it.
    assert all(len(path) <= MAX_PATH and status == 404 for path, status in asked)
    assert not [line for line in lines if "error" in line]  # who hangs up is no fault of ours
    assert TOKEN not in text.getvalue()
