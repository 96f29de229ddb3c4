"""The wire protocol `ffsplat.v1`, as PROTOCOL.md has it: messages to bytes and back, strictly."""

from ffsplat.stream.protocol.blocks import Deltas, decode_delta, encode_delta, pack_delta
from ffsplat.stream.protocol.control import dump, parse_client, parse_server
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.protocol.frames import frame_message, read_frame
from ffsplat.stream.protocol.header import SUBPROTOCOL, Kind, Message, pack, unpack

__all__ = [
    "SUBPROTOCOL",
    "Deltas",
    "Kind",
    "Message",
    "ProtocolError",
    "decode_delta",
    "dump",
    "encode_delta",
    "frame_message",
    "pack",
    "pack_delta",
    "parse_client",
    "parse_server",
    "read_frame",
    "unpack",
]
