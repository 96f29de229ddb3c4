"""Video files as sources: true times, upright pictures, and what is wrong with some, by name."""

import logging

import numpy as np
import pytest
from clips import number_of, picture, turn_clip, write_clip, write_sound

from ffsplat.errors import StreamError
from ffsplat.stream.sources.video import VideoSource


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mkv", "ffv1", "yuv444p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
    ],
)
def test_every_frame_comes_in_order_with_its_time(tmp_path, name, codec, pixel_format):
    clip = write_clip(tmp_path / name, codec=codec, pixel_format=pixel_format)
    with VideoSource(clip) as source:
        assert not source.live
        frames = list(source)
    assert [frame.number for frame in frames] == list(range(10))
    assert [number_of(frame.image) for frame in frames] == list(range(10))
    np.testing.assert_allclose([frame.time_ns / 1e9 for frame in frames], np.arange(10) / 10)
    assert frames[3].name == f"{name}:3"
    assert frames[0].pose is None
    assert np.abs(frames[0].image[4:20, 4:28] - np.array([255.0, 0, 0])).max() < 12


def test_times_of_a_variable_rate_are_true(tmp_path):
    times = [0, 40, 100, 400, 450, 900, 901, 1000, 1500, 1600]
    clip = write_clip(tmp_path / "a.mp4", milliseconds=times)
    assert [frame.time_ns for frame in VideoSource(clip)] == [time * 10**6 for time in times]


def test_times_begin_at_the_first_frame(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", milliseconds=[5000, 5100, 5300])
    assert [frame.time_ns for frame in VideoSource(clip)] == [0, 10**8, 3 * 10**8]


def test_a_rate_thins_the_frames_out(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 20)
    assert [frame.number for frame in VideoSource(clip, fps=5)] == list(range(0, 20, 2))
    assert [frame.number for frame in VideoSource(clip, fps=3)] == [0, 4, 7, 10, 14, 17]
    assert len(list(VideoSource(clip, fps=60))) == 20


@pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_a_turned_video_stands_upright(tmp_path, degrees, turns):
    clip = write_clip(tmp_path / "a.mp4")
    turn_clip(clip, degrees)
    frame = next(iter(VideoSource(clip)))
    expected = np.rot90(picture(0), turns).astype(np.float64)
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image - expected).mean() < 8


def test_ten_bit_hdr_is_read_and_named(tmp_path, caplog):
    colors = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    clip = write_clip(
        tmp_path / "a.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": f"log-level=none:{colors}"},
    )
    with caplog.at_level(logging.WARNING):
        frames = list(VideoSource(clip))
    assert frames[0].image.dtype == np.uint8
    assert len(frames) == 10
    assert [record.getMessage() for record in caplog.records] == [
        "a.mp4 is HDR video (PQ): its colors are not tone mapped"
    ]


def test_a_video_cut_short_gives_what_it_has_and_says_so(tmp_path, caplog):
    options = {"movflags": "faststart"}  # the index stands first, so the file opens
    clip = write_clip(tmp_path / "a.mp4", 300, codec="mjpeg", pixel_format="yuvj420p",
                      container=options)  # fmt: skip
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(VideoSource(clip))
    assert 50 < len(frames) < 200
    message = f"a.mp4 is damaged or cut short: {len(frames)} of 300 frames"
    assert [record.getMessage() for record in caplog.records] == [message]


def test_a_video_without_its_index_is_refused_by_name(tmp_path):
    clip = write_clip(tmp_path / "a.mp4")
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        StreamError, match=r"^cannot open a.mp4: no video, or damaged, or cut short$"
    ):
        VideoSource(clip)


def test_what_is_no_video_is_refused_by_name(tmp_path):
    path = tmp_path / "notes.mp4"
    for content in (
        b"",
        b"hello",
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        b"ffconcat version 1.0\n",
    ):
        path.write_bytes(content)
        with pytest.raises(StreamError, match=r"notes.mp4"):
            VideoSource(path)


def test_sound_alone_is_named(tmp_path):
    with pytest.raises(StreamError, match=r"^there is only sound in a.mp4$"):
        VideoSource(write_sound(tmp_path / "a.mp4"))


def test_a_video_without_frames_is_named(tmp_path):
    clip = write_clip(tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p")
    data = clip.read_bytes()
    start = data.index(b"movi") + 4
    clip.write_bytes(data[:start])
    with pytest.raises(StreamError, match=r"a.avi"):
        list(VideoSource(clip))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StreamError, match=r"no video file .*a.mp4"):
        VideoSource(tmp_path / "a.mp4")


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path, monkeypatch):
    write_clip(tmp_path / "plain.mp4").rename(tmp_path / "concat:a|b.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(VideoSource("concat:a|b.mp4"))) == 10


def test_closing_ends_the_iteration(tmp_path):
    source = VideoSource(write_clip(tmp_path / "a.mp4"))
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_pictures_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ffsplat.stream.sources.container.MAX_MEGAPIXELS", 0.001)
    with pytest.raises(StreamError, match=r"^a.mp4 has 64 x 48 pixels, limit 0.001 MP$"):
        VideoSource(write_clip(tmp_path / "a.mp4"))
