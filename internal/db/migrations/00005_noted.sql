-- changes counts what beside the repository's data a record would say otherwise; noted is what it was when the record was written.

-- +goose Up
ALTER TABLE share_backups ADD COLUMN changes BIGINT NOT NULL DEFAULT 1;
ALTER TABLE share_backups ADD COLUMN noted BIGINT NOT NULL DEFAULT 0;
CREATE INDEX share_backups_unnoted ON share_backups (id) WHERE noted <> changes;
ALTER TABLE share_snapshots ADD COLUMN changes BIGINT NOT NULL DEFAULT 1;
ALTER TABLE share_snapshots ADD COLUMN noted BIGINT NOT NULL DEFAULT 0;
CREATE INDEX share_snapshots_unnoted ON share_snapshots (id) WHERE noted <> changes;
