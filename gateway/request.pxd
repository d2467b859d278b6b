from gateway.check cimport Check
cimport cython

cdef tuple _READ

cpdef Check parse_body(bytes body, bint packed)
cpdef dict read_object(bytes body, bint packed)
@cython.locals(check=Check)
cpdef Check make_check(dict sent, dict custom, dict apps, bint dry_run, bint switches)
cpdef object read_id(dict sent, str name)
@cython.locals(waiting=list)
cdef object _hold_to_json(object value)
cdef object _read_json(bytes body)
cdef object _read_msgpack(bytes body)
cdef dict _respelled(dict sent)
