-- More orders in which lists of many backups are paged, and filters by which they are read. A status comes before the time, as both a
-- tenant and an administrator ask for the latest backups in it.

-- +goose Up
CREATE INDEX share_backups_of_project_by_id ON share_backups (project_id, id);
CREATE INDEX share_backups_of_project_by_share ON share_backups (project_id, share_id, id);
CREATE INDEX share_backups_of_project_in_status ON share_backups (project_id, status, created_at, id);
CREATE INDEX share_backups_in_status ON share_backups (status, created_at, id);
CREATE INDEX share_backups_by_status ON share_backups (status, id);
