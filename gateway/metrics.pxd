cimport cython
from gateway.sketch cimport Sketch, rank_of

@cython.final
cdef class Histogram:
    cdef public tuple bounds
    cdef public list counts
    cdef public double total
    @cython.locals(bound=double, at=int)
    cpdef object observe(self, double value)

@cython.final
cdef class Counted:
    cdef long long times
    cdef Sketch offered
    cdef tuple guarded

@cython.final
cdef class Metrics:
    cdef dict _outcomes
    cdef readonly object tally, reach, claims
    cdef public object has_guardrail
    cdef object _answers, _reports
    cdef readonly list _responses
    cdef public Histogram latency
    cdef public object lookups, seatings, handed_over, overloads, failures, swaps, refused_epochs, redis_errors, served
    cdef public object reports_passed_over, reports_dropped, sum_failures, reach_dropped
    cdef public object workers, worker_ends
    @cython.locals(known=Counted, rank=int)
    cpdef object count(self, list outcomes, object subject=*)
    cdef Counted _count_new(self, tuple outcome)
    @cython.locals(counted=Counted)
    cpdef object sort_out(self)
    cdef public dict evaluations
    cpdef object evaluate(self, str outcome)
    cdef public dict identities
    cpdef object identify(self, str outcome)
    cpdef object respond(self, int place, int status, double seconds)
