package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
)

// A Backup is a share backup as the server shows it to this caller.
type Backup struct {
	ID              string
	Name            string // empty also where it has none
	Description     string
	ShareID         string
	Status          string
	Size            int    // GiB
	Progress        int    // percent
	RestoreProgress int    // percent
	CreatedAt       string // UTC, without a zone
	UpdatedAt       string // empty until the first change
	Host            string // empty unless the caller is an administrator

	source json.RawMessage
}

// UnmarshalJSON keeps the object itself beside the fields.
func (b *Backup) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID, Name, Description, Status, Host string
		ShareID                             string `json:"share_id"`
		Size                                int
		Progress                            percent
		RestoreProgress                     percent `json:"restore_progress"`
		CreatedAt                           string  `json:"created_at"`
		UpdatedAt                           string  `json:"updated_at"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*b = Backup{
		ID: wire.ID, Name: wire.Name, Description: wire.Description, ShareID: wire.ShareID, Status: wire.Status,
		Size: wire.Size, Progress: int(wire.Progress), RestoreProgress: int(wire.RestoreProgress),
		CreatedAt: wire.CreatedAt, UpdatedAt: wire.UpdatedAt, Host: wire.Host, source: append(json.RawMessage(nil), data...),
	}
	return nil
}

// MarshalJSON gives back the server's own object.
func (b Backup) MarshalJSON() ([]byte, error) { return b.source, nil }

// A percent is a number that servers send as text, and as null before work has begun.
type percent int

func (p *percent) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || text == nil {
		return err
	}
	n, err := strconv.Atoi(*text)
	*p = percent(n)
	return err
}

// Backups lists backups in detail. The query holds the API's own parameters, such as share_id, status, name~ and limit.
func (c *Client) Backups(ctx context.Context, query url.Values) ([]Backup, error) {
	return list[Backup](ctx, c, "share-backups/detail", "share_backups", query)
}

// Backup returns the backup with an id.
func (c *Client) Backup(ctx context.Context, id string) (*Backup, error) {
	return item[Backup](ctx, c, http.MethodGet, "share-backups/"+url.PathEscape(id), "share_backup", nil)
}

// A NewBackup asks for a backup of a share; only ShareID is needed.
type NewBackup struct {
	ShareID     string            `json:"share_id"`
	Name        *string           `json:"name"`
	Description *string           `json:"description"`
	Options     map[string]string `json:"backup_options"`
}

// CreateBackup starts a backup; it returns as soon as the server has taken the request.
func (c *Client) CreateBackup(ctx context.Context, b NewBackup) (*Backup, error) {
	return item[Backup](ctx, c, http.MethodPost, "share-backups", "share_backup", map[string]any{"share_backup": b})
}

// UpdateBackup changes a backup's "name" and "description"; nil clears one, and what is not in the map stays.
func (c *Client) UpdateBackup(ctx context.Context, id string, changes map[string]*string) (*Backup, error) {
	return item[Backup](ctx, c, http.MethodPut, "share-backups/"+url.PathEscape(id), "share_backup",
		map[string]any{"share_backup": changes})
}

// ResetBackup writes a backup's status by hand, for administrators; it starts no work and stops none.
func (c *Client) ResetBackup(ctx context.Context, id, status string) error {
	return c.do(ctx, http.MethodPost, "share-backups/"+url.PathEscape(id)+"/action",
		map[string]any{"reset_status": map[string]string{"status": status}}, nil)
}

// RestoreBackup starts writing a backup back: into its own share when target is empty, else into the share with that
// id, for which the server must know microversion 2.91. It returns the id of the share that is written to.
func (c *Client) RestoreBackup(ctx context.Context, id, target string) (share string, err error) {
	var value any
	if target != "" {
		if less(c.Version(), "2.91") {
			return "", &ServerError{Status: http.StatusNotFound, Message: "the server cannot restore into another share"}
		}
		value = target
	}
	restore, err := item[struct {
		ShareID string `json:"share_id"`
	}](ctx, c, http.MethodPost, "share-backups/"+url.PathEscape(id)+"/action", "restore", map[string]any{"restore": value})
	if err != nil {
		return "", err
	}
	return restore.ShareID, nil
}

// DeleteBackup starts the deletion of a backup, which is over when the backup is no longer found.
func (c *Client) DeleteBackup(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "share-backups/"+url.PathEscape(id), nil, nil)
}
