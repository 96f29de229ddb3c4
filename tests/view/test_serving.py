"""A viewer from start to end, as Python calls it."""

import threading
from urllib.request import urlopen

from small_room import small_room

from ffsplat.view import serve


def test_a_scene_is_served_until_told_otherwise(tmp_path):
    said, until, ready = [], threading.Event(), threading.Event()

    def tell(line: str) -> None:
        said.append(line)
        ready.set()

    options = {"port": 0, "browser": False, "folder": tmp_path, "tell": tell, "until": until}
    thread = threading.Thread(target=serve, args=(small_room(50),), kwargs=options)
    thread.start()
    try:
        assert ready.wait(10)
        with urlopen(said[0].removeprefix("viewing at ")) as answer:
            assert answer.status == 200
    finally:
        until.set()
        thread.join()


def test_a_browser_that_does_not_start_is_said(monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    said, until = [], threading.Event()
    until.set()
    serve(small_room(50), port=0, tell=said.append, until=until)
    assert said[1].startswith("no browser could be started: open http://127.0.0.1:")
