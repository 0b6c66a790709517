"""What the other compiled modules may use of the frames."""

from libc.stdint cimport uint16_t, uint64_t

from kombu._speedups.decoding cimport check_block

cdef enum:
    #: Size of a basic.ack, basic.reject or basic.nack frame.
    SETTLEMENT_SIZE = 21

cdef void fill_settlement(
    unsigned char *frame, uint16_t channel_id, uint16_t method_id, uint64_t delivery_tag, int bits
) noexcept nogil
