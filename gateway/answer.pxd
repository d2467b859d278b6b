cimport cython
@cython.final
cdef class Answer:
    cdef readonly bytes json, msgpack
    cdef readonly tuple outcome
