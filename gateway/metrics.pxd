cimport cython

@cython.final
cdef class Histogram:
    cdef public tuple bounds
    cdef public list counts
    cdef public double total
    @cython.locals(bound=double, at=int)
    cpdef object observe(self, double value)

@cython.final
cdef class Metrics:
    cdef dict _outcomes
    cdef readonly object tally
    cdef object _answers, _reports
    cdef readonly list _responses
    cdef public Histogram latency
    cdef public object lookups, seatings, handed_over, overloads, failures, swaps, refused_epochs, redis_errors, served
    cdef public object reports_passed_over, reports_dropped, sum_failures
    cdef public object workers, worker_ends
    cpdef object count(self, list outcomes)
    cdef object _count_new(self, tuple outcome)
    cdef public dict evaluations
    cpdef object evaluate(self, str outcome)
    cpdef object respond(self, int status, double seconds)
