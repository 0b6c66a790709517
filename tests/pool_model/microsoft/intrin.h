/* What slots.h takes from Microsoft's <intrin.h>, made of GNU builtins: so that its branch runs without Windows. */
#define _ReadWriteBarrier() __asm__ volatile("" ::: "memory")
#define _InterlockedExchange64(word, value) __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST)
#define _InterlockedExchangeAdd64(word, value) __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST)
#define __ldar64(word) __atomic_load_n(word, __ATOMIC_ACQUIRE)
#define __yield() _ReadWriteBarrier()
#define _mm_pause() _ReadWriteBarrier()

static inline __int64 _InterlockedCompareExchange64(volatile __int64 *word, __int64 value, __int64 seen) {
    __atomic_compare_exchange_n(word, &seen, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return seen;
}
