/* Places and slots of a pool, without locks.
 *
 * A place is a permission: at most `limit` are given out at any time.  A slot holds a resource.  Both stand here
 * without knowing what a resource is, so that this file compiles alone and can be tried by a program without Python.
 *
 * Everything that decides about places is one word, the gate: closed, the number that wait, the number taken, and the
 * limit.  It changes by compare-and-exchange as a whole.  Who waits is kept by the caller, under a lock of its own:
 * `waiting` changes under it only.
 *
 * A resource that comes back is parked together with its place: the slot goes onto a list of idle ones, and the place
 * stays taken.  Whoever picks the slot up has both, so that the gate is only read as long as resources go to and fro.
 * There are several such lists, and each thread parks and looks on its own one first: what a thread has returned, it
 * gets back, and threads do not disturb one another.  Only where its own list is empty it looks on the others, and only
 * where all are empty at one moment it takes a new place at the gate.
 *
 * Who parks looks at the gate afterwards; who changes the gate (to wait, to close, to shrink) looks at the lists
 * afterwards.  All of it is sequentially consistent, so one of the two sees the other.
 *
 * The lists, and the one of slots without a resource, are last in, first out.  Their heads are words of slot index and
 * tag; the tag changes each time, so that a head that was away and came back is not taken for the same.  Slots are
 * never freed before the pool is, so it does no harm to look at one that is somebody else's by now.
 *
 * A slot's cell, since, stamp and tied belong to whoever holds the slot: who popped it off a list, or moved it from OUT
 * to HELD.  All others read its state and its key only.  To look into the cell of a slot that is not one's own, one
 * latches it for a few instructions; no other call is made in between.
 */
#ifndef KOMBU_SLOTS_H
#define KOMBU_SLOTS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
/* Microsoft's compiler has C11's atomics only behind an experimental switch. */
#if !defined(_M_X64) && !defined(_M_ARM64)
#error "slots.h needs 64-bit atomic operations: build for x64 or ARM64, or set KOMBU_NO_EXTENSIONS=1"
#endif
#include <intrin.h>
typedef volatile __int64 slots_word;
#if defined(_M_ARM64)
static __inline uint64_t slots_load(slots_word *w) { return __ldar64((unsigned __int64 volatile *)w); }
#define slots_pause() __yield()
#else
/* A plain load of x64 acquires; only the compiler has to be told. */
static __inline uint64_t slots_load(slots_word *w) {
    uint64_t value = (uint64_t)*w;
    _ReadWriteBarrier();
    return value;
}
#define slots_pause() _mm_pause()
#endif
/* Interlocked operations are full barriers. */
static __inline void slots_store(slots_word *w, uint64_t v) { (void)_InterlockedExchange64(w, (__int64)v); }
static __inline int slots_swap(slots_word *w, uint64_t *seen, uint64_t v) {
    uint64_t was = (uint64_t)_InterlockedCompareExchange64(w, (__int64)v, (__int64)*seen);
    if (was == *seen) return 1;
    *seen = was;
    return 0;
}
static __inline uint64_t slots_add(slots_word *w, uint64_t v) { return (uint64_t)_InterlockedExchangeAdd64(w, (__int64)v); }
#define SLOTS_INLINE static __inline
#define SLOTS_THREAD __declspec(thread)
#else
#include <stdatomic.h>
typedef _Atomic uint64_t slots_word;
static inline uint64_t slots_load(slots_word *w) { return atomic_load(w); }
static inline void slots_store(slots_word *w, uint64_t v) { atomic_store_explicit(w, v, memory_order_release); }
static inline int slots_swap(slots_word *w, uint64_t *seen, uint64_t v) {
    return atomic_compare_exchange_strong(w, seen, v);
}
static inline uint64_t slots_add(slots_word *w, uint64_t v) { return atomic_fetch_add(w, v); }
#if defined(__x86_64__) || defined(__i386__)
#define slots_pause() __builtin_ia32_pause()
#else
#define slots_pause() atomic_signal_fence(memory_order_seq_cst)
#endif
#define SLOTS_INLINE static inline
#define SLOTS_THREAD _Thread_local
#endif

/* -- the gate: closed (1 bit), waiting, taken, limit (21 bits each) ------------------------------------------------- */

#define SLOTS_BITS 21
#define SLOTS_MOST (((uint64_t)1 << SLOTS_BITS) - 1)
#define SLOTS_TAKEN ((uint64_t)1 << SLOTS_BITS)
#define SLOTS_WAITING ((uint64_t)1 << (2 * SLOTS_BITS))
#define SLOTS_CLOSED ((uint64_t)1 << 63)

#define slots_limit_of(gate) ((gate) & SLOTS_MOST)
#define slots_taken_of(gate) (((gate) >> SLOTS_BITS) & SLOTS_MOST)
#define slots_waiting_of(gate) (((gate) >> (2 * SLOTS_BITS)) & SLOTS_MOST)

/* Whether a place that becomes free belongs to somebody who waits. */
#define slots_owed(gate) (slots_waiting_of(gate) && slots_taken_of(gate) <= slots_limit_of(gate))

/* Whether a resource that comes back has to go: there are more places than the limit, or the pool is closed. */
#define slots_surplus(gate) (((gate) & SLOTS_CLOSED) || slots_taken_of(gate) > slots_limit_of(gate))

/* -- a slot: its state word is a version, a latch, and one of these ------------------------------------------------- */

enum { SLOT_FREE = 0, SLOT_HELD = 1, SLOT_OUT = 2, SLOT_IDLE = 3 };
#define SLOT_STATE ((uint64_t)3)
#define SLOT_LATCH ((uint64_t)4)
#define SLOT_VERSION ((uint64_t)8)

#define SLOTS_NONE ((uint32_t)0xffffffff)
#define SLOTS_FIRST 16 /* slots in the first chunk; each further one doubles their number */
#define SLOTS_CHUNKS 18
#define SLOTS_HINTS 64
#define SLOTS_LISTS 8 /* of idle slots */
#define SLOTS_APART 64 /* bytes that processors pass to one another at once */

typedef struct {
    slots_word state;
    slots_word key;  /* which resource is here, 0 for none */
    slots_word next; /* index of the slot below, in the list that this one is in */
    void *cell;      /* what the caller keeps here; it stays with the slot */
    double since;    /* when it was parked, 0 if it never was out */
    double stamp;    /* when it was parked */
    int tied;
    char apart[SLOTS_APART]; /* neighbours are others' */
} slot_t;

typedef struct {
    slots_word head; /* tag and index + 1 */
    char apart[SLOTS_APART];
} slots_list;

typedef struct {
    slots_word gate;
    slots_word created; /* slots that ever were */
    slots_word chunk[SLOTS_CHUNKS];
    slots_word hint[SLOTS_HINTS];
    char apart[SLOTS_APART]; /* all that is read, mostly; what follows changes */
    slots_list idle[SLOTS_LISTS];
    slots_list spare;
    slots_word made, replaced;
} slots_t;

/* What slots_take(), slots_reserve_or_queue(), slots_park() and slots_leave() say. */
enum { SLOTS_YES = 0, SLOTS_FULL = 1, SLOTS_SHUT = 2, SLOTS_QUEUE = 3, SLOTS_ALERT = 4, SLOTS_GONE = 5 };

SLOTS_INLINE uint64_t slots_clamp(int64_t limit) {
    return limit < 0 ? 0 : (uint64_t)limit > SLOTS_MOST ? SLOTS_MOST : (uint64_t)limit;
}

SLOTS_INLINE void slots_init(slots_t *p, int64_t limit) {
    memset((void *)p, 0, sizeof *p);
    slots_store(&p->gate, slots_clamp(limit));
}

SLOTS_INLINE void slots_destroy(slots_t *p) {
    for (int n = 0; n < SLOTS_CHUNKS; n++) {
        free((void *)(uintptr_t)slots_load(&p->chunk[n]));
        slots_store(&p->chunk[n], 0);
    }
}

/* -- slots by index -- */

SLOTS_INLINE slot_t *slots_at(slots_t *p, uint32_t index) {
    /* Chunk n begins at 16 * (2**n - 1). */
    uint32_t n = 0, rest = index;
    while (rest >= ((uint32_t)SLOTS_FIRST << n)) rest -= (uint32_t)SLOTS_FIRST << n++;
    return (slot_t *)(uintptr_t)slots_load(&p->chunk[n]) + rest;
}

/* Make one more slot; SLOTS_NONE if there is no memory, or no room. */
SLOTS_INLINE uint32_t slots_create(slots_t *p) {
    uint64_t index = slots_load(&p->created);
    do {
        uint32_t n = 0;
        uint64_t rest = index, none = 0;
        while (n < SLOTS_CHUNKS && rest >= ((uint64_t)SLOTS_FIRST << n)) rest -= (uint64_t)SLOTS_FIRST << n++;
        if (n >= SLOTS_CHUNKS) return SLOTS_NONE;
        if (!slots_load(&p->chunk[n])) {
            void *chunk = calloc((size_t)SLOTS_FIRST << n, sizeof(slot_t));
            if (!chunk) return SLOTS_NONE;
            if (!slots_swap(&p->chunk[n], &none, (uint64_t)(uintptr_t)chunk)) free(chunk);
        }
        /* Only now, so that every index below created has its chunk. */
    } while (!slots_swap(&p->created, &index, index + 1));
    return (uint32_t)index;
}

/* -- the two lists -- */

SLOTS_INLINE void slots_push(slots_t *p, slots_word *head, uint32_t index) {
    slot_t *slot = slots_at(p, index);
    uint64_t seen = slots_load(head);
    do {
        slots_store(&slot->next, seen & 0xffffffff);
    } while (!slots_swap(head, &seen, ((seen >> 32) + 1) << 32 | (index + 1)));
}

SLOTS_INLINE uint32_t slots_pop(slots_t *p, slots_word *head) {
    uint64_t seen = slots_load(head);
    while (seen & 0xffffffff) {
        uint32_t index = (uint32_t)(seen & 0xffffffff) - 1;
        uint64_t below = slots_load(&slots_at(p, index)->next);
        if (slots_swap(head, &seen, ((seen >> 32) + 1) << 32 | below)) return index;
    }
    return SLOTS_NONE;
}

/* -- the state of a slot -- */

/* Move a slot from one state to another; false if it is in none of that state. */
SLOTS_INLINE int slot_move(slot_t *slot, int from, int to) {
    uint64_t seen = slots_load(&slot->state);
    for (;;) {
        if ((int)(seen & SLOT_STATE) != from) return 0;
        if (seen & SLOT_LATCH) {
            slots_pause();
            seen = slots_load(&slot->state);
        } else if (slots_swap(&slot->state, &seen, (((seen | 7) ^ 7) + SLOT_VERSION) | (uint64_t)to)) {
            return 1;
        }
    }
}

/* The same, but only for the resource `key`: a slot that changed hands meanwhile has another version. */
SLOTS_INLINE int slot_move_key(slot_t *slot, uint64_t key, int from, int to) {
    for (;;) {
        uint64_t seen = slots_load(&slot->state);
        if ((int)(seen & SLOT_STATE) != from || slots_load(&slot->key) != key) return 0;
        if (seen & SLOT_LATCH) {
            slots_pause();
        } else if (slots_swap(&slot->state, &seen, (((seen | 7) ^ 7) + SLOT_VERSION) | (uint64_t)to)) {
            return 1;
        }
    }
}

/* Move a slot that one holds: nobody else changes the state of a held slot, so this is a plain store. */
SLOTS_INLINE void slot_move_held(slot_t *slot, int to) {
    slots_store(&slot->state, ((slots_load(&slot->state) & ~(uint64_t)7) + SLOT_VERSION) | (uint64_t)to);
}

/* Latch a slot that is in the state `in`, to look at its object; false if it is in another. */
SLOTS_INLINE int slot_latch(slot_t *slot, int in) {
    uint64_t seen = slots_load(&slot->state);
    for (;;) {
        if ((int)(seen & SLOT_STATE) != in) return 0;
        if (seen & SLOT_LATCH) {
            slots_pause();
            seen = slots_load(&slot->state);
        } else if (slots_swap(&slot->state, &seen, seen | SLOT_LATCH)) {
            return 1;
        }
    }
}

SLOTS_INLINE void slot_unlatch(slot_t *slot) { slots_store(&slot->state, slots_load(&slot->state) & ~SLOT_LATCH); }

/* Move a slot that one has latched. */
SLOTS_INLINE void slot_move_latched(slot_t *slot, int to) {
    slots_store(&slot->state, (((slots_load(&slot->state) | 7) ^ 7) + SLOT_VERSION) | (uint64_t)to);
}

#define slots_hint_of(key) (((key) >> 4 ^ (key) >> 10) & (SLOTS_HINTS - 1))

/* Find the slot of a resource in the state `from` and move it on; SLOTS_NONE if there is none. */
SLOTS_INLINE uint32_t slots_seize(slots_t *p, uint64_t key, int from, int to) {
    uint32_t count = (uint32_t)slots_load(&p->created);
    uint32_t likely = (uint32_t)slots_load(&p->hint[slots_hint_of(key)]);
    if (likely < count && slot_move_key(slots_at(p, likely), key, from, to)) return likely;
    for (uint32_t index = 0; index < count; index++) {
        slot_t *slot = slots_at(p, index);
        if (slots_load(&slot->key) == key && slot_move_key(slot, key, from, to)) return index;
    }
    return SLOTS_NONE;
}

/* Where a resource is; SLOTS_NONE if it is nowhere.  True for this moment only. */
SLOTS_INLINE uint32_t slots_find(slots_t *p, uint64_t key) {
    uint32_t count = (uint32_t)slots_load(&p->created);
    for (uint32_t index = 0; index < count; index++)
        if (slots_load(&slots_at(p, index)->key) == key) return index;
    return SLOTS_NONE;
}

/* -- slots and places together -- */

/* Take a slot without a resource; it is held then. */
SLOTS_INLINE uint32_t slots_take_spare(slots_t *p) {
    uint32_t index = slots_pop(p, &p->spare.head);
    if (index == SLOTS_NONE) index = slots_create(p);
    if (index != SLOTS_NONE) slot_move(slots_at(p, index), SLOT_FREE, SLOT_HELD);
    return index;
}

/* Give back a held slot from which the resource was taken. */
SLOTS_INLINE void slots_give_spare(slots_t *p, uint32_t index) {
    slot_t *slot = slots_at(p, index);
    slots_store(&slot->key, 0);
    slot->since = 0;
    slot->tied = 0;
    slot_move_held(slot, SLOT_FREE);
    slots_push(p, &p->spare.head, index);
}

/* Send a held slot out. */
SLOTS_INLINE void slots_send_out(slots_t *p, uint32_t index) {
    slot_t *slot = slots_at(p, index);
    slots_word *hint = &p->hint[slots_hint_of(slots_load(&slot->key))];
    /* Mostly there already; a word that is not written to stays in the caches of all who read it. */
    if (slots_load(hint) != index) slots_store(hint, index);
    slot_move_held(slot, SLOT_OUT);
}

/* The list that this thread parks on. */
SLOTS_INLINE uint32_t slots_mine(void) {
    static slots_word threads;
    static SLOTS_THREAD uint32_t number;
    if (!number) number = 1 + (uint32_t)slots_add(&threads, 1) % SLOTS_LISTS;
    return number - 1;
}

/* Lay a held slot among the idle, on one of the lists. */
SLOTS_INLINE void slots_lay_down(slots_t *p, uint32_t index, uint32_t list) {
    slot_move_held(slots_at(p, index), SLOT_IDLE);
    slots_push(p, &p->idle[list].head, index);
}

/* Take up the slot that was parked last on a list; it is held then, its place included. */
SLOTS_INLINE uint32_t slots_take_up(slots_t *p, uint32_t list) {
    uint32_t index = slots_pop(p, &p->idle[list].head);
    if (index != SLOTS_NONE) slot_move(slots_at(p, index), SLOT_IDLE, SLOT_HELD);
    return index;
}

/* Take up a parked slot, from this thread's list if it can be; SLOTS_NONE if there was none anywhere at one moment. */
SLOTS_INLINE uint32_t slots_find_parked(slots_t *p) {
    uint64_t seen[SLOTS_LISTS];
    uint32_t mine = slots_mine(), index = slots_take_up(p, mine);
    if (index != SLOTS_NONE) return index;
    for (;;) {
        int same = 1;
        for (uint32_t n = 0; n < SLOTS_LISTS; n++) {
            seen[n] = slots_load(&p->idle[n].head);
            if (!(seen[n] & 0xffffffff)) continue;
            index = slots_take_up(p, n);
            if (index != SLOTS_NONE) return index;
            same = 0;
        }
        /* A slot may have been parked where this had been already: only if nothing has changed there was none. */
        for (uint32_t n = 0; same && n < SLOTS_LISTS; n++) same = slots_load(&p->idle[n].head) == seen[n];
        if (same) return SLOTS_NONE;
    }
}

/* Take a place: SLOTS_YES with a held slot, or with SLOTS_NONE as its index and the right to make one resource. */
SLOTS_INLINE int slots_take(slots_t *p, uint32_t *index) {
    for (;;) {
        uint64_t gate = slots_load(&p->gate);
        *index = SLOTS_NONE;
        if (gate & SLOTS_CLOSED) return SLOTS_SHUT;
        /* Those who wait come first. */
        if (slots_waiting_of(gate) || slots_taken_of(gate) > slots_limit_of(gate)) return SLOTS_FULL;
        *index = slots_find_parked(p);
        if (*index != SLOTS_NONE) return SLOTS_YES;
        if (slots_taken_of(gate) < slots_limit_of(gate)) {
            if (slots_swap(&p->gate, &gate, gate + SLOTS_TAKEN)) return SLOTS_YES;
        } else if (slots_load(&p->gate) == gate) {
            return SLOTS_FULL;
        }
    }
}

/* Park a slot that is held, with its place.
 * SLOTS_YES.  SLOTS_QUEUE if somebody waits, SLOTS_GONE if there are too many: then it is held still.
 * SLOTS_ALERT if it is parked, and one of both has come about meanwhile: see to it, under the lock. */
SLOTS_INLINE int slots_park(slots_t *p, uint32_t index) {
    uint64_t gate = slots_load(&p->gate);
    if (slots_surplus(gate)) return SLOTS_GONE;
    if (slots_waiting_of(gate)) return SLOTS_QUEUE;
    slots_lay_down(p, index, slots_mine());
    gate = slots_load(&p->gate);
    return slots_surplus(gate) || slots_waiting_of(gate) ? SLOTS_ALERT : SLOTS_YES;
}

/* Give back a place without a resource: SLOTS_YES, or SLOTS_QUEUE if it belongs to somebody who waits. */
SLOTS_INLINE int slots_leave(slots_t *p) {
    uint64_t gate = slots_load(&p->gate);
    do {
        if (slots_owed(gate) && !(gate & SLOTS_CLOSED)) return SLOTS_QUEUE;
    } while (!slots_swap(&p->gate, &gate, gate - SLOTS_TAKEN));
    return SLOTS_YES;
}

/* How many slots are idle; true for this moment only. */
SLOTS_INLINE uint32_t slots_count_idle(slots_t *p) {
    uint32_t found = 0;
    for (uint32_t index = (uint32_t)slots_load(&p->created); index-- > 0;)
        found += (slots_load(&slots_at(p, index)->state) & SLOT_STATE) == SLOT_IDLE;
    return found;
}

/* -- for the caller's lock ------------------------------------------------------------------------------------------ */

/* Take a new place, or a number in the queue; who has got that looks for parked slots. */
SLOTS_INLINE int slots_reserve_or_queue(slots_t *p) {
    uint64_t gate = slots_load(&p->gate);
    for (;;) {
        if (gate & SLOTS_CLOSED) return SLOTS_SHUT;
        if (!slots_waiting_of(gate) && slots_taken_of(gate) < slots_limit_of(gate)) {
            if (slots_swap(&p->gate, &gate, gate + SLOTS_TAKEN)) return SLOTS_YES;
        } else if (slots_waiting_of(gate) == SLOTS_MOST) {
            return SLOTS_FULL;
        } else if (slots_swap(&p->gate, &gate, gate + SLOTS_WAITING)) {
            return SLOTS_QUEUE;
        }
    }
}

/* Take a place for one who waits: SLOTS_YES as in slots_take(), or SLOTS_FULL. */
SLOTS_INLINE int slots_take_for_waiter(slots_t *p, uint32_t *index) {
    uint64_t gate = slots_load(&p->gate);
    *index = SLOTS_NONE;
    if (!slots_waiting_of(gate) || slots_surplus(gate)) return SLOTS_FULL;
    *index = slots_find_parked(p);
    if (*index != SLOTS_NONE) return SLOTS_YES;
    do {
        if (slots_taken_of(gate) >= slots_limit_of(gate)) return SLOTS_FULL;
    } while (!slots_swap(&p->gate, &gate, gate + SLOTS_TAKEN));
    return SLOTS_YES;
}

/* Take up a parked slot that has to go, as there are more places than the limit or the pool is closed. */
SLOTS_INLINE uint32_t slots_take_surplus(slots_t *p) {
    return slots_surplus(slots_load(&p->gate)) ? slots_find_parked(p) : SLOTS_NONE;
}

/* Take one off those who wait. */
SLOTS_INLINE void slots_unqueue(slots_t *p) { slots_add(&p->gate, (uint64_t)0 - SLOTS_WAITING); }

/* Give back a place that nobody shall inherit. */
SLOTS_INLINE void slots_drop_place(slots_t *p) { slots_add(&p->gate, (uint64_t)0 - SLOTS_TAKEN); }

SLOTS_INLINE void slots_close(slots_t *p, int closed) {
    uint64_t gate = slots_load(&p->gate);
    while (!slots_swap(&p->gate, &gate, closed ? gate | SLOTS_CLOSED : gate & ~SLOTS_CLOSED)) continue;
}

SLOTS_INLINE void slots_set_limit(slots_t *p, int64_t limit) {
    uint64_t gate = slots_load(&p->gate);
    while (!slots_swap(&p->gate, &gate, (gate & ~SLOTS_MOST) | slots_clamp(limit))) continue;
}

/* Park a slot that is held and has no place yet, if there may be one resource more. */
SLOTS_INLINE int slots_put(slots_t *p, uint32_t index) {
    uint64_t gate = slots_load(&p->gate);
    do {
        if ((gate & SLOTS_CLOSED) || slots_taken_of(gate) >= slots_limit_of(gate)) return 0;
    } while (!slots_swap(&p->gate, &gate, gate + SLOTS_TAKEN));
    slots_lay_down(p, index, slots_mine());
    return 1;
}

#endif
