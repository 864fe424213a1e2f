"""Every bound of campaigns, with its reason and what gives way."""

from __future__ import annotations

from gateway import update_limits

# --- what a campaign may be --------------------------------------------------------------------------
# A name is a line of a table.
NAME_CHARS_MAX = 40
# Classes and payloads of one campaign: a city has six node types on a few boards, each with the whole and two deltas.
CLASSES_MAX = 16
PAYLOADS_MAX = 64
# A wave that is smaller than a thousandth tells nothing; more than these nobody follows.
WAVES_MAX = 64
WINDOWS_MAX = 8
# Campaigns that are over are kept so many, with the states of their nodes (100 bytes each); the oldest give way.
KEPT_MAX = 50
# Sessions are numbered with 16 bits and never anew.
SESSION_MAX = 0xFFFF
# What a node knows of an earlier gateway is believed so far above one's own: sessions of hundreds of campaigns.
SESSION_JUMP_MAX = 4096
# And up to here in all: half of the numbers are left whatever is named again and again.
SESSION_NAMED_MAX = 0x7FFF

# --- defaults and ranges -----------------------------------------------------------------------------
# Of the air that the gateway may take for a campaign, at most: a radio that sends is deaf.
# At least: less is a packet in some hours, and with nothing at all it would begin and never be over.
AIR_SHARE_DEFAULT, AIR_SHARE_MIN, AIR_SHARE_MAX = 0.05, 0.001, 0.25
HALT_SHARE_DEFAULT = 0.10
HALT_COUNT_DEFAULT = 3
PATIENCE_DEFAULT_S, PATIENCE_MIN_S, PATIENCE_MAX_S = 7 * 86_400, 60, 366 * 86_400
SOAK_MAX_S = 30 * 86_400
# A node on trial goes back by itself after 72 h in which nobody acknowledges anything; then it wants to be heard.
TRIAL_PATIENCE_S = 5 * 86_400

# --- talking to a node -------------------------------------------------------------------------------
# What was said and not answered is said again at an uplink after so long.
RESEND_S = 30.0
# A node that said "not now" (it has an alarm, say) is asked again after so long.
NOT_NOW_ON_CABLE_S, NOT_NOW_ON_AIR_S = 20.0, 600.0
# Sessions tried with one node; it refuses one whose number it knows, and forgets one that came to nothing.
TRIES_MAX = 4
# From so many on it is sent to alone: whoever knows a group key can spoil what comes under it, again and again.
ALONE_FROM_TRIES = 2
# Rows that go to one node before it is asked what it has: on a cable a second's worth, which its port buffers;
# on the air what fits the windows after one uplink (SPEC 7.3), less one for what else there is.
ROWS_ON_CABLE = 32
ROWS_ON_AIR = 15
# A fragment on a cable; its number has a byte, and the message around it 20 more.
FRAGMENT_MAX = 240
# What of a frame's room is not fragment: envelope 17 at most (SPEC 3), message 7, row 3.
ROOM_FOR_REST = 28
FRAGMENT_MIN = 16
# A node that was called to a pass of its own is spoken to so long after it agreed: it starts anew for it. On the air it
# speaks first. On a cable it is asked each so many seconds until it answers or the pass is over.
BEGIN_ON_CABLE_S = 3.0
BEGIN_ON_AIR_S = 1.0
ASK_IN_PASS_S = 5.0
PASS_ALONE_S = 240

# --- passes for many ---------------------------------------------------------------------------------
# The longest that a node listens (it is told in the message, and believes no more).
PASS_MAX_S = 300
# Whoever is told of a pass later than so long before it has not slept, worked and come back in time.
PASS_NOTICE_S = 60
# A pass waits until every node that may come was heard once, by what it promised; for nobody longer than this.
GATHER_MIN_S, GATHER_MAX_S = 120, 26 * 3600
# After a pass its nodes tell what they have within 2 ** (delay + 4) s, and are told of the next one, which begins so
# much later. Where 30 % is lost each way, half of the answers come with the second try or later, and the last of a
# hundred with the eighth; of fewer it comes sooner, and the margin is less in proportion.
# What begins in more than 600 s no node in a pass agrees to (OTA.md section 6.2).
REPORT_MARGIN_S, REPORT_MARGIN_OF = 320, 100
REPORT_MARGIN_MIN_S = 60
NEXT_PASS_S = 590
# Of the time for reports, for each of them.
REPORT_EACH_S = 2.5
# Who was there so long before a pass, or later, and does not come to it, is on its way: the pass waits for it, so many
# times in a row. Who is there for good costs each pass as much as everybody's report.
PASS_HEARD_S = 900
PASSES_HELD_MAX = 3
# Where more passes have to follow anyway, who misses one is waited for in the end.
FULL_PASSES_HELD_MAX = 1
# A pass that is named at the end of the one before needs no answer of anybody. Who tells nothing of so many of them is
# not counted on any more: it has all of it and its word was lost, or it is gone.
PASSES_SILENT_MAX = 3
# The word that names it is repeated until so many nodes are expected to have missed it: each is told in an exchange of
# its own, in time or not.
QUESTIONS_MISSED = 0.5
# Two nodes and more share the air; one has the windows after its uplinks.
BROADCAST_MIN = 2
# So few go to each alone, in one exchange: to call it to a pass with others costs as much.
ROWS_NOT_WORTH_A_PASS = 4
# Of the time in which a pass sends rows (update_limits.PASS_SENDS_S), the share that they are on the air for: turns.
SENDING_SHARE = update_limits.BROADCAST_TURN_AIR_S / (
    update_limits.BROADCAST_TURN_S + update_limits.BROADCAST_LISTEN_S
)
# What is lost on the way: taken to be so much until reports have shown it, and never to be more than the second.
# Reports are of those who still lack something, who lost more than others.
LOSS, LOSS_MAX = 0.1, 0.4
# Beyond those that were lost: the parity of TS004 wants 1.2 to 2.3 on average, whatever the count.
EXTRA_ROWS = 2
# Rows and PIVs are made durable ahead by so many: what a kill leaves of them is never used.
RESERVE_ROWS = 32

# --- the engine's own turn ---------------------------------------------------------------------------
TICK_S = 2.0
LOOK_S = 0.5
# How often the time that a campaign was worked on is written down; a kill forgets at most this much of it.
SAVE_S = 60.0
# Events looked at in one go for how updates ended.
EVENTS_CHUNK = 4096
