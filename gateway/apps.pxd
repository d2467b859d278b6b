cimport cython
from gateway.program cimport Program
from gateway.remembered cimport Remembered

@cython.final
cdef class Entry:
    cdef public Program program
    cdef public object source
    cdef public object lists
    cdef public Remembered answers

@cython.final
cdef class Apps:
    cdef readonly dict programs, known, bits
    cdef readonly object cdn
    cdef object _blob, _memory

