-- Which workers there are, what they reach, and what work needs of them.

-- +goose Up

-- A service is a worker, whose name is its host, or a back end. A worker's other columns are its own report; up_until is when it counts
-- as down unless it beats again. A back end is up where a worker is that reaches it. instance tells a worker's data directory from
-- another's under the same name.
CREATE TABLE services (
    id              BIGINT PRIMARY KEY,
    kind            TEXT NOT NULL, -- worker, backend
    name            TEXT NOT NULL,
    disabled        BOOLEAN NOT NULL DEFAULT FALSE,
    disabled_reason TEXT,
    changed_at      BIGINT NOT NULL,
    role            TEXT NOT NULL DEFAULT '',
    version         TEXT NOT NULL DEFAULT '',
    instance        TEXT NOT NULL DEFAULT '',
    started_at      BIGINT NOT NULL DEFAULT 0,
    beaten_at       BIGINT NOT NULL DEFAULT 0,
    up_until        BIGINT NOT NULL DEFAULT 0,
    UNIQUE (kind, name)
);

-- Which worker reaches which back end, under which path, and how far in front it is in the worker's configuration.
CREATE TABLE reached_backends (
    worker   TEXT NOT NULL,
    backend  TEXT NOT NULL,
    path     TEXT NOT NULL,
    rank     BIGINT NOT NULL,
    PRIMARY KEY (worker, backend)
);

-- needs is the back end whose files the operation under way touches; empty where any worker will do.
ALTER TABLE shares ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE share_snapshots ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE share_backups ADD COLUMN needs TEXT NOT NULL DEFAULT '';
UPDATE shares SET needs = backend WHERE lease_until IS NOT NULL;
UPDATE share_snapshots SET needs = (SELECT backend FROM shares WHERE shares.id = share_id)
    WHERE lease_until IS NOT NULL AND status = 'creating';
UPDATE share_backups SET needs = (SELECT backend FROM shares WHERE shares.id = share_id)
    WHERE lease_until IS NOT NULL AND status = 'creating';
UPDATE share_backups SET needs = (SELECT backend FROM shares WHERE shares.id = target_share_id)
    WHERE lease_until IS NOT NULL AND status = 'restoring' AND target_share_id IN (SELECT id FROM shares);

-- What waits is looked for by project and back end, see claim.go.
DROP INDEX shares_waiting;
DROP INDEX share_snapshots_waiting;
DROP INDEX share_backups_waiting;
CREATE INDEX shares_waiting ON shares (status, project_id, needs, lease_until, id) WHERE lease_until IS NOT NULL;
CREATE INDEX share_snapshots_waiting ON share_snapshots (status, project_id, needs, lease_until, id) WHERE lease_until IS NOT NULL;
CREATE INDEX share_backups_waiting ON share_backups (status, project_id, needs, lease_until, id) WHERE lease_until IS NOT NULL;
