cimport cython

cdef unsigned long long _INDEX, _END

@cython.final
cdef class Sketch:
    cdef public bint changed
    cdef set _few
    cdef bytearray _registers

    @cython.locals(few=set, register=cython.ulonglong, rank=int)
    cpdef object add(self, unsigned long long subject)
    cdef object _grow(self, set few)

@cython.locals(rest=cython.ulonglong, rank=int)
cpdef int _rank(unsigned long long subject) except -1
