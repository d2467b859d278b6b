cimport cython

@cython.final
cdef class Answer:
    cdef readonly bytes json, msgpack
    cdef readonly tuple outcome

@cython.locals(bits=int)
cpdef int accepted(object names) except -1
