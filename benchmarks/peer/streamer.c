/*
 * An AMQP 0-9-1 peer that only streams, to find out what a client can take.
 *
 *     streamer COUNT SIZE
 *
 * listens on a free port of 127.0.0.1 and prints it on a line.  To each client in turn it sends COUNT deliveries of
 * SIZE octets after the client's first basic.consume, from a block encoded beforehand, as fast as the socket takes
 * them; it answers what a client needs to get there, and swallows the rest.  When the client has closed, it prints
 *
 *     {"delivered": ..., "acked": ..., "publishes": ..., "seconds": ..., "cpu": ...}
 *
 * where acked counts distinct delivery tags, and seconds run from the first octet of the first delivery to the last
 * ack.  It ends when its standard input does.
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

enum { BLOCK = 256 * 1024, FRAME_MAX = 131072, METHOD = 1, HEADER = 2, BODY = 3, FRAME_END = 0xCE };

#define ID(class, method) ((uint32_t)(class) << 16 | (method))

typedef struct {
    unsigned char *data;
    size_t used, size;
} Buffer;

typedef struct {
    int socket;
    Buffer in;    /* what the client sent and is not a whole frame yet */
    Buffer out;   /* answers */
    Buffer block; /* encoded deliveries */
    size_t *tags; /* where in the block the delivery tags stand */
    uint64_t per_block, sent_in_block_octets, in_block, first_tag;
    uint64_t count, size, delivered, acked, publishes, lowest_open;
    unsigned char *acked_tags;
    double started, last_ack;
    int streaming, closing;
} Session;

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

static void answer_start(Session *s) {
    static const char product[] = "streamer", mechanisms[] = "PLAIN", locales[] = "en_US";
    size_t start = begin_method(&s->out, 0, ID(10, 10));
    put_number(&s->out, 0, 1);
    put_number(&s->out, 9, 1);
    put_number(&s->out, 1 + 7 + 1 + 4 + sizeof product - 1, 4);
    put_short(&s->out, "product", 7);
    put(&s->out, "S", 1);
    put_number(&s->out, sizeof product - 1, 4);
    put(&s->out, product, sizeof product - 1);
    put_number(&s->out, sizeof mechanisms - 1, 4);
    put(&s->out, mechanisms, sizeof mechanisms - 1);
    put_number(&s->out, sizeof locales - 1, 4);
    put(&s->out, locales, sizeof locales - 1);
    end_frame(&s->out, start);
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

/* Encode as many deliveries as fill the block, as kombu publishes raw bytes. */
static void encode_block(Session *s, int channel, const unsigned char *consumer_tag) {
    unsigned char *body = checked(malloc(s->size + 1));
    memset(body, 'x', s->size);
    s->block.used = 0;
    s->tags = checked(realloc(s->tags, sizeof *s->tags * (BLOCK / 64 + 1)));
    s->per_block = 0;
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
        put_number(&s->block, s->size, 8);
        put_number(&s->block, 0xF800, 2); /* content type, content encoding, headers, delivery mode, priority */
        put_short(&s->block, "application/data", 16);
        put_short(&s->block, "binary", 6);
        put_number(&s->block, 0, 4);
        put_number(&s->block, 1, 1);
        put_number(&s->block, 0, 1);
        end_frame(&s->block, start);
        for (uint64_t done = 0; done < s->size;) {
            uint64_t part = s->size - done < FRAME_MAX - 8 ? s->size - done : FRAME_MAX - 8;
            start = begin_frame(&s->block, BODY, channel);
            put(&s->block, body + done, part);
            end_frame(&s->block, start);
            done += part;
        }
    } while (s->block.used < BLOCK && s->per_block < s->count);
    free(body);
}

static void number_block(Session *s) {
    s->in_block = s->count - s->delivered < s->per_block ? s->count - s->delivered : s->per_block;
    for (uint64_t i = 0; i < s->in_block; i++) {
        uint64_t tag = s->delivered + i + 1;
        for (int k = 0; k < 8; k++) s->block.data[s->tags[i] + k] = tag >> (56 - 8 * k);
    }
    s->sent_in_block_octets = 0;
}

static size_t block_octets(const Session *s) { return s->block.used / s->per_block * s->in_block; }

static void acknowledge(Session *s, uint64_t tag, int multiple) {
    if (tag > s->delivered + s->in_block || tag > s->count) {
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

/* -- what the client says */

static uint64_t number(const unsigned char *p, int octets) {
    uint64_t value = 0;
    while (octets--) value = value << 8 | *p++;
    return value;
}

static void take_method(Session *s, int channel, const unsigned char *p, size_t size) {
    uint32_t id = number(p, 4);
    const unsigned char *arguments = p + 4, *end = p + size;
    switch (id) {
    case ID(10, 11): answer_tune(s); break;
    case ID(10, 31): break;
    case ID(10, 40): answer_text(s, 0, ID(10, 41), (const unsigned char *)"", 0); break;
    case ID(10, 50): answer(s, 0, ID(10, 51)); s->closing = 1; break;
    case ID(20, 10): answer_text(s, channel, ID(20, 11), (const unsigned char *)"", 3); break;
    case ID(40, 10): answer(s, channel, ID(40, 11)); break;
    case ID(50, 10): answer_text(s, channel, ID(50, 11), arguments + 2, 8); break;
    case ID(50, 40): answer_text(s, channel, ID(50, 41), (const unsigned char *)"", 3); break;
    case ID(60, 20): { /* reserved, queue, consumer tag, bits, arguments */
        const unsigned char *tag = arguments + 2 + 1 + arguments[2];
        int nowait = tag + 1 + tag[0] < end && tag[1 + tag[0]] & 8;
        if (!nowait) answer_text(s, channel, ID(60, 21), tag, 0);
        if (!s->streaming && s->delivered == 0) {
            encode_block(s, channel, tag);
            number_block(s);
            s->streaming = 1;
        }
        break;
    }
    case ID(60, 30):
        if (!(arguments[1 + arguments[0]] & 1)) answer_text(s, channel, ID(60, 31), arguments, 0);
        break;
    case ID(60, 40): s->publishes++; break;
    case ID(60, 80): acknowledge(s, number(arguments, 8), arguments[8] & 1); break;
    case ID(60, 90): case ID(60, 120): break;
    default: /* the answer of most methods has the next number and no arguments */
        answer(s, channel, id + 1);
    }
}

static void take_frames(Session *s) {
    size_t at = 0;
    while (s->in.used - at >= 8) {
        const unsigned char *p = s->in.data + at;
        size_t size = number(p + 3, 4);
        if (at == 0 && memcmp(p, "AMQP", 4) == 0) {
            answer_start(s);
            at += 8;
            continue;
        }
        if (s->in.used - at < size + 8) break;
        if (p[7 + size] != FRAME_END) {
            fprintf(stderr, "streamer: a frame of type %d ends with 0x%02x\n", p[0], p[7 + size]);
            exit(1);
        }
        if (p[0] == METHOD) take_method(s, number(p + 1, 2), p + 7, size);
        at += size + 8;
    }
    memmove(s->in.data, s->in.data + at, s->in.used - at);
    s->in.used -= at;
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
        if (!s->streaming) return 1;
        if (s->started == 0) s->started = now(CLOCK_MONOTONIC);
        size_t octets = block_octets(s);
        ssize_t n = send(s->socket, s->block.data + s->sent_in_block_octets, octets - s->sent_in_block_octets,
                         MSG_NOSIGNAL);
        if (n < 0) return errno != EAGAIN;
        s->sent_in_block_octets += n;
        if (s->sent_in_block_octets < octets) continue;
        s->delivered += s->in_block;
        s->in_block = s->sent_in_block_octets = 0;
        s->streaming = s->delivered < s->count;
        if (s->streaming) number_block(s);
        return !s->streaming && s->out.used == 0;
    }
}

static void serve(Session *s) {
    int idle = 1;
    set_nonblocking(s->socket);
    for (;;) {
        struct pollfd p = {s->socket, POLLIN | (idle ? 0 : POLLOUT), 0};
        if (poll(&p, 1, -1) < 0 && errno != EINTR) fail("poll");
        if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
            if (s->in.size - s->in.used < 65536) {
                s->in.size = s->in.size * 2 + 65536;
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

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: streamer COUNT SIZE\n");
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct pollfd waiting[2] = {{listener, POLLIN, 0}, {0, POLLIN, 0}};
        if (poll(waiting, 2, -1) < 0) fail("poll");
        if (waiting[1].revents) return 0;
        Session s = {.count = strtoull(argv[1], NULL, 10), .size = strtoull(argv[2], NULL, 10), .lowest_open = 1};
        s.socket = accept(listener, NULL, NULL);
        if (s.socket < 0) fail("accept");
        setsockopt(s.socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        s.acked_tags = checked(calloc(s.count + 1, 1));
        double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        serve(&s);
        printf("{\"delivered\": %llu, \"acked\": %llu, \"publishes\": %llu, \"seconds\": %.6f, \"cpu\": %.6f}\n",
               (unsigned long long)s.delivered, (unsigned long long)s.acked, (unsigned long long)s.publishes,
               s.last_ack > s.started ? s.last_ack - s.started : 0.0, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        fflush(stdout);
        close(s.socket);
        free(s.in.data);
        free(s.out.data);
        free(s.block.data);
        free(s.tags);
        free(s.acked_tags);
    }
}
