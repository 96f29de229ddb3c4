"""How a viewer ends: what was begun is done, and nothing is begun any more."""

import threading

from small_room import small_room

from ffsplat.view import viewing

PATIENCE = 10.0


def test_a_file_that_is_being_saved_is_saved_before_the_end(tmp_path):
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()
    saved = []

    def save() -> None:
        begun.set()
        assert go.wait(PATIENCE)
        saved.append("whole")

    with viewing(small_room(20), folder=tmp_path, port=0) as (viewer, _):
        saving = threading.Thread(target=viewer.do, args=(save,))
        saving.start()
        assert begun.wait(PATIENCE)
        ending = threading.Thread(target=lambda: (viewer.stop(), ended.set()))
        ending.start()
        assert not ended.wait(0.05)
        go.set()
        assert ended.wait(PATIENCE)
        assert saved == ["whole"]
        viewer.do(lambda: saved.append("too late"))
        assert saved == ["whole"]
        saving.join()
        ending.join()
