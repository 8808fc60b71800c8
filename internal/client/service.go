package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// A Service is a worker (binary manila-data) or a back end (manila-share), as administrators see it.
type Service struct {
	ID            int
	Binary, Host  string // which together name it
	Zone          string
	Status, State string // enabled or disabled; up or down
	Reason        string // why it is disabled; empty where nobody said
	UpdatedAt     string // its last sign of life

	source json.RawMessage
}

// UnmarshalJSON keeps the object itself beside the fields.
func (s *Service) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID                                int
		Binary, Host, Zone, Status, State string
		Reason                            string `json:"disabled_reason"`
		UpdatedAt                         string `json:"updated_at"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*s = Service{
		ID: wire.ID, Binary: wire.Binary, Host: wire.Host, Zone: wire.Zone, Status: wire.Status, State: wire.State,
		Reason: wire.Reason, UpdatedAt: wire.UpdatedAt, source: append(json.RawMessage(nil), data...),
	}
	return nil
}

// MarshalJSON gives back the server's own object.
func (s Service) MarshalJSON() ([]byte, error) { return s.source, nil }

// Services lists services, for administrators. The query holds the API's own parameters: host, binary, zone, state and status.
func (c *Client) Services(ctx context.Context, query url.Values) ([]Service, error) {
	return list[Service](ctx, c, "services", "services", query)
}

// EnableService has a service take new work again.
func (c *Client) EnableService(ctx context.Context, binary, host string) (*Service, error) {
	return c.switchService(ctx, "enable", map[string]any{"binary": binary, "host": host})
}

// DisableService has a service end what is under way and take nothing new; the reason, which may be empty, is shown in lists.
func (c *Client) DisableService(ctx context.Context, binary, host, reason string) (*Service, error) {
	body := map[string]any{"binary": binary, "host": host}
	if reason != "" { // which servers before 2.83 do not take
		body["disabled_reason"] = reason
	}
	return c.switchService(ctx, "disable", body)
}

func (c *Client) switchService(ctx context.Context, action string, body map[string]any) (*Service, error) {
	s := new(Service)
	if err := c.do(ctx, http.MethodPut, "services/"+action, body, s); err != nil {
		return nil, err
	}
	return s, nil
}
