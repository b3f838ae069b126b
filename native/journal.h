/* Records of the journal: what the hub appends, the folder moves into place and recovery replays.
 *
 * One journal row holds one committed batch: the records of the batch back to back, each 8-byte aligned. Positions count
 * records: a row (pos, count, blob) holds the records pos .. pos+count-1. docs/internals/journal.md explains each.
 */
#ifndef CHATD_JOURNAL_H
#define CHATD_JOURNAL_H
#include <stdint.h>

#pragma pack(push, 1)

enum {
    JOURNAL_EVENT = 1,       /* journal_event + payload */
    JOURNAL_SKIP = 2,        /* journal_skip */
    JOURNAL_MEMBER = 3,      /* journal_member: an interval opened, changed or closed; always beside its event */
    JOURNAL_POSITION = 4,    /* journal_position */
    JOURNAL_ROW = 5,         /* journal_head + MessagePack [table, {column: value}]: an upsert; {key columns, "deleted": true} deletes */
    JOURNAL_REDACT = 6,      /* journal_redact: the content of an earlier event is gone, from this record on */
};

struct journal_head {
    uint32_t bytes;          /* whole record, head and padding to 8 included */
    uint8_t type;
    uint8_t flags;
    uint16_t pad;            /* bytes of padding at the end */
};

enum {
    JOURNAL_EVENT_MESSAGE = 1,    /* counts for unread */
    JOURNAL_EVENT_EXT = 2,        /* the payload begins with the extension block, as on the wire: varint length, entries */
    JOURNAL_EVENT_TOMBSTONE = 4,  /* redacted: its content is not to be shown. Set in memory and by the fold, never appended */
};

struct journal_event {
    struct journal_head head;
    uint64_t cid;
    uint64_t seq;
    uint64_t sender;
    uint64_t device;         /* 0: written by the server (system events) */
    uint64_t cseq;           /* 0 with device 0 */
    uint64_t ts_ms;          /* Unix time */
    uint64_t message_count;  /* messages of the conversation up to and including this event */
    uint64_t digest;         /* SipHash-2-4 of the SEND body as received; recognises a reused cseq */
    uint32_t kind;
    uint32_t payload_bytes;
};

struct journal_skip {
    struct journal_head head;
    uint64_t device;
    uint64_t cseq;
};

struct journal_member {
    struct journal_head head;
    uint64_t cid;
    uint64_t user;
    uint64_t join_seq;
    uint64_t leave_seq;      /* 0: still a member */
    uint32_t role;
    uint32_t zero;
};

struct journal_position {
    struct journal_head head;
    uint64_t cid;
    uint64_t user;
    uint64_t delivered_seq;
    uint64_t read_seq;
    uint64_t read_count;     /* message_count at read_seq */
};

struct journal_redact {
    struct journal_head head;
    uint64_t cid;
    uint64_t seq;
    uint32_t reason;         /* 1 recalled, 2 expired */
    uint32_t zero;
};

#pragma pack(pop)

_Static_assert(sizeof(struct journal_event) == 80, "journal_event");
_Static_assert(sizeof(struct journal_skip) == 24, "journal_skip");
_Static_assert(sizeof(struct journal_member) == 48, "journal_member");
_Static_assert(sizeof(struct journal_position) == 48, "journal_position");
_Static_assert(sizeof(struct journal_redact) == 32, "journal_redact");
#endif
