cimport cython

cdef bytes _END

@cython.locals(end=Py_ssize_t, kind=int)
cpdef tuple read_head(bytes data, Py_ssize_t at)
@cython.locals(values=list, size=Py_ssize_t, end=Py_ssize_t, stop=Py_ssize_t, length=Py_ssize_t, kind=int)
cpdef tuple read_values(bytes data, Py_ssize_t at, Py_ssize_t count)
cdef Py_ssize_t _line_end(bytes data, Py_ssize_t at) except? -2
@cython.locals(number=object)
cdef Py_ssize_t _number(bytes data, Py_ssize_t at, Py_ssize_t end) except? -2
