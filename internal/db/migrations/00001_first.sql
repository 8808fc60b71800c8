-- Times are microseconds since 1970 in UTC; 0 in updated_at means never. Sizes are GiB.
--
-- name_key is what lists are sorted by: an index on a column lets a page seek where one on an expression does not.
--
-- lease_until, lease_owner, attempt and tries make work safe: see lease.go.

-- +goose Up
CREATE TABLE share_types (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    is_public   BOOLEAN NOT NULL,
    specs       TEXT NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE shares (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    share_type_id       TEXT NOT NULL REFERENCES share_types (id),
    size                BIGINT NOT NULL,
    display_name        TEXT,
    display_description TEXT,
    name_key            TEXT GENERATED ALWAYS AS (lower(coalesce(display_name, ''))) STORED,
    proto               TEXT NOT NULL,
    is_public           BOOLEAN NOT NULL,
    metadata            TEXT NOT NULL,
    zone                TEXT NOT NULL,
    backend             TEXT NOT NULL,
    path                TEXT NOT NULL,
    snapshot_id         TEXT NOT NULL,
    source_backup_id    TEXT NOT NULL,
    status              TEXT NOT NULL,
    fail_reason         TEXT NOT NULL DEFAULT '',
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL DEFAULT 0,
    lease_until         BIGINT,
    lease_owner         TEXT,
    attempt             BIGINT NOT NULL DEFAULT 0,
    tries               BIGINT NOT NULL DEFAULT 0,
    UNIQUE (backend, path)
);
CREATE INDEX shares_type ON shares (share_type_id);
CREATE INDEX shares_lease ON shares (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX shares_by_age ON shares (created_at, id);
CREATE INDEX shares_of_project_by_age ON shares (project_id, created_at, id);
CREATE INDEX shares_of_project_by_name ON shares (project_id, name_key, id);

CREATE TABLE share_snapshots (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    share_id            TEXT NOT NULL REFERENCES shares (id),
    share_size          BIGINT NOT NULL,
    proto               TEXT NOT NULL,
    display_name        TEXT,
    display_description TEXT,
    name_key            TEXT GENERATED ALWAYS AS (lower(coalesce(display_name, ''))) STORED,
    metadata            TEXT NOT NULL,
    status              TEXT NOT NULL,
    progress            BIGINT NOT NULL DEFAULT 0,
    fail_reason         TEXT NOT NULL DEFAULT '',
    ref                 TEXT NOT NULL DEFAULT '',
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL DEFAULT 0,
    lease_until         BIGINT,
    lease_owner         TEXT,
    attempt             BIGINT NOT NULL DEFAULT 0,
    tries               BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX share_snapshots_of_share ON share_snapshots (share_id, created_at);
CREATE INDEX share_snapshots_lease ON share_snapshots (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX share_snapshots_by_age ON share_snapshots (created_at, id);
CREATE INDEX share_snapshots_of_project_by_age ON share_snapshots (project_id, created_at, id);

CREATE TABLE share_backups (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    share_id            TEXT NOT NULL REFERENCES shares (id),
    size                BIGINT NOT NULL,
    display_name        TEXT,
    display_description TEXT,
    name_key            TEXT GENERATED ALWAYS AS (lower(coalesce(display_name, ''))) STORED,
    backup_type         TEXT,
    with_options        BOOLEAN NOT NULL,
    zone                TEXT NOT NULL,
    host                TEXT,
    topic               TEXT,
    status              TEXT NOT NULL,
    progress            BIGINT NOT NULL DEFAULT 0,
    restore_progress    BIGINT NOT NULL DEFAULT 0,
    target_share_id     TEXT NOT NULL DEFAULT '',
    fail_reason         TEXT NOT NULL DEFAULT '',
    ref                 TEXT NOT NULL DEFAULT '',
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL DEFAULT 0,
    lease_until         BIGINT,
    lease_owner         TEXT,
    attempt             BIGINT NOT NULL DEFAULT 0,
    tries               BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX share_backups_lease ON share_backups (lease_until) WHERE lease_until IS NOT NULL;
-- One index for each order in which a list is paged often, for a project's own list and for an administrator's.
CREATE INDEX share_backups_of_share ON share_backups (share_id, created_at, id);
CREATE INDEX share_backups_by_age ON share_backups (created_at, id);
CREATE INDEX share_backups_of_project_by_age ON share_backups (project_id, created_at, id);
CREATE INDEX share_backups_by_name ON share_backups (name_key, id);
CREATE INDEX share_backups_of_project_by_name ON share_backups (project_id, name_key, id);
CREATE INDEX share_backups_of_project_by_status ON share_backups (project_id, status, id);
CREATE INDEX share_backups_of_project_by_size ON share_backups (project_id, size, id);

CREATE TABLE quotas (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE quota_usages (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    in_use     BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE messages (
    id            TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id   TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    action_id     TEXT NOT NULL,
    detail_id     TEXT NOT NULL,
    message       TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL
);
CREATE INDEX messages_of_project_by_age ON messages (project_id, created_at, id);
CREATE INDEX messages_by_age ON messages (created_at, id);
CREATE INDEX messages_by_expiry ON messages (expires_at);
