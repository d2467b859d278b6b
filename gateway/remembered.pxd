cimport cython

@cython.final
cdef class Remembered:
    cdef readonly dict known
    cdef public bint queued
    cdef public Py_ssize_t held
    cdef object _memory, _work_out, __weakref__

    cpdef object learn(self, object key)
    cpdef keep(self, object key, object value, Py_ssize_t entries=*)

cdef bint _is_short(object key)
