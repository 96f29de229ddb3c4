"""Who may come in, decided without a socket."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ffsplat.errors import UsageError
from ffsplat.stream.server import auth
from ffsplat.stream.server.auth import (
    Tokens,
    bearer,
    is_host_local,
    is_origin_allowed,
    warn_of_readers,
)
from ffsplat.stream.server.settings import ServerSettings

TOKEN = "a-token-of-many-letters"
NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


def tokens(tmp_path, text: str) -> Tokens:
    file = tmp_path / "tokens"
    file.write_text(text)
    return Tokens.read(file)


def test_a_token_of_the_file_is_accepted_and_no_other(tmp_path):
    found = tokens(tmp_path, f"# for the robot\n\n{TOKEN}\n  another-token-for-people \n")
    assert found.accept(TOKEN, NOW) == float("inf")
    assert found.accept("another-token-for-people", NOW) is not None
    for wrong in (None, "", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "# for the robot", "\ud800"):
        assert found.accept(wrong, NOW) is None


def test_a_token_ends_at_its_time_in_utc_unless_it_says_otherwise(tmp_path):
    text = f"{TOKEN} 2026-06-01T12:00:00\n{TOKEN}-2 2026-06-01T12:00:00+02:00\n{TOKEN}-3 2026-06-02"
    found = tokens(tmp_path, text)
    assert found.accept(TOKEN, NOW) == NOW + 12 * 3600
    assert found.accept(TOKEN, NOW + 12 * 3600) is None
    assert found.accept(f"{TOKEN}-2", NOW) == NOW + 10 * 3600
    assert found.accept(f"{TOKEN}-3", NOW) == NOW + timedelta(days=1).total_seconds()


def test_every_digest_is_compared_whichever_matches(tmp_path, monkeypatch):
    found = tokens(tmp_path, "\n".join(f"{TOKEN}-{i}" for i in range(5)))
    compared = []
    compare = auth.hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(len(a) == len(b) == 32)
        return compare(a, b)

    monkeypatch.setattr(auth.hmac, "compare_digest", counting)
    for shown in (f"{TOKEN}-0", f"{TOKEN}-4", "wrong", None, "x" * 500):
        compared.clear()
        found.accept(shown, NOW)
        assert compared == [True] * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no token"),
        (b"# nothing\n", "holds no token"),
        (b"short\n", "line 1 of .* is shorter than 16 characters"),
        (b"\n" + TOKEN.encode() + b" tomorrow\n", "line 2 of .* ends with 'tomorrow'"),
        (b"\xff\xfe" * 20, "cannot read"),
        (b"a" * 70_000, "larger than 64 KiB"),
    ],
)
def test_a_bad_token_file_is_refused(tmp_path, content, message):
    file = tmp_path / "tokens"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        Tokens.read(file)


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_secrets_that_everybody_can_read_are_warned_of(tmp_path, caplog, mode, warnings):
    file = tmp_path / "tokens"
    file.write_text("a-token-of-many-letters")
    file.chmod(mode)
    warn_of_readers(file)
    assert len(caplog.records) == warnings


def test_a_missing_token_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read the token file"):
        Tokens.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
    ],
)
def test_the_bearer_header_is_read(header, token):
    assert bearer(header) == token


@pytest.mark.parametrize(
    ("origin", "host", "good"),
    [
        (None, "127.0.0.1:8765", True),
        ("http://127.0.0.1:8765", "127.0.0.1:8765", True),
        ("https://Robot.example", "robot.example", True),
        ("http://friend.example", "127.0.0.1:8765", True),
        ("http://friend.example.evil.example", "127.0.0.1:8765", False),
        ("http://127.0.0.1:8766", "127.0.0.1:8765", False),
        ("http://localhost:8765", "127.0.0.1:8765", False),
        ("file://127.0.0.1:8765", "127.0.0.1:8765", False),
        ("http://user@127.0.0.1:8765", "127.0.0.1:8765", False),
        ("http://[::1", "127.0.0.1:8765", False),
        ("null", "127.0.0.1:8765", False),
        ("", "", False),
        ("http://", None, False),
    ],
)
def test_only_our_own_page_and_guests_may_connect(origin, host, good):
    assert is_origin_allowed(origin, host, ("http://friend.example",)) is good


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:8765", True),
        ("127.9.9.9", True),
        ("localhost:8765", True),
        ("[::1]:8765", True),
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("10.0.0.7:8765", False),
        ("[::1", False),
        ("", False),
        (None, False),
    ],
)
def test_a_host_name_that_is_not_this_machine_is_seen(host, good):
    assert is_host_local(host) is good


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "robot.local"])
def test_listening_to_others_needs_a_token(host, tmp_path):
    with pytest.raises(UsageError) as refused:
        ServerSettings(host=host)
    assert str(refused.value) == f"refusing to listen on {host} without a token"
    assert refused.value.hint == "--token-file FILE, or --host 127.0.0.1"
    ServerSettings(host=host, token_file=tmp_path / "tokens")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.1.2.3"])
def test_this_machine_needs_none(host):
    assert ServerSettings(host=host).is_local


@pytest.mark.parametrize(
    "options",
    [
        {"port": -1},
        {"port": 65536},
        {"max_sessions": 0},
        {"idle": -1.0},
        {"max_fps": float("nan")},
        {"tls_cert": Path("cert.pem")},
    ],
)
def test_settings_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError):
        ServerSettings(**options)
