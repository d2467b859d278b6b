cimport cython

@cython.final
cdef class Waiting:
    cdef public int limit, now
    cdef public bint late

    cpdef bint is_full(self)
