cimport cython

@cython.final
cdef class Check:
    cdef public dict sent, custom, apps
    cdef public object user, device, user_hash, device_hash
    cdef public bint dry_run, switches
    cdef public str fingerprint
