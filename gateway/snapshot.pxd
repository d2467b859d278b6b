cimport cython

cdef unsigned long long _LOW
cdef bytes _END, _ASK_FIRST
from gateway.hashing cimport scaled
from gateway.answer cimport Answer, accepted
from gateway.apps cimport Apps, Entry
from gateway.check cimport Check
from gateway.membership cimport MembershipTable
from gateway.remembered cimport Remembered
from gateway.program cimport Program, is_sent
from gateway.switches cimport Switches

@cython.locals(places=list)
cdef object _ask(str app, Program program, Check check, tuple context, long long second)

@cython.final
cdef class Snapshot:
    cdef public bytes digest
    cdef public object epoch, number, contents, memory
    cdef public dict settings, bits
    cdef public Apps apps
    cdef public Switches switches
    cdef tuple _seeds
    cdef MembershipTable _table
    cdef object _placeholders, _expressions
    cdef public object cdn, identity
    cdef Remembered _regions
    cdef bint _signs
    cdef list _exact
    cdef dict _amended
    cdef _Heads _heads

    cpdef str identify(self, Check check, bytes authorization, long long second)
    @cython.locals(entry=Entry, apps=Apps, known=dict)
    cpdef tuple probes(self, Check check)
    @cython.locals(parts=list, outcomes=list, sent=dict, custom=dict, rank=int, entry=Entry, apps=Apps, known=dict, context=tuple, key=tuple, answer=Answer)
    cpdef tuple answer(
        self, Check check, dict members, long long second, bint msgpack, dict seats=*,
        object recall=*
    )
    cdef object _recalled(
        self, str app, Program program, Check check, tuple context, long long second, object recall
    )
    @cython.locals(switches=Switches, flags=list, body=bytes)
    cdef bytes _with_switches(self, Check check, dict members, tuple context, long long second, bint msgpack, list parts)
    cpdef object told(self, Check check, dict members, tuple context)
    @cython.locals(sent=dict, context=tuple, found=list, entry=Entry)
    cpdef list asks(self, Check check, dict members, long long second)
    cpdef tuple context(self, Check check, dict members)
    cdef tuple _masks(self, Check check, dict members)

@cython.final
cdef class _Heads:
    cdef unsigned long long _middle, _values
    cdef list _json, _msgpack

    @cython.locals(hashed=cython.ulonglong)
    cdef Py_ssize_t _place(self, object subject) except -1
    cpdef bytes json(self, object subject, list parts)
    cpdef bytes msgpack(self, object subject, list parts)
