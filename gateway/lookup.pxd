cimport cython
from gateway.round_trips cimport RoundTrips, all_done

@cython.final
cdef class Answer:
    cdef readonly bytes bucket, digest
    cdef readonly bint done
    cdef list _calls

    cpdef object then(self, object call)
    @cython.locals(calls=list)
    cpdef object give(self, bytes bucket)

@cython.final
cdef class _Trip:
    cdef readonly Py_ssize_t left
    cdef list _answers
    cdef bint _again
    cdef object _keys
    cdef Lookup _lookup

@cython.final
cdef class Lookup:
    cdef object _reader, _keys, _confirmed, _contents, _meaning
    cdef readonly object _counts
    cdef readonly RoundTrips _trips
    cdef Py_ssize_t _limit
    cdef dict _waiting
    cdef set _logged

    @cython.locals(found=dict, asked=list, digest=bytes, known=tuple, answer=Answer)
    cpdef tuple begin(self, object snapshot, object hashes)
    @cython.locals(answer=Answer)
    cpdef dict finish(self, object snapshot, dict found, object asked)
    cdef object _read(self, object snapshot, object hashed, Answer answer)
    cdef object _last_known(self, object snapshot, object hashed)
    cdef Answer _ask(self, bytes digest)
    cpdef object arrived(self, list answers, object values, bint whole)
    cpdef object failed(self, list answers, str why)
    cdef bytes _bucket(self, bytes digest, object value)
    cpdef object _give(self, Answer answer, bytes bucket)
    cdef object _log_once(self, bytes digest, str sentence)
