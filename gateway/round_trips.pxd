cimport cython

@cython.final
cdef class RoundTrips:
    cdef object _begin, _give, _counts, _timer, _turns, _queue
    cdef tuple _sentences
    cdef readonly object _breaker
    cdef double _timeout, _failed_at
    cdef Py_ssize_t _size, _at_once, _under_way
    cdef bint _failing
    cdef list _turn

    cpdef bint ask(self, object question)
    cpdef object came(self, list questions, object values)
    cpdef object failed(self, str why)
    cpdef object ended(self)
    cdef object _send(self)

cpdef bint all_done(list questions)
