cimport cython
from gateway.program cimport Tables
from gateway.remembered cimport Remembered

@cython.final
cdef class FlagAnswer:
    cdef readonly str variant
    cdef readonly bytes ofrep, json, msgpack
    cdef public bint degraded

@cython.final
cdef class Flag:
    cdef readonly str key
    cdef list _by_user, _rows, _splits
    cdef FlagAnswer _default
    cdef object _first, _mask

    @cython.locals(found=FlagAnswer)
    cpdef FlagAnswer answer(self, object bits, object least, object most, tuple context)
    @cython.locals(split=Remembered)
    cdef FlagAnswer _chosen(self, object bits, tuple context)

@cython.final
cdef class Switches(Tables):
    cdef readonly list flags
    cdef readonly dict by_key
    cdef readonly object mask
    cdef object _anonymous, _without_user

    cpdef tuple decide(self, dict sent, dict custom, tuple context, long long second, object told)
    @cython.locals(flag=Flag, answer=FlagAnswer)
    cpdef list members(self, tuple decided, tuple context, bint msgpack)
