cimport cython

cdef unsigned long long _INDEX, _END
cdef int _INDEX_BITS

@cython.final
cdef class Sketch:
    cdef public bint changed
    cdef set _few
    cdef bytearray _registers

    cpdef object add(self, unsigned long long subject)
    @cython.locals(few=set, register=cython.ulonglong)
    cpdef object add_ranked(self, unsigned long long subject, int rank)
    cdef object _grow(self, set few)

@cython.locals(rest=cython.ulonglong, rank=int)
cpdef int rank_of(unsigned long long subject) except -1
