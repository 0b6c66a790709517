/* Threads that acquire, release, resize, put, drop and look, on slots.h alone: to be run under a sanitizer.
 *
 * What the compiled core keeps in Python objects is plain memory here: whoever holds a slot writes to its cell without
 * any synchronization of its own, so that two holders of one slot are a data race that ThreadSanitizer reports.
 *
 * Usage: hammer THREADS ROUNDS LIMIT
 */
#include "slots.h"

#include <pthread.h>
#include <stdio.h>

#define CHECK(condition) \
    do { if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); abort(); } } while (0)

typedef struct { uint64_t uses; uint64_t key; } cell_t;
typedef struct waiter { struct waiter *next; uint32_t index; int served; pthread_cond_t gate; } waiter_t;

static slots_t slots;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static waiter_t *first, *last;
static slots_word inside, most, keys, cells, turns;
static int rounds, limit, threads;

static void serve(uint32_t index) {
    waiter_t *waiter = first;
    CHECK(waiter);
    if (!(first = waiter->next)) last = NULL;
    slots_unqueue(&slots);
    waiter->index = index;
    waiter->served = 1;
    pthread_cond_signal(&waiter->gate);
}

/* Give the places that are free to those who wait; the lock is held. */
static void serve_all(void) {
    uint32_t index;
    while (slots_take_for_waiter(&slots, &index) == SLOTS_YES) serve(index);
}

static void drop(uint32_t index) {
    slots_give_spare(&slots, index);
    slots_drop_place(&slots);
}

static void settle(uint32_t index) {
    uint64_t gate;
    pthread_mutex_lock(&lock);
    gate = slots_load(&slots.gate);
    if (index == SLOTS_NONE) {
        index = slots_take_surplus(&slots);
        if (index != SLOTS_NONE) drop(index);
    } else if (slots_surplus(gate)) {
        drop(index);
    } else if (slots_waiting_of(gate)) {
        serve(index);
    } else {
        CHECK(slots_park(&slots, index) == SLOTS_YES);
    }
    serve_all();
    pthread_mutex_unlock(&lock);
}

static void give_back(uint32_t index, int keep) {
    int answer;
    if (keep) {
        answer = slots_park(&slots, index);
        if (answer != SLOTS_YES) settle(answer == SLOTS_ALERT ? SLOTS_NONE : index);
        return;
    }
    slots_give_spare(&slots, index);
    if (slots_leave(&slots) == SLOTS_YES) return;
    pthread_mutex_lock(&lock);
    if (slots_leave(&slots) != SLOTS_YES) serve(SLOTS_NONE);
    pthread_mutex_unlock(&lock);
}

/* Take a place, waiting if need be; with `hasty`, give up at once when there is none. */
static int take(uint32_t *index, int hasty) {
    waiter_t waiter = {0};
    int answer = slots_take(&slots, index);
    if (answer == SLOTS_YES) return 1;
    if (hasty) return 0;
    pthread_cond_init(&waiter.gate, NULL);
    pthread_mutex_lock(&lock);
    answer = slots_reserve_or_queue(&slots);
    if (answer == SLOTS_QUEUE) {
        if (last) last->next = &waiter; else first = &waiter;
        last = &waiter;
        serve_all();
        while (!waiter.served) pthread_cond_wait(&waiter.gate, &lock);
        *index = waiter.index;
    }
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&waiter.gate);
    return 1;
}

static void *work(void *number) {
    uint64_t dice = (uint64_t)(uintptr_t)number * 0x9E3779B97F4A7C15u + 1;
    for (int turn = 0; turn < rounds; turn++) {
        uint32_t index = SLOTS_NONE;
        slot_t *slot;
        cell_t *cell;
        uint64_t key, now, seen;
        dice ^= dice << 13; dice ^= dice >> 7; dice ^= dice << 17;
        if (!take(&index, dice % 5 == 0)) continue;
        /* The largest limit that there was holds at every moment. */
        now = slots_add(&inside, 1) + 1;
        seen = slots_load(&most);
        while (now > seen && !slots_swap(&most, &seen, now)) continue;
        if (index == SLOTS_NONE) {
            index = slots_take_spare(&slots);
            CHECK(index != SLOTS_NONE);
            slot = slots_at(&slots, index);
            if (!slot->cell) { CHECK(slot->cell = calloc(1, sizeof(cell_t))); slots_add(&cells, 1); }
            cell = slot->cell;
            cell->key = 16 * (slots_add(&keys, 1) + 1);
            slots_store(&slot->key, cell->key);
        }
        slot = slots_at(&slots, index);
        cell = slot->cell;
        CHECK(cell->key == slots_load(&slot->key));
        cell->uses++;
        key = cell->key;
        slots_send_out(&slots, index);
        if (dice % 17 == 0) (void)slots_find(&slots, key ^ 16);
        if (dice % 13 == 0 && slot_latch(slot, SLOT_OUT)) { CHECK(cell->key == key); slot_unlatch(slot); }
        index = slots_seize(&slots, key, SLOT_OUT, SLOT_HELD);
        CHECK(index != SLOTS_NONE);
        CHECK(slots_seize(&slots, key, SLOT_OUT, SLOT_HELD) == SLOTS_NONE); /* released twice */
        slots_at(&slots, index)->since += 1;
        slots_add(&inside, (uint64_t)-1);
        slots_add(&turns, 1);
        give_back(index, dice % 7 != 0);
    }
    return NULL;
}

static void *look(void *unused) {
    (void)unused;
    for (int turn = 0; turn <= rounds / 10; turn++) {
        uint32_t index = slots_take_spare(&slots);
        slot_t *slot = slots_at(&slots, index);
        if (!slot->cell) { CHECK(slot->cell = calloc(1, sizeof(cell_t))); slots_add(&cells, 1); }
        ((cell_t *)slot->cell)->key = 16 * (slots_add(&keys, 1) + 1);
        slots_store(&slot->key, ((cell_t *)slot->cell)->key);
        if (!slots_put(&slots, index)) slots_give_spare(&slots, index);
        /* Shrink and grow again; the last time it stays small. */
        pthread_mutex_lock(&lock);
        serve_all();
        slots_set_limit(&slots, (limit + 1) / 2);
        while ((index = slots_take_surplus(&slots)) != SLOTS_NONE) drop(index);
        if (turn < rounds / 10) slots_set_limit(&slots, limit);
        serve_all();
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread[256];
    uint32_t idle = 0, index;
    CHECK(argc == 4);
    threads = atoi(argv[1]); rounds = atoi(argv[2]); limit = atoi(argv[3]);
    CHECK(threads > 0 && threads < 256);
    slots_init(&slots, limit);
    for (int n = 0; n < threads; n++) CHECK(!pthread_create(&thread[n], NULL, work, (void *)(uintptr_t)(n + 1)));
    CHECK(!pthread_create(&thread[threads], NULL, look, NULL));
    for (int n = 0; n <= threads; n++) pthread_join(thread[n], NULL);
    CHECK(slots_load(&most) <= (uint64_t)limit);
    CHECK(slots_taken_of(slots_load(&slots.gate)) == slots_count_idle(&slots));
    CHECK(slots_waiting_of(slots_load(&slots.gate)) == 0 && !first);
    while ((index = slots_find_parked(&slots)) != SLOTS_NONE) { idle++; drop(index); }
    CHECK(slots_taken_of(slots_load(&slots.gate)) == 0);
    CHECK(idle <= (uint32_t)(limit + 1) / 2);
    for (index = 0; index < slots_load(&slots.created); index++) free(slots_at(&slots, index)->cell);
    printf("%llu turns, at most %llu inside, %u idle, %llu slots\n", (unsigned long long)slots_load(&turns),
           (unsigned long long)slots_load(&most), idle, (unsigned long long)slots_load(&slots.created));
    slots_destroy(&slots);
    return 0;
}
