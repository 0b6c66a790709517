/* Base64 of RFC 4648, section 4: padded, without line breaks. */

#ifndef KOMBU_BASE64_H
#define KOMBU_BASE64_H

#include <stddef.h>
#include <stdint.h>

static const char kombu_base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The value of each letter, 255 for what is none. */
static const uint8_t kombu_base64_values[256] = {
#define NONE4 255, 255, 255, 255
#define NONE16 NONE4, NONE4, NONE4, NONE4
    NONE16, NONE16,
    NONE4, NONE4, 255, 255, 255, 62, 255, 255, 255, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 255, 255, NONE4,
    255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 255, NONE4,
    255, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 255, NONE4,
    NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16
#undef NONE16
#undef NONE4
};

/* Write the base64 of size bytes, (size + 2) / 3 * 4 letters. */
static inline void kombu_base64_encode(const unsigned char *from, size_t size, unsigned char *to) {
    const char *letters = kombu_base64_letters;
    uint32_t group;
    while (size >= 3) {
        group = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        to[0] = (unsigned char)letters[group >> 18];
        to[1] = (unsigned char)letters[group >> 12 & 63];
        to[2] = (unsigned char)letters[group >> 6 & 63];
        to[3] = (unsigned char)letters[group & 63];
        from += 3;
        to += 4;
        size -= 3;
    }
    if (size) {
        group = (uint32_t)from[0] << 16 | (size == 2 ? (uint32_t)from[1] << 8 : 0);
        to[0] = (unsigned char)letters[group >> 18];
        to[1] = (unsigned char)letters[group >> 12 & 63];
        to[2] = (unsigned char)(size == 2 ? letters[group >> 6 & 63] : '=');
        to[3] = '=';
    }
}

/* Write the bytes that so many groups of four letters stand for, three each; 0 if one of them is no letter. */
static inline int kombu_base64_decode(const unsigned char *from, size_t groups, unsigned char *to) {
    const uint8_t *values = kombu_base64_values;
    uint32_t a, b, c, d, wrong = 0;
    while (groups--) {
        a = values[from[0]];
        b = values[from[1]];
        c = values[from[2]];
        d = values[from[3]];
        wrong |= a | b | c | d;
        to[0] = (unsigned char)(a << 2 | b >> 4);
        to[1] = (unsigned char)(b << 4 | c >> 2);
        to[2] = (unsigned char)(c << 6 | d);
        from += 4;
        to += 3;
    }
    return wrong < 64;
}

#endif
