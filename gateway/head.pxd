cimport cython

@cython.final
cdef class Head:
    cdef readonly Py_ssize_t length
    cdef readonly bint packed_in, packed_out, closes

@cython.final
cdef class Heads:
    cdef readonly dict known
    cpdef Head learn(self, bytes head)
