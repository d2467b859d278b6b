cdef tuple _PAIRS
cdef unsigned long long _LOW
cpdef unsigned long long scaled(unsigned long long hashed, unsigned long long count)
cpdef unsigned long long filter_pattern(unsigned long long hashed)
