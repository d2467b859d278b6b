cimport cython
from gateway.check cimport Check
from gateway.head cimport Head, Heads
from gateway.lookup cimport Answer
from gateway.metrics cimport Metrics
from gateway.ofrep cimport Reply
from gateway.request cimport parse_body
from gateway.snapshot cimport Snapshot
from gateway.waiting cimport Waiting

@cython.final
cdef class Quick:
    cdef public bint draining
    cdef public set connections
    cdef public Waiting waiting
    cdef public object follower, lookup, seats, recall, ordinary
    cdef public Metrics metrics
    cdef public Heads heads
    cdef long long _second
    cdef object _origins
    cdef list _parts, _heads, _ends
    cdef dict _flag_lines

    @cython.locals(body=bytes, tag=bytes, length=bytes, end=bytes)
    cpdef bytes respond_flags(self, Head head, Reply reply, Snapshot snapshot, long long second)
    @cython.locals(begin=bytes, heads=dict, kind=int)
    cpdef bytes respond(self, Head head, bytes body, Snapshot snapshot, long long second)

@cython.final
cdef class Connection:
    cdef bint _ended, _paused
    cdef Quick _quick
    cdef _Waiting _waiting
    cdef object _handed_to, _timer
    cdef readonly object _transport
    cdef readonly bytes _kept
    cdef double _moved

    cpdef object data_received(self, bytes data)
    @cython.locals(end=Py_ssize_t, stop=Py_ssize_t, head=Head, heads=Heads, said=bytes)
    cdef object _work(self, bytes data)
    @cython.locals(snapshot=Snapshot, body=bytes, second=cython.longlong, reply=Reply)
    cdef bint _take(self, Head head, bytes data, Py_ssize_t stop) except? -1
    cdef object _identify(self, Check check, Head head, Snapshot snapshot)
    cdef bint _reply(self, Head head, Reply reply, Snapshot snapshot, long long second) except? -1
    @cython.locals(second=cython.longlong, reply=Reply)
    cdef bint _answer(
        self,
        Head head,
        Check check,
        Snapshot snapshot,
        dict members,
        bytes data,
        Py_ssize_t stop,
        dict seats=*,
        long long asked_at=*,
    ) except? -1
    cpdef object known(self, _Waiting waiting, dict members, dict seats, long long asked_at)

@cython.final
cdef class _Waiting:
    cdef readonly Head head
    cdef readonly bytes request
    cdef readonly Check check
    cdef readonly Snapshot snapshot
    cdef Connection _connection
    cdef object _lookup, _wish
    cdef dict _members
    cdef long long _asked_at
    cdef list _asked
    cdef Py_ssize_t _left

    @cython.locals(answer=Answer)
    cdef object wait(self, object lookup, dict members, list asked)
