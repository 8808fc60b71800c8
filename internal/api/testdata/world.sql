-- What was there when the exchanges of recorded.jsonl were recorded, as far as they show it. {{name}} is an id of ids.json.

INSERT INTO share_types (id, name, description, is_public, specs, created_at) VALUES
('{{type}}', 'default', NULL, TRUE,
 '{"driver_handles_share_servers":"False","snapshot_support":"True","create_share_from_snapshot_support":"True"}', 1);

INSERT INTO shares (id, project_id, user_id, share_type_id, size, display_name, proto, is_public, metadata, zone, backend, path,
	snapshot_id, source_backup_id, status, created_at) VALUES
('{{s_old}}',    'elsewhere',  '{{u_demo}}', '{{type}}', 3, 's_old',    'NFS',  FALSE, '{}', 'nova', 'local', 's_old',    '', '', 'deleting',  1000),
('{{s_ok}}',     '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_ok',     'NFS',  FALSE, '{}', 'nova', 'local', 's_ok',     '', '', 'available', 2001),
('{{s_ok2}}',    '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_ok2',    'NFS',  FALSE, '{}', 'nova', 'local', 's_ok2',    '', '', 'available', 2002),
('{{s_big}}',    '{{p_demo}}',  '{{u_demo}}', '{{type}}', 3, 's_big',    'NFS',  FALSE, '{}', 'nova', 'local', 's_big',    '', '', 'available', 2003),
('{{s_busy}}',   '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_busy',   'NFS',  FALSE, '{}', 'nova', 'local', 's_busy',   '', '', 'creating',  2004),
('{{s_err}}',    '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_err',    'NFS',  FALSE, '{}', 'nova', 'local', 's_err',    '', '', 'error',     2005),
('{{s_snap}}',   '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_snap',   'NFS',  FALSE, '{}', 'nova', 'local', 's_snap',   '', '', 'available', 2006),
('{{s_cifs}}',   '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_cifs',   'CIFS', FALSE, '{}', 'nova', 'local', 's_cifs',   '', '', 'available', 2007),
('{{s_task}}',   '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_task',   'NFS',  FALSE, '{}', 'nova', 'local', 's_task',   '', '', 'available', 2008),
('{{s_list}}',   '{{p_demo}}',  '{{u_demo}}', '{{type}}', 1, 's_list',   'NFS',  FALSE, '{}', 'nova', 'local', 's_list',   '', '', 'available', 2010),
('{{s_alt}}',    '{{p_alt}}',   'alt',        '{{type}}', 1, 's_alt',    'NFS',  FALSE, '{}', 'nova', 'local', 's_alt',    '', '', 'available', 2011),
('{{s_alt2}}',   '{{p_alt}}',   'alt',        '{{type}}', 1, 's_alt2',   'NFS',  FALSE, '{}', 'nova', 'local', 's_alt2',   '', '', 'available', 2012),
('{{s_altpub}}', '{{p_alt}}',   'alt',        '{{type}}', 1, 's_altpub', 'NFS',  TRUE, '{}', 'nova', 'local', 's_altpub', '', '', 'available', 2013),
('{{s_adm}}',    '{{p_admin}}', 'admin',      '{{type}}', 1, 's_adm',    'NFS',  FALSE, '{}', 'nova', 'local', 's_adm',    '', '', 'available', 2014);

INSERT INTO share_snapshots (id, project_id, user_id, share_id, share_size, proto, display_name, metadata, status, ref, created_at) VALUES
('{{snap}}', '{{p_demo}}', '{{u_demo}}', '{{s_snap}}', 1, 'NFS', 'snap', '{}', 'available', 'data', 3000);

-- Those that were made during the recording; times are seconds, as the recorded database kept them, so that ids settle the order.
INSERT INTO share_backups (id, project_id, user_id, share_id, size, display_name, display_description, backup_type, with_options,
	zone, host, topic, status, progress, ref, created_at, updated_at) VALUES
('{{b_old}}',    '{{p_demo}}',  '{{u_demo}}', '{{s_old}}',    1, NULL,             NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000000000000, 1700000090000000),
('{{b_alt}}',    '{{p_alt}}',   'alt',        '{{s_alt}}',    1, 'alt-b',          NULL,    NULL,    TRUE, 'nova', 'abaca@local', 'manila-share', 'available', 100, 'data', 1700000051000000, 1700000090000000),
('{{b_drv}}',    '{{p_demo}}',  '{{u_demo}}', '{{s_ok}}',     1, 'b-driver',       'first', NULL,    TRUE, 'nova', 'abaca@local', 'manila-share', 'available', 100, 'data', 1700000052000000, 1700000090000000),
('{{b_pub}}',    '{{p_demo}}',  '{{u_demo}}', '{{s_altpub}}', 1, 'demo-on-altpub', NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000053000000, 1700000090000000),
('{{b_big}}',    '{{p_demo}}',  '{{u_demo}}', '{{s_big}}',    3, 'b-big',          NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000053000000, 1700000090000000),
('{{b_gen}}',    '{{p_demo}}',  '{{u_demo}}', '{{s_ok2}}',    1, NULL,             NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000053000000, 1700000090000000),
('{{b_admalt}}', '{{p_admin}}', 'admin',      '{{s_alt2}}',   1, 'adm-on-alt',     NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000053000000, 1700000090000000),
('{{b_adm}}',    '{{p_admin}}', 'admin',      '{{s_adm}}',    1, 'noopts',         NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000054000000, 1700000090000000),
('{{b_adm2}}',   '{{p_admin}}', 'admin',      '{{s_adm}}',    1, 'f',              NULL,    NULL,    FALSE, 'nova', 'worker',      'manila-data',  'available', 100, 'data', 1700000055000000, 1700000090000000),
('{{b_type}}',   '{{p_demo}}',  '{{u_demo}}', '{{s_cifs}}',   1, 'bt',             NULL,    'typeA', TRUE, 'nova', 'abaca@local', 'manila-share', 'available', 100, 'data', 1700000056000000, 1700000090000000);

-- Those that were put in for the lists: from 2020-01-01 10:00:00, an hour apart.
INSERT INTO share_backups (id, project_id, user_id, share_id, size, display_name, display_description, with_options,
	zone, host, topic, status, progress, created_at) VALUES
('{{l0}}', '{{p_demo}}', '{{u_demo}}', '{{s_ok}}',  1, 'alpha',  'one',   FALSE, 'nova', 'seed', 'manila-data', 'available',  0, 1577872800000000),
('{{l1}}', '{{p_demo}}', '{{u_demo}}', '{{s_ok}}',  2, 'beta',   'two',   FALSE, 'nova', 'seed', 'manila-data', 'error',     10, 1577876400000000),
('{{l2}}', '{{p_demo}}', '{{u_demo}}', '{{s_ok2}}', 3, 'Alpha2', 'ONE',   FALSE, 'nova', 'seed', 'manila-data', 'creating',  20, 1577880000000000),
('{{l3}}', '{{p_demo}}', '{{u_demo}}', '{{s_ok2}}', 4, '100%',   'four',  FALSE, 'nova', 'seed', 'manila-data', 'available', 30, 1577883600000000),
('{{l4}}', '{{p_demo}}', '{{u_demo}}', '{{s_big}}', 5, NULL,     NULL,    FALSE, 'nova', 'seed', 'manila-data', 'available', 40, 1577887200000000),
('{{l5}}', '{{p_demo}}', '{{u_demo}}', '{{s_big}}', 6, 'alpha',  '',      FALSE, 'nova', 'seed', 'manila-data', 'deleting',  50, 1577890800000000),
('{{l6}}', '{{p_alt}}',  'alt',        '{{s_alt}}', 7, 'zalt',   'seven', FALSE, 'nova', 'seed', 'manila-data', 'available', 60, 1577894400000000);
