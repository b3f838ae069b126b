#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t parse_number(const char *text, uint32_t line) {
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        die("plan line %u: '%s' is not a number", line, text);
    }
    return number;
}

static struct channels parse_channels(char *text, uint32_t line) {
    struct channels channels = {0};
    if (strcmp(text, "-") == 0) {
        return channels;
    }
    uint32_t count = 1;
    for (const char *at = text; *at != '\0'; at++) {
        count += *at == ',';
    }
    channels.at = allocate(count, sizeof *channels.at);
    char *rest = text;
    for (char *item = strsep(&rest, ","); item != NULL; item = strsep(&rest, ",")) {
        channels.at[channels.count++].id = parse_number(item, line);
    }
    return channels;
}

static uint8_t hexadecimal_digit(char digit, uint32_t line) {
    if (digit >= '0' && digit <= '9') {
        return (uint8_t)(digit - '0');
    }
    if (digit >= 'a' && digit <= 'f') {
        return (uint8_t)(digit - 'a' + 10);
    }
    die("plan line %u: the proof is not hexadecimal", line);
}

static void parse_proof(struct plan_line *parsed, const char *text, uint32_t line) {
    if (strcmp(text, "-") == 0) {
        return;
    }
    parsed->proof_size = (uint32_t)(strlen(text) / 2);
    parsed->proof = allocate(parsed->proof_size, 1);
    for (uint32_t at = 0; at < parsed->proof_size; at++) {
        parsed->proof[at] =
            (uint8_t)(hexadecimal_digit(text[2 * at], line) << 4 | hexadecimal_digit(text[2 * at + 1], line));
    }
}

static struct plan_line parse_line(char *text, uint32_t line) {
    char *fields[6];
    char *rest = text;
    for (int field = 0; field < 6; field++) {
        fields[field] = strsep(&rest, " ");
        if (fields[field] == NULL || *fields[field] == '\0') {
            die("plan line %u: field %d is missing", line, field + 1);
        }
    }
    struct plan_line parsed = {
        .credential = (uint8_t)parse_number(fields[0], line),
        .device = parse_number(fields[1], line),
        .identity = strcmp(fields[2], "-") == 0 ? "" : strdup(fields[2]),
        .publish = parse_channels(fields[4], line),
        .subscribe = parse_channels(fields[5], line),
    };
    parse_proof(&parsed, fields[3], line);
    return parsed;
}

static int compare_ids(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* How many of the sorted ids are below `id`. */
static uint32_t ids_below(const uint64_t *ids, uint32_t count, uint64_t id) {
    uint32_t low = 0;
    while (low < count) {
        uint32_t middle = low + (count - low) / 2;
        if (ids[middle] < id) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return low;
}

/* A message counts as delivered when every subscriber but its sender has it, so the sender must know how many there are. */
static void count_subscribers(struct plan *plan) {
    uint32_t total = 0;
    for (uint32_t line = 0; line < plan->count; line++) {
        total += plan->lines[line].subscribe.count;
    }
    uint64_t *ids = allocate(total, sizeof *ids);
    uint32_t filled = 0;
    for (uint32_t line = 0; line < plan->count; line++) {
        const struct channels *subscribe = &plan->lines[line].subscribe;
        for (uint32_t place = 0; place < subscribe->count; place++) {
            ids[filled++] = subscribe->at[place].id;
        }
    }
    qsort(ids, total, sizeof *ids, compare_ids);
    for (uint32_t line = 0; line < plan->count; line++) {
        const struct channels *publish = &plan->lines[line].publish;
        for (uint32_t place = 0; place < publish->count; place++) {
            struct channel *channel = &publish->at[place];
            bool itself = channel_find(&plan->lines[line].subscribe, channel->id) != NULL;
            channel->fan =
                ids_below(ids, total, channel->id + 1) - ids_below(ids, total, channel->id) - (itself ? 1 : 0);
        }
    }
    free(ids);
}

struct plan plan_load(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        die("%s: %s", path, strerror(errno));
    }
    struct plan plan = {0};
    uint32_t capacity = 0;
    char *text = NULL;
    size_t text_size = 0;
    ssize_t length;
    while ((length = getline(&text, &text_size, file)) > 0) {
        text[strcspn(text, "\n")] = '\0';
        if (plan.count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            plan.lines = enlarge(plan.lines, capacity * sizeof *plan.lines);
        }
        plan.lines[plan.count] = parse_line(text, plan.count + 1);
        plan.count++;
    }
    free(text);
    fclose(file);
    if (plan.count == 0) {
        die("%s: an empty plan", path);
    }
    count_subscribers(&plan);
    return plan;
}
