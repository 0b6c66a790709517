/*
 * The reference that is not Python: consume with librabbitmq, acknowledge each message.
 *
 *     consumer HOST PORT QUEUE COUNT WARM SIZE
 *
 * does what the Python clients do for the workload "consume" with raw bodies and prints the same line of JSON: the clock,
 * wall and processor time of this process, runs from message WARM to message COUNT.
 */

#define _GNU_SOURCE
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_NUMBER 1000000000ull

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("consumer: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void expect_ok(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) fail("%s: %s", what, amqp_error_string2(reply.library_error));
    fail("%s: the server answered with method 0x%08x", what, reply.reply.id);
}

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static long peak_kib(void) {
    char line[256];
    long peak = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &peak) == 1) break;
    if (status) fclose(status);
    return peak;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: consumer HOST PORT QUEUE COUNT WARM SIZE\n");
        return 2;
    }
    uint64_t count = strtoull(argv[4], NULL, 10), warm = strtoull(argv[5], NULL, 10), size = strtoull(argv[6], NULL, 10);
    uint64_t octets = 0, numbers = 0;
    double wall = 0, cpu = 0;
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (socket == NULL || amqp_socket_open(socket, argv[1], atoi(argv[2]))) fail("cannot connect to %s:%s", argv[1], argv[2]);
    expect_ok(amqp_login(connection, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
    amqp_channel_open(connection, 1);
    expect_ok(amqp_get_rpc_reply(connection), "channel.open");
    amqp_bytes_t queue = amqp_cstring_bytes(argv[3]);
    amqp_queue_declare(connection, 1, queue, 0, 0, 0, 0, amqp_empty_table);
    expect_ok(amqp_get_rpc_reply(connection), "queue.declare");
    amqp_basic_consume(connection, 1, queue, amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    expect_ok(amqp_get_rpc_reply(connection), "basic.consume");
    for (uint64_t seen = 0; seen < count;) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        expect_ok(amqp_consume_message(connection, &envelope, NULL, 0), "consuming");
        octets += envelope.message.body.len;
        uint64_t digits = 0;
        for (size_t i = 0; i < 10 && i < envelope.message.body.len; i++)
            digits = digits * 10 + (((char *)envelope.message.body.bytes)[i] - '0');
        numbers += digits - FIRST_NUMBER;
        if (amqp_basic_ack(connection, 1, envelope.delivery_tag, 0)) fail("cannot acknowledge");
        amqp_destroy_envelope(&envelope);
        if (++seen == warm) {
            wall = now(CLOCK_MONOTONIC);
            cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        }
    }
    wall = now(CLOCK_MONOTONIC) - wall;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    expect_ok(amqp_channel_close(connection, 1, AMQP_REPLY_SUCCESS), "channel.close");
    expect_ok(amqp_connection_close(connection, AMQP_REPLY_SUCCESS), "connection.close");
    amqp_destroy_connection(connection);
    if (octets != count * size || numbers != count * (count - 1) / 2)
        fail("%llu octets and a sum of %llu arrived", (unsigned long long)octets, (unsigned long long)numbers);
    printf("{\"messages\": %llu, \"seconds\": %.9f, \"cpu_seconds\": %.9f, \"peak_kib\": %ld, \"version\": \"%s\"}\n",
           (unsigned long long)(count - warm), wall, cpu, peak_kib(), amqp_version());
    return 0;
}
