//! Every bound of the program, in one place. Names end in their unit.
//!
//! The rule that makes deadlock impossible to write: a blocking send goes only
//! connection -> upstream -> router; everything against that direction is a `try_send`
//! with a designed outcome (drop and count, or close the stream).

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// HTTP listener (RFC 9112; policy in `http`).

/// Request line and headers together.
pub const HEAD_BYTES: usize = 32 * KIB;
/// Header fields in one request.
pub const HEADERS: usize = 100;
/// For so many there is room at first: it stays on the stack below an open stream.
pub const USUAL_HEADERS: usize = 32;
/// Bytes of the request target.
pub const TARGET_BYTES: usize = 8 * KIB;
/// Request body, unless configured otherwise.
pub const BODY_BYTES: usize = 4 * MIB;
/// Chunk extensions of one chunk, and all trailer fields together.
pub const CHUNK_EXTENSION_BYTES: usize = 256;
pub const TRAILER_BYTES: usize = 4 * KIB;
/// Open client connections in all; per address (loopback is exempt); slots beyond the cap
/// that serve only `/health*`.
pub const CONNECTIONS: usize = 4096;
pub const CONNECTIONS_PER_ADDRESS: usize = 256;
/// Where memory, threads or files are scarce there are fewer connections (`base::room`): each is
/// counted with so much, in half of the memory; but at least so many.
pub const CONNECTION_ROOM_BYTES: u64 = 64 * 1024;
pub const CONNECTIONS_LEAST: usize = 16;
/// Large bodies that all connections have at work; where memory is scarce a sixteenth of it,
/// because each is there three times on its way.
pub const BODIES_BYTES: usize = 1024 * MIB;
/// With less than this, freed memory goes back to the system at once.
pub const MEMORY_TO_SPARE_BYTES: usize = 1024 * MIB;
pub const HEALTH_CONNECTIONS: usize = 16;
/// How long `onemcp health` waits unless told otherwise, and how much it reads.
pub const HEALTH_COMMAND: Duration = Duration::from_secs(5);
pub const HEALTH_BODY_BYTES: usize = 16 * MIB;
/// Open connections of `--health-listen`.
pub const HEALTH_LISTENER_CONNECTIONS: usize = 64;
/// The files of certificate and key are looked at so often, if somebody comes.
pub const TLS_LOOK: Duration = Duration::from_secs(1);
/// Characters of the name of a client certificate.
pub const SUBJECT_BYTES: usize = 512;
/// From the first byte of a head to its last; a TLS handshake has as long.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// For a whole body, plus one second for each 64 KiB that is announced or received.
pub const BODY_DEADLINE: Duration = Duration::from_secs(30);
pub const BODY_BYTES_PER_SECOND: usize = 64 * KIB;
/// For one answer or one stream event to be taken by the client.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Between two requests of one connection.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(75);
/// A connection keeps a large buffer for so long in case the next body is as large.
pub const LARGE_BUFFER_WAIT: Duration = Duration::from_millis(50);
/// Unread request bytes that are read and thrown away before a connection is closed.
pub const DRAIN_BYTES: usize = 64 * KIB;
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// What a buffer of a connection may keep between two requests.
pub const KEPT_BUFFER_BYTES: usize = 8 * KIB;
/// What a connection reads into until a request does not fit: many hold a stream open, and send
/// one short request.
pub const FIRST_BUFFER_BYTES: usize = 2 * KIB;
/// Answers up to this size are copied behind their head and leave in one plain write;
/// larger ones leave in one gathering write.
pub const COPIED_ANSWER_BYTES: usize = 4 * KIB;
/// Largest single read of a chunked body (reads grow towards it with the bytes received).
pub const BODY_READ_BYTES: usize = 64 * KIB;
/// Method and version beside the target in a request line; only tells 414 from 431.
pub const REQUEST_LINE_EXTRA_BYTES: usize = 64;
/// Headers of tool parameters (`Mcp-Param-*`) that one preflight answer allows.
pub const PREFLIGHT_PARAMETERS: usize = 64;
/// Digits of one chunk size.
pub const CHUNK_SIZE_DIGITS: usize = 16;
/// A connection in a health slot must ask within this time, or the slot goes to another.
pub const HEALTH_FIRST_BYTE: Duration = Duration::from_secs(2);
/// When all health slots are taken, the oldest connection that has had so long gives way; to one
/// that has asked, one that is silent does at once.
pub const HEALTH_TURN: Duration = Duration::from_millis(10);
/// Connections taken in before the threads of ended ones are joined.
pub const ACCEPTED_AT_ONCE: usize = 64;
/// Pause after `accept` failed, and the time between two log lines about it.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(20);
pub const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Refused connections kept open for a moment, so that their 503 is read before the close.
pub const REFUSED_KEPT: usize = 64;
/// Connections accepted and refused in one go when file descriptors ran out.
pub const REFUSED_AT_ONCE: usize = 64;
/// Ended connection threads that may wait to be joined.
pub const UNJOINED_THREADS: usize = 32;
/// Memory goes back to the system so long after 32 connections (`UNJOINED_THREADS`) have ended.
pub const GIVE_BACK_WAIT: Duration = Duration::from_secs(1);
/// How long `stop_accepting` waits for the accept thread to close the listener, and the most
/// connections in the queue of the system, which are then still taken.
pub const LISTENER_CLOSE: Duration = Duration::from_secs(5);
pub const LISTENER_QUEUE: usize = 4096;

// The end of the gateway.

/// The last part of `--shutdown-timeout`, for the children; at most half of it.
pub const END_CHILDREN: Duration = Duration::from_secs(5);
/// A shorter `--shutdown-timeout` is taken for this: to kill takes time, too.
pub const END_LEAST: Duration = Duration::from_secs(1);
/// The last part of that, to kill the children that resist and for everything behind them.
pub const END_REST: Duration = Duration::from_millis(1250);
/// Streams are ended one after the other, so far apart at most, and all within `END_SPREAD`: their
/// clients must not come back in the same moment.
pub const END_STREAM_GAP: Duration = Duration::from_millis(10);
pub const END_SPREAD: Duration = Duration::from_secs(1);
/// A client whose stream is ended is told to come back after `STREAM_RETRY_MS` and a random time
/// up to this.
pub const END_RETRY_MS: u64 = 4000;
/// After the listener has closed, a busy connection has so long to be told of the end by an
/// answer; only then are idle ones closed.
pub const END_IDLE: Duration = Duration::from_millis(250);
/// For a message to the service manager to be taken.
pub const NOTIFY_WAIT: Duration = Duration::from_secs(1);
/// The shortest time between two signs of life for the watchdog of the service manager.
pub const WATCHDOG_LEAST: Duration = Duration::from_millis(10);

// JSON-RPC.

/// Nesting of a message, from either side.
pub const JSON_DEPTH: usize = 128;
/// Bytes of a string id.
pub const ID_BYTES: usize = 256;
/// Messages in one batch (revision 2025-03-26 only).
pub const BATCH_MESSAGES: usize = 64;

// Scopes.

/// In one token or request.
pub const SCOPES: usize = 50;
/// One tag in a scope.
pub const SCOPE_TAG_BYTES: usize = 64;
/// One scope of a tool.
pub const SCOPE_BYTES: usize = 256;

// Sessions and streams.

pub const SESSIONS: usize = 4096;
/// Sessions of one principal.
pub const SESSIONS_PER_PRINCIPAL: usize = 32;
/// Anonymous sessions of one address (loopback is exempt).
pub const SESSIONS_PER_ADDRESS: usize = 256;
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
/// Requests of one session in work at the same time.
pub const SESSION_CALLS: usize = 256;
/// Resource subscriptions of one session.
pub const SESSION_SUBSCRIPTIONS: usize = 1024;
/// GET streams that one session may hold open.
pub const SESSION_LISTENERS: usize = 4;
/// Bytes of events that all streams of all sessions keep for resumption, and how long a stream
/// that is complete is kept.
pub const REPLAY_TOTAL_BYTES: usize = 16 * MIB;
pub const REPLAY_FINISHED: Duration = Duration::from_secs(60);
/// Events kept for resumption: of one stream, their bytes, and streams of one session.
pub const REPLAY_EVENTS: usize = 256;
pub const REPLAY_BYTES: usize = MIB;
pub const REPLAY_STREAMS: usize = 16;
/// Replies that wait for one connection thread; progress and logs are let in only while
/// fewer than `MAILBOX_SOFT` wait, so that there is always room for asks and answers.
pub const MAILBOX: usize = 64;
pub const MAILBOX_SOFT: usize = 48;
/// Bytes of notices and questions that wait for one connection thread.
pub const MAILBOX_BYTES: usize = 4 * MIB;
/// Silence after which an undecided answer becomes an event stream.
pub const UNDECIDED: Duration = Duration::from_secs(1);
/// Comment that keeps a quiet stream open and finds a client that is gone.
pub const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a client is told to wait before it reconnects a stream.
pub const STREAM_RETRY_MS: u64 = 1000;

// Channels: clients to which every message goes by itself (HTTP+SSE, stdio).

/// Messages, and their bytes, that wait for one client; a single message may be larger.
pub const CHANNEL_MESSAGES: usize = 1024;
pub const CHANNEL_BYTES: usize = 4 * MIB;
/// How long an answer waits for room. The writer cuts the channel of a client that takes nothing
/// for `WRITE_DEADLINE`, so this is never reached in order.
pub const CHANNEL_WAIT: Duration = Duration::from_secs(120);
/// How long a message waits for the one before it to be placed. One that is not by then waits for
/// a server to start, and the others go ahead.
pub const CHANNEL_TURN: Duration = Duration::from_millis(100);
/// Between what a request tells last and its answer: some clients take messages that arrive
/// together in another order, and lose the last report of a call.
pub const CHANNEL_GAP: Duration = Duration::from_millis(5);
/// Requests at work for all channels together: each has a thread.
pub const CHANNEL_CALLS: usize = 1024;
/// Where threads are scarce an eighth of them, but at least so many.
pub const CHANNEL_CALLS_LEAST: usize = 8;
/// How long such a thread waits for more work before it ends.
pub const WORKER_IDLE: Duration = Duration::from_secs(5);
/// Streams of HTTP+SSE that are opened at the same time, and bytes of their query, by a thread
/// that keeps the memory of the others small; beyond that it costs them more.
pub const SSE_ORDERS: usize = 64;
pub const SSE_QUERY_BYTES: usize = 256;
/// Bytes of `X-Forwarded-Prefix`.
pub const PREFIX_BYTES: usize = 256;

// Stateless clients (2026-07-28).

/// Open `subscriptions/listen`; each holds a connection of its own.
pub const SUBSCRIPTIONS: usize = CONNECTIONS;
/// Resources of one subscription that servers are asked for at the same time, and how long one
/// may take to agree.
pub const SUBSCRIBE_AT_ONCE: usize = 32;
pub const SUBSCRIBE_WAIT: Duration = Duration::from_secs(5);
/// While a server works on a request, its client is looked for so often: one that has gone takes
/// its request back.
pub const CLIENT_LOOK: Duration = Duration::from_millis(50);
/// While a server works on a call of a session, its token is looked at so often: the answer ends
/// with it.
pub const TOKEN_LOOK: Duration = Duration::from_secs(1);
/// How long clients may keep a list without asking again (`ttlMs`). Changes are announced, so it
/// only has to be short for those who do not listen. While servers start it is zero.
pub const LIST_TTL_MS: u64 = 5_000;
/// Bytes of a task's id: a server's own, and the one a client gets, which says where the task is.
pub const TASK_ID_BYTES: usize = KIB;
pub const TASK_ID_SEALED_BYTES: usize = 2 * KIB;
/// Tasks that one subscription hears of, and bytes of what is new of them while it waits to be
/// written; news that do not fit are left out, because clients may ask at any time.
pub const SUBSCRIPTION_TASKS: usize = 256;
pub const SUBSCRIPTION_TASK_BYTES: usize = 4 * MIB;

// Upstream servers.

/// One line from a child: longer ones are skipped and their call gets an error.
pub const LINE_BYTES: usize = 16 * MIB;
/// Bytes queued for one child's stdin before callers wait.
pub const OUTLET_BYTES: usize = 4 * MIB;
pub const OUTLET_LINES: usize = 4096;
/// An empty queue keeps room for so many.
pub const OUTLET_KEPT_LINES: usize = 64;
/// Lines gathered into one write.
pub const OUTLET_BATCH_BYTES: usize = 64 * KIB;
/// Rounds in which a caller drains the queue for others before it leaves that to the writer.
pub const OUTLET_DIRECT_ROUNDS: usize = 8;
/// A child that takes nothing for so long is restarted.
pub const OUTLET_STALL: Duration = Duration::from_secs(30);
pub const STDERR_LINE_BYTES: usize = 8 * KIB;
/// Lines of stderr kept for diagnosis, and logged per window.
pub const STDERR_KEPT_LINES: usize = 50;
pub const STDERR_WINDOW_LINES: usize = 20;
pub const STDERR_WINDOW: Duration = Duration::from_secs(10);
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may think about `server/discover` before it is taken for one that has
/// never heard of it; less when its handshake must be over sooner.
pub const PROBE: Duration = Duration::from_secs(3);
/// How long a stateless server may take to acknowledge a subscription, and how many
/// resources and tasks one may name.
pub const LISTEN_ACK: Duration = Duration::from_secs(5);
pub const LISTEN_RESOURCES: usize = 4096;
pub const LISTEN_TASKS: usize = 4096;
pub const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Progress and open questions extend a call, but never beyond this.
pub const CALL_DEADLINE_MAX: Duration = Duration::from_secs(600);
/// A call that was taken back may still make its server ask or say something: until it is answered
/// after all, and at most for so long, such a message is given to nobody else.
pub const ABANDONED: Duration = CALL_DEADLINE_MAX;
/// How often one call may come back from a stateless server for more input, and how much one
/// result may ask.
pub const ROUNDS: usize = 10;
pub const INPUT_REQUESTS: usize = 32;
/// Before a request that needs no input is sent again; doubles each time.
pub const ROUND_WAIT: Duration = Duration::from_millis(100);
pub const ROUND_WAIT_MAX: Duration = Duration::from_secs(5);
/// Tasks of one session at one server process, and of all, whose session is remembered.
pub const SESSION_TASKS: usize = 256;
pub const TASKS_PER_SERVER: usize = 4096;
/// A task of which nothing more is heard keeps a process of its session for so long at most.
pub const TASK_OPEN: Duration = Duration::from_secs(60 * 60);
/// How long servers may take to list the tasks of a session.
pub const TASKS_LIST_WAIT: Duration = Duration::from_secs(10);
/// Calls in flight at one server process.
pub const CALLS_PER_SERVER: usize = 4096;
/// How long a call waits for room in a server's queue before it is answered "busy".
pub const QUEUE_WAIT: Duration = Duration::from_secs(5);
/// How long a call waits for a server that is starting or restarting.
pub const START_WAIT: Duration = Duration::from_secs(10);
/// How long the threads of an ended process may take to see its end.
pub const THREADS_END: Duration = Duration::from_secs(5);
/// An owner looks after its child at least so often.
pub const OWNER_LOOK: Duration = Duration::from_secs(1);
/// An owner without a process looks around at least so often.
pub const OWNER_IDLE_LOOK: Duration = Duration::from_secs(60);
/// Pipes to and from children, if the system allows: fewer turns for large messages.
pub const PIPE_BYTES: usize = MIB;
pub const RESTART_FIRST: Duration = Duration::from_millis(500);
pub const RESTART_CEILING: Duration = Duration::from_secs(60);
/// A second try within so long after a start that failed still belongs to the start.
pub const SECOND_TRY: Duration = Duration::from_secs(2);
/// So often a configured `restartDelay` is doubled.
pub const RESTART_DOUBLINGS: u32 = 4;
/// The shortest delay that `restartDelay` may ask for.
pub const RESTART_LEAST: Duration = Duration::from_millis(10);
/// Each wait is longer or shorter by up to this part of it.
pub const RESTART_JITTER: f64 = 0.2;
/// A server that was up so long starts again from the first delay.
pub const RESTART_RESET: Duration = Duration::from_secs(300);
/// So many deaths inside the window open the breaker: from then on one try per interval.
pub const BREAKER_DEATHS: usize = 5;
pub const BREAKER_WINDOW: Duration = Duration::from_secs(60);
pub const BREAKER_INTERVAL: Duration = Duration::from_secs(300);
/// A child that said nothing for so long is asked for a sign of life, and may take so long to
/// give one: less when its `requestTimeout` is shorter, but at least so long.
pub const LIVENESS_QUIET: Duration = Duration::from_secs(30);
pub const LIVENESS_ANSWER: Duration = Duration::from_secs(10);
pub const LIVENESS_ANSWER_LEAST: Duration = Duration::from_secs(2);
/// One that answers nothing and yet works is given so long; it works when it used so many clock
/// ticks (of 10 ms) while it was asked.
pub const LIVENESS_WORK: Duration = Duration::from_secs(5 * 60);
pub const LIVENESS_WORK_TICKS: u64 = 5;
/// What the gateway itself asks is waited for at least so long: longer than for a sign of life.
pub const OWN_REQUEST_LEAST: Duration = Duration::from_secs(12);
/// A server over HTTP that wants a login is asked again after so long.
pub const LOGIN_RETRY: Duration = Duration::from_secs(60);
/// How often a server looks whether those that it depends on are ready.
pub const DEPENDENCY_LOOK: Duration = Duration::from_millis(50);
/// Servers that start at the same time, and how long each of them counts at most: one that
/// hangs in its start must not hold up the others.
pub const CONCURRENT_STARTS: usize = 5;
pub const START_TURN: Duration = Duration::from_secs(2);
/// As many starts at the same time as the setting may ask for.
pub const CONCURRENT_STARTS_MOST: usize = 1024;
/// End of a child: after stdin is closed, after TERM; then KILL, always to the whole group.
pub const STOP_EOF: Duration = Duration::from_secs(2);
pub const STOP_TERM: Duration = Duration::from_secs(3);
/// How long a reading of the process table is waited for by those who want to share it.
pub const PROCESS_READING: Duration = Duration::from_secs(1);
/// A killed process is gone in milliseconds; one that is not by then sleeps in the kernel
/// (a dead network disk) and is left to the reaper.
pub const KILL_WAIT: Duration = Duration::from_secs(2);
/// Processes of one server in mode `instances: session`.
pub const INSTANCES_PER_SERVER: usize = 64;
/// Instances of one server in every other mode, and how long one that nobody uses is kept.
pub const INSTANCES_PER_POOL: usize = 8;
pub const INSTANCE_IDLE: Duration = Duration::from_secs(5 * 60);
/// How long a question waits for the answer of a stateless client, and the least to be set.
pub const PARKED: Duration = Duration::from_secs(5 * 60);
pub const PARKED_LEAST_MS: u64 = 1000;
/// Calls that wait for stateless clients to come back, in all.
pub const PARKED_CALLS: usize = 1024;
/// How long questions of one call are gathered, so that the client gets them together.
pub const GATHER: Duration = Duration::from_millis(25);
/// The longest wait before a server over HTTP is tried again.
pub const REMOTE_DOWN: Duration = Duration::from_secs(15);
/// How long a call waits for a process of its own before it goes to the shared one, where it may
/// not be asked anything.
pub const POOL_WAIT: Duration = Duration::from_secs(2);
/// How often a call that waits for a process of its own looks whether one has become quiet.
pub const POOL_LOOK: Duration = Duration::from_millis(50);
/// A process that a call was taken back from may still be at work: so long it is left alone.
pub const COOLING: Duration = Duration::from_secs(2);
/// A call that waits for its client keeps its process so long, whoever else wants one.
pub const PARKED_AT_LEAST: Duration = Duration::from_secs(5);

// Servers over HTTP.

/// Exchanges under way at one server, and how many more may be notifications and answers.
pub const REMOTE_CALLS: usize = 256;
pub const REMOTE_NOTES: usize = 32;
/// A thread without an exchange ends after so long.
pub const REMOTE_IDLE: Duration = Duration::from_secs(10);
/// Silence of a call's exchange: whoever waits for the call has a shorter deadline.
pub const REMOTE_CALL: Duration = Duration::from_secs(630);
/// For a notification or an answer to be taken.
pub const REMOTE_NOTE: Duration = Duration::from_secs(10);
/// How long others wait for a change of the log level that is on its way.
pub const REMOTE_TURN: Duration = Duration::from_secs(2);
/// Until a stream opens, or a forgotten session is opened again.
pub const REMOTE_STREAM_HEAD: Duration = Duration::from_secs(30);
/// How long `server/discover` may take; less when the greeting must be over sooner.
pub const REMOTE_PROBE: Duration = Duration::from_secs(3);
/// What comes behind an answer is read for so long, so that its connection can be used again.
pub const REMOTE_TAIL: Duration = Duration::from_millis(250);
/// Of an answer that is no success.
pub const REMOTE_REFUSAL_BYTES: usize = 64 * KIB;
pub const REMOTE_READ_BYTES: usize = 16 * KIB;
pub const REMOTE_SESSION_ID_BYTES: usize = 4096;
/// What one header may repeat of a request.
pub const REMOTE_MIRROR_BYTES: usize = 8 * KIB;
/// So many exchanges in a row without an answer, and the server is taken for down.
pub const REMOTE_STRIKES: u32 = 3;
/// So many sessions in a row that were of no use, and the server is taken for down; so many in
/// a short time, and further ones are asked for with pauses.
pub const REMOTE_RENEWALS: u32 = 3;
/// Between two looks whether a server still is what it was.
pub const REMOTE_CHECK: Duration = Duration::from_secs(1);
/// A server that showed in no other way that it is there is asked so often.
pub const REMOTE_LOOK: Duration = Duration::from_secs(60);
/// How long the list of tools may take when a server finds fault with a call's headers.
pub const REMOTE_RELIST: Duration = Duration::from_secs(10);
/// Tries in a row, without anything new, to go on with a broken stream of a call.
pub const REMOTE_RESUMPTIONS: u32 = 5;
/// Before a stream is opened again: unless the server says otherwise, at least, and at most.
pub const REMOTE_RETRY: Duration = Duration::from_secs(1);
pub const REMOTE_RETRY_LEAST: Duration = Duration::from_millis(100);
pub const REMOTE_PAUSE_CEILING: Duration = Duration::from_secs(60);
/// Between streams of a call that bring no messages, unless the server wants it longer.
pub const REMOTE_IDLE_PAUSE: Duration = Duration::from_secs(5);
/// How often the pause before a stream is doubled when each one is short, but not empty.
pub const REMOTE_SHORT_STREAMS: u32 = 3;
/// A stream that was open for so long was a good one, even if nothing came.
pub const REMOTE_STREAM_GOOD: Duration = Duration::from_secs(5);
/// To give a session back at the end.
pub const REMOTE_GOOD_BYE: Duration = Duration::from_millis(500);
// Alerts.

/// Sinks, and bytes of the name of one.
pub const ALERT_SINKS: usize = 16;
pub const ALERT_SINK_NAME_BYTES: usize = 64;
/// Alerts that wait for one sink: beyond that the oldest is lost, and counted.
pub const ALERT_QUEUE: usize = 1000;
/// Troubles that are kept in mind; of more than these nobody is told anything new.
pub const ALERT_KEYS: usize = 4096;
/// What is said of one: the rest is cut off.
pub const ALERT_TEXT_BYTES: usize = 2 * KIB;
/// One try, unless configured otherwise, and the most that may be configured.
pub const ALERT_TIMEOUT: Duration = Duration::from_secs(10);
pub const ALERT_TIMEOUT_MS_MAX: u64 = 60_000;
/// The longest time that a rule may ask for.
pub const ALERT_RULE_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// From the start of one try to the start of the next at the same sink, whatever is waiting.
pub const ALERT_GAP: Duration = Duration::from_secs(1);
/// Tries for one alert; the longest wait before the second one, which doubles, and what it grows
/// to. Each wait is a random part of that.
pub const ALERT_TRIES: u32 = 8;
pub const ALERT_RETRY: Duration = Duration::from_secs(2);
pub const ALERT_RETRY_MAX: Duration = Duration::from_secs(10 * 60);
/// After so many failures in a row a sink is left alone: at least so long between two tries.
pub const ALERT_BREAKER: u32 = 5;
pub const ALERT_BREAKER_WAIT: Duration = Duration::from_secs(60);
/// Of the answer of a sink, or the output of a command, no more is read. It is never shown.
pub const ALERT_ANSWER_BYTES: usize = 4 * KIB;
/// Changes of the configuration that wait for the thread that judges, and how often that looks for
/// what nobody tells it.
pub const ALERT_ORDERS: usize = 8;
pub const ALERT_LOOK: Duration = Duration::from_secs(1);
/// At the end of the gateway, for what is waiting.
pub const ALERT_END: Duration = Duration::from_secs(2);
/// How often a running command is looked at: whether it is still wanted.
pub const ALERT_COMMAND_LOOK: Duration = Duration::from_millis(100);
/// How often certificates are looked at, and how long one look may take.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(6 * 60 * 60);
pub const CERTIFICATE_WAIT: Duration = Duration::from_secs(10);

// Discovery.

/// Sources, and bytes of the name of one.
pub const DISCOVERY_SOURCES: usize = 16;
pub const DISCOVERY_NAME_BYTES: usize = 32;
/// What one source may find, and what may be said of one finding.
pub const DISCOVERY_FOUND: usize = CONFIG_SERVERS;
pub const DISCOVERY_ENTRY_BYTES: usize = 16 * KIB;
/// What was found stays so long while its source fails; and the most that may be configured.
pub const DISCOVERY_KEEP: Duration = Duration::from_secs(10 * 60);
pub const DISCOVERY_KEEP_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// The first change is waited for so long, for more of its kind; and the least time between two
/// configurations that findings make.
pub const DISCOVERY_SETTLE: Duration = Duration::from_millis(100);
/// At the end of the gateway, for the threads of all sources.
pub const DISCOVERY_END: Duration = Duration::from_secs(1);
/// What is shown of an error.
pub const DISCOVERY_ERROR_BYTES: usize = KIB;
/// How often a directory is looked at, files in it, bytes of one and of all together, and how
/// long a file that is no JSON may stay so before it counts as bad: it is perhaps written just now.
pub const DISCOVERY_LOOK: Duration = Duration::from_millis(500);
pub const DISCOVERY_FILES: usize = CONFIG_SERVERS;
pub const DISCOVERY_FILE_BYTES: u64 = 256 * 1024;
pub const DISCOVERY_FOLDER_BYTES: u64 = 4 * 1024 * 1024;
pub const DISCOVERY_HALF_WRITTEN: Duration = Duration::from_secs(2);
/// Answers of an API server or an engine: bytes of a page of a list, of a line of what is watched;
/// objects on a page (fewer when it is too large), pages of a list, and how long it may take.
pub const DISCOVERY_LIST_BYTES: usize = 8 * 1024 * KIB;
pub const DISCOVERY_LINE_BYTES: usize = 2 * 1024 * KIB;
pub const DISCOVERY_PAGE: usize = 250;
pub const DISCOVERY_PAGES: usize = 64;
pub const DISCOVERY_LIST: Duration = Duration::from_secs(60);
/// The head of one answer.
pub const DISCOVERY_HEAD: Duration = Duration::from_secs(30);
/// A watch is ended by the API server after this time; a connection that is silent for longer than
/// that and the next is dead.
pub const DISCOVERY_WATCH: Duration = Duration::from_secs(240);
pub const DISCOVERY_WATCH_OVER: Duration = Duration::from_secs(30);
/// Containers are listed anew after so long, whatever was heard of them; at most so often; and
/// what happened so long before a list is heard of once more, as clocks differ.
pub const DISCOVERY_RELIST: Duration = Duration::from_secs(300);
pub const DISCOVERY_RELIST_LEAST: Duration = Duration::from_millis(200);
pub const DISCOVERY_BEFORE_S: u64 = 5;
/// Watches in a row of which nothing came before they were lost, until that is a failure.
pub const DISCOVERY_LOST: usize = 2;
/// What was watched so long without trouble begins with the first pause when it fails.
pub const DISCOVERY_STEADY: Duration = Duration::from_secs(10);
/// Questions of DNS: bytes of a name and of an answer over UDP, the wait for one answer,
/// tries at each server, and how often is asked: by the life of the records, between these.
pub const DNS_NAME_BYTES: usize = 253;
pub const DNS_UDP_BYTES: u16 = 1232;
pub const DNS_WAIT: Duration = Duration::from_secs(2);
pub const DNS_TRIES: usize = 2;
pub const DNS_SERVERS: usize = 3;
pub const DNS_ASK_MS: u64 = 30_000;
pub const DNS_ASK_MS_LEAST: u64 = 1_000;

// HTTP towards others.

/// To resolve and connect, within the time for the whole response head.
pub const NET_CONNECT: Duration = Duration::from_secs(10);
/// What one of several addresses gets at least.
pub const NET_CONNECT_EACH: Duration = Duration::from_millis(250);
/// Addresses tried for one name.
pub const NET_ADDRESSES: usize = 16;
/// Names looked up at the same time: the system's own wait cannot be ended, only left behind.
pub const NET_LOOKUPS: usize = 32;
/// Response line and headers, and what one connection reads and writes at once.
pub const NET_HEAD_BYTES: usize = 32 * KIB;
pub const NET_INPUT_BYTES: usize = 64 * KIB;
pub const NET_OUTPUT_BYTES: usize = 32 * KIB;
/// Idle connections one client keeps, and for how long: less than the five seconds after which
/// common servers close them, so that a request does not cross the close on the wire.
pub const NET_IDLE_CONNECTIONS: usize = 16;
pub const NET_IDLE: Duration = Duration::from_secs(4);
/// Keep-alive probes find a peer that vanished: after so much silence, so often, so many.
pub const NET_PROBE_AFTER: Duration = Duration::from_secs(30);
pub const NET_PROBE_INTERVAL: Duration = Duration::from_secs(10);
pub const NET_PROBES: u32 = 3;
/// Redirects followed within one origin, and the bytes of their bodies that are read.
pub const NET_REDIRECTS: usize = 3;
pub const NET_REDIRECT_BODY_BYTES: usize = 4 * KIB;
/// A file of certificates.
pub const NET_CA_BYTES: u64 = 4 * 1024 * 1024;

// Catalogue.

pub const TOOLS_PER_SERVER: usize = 10_000;
pub const ENTRIES: usize = 20_000;
pub const ENTRY_BYTES: usize = 256 * KIB;
/// All entries of all lists of one server.
pub const LISTING_BYTES_PER_SERVER: usize = 32 * MIB;
/// Instructions of one server: the rest is cut off.
pub const INSTRUCTIONS_BYTES: usize = 64 * KIB;
/// Pages read from one server for one list.
pub const LIST_PAGES: usize = 1000;
/// Entries in one page of ours.
pub const PAGE_ENTRIES: usize = 1000;
/// Vanished entries remembered per list of a server, so that cursors keep their place.
pub const TOMBSTONES: usize = 1024;
/// Tools and prompts that are measured one by one; all others of a server together.
pub const METRIC_ENTRIES: usize = 500;
/// Changes are gathered for so long before clients are told.
pub const LIST_CHANGED_DELAY: Duration = Duration::from_millis(1000);
/// They are told after so long, whatever delay is asked for.
pub const LIST_CHANGED_LONGEST: Duration = Duration::from_millis(5000);
/// A server that announces changes more often is read once per window: that in which clients
/// are told of changes, or this one if it is longer.
pub const REFRESH_WINDOW: Duration = Duration::from_millis(250);
/// A list that could not be read is tried again after the first, then ever later.
pub const RELIST_FIRST: Duration = Duration::from_secs(1);
pub const RELIST_CEILING: Duration = Duration::from_secs(300);
/// A list whose server announces no changes is read again when its `ttlMs` is over, within these.
pub const RELIST_STALE_MIN: Duration = Duration::from_secs(60);
pub const RELIST_STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
pub const SERVER_NAME_BYTES: usize = 128;
/// Bytes of a public tool or prompt name, unless configured otherwise; the least and the most
/// that may be configured (a shortened name needs room for its hash); bytes of the separator.
pub const PUBLIC_NAME_BYTES: usize = 64;
pub const PUBLIC_NAME_BYTES_MIN: usize = 32;
pub const PUBLIC_NAME_BYTES_MAX: usize = 256;
pub const SEPARATOR_BYTES: usize = 12;
/// A list cursor of ours, as text; a longer entry name is remembered by its digest.
pub const CURSOR_BYTES: usize = 8 * KIB;
pub const CURSOR_NAME_BYTES: usize = 1024;
/// Matching a URI costs the product of the two.
pub const URI_BYTES: usize = 8 * KIB;
pub const URI_TEMPLATE_BYTES: usize = KIB;

// Tag expressions.

pub const FILTER_BYTES: usize = 4 * KIB;
/// Tags in one expression, characters of one tag, nesting of parentheses and negations.
pub const FILTER_TAGS: usize = 50;
pub const TAG_CHARS: usize = 100;
pub const FILTER_DEPTH: usize = 32;

// The gateway itself.

/// Whoever has more waits for the router.
pub const ROUTER_EVENTS: usize = 256;
/// How long a change waits for others that make one world with it, while there are any.
pub const ROUTER_UNPUBLISHED: Duration = Duration::from_millis(20);
/// Changes of the configuration that wait for the router.
pub const ROUTER_ORDERS: usize = 8;
/// How long one of them may take: the router never waits for anybody.
pub const ROUTER_ORDER: Duration = Duration::from_secs(10);
/// A server that left the configuration finishes its calls: at least so long, because who took
/// the world before may be on the way to it, and at most; how many of them are waited for at a
/// time.
pub const RETIRE_MIN: Duration = Duration::from_millis(200);
pub const RETIRE: Duration = Duration::from_secs(60);
pub const RETIRING: usize = CONFIG_SERVERS;
/// Names of servers whose subscriptions are kept although there is no such server any more.
pub const FLEET_NAMES: usize = 4 * CONFIG_SERVERS;
/// How often the files of the configuration are looked at.
pub const CONFIG_LOOK: Duration = Duration::from_millis(500);
/// A folder of the configuration: entries looked at.
pub const CONFIG_FOLDER_ENTRIES: usize = 1024;
/// Files that change while they are read are read again, so often at most.
pub const CONFIG_READS: usize = 4;
/// Requests to reload that wait for the thread that does it.
pub const RELOAD_REQUESTS: usize = 64;
/// How often idle sessions and ended processes are looked for.
pub const SWEEP: Duration = Duration::from_secs(5);
/// Lists and `initialize` are held until every server settled, but not longer than this.
pub const SYNC_START: Duration = Duration::from_secs(30);
pub const SHUTDOWN: Duration = Duration::from_secs(25);
/// Between two looks at the process table for members of a family that left their group.
pub const FAMILY_LOOK: Duration = Duration::from_secs(15);
/// The watcher's first look at a new group.
pub const FAMILY_FIRST_LOOK: Duration = Duration::from_secs(1);
/// Between two looks where the kernel has no event for the end of a process (no pidfd).
pub const PROCESS_POLL: Duration = Duration::from_millis(20);
/// Processes read from the process table at once; the kernel's own ceiling is 4 Mi.
pub const PROCESSES: usize = 256 * KIB;
/// Open files looked at in one foreign process.
pub const FOREIGN_FILES: usize = 1024;
/// Process groups the watcher keeps in mind: every instance of every server.
pub const WATCHED_GROUPS: usize = CONFIG_SERVERS * INSTANCES_PER_SERVER;
/// How long the gateway waits at its end for the watcher's end.
pub const WATCHER_EXIT: Duration = Duration::from_secs(3);
/// How often the watcher looks for those who were born while the others were told to end.
pub const WATCHER_ROUNDS: usize = 4;
/// The reaper looks so often even without a signal: signals of the same kind are merged.
pub const REAPER_LOOK: Duration = Duration::from_secs(60);
/// Orphans reaped in one pass.
pub const ORPHANS: usize = 4096;
/// The brand of what servers start is a limit between these; both are too long to bind anybody:
/// 127,000 years, 31 years.
pub const BRAND_MOST_US: u64 = 4_000_000 * 1_000_000_000_000;
pub const BRAND_LEAST_US: u64 = 1_000 * 1_000_000_000_000;
/// Rounds of ending orphans at the end of the gateway, with their children, and theirs.
pub const ORPHAN_GENERATIONS: usize = 4;
/// As PID 1, after the gateway's end: from TERM to KILL, and from KILL to exit.
pub const INIT_TERM: Duration = Duration::from_secs(3);
pub const INIT_KILL: Duration = Duration::from_secs(2);
/// File descriptors marked one by one where the kernel has no close_range (before 5.11).
pub const INHERITED_FILES: i32 = 4096;
/// Configuration files.
pub const CONFIG_BYTES: u64 = 8 * 1024 * 1024;
pub const CONFIG_SERVERS: usize = 1024;
pub const CONFIG_PRESETS: usize = 1024;
/// Headers that one entry may send, and the bytes of one value.
pub const REMOTE_HEADERS: usize = 64;
pub const REMOTE_HEADER_BYTES: usize = 16 * KIB;
/// A file that `${FILE:path}` names.
pub const TEMPLATE_FILE_BYTES: u64 = 64 * 1024;
/// Files in `conf.d`, bytes of all files of a configuration, and of the environment's name.
pub const CONFIG_FRAGMENTS: usize = 256;
pub const CONFIG_ALL_BYTES: u64 = 32 * 1024 * 1024;
pub const ENVIRONMENT_BYTES: usize = 64;
/// A file of another program from which servers are imported; some keep their history in it.
pub const IMPORT_BYTES: u64 = 64 * 1024 * 1024;
/// Copies of a file that an import leaves beside it.
pub const BACKUPS: usize = 100;
/// Variables in `.env`.
pub const DOTENV_VARIABLES: usize = 4096;
/// Secrets: bytes of a name and of a value, how many there may be, providers, and the file that
/// keeps them sealed.
pub const SECRET_NAME_BYTES: usize = 128;
pub const SECRET_BYTES: usize = 64 * KIB;
pub const SECRETS: usize = 4096;
pub const SECRET_SOURCES: usize = 32;
pub const SEALED_BYTES: u64 = 16 * 1024 * 1024;
/// For one command or one vault to say a secret, unless configured otherwise.
pub const SECRET_COMMAND: Duration = Duration::from_secs(10);
pub const SECRET_VAULT: Duration = Duration::from_secs(5);
/// The longest that one may be given, and how often the thread that asks anew looks at its clock.
pub const SECRET_TIMEOUT_MS: u64 = 60_000;
pub const SECRET_LOOK: Duration = Duration::from_millis(250);
/// One that could not answer is left alone for so long.
pub const SECRET_REST: Duration = Duration::from_secs(5);
/// What was not wanted in so many loads of the configuration is not asked for any more.
pub const SECRET_LOADS_KEPT: u64 = 16;
/// Words of a command, variables that it gets.
pub const SECRET_COMMAND_WORDS: usize = 64;
pub const SECRET_COMMAND_VARIABLES: usize = 64;
/// One answer of a vault, and how long a token from a login is used at most.
pub const VAULT_BYTES: usize = MIB;
pub const VAULT_TOKEN: Duration = Duration::from_secs(24 * 60 * 60);
/// `onemcp secret`: how long it waits for its turn at the file, and between two tries.
pub const SECRET_LOCK: Duration = Duration::from_secs(10);
pub const SECRET_LOCK_RETRY: Duration = Duration::from_millis(10);

// Pinned tools.

/// Pins of all servers; beyond that, tools count as never seen.
pub const PINS: usize = ENTRIES;
/// A longer name is not pinned.
pub const PIN_NAME_BYTES: usize = 1024;
/// Of a longer definition only the hash is kept; the same for all of them together.
pub const PIN_TEXT_BYTES: usize = 32 * KIB;
pub const PIN_TEXTS_BYTES: usize = 16 * MIB;
/// A larger file is no book of pins.
pub const PINS_FILE_BYTES: u64 = 128 * 1024 * 1024;
/// How long the router waits for another gateway that changes the same file.
pub const PINS_LOCK: Duration = Duration::from_millis(500);
/// `onemcp pins diff` compares lines each with each, up to so many pairs.
pub const PINS_DIFF_CELLS: usize = 1_000_000;
/// Symbolic links that are followed from the sealed file or its key to where the bytes are.
pub const LINKS: usize = 40;
/// Changed files are read when nothing changed for so long.
pub const CONFIG_DEBOUNCE: Duration = Duration::from_millis(500);
/// Servers that one server may wait for.
pub const SERVER_DEPENDENCIES: usize = 32;
/// Tags of one server.
pub const SERVER_TAGS: usize = 50;
/// Operators inside each other in the query of a preset.
pub const PRESET_DEPTH: usize = 16;
/// The longest time that a setting or a server entry may ask for.
pub const SETTING_MS: u64 = 24 * 60 * 60 * 1000;
/// The log file is replaced at this size, unless configured otherwise; so small, so large it
/// may be; old files kept, and at most.
pub const LOG_FILE_BYTES: u64 = 10 * 1024 * 1024;
pub const LOG_FILE_BYTES_LEAST: u64 = 4 * 1024;
pub const LOG_FILE_BYTES_MOST: u64 = 1024 * 1024 * 1024 * 1024;
pub const LOG_FILES: usize = 5;
pub const LOG_FILES_MOST: usize = 1000;
/// Metrics and traces are pushed so often, unless configured otherwise, and at most so often.
pub const OTLP_INTERVAL: Duration = Duration::from_secs(30);
pub const OTLP_INTERVAL_LEAST_MS: u64 = 100;
/// Slow secret stores are asked so often, unless configured otherwise, and at most so often.
pub const SECRETS_REFRESH: Duration = Duration::from_secs(30);
pub const SECRETS_REFRESH_LEAST_MS: u64 = 100;
/// Items of a setting that is a list.
pub const SETTING_ITEMS: usize = 256;
/// How far the setting may raise `BODY_BYTES`.
pub const BODY_BYTES_CEILING: usize = 256 * MIB;
/// The embedded demo servers: request line, countdowns at a time and their length; notes, bytes
/// of one, characters of a title, subscriptions; entries of a page; bytes of notes in a prompt.
pub const DEMO_LINE_BYTES: usize = MIB;
pub const DEMO_COUNTDOWNS: usize = 64;
pub const DEMO_COUNTDOWN_S: u64 = 60;
pub const DEMO_NOTES: usize = 1000;
pub const DEMO_NOTE_BYTES: usize = 64 * KIB;
pub const DEMO_TITLE_CHARS: usize = 200;
pub const DEMO_PAGE_ENTRIES: usize = 100;
pub const DEMO_MATCHES: usize = 50;
pub const DEMO_PROMPT_BYTES: usize = 256 * KIB;
/// `list` and `call` at a running gateway: between two bytes (a gateway sends a comment every
/// 15 s); in all, unless told otherwise (a call that makes progress may take as long as a
/// gateway lets it); to close a session.
pub const CLIENT_SILENCE: Duration = Duration::from_secs(75);
pub const CLIENT_DEADLINE: Duration = Duration::from_secs(610);
pub const CLIENT_CLOSE: Duration = Duration::from_secs(2);
/// `proxy`: how long a notification may take to be taken; silence inside an answer or a stream;
/// how often a stream that breaks is taken up again, and the pause before that when it gave
/// nothing.
pub const PROXY_NOTE: Duration = Duration::from_secs(10);
pub const PROXY_SILENCE: Duration = Duration::from_secs(300);
pub const PROXY_RESUMPTIONS: usize = 16;
pub const PROXY_RETRY: Duration = Duration::from_secs(1);
/// The longest pause that an endpoint may ask for.
pub const PROXY_PAUSE: Duration = Duration::from_secs(30);
/// Headers of its command line.
pub const PROXY_HEADERS: usize = 32;
/// The control socket: connections, and how many of them may stay (`status --watch`, `logs -f`,
/// `wait`, `drain`), so that there is always room for a short command.
pub const CONTROL_CONNECTIONS: usize = 32;
pub const CONTROL_FOLLOWERS: usize = 24;
/// One request, how long it may take to arrive, and how long a line may take to be taken.
pub const CONTROL_REQUEST_BYTES: usize = 16 * KIB;
pub const CONTROL_REQUEST: Duration = Duration::from_secs(5);
pub const CONTROL_WRITE: Duration = Duration::from_secs(5);
/// One line of an answer.
pub const CONTROL_LINE_BYTES: usize = 4 * MIB;
/// Between two pictures of `status --watch`, and how often it looks for what has no event.
pub const CONTROL_FRAME: Duration = Duration::from_millis(250);
pub const CONTROL_LOOK: Duration = Duration::from_secs(1);
/// At the end of the gateway, for the last line of every answer.
pub const CONTROL_END: Duration = Duration::from_millis(500);
/// How long a change of the configuration may take that a command asked for.
pub const CONTROL_CHANGE: Duration = Duration::from_secs(20);
/// How long `restart` waits for the end of the old process.
pub const CONTROL_RESTART: Duration = Duration::from_secs(15);
/// `wait`, unless told otherwise; the answer of a short command; between two tries to connect.
pub const WAIT: Duration = Duration::from_secs(30);
pub const CONTROL_ANSWER: Duration = Duration::from_secs(30);
pub const CONTROL_RETRY: Duration = Duration::from_millis(50);
/// Ancestors of a peer that are looked at, and how often, while they end under the look.
pub const PEER_ANCESTORS: usize = 1024;
pub const PEER_LOOKS: usize = 8;
/// How long gateways wait for each other to open their sockets in one folder.
pub const SOCKET_LOCK: Duration = Duration::from_secs(1);
/// Sockets looked at in one folder.
pub const SOCKET_FILES: usize = 1024;
/// Stacks of threads; only touched pages count.
pub const STACK_CONNECTION_BYTES: usize = 256 * KIB;
pub const STACK_WORKER_BYTES: usize = 256 * KIB;
pub const STACK_REMOTE_BYTES: usize = 512 * KIB;
/// Of a stack, what is never given back: more than stands above the first call of a thread.
pub const STACK_MARGIN_BYTES: usize = 32 * KIB;
/// A thread that has nothing to do for so long gives back what its heap and its stack do not use.
pub const REST: Duration = Duration::from_millis(400);
/// Facts that wait for whoever acts on them.
pub const FACTS: usize = 1024;
/// The audit log: one line, and in it one name, one longer text, and arguments that were asked
/// for, each with its escapes.
pub const AUDIT_LINE_BYTES: usize = 16 * KIB;
pub const AUDIT_NAME_BYTES: usize = 256;
pub const AUDIT_AGENT_BYTES: usize = 128;
pub const AUDIT_TEXT_BYTES: usize = 2 * KIB;
pub const AUDIT_ARGUMENTS_BYTES: usize = 4 * KIB;
/// For the texts of one call so much room is made at once.
pub const AUDIT_CALL_BYTES: usize = 512;
/// Longer arguments are digested where they are read, shorter ones by the thread of the chain.
pub const AUDIT_ARGUMENTS_KEPT_BYTES: usize = 256;
/// Events that wait to be chained, and lines that wait for one sink.
pub const AUDIT_QUEUE_BYTES: usize = 4 * MIB;
pub const AUDIT_BACKLOG_BYTES: usize = 8 * MIB;
/// Events are taken so often while there are any; whoever tells one wakes nobody up.
pub const AUDIT_TICK: Duration = Duration::from_millis(50);
/// After so many ticks without an event the thread sleeps until the next one.
pub const AUDIT_IDLE_TICKS: u32 = 40;
/// With so many bytes it is woken: what is still in the cache of a processor costs less.
pub const AUDIT_HURRY_BYTES: usize = 128 * KIB;
/// A sink with lines that takes none of them for so long is failing.
pub const AUDIT_STALL: Duration = Duration::from_secs(2);
/// Checkpoints are brought to the disk at most so often.
pub const AUDIT_SYNC_EVERY: Duration = Duration::from_secs(1);
pub const AUDIT_CHECKPOINT_LINES: u64 = 1000;
pub const AUDIT_CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// What happened before is told again at the latest after so long, in its count.
pub const AUDIT_REJECTS_EVERY: Duration = Duration::from_secs(10);
/// Rejects of one kind that are told one by one within that time.
pub const AUDIT_REJECTS: u64 = 20;
/// Successes that have been told already.
pub const AUDIT_SEEN: usize = 4096;
/// A call that takes so long is told before it ends.
pub const AUDIT_LONG_CALL: Duration = Duration::from_secs(10);
pub const AUDIT_WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
pub const AUDIT_WEBHOOK_BYTES: usize = 256 * KIB;
pub const AUDIT_RETRY_MOST: Duration = Duration::from_secs(30);
/// The key must have so many bytes.
pub const AUDIT_KEY_BYTES: usize = 32;
/// Further than that no key is sought: a number could be made up.
pub const AUDIT_STEPS: u64 = 1_000_000_000;
/// Of a log, so much is read from its end backwards at the start: its last signed line is there.
pub const AUDIT_LOOK_BYTES: u64 = 256 * 1024 * 1024;
/// So often the judge looks for files that are being put aside, and so long it waits between.
pub const AUDIT_LOOKS: usize = 50;
pub const AUDIT_LOOK_EVERY: Duration = Duration::from_millis(10);
/// What `onemcp audit verify` says of at most.
pub const AUDIT_FINDINGS: usize = 20;
pub const AUDIT_FILE_BYTES: u64 = 100 * 1024 * 1024;
pub const AUDIT_FILES: usize = 10;

pub const LOG_LINES: usize = 8192;
pub const LOG_BYTES: usize = 2 * MIB;
/// Of one line; what is longer is cut.
pub const LOG_LINE_BYTES: usize = 16 * KIB;
/// Of a client's text in the request log: a name, or all arguments.
pub const LOG_ARGUMENT_CHARS: usize = 2048;
/// Lines that go into a log file, or to stderr, in one write. Up to 4 KiB arrive in one piece.
pub const LOG_BATCH_BYTES: usize = 64 * KIB;
pub const LOG_STDERR_BYTES: usize = 4 * KIB;
/// After a destination refused a line, and how often a file is looked for at its path.
pub const LOG_RETRY: Duration = Duration::from_secs(1);
pub const LOG_LOOK: Duration = Duration::from_secs(1);
/// After a file could not be put aside.
pub const LOG_ROTATE_RETRY: Duration = Duration::from_secs(10);
/// One wait for a pipe that is full.
pub const LOG_PIPE_WAIT: Duration = Duration::from_millis(200);
/// For what is queued to be written at the end, and how often that is looked at.
pub const LOG_FINISH: Duration = Duration::from_secs(1);
pub const LOG_FINISH_LOOK: Duration = Duration::from_millis(1);
/// Files of servers' stderr that are open at once, and what a name may take of a file's.
pub const SERVER_LOG_FILES: usize = 64;
pub const SERVER_LOG_NAME_BYTES: usize = 200;
/// Secrets that are masked wherever they appear.
pub const KNOWN_SECRETS: usize = 1024;
/// Finished spans that wait to be sent, those of one request, and bytes of one text in them.
pub const SPANS: usize = 2048;
pub const SPANS_AT_ONCE: usize = 512;
pub const SPAN_TEXT_BYTES: usize = KIB;
/// Spans wait so long for others that are sent with them.
pub const SPANS_GATHERED: Duration = Duration::from_secs(1);
/// One request to the receiver of traces and metrics, what is read of its answer, and how often
/// one that failed is repeated, with pauses between these (each shortened at random).
pub const OTLP_REQUEST: Duration = Duration::from_secs(10);
pub const OTLP_ANSWER_BYTES: usize = 64 * KIB;
pub const OTLP_TRIES: u32 = 4;
pub const OTLP_PAUSE: Duration = Duration::from_secs(1);
pub const OTLP_PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many requests in a row that were given up, and the receiver is left alone for so long.
pub const OTLP_BREAKER: u32 = 3;
pub const OTLP_REST: Duration = Duration::from_secs(60);
/// Between two warnings that the receiver takes only a part.
pub const OTLP_PARTLY: Duration = Duration::from_secs(300);
/// To send what is left at the end of the gateway.
pub const OTLP_END: Duration = Duration::from_secs(1);

// Authorization server (`auth::server`, `auth::store`; RFC 6749 and the drafts of OAuth 2.1).

/// Parameters of one query or form, bytes of one form, and of a registration.
pub const FORM_FIELDS: usize = 64;
pub const TOKEN_FORM_BYTES: usize = 16 * KIB;
pub const REGISTRATION_BYTES: usize = 16 * KIB;
/// Bytes of `state`, of `scope`, of a redirect URI, and of a name that a client gives itself.
pub const OAUTH_STATE_BYTES: usize = 2 * KIB;
pub const OAUTH_SCOPE_BYTES: usize = 4 * KIB;
pub const REDIRECT_URI_BYTES: usize = 2 * KIB;
pub const REDIRECT_URIS: usize = 10;
pub const CLIENT_NAME_BYTES: usize = 128;
pub const CLIENT_ID_BYTES: usize = 2 * KIB;
/// Clients of the configuration.
pub const KNOWN_CLIENTS: usize = 100;
/// An authorization code; RFC 6749 allows ten minutes, a program needs a second.
pub const CODE_LIFE: Duration = Duration::from_secs(60);
pub const CODES: usize = 4096;
/// That a code was used is remembered as long as an access token that came of it may live.
pub const SPENT_CODE_LIFE: Duration = Duration::from_secs(24 * 3600);
pub const SPENT_CODES: usize = 20_000;
/// A refresh token, from the consent on: rotation does not lengthen it.
pub const REFRESH_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
pub const FAMILIES: usize = 10_000;
/// Longer than one rotation takes: the mark that it is under way.
pub const ROTATION_LIFE: Duration = Duration::from_secs(600);
/// Registered clients that nobody has consented to yet, how long they are kept, and the others.
pub const UNUSED_CLIENTS: usize = 1000;
pub const UNUSED_CLIENT_LIFE: Duration = Duration::from_secs(24 * 3600);
pub const USED_CLIENTS: usize = 10_000;
pub const USED_CLIENT_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Registrations of one address in a minute, and secrets that one shows for one client.
pub const REGISTRATIONS_PER_MINUTE: u32 = 10;
pub const CLIENT_SECRETS_PER_MINUTE: u32 = 120;
/// A client's metadata document: bytes, time for all of it, fetches at once, documents kept and
/// for how long at most and at least, and how long one that failed is not asked for again.
pub const CLIENT_DOCUMENT_BYTES: usize = 64 * KIB;
pub const CLIENT_DOCUMENT_TIME: Duration = Duration::from_secs(5);
pub const CLIENT_DOCUMENT_FETCHES: usize = 4;
pub const CLIENT_DOCUMENTS: usize = 256;
pub const CLIENT_DOCUMENT_LIFE: Duration = Duration::from_secs(24 * 3600);
pub const CLIENT_DOCUMENT_LEAST: Duration = Duration::from_secs(60);
pub const CLIENT_DOCUMENT_FAILED: Duration = Duration::from_secs(30);
/// Between two looks for what has expired in the store.
pub const STORE_SWEEP: Duration = Duration::from_secs(60);
/// Bytes of one value in the store.
pub const STORE_VALUE_BYTES: usize = 32 * KIB;

// Who may come in.

/// Life of an access token of ours at most.
pub const ACCESS_TOKEN_MINUTES: u64 = 24 * 60;
/// Requests of one principal in a minute, and of one address in a window, at most.
pub const PRINCIPAL_RATE_MOST: u64 = 10_000_000;
/// A token that is longer is not looked at.
pub const TOKEN_BYTES: usize = 8 * KIB;
/// How far a clock of others may differ from ours.
pub const TOKEN_LEEWAY_S: u64 = 60;
/// A token issued further in the future than this is refused, whoever issued it.
pub const TOKEN_FUTURE_S: u64 = 300;
/// Verified tokens that are remembered, and for so long at most.
pub const VERIFIED_TOKENS: usize = 4096;
pub const VERIFIED_FOR: Duration = Duration::from_secs(60);
/// Trusted issuers, and keys of one of them.
pub const ISSUERS: usize = 16;
pub const JWKS_KEYS: usize = 64;
/// Keys that are tried on a token that names none.
pub const JWKS_TRIED: usize = 8;
pub const JWKS_BYTES: usize = 256 * KIB;
/// To fetch the keys of an issuer.
pub const JWKS_FETCH: Duration = Duration::from_secs(5);
/// Keys are fetched anew after this, whatever the issuer says, and not more often than that.
pub const JWKS_FRESH: Duration = Duration::from_secs(60 * 60);
pub const JWKS_FRESH_LEAST: Duration = Duration::from_secs(5 * 60);
/// A key that is not known is asked for at most so often.
pub const JWKS_RETRY: Duration = Duration::from_secs(30);
/// An issuer that cannot be reached is believed by its old keys for so long.
pub const JWKS_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys that sign or verify our own tokens.
pub const SIGNING_KEYS: usize = 16;
pub const SIGNING_FILE_BYTES: u64 = 64 * 1024;
/// Files of keys and revocations are looked at so often.
pub const AUTH_LOOK: Duration = Duration::from_secs(1);
/// API keys in their file, and its bytes.
pub const API_KEYS: usize = 1000;
pub const API_KEY_FILE_BYTES: u64 = 2 * 1024 * 1024;
/// Revocations that are remembered; beyond that every older token ends.
pub const REVOKED: usize = 50_000;
pub const REVOKED_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Addresses, accounts or principals whose pace is counted at the same time.
pub const PACED: usize = 16_384;
/// Scopes that one authorization at a server is asked for.
pub const OAUTH_SCOPES: usize = 64;
pub const API_KEY_NAME_BYTES: usize = 64;
/// Life of an API key, if it has an end.
pub const API_KEY_HOURS: u64 = 100 * 365 * 24;
/// Issuer, subject, client: each of them.
pub const PRINCIPAL_BYTES: usize = 1024;
/// Before this moment (2026-01-01) a clock is not set yet, and no token can be judged.
pub const CLOCK_LEAST_S: u64 = 1_767_225_600;
/// The last second of the year 9999: a token that is good for longer was not meant so.
pub const TOKEN_END_MOST_S: u64 = 253_402_300_799;
/// Who has too much in work is told to come back after this.
pub const STANDING_RETRY: Duration = Duration::from_secs(1);
/// What a password's hash costs: as OWASP advises now, and what else is taken.
pub const PASSWORD_ROUNDS: u32 = 600_000;
pub const PASSWORD_ROUNDS_LEAST: u32 = 100_000;
pub const PASSWORD_ROUNDS_MOST: u32 = 10_000_000;
/// Of a password that is set, and what is read of one that is tried.
pub const PASSWORD_CHARS_LEAST: usize = 12;
pub const PASSWORD_BYTES: usize = KIB;
/// People who sign in: how long an operator stays signed in, and how many browsers at once.
pub const OPERATOR_SESSION: Duration = Duration::from_secs(30 * 60);
pub const OPERATOR_SESSIONS: usize = 64;
/// A page with a form, and a one-time code, are good for so long.
pub const FORM_LIFE: Duration = Duration::from_secs(10 * 60);
/// Browsers that wait for a code at once, in all and of one address, and wrong codes of each.
pub const LOGIN_REQUESTS: usize = 32;
pub const LOGIN_REQUESTS_OF_ONE: usize = 4;
pub const LOGIN_CODE_TRIES: u32 = 5;
/// Tries of one address and of everybody to sign in, in a minute.
pub const LOGIN_TRIES: u64 = 10;
pub const LOGIN_TRIES_OF_ALL: u64 = 30;
/// What clients were allowed before, so that a page can mark what is new.
pub const CONSENTS_KEPT: usize = 1000;
pub const CONSENT_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Consents within the life of a form.
pub const CONSENTS: usize = 512;
/// The body of a form of ours, and what is shown of a name that a client chose.
pub const PAGE_FORM_BYTES: usize = 64 * KIB;
pub const CLIENT_NAME_CHARS: usize = 80;
/// One request of the OAuth client, what is read of an answer, and a URL that it names.
pub const OAUTH_REQUEST: Duration = Duration::from_secs(10);
pub const OAUTH_ANSWER_BYTES: usize = 64 * KIB;
pub const OAUTH_URL_BYTES: usize = 2 * KIB;
/// What is shown of a reason that an authorization server gives.
pub const OAUTH_REASON_CHARS: usize = 200;
/// How long a signed word about who we are is good.
pub const OAUTH_ASSERTION: Duration = Duration::from_secs(120);
/// A token is renewed so long before its end, or in the last fifth of a short life.
pub const OAUTH_AHEAD_S: u64 = 60;
/// After the renewal of a token failed for a passing reason.
pub const OAUTH_RETRY: Duration = Duration::from_secs(5);
/// Logins of one server in a row that gave no scope that was missing.
pub const OAUTH_STEPS: u32 = 3;
/// A person has so long to finish a login; and logins that are under way at once.
pub const OAUTH_FLOW: Duration = Duration::from_secs(600);
pub const OAUTH_FLOWS: usize = 64;
/// Logins that are kept in memory, those of principals included.
pub const OAUTH_LOGINS: usize = 4096;
/// The wait for the file of tokens while another process changes it.
pub const OAUTH_LOCK: Duration = Duration::from_secs(5);
/// Where `onemcp auth login` catches a browser, if the port is free.
pub const OAUTH_PORT: u16 = 33_418;

// Several replicas.

/// Characters of a key that replicas share, at least: 24 random bytes in base64.
pub const REPLICA_KEY_CHARS: usize = 32;
/// Texts of clients that may name a replica.
pub const PLACED_BYTES: usize = 4 * KIB;
/// The id of a session that names its replica, and what stands around it in an event.
pub const SESSION_ID_BYTES: usize = 512;
/// Addresses of replicas whose names are remembered.
pub const REPLICAS: usize = 64;
/// The names of peers are looked up so often, if somebody is asked for.
pub const REPLICA_LOOK: Duration = Duration::from_secs(2);
/// To connect to one replica, and to be let in by it.
pub const REPLICA_CONNECT: Duration = Duration::from_secs(2);
pub const REPLICA_REACH: Duration = Duration::from_secs(5);
/// To find the one that is asked for: after this nobody else is asked. Two may hang before it.
pub const REPLICA_FIND: Duration = Duration::from_secs(12);
/// Who hung or was no replica is asked last for so long.
pub const REPLICA_AWAY: Duration = Duration::from_secs(30);
/// A replica that says nothing at all for so long has lost the request. Streams are kept alive
/// far more often, and no call takes longer.
pub const REPLICA_SILENCE: Duration = Duration::from_secs(11 * 60);
/// The clocks of two replicas, and the way between them.
pub const REPLICA_CLOCKS_S: u64 = 30;
/// What a replica has shown is remembered for as long as it is good, and a bound on that.
pub const REPLICA_NONCES: Duration = Duration::from_secs(2 * REPLICA_CLOCKS_S);
pub const REPLICA_NONCES_KEPT: usize = 256 * KIB;
/// An answer of known length that is passed on, and one read of it.
pub const REPLICA_ANSWER_BYTES: usize = 64 * MIB;
pub const REPLICA_READ_BYTES: usize = 8 * KIB;

// A shared store.

/// One call of a shared store, from its first packet to the end of its answer.
pub const SHARED_WAIT: Duration = Duration::from_secs(2);
/// Connections to a shared store at the same time, besides the one for news.
pub const SHARED_CONNECTIONS: usize = 8;
/// Of one answer: all values of a space, or all revocations.
pub const SHARED_ANSWER_BYTES: usize = 16 * MIB;
pub const SHARED_LINE_BYTES: usize = 4 * KIB;
/// Lists within lists.
pub const SHARED_DEPTH: usize = 3;
/// Between two looks whether a shared store is back: the first, and the longest.
pub const SHARED_PAUSE: Duration = Duration::from_millis(100);
pub const SHARED_PAUSE_MOST: Duration = Duration::from_secs(3);
/// Revocations of other gateways are looked for so often, besides the news of them.
pub const SHARED_LOOK: Duration = Duration::from_secs(2);
/// Whether a server said that a list changed is asked so often, to tell other gateways.
pub const SHARED_TELL: Duration = Duration::from_millis(500);
/// Between two looks of the thread that listens whether the store is back.
pub const SHARED_AWAY_LOOK: Duration = Duration::from_secs(1);
/// The key of the forms of gateways that share a store is another one so often.
pub const FORM_KEY_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// When who asked in vain while the shared store was away may come again.
pub const SHARED_RETRY: Duration = Duration::from_secs(5);
/// Values of a space that are read with one command.
pub const SHARED_PAGE: usize = 500;
