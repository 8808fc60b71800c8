-- What access_test.go asks for: things of project demo, to which its reader and its member belong, and of project alt, to which
-- nobody does who asks. Beside what world.sql made.

INSERT INTO share_types (id, name, description, is_public, specs, created_at) VALUES
('{{t_public}}',  'idle',   NULL, 1, '{"driver_handles_share_servers":"False","secret":"x"}', 2),
('{{t_private}}', 'hidden', NULL, 0, '{"driver_handles_share_servers":"False","secret":"x"}', 3);

-- One share of each is free, one has a backup, one a snapshot.
INSERT INTO shares (id, project_id, user_id, share_type_id, size, display_name, proto, is_public, metadata, zone, backend, path,
	snapshot_id, source_backup_id, status, created_at) VALUES
('{{a_own}}',     '{{p_demo}}', '{{u_demo}}', '{{type}}', 1, 'a_own',     'NFS', 0, '{"k":"v"}', 'nova', 'local', 'a_own',     '{{n_own}}', '', 'available', 3001),
('{{a_others}}',  '{{p_alt}}',  'alt',        '{{type}}', 1, 'a_others',  'NFS', 0, '{"k":"v"}', 'nova', 'local', 'a_others',  '{{n_others}}', '', 'available', 3002),
('{{a_public}}',  '{{p_alt}}',  'alt',        '{{type}}', 1, 'a_public',  'NFS', 1, '{"k":"v"}', 'nova', 'local', 'a_public',  '', '', 'available', 3003),
('{{ab_own}}',    '{{p_demo}}', '{{u_demo}}', '{{type}}', 1, 'ab_own',    'NFS', 0, '{}',        'nova', 'local', 'ab_own',    '', '', 'available', 3004),
('{{ab_others}}', '{{p_alt}}',  'alt',        '{{type}}', 1, 'ab_others', 'NFS', 0, '{}',        'nova', 'local', 'ab_others', '', '', 'available', 3005),
('{{as_own}}',    '{{p_demo}}', '{{u_demo}}', '{{type}}', 1, 'as_own',    'NFS', 0, '{}',        'nova', 'local', 'as_own',    '', '', 'available', 3006),
('{{as_others}}', '{{p_alt}}',  'alt',        '{{type}}', 1, 'as_others', 'NFS', 0, '{}',        'nova', 'local', 'as_others', '', '', 'available', 3007);

INSERT INTO share_backups (id, project_id, user_id, share_id, size, display_name, with_options, zone, host, topic, status, progress,
	ref, created_at) VALUES
('{{b_own}}',    '{{p_demo}}', '{{u_demo}}', '{{ab_own}}',    1, 'b_own',    0, 'nova', 'worker', 'manila-data', 'available', 100, 'data', 3001),
('{{b_others}}', '{{p_alt}}',  'alt',        '{{ab_others}}', 1, 'b_others', 0, 'nova', 'worker', 'manila-data', 'available', 100, 'data', 3002);

INSERT INTO share_snapshots (id, project_id, user_id, share_id, share_size, proto, display_name, metadata, status, ref, created_at) VALUES
('{{n_own}}',    '{{p_demo}}', '{{u_demo}}', '{{as_own}}',    1, 'NFS', 'n_own',    '{}', 'available', 'data', 3001),
('{{n_others}}', '{{p_alt}}',  'alt',        '{{as_others}}', 1, 'NFS', 'n_others', '{}', 'available', 'data', 3002);

INSERT INTO messages VALUES
('{{m_own}}',    '{{p_demo}}', 'SHARE', '{{ab_own}}',    'req-11111111-2222-3333-4444-555555555555', '028', '001', 'it failed', 3001, 4000000000000000),
('{{m_others}}', '{{p_alt}}',  'SHARE', '{{ab_others}}', 'req-11111111-2222-3333-4444-555555555555', '028', '001', 'it failed', 3002, 4000000000000000);
