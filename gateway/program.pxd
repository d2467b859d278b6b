cimport cython
from gateway.remembered cimport Remembered

ctypedef fused Bits:
    long long
    object

cdef dict _RANKS

cdef class Tables:
    cdef public object lists
    cdef list _times, _cells, _of_sent, _of_custom, _of_context
    cdef Remembered _hosts, _nowhere
    cdef object _anywhere
    cdef list _all_cells
    cdef bint _narrow

    @cython.locals(few=cython.longlong)
    cpdef int winner(self, dict sent, dict custom, tuple context, long long second) except? -2
    cpdef Py_ssize_t period(self, long long second)
    @cython.locals(bits=object)
    cpdef object accepting(self, dict sent, dict custom, tuple context, long long second)
    @cython.locals(found=Bits, place=Py_ssize_t, known=dict, table=Remembered, hosts=Remembered)
    cdef Bits _accepted(self, Bits bits, dict sent, dict custom, tuple context)

@cython.final
cdef class Program(Tables):
    cdef public str app
    cdef public list targets, releases
    cdef public dict versions, patched
    cdef public object withdrawn, known_releases, halts
    cdef object _window_bits
    cdef public bint windowed
    cdef public dict windows

    cpdef list wanted(self, dict sent, dict custom, tuple context, long long second)

cpdef bint is_sent(object value)
