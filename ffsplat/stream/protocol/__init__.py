"""The wire protocol `ffsplat.v1`, as PROTOCOL.md has it: messages to bytes and back, strictly."""
