-- Fractions are of 1, see abaca.Slice.

-- +goose Up

-- A round is the rolling verification of one project's saved data. reached is where the next slice of it begins. due_at is
-- when a worker may take that slice up or, while one reads it, when its lease passes; lease_owner, attempt and tries are as
-- those of other work, see lease.go.
CREATE TABLE verification_rounds (
    project_id  TEXT PRIMARY KEY,
    reached     DOUBLE PRECISION NOT NULL DEFAULT 0,
    due_at      BIGINT NOT NULL,
    lease_owner TEXT,
    attempt     BIGINT NOT NULL DEFAULT 0,
    tries       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX verification_rounds_due ON verification_rounds (due_at, project_id);
INSERT INTO verification_rounds (project_id, due_at)
    SELECT project_id, 0 FROM share_backups WHERE ref <> '' UNION SELECT project_id, 0 FROM share_snapshots WHERE ref <> '';

-- Either backup_id or snapshot_id says whose tree was read back.
CREATE TABLE verifications (
    id          TEXT PRIMARY KEY,
    backup_id   TEXT REFERENCES share_backups (id) ON DELETE CASCADE,
    snapshot_id TEXT REFERENCES share_snapshots (id) ON DELETE CASCADE,
    began_at    BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    slice_from  DOUBLE PRECISION NOT NULL,
    slice_to    DOUBLE PRECISION NOT NULL,
    files       BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    damaged     BIGINT NOT NULL,
    detail      TEXT NOT NULL,
    CHECK ((backup_id IS NULL) <> (snapshot_id IS NULL))
);
CREATE INDEX verifications_of_backup ON verifications (backup_id, ended_at, id);
CREATE INDEX verifications_of_snapshot ON verifications (snapshot_id, ended_at, id);
CREATE INDEX verifications_by_age ON verifications (ended_at);
