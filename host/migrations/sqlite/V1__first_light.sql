-- Times and durations are microseconds; ids are the 16 bytes of a UUID.

-- Waiting and running tasks. Small whatever has ever run: a task that ends moves to history.
CREATE TABLE task (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  priority INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 9),
  tags TEXT,                            -- JSON array; null without tags
  -- 0 not yet due, 1 due, 2 due but held, 3 running. Due rows have indexes of their own: rows of the future with an
  -- urgent priority would otherwise be walked over by every claim.
  queue INTEGER NOT NULL CHECK (queue BETWEEN 0 AND 3),
  held TEXT,                            -- why it is held, for people; only with queue 2, as is the next
  held_key TEXT,                        -- what it waits for: held rows are released by it, the most urgent first
  trigger_at INTEGER NOT NULL,          -- as asked for
  due_at INTEGER NOT NULL,              -- when it is due next: the trigger time, or that of a retry
  submitted_at INTEGER NOT NULL,
  started_at INTEGER,                   -- of the first attempt
  attempt INTEGER NOT NULL DEFAULT 0,   -- the running or last one; with node, the fence
  attempt_started_at INTEGER,
  node BLOB,                            -- who runs it; only with queue 3
  plugin_digest TEXT,                   -- what the running or last attempt runs
  attempt_idempotent INTEGER,           -- whether that attempt may be repeated where nobody knows how it ended
  retries INTEGER NOT NULL DEFAULT 0,
  snoozes INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0,
  timeout INTEGER,                      -- this and the next two: the submission's own; null leaves it to the definition
  max_retries INTEGER,
  idempotent INTEGER,
  execution_time INTEGER,
  last_failure INTEGER,
  failure TEXT,                         -- JSON {code, error, details}
  progress TEXT,                        -- JSON
  plugin TEXT,
  origin_kind INTEGER NOT NULL DEFAULT 0, -- 0 submitted, 1 schedule, 2 trigger, 3 retry of
  origin BLOB,
  idempotency_key BLOB,                 -- null: the task's own id
  batch BLOB,                           -- the batch that it came in with
  workflow BLOB,                        -- the workflow that it is a step of
  depth INTEGER NOT NULL DEFAULT 0,     -- how many attempts and events led to it
  expires_at INTEGER,                   -- not started after this
  fair INTEGER NOT NULL DEFAULT 0,      -- the fairness key, as a number: those of one priority take turns by it
  deadline INTEGER                      -- an alert where it has not ended by then
);
-- As few indexes as can be, since what is claimed, run and settled passes through them. Due tasks by priority, then turn by turn of their
-- fairness keys, then by time: with the name before the key, so that a claim leaps over names that cannot start now.
CREATE INDEX task_due ON task (priority, name, fair, due_at) WHERE queue = 1;
-- What becomes due next, what has been due longest, and what has been held longest.
CREATE INDEX task_by_time ON task (queue, due_at, id) WHERE queue < 3;
CREATE INDEX task_held ON task (held_key, priority, fair, due_at, id) WHERE queue = 2;
CREATE INDEX task_running ON task (started_at, id) WHERE queue = 3;
CREATE INDEX task_retrying ON task (last_failure, id) WHERE retries > 0 AND queue < 3;
CREATE INDEX task_by_name ON task (name, id) WHERE queue < 3;
CREATE INDEX task_by_batch ON task (batch, id, name) WHERE batch IS NOT NULL;
-- Of a schedule, those that have not ended: what its next fire does hangs on them.
CREATE INDEX task_of_schedule ON task (origin, queue, held_key) WHERE origin_kind = 1;
CREATE TABLE task_tag (tag TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (tag, id)) WITHOUT ROWID;

-- What is paused, the whole queue under the empty name.
CREATE TABLE pause (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE limit_rule (
  name TEXT PRIMARY KEY,
  task_name TEXT,
  tag TEXT,
  key TEXT,                             -- JSON pointer
  max_running INTEGER,
  rate_count INTEGER,
  rate_per INTEGER,
  weight INTEGER                        -- turns in a row of a fairness key
) WITHOUT ROWID;
-- Who runs under a limit: a row lives as long as the attempt, so that no count can be wrong.
CREATE TABLE place (key TEXT NOT NULL, task BLOB NOT NULL, PRIMARY KEY (key, task)) WITHOUT ROWID;
CREATE INDEX place_by_task ON place (task);
CREATE TABLE bucket (
  key TEXT PRIMARY KEY,
  tokens REAL NOT NULL,
  at INTEGER NOT NULL,
  release_at INTEGER                    -- when who waits for a token is looked at again
) WITHOUT ROWID;
CREATE INDEX bucket_release ON bucket (release_at) WHERE release_at IS NOT NULL;
-- Keys whose held tasks are to be offered again.
CREATE TABLE thaw (
  key TEXT PRIMARY KEY,                 -- with which theirs begin
  held_key TEXT NOT NULL DEFAULT '',    -- of the last one that was offered: each is once, since those that are held again keep their place
  priority INTEGER NOT NULL DEFAULT 0,
  fair INTEGER NOT NULL DEFAULT 0,
  due_at INTEGER NOT NULL DEFAULT 0,
  id BLOB NOT NULL DEFAULT x''
) WITHOUT ROWID;
CREATE TABLE timer (
  at INTEGER NOT NULL,
  kind INTEGER NOT NULL,                -- 0 expires where it has not begun, 1 is late where it has not ended
  task BLOB NOT NULL,
  PRIMARY KEY (at, kind, task)
) WITHOUT ROWID;
-- Requests that came with a key of their own, and what was answered.
CREATE TABLE request (key TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, answer TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX request_by_time ON request (at);
-- The latest task of those that are alike, and until when it counts although it has ended.
CREATE TABLE unique_task (key BLOB PRIMARY KEY, task BLOB NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX unique_task_by_task ON unique_task (task);

-- Tasks that came in together. All of one become visible by one write to its row here, and move to `task` little by little after it.
CREATE TABLE batch (
  id BLOB PRIMARY KEY,
  name TEXT,
  count INTEGER NOT NULL DEFAULT 0,     -- known once it is whole, as is the next
  published_at INTEGER,
  node BLOB,                            -- who stages it; null once it is whole
  next_line INTEGER,                    -- the first that is still staged; null while it is not whole and once all are unfolded
  success INTEGER NOT NULL DEFAULT 0,   -- how many have ended so, as are the next two; whoever is tried again counts as waiting
  failed INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0,
  completed_at INTEGER,                 -- when all had ended for the first time
  cancelled_at INTEGER,                 -- when somebody asked for that
  cancelling INTEGER                    -- 1 until all that had not ended then has been cancelled
) WITHOUT ROWID;
CREATE INDEX batch_half_staged ON batch (node) WHERE node IS NOT NULL;
CREATE INDEX batch_folded ON batch (published_at, id) WHERE next_line IS NOT NULL;
CREATE INDEX batch_by_time ON batch (published_at, id) WHERE node IS NULL;
CREATE INDEX batch_completed ON batch (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX batch_cancelling ON batch (id) WHERE cancelling IS NOT NULL;
-- What follows a batch: each becomes a task once.
CREATE TABLE callback (
  batch BLOB NOT NULL,
  kind INTEGER NOT NULL,                -- 0 on success, 1 on failure, 2 on completion
  id BLOB NOT NULL,                     -- of the task that it becomes
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  priority INTEGER NOT NULL,
  tags TEXT,
  told INTEGER NOT NULL,                -- whether the payload gets a member that tells the counts
  fired_at INTEGER,
  PRIMARY KEY (batch, kind)
) WITHOUT ROWID;
-- What has come in of batches and is no task yet.
CREATE TABLE staged (
  batch BLOB NOT NULL,
  line INTEGER NOT NULL,                -- from 0, blank ones not counted
  id BLOB NOT NULL,
  name TEXT NOT NULL,
  priority INTEGER NOT NULL,
  tags TEXT,
  trigger_at INTEGER NOT NULL,
  timeout INTEGER,
  max_retries INTEGER,
  idempotent INTEGER,
  expires_at INTEGER,
  deadline INTEGER,
  fair INTEGER,                         -- null: the batch's
  payload TEXT NOT NULL,
  PRIMARY KEY (batch, line)
) WITHOUT ROWID;

-- Steps that were submitted together. Their tasks are there from the start; what waits for its
-- needs is held by the key `needs//`.
CREATE TABLE workflow (
  id BLOB PRIMARY KEY,
  name TEXT,
  submitted_at INTEGER NOT NULL,
  status INTEGER NOT NULL DEFAULT 0,    -- 0 running, 1 success, 2 failed, 3 cancelled
  cancelled INTEGER NOT NULL DEFAULT 0, -- whether it was as a whole
  completed_at INTEGER
) WITHOUT ROWID;
CREATE INDEX workflow_by_time ON workflow (submitted_at, id);
CREATE INDEX workflow_completed ON workflow (completed_at) WHERE completed_at IS NOT NULL;
CREATE TABLE step (
  workflow BLOB NOT NULL,
  place INTEGER NOT NULL,               -- from 0, in the order of the request
  key TEXT NOT NULL,
  needs TEXT NOT NULL,                  -- JSON array of places
  condition INTEGER NOT NULL,           -- 0 all success, 1 all done, 2 any success
  state INTEGER NOT NULL,               -- 0 blocked, 1 active, 2 success, 3 failed, 4 cancelled, 5 skipped
  task BLOB NOT NULL,                   -- its latest one
  PRIMARY KEY (workflow, place)
) WITHOUT ROWID;

-- Ended tasks.
CREATE TABLE history (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  priority INTEGER NOT NULL,
  tags TEXT,
  trigger_at INTEGER NOT NULL,
  submitted_at INTEGER NOT NULL,
  started_at INTEGER,
  attempt INTEGER NOT NULL,
  retries INTEGER NOT NULL,
  snoozes INTEGER NOT NULL,
  losses INTEGER NOT NULL,
  timeout INTEGER,
  max_retries INTEGER,
  idempotent INTEGER,
  execution_time INTEGER,
  last_failure INTEGER,
  failure TEXT,
  progress TEXT,
  plugin TEXT,
  origin_kind INTEGER NOT NULL,
  origin BLOB,
  idempotency_key BLOB,
  batch BLOB,
  workflow BLOB,
  depth INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER,
  deadline INTEGER,
  fair INTEGER NOT NULL DEFAULT 0,
  status INTEGER NOT NULL CHECK (status BETWEEN 2 AND 4), -- 2 success, 3 failed, 4 cancelled
  completed_at INTEGER NOT NULL,
  result TEXT,
  dismissed INTEGER NOT NULL DEFAULT 0,
  retried_by BLOB,
  -- The attempt that ended the task; null where it ended without one. Those before it are in `attempt`.
  outcome TEXT,
  attempt_started_at INTEGER,
  fuel_used INTEGER,
  peak_memory INTEGER,
  attempt_error TEXT,
  plugin_digest TEXT,
  node BLOB,
  processor_wait INTEGER
);
-- A list of all is three ranges, one a status, in one order.
CREATE INDEX history_by_end ON history (status, completed_at, id);
CREATE INDEX history_by_name ON history (name, status, completed_at, id);
CREATE INDEX history_by_batch ON history (batch, status, completed_at, id, name) WHERE batch IS NOT NULL;
-- Of a schedule, those that have ended: the newest of them stays.
CREATE INDEX history_of_schedule ON history (origin) WHERE origin_kind = 1;
CREATE INDEX history_failed ON history (last_failure, id) WHERE status = 3 AND dismissed = 0;
CREATE TABLE history_tag (
  tag TEXT NOT NULL,
  completed_at INTEGER NOT NULL,
  id BLOB NOT NULL,
  status INTEGER NOT NULL,
  name TEXT NOT NULL,                   -- so that a list of a tag and a name looks up no row of another
  PRIMARY KEY (tag, completed_at, id)
) WITHOUT ROWID;
CREATE INDEX history_tag_by_status ON history_tag (tag, status, completed_at, id, name);

-- Attempts after which their task went on.
CREATE TABLE attempt (
  task BLOB NOT NULL,
  number INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  execution_time INTEGER,
  fuel_used INTEGER,
  peak_memory INTEGER,
  error TEXT,
  plugin_digest TEXT,
  node BLOB NOT NULL,
  processor_wait INTEGER,               -- how long it could have gone on and had no processor
  PRIMARY KEY (task, number)
) WITHOUT ROWID;

-- Lines of a log in the pieces in which they were kept, as JSON a line.
CREATE TABLE log (seq INTEGER PRIMARY KEY, task BLOB NOT NULL, lines TEXT NOT NULL);
CREATE INDEX log_by_task ON log (task, seq);
CREATE TABLE checkpoint (task BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;

-- How much is kept, so that nobody has to count it: added to in the commits that write, taken from by those that forget.
CREATE TABLE kept (
  kind INTEGER NOT NULL,                -- 0 ended tasks, 1 attempts after which their task went on, 2 logs, 3 checkpoints, 4 events
  name TEXT NOT NULL,                   -- of the task; empty with checkpoints and events
  count INTEGER,
  bytes INTEGER,
  PRIMARY KEY (kind, name)
) WITHOUT ROWID;
-- Checkpoints are few, and go in a statement that is made for every task, most of which have none: they count themselves.
CREATE TRIGGER checkpoint_in AFTER INSERT ON checkpoint BEGIN
  INSERT INTO kept VALUES (3, '', 1, octet_length(NEW.data) + 64)
    ON CONFLICT (kind, name) DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER checkpoint_change AFTER UPDATE ON checkpoint BEGIN
  UPDATE kept SET bytes = bytes + octet_length(NEW.data) - octet_length(OLD.data) WHERE kind = 3 AND name = '';
END;
CREATE TRIGGER checkpoint_out AFTER DELETE ON checkpoint BEGIN
  UPDATE kept SET count = count - 1, bytes = bytes - octet_length(OLD.data) - 64 WHERE kind = 3 AND name = '';
END;

CREATE TABLE schedule (
  id BLOB PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  task_name TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  next_fire INTEGER,                    -- the cursor; null once there is none left
  planned_at INTEGER NOT NULL,          -- when the cursor was worked out
  paused_at INTEGER,
  last_fire INTEGER,
  last_task BLOB,
  revision INTEGER NOT NULL,            -- counts writes: nobody overwrites what he has not seen
  calendar TEXT,                        -- the one that it goes by, as the next two say
  -- Last: they may be large, and what stands before them is read without them.
  declared TEXT NOT NULL,               -- JSON: the members that it was created with, or updated by whoever registers it
  edits TEXT                            -- JSON: the members that an operator changed; they lie over the declared ones
) WITHOUT ROWID;
CREATE INDEX schedule_due ON schedule (next_fire, id) WHERE next_fire IS NOT NULL AND paused_at IS NULL;
CREATE INDEX schedule_by_calendar ON schedule (calendar, id) WHERE calendar IS NOT NULL;
CREATE INDEX schedule_by_creation ON schedule (created_at, id);
-- A fire happens once, whoever makes it.
CREATE TABLE fire (
  schedule BLOB NOT NULL,
  at INTEGER NOT NULL,
  task BLOB NOT NULL,
  made_at INTEGER NOT NULL,             -- long after `at` where it was made up for; forgotten by this
  PRIMARY KEY (schedule, at)
) WITHOUT ROWID;
-- Fires that made no task, those in a row as one.
CREATE TABLE skip (
  schedule BLOB NOT NULL,
  at INTEGER NOT NULL,
  reason INTEGER NOT NULL,              -- 1 misfire, 2 overlap, 3 paused, 4 closed, 5 dst_gap
  until INTEGER NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (schedule, at, reason)
) WITHOUT ROWID;
CREATE INDEX skip_by_time ON skip (until);
CREATE INDEX fire_by_time ON fire (made_at);
-- Up to when what was made has been forgotten: of older schedules nobody can tell any more which fires are missing.
CREATE TABLE forgotten (what TEXT PRIMARY KEY, before INTEGER NOT NULL) WITHOUT ROWID;

-- Business calendars of users; those that ship are part of the program.
CREATE TABLE calendar (
  revision INTEGER PRIMARY KEY AUTOINCREMENT, -- another one at each change, and never used again
  name TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL,
  updated_at INTEGER NOT NULL
);

CREATE TABLE trigger_rule (
  id BLOB PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  task_name TEXT NOT NULL,
  event_type TEXT NOT NULL,
  terms TEXT NOT NULL,                  -- JSON, as it was registered last
  edits TEXT,                           -- JSON: what an operator changed; null without
  created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX trigger_by_event ON trigger_rule (event_type, id);
CREATE INDEX trigger_by_creation ON trigger_rule (created_at, id);
-- Bytes and number of all triggers that listen to a type of event, which reads them all.
CREATE TABLE listened (event_type TEXT PRIMARY KEY, bytes INTEGER NOT NULL, triggers INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER trigger_rule_in AFTER INSERT ON trigger_rule BEGIN
  INSERT INTO listened VALUES (NEW.event_type, octet_length(NEW.terms) + COALESCE(octet_length(NEW.edits), 0), 1)
    ON CONFLICT (event_type) DO UPDATE SET bytes = bytes + excluded.bytes, triggers = triggers + 1;
END;
CREATE TRIGGER trigger_rule_out AFTER DELETE ON trigger_rule BEGIN
  UPDATE listened SET bytes = bytes - octet_length(OLD.terms) - COALESCE(octet_length(OLD.edits), 0), triggers = triggers - 1
    WHERE event_type = OLD.event_type;
  DELETE FROM listened WHERE event_type = OLD.event_type AND triggers = 0;
END;
CREATE TRIGGER trigger_rule_change AFTER UPDATE ON trigger_rule BEGIN
  UPDATE listened SET bytes = bytes - octet_length(OLD.terms) - COALESCE(octet_length(OLD.edits), 0), triggers = triggers - 1
    WHERE event_type = OLD.event_type;
  DELETE FROM listened WHERE event_type = OLD.event_type AND triggers = 0;
  INSERT INTO listened VALUES (NEW.event_type, octet_length(NEW.terms) + COALESCE(octet_length(NEW.edits), 0), 1)
    ON CONFLICT (event_type) DO UPDATE SET bytes = bytes + excluded.bytes, triggers = triggers + 1;
END;
-- What changes with events, beside documents that may be large.
CREATE TABLE trigger_state (
  id BLOB PRIMARY KEY,
  paused INTEGER NOT NULL DEFAULT 0,
  fired_count INTEGER NOT NULL DEFAULT 0,
  last_fired INTEGER,
  skipped_count INTEGER NOT NULL DEFAULT 0,
  filter_error TEXT,
  waiting BLOB,                         -- the task that waits for events to cease, once there was one
  waiting_since INTEGER                 -- when the event came that made it
) WITHOUT ROWID;
-- Schedules and triggers that are gone: who removes one again is told so, as of a task that has ended.
CREATE TABLE removed (id BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX removed_by_time ON removed (at);
CREATE TABLE event (
  id BLOB PRIMARY KEY,
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  at INTEGER NOT NULL,
  source TEXT,                          -- with its id there, by which it is told from one seen before; null where neither was given
  source_id TEXT,
  happened_at INTEGER,                  -- as it says itself
  depth INTEGER NOT NULL                -- how many attempts and events led to it
) WITHOUT ROWID;
CREATE INDEX event_by_time ON event (at);
CREATE UNIQUE INDEX event_once ON event (source, source_id) WHERE source_id IS NOT NULL;
-- What attempts that ended well sent, until it is delivered.
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY,
  parent BLOB NOT NULL,                 -- the task whose attempt sent it
  depth INTEGER NOT NULL,               -- of what is made of it
  kind INTEGER NOT NULL,                -- 0 event, 1 task, 2 workflow
  id BLOB NOT NULL,                     -- the one that it will have
  event_type TEXT,
  body TEXT NOT NULL,                   -- JSON: an event's data, or the request
  at INTEGER NOT NULL
);
CREATE INDEX outbox_by_id ON outbox (id);

CREATE TABLE metric (name TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE alert (
  id BLOB PRIMARY KEY,
  type TEXT NOT NULL,
  task_name TEXT NOT NULL,
  task_id BLOB NOT NULL,
  error TEXT,
  execution_time INTEGER,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  count INTEGER NOT NULL,
  UNIQUE (type, task_name)
) WITHOUT ROWID;
CREATE INDEX alert_by_time ON alert (last_at, id);

CREATE TABLE node (id BLOB PRIMARY KEY, lease_until INTEGER NOT NULL) WITHOUT ROWID;
-- What operators said of tasks by the API: it wins over the plugin and its manifest.
CREATE TABLE task_override (task TEXT PRIMARY KEY, word TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE task_owner (task TEXT PRIMARY KEY, plugin TEXT NOT NULL) WITHOUT ROWID;
