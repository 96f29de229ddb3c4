"""How the kernels of a map are compiled: exactly, and without counting references to arrays."""

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
