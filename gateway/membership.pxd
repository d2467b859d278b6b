cimport cython
from gateway.hashing cimport filter_pattern, scaled

@cython.final
cdef class MembershipTable:
    cdef unsigned long long _buckets, _word_count
    cdef list _digests, _words, _positions
    cdef object _ends, _entry, _mask, _members, _number_bits, _numbers, _prefix

    @cython.locals(pattern=cython.ulonglong, word=cython.ulonglong, place=cython.ulonglong)
    cpdef bint may_hold(self, unsigned long long hashed)
    cpdef bytes bucket_of(self, unsigned long long hashed)
