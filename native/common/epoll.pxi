# The one way in which engine and hub wait for descriptors.

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags) noexcept
    int epoll_ctl(int fd, int operation, int target, epoll_event* event) noexcept
    int epoll_wait(int fd, epoll_event* events, int n, int timeout_ms) noexcept
    const int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    const uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
