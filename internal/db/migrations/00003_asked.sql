-- Who asked for work, who comes next, and default quotas.

-- +goose Up

-- asked_request, asked_user and asked_project say who asked for the operation under way, or for the latest one: the request's id and
-- its caller, who may be an administrator and not the owner. Empty where nobody noted it.
ALTER TABLE shares ADD COLUMN asked_request TEXT NOT NULL DEFAULT '';
ALTER TABLE shares ADD COLUMN asked_user TEXT NOT NULL DEFAULT '';
ALTER TABLE shares ADD COLUMN asked_project TEXT NOT NULL DEFAULT '';
ALTER TABLE share_snapshots ADD COLUMN asked_request TEXT NOT NULL DEFAULT '';
ALTER TABLE share_snapshots ADD COLUMN asked_user TEXT NOT NULL DEFAULT '';
ALTER TABLE share_snapshots ADD COLUMN asked_project TEXT NOT NULL DEFAULT '';
ALTER TABLE share_backups ADD COLUMN asked_request TEXT NOT NULL DEFAULT '';
ALTER TABLE share_backups ADD COLUMN asked_user TEXT NOT NULL DEFAULT '';
ALTER TABLE share_backups ADD COLUMN asked_project TEXT NOT NULL DEFAULT '';

-- What waits is looked for project by project, so that a project with much of it costs what one with little does; what runs is
-- counted. See claim.go.
DROP INDEX shares_lease;
DROP INDEX share_snapshots_lease;
DROP INDEX share_backups_lease;
CREATE INDEX shares_waiting ON shares (status, project_id, lease_until, id) WHERE lease_until IS NOT NULL;
CREATE INDEX share_snapshots_waiting ON share_snapshots (status, project_id, lease_until, id) WHERE lease_until IS NOT NULL;
CREATE INDEX share_backups_waiting ON share_backups (status, project_id, lease_until, id) WHERE lease_until IS NOT NULL;
CREATE INDEX shares_running ON shares (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX share_snapshots_running ON share_snapshots (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX share_backups_running ON share_backups (lease_owner) WHERE lease_owner IS NOT NULL;

-- When a worker last took up work of a project, among the operations on whole trees (heavy) and among the others.
CREATE TABLE turns (
    project_id TEXT NOT NULL,
    heavy      BOOLEAN NOT NULL,
    taken_at   BIGINT NOT NULL,
    PRIMARY KEY (project_id, heavy)
);

-- The limits of projects without limits of their own, where an administrator has set them; else the configuration's hold.
CREATE TABLE quota_defaults (
    resource   TEXT PRIMARY KEY,
    hard_limit BIGINT NOT NULL
);

CREATE INDEX messages_of_project_by_detail ON messages (project_id, detail_id, created_at, id);
