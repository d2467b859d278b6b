cimport cython

@cython.final
cdef class Head:
    cdef readonly Py_ssize_t length
    cdef readonly int kind
    cdef readonly str key, matches
    cdef readonly bytes authorization
    cdef readonly bint packed_in, packed_out, closes

@cython.final
cdef class Heads:
    cdef readonly dict known
    cdef dict _of_switches
    cdef Head _learn(self, bytes head)
    @cython.locals(rest=bytes, found=Head)
    cpdef Head learn(self, bytes head)
