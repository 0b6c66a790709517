"""Big-endian loads and stores, and one bounds-checked cursor: all that the compiled core does to raw memory."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static inline uint16_t kombu_load16(const unsigned char *p) {
        return (uint16_t)((uint16_t)p[0] << 8 | (uint16_t)p[1]);
    }
    static inline uint32_t kombu_load32(const unsigned char *p) {
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
    }
    static inline uint64_t kombu_load64(const unsigned char *p) {
        return (uint64_t)kombu_load32(p) << 32 | (uint64_t)kombu_load32(p + 4);
    }
    static inline void kombu_store16(unsigned char *p, uint16_t value) {
        p[0] = (unsigned char)(value >> 8);
        p[1] = (unsigned char)value;
    }
    static inline void kombu_store32(unsigned char *p, uint32_t value) {
        kombu_store16(p, (uint16_t)(value >> 16));
        kombu_store16(p + 2, (uint16_t)value);
    }
    static inline void kombu_store64(unsigned char *p, uint64_t value) {
        kombu_store32(p, (uint32_t)(value >> 32));
        kombu_store32(p + 4, (uint32_t)value);
    }
    static inline float kombu_load_float(const unsigned char *p) {
        uint32_t bits = kombu_load32(p);
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    static inline double kombu_load_double(const unsigned char *p) {
        uint64_t bits = kombu_load64(p);
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    static inline void kombu_store_double(unsigned char *p, double value) {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        kombu_store64(p, bits);
    }

    /* Say whether the bytes are UTF-8 in which surrogates are allowed, Python's "surrogatepass". */
    static inline int kombu_is_utf8(const unsigned char *p, Py_ssize_t size) {
        const unsigned char *end = p + size;
        while (p < end) {
            unsigned char lead = *p++;
            Py_ssize_t more;
            unsigned char low = 0x80, high = 0xbf;
            if (lead < 0x80)
                continue;
            if (lead >= 0xc2 && lead <= 0xdf)
                more = 1;
            else if (lead >= 0xe0 && lead <= 0xef) {
                more = 2;
                if (lead == 0xe0) low = 0xa0;
            } else if (lead >= 0xf0 && lead <= 0xf4) {
                more = 3;
                if (lead == 0xf0) low = 0x90;
                if (lead == 0xf4) high = 0x8f;
            } else
                return 0;
            if (end - p < more || *p < low || *p > high)
                return 0;
            for (p++; --more; p++)
                if (*p < 0x80 || *p > 0xbf)
                    return 0;
        }
        return 1;
    }
    """
    uint16_t load16 "kombu_load16" (const unsigned char *p) noexcept nogil
    uint32_t load32 "kombu_load32" (const unsigned char *p) noexcept nogil
    uint64_t load64 "kombu_load64" (const unsigned char *p) noexcept nogil
    float load_float "kombu_load_float" (const unsigned char *p) noexcept nogil
    double load_double "kombu_load_double" (const unsigned char *p) noexcept nogil
    void store16 "kombu_store16" (unsigned char *p, uint16_t value) noexcept nogil
    void store32 "kombu_store32" (unsigned char *p, uint32_t value) noexcept nogil
    void store64 "kombu_store64" (unsigned char *p, uint64_t value) noexcept nogil
    void store_double "kombu_store_double" (unsigned char *p, double value) noexcept nogil
    bint is_utf8 "kombu_is_utf8" (const unsigned char *p, Py_ssize_t size) noexcept nogil


cdef struct Cursor:
    #: What offsets count from.
    const unsigned char *data
    Py_ssize_t offset
    #: Nothing is read at this offset or behind it; always offset <= limit.
    Py_ssize_t limit


cdef inline const unsigned char *take(Cursor *cursor, uint64_t size) noexcept nogil:
    """Step over *size* bytes and return where they stand; NULL, and no step, where fewer remain."""
    cdef const unsigned char *found
    if size > <uint64_t>(cursor.limit - cursor.offset):
        return NULL
    found = cursor.data + cursor.offset
    cursor.offset += <Py_ssize_t>size
    return found
