package api

import (
	"net/http"
	"time"

	"abaca"
	"abaca/internal/db"
)

func (q *request) messageView(m abaca.Message) object {
	return object{
		"id": m.ID, "project_id": m.Project, "action_id": m.Action, "detail_id": m.Detail, "message_level": "ERROR",
		"created_at": timestamp(m.CreatedAt), "expires_at": timestamp(m.ExpiresAt), "request_id": optional(m.RequestID),
		"resource_type": m.ResourceType, "resource_id": m.ResourceID, "user_message": m.Text, "links": q.links("messages", m.ID),
	}
}

func listMessages(q *request) (int, any, error) {
	p, err := q.page()
	if err != nil {
		return 0, nil, err
	}
	f := db.MessageFilter{
		Project: q.caller.Scope(), ResourceID: q.param("resource_id"), ResourceType: q.param("resource_type"),
		Action: q.param("action_id"), Detail: q.param("detail_id"), Request: q.param("request_id"),
	}
	if f.Since, err = q.when("created_since"); err != nil {
		return 0, nil, err
	}
	if f.Before, err = q.when("created_before"); err != nil {
		return 0, nil, err
	}
	list := []abaca.Message{}
	if level, ok := q.query("message_level"); !ok || level == "ERROR" {
		if list, err = q.DB.Messages(q.Context(), f, p); err != nil {
			return 0, nil, err
		}
	}
	views := make([]object, len(list))
	for i, m := range list {
		views[i] = q.messageView(m)
	}
	body := object{"messages": views}
	if len(list) > 0 {
		if links := q.next("messages", p, len(list), list[len(list)-1].ID); links != nil {
			body["messages_links"] = links
		}
	}
	return http.StatusOK, body, nil
}

// when reads a date, or a date and time, from a parameter; zero where it is not given.
func (q *request) when(key string) (time.Time, error) {
	v, ok := q.query(key)
	if !ok || v == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, nil
		}
	}
	return time.Time{}, abaca.Errorf(abaca.Invalid, "The date %q of %s is not written as in 2006-01-02T15:04:05.", v, key)
}

func showMessage(q *request) (int, any, error) {
	m, err := q.message()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"message": q.messageView(m)}, nil
}

func deleteMessage(q *request) (int, any, error) {
	if _, err := q.message(); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, q.Manager.DeleteMessage(q.Context(), q.caller, q.pathValue("id"))
}
