"""How the kernels of a map are compiled: exactly, and without counting references to arrays."""

import numpy as np

from ffsplat.render.kernel import exactly_compiled


def lean(function, **options):
    """Compile a kernel that makes no array.

    Else numba counts, with atomic instructions, whoever holds each array at each call between
    kernels: that took nine tenths of the time. A numba that lacks the option counts on.
    """
    try:
        return exactly_compiled(function, _nrt=False, **options)
    except KeyError:
        return exactly_compiled(function, **options)


def brief(function):
    """Compile a lean kernel that ends before any thread's turn would: it keeps the interpreter.

    A frame that lets go of it waits, when threads beside it run Python, to get it back.
    """
    return lean(function, nogil=False)


@lean
def pixel(place):
    """The row or column that a place, which is not negative, falls on.

    It has no sign: else each use of it as an index is asked whether it counts from the end.
    """
    return np.uint32(np.int32(place))
