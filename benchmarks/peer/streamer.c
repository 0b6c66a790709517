/*
 * An AMQP 0-9-1 peer that streams, counts and swallows, to find out what a client can take.
 *
 *     streamer [--count N] [--body FILE] [--properties FILE] [--number-at OFFSET] [--ignore-prefetch] [--confirms HOW]
 *
 * listens on a free port of 127.0.0.1 and prints it on a line; then it serves one client after the other.
 *
 * Deliveries: after a client's first basic.consume it gets N messages (default 0) as fast as the socket takes them, from
 * a block encoded beforehand, but no more unacknowledged ones than its basic.qos allows (--ignore-prefetch: as many as
 * there are).  Each has the body of FILE and the content properties of FILE (flags and values as they stand in a header
 * frame).  With --number-at the ten octets of the body at OFFSET are replaced by 1000000000 + the number of the message,
 * from 0, so that a client can prove that it had every one.
 *
 * Publishes: they are counted, each body is compared with the first, and after confirm.select each is confirmed:
 * "single" (the default) by a basic.ack each, "bunch" by one multiple basic.ack for all that arrived in one read.
 *
 * Every other method is answered with what a client needs to go on.  When "report" and a newline come from the standard
 * input, it prints the totals since the last report as one line of JSON:
 *
 *     connections     served to their end
 *     delivered       messages sent
 *     acked           distinct delivery tags acknowledged (by themselves, or by a multiple)
 *     ack_frames      basic.ack frames
 *     publishes       whole messages published
 *     published_octets, first_body (FNV-1a, 64 bits), different (bodies unlike the first), content_type (of the first)
 *     confirmed       publishes that were confirmed
 *     seconds         from the first octet of the first delivery to the last ack, of the last connection
 *     cpu             processor seconds of this process
 *
 * It ends when its standard input does.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK = 256 * 1024,
    FRAME_MAX = 131072,
    METHOD = 1,
    HEADER = 2,
    BODY = 3,
    FRAME_END = 0xCE,
    DIGITS = 10,
    KEPT_BODY = 64 * 1024 * 1024,
};

#define FIRST_NUMBER 1000000000ull
#define ID(class, method) ((uint32_t)(class) << 16 | (method))

typedef struct {
    unsigned char *data;
    size_t used, size;
} Buffer;

typedef struct {
    uint64_t count;
    Buffer body, properties;
    int64_t number_at; /* or -1 */
    int ignore_prefetch, confirm_bunches;
} Options;

/* What a report says, over all connections since the last one. */
typedef struct {
    uint64_t connections, delivered, acked, ack_frames, publishes, published_octets, different, confirmed;
    Buffer first_body;
    char content_type[256];
    double seconds;
} Totals;

typedef struct {
    int socket;
    Buffer in;    /* what the client sent and is not a whole frame yet */
    Buffer out;   /* answers */
    Buffer block; /* encoded deliveries, all of the same size */
    size_t *tags; /* where in the block the delivery tags stand */
    size_t number_offset;
    uint64_t per_block, sent_in_block_octets, in_block;
    uint64_t delivered, acked, lowest_open, prefetch;
    unsigned char *acked_tags;
    double started, last_ack;
    int streaming, no_ack, closing;
    int ending; /* no further deliveries are wanted */
    int confirming, publish_channel, publish_confirmed_on;
    uint64_t publish_size, publish_taken, unconfirmed, publish_tag;
    int publishing; /* a basic.publish came, its content has not all come */
    int publish_differs;
} Session;

static Options options = {.number_at = -1};
static Totals totals;

static void fail(const char *what) {
    fprintf(stderr, "streamer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL) fail("memory");
    return memory;
}

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t number(const unsigned char *p, int octets) {
    uint64_t value = 0;
    while (octets--) value = value << 8 | *p++;
    return value;
}

/* -- writing */

static void put(Buffer *b, const void *data, size_t n) {
    if (b->used + n > b->size) {
        b->size = (b->used + n) * 2;
        b->data = checked(realloc(b->data, b->size));
    }
    memcpy(b->data + b->used, data, n);
    b->used += n;
}

static void put_number(Buffer *b, uint64_t value, int octets) {
    unsigned char big[8];
    for (int i = 0; i < octets; i++) big[i] = value >> (8 * (octets - 1 - i));
    put(b, big, octets);
}

static void put_short(Buffer *b, const void *text, size_t n) {
    put_number(b, n, 1);
    put(b, text, n);
}

static size_t begin_frame(Buffer *b, int type, int channel) {
    put_number(b, type, 1);
    put_number(b, channel, 2);
    put_number(b, 0, 4);
    return b->used;
}

static void end_frame(Buffer *b, size_t start) {
    uint32_t size = htonl((uint32_t)(b->used - start));
    memcpy(b->data + start - 4, &size, 4);
    put_number(b, FRAME_END, 1);
}

static size_t begin_method(Buffer *b, int channel, uint32_t id) {
    size_t start = begin_frame(b, METHOD, channel);
    put_number(b, id, 4);
    return start;
}

static void answer(Session *s, int channel, uint32_t id) {
    end_frame(&s->out, begin_method(&s->out, channel, id));
}

static size_t begin_table(Buffer *b) {
    put_number(b, 0, 4);
    return b->used;
}

static void end_table(Buffer *b, size_t start) {
    uint32_t size = htonl((uint32_t)(b->used - start));
    memcpy(b->data + start - 4, &size, 4);
}

static void put_text_field(Buffer *b, const char *name, const char *text) {
    put_short(b, name, strlen(name));
    put(b, "S", 1);
    put_number(b, strlen(text), 4);
    put(b, text, strlen(text));
}

/* What a client may look for: RabbitMQ's capabilities, as far as this peer has them. */
static void answer_start(Session *s) {
    static const char *const able[] = {"publisher_confirms", "basic.nack", "consumer_cancel_notify",
                                       "exchange_exchange_bindings", "authentication_failure_close"};
    Buffer *b = &s->out;
    size_t start = begin_method(b, 0, ID(10, 10));
    put_number(b, 0, 1);
    put_number(b, 9, 1);
    size_t table = begin_table(b);
    put_text_field(b, "product", "streamer");
    put_text_field(b, "version", "1.0.0");
    put_short(b, "capabilities", 12);
    put(b, "F", 1);
    size_t inner = begin_table(b);
    for (size_t i = 0; i < sizeof able / sizeof *able; i++) {
        put_short(b, able[i], strlen(able[i]));
        put(b, "t\1", 2);
    }
    end_table(b, inner);
    end_table(b, table);
    put_number(b, 5, 4);
    put(b, "PLAIN", 5);
    put_number(b, 5, 4);
    put(b, "en_US", 5);
    end_frame(b, start);
}

static void answer_tune(Session *s) {
    size_t start = begin_method(&s->out, 0, ID(10, 30));
    put_number(&s->out, 2047, 2);
    put_number(&s->out, FRAME_MAX, 4);
    put_number(&s->out, 0, 2);
    end_frame(&s->out, start);
}

/* An answer with one short string, which is what a client put at *text*. */
static void answer_text(Session *s, int channel, uint32_t id, const unsigned char *text, size_t more) {
    static const unsigned char zeros[8];
    size_t start = begin_method(&s->out, channel, id);
    put(&s->out, text, 1 + text[0]);
    put(&s->out, zeros, more);
    end_frame(&s->out, start);
}

/* -- deliveries */

/* Encode as many deliveries as fill the block. */
static void encode_block(Session *s, int channel, const unsigned char *consumer_tag) {
    const Buffer *body = &options.body;
    s->tags = checked(malloc(sizeof *s->tags * (BLOCK / 32 + 1)));
    s->block.used = s->per_block = 0;
    do {
        size_t start = begin_method(&s->block, channel, ID(60, 60));
        put(&s->block, consumer_tag, 1 + consumer_tag[0]);
        s->tags[s->per_block++] = s->block.used;
        put_number(&s->block, 0, 8);
        put_number(&s->block, 0, 1);
        put_short(&s->block, "", 0);
        put_short(&s->block, "bench", 5);
        end_frame(&s->block, start);
        start = begin_frame(&s->block, HEADER, channel);
        put_number(&s->block, 60, 2);
        put_number(&s->block, 0, 2);
        put_number(&s->block, body->used, 8);
        put(&s->block, options.properties.data, options.properties.used);
        end_frame(&s->block, start);
        s->number_offset = s->block.used + 7 + options.number_at - s->tags[s->per_block - 1];
        for (size_t done = 0; done < body->used;) {
            size_t part = body->used - done < FRAME_MAX - 8 ? body->used - done : FRAME_MAX - 8;
            start = begin_frame(&s->block, BODY, channel);
            put(&s->block, body->data + done, part);
            end_frame(&s->block, start);
            done += part;
        }
    } while (s->block.used < BLOCK && s->per_block < options.count);
}

/* Number the deliveries that go out next: what is left, fills a block, and is within the prefetch limit. */
static void number_block(Session *s) {
    uint64_t n = options.count - s->delivered;
    if (n > s->per_block) n = s->per_block;
    if (s->prefetch && !s->no_ack && !options.ignore_prefetch) {
        uint64_t open = s->delivered - s->acked, allowed = open < s->prefetch ? s->prefetch - open : 0;
        if (n > allowed) n = allowed;
    }
    for (uint64_t i = 0; i < n; i++) {
        unsigned char *at = s->block.data + s->tags[i];
        uint64_t tag = s->delivered + i + 1;
        for (int k = 0; k < 8; k++) at[k] = tag >> (56 - 8 * k);
        if (options.number_at >= 0) {
            uint64_t number = FIRST_NUMBER + tag - 1;
            for (int k = DIGITS - 1; k >= 0; k--, number /= 10) at[s->number_offset + k] = '0' + number % 10;
        }
    }
    s->in_block = n;
    s->sent_in_block_octets = 0;
}

static size_t block_octets(const Session *s) { return s->block.used / s->per_block * s->in_block; }

static void acknowledge(Session *s, uint64_t tag, int multiple) {
    totals.ack_frames++;
    if (multiple && tag == 0) tag = s->delivered + s->in_block;
    if (tag == 0 || tag > s->delivered + s->in_block || tag > options.count) {
        fprintf(stderr, "streamer: ack of unknown delivery tag %llu\n", (unsigned long long)tag);
        exit(1);
    }
    for (uint64_t t = multiple ? s->lowest_open : tag; t <= tag; t++) {
        s->acked += !s->acked_tags[t];
        s->acked_tags[t] = 1;
    }
    if (multiple && tag >= s->lowest_open) s->lowest_open = tag + 1;
    s->last_ack = now(CLOCK_MONOTONIC);
}

/* -- publishes */

static void confirm(Session *s, int multiple) {
    size_t start = begin_method(&s->out, s->publish_confirmed_on, ID(60, 80));
    put_number(&s->out, s->publish_tag, 8);
    put_number(&s->out, multiple, 1);
    end_frame(&s->out, start);
    totals.confirmed += s->unconfirmed;
    s->unconfirmed = 0;
}

static void end_publish(Session *s) {
    s->publishing = 0;
    totals.publishes++;
    totals.different += s->publish_differs || s->publish_size != totals.first_body.used;
    totals.published_octets += s->publish_size;
    if (s->confirming) {
        s->publish_confirmed_on = s->publish_channel;
        s->publish_tag++;
        s->unconfirmed++;
        if (!options.confirm_bunches) confirm(s, 0);
    }
}

static void take_header(Session *s, const unsigned char *p, size_t size) {
    if (!s->publishing || size < 14) {
        fprintf(stderr, "streamer: a content header that nothing came before\n");
        exit(1);
    }
    s->publish_size = number(p + 4, 8);
    s->publish_taken = 0;
    s->publish_differs = 0;
    if (totals.publishes == 0) {
        totals.first_body.used = 0;
        totals.content_type[0] = 0;
        if (p[12] & 0x80 && size > 14) {
            memcpy(totals.content_type, p + 15, p[14]);
            totals.content_type[p[14]] = 0;
        }
    }
    if (s->publish_size == 0) end_publish(s);
}

static void take_body(Session *s, const unsigned char *p, size_t size) {
    if (!s->publishing || s->publish_taken + size > s->publish_size) {
        fprintf(stderr, "streamer: a body frame that nothing came before\n");
        exit(1);
    }
    if (totals.publishes == 0 && s->publish_size <= KEPT_BODY)
        put(&totals.first_body, p, size);
    else if (s->publish_taken + size > totals.first_body.used ||
             memcmp(totals.first_body.data + s->publish_taken, p, size) != 0)
        s->publish_differs = 1;
    s->publish_taken += size;
    if (s->publish_taken == s->publish_size) end_publish(s);
}

/* -- what the client says */

/* Skip *n* short strings. */
static const unsigned char *after_texts(const unsigned char *p, int n) {
    while (n--) p += 1 + p[0];
    return p;
}

static void begin_streaming(Session *s, int channel, const unsigned char *tag, int bits) {
    if (s->streaming || s->delivered || options.count == 0) return;
    encode_block(s, channel, tag);
    s->no_ack = bits & 2;
    s->streaming = 1;
    number_block(s);
}

static void take_method(Session *s, int channel, const unsigned char *p, size_t size) {
    static const unsigned char generated[] = "\007bench.1", nothing[] = "";
    uint32_t id = number(p, 4);
    const unsigned char *arguments = p + 4, *at;
    (void)size;
    switch (id) {
    case ID(10, 11): answer_tune(s); break;
    case ID(10, 31): break;
    case ID(10, 40): answer_text(s, 0, ID(10, 41), nothing, 0); break;
    case ID(10, 50): answer(s, 0, ID(10, 51)); s->closing = s->ending = 1; break;
    case ID(10, 51): case ID(20, 41): break;
    case ID(20, 10): answer_text(s, channel, ID(20, 11), nothing, 3); break;
    case ID(20, 20): { /* flow-ok repeats the bit */
        size_t start = begin_method(&s->out, channel, ID(20, 21));
        put_number(&s->out, arguments[0] & 1, 1);
        end_frame(&s->out, start);
        break;
    }
    case ID(20, 40): answer(s, channel, ID(20, 41)); s->ending = 1; break;
    case ID(40, 10): /* declare: reserved, name, type, bits */
        if (!(*after_texts(arguments + 2, 2) & 16)) answer(s, channel, ID(40, 11));
        break;
    case ID(40, 20): /* delete: reserved, name, bits */
        if (!(*after_texts(arguments + 2, 1) & 2)) answer(s, channel, ID(40, 21));
        break;
    case ID(40, 30): case ID(40, 40): /* bind, unbind: reserved, three names, bits */
        if (!(*after_texts(arguments + 2, 3) & 1)) answer(s, channel, id == ID(40, 30) ? ID(40, 31) : ID(40, 51));
        break;
    case ID(50, 10): /* declare: reserved, name, bits */
        if (!(*after_texts(arguments + 2, 1) & 16))
            answer_text(s, channel, ID(50, 11), arguments[2] ? arguments + 2 : generated, 8);
        break;
    case ID(50, 20): /* bind: reserved, three names, bits */
        if (!(*after_texts(arguments + 2, 3) & 1)) answer(s, channel, ID(50, 21));
        break;
    case ID(50, 30): case ID(50, 40): /* purge, delete: the answer counts messages */
        if (!(*after_texts(arguments + 2, 1) & (id == ID(50, 30) ? 1 : 4)))
            answer_text(s, channel, id + 1, nothing, 3);
        break;
    case ID(60, 10): /* qos: size, count, global */
        s->prefetch = number(arguments + 4, 2);
        answer(s, channel, ID(60, 11));
        break;
    case ID(60, 20): /* consume: reserved, queue, tag, bits, arguments */
        at = after_texts(arguments + 2, 2);
        p = after_texts(arguments + 2, 1);
        if (p[0] == 0) p = generated;
        if (!(*at & 8)) answer_text(s, channel, ID(60, 21), p, 0);
        begin_streaming(s, channel, p, *at);
        break;
    case ID(60, 30): /* cancel: tag, bits */
        if (!(*after_texts(arguments, 1) & 1)) answer_text(s, channel, ID(60, 31), arguments, 0);
        s->ending = 1;
        break;
    case ID(60, 40):
        s->publishing = 1;
        s->publish_channel = channel;
        break;
    case ID(60, 70): answer_text(s, channel, ID(60, 72), nothing, 0); break;
    case ID(60, 80): acknowledge(s, number(arguments, 8), arguments[8] & 1); break;
    case ID(60, 90): case ID(60, 120): break;
    case ID(85, 10):
        s->confirming = 1;
        if (!(arguments[0] & 1)) answer(s, channel, ID(85, 11));
        break;
    default: /* the answer of most methods has the next number and no arguments */
        answer(s, channel, id + 1);
    }
}

static void take_frames(Session *s) {
    size_t at = 0;
    while (s->in.used - at >= 8) {
        const unsigned char *p = s->in.data + at;
        if (memcmp(p, "AMQP", 4) == 0) {
            answer_start(s);
            at += 8;
            continue;
        }
        size_t size = number(p + 3, 4);
        if (size > FRAME_MAX - 8) {
            fprintf(stderr, "streamer: a frame of %zu octets\n", size);
            exit(1);
        }
        if (s->in.used - at < size + 8) break;
        if (p[7 + size] != FRAME_END) {
            fprintf(stderr, "streamer: a frame of type %d ends with 0x%02x\n", p[0], p[7 + size]);
            exit(1);
        }
        if (p[0] == METHOD) take_method(s, number(p + 1, 2), p + 7, size);
        if (p[0] == HEADER) take_header(s, p + 7, size);
        if (p[0] == BODY) take_body(s, p + 7, size);
        at += size + 8;
    }
    memmove(s->in.data, s->in.data + at, s->in.used - at);
    s->in.used -= at;
    if (s->unconfirmed) confirm(s, 1);
}

/* -- the loop */

static void set_nonblocking(int fd) {
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) fail("fcntl");
}

/* Write until the socket takes no more or a block is done, after which acks are read; return whether all is written. */
static int write_some(Session *s) {
    for (;;) {
        int within_block = s->streaming && s->sent_in_block_octets > 0;
        if (s->out.used && !within_block) {
            ssize_t n = send(s->socket, s->out.data, s->out.used, MSG_NOSIGNAL);
            if (n < 0) return errno != EAGAIN;
            memmove(s->out.data, s->out.data + n, s->out.used - n);
            s->out.used -= n;
            continue;
        }
        if (s->ending && !within_block) s->streaming = 0;
        if (!s->streaming) return 1;
        if (s->in_block == 0) number_block(s);
        if (s->in_block == 0) return 1; /* the prefetch limit is reached; an ack wakes the loop */
        if (s->started == 0) s->started = now(CLOCK_MONOTONIC);
        size_t octets = block_octets(s);
        ssize_t n = send(s->socket, s->block.data + s->sent_in_block_octets, octets - s->sent_in_block_octets,
                         MSG_NOSIGNAL);
        if (n < 0) return errno != EAGAIN;
        s->sent_in_block_octets += n;
        if (s->sent_in_block_octets < octets) continue;
        s->delivered += s->in_block;
        s->in_block = s->sent_in_block_octets = 0;
        s->streaming = s->delivered < options.count;
        return !s->streaming && s->out.used == 0;
    }
}

static void serve(Session *s) {
    int idle = 1;
    set_nonblocking(s->socket);
    for (;;) {
        struct pollfd p[2] = {{s->socket, POLLIN | (idle ? 0 : POLLOUT), 0}, {0, 0, 0}};
        if (poll(p, 2, -1) < 0 && errno != EINTR) fail("poll");
        if (p[1].revents & (POLLHUP | POLLERR)) exit(0);
        if (p[0].revents & (POLLIN | POLLHUP | POLLERR)) {
            if (s->in.size - s->in.used < 262144) {
                s->in.size = s->in.size * 2 + 262144;
                s->in.data = checked(realloc(s->in.data, s->in.size));
            }
            ssize_t n = recv(s->socket, s->in.data + s->in.used, s->in.size - s->in.used, 0);
            if (n == 0 || (n < 0 && errno != EAGAIN)) return;
            if (n > 0) {
                s->in.used += n;
                take_frames(s);
            }
        }
        idle = write_some(s);
        if (s->closing && s->out.used == 0) shutdown(s->socket, SHUT_WR);
    }
}

static void serve_client(int listener) {
    Session s = {.lowest_open = 1};
    int one = 1;
    s.socket = accept(listener, NULL, NULL);
    if (s.socket < 0) fail("accept");
    setsockopt(s.socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    s.acked_tags = checked(calloc(options.count + 1, 1));
    serve(&s);
    totals.connections++;
    totals.delivered += s.delivered;
    totals.acked += s.acked;
    totals.seconds = s.last_ack > s.started ? s.last_ack - s.started : 0.0;
    close(s.socket);
    free(s.in.data);
    free(s.out.data);
    free(s.block.data);
    free(s.tags);
    free(s.acked_tags);
}

static void report(void) {
    static double reported;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < totals.first_body.used; i++) hash = (hash ^ totals.first_body.data[i]) * 0x100000001b3ull;
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    printf("{\"connections\": %llu, \"delivered\": %llu, \"acked\": %llu, \"ack_frames\": %llu, \"publishes\": %llu, "
           "\"published_octets\": %llu, \"different\": %llu, \"first_body\": \"%016llx\", \"content_type\": \"%s\", "
           "\"confirmed\": %llu, \"seconds\": %.6f, \"cpu\": %.6f}\n",
           (unsigned long long)totals.connections, (unsigned long long)totals.delivered,
           (unsigned long long)totals.acked, (unsigned long long)totals.ack_frames,
           (unsigned long long)totals.publishes, (unsigned long long)totals.published_octets,
           (unsigned long long)totals.different, (unsigned long long)hash, totals.content_type,
           (unsigned long long)totals.confirmed, totals.seconds, cpu - reported);
    fflush(stdout);
    reported = cpu;
    free(totals.first_body.data);
    totals = (Totals){0};
}

static void read_file(const char *name, Buffer *into) {
    char part[65536];
    size_t n;
    FILE *file = fopen(name, "rb");
    if (file == NULL) fail(name);
    while ((n = fread(part, 1, sizeof part, file)) > 0) put(into, part, n);
    fclose(file);
}

static void usage(void) {
    fprintf(stderr, "usage: streamer [--count N] [--body FILE] [--properties FILE] [--number-at OFFSET]"
                    " [--ignore-prefetch] [--confirms single|bunch]\n");
    exit(2);
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--ignore-prefetch") == 0) {
            options.ignore_prefetch = 1;
            continue;
        }
        if (value == NULL) usage();
        if (strcmp(argv[i], "--count") == 0) options.count = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--body") == 0) read_file(value, &options.body);
        else if (strcmp(argv[i], "--properties") == 0) read_file(value, &options.properties);
        else if (strcmp(argv[i], "--number-at") == 0) options.number_at = strtoll(value, NULL, 10);
        else if (strcmp(argv[i], "--confirms") == 0) options.confirm_bunches = strcmp(value, "bunch") == 0;
        else usage();
        i++;
    }
    if (options.properties.used == 0) put_number(&options.properties, 0, 2); /* no flags, no properties */
    if (options.number_at >= 0 && (size_t)options.number_at + DIGITS > options.body.used) {
        fprintf(stderr, "streamer: no %d octets at %lld of the body\n", DIGITS, (long long)options.number_at);
        exit(2);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        char line[64];
        struct pollfd waiting[2] = {{listener, POLLIN, 0}, {0, POLLIN, 0}};
        if (poll(waiting, 2, -1) < 0) fail("poll");
        if (waiting[0].revents) { /* first, since a report is asked for after the last client */
            serve_client(listener);
            continue;
        }
        ssize_t n = read(0, line, sizeof line);
        if (n <= 0) return 0;
        for (ssize_t i = 0; i < n; i++)
            if (line[i] == '\n') report();
    }
}
