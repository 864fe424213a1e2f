"""The bounds of updates that go to many nodes over the air: the number, its reason, and what gives way (limits.py)."""

from __future__ import annotations

# An update that is broadcast is sent in turns (links/turns.py): packets for so long, of which at most so much is on the
# air, and then so long none. An alarm that fell into a turn comes again after 4 to 8 s, and 8 to 16 s after that: the
# turn is over by then, and the next one not begun.
BROADCAST_TURN_S = 3.5
BROADCAST_TURN_AIR_S = 3.2
BROADCAST_LISTEN_S = 30.0
# One packet: over before the window of an uplink that ended when it was handed over already.
BROADCAST_AIR_US = 850_000
# In a crowd: half of what answers may take, over a time in which one packet of any kind still fits, and which is
# shorter than the silence that ends a pass for a node.
BROADCAST_CROWD_SHARE = 0.04
BROADCAST_CROWD_S = 25.0
# Of what the plan's duty cycle leaves in an hour (duty.py counts up to 65 minutes); the rest is for answers.
BROADCAST_DUTY_SHARE = 0.5
BROADCAST_HOUR_S = 3900.0
# Rows of a pass are sent for so long, and then, after a turn's pause, the question: before the end that nodes are told
# (campaign_limits.PASS_MAX_S). They come up to 61 s before: 600 s of sleep by a clock that is 5 % fast, and 5 % early.
PASS_SENDS_S = 200.0
# The question is asked twice, and where it names the next pass up to four times: a row is as long as five.
PASS_QUESTIONS, PASS_QUESTIONS_MAX = 2, 4
# The largest: envelope 17 with the largest PIV, message 7, command 5 (OTA.md section 6.2).
QUESTION_BYTES = 32
# How often a broadcast that must wait for something without a known end looks again.
BROADCAST_LOOK_S = 1.0
# An answer that is not known yet: an ack with its envelope, in the window of an uplink heard just now.
BROADCAST_ANSWER_BYTES = 64
# A commit and the answer after it take so long at most; from then on only answers that wait are in the way.
BROADCAST_ANSWER_S = 0.3
# Windows to come that a broadcast keeps free of, for each radio: more uplinks in a second are a storm.
BROADCAST_WINDOWS_MAX = 256
