# The Python object around a ring: owner of its memory and descriptors, door for tests and cold paths.

@cython.final
cdef class Ring:
    """One end, or both ends, of a single-producer single-consumer ring in shared memory.

    Made by Ring.create() or Ring.attach(); Ring() is a closed one. Owns its mapping and both descriptors; close() gives
    them back. The engine uses the ring_t inside directly; these methods are for tests and cold paths. Writer's methods:
    write, put, publish, free_bytes. Reader's: read, prepare_sleep, wake_clear, fileno. Not for two threads at once on
    the same side.
    """

    cdef ring_t _ring

    def __cinit__(self) -> None:
        memset(&self._ring, 0, sizeof(ring_t))
        self._ring.memfd = self._ring.eventfd = -1

    def __dealloc__(self):
        ring_unmap(&self._ring)

    @staticmethod
    def create(uint64_t capacity, uint64_t epoch) -> Ring:
        """A new, empty ring. capacity: bytes, a power of two from 4096 to 2**30. OSError when the system refuses."""
        if capacity < RING_CAPACITY_MIN or capacity > RING_CAPACITY_MAX or capacity & (capacity - 1):
            raise ValueError(f"ring capacity must be a power of two from 4096 to 2**30, not {capacity}")
        cdef Ring ring = Ring.__new__(Ring)
        ring._ring.memfd = ring_memfd(capacity, epoch)
        if ring._ring.memfd < 0:
            raise OSError(errno, "cannot create the ring's memory")
        ring._ring.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if ring._ring.eventfd < 0:
            raise OSError(errno, "cannot create the ring's eventfd")
        ring._map()
        return ring

    @staticmethod
    def attach(int memfd, int eventfd, epoch: int | None = None) -> Ring:
        """The ring behind two descriptors made elsewhere. Both are duplicated; the caller keeps its own.

        epoch: what the caller expects. InternalError when the memory is no ring, is damaged or has another epoch.
        """
        cdef Ring ring = Ring.__new__(Ring)
        ring._ring.memfd = fcntl(memfd, F_DUPFD_CLOEXEC, 3)
        ring._ring.eventfd = fcntl(eventfd, F_DUPFD_CLOEXEC, 3)
        if ring._ring.memfd < 0 or ring._ring.eventfd < 0:
            raise OSError(errno, "cannot duplicate the ring's descriptors")
        ring._map()
        if epoch is not None and ring._ring.epoch != <uint64_t>epoch:
            raise _internal_error(f"ring has epoch {ring._ring.epoch} where {epoch} was expected")
        return ring

    cdef int _map(self) except -1:
        cdef const char* problem = ring_map(&self._ring)
        if problem != NULL:
            raise _internal_error(f"cannot attach ring: {problem.decode()}")
        return 0

    cdef int _require_open(self) except -1:
        if self._ring.shared == NULL:
            raise ValueError("operation on a closed ring")
        return 0

    def put(self, const uint8_t[::1] payload not None) -> bool:
        """Commit one record without publishing it. False: full or corrupt. ValueError: it can never fit."""
        cdef size_t n = <size_t>payload.shape[0]
        cdef uint8_t* room
        self._require_open()
        if n > self._ring.record_bytes_max:
            raise ValueError(f"record of {n} bytes; this ring takes {self._ring.record_bytes_max}")
        room = ring_reserve(&self._ring, n)
        if room == NULL:
            return False
        if n:
            memcpy(room, &payload[0], n)
        ring_commit(&self._ring, n)
        return True

    def publish(self) -> bool:
        """Make all records that were put visible. True when the reader slept and was woken."""
        self._require_open()
        return bool(ring_publish(&self._ring))

    def write(self, payload: bytes) -> bool:
        """put() and publish()."""
        if not self.put(payload):
            return False
        ring_publish(&self._ring)
        return True

    def read(self) -> bytes | None:
        """The oldest record, consumed; None when there is none. InternalError: corrupt, drop the link."""
        cdef const uint8_t* payload
        cdef size_t n
        cdef ring_status status
        self._require_open()
        status = ring_peek(&self._ring, &payload, &n)
        if status == RING_CORRUPT:
            raise _internal_error(f"ring is corrupt at position {self._ring.tail}; drop the link to its writer")
        if status == RING_EMPTY:
            return None
        record = payload[:n] if n else b""
        ring_release(&self._ring)
        return record

    def prepare_sleep(self) -> bool:
        """Call before waiting for fileno() to become readable. False: do not wait, read."""
        self._require_open()
        return bool(ring_prepare_sleep(&self._ring))

    def wake_clear(self) -> None:
        """Call after waiting, whatever ended it."""
        self._require_open()
        ring_wake_clear(&self._ring)

    def fileno(self) -> int:
        """The eventfd that becomes readable when a sleeping reader has something to read."""
        self._require_open()
        return self._ring.eventfd

    @property
    def memfd(self) -> int:
        self._require_open()
        return self._ring.memfd

    @property
    def capacity(self) -> int:
        return self._ring.capacity

    @property
    def epoch(self) -> int:
        return self._ring.epoch

    @property
    def record_bytes_max(self) -> int:
        return self._ring.record_bytes_max

    @property
    def free_bytes(self) -> int:
        """Bytes that the writer could commit now, record headers included; a skip at the end may take some."""
        return ring_free_bytes(&self._ring)

    @property
    def corrupt(self) -> bool:
        return bool(self._ring.corrupt)

    @property
    def closed(self) -> bool:
        return self._ring.shared == NULL

    def close(self) -> None:
        """Unmap and close both descriptors. Closing twice is fine."""
        ring_unmap(&self._ring)

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
