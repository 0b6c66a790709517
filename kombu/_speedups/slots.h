/* Places and slots of a pool, without locks.
 *
 * A place is a permission: at most `limit` are taken at any time.  A slot holds a resource.  Both stand here without
 * knowing what a resource is, so that this file compiles alone and can be tried by a program without Python.
 *
 * Everything that decides about places is one word, the gate: closed, the number that wait, the number taken, and the
 * limit.  It changes by compare-and-exchange as a whole, so nobody can leave without seeing who waits, and nobody can
 * come in against the limit.  Who waits is kept by the caller, under a lock of its own: `waiting` changes under it only.
 *
 * Idle slots, and slots without a resource, stand in two lists, last in, first out.  The head of each is a word of slot
 * index and tag; the tag changes each time, so that a head that was away and came back is not taken for the same.  Slots
 * are never freed before the pool is, so it does no harm to look at one that is somebody else's by now.
 *
 * `population` counts resources, and places whose resource is being made.  Who has a place and finds no idle slot may
 * make a resource only after adding itself there, and never beyond the limit: what it did not find is on its way then.
 *
 * A slot's cell, since and tied belong to whoever holds the slot: who popped it off a list, or moved it from OUT to HELD.
 * All others read its state and its key only.  To look into the cell of a slot that is not one's own, one latches it for
 * a few instructions; no other call is made in between.
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
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
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
#define slots_yield() ((void)SwitchToThread())
#define SLOTS_INLINE static __inline
#else
#include <stdatomic.h>
typedef _Atomic uint64_t slots_word;
static inline uint64_t slots_load(slots_word *w) { return atomic_load_explicit(w, memory_order_acquire); }
static inline void slots_store(slots_word *w, uint64_t v) { atomic_store_explicit(w, v, memory_order_release); }
static inline int slots_swap(slots_word *w, uint64_t *seen, uint64_t v) {
    return atomic_compare_exchange_strong_explicit(w, seen, v, memory_order_acq_rel, memory_order_acquire);
}
static inline uint64_t slots_add(slots_word *w, uint64_t v) {
    return atomic_fetch_add_explicit(w, v, memory_order_acq_rel);
}
#if defined(__x86_64__) || defined(__i386__)
#define slots_pause() __builtin_ia32_pause()
#else
#define slots_pause() atomic_signal_fence(memory_order_seq_cst)
#endif
#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#define slots_yield() ((void)SwitchToThread())
#else
#include <sched.h>
#define slots_yield() ((void)sched_yield())
#endif
#define SLOTS_INLINE static inline
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

/* -- a slot: its state word is a version, a latch, and one of these ------------------------------------------------- */

enum { SLOT_FREE = 0, SLOT_HELD = 1, SLOT_OUT = 2, SLOT_IDLE = 3 };
#define SLOT_STATE ((uint64_t)3)
#define SLOT_LATCH ((uint64_t)4)
#define SLOT_VERSION ((uint64_t)8)

#define SLOTS_NONE ((uint32_t)0xffffffff)
#define SLOTS_FIRST 16 /* slots in the first chunk; each further one doubles their number */
#define SLOTS_CHUNKS 18
#define SLOTS_HINTS 64
#define SLOTS_APART 64 /* bytes that processors pass to one another at once */

typedef struct {
    slots_word state;
    slots_word key;  /* which resource is here, 0 for none */
    slots_word next; /* index of the slot below, in the list that this one is in */
    void *cell;      /* what the caller keeps here; it stays with the slot */
    double since;
    int tied;
    char apart[SLOTS_APART]; /* neighbours are others' */
} slot_t;

typedef struct {
    slots_word gate;
    slots_word idle; /* head: tag and index + 1 */
    char apart[SLOTS_APART]; /* those two change all the time, the others are read */
    slots_word spare;
    slots_word population;
    slots_word created; /* slots that ever were */
    slots_word made, replaced;
    slots_word chunk[SLOTS_CHUNKS];
    slots_word hint[SLOTS_HINTS];
} slots_t;

/* What slots_reserve() and slots_leave() say. */
enum { SLOTS_YES = 0, SLOTS_FULL = 1, SLOTS_SHUT = 2, SLOTS_QUEUE = 3 };

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
    uint32_t index = slots_pop(p, &p->spare);
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
    slots_push(p, &p->spare, index);
}

/* Send a held slot out. */
SLOTS_INLINE void slots_send_out(slots_t *p, uint32_t index) {
    slot_t *slot = slots_at(p, index);
    slots_word *hint = &p->hint[slots_hint_of(slots_load(&slot->key))];
    /* Mostly there already; a word that is not written to stays in the caches of all who read it. */
    if (slots_load(hint) != index) slots_store(hint, index);
    slot_move_held(slot, SLOT_OUT);
}

/* Lay a held slot among the idle. */
SLOTS_INLINE void slots_lay_down(slots_t *p, uint32_t index) {
    slot_move_held(slots_at(p, index), SLOT_IDLE);
    slots_push(p, &p->idle, index);
}

/* Take up the idle slot that was laid down last; it is held then. */
SLOTS_INLINE uint32_t slots_take_up(slots_t *p) {
    uint32_t index = slots_pop(p, &p->idle);
    if (index != SLOTS_NONE) slot_move(slots_at(p, index), SLOT_IDLE, SLOT_HELD);
    return index;
}

/* Take a place. */
SLOTS_INLINE int slots_reserve(slots_t *p) {
    uint64_t gate = slots_load(&p->gate);
    do {
        if (gate & SLOTS_CLOSED) return SLOTS_SHUT;
        if (slots_taken_of(gate) >= slots_limit_of(gate)) return SLOTS_FULL;
    } while (!slots_swap(&p->gate, &gate, gate + SLOTS_TAKEN));
    return SLOTS_YES;
}

/* Take a place, or a number in the queue; the caller's lock is held. */
SLOTS_INLINE int slots_reserve_or_queue(slots_t *p) {
    uint64_t gate = slots_load(&p->gate);
    for (;;) {
        if (gate & SLOTS_CLOSED) return SLOTS_SHUT;
        if (slots_taken_of(gate) < slots_limit_of(gate)) {
            if (slots_swap(&p->gate, &gate, gate + SLOTS_TAKEN)) return SLOTS_YES;
        } else if (slots_waiting_of(gate) == SLOTS_MOST) {
            return SLOTS_FULL;
        } else if (slots_swap(&p->gate, &gate, gate + SLOTS_WAITING)) {
            return SLOTS_QUEUE;
        }
    }
}

/* With a place: pick an idle slot, or SLOTS_NONE with the right to make one resource. */
SLOTS_INLINE uint32_t slots_pick(slots_t *p) {
    unsigned turns = 0;
    for (;;) {
        uint32_t index = slots_take_up(p);
        uint64_t population;
        if (index != SLOTS_NONE) return index;
        population = slots_load(&p->population);
        /* At the limit, a resource is between two states: its slot is about to be laid down. */
        while (population < slots_limit_of(slots_load(&p->gate)))
            if (slots_swap(&p->population, &population, population + 1)) return SLOTS_NONE;
        /* After the limit became smaller, who came in before may be more than fit. */
        if (slots_taken_of(slots_load(&p->gate)) > slots_limit_of(slots_load(&p->gate))) {
            slots_add(&p->population, 1);
            return SLOTS_NONE;
        }
        if (++turns % 64) slots_pause();
        else slots_yield(); /* whoever is between two states has lost its processor */
    }
}

/* Whether a resource that comes back has to go: there are too many, or the pool is closed. */
SLOTS_INLINE int slots_surplus(slots_t *p) {
    uint64_t gate = slots_load(&p->gate);
    return (gate & SLOTS_CLOSED) || slots_taken_of(gate) > slots_limit_of(gate) ||
           slots_load(&p->population) > slots_limit_of(gate);
}

/* Give back the place of a slot that is held: lay it down first, so that whoever gets the place finds it.
 * SLOTS_YES, or SLOTS_QUEUE if somebody waits: then the slot is held still, and the lock has to be taken.
 *
 * The limit may have become smaller after slots_surplus() was asked.  Either slots_set_limit() comes before the last
 * step here, and slots_over() says so afterwards, or it comes after it, and slots_trim() finds what was laid down. */
SLOTS_INLINE int slots_leave(slots_t *p, uint32_t index) {
    uint64_t gate = slots_load(&p->gate);
    if (slots_owed(gate)) return SLOTS_QUEUE;
    if (index != SLOTS_NONE) slots_lay_down(p, index);
    while (!slots_owed(gate))
        if (slots_swap(&p->gate, &gate, gate - SLOTS_TAKEN)) return SLOTS_YES;
    /* Somebody began to wait just now.  The place is still taken; what was laid down may be gone or not. */
    return SLOTS_FULL;
}

/* Whether there are more resources than the limit, so that one of the idle has to go. */
SLOTS_INLINE int slots_over(slots_t *p) { return slots_load(&p->population) > slots_limit_of(slots_load(&p->gate)); }

/* -- for the caller's lock ------------------------------------------------------------------------------------------ */

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

/* Put a slot that is held among the idle, if there may be one resource more. */
SLOTS_INLINE int slots_put(slots_t *p, uint32_t index) {
    uint64_t population = slots_load(&p->population);
    do {
        uint64_t gate = slots_load(&p->gate);
        if ((gate & SLOTS_CLOSED) || population >= slots_limit_of(gate)) return 0;
    } while (!slots_swap(&p->population, &population, population + 1));
    slots_lay_down(p, index);
    return 1;
}

/* Hold the idle slots for which there is no place any more, those that were idle longest; return how many.
 * `room` has space for the indices of `created` slots.  They count as population until the caller says otherwise. */
SLOTS_INLINE uint32_t slots_trim(slots_t *p, uint32_t *room, uint32_t size) {
    uint32_t count = 0, surplus;
    uint64_t population, limit;
    while (count < size && (room[count] = slots_take_up(p)) != SLOTS_NONE) count++;
    population = slots_load(&p->population);
    limit = slots_limit_of(slots_load(&p->gate));
    surplus = population <= limit ? 0 : population - limit > count ? count : (uint32_t)(population - limit);
    for (uint32_t n = count - surplus; n > 0; n--) slots_lay_down(p, room[n - 1]);
    memmove(room, room + (count - surplus), surplus * sizeof *room);
    return surplus;
}

#endif
