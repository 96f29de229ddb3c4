"""Network cameras, against a small RTSP server: pictures, cuts, passwords that nobody sees."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from clips import number_of, picture, write_clip
from PIL import Image
from rtsp_camera import Camera

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.sources.rtsp import open_rtsp

SOON = (0.01, 0.01, 0.01)


def test_pictures_come_over_rtsp():
    with Camera(200) as camera, open_rtsp(camera.address(), waits=SOON) as source:
        frame = next(iter(source))
        assert source.live
        assert source.name == f"rtsp://127.0.0.1:{camera.port}/front"
        expected = picture(number_of(frame.image)).astype(np.float64)
        assert np.abs(frame.image - expected).mean() < 8


def test_a_camera_that_speaks_udp_alone_is_heard():
    with Camera(200, udp=True) as camera, open_rtsp(camera.address(), waits=SOON) as source:
        assert next(iter(source)).image.shape == picture(0).shape


def test_a_cut_connection_is_made_again():
    with Camera(40) as camera, open_rtsp(camera.address(), waits=SOON) as source:
        numbers = []
        for frame in source:
            numbers.append(frame.number)
            if camera.connections >= 3:
                break
        assert numbers == sorted(set(numbers))


def test_a_camera_that_is_gone_is_lost_in_the_end():
    with Camera(40) as camera, open_rtsp(camera.address(), waits=SOON) as source:
        camera.allow.clear()
        with pytest.raises(StreamError, match="is lost after 3 attempts"):
            list(source)


def test_a_login_is_used_and_never_told():
    with Camera(100, login="me:hunter2") as camera:
        with open_rtsp(camera.address("me:hunter2@"), waits=SOON) as source:
            frame = next(iter(source))
        assert "hunter2" not in frame.name + source.name
        with pytest.raises(StreamError) as caught:
            open_rtsp(camera.address("me:wrong-one@"))
    assert str(caught.value).endswith("/front: user name or password refused")
    assert "wrong-one" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_camera_that_falls_silent_is_an_error_in_time(monkeypatch):
    monkeypatch.setattr("ffsplat.stream.sources.rtsp.SECONDS", (5.0, 0.3))
    with (
        Camera(40, silent=True) as camera,
        open_rtsp(camera.address(), waits=()) as source,
        pytest.raises(StreamError, match="no answer in time"),
    ):
        list(source)


def test_nobody_there_is_an_error_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StreamError, match=rf"cannot open rtsp://127.0.0.1:{port}/a: connection"):
        open_rtsp(f"rtsp://127.0.0.1:{port}/a")


@pytest.mark.parametrize("address", ["rtsp://", "rtsp:///a", "ftp://h/a", "rtsp://h:99999/a"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no address of a camera"):
        open_rtsp(address)


@pytest.fixture
def web(tmp_path):
    """A web server with a file, and an endless row of JPEGs as cameras send it."""
    clip = write_clip(tmp_path / "a.mp4", container={"movflags": "faststart"}).read_bytes()
    Image.fromarray(picture(9)).save(tmp_path / "a.jpg", quality=95)
    jpeg = (tmp_path / "a.jpg").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if self.path == "/a.mp4":
                self.send_header("Content-Length", str(len(clip)))
                self.end_headers()
                self.wfile.write(clip)
                return
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            part = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            try:
                while not stop.wait(0.005):
                    self.wfile.write(part + jpeg + b"\r\n")
            except OSError:
                return

        def log_message(self, *_):
            pass

    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_motion_jpeg_comes_over_http(web):
    with open_rtsp(f"{web}/camera", waits=SOON) as source:
        assert number_of(next(iter(source)).image) == 9


def test_a_recording_on_the_web_is_no_camera(web):
    with pytest.raises(StreamError, match=r"a.mp4 is a recording, not a camera"):
        open_rtsp(f"{web}/a.mp4")
