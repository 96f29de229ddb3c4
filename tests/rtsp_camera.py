"""A network camera for tests: a small RTSP server (RFC 2326) that sends H.264.

Only what a client of one track needs: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, interleaved TCP or
UDP alone, one NAL unit a packet (RFC 6184, section 5.6), and basic authentication.
"""

import base64
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import av
from clips import HEIGHT, MILLISECOND, WIDTH, picture

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
)


class Camera:
    """Serves on a free port of 127.0.0.1; `pictures` a connection, one every `pause` seconds.

    After them the connection is cut, or held open in silence if `silent`. `allow` says whether the
    next connection is taken. With `udp` nothing else is spoken.
    """

    def __init__(
        self,
        pictures: int = 20,
        pause: float = 0.01,
        login: str | None = None,
        silent: bool = False,
        udp: bool = False,
    ):
        self.pictures, self.pause, self.login, self.silent = pictures, pause, login, silent
        self._udp = socket.socket(type=socket.SOCK_DGRAM) if udp else None
        self.connections = 0
        self.allow = threading.Event()
        self.allow.set()
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._udp:
            self._udp.close()
        for thread in self._threads:
            thread.join(5)

    def address(self, login: str = "") -> str:
        return f"rtsp://{login}127.0.0.1:{self.port}/front?token=secret"

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self.allow.is_set():
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
            while self._answer(stream):
                pass
            self.connections += 1
            self._play(stream)

    def _answer(self, stream) -> bool:
        """Answer one request; False after PLAY. OSError when the client has left."""
        lines = []
        while (line := stream.readline()) not in (b"\r\n", b""):
            lines.append(line.decode().strip())
        if not lines:
            raise ConnectionError
        method = lines[0].split()[0]
        headers = dict(line.split(": ", 1) for line in lines[1:])
        expected = self.login and f"Basic {base64.b64encode(self.login.encode()).decode()}"
        body, more = "", ""
        status = "200 OK"
        if expected and headers.get("Authorization") != expected:
            status, more = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif method == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = SDP
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP" and self._udp and "TCP" in headers["Transport"]:
            status = "461 Unsupported Transport"
        elif method == "SETUP" and self._udp:
            port = headers["Transport"].partition("client_port=")[2].partition("-")[0]
            self._udp.connect(("127.0.0.1", int(port)))
            more = f"Transport: {headers['Transport']};server_port=9-10\r\n"
        elif method == "SETUP":
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        answer = f"RTSP/1.0 {status}\r\nCSeq: {headers['CSeq']}\r\nSession: 1\r\n{more}\r\n{body}"
        stream.write(answer.encode())
        stream.flush()
        return not (method == "PLAY" and status == "200 OK")

    def _play(self, stream) -> None:
        sequence = 0
        for number, units in enumerate(encoded(self.pictures)):
            for i, unit in enumerate(units):
                last = 0x80 if i == len(units) - 1 else 0
                packet = struct.pack(">BBHII", 0x80, 96 | last, sequence, number * 9000, 1) + unit
                if self._udp:
                    self._udp.send(packet)
                else:
                    stream.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                sequence += 1
            stream.flush()
            if self._stopped.wait(self.pause):
                return
        if self.silent:
            self._stopped.wait(30)


def encoded(count: int) -> Iterator[list[bytes]]:
    """The NAL units of each picture, every picture a beginning of its own."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base = MILLISECOND
    encoder.options = {"tune": "zerolatency", "x264-params": "keyint=1:repeat-headers=1:annexb=1"}
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number))
        frame.pts, frame.time_base = 100 * number, MILLISECOND
        for packet in encoder.encode(frame):
            units = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
            yield [unit for unit in units if unit]
