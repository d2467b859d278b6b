cimport cython
from gateway.check cimport Check
from gateway.request cimport make_check
from gateway.snapshot cimport Snapshot
from gateway.switches cimport Flag, FlagAnswer, Switches

@cython.final
cdef class Reply:
    cdef readonly int status
    cdef readonly bytes body
    cdef readonly str etag, outcome

@cython.locals(sent=dict)
cpdef Check parse_context(bytes body, object placeholders)
@cython.locals(custom=dict)
cdef dict _custom(dict sent)
@cython.locals(switches=Switches, flag=Flag, flags=list, answer=FlagAnswer, context=tuple)
cpdef Reply evaluate(Snapshot snapshot, Check check, dict members, long long second, object key)
@cython.locals(switches=Switches)
cpdef str etag(Snapshot snapshot, Check check, long long second)
