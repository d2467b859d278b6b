cimport cython

@cython.final
cdef class Remembered:
    cdef readonly dict known
    cdef public bint queued
    cdef object _memory, _work_out, __weakref__

    cpdef object learn(self, object key)

cdef bint _is_short(object key)
