-- The first schema. Words in capitals between @ are types that differ between the databases.
-- Times are milliseconds since 1970, so that what is read equals what was in memory.
-- Columns named *_json hold JSON as text: nothing is searched in them.

CREATE TABLE instance (
  key @NAME@ PRIMARY KEY,
  value text NOT NULL
) @TABLE@;

CREATE TABLE projects (
  id @UUID@ PRIMARY KEY,
  name @NAME@ NOT NULL UNIQUE,
  display_name text NOT NULL,
  create_time @LONG@ NOT NULL
) @TABLE@;

CREATE TABLE tokens (
  id @UUID@ PRIMARY KEY,
  hash @BYTES@ NOT NULL UNIQUE,
  display_name text NOT NULL,
  role text NOT NULL,
  project_id @UUID@ REFERENCES projects (id) ON DELETE CASCADE,
  create_time @LONG@ NOT NULL,
  expire_time @LONG@
) @TABLE@;

CREATE TABLE agents (
  id @UUID@ PRIMARY KEY,
  name @NAME@ NOT NULL UNIQUE,
  token_hash @BYTES@ NOT NULL UNIQUE,
  labels_json text NOT NULL,
  projects_json text NOT NULL,
  session_id @UUID@,
  told_labels_json text NOT NULL,
  version text NOT NULL,
  backend text NOT NULL,
  capacity integer NOT NULL,
  capabilities_json text NOT NULL,
  create_time @LONG@ NOT NULL,
  last_seen_time @LONG@
) @TABLE@;

-- What a caller did under a request id.
CREATE TABLE requests (
  caller_id @UUID@ NOT NULL,
  method @NAME@ NOT NULL,
  id @UUID@ NOT NULL,
  hash @BYTES@ NOT NULL,
  resource_id @UUID@ NOT NULL,
  resource_revision @LONG@ NOT NULL,
  create_time @LONG@ NOT NULL,
  PRIMARY KEY (caller_id, method, id)
) @TABLE@;
CREATE INDEX requests_by_age ON requests (create_time);

-- Workflows and templates; a deleted one keeps its row, so that revisions stay known.
CREATE TABLE manifests (
  id @UUID@ PRIMARY KEY,
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  kind @NAME@ NOT NULL,
  name @NAME@ NOT NULL,
  revision @LONG@ NOT NULL,
  create_time @LONG@ NOT NULL,
  delete_time @LONG@
) @TABLE@;
CREATE UNIQUE INDEX manifests_by_name ON manifests (project_id, kind, name)
  WHERE delete_time IS NULL;

CREATE TABLE manifest_revisions (
  manifest_id @UUID@ NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
  revision @LONG@ NOT NULL,
  text text NOT NULL,
  labels_json text NOT NULL,
  description text NOT NULL,
  create_time @LONG@ NOT NULL,
  PRIMARY KEY (manifest_id, revision)
) @TABLE@;

-- Numbers of executions.
CREATE TABLE counters (
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  workflow @NAME@ NOT NULL,
  value @LONG@ NOT NULL,
  PRIMARY KEY (project_id, workflow)
) @TABLE@;

CREATE TABLE executions (
  id @UUID@ PRIMARY KEY,
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  workflow @NAME@ NOT NULL,
  workflow_revision @LONG@ NOT NULL,
  number @LONG@ NOT NULL,
  display_name @NAME@ NOT NULL,
  revision @LONG@ NOT NULL,
  state @NAME@ NOT NULL,
  lease_attempt_id @UUID@,
  lease_epoch @LONG@,
  stop text,
  last_epoch @LONG@ NOT NULL,
  reason text NOT NULL,
  message text NOT NULL,
  tags_json text NOT NULL,
  labels_json text NOT NULL,
  config_json text NOT NULL,
  target_json text NOT NULL,
  warnings_json text NOT NULL,
  -- The priority with its sign turned, so that the queue is in ascending order of both columns.
  queue_rank @LONG@ NOT NULL,
  creator text NOT NULL,
  create_time @LONG@ NOT NULL,
  assign_time @LONG@,
  start_time @LONG@,
  finish_time @LONG@,
  queue_deadline @LONG@,
  log_size @LONG@ NOT NULL,
  log_sha256 text,
  log_complete @BOOL@ NOT NULL,
  artifact_count integer NOT NULL,
  event_count @LONG@ NOT NULL
) @TABLE@;
CREATE UNIQUE INDEX executions_by_name ON executions (project_id, display_name);
CREATE INDEX executions_by_age ON executions (project_id, id);
CREATE INDEX executions_by_workflow ON executions (project_id, workflow, id);
-- The queue: only what waits is in it, in the order in which it is claimed.
CREATE INDEX executions_queue ON executions (queue_rank, id) WHERE state = 'queued';
CREATE INDEX executions_deadline ON executions (queue_deadline)
  WHERE state = 'queued' AND queue_deadline IS NOT NULL;

CREATE TABLE execution_plans (
  execution_id @UUID@ PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
  plan @BYTES@ NOT NULL
) @TABLE@;

CREATE TABLE execution_steps (
  execution_id @UUID@ PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
  steps_json text NOT NULL
) @TABLE@;

-- Tags once more, to be searched.
CREATE TABLE execution_tags (
  project_id @UUID@ NOT NULL,
  key @NAME@ NOT NULL,
  value @NAME@ NOT NULL,
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  PRIMARY KEY (project_id, key, value, execution_id)
) @TABLE@;
CREATE INDEX execution_tags_by_execution ON execution_tags (execution_id);

CREATE TABLE execution_events (
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  sequence @LONG@ NOT NULL,
  time @LONG@ NOT NULL,
  kind text NOT NULL,
  message text NOT NULL,
  PRIMARY KEY (execution_id, sequence)
) @TABLE@;

CREATE TABLE attempts (
  id @UUID@ PRIMARY KEY,
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  project_id @UUID@ NOT NULL,
  agent_id @UUID@ NOT NULL,
  agent_name text NOT NULL,
  epoch @LONG@ NOT NULL,
  status @NAME@ NOT NULL,
  phase text,
  sequence @LONG@ NOT NULL,
  lease_expire_time @LONG@ NOT NULL,
  create_time @LONG@ NOT NULL,
  start_time @LONG@,
  finish_time @LONG@,
  reason text NOT NULL,
  message text NOT NULL,
  log_offset @LONG@ NOT NULL,
  -- As the conductor told them in its completion record.
  log_size @LONG@,
  log_sha256 text,
  -- Nothing will be added to its log any more.
  log_ended @BOOL@ NOT NULL
) @TABLE@;
CREATE UNIQUE INDEX attempts_by_execution ON attempts (execution_id, epoch);
CREATE INDEX attempts_live_by_agent ON attempts (agent_id) WHERE status = 'live';
CREATE INDEX attempts_live_by_expiry ON attempts (lease_expire_time) WHERE status = 'live';
CREATE INDEX attempts_open_log ON attempts (id) WHERE status <> 'live' AND NOT log_ended;

CREATE TABLE log_segments (
  attempt_id @UUID@ NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
  start_offset @LONG@ NOT NULL,
  end_offset @LONG@ NOT NULL,
  project_id @UUID@ NOT NULL,
  blob text NOT NULL,
  blob_size @LONG@ NOT NULL,
  create_time @LONG@ NOT NULL,
  PRIMARY KEY (attempt_id, start_offset)
) @TABLE@;

CREATE TABLE artifacts (
  id @UUID@ PRIMARY KEY,
  project_id @UUID@ NOT NULL,
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  attempt_id @UUID@ NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
  path @NAME@ NOT NULL,
  size @LONG@ NOT NULL,
  sha256 text NOT NULL,
  content_type text NOT NULL,
  mode integer NOT NULL,
  step text NOT NULL,
  blob text NOT NULL,
  create_time @LONG@ NOT NULL
) @TABLE@;
CREATE UNIQUE INDEX artifacts_by_path ON artifacts (execution_id, path, attempt_id);
CREATE INDEX artifacts_by_attempt ON artifacts (attempt_id);
