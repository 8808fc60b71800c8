package client

import (
	"context"
	"net/url"
)

// LatestMessage returns what the server last told its users about a share, such as why a backup of it failed, if that
// was created after a time in the API's own form; empty where there is nothing. Times are the server's, so that clocks
// need not agree: after is the created_at or updated_at of something the server answered.
func (c *Client) LatestMessage(ctx context.Context, share, after string) (string, error) {
	messages, err := list[struct {
		Text      string `json:"user_message"`
		CreatedAt string `json:"created_at"`
	}](ctx, c, "messages", "messages", url.Values{
		"resource_id": {share}, "sort_key": {"created_at"}, "sort_dir": {"desc"}, "limit": {"1"},
	})
	if err != nil || len(messages) == 0 || messages[0].CreatedAt < after {
		return "", err
	}
	return messages[0].Text, nil
}
