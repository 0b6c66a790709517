"""What slots.h has: places and slots, without locks and without Python."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "slots.h" nogil:
    ctypedef uint64_t slots_word
    ctypedef struct slot_t:
        slots_word state
        slots_word key
        slots_word next
        void *cell
        double since
        double stamp
        int tied
    ctypedef struct slots_list:
        slots_word head
    ctypedef struct slots_t:
        slots_word gate
        slots_list *idle
        slots_word created
        slots_word made
        slots_word replaced
    int SLOT_HELD, SLOT_OUT, SLOT_IDLE, SLOT_FREE
    int SLOTS_LISTS
    uint64_t SLOT_STATE, SLOTS_MOST, SLOTS_CLOSED
    uint32_t SLOTS_NONE
    int SLOTS_YES, SLOTS_FULL, SLOTS_SHUT, SLOTS_QUEUE, SLOTS_ALERT, SLOTS_GONE
    uint64_t slots_load(slots_word *word)
    void slots_store(slots_word *word, uint64_t value)
    uint64_t slots_add(slots_word *word, uint64_t value)
    uint64_t slots_limit_of(uint64_t gate)
    uint64_t slots_taken_of(uint64_t gate)
    uint64_t slots_waiting_of(uint64_t gate)
    bint slots_surplus(uint64_t gate)
    void slots_init(slots_t *slots, int64_t limit)
    void slots_destroy(slots_t *slots)
    slot_t *slots_at(slots_t *slots, uint32_t index)
    bint slot_latch(slot_t *slot, int state)
    void slot_unlatch(slot_t *slot)
    bint slot_move(slot_t *slot, int before, int after)
    void slot_move_latched(slot_t *slot, int after)
    uint32_t slots_seize(slots_t *slots, uint64_t key, int before, int after)
    uint32_t slots_find(slots_t *slots, uint64_t key)
    uint32_t slots_take_spare(slots_t *slots)
    void slots_give_spare(slots_t *slots, uint32_t index)
    void slots_send_out(slots_t *slots, uint32_t index)
    void slots_lay_down(slots_t *slots, uint32_t index, uint32_t list)
    uint32_t slots_take_up(slots_t *slots, uint32_t list)
    uint32_t slots_find_parked(slots_t *slots)
    int slots_take(slots_t *slots, uint32_t *index)
    int slots_park(slots_t *slots, uint32_t index)
    int slots_leave(slots_t *slots)
    uint32_t slots_count_idle(slots_t *slots)
    int slots_reserve_or_queue(slots_t *slots)
    int slots_take_for_waiter(slots_t *slots, uint32_t *index)
    uint32_t slots_take_surplus(slots_t *slots)
    void slots_unqueue(slots_t *slots)
    void slots_drop_place(slots_t *slots)
    void slots_close(slots_t *slots, bint closed)
    void slots_set_limit(slots_t *slots, int64_t limit)
    bint slots_put(slots_t *slots, uint32_t index)
