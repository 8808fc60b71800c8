package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// A Share is a share as the server shows it to this caller.
type Share struct {
	ID          string
	Name        string // empty also where it has none
	Description string
	Status      string
	Size        int // GiB
	Proto       string
	Type        string // the share type's name
	Project     string
	CreatedAt   string
	Host        string // empty unless the caller is an administrator

	source json.RawMessage
}

// UnmarshalJSON keeps the object itself beside the fields.
func (s *Share) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID, Name, Description, Status, Host string
		Size                                int
		Proto                               string `json:"share_proto"`
		Type                                string `json:"share_type_name"`
		Project                             string `json:"project_id"`
		CreatedAt                           string `json:"created_at"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*s = Share{
		ID: wire.ID, Name: wire.Name, Description: wire.Description, Status: wire.Status, Size: wire.Size,
		Proto: wire.Proto, Type: wire.Type, Project: wire.Project, CreatedAt: wire.CreatedAt, Host: wire.Host,
		source: append(json.RawMessage(nil), data...),
	}
	return nil
}

// MarshalJSON gives back the server's own object.
func (s Share) MarshalJSON() ([]byte, error) { return s.source, nil }

// Shares lists shares in detail. The query holds the API's own parameters, such as status, name~ and limit.
func (c *Client) Shares(ctx context.Context, query url.Values) ([]Share, error) {
	return list[Share](ctx, c, "shares/detail", "shares", query)
}

// Share returns the share with an id.
func (c *Client) Share(ctx context.Context, id string) (*Share, error) {
	return item[Share](ctx, c, http.MethodGet, "shares/"+url.PathEscape(id), "share", nil)
}

// ExportLocations returns the paths at which a share's files are reached, such as "host:/srv/shares/x", best first.
func (c *Client) ExportLocations(ctx context.Context, share string) ([]string, error) {
	locations, err := list[struct{ Path string }](ctx, c, "shares/"+url.PathEscape(share)+"/export_locations", "export_locations", nil)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(locations))
	for i, l := range locations {
		paths[i] = l.Path
	}
	return paths, nil
}

// A NewShare asks for an empty share; Proto and Size are needed.
type NewShare struct {
	Proto       string            `json:"share_proto"`
	Size        int               `json:"size"` // GiB
	Name        *string           `json:"name"`
	Description *string           `json:"description"`
	Type        *string           `json:"share_type"` // name or id; the server's default where nil
	Zone        *string           `json:"availability_zone"`
	Public      bool              `json:"is_public"`
	Metadata    map[string]string `json:"metadata"`
}

// CreateShare starts the creation of a share.
func (c *Client) CreateShare(ctx context.Context, s NewShare) (*Share, error) {
	if s.Metadata == nil {
		s.Metadata = map[string]string{} // Manila takes no null here
	}
	return item[Share](ctx, c, http.MethodPost, "shares", "share", map[string]any{"share": s})
}

// An AdoptedShare makes a share of a directory that exists; Host, Proto and Path are needed.
type AdoptedShare struct {
	Host        string  `json:"service_host"` // host@backend#pool
	Proto       string  `json:"protocol"`
	Path        string  `json:"export_path"`
	Name        *string `json:"name"`
	Description *string `json:"description"`
	Type        *string `json:"share_type"`
	Public      bool    `json:"is_public"`
}

// ManageShare adopts a directory as a share, for administrators.
func (c *Client) ManageShare(ctx context.Context, s AdoptedShare) (*Share, error) {
	return item[Share](ctx, c, http.MethodPost, "shares/manage", "share", map[string]any{"share": s})
}

// DeleteShare starts the deletion of a share, which is over when the share is no longer found.
func (c *Client) DeleteShare(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "shares/"+url.PathEscape(id), nil, nil)
}
