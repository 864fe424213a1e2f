"""Every bound of the gateway in one place: the number, its reason, and what gives way when it is reached.

Those of updates that many nodes hear at once are in update_limits.py.

Bytes of the wire itself are bounded in protocols/wire/limits.py. What an integrator may need to change is
in config.py; what is here follows from the protocol or protects the process.
"""

from __future__ import annotations

# --- configuration -------------------------------------------------------------------------------
# A gateway with 64 ports and four brokers needs about 8 KiB; a larger file is a mistake. It is refused.
CONFIG_BYTES_MAX = 256 * 1024
# How often it is looked how a configuration does.
RELOAD_LOOK_S = 2.0
# Ports of one gateway: USB hubs of 16, four of them. More are refused by the config check.
SERIAL_PORTS_MAX = 64
# Northbounds of one kind. More are refused by the config check.
NORTHBOUNDS_MAX = 8

# --- serial link ---------------------------------------------------------------------------------
# Bytes taken from a port at once: a full USB packet burst; what is left is read in the next turn of the loop,
# so that one flooding port cannot starve the others.
SERIAL_READ_BYTES = 4096
# Frames waiting for one port. Acks are the gateway's whole knowledge, so the newest counts: the oldest gives
# way.
SERIAL_QUEUE_FRAMES_MAX = 64
# A downlink older than this is dropped instead of written: the node would refuse it after 10 s anyway (SPEC
# 2.2).
SERIAL_QUEUE_AGE_MAX_S = 5.0
# A missing port is looked for at this pause: one stat(), and a replugged cable is back within a second.
SERIAL_ABSENT_RETRY_S = 0.5
# A port that is there but cannot be opened (busy, no permission) is tried with a pause growing between these.
SERIAL_RETRY_MIN_S = 0.5
SERIAL_RETRY_MAX_S = 15.0
# What a port keeps for whoever watches it live: half a minute of a busy node, 100 kB at most. The oldest gives way.
SERIAL_TAIL_MAX = 200
# How long a port may be handed over to another program: a board is flashed in a minute, tried in ten. Who
# forgets to give it back has it for an hour at most; its node keeps what it measures.
PORT_RELEASE_S = 600
PORT_RELEASE_MAX_S = 3600
# Until the device is closed. A hung USB driver takes its time, and whoever asked is told so.
PORT_CLOSE_S = 5.0
# How often an open port is compared with what its path names now: USB renumbering without a hang-up.
SERIAL_CHECK_S = 2.0
# Console lines of one node that reach the log; the others are counted. A crashing node prints a traceback of
# about 20.
NODE_LOG_LINES_MAX = 40
NODE_LOG_PERIOD_S = 10.0
# Characters of one console line that reach the log; the rest is cut.
NODE_LOG_CHARS_MAX = 200

# --- LoRa ------------------------------------------------------------------------------------------
# Radios of one gateway: forwarders and bridges together. More are refused by the config check.
RADIOS_MAX = 16
# A forwarder sends what its concentrator heard within a few milliseconds: eight packets, or 255 in its newest form, of
# up to 340 characters with 250 of JSON around each. A longer datagram is dropped unread.
DATAGRAM_BYTES_MAX = 16 * 1024
DATAGRAM_PACKETS_MAX = 64
# Opening brackets: the packets, each with the list of its antennas. It bounds how deep JSON can be.
DATAGRAM_BRACKETS_MAX = 400
# Eight demodulators hear 320 of the shortest packets in a second. Of each forwarder, datagrams and the packets in them
# count; what is more is dropped.
FORWARDER_PER_S_MAX = 2000
# A forwarder asks for downlinks every 5 to 10 s. After so long without a word another address may have its EUI.
FORWARDER_SILENT_S = 15.0
# That two addresses send with one EUI is logged so often, not with each datagram.
FORWARDER_CONTESTED_S = 60.0
# And after so long it counts as gone: nothing is handed to it, and /readyz says so.
FORWARDER_GONE_S = 45.0
# Downlinks that a forwarder has not answered; the oldest is taken as sent. It answers within milliseconds.
FORWARDER_UNANSWERED_MAX = 64
# A bridge is asked for its state so often, for it may have started anew; after three times without a word it is gone.
BRIDGE_ASK_S = 10.0
BRIDGE_SILENT_S = 35.0
# How often the parts of LoRa show that they are alive.
LORA_TURN_S = 1.0
# Copies of a packet come within the differences of what radios have to the gateway, a mobile network at worst.
COPIES_S = 2.0
# Packets that copies are looked for of: two seconds of 16 radios at full load. The oldest gives way: its copies would
# be refused as replays.
ARRIVALS_MAX = 4096
# Frames in pieces: of one node, whose tag changes with each, and nodes that send such at a time. The oldest gives way,
# and its node sends again. 64 kB at the worst.
FRAGMENTED_PER_NODE_MAX = 2
FRAGMENTING_NODES_MAX = 64
# Between two fragments a node looks whether the channel is free, and may have to back off.
FRAGMENT_PAUSE_US = 200_000
# A crystal of 20 ppm at either end is 20 kHz at 500 MHz; channels are 200 kHz apart.
CHANNEL_OFF_HZ = 25_000
# A downlink is handed to its radio so long before its time: late enough for the copies of the uplink to be in, early
# enough for another radio to be asked when the first says no.
HAND_OVER_S = 0.35
# A forwarder takes nothing that begins within about 45 ms; beside that a datagram's way.
HAND_OVER_MIN_S = 0.06
# So many packets heard within so long are a crowd: then a radio sends for this share of the time at most, and listens.
CROWD_S = 20.0
CROWD_PACKETS = 20
CROWD_SHARE = 0.08
# Between two transmissions of a radio: a forwarder programs its concentrator 30 to 40 ms ahead.
TURN_AROUND_US = 50_000
# A packet that goes at once is on the air within so long of its hand-over: a forwarder looks two of its periods ahead,
# a bridge first listens whether the channel is free.
FORWARDER_LEAD_S = 0.1
BRIDGE_LEAD_S = 0.4
# Exchanges with packets that wait for a window: a storm of 200 alarms within a second or two, several times. More are
# not answered, and their nodes ask again.
EXCHANGES_MAX = 1024
# Transmissions whose end is not known yet; a forwarder of the first protocol version never tells it.
HANDED_MAX = 1024
# The best estimate of a radio's counter is used for so long (20 ppm: 2 ms), and one off by so much began anew.
RADIO_CLOCK_AGE_S = 100.0
RADIO_CLOCK_JUMP_S = 2.0

# PIVs that are missing between two uplinks of a node count as lost packets up to this; a start of the node skips more.
PIV_GAP_MAX = 32
# A node is told another spreading factor or power at most so often; a command that was not taken by then has ended, for
# it is older than what led to it.
ADR_PERIOD_S = 3700.0
ADR_TTL_S = 3600

# --- supervision ---------------------------------------------------------------------------------
# A failed part is started again after a pause growing between these, and the pause starts over after this
# long in order.
PART_RETRY_MIN_S = 0.5
PART_RETRY_MAX_S = 60.0
PART_SETTLED_S = 60.0
# A part that shows no progress for this long is stalled: /healthz turns red and the watchdog is no longer
# fed.
PART_STALLED_S = 30.0

# --- commands ------------------------------------------------------------------------------------
# ttl_s travels as u16 (SPEC 2.2); more than a day for a command is a plan, not a command.
COMMAND_TTL_MAX_S = 65_535
# Open commands of one node. More are refused: the person is told.
COMMANDS_OPEN_MAX = 32
# Commands to one node: so many at once, then one in so long. More are refused: airtime and battery are the node's.
COMMANDS_BURST = 60
COMMANDS_PERIOD_S = 20.0
# A command that stays without its result is sent again at most this often: ids make that safe, airtime makes
# it rude.
COMMAND_RESEND_S = 2.0
# A node that reports other settings so often, each time after these were sent, does not take them. The first report may
# have been on its way already, as an answer to a command.
SETTINGS_DENIALS = 3
# A new command answers the latest uplink if that is no older; else a ping asks for one. A node takes it up to
# 10 s after (SPEC 2.2), and one that sleeps listens for half a second only.
COMMAND_FRESH_S = 3.0
# A node that listens is pinged for an uplink to answer at most this often (it answers at most one a second).
PING_S = 1.5
# The pause doubles with each ping that nothing came of, up to this: pings that nobody hears use up PIVs which a
# restored database knows nothing of, and must stay few beside DN_PIV_RESTORED_MARGIN. A node that returns speaks by
# itself.
PING_MAX_S = 300.0
# How often waiting commands are looked at: their deadlines are whole seconds.
DOWNLINK_PERIOD_S = 0.5
# Why a command was given: a sentence, kept for ever in the audit log.
WHY_CHARS_MAX = 200

# --- silence -------------------------------------------------------------------------------------
# A node is silent after so many of its heartbeats: one that was missed, and the 5 % by which the clock of a sleeping
# node errs twice. What is promised is that silence is told within 2.5 (silence.py).
SILENT_AFTER_BEATS = 2.25
# No heartbeat counts as shorter: below, a line that is unplugged for a moment would call somebody out.
HEARTBEAT_MIN_S = 60
# Of a node that has not said yet what its settings are.
HEARTBEAT_UNKNOWN_S = 86_400
# How often those that are due are looked at: within 0.25 of the shortest heartbeat, with room for a commit.
SILENCE_LOOK_S = 5.0
# How often the gateway notes that it is alive: what lies between the last note and a start counts as its own absence.
ALIVE_NOTE_S = 60.0
# A look that comes so much later than it should, or a wall clock that jumped by so much, is an absence too.
ABSENCE_MIN_S = 15.0
# Nodes whose gateway was away ask for it less and less often, at worst every 75 s (firmware/uplink.py), and join anew.
# For so long after an absence, and for twice the absence when that is less, none is called silent.
RETURN_S = 240.0
# Absences that are remembered; beyond, two neighbours are joined to one, to the nodes' favour.
ABSENCES_MAX = 64

# --- time ----------------------------------------------------------------------------------------
# A node's clock further off than this is set.
CLOCK_OFFSET_MAX_S = 2
# A node's clock is set at least this often: 20 ppm drift by 0.5 s.
TIME_PERIOD_S = 6 * 3600
# The kernel is asked at most this often whether the clock is synchronised.
CLOCK_CHECK_S = 5.0
# Between two looks NTP slews a clock by milliseconds; what differs by more was set.
CLOCK_JUMP_S = 2.0

# --- health and control --------------------------------------------------------------------------
# One scraper, one load balancer, one person with curl. Further connections are closed at once.
HTTP_CONNECTIONS_MAX = 16
HTTP_HEAD_BYTES_MAX = 4096
HTTP_TIMEOUT_S = 5.0
# What a refused client may still send before the connection is closed under it.
HTTP_LINGER_BYTES_MAX = 1024 * 1024
# --- management API ---
# A request is at most this far from the gateway's clock: a phone without NTP is within a minute or two.
API_SKEW_S = 300
API_BODY_BYTES_MAX = 1024 * 1024
API_WORDS_MAX = 20
# Of one token. A page that looks at everything asks for ten things at once.
API_BURST = 40
API_PERIOD_S = 0.1
# Strangers are told of once in so long, each.
API_TOLD_S = 60.0
# Changes that are remembered, and how much of each one's answer. More within ten minutes are refused.
API_CHANGES_MAX = 10_000
API_REPLY_KEPT_BYTES_MAX = 4096
TOKENS_MAX = 100
TOKEN_DAYS_MAX = 3650
# Events among which the results of a node's latest commands are looked for, when it is given another: a few
# milliseconds.
RESULTS_BACK_MAX = 20_000
CONTROL_CONNECTIONS_MAX = 4
# One request: an import of 10,000 nodes is about 2 MB. Longer ones are refused.
CONTROL_REQUEST_BYTES_MAX = 8 * 1024 * 1024
CONTROL_TIMEOUT_S = 10.0

# --- registry ------------------------------------------------------------------------------------
NODES_MAX = 65_534  # addresses 0001 to FFFE (SPEC 3)
# Nodes written in one transaction: about 5 ms in which no frame is taken.
NODE_IMPORT_BATCH = 500
NAME_CHARS_MAX = 64

# --- store ---------------------------------------------------------------------------------------
# Ledgers are written once in so many rows: the most a start after a kill reads again (0.2 s), and few enough
# bytes per frame (schema.py).
SWEEP_ROWS = 50_000
# Pages of old fingerprints that leave an epoch with each sweep, beside twice as many as came.
SEEN_DELETED = 16
# How many of them one commit carries: 64 take about a millisecond.
SWEEP_EPOCHS_PER_COMMIT = 64
# Conflicts are mistakes for a person to look at; the oldest give way.
CONFLICTS_KEPT_MAX = 10_000
# Reports of databases that were damaged; and how many of those are kept aside, for the disk is not endless. The oldest
# give way.
DAMAGES_KEPT_MAX = 100
ASIDES_KEPT_MAX = 3
# Frames opened and not yet committed. Beyond, the disk is not keeping up: frames are dropped unacknowledged
# and counted, the nodes keep their copies. At 400 frames/s this is 20 s of a stalled SD card.
UNCOMMITTED_FRAMES_MAX = 8192
# Downlink PIVs made durable at once, and how few may be left before the next block is asked for.
DN_PIV_BLOCK = 1024
DN_PIV_LOW = 256
# What a restored gateway skips: more downlinks than one node gets between two backups (SPEC 3.1).
DN_PIV_RESTORED_MARGIN = 1 << 16
# A first hello in a known epoch may be a recording, and its ack costs a PIV that the node need not hear of: so many
# seconds lie between two, and what comes meanwhile is challenged. 8,640 a day stay well within DN_PIV_RESTORED_MARGIN.
UNPROVEN_PERIOD_S = 10.0
# Key contexts of one node that are kept open (SPEC 3.2).
OPEN_EPOCHS = 4
# Epochs of one node that we know only by name; more are refused: a node makes one per loss of its state.
NAMED_EPOCHS_MAX = 64

# Free on the disk beside the reserve before readings are taken again: so that it is not full at once.
SPACE_MARGIN_BYTES = 8 << 20
# Less than this share of `warn_hours` left is an error; a level is left again above so many times its bound.
BUFFER_ERROR_SHARE = 0.25
BUFFER_OVER_SHARE = 1.2
# The growth of the database is taken over so long, to tell for how many hours its room will do.
GROWTH_PERIOD_S = 600.0
# How often disk and clock are looked at.
UPKEEP_PERIOD_S = 5.0
# A gateway whose disk takes nothing tries it so often: 256 KiB written and removed.
DISK_RETRY_S = 5.0
# Commits that fail for so long, for another reason than a full disk: the files are let go and opened anew, for one that
# was open when its file system broke never works again.
DISK_GIVE_UP_S = 60.0
# Rows are removed so many at a time, 2 ms on the loop, with room for other work between.
RETENTION_ROWS = 256
RETENTION_STEP_PAUSE_S = 0.02
# Rows that are looked at for backlog at once: 2 ms.
RETENTION_SCAN_ROWS = 8192
# How often it is looked whether there is something to remove.
RETENTION_PERIOD_S = 10.0
# Pages that are given back to the disk at once, 1 ms; free ones below this much are kept for what comes.
VACUUM_PAGES = 64
VACUUM_KEEP_BYTES = 16 << 20

# --- devices -------------------------------------------------------------------------------------
# Sets of devices taken in and not yet committed: 4 s at 1,000 a second, and half of what frames of nodes may wait, so
# that devices never crowd out nodes. Beyond, the new set gives way: dropped, counted by device, its id listed as lost.
DEVICE_SETS_WAITING_MAX = 4096
# How often the gateway looks whether its clock is synchronised, for records that wait for it (restamp.py), and how many
# of them get their time in one transaction.
RESTAMP_LOOK_S = 5.0
RESTAMP_ROWS = 1000
# Different sets (which points, not which values) of one device. Beyond, its values travel one to a set.
DEVICE_SCHEMAS_MAX = 32
# A device that speaks by itself is kept this often when nothing else is said: what a cold chain asks for.
OVERHEARD_PERIOD_S = 60.0
# It is down after so many of its periods without a word, and not before this: adverts get lost in any street.
OVERHEARD_SILENT_PERIODS = 5
# A BTHome packet id that is so much lower than one of the last seconds is of an advert that was overtaken.
BTHOME_LATE_PACKETS = 63
BTHOME_LATE_S = 4.0
OVERHEARD_SILENT_S = 600.0
# Of one gateway: serial ports and TCP endpoints, Bluetooth adapters, and devices behind them (thirty on each of 32
# lines, and a street of Bluetooth sensors). More are refused by the config check.
BUSES_MAX = 64
ADAPTERS_MAX = 8
DEVICES_MAX = 1024
# Of one profile, and how many a folder of the user's may hold. Larger ones are a mistake, and refused.
PROFILE_BYTES_MAX = 128 * 1024
PROFILES_MAX = 1000

# --- northbounds ---------------------------------------------------------------------------------
# Readings handed over in memory and not yet sent; more than that and they are read back from the disk in
# their turn. Five commits of 512; about 3 MB.
LIVE_QUEUE_MAX = 2560
# Readings read back at once: half a millisecond on the loop.
BACKLOG_CHUNK = 256
# Events are few and strictly in order.
EVENTS_IN_FLIGHT_MAX = 16
# Events that go on although an earlier one was refused: the cursor waits for that one, and after a restart they are
# sent once more. Beyond, events wait.
EVENTS_HELD_MAX = 4096
# Runs of undelivered readings that are made durable, 16 bytes each; beyond, the last ones are joined and some
# rows are delivered twice.
OWED_RUNS_MAX = 256
# A far side that confirms nothing for this long while something is in flight is half open.
CONFIRM_TIMEOUT_S = 6.0
# First publish within 3 s after a broker returns: pause + connect time-out of the attempt under way.
RECONNECT_MIN_S = 0.1
RECONNECT_MAX_S = 1.0
# After a record was refused (not authorised, quota): asking at once would be refused too.
REFUSED_PAUSE_S = 5.0
# Readings that are refused again wait twice as long each time, up to this.
REFUSED_PAUSE_MAX_S = 300.0
# So many refusals without a yes between them, and it is not the records: the whole delivery is paused.
REFUSED_IN_A_ROW_MAX = 64
# Whatever a broker has to say to one that subscribes to nothing. A CONNACK or DISCONNECT with a reason in words is
# below 1 kB; beyond, the connection ends.
MQTT_PACKET_IN_MAX = 16 * 1024
# How often progress is handed to the store; after a kill, what was delivered since then is delivered again.
PROGRESS_PERIOD_S = 0.5

# --- northbounds of rows -------------------------------------------------------------------------
# Readings looked at in one transaction: about 5 ms of the loop.
ROW_CHUNK = 512
# How long readings wait to be looked at together: each look is a sync of its own, and no row is due that soon.
ROW_LOOK_S = 0.5
# Rows under way to a platform or centre that confirms none of them: each is believed after the time-out, so a rate
# takes a window of rate times time-out, a kilobyte each. Time-outs of more than ten seconds drain more slowly instead.
UNACKED_ROWS_PER_S = 2400
UNACKED_WINDOW_MIN, UNACKED_WINDOW_MAX = 1024, 32_768
# Rows of one station among several: one under way, and its next ones, so that it does not wait for us.
STATION_SHARE_MIN = 2
# Rows confirmed and not yet written, beside those in flight; beyond, the disk is waited for.
ROWS_BUSY_MAX = 512
# At most so long the clock is not looked at: it may have been set.
ROW_IDLE_S = 5.0
# What rows hold in the store is asked for at most so often: an outage of days is 100,000 readings.
ROW_HELD_S = 10.0
# A row of which a reading came while it was under way goes again after this: those that trickle in go together.
ROW_AGAIN_S = 60.0
# Rows due that are counted exactly, which takes 2 ms; of more the last look is told.
ROWS_COUNTED_MAX = 10_000
# Of one row: a day at one a second. What lies beyond is not in its figures.
ROW_READINGS_MAX = 100_000
# Rows of a backlog that are read at once: beside it, looking for the next ones took a fifth of the time.
ROWS_AHEAD = 256
# What has become due before rows that are under way is found after this: nobody waits for it.
ROWS_REWIND_S = 2.0
# Rows computed and sent in one turn of the loop: an hour of minutes takes half a millisecond each.
ROWS_PER_TURN = 4
# Confirmed rows and the index of readings are kept so long: as far back as a platform can ask for history. A reading
# that comes for an older row is sent all the same.
REPORT_KEPT_S = 45 * 86_400
# Rows due of one northbound, 200 bytes each: ten stations with ten-minute rows for two years. Beyond, the shortest
# periods give way, the oldest first: their sums are in the longer ones.
REPORT_ROWS_MAX = 1_000_000
# So many at a time give way, 20 ms of the loop: more than a thousand stations make in a minute.
REPORT_GIVE_UP_ROWS = 2048
# How often the table is tidied, and of how many sites: a site with minute data has 7,500 rows, a millisecond to look
# at.
REPORT_TIDY_S = 60.0
REPORT_TIDY_SITES = 8
# What leaves of a site each time, of rows and of the index: one that was not tidied for years comes down step by step.
REPORT_TIDY_ROWS = 250
# A row that the far side did not take is offered again after a pause that doubles from here to there; so many may wait
# so, beyond it the session ends.
ROW_REFUSED_S = 60.0
ROW_REFUSED_MAX_S = 3600.0
ROWS_REFUSED_MAX = 256

# One line in the log in so long of each kind of mistake of a platform or centre: it may make thousands a second.
FAR_SIDE_TOLD_S = 60.0

# --- HJ 212 --------------------------------------------------------------------------------------
# Sites of one platform: a county has dozens.
STATIONS_MAX = 256
REGULATOR_CONNECT_TIMEOUT_S = 5.0
# What may wait in memory for a platform or centre to read it, more than the most that is honest: a window of rows that
# none confirms (20 MB) and a month of history (10 MB) on a slow line. Beyond it the connection ends; rows stay due.
REGULATOR_UNREAD_BYTES_MAX = 36 << 20
# A platform that answers once to a message of several packets has said all after this.
HJ_PACKETS_SETTLE_S = 1.0
# Requests of one platform at once. More are refused.
HJ_REQUESTS_MAX = 16
# Periods looked at for one request for history: a month of ten-minute data, and some.
HISTORY_ROWS_MAX = 10_000

# --- SL 651 --------------------------------------------------------------------------------------
# Serial numbers are made durable this many at a time: a kill skips the rest of them, a report costs no write.
SL_SERIALS_RESERVED = 1024
# Reports under way or waiting for their station's turn, where the settings say nothing: two for each station, so that
# its next one is there when it is confirmed.
SL_WINDOW_MIN, SL_WINDOW_MAX = 16, 256
# Of one station, where there are others: one that is not confirmed for minutes does not fill the window.
SL_STATION_SHARE = 4
# Added reports of one site at most so often: a value dances at its limit.
SL_ADDED_GAP_S = 60
# No added report of what is older: the timed reports have told it.
SL_ADDED_AGE_S = 3600
# Questions of a centre that wait for their answer; more are dropped, and the centre asks again.
SL_QUESTIONS_MAX = 16
# Of one question for a span: 38H asks by the hour, and a month of five minutes is the most that a centre shows.
SL_SPAN_VALUES_MAX = 10_000
# Bytes of values in one frame of an answer: four days of hours, which are read in a tenth of a second.
SL_ANSWER_BYTES = 200

# --- Modbus --------------------------------------------------------------------------------------
# An RS-485 segment carries 32 unit loads, and repeaters make 247 unit ids of it. More are refused by the check.
MODBUS_DEVICES_MAX = 247
# Buses of one gateway. More are refused by the check.
MODBUS_BUSES_MAX = 64
# Points of one device. More are refused by the check.
MODBUS_POINTS_MAX = 512
# Writes that wait on one bus, and on one device. More are refused at once: the person is told.
MODBUS_WRITES_MAX = 64
MODBUS_WRITES_PER_DEVICE_MAX = 16
# A write that was sent and not answered is sent again so often, while its deadline and the read-back allow.
MODBUS_WRITE_ATTEMPTS_MAX = 3
# A write that may take longer is a plan, not a command; and how long the person who gave it is kept waiting.
MODBUS_WRITE_TTL_MAX_S = 600.0
MODBUS_WRITE_WAIT_S = 8.0
# A write that has not so much time left is late: between the last look at the clock and the kernel the machine may
# give the core to somebody else. Handing over took 5 to 60 us, and 3.4 ms once with seven others ready to run.
MODBUS_HAND_OVER_S = 0.05
# The rest of a register is written as it was looked at so long ago at most; else it is looked at again.
MODBUS_LOOK_S = 1.0
# How long after its deadline a write that was sent may still be read back, before it is told as unknown.
MODBUS_READ_BACK_S = 10.0
# A device is down only after both: a short power cut or a busy second is no outage.
MODBUS_DOWN_AFTER_S = 10.0
MODBUS_DOWN_AFTER_COUNT = 3
# The pause before a silent device is asked again grows between these; in each, the others lose at most one time-out.
MODBUS_PROBE_MIN_S = 1.0
MODBUS_PROBE_MAX_S = 60.0
# Silent devices together may use at most this share of a bus on which others wait.
MODBUS_PROBE_SHARE = 0.2
# A spoilt answer is asked for again at once so often; a line that only makes noise is like silence.
MODBUS_SPOILT_MAX = 2
# On a serial line an answer may come so late after its request was given up. Until then nothing is asked whose answer
# would look the same.
MODBUS_LATE_S = 10.0
# A point that its device refused is asked for again after this long: firmware may have been updated.
MODBUS_REFUSED_RETRY_S = 600.0
# A device that says that it is busy is asked again after this long.
MODBUS_BUSY_RETRY_S = 1.0
# Ranges that one device refused, and cut plans that are kept; beyond, they are worked out or learned again.
MODBUS_REFUSED_RANGES_MAX = 64
MODBUS_PLANS_KEPT_MAX = 64
# A connection that cannot be made is tried with a pause growing between these.
MODBUS_RECONNECT_MIN_S = 0.5
MODBUS_RECONNECT_MAX_S = 30.0
MODBUS_CONNECT_TIMEOUT_S = 5.0
# A connection on which nobody has answered for so long is made anew: it may be half open.
MODBUS_HALF_OPEN_S = 20.0
# A longest RTU frame is 256 bytes; what is longer without an answer in it is noise, and its beginning gives way.
MODBUS_BUFFER_BYTES_MAX = 512
# The load of a plan is worked out exactly over so many moments; beyond, from above.
MODBUS_LOAD_MOMENTS_MAX = 20_000

# --- Bluetooth -----------------------------------------------------------------------------------
# Adverts whose latest bytes are remembered, so that repeats cost nothing: phones that change their address every
# 15 minutes make a busy street's list long. The one heard longest ago gives way.
BLE_ADDRESSES_MAX = 4096
# An advert with the same bytes is news again after so long: a steady value shall still be told now and then.
BLE_REPEAT_S = 60.0
# Data of one advert that is passed on: an extended advert has 1,650 bytes at most; sensors use 31 to 250.
BLE_ADVERT_BYTES_MAX = 1650
# How long a call into the Bluetooth stack may take; beyond, the scanner is built anew. BlueZ answers in 0.1 s.
BLE_CALL_TIMEOUT_S = 10.0
# How often the adapter is asked for, and the watchdog of the scan looked at: the daemon's watch wants a sign
# within PART_STALLED_S.
BLE_CHECK_S = 5.0
# No advert at all for so long, and the scanner is started anew; the time doubles up to the maximum while that
# does not help, for a street may also be empty.
BLE_SILENCE_MIN_S = 60.0
BLE_SILENCE_MAX_S = 960.0
# A scanner that cannot be started (no adapter, no permission) is tried again with a pause growing between these.
BLE_SCAN_RETRY_MIN_S = 1.0
BLE_SCAN_RETRY_MAX_S = 30.0
# Patterns of a passive scan: what BlueZ takes of one monitor. More services than that need an active scan.
BLE_PATTERNS_MAX = 32
# Connections at once. Common adapters keep 5 to 10; one is left for a phone or a keyboard.
BLE_SLOTS = 4
# Connected devices of one adapter, which take turns in its slots. More are refused when the gateway starts.
BLE_DEVICES_MAX = 64
# Connecting takes 0.1 to 3 s, at most: while it lasts no other device can be connected.
BLE_CONNECT_TIMEOUT_S = 15.0
# A device that lets a read wait longer is disconnected: the protocol allows no further request after that.
BLE_READ_TIMEOUT_S = 8.0
# The stack said so often in a row that it is connecting already, which it is not: it is made to forget the device.
BLE_STUCK_AFTER = 4
# A scanner that cannot be started for "in progress", or that hears nothing in either mode while nothing is connected:
# the adapter is switched off and on, at most once in this time.
BLE_RESET_PAUSE_S = 3600.0
# How often to look for configured devices that the stack holds connected for nobody: they do not advertise.
BLE_HELD_S = 60.0
# Only a device whose advert is no older than this is worth an attempt: absent ones then cost the others nothing.
BLE_PRESENT_S = 30.0
# A device that keeps its connection gives its slot up after so long when another waits for one.
BLE_LEASE_S = 60.0
# A connection that lasted so long was no flicker: the pauses of its device start over.
BLE_SETTLED_S = 30.0
# Notifications of one device in a second: a sensor tells a few. Of each characteristic the newest goes on once a
# second; after so many seconds in a row with more than this the device is disconnected, and pauses.
BLE_NOTIFY_PER_S_MAX = 20
BLE_STORM_S = 5
# Bytes of one value: the longest attribute there is.
BLE_VALUE_BYTES_MAX = 512
# Writes that wait for one device; a person orders them, and more than these are a loop gone wrong: refused.
BLE_WRITES_MAX = 16
BLE_WRITE_ATTEMPTS_MAX = 3
# A write that was sent and not answered is looked for so long after its time, then told as unknown.
BLE_READ_BACK_S = 30.0

# --- alarms --------------------------------------------------------------------------------------
# Raises that a machine remembers to tell flapping. A rule's flap_count may not be more.
ALARM_FLAPS_KEPT = 32
# Records looked at in one transaction; what is more goes with the next.
ALARM_CHUNK = 256
# A node has at most so many probes or gases of which each holds an alarm by itself; what it tells of more is one.
ALARM_SOURCES_OF_NODE_MAX = 32
# Readings are looked at together so often; events at once.
ALARM_LOOK_S = 0.5
# Nodes that were moved or removed are looked for so often.
ALARM_STRAYS_S = 5.0
# With nothing due, the clock is looked at so often: it may have been set.
ALARM_IDLE_S = 5.0
# After a commit that failed.
ALARM_RETRY_S = 1.0
# A record that was on its way longer than this is late: its alarm says since when, and that it was heard of late.
ALARM_LATE_S = 900
# A node that said how long maintenance will last and not that it is over is believed so much longer.
MAINTENANCE_MARGIN_S = 120
# Alarms that are over are kept so many, 500 bytes each; the oldest give way.
ALARMS_KEPT_MAX = 20_000
# [[alarm]] and [[area]] tables: Hangzhou has 190 streets, and a gateway serves a few. More are refused.
ALARM_RULES_MAX = 256
AREAS_MAX = 2048
# A silence longer than a month is a rule that should be changed.
ALARM_SILENCE_MAX_S = 31 * 86_400

# --- work orders ---------------------------------------------------------------------------------
# Orders under way at once where the settings say nothing, each over a connection of its own; the others wait. A desk
# 40 ms away takes 350 requests of a backlog a second by them: one of so many is kept for what is fresh.
ORDERS_IN_FLIGHT = 16
ORDERS_FRESH_SHARE = 8
# Those that are next, sorted out of all that are owed: of 20,000 that takes 15 ms, once for so many, and again after
# so long: one whose pause is over may go before them.
ORDERS_AHEAD = 256
ORDERS_AHEAD_S = 1.0
# An order of which there was something new so recently goes before those that have been owed for longer.
ORDER_FRESH_S = 60.0
# Changes of alarms looked at in one go.
ORDERS_LOOK_MAX = 1024
# An order that was not taken is sent again after a pause that doubles from here to there: one while nobody answers,
# the other while the platform answers no.
ORDER_RETRY_MIN_S = 0.5
ORDER_RETRY_MAX_S = 5.0
ORDER_REFUSED_MAX_S = 900.0
# How soon after a commit changes of alarms are looked for.
ORDER_LOOK_S = 0.1
ORDER_IDLE_S = 5.0
# Connections to a platform that are kept for the next request, and for how long: while a backlog drains they are used
# a hundred times a second, and between two alarms none is held that a router on the way has long forgotten.
HTTP_KEPT_MAX = 64
HTTP_KEPT_S = 2.0
# An answer: a platform that says more is cut off.
HTTP_ANSWER_BYTES_MAX = 65_536
# An ETag that is longer is not kept: the whole answer comes each time.
HTTP_ETAG_BYTES_MAX = 256
# Orders that a platform is asked about in one round, one after the other; the next round goes on behind them.
ORDERS_ASKED_MAX = 256
# ETags kept, 300 bytes each; beyond it all are forgotten, and answers come whole once more.
ORDERS_ETAGS_MAX = 4096
