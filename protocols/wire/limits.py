"""Every bound of the wire in one place, each with its reason. Numbers are bytes unless the name says
otherwise.
"""

# A serial frame before COBS. A day of 96 sets fits (about 260) with room; a node keeps two such buffers in
# RAM.
MAX_FRAME = 512
# Fragments of one frame on the air: what four bits count.
MAX_FRAGMENTS = 16
# Envelope overhead at its largest: flag 1, PIV 5, kid context 1 + 16, kid 3, tag 8.
MAX_OVERHEAD = 34
MAX_PLAIN = MAX_FRAME - MAX_OVERHEAD
# Messages are arrays with at most one array or map inside, and results one more: deeper is an attack.
MAX_DEPTH = 4
# Items of one array or map: a status has about 20 counters.
MAX_ITEMS = 64
# Runs in an ack, newest first; what falls out is sent again and dropped as a duplicate.
MAX_ACK_RUNS = 8
# Partial IV: 5 bytes (RFC 8613 section 5.2).
MAX_PIV = (1 << 40) - 1
# Receiver window (RFC 8613 section 7.4 leaves the size to us): more than a gateway ever has in flight to one
# node.
REPLAY_WINDOW = 64
# PIVs a node reserves with one flash write; a power cut wastes at most this many of 2**40.
PIV_BLOCK = 64
# Record sequence numbers fit 32 bits: 136 years at one record a second.
MAX_SEQ = (1 << 32) - 1
# Sets in one readings message: a day of 15-minute sets.
MAX_SETS = 96
# Series (columns) of one schema.
MAX_SERIES = 16
# Scaled integers stay below 2**29 so that their differences stay small integers on a 32-bit MicroPython.
MAX_VALUE = (1 << 29) - 1
# Node addresses are 2 bytes; 0000 and FFFF are nobody's.
MAX_ADDRESS = 0xFFFE
# AES-128 (COSE algorithm 10) and an OSCORE Master Salt as the RFC's own examples have it.
MASTER_SECRET_SIZE = 16
MASTER_SALT_SIZE = 8
# Bytes of a node type, board, firmware version or area: three of them fit a hello with room for the rest.
MAX_NAME = 24
# The body of a readings message: what is left of MAX_PLAIN after the other items at their longest.
MAX_BODY = MAX_PLAIN - 38
# What says more about an event or a result than its code: a few numbers, or a line of text.
MAX_DETAIL_ITEMS = 4
MAX_DETAIL_TEXT = 64
# The last lines of a traceback in a status.
MAX_TRACEBACK = 128
# An alarm fits the smallest frame of a regulated radio link (SPEC.md section 2.1 says which alarms).
MAX_ALARM = 23
# Intervals a node can be set to: a second to a day; a status at least weekly, or a silent node is not missed.
MAX_INTERVAL_S = 86400
MIN_STATUS_PERIOD_S = 10
MAX_STATUS_PERIOD_S = 604800
# Serial channels end before tab (09), so that the second byte of a frame is never a byte of text.
MAX_CHANNEL = 8
# A console line of a node, in bytes; longer ones are broken.
MAX_LOG_LINE = 256
# Console lines that a serial decoder keeps for whoever calls take_log; the oldest go first.
MAX_LOG_LINES = 64
# Seconds between neighbouring sets of a batch, either way: four years; their differences stay small integers.
MAX_TIME_STEP_S = (1 << 27) - 1
# r1, r2 and r3 of a join (RFC 8613 appendix B.2).
NONCE_SIZE = 8
# A node answers a challenge at once; a minute covers a slow radio and its retries.
CHALLENGE_LIFE_S = 60
# Challenges open at a time for one node.
MAX_CHALLENGES = 4
# Times of sets fit the u40 of a message: 34,000 years, or a boot number of 8 bits above 32 bits of seconds.
MAX_TIME = (1 << 40) - 1
# A packet on the air: LoRaWAN's largest, so that every concentrator and forwarder on the way has room for it.
MAX_PACKET = 222
# A command of an update: what is left of MAX_PLAIN after the other items at their longest, rounded down; an answer
# to one fits the smallest packet that a confirmed status takes.
MAX_UPDATE_COMMAND = 460
MAX_UPDATE_ANSWER = 64
