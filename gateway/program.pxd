cimport cython
from gateway.remembered cimport Remembered

ctypedef fused Bits:
    long long
    object

cdef dict _RANKS

@cython.final
cdef class Program:
    cdef public str app
    cdef public list targets, releases
    cdef public dict versions, patched
    cdef public object withdrawn, lists
    cdef list _times, _cells, _of_sent, _of_custom, _of_context
    cdef Remembered _hosts, _nowhere
    cdef object _anywhere, _window_bits
    cdef list _window_cells
    cdef bint _narrow
    cdef public bint windowed
    cdef public dict windows

    @cython.locals(few=cython.longlong)
    cpdef int winner(self, dict sent, dict custom, tuple context, long long second) except? -2
    cpdef list wanted(self, dict sent, dict custom, tuple context, long long second)
    @cython.locals(found=Bits, place=Py_ssize_t, known=dict, table=Remembered, hosts=Remembered)
    cdef Bits _accepted(self, Bits bits, dict sent, dict custom, tuple context)

cpdef bint is_sent(object value)
