import errno
import os

from numba.core.caching import IndexDataCacheFile

from ffsplat.render import kernel


def test_a_kernel_that_cannot_be_cached_still_computes(monkeypatch):
    def full(*_):
        tried.append(True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tried = []
    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    monkeypatch.setattr(IndexDataCacheFile, "load", lambda *_: None)

    @kernel.compiled
    def twice(number):
        return 2 * number

    assert twice(21) == 42
    assert tried == [True]
