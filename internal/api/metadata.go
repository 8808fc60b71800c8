package api

import (
	"net/http"
	"unicode/utf8"

	"abaca"
	"abaca/internal/manager"
)

// The longest key and value of metadata, in characters.
const (
	maxMetadataKey   = 255
	maxMetadataValue = 1023
)

// metadata reads a set of entries; null is none.
func metadata(v any) (map[string]string, error) {
	entries := map[string]string{}
	if v == nil {
		return entries, nil
	}
	o, ok := v.(object)
	if !ok {
		return nil, abaca.Errorf(abaca.Invalid, "metadata must be an object.")
	}
	if len(o) > manager.MaxMetadata {
		return nil, tooMany("metadata", manager.MaxMetadata)
	}
	for key, value := range o {
		text, ok := value.(string)
		switch {
		case !ok:
			return nil, abaca.Errorf(abaca.Invalid, "The metadata of key %q must be a string.", key)
		case key == "" || utf8.RuneCountInString(key) > maxMetadataKey:
			return nil, abaca.Errorf(abaca.Invalid, "A metadata key has 1 to %d characters.", maxMetadataKey)
		case text == "" || utf8.RuneCountInString(text) > maxMetadataValue:
			return nil, abaca.Errorf(abaca.Invalid, "The metadata of key %q must have 1 to %d characters.", key, maxMetadataValue)
		}
		entries[key] = text
	}
	return entries, nil
}

func listMetadata(q *request) (int, any, error) {
	s, err := q.share()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"metadata": s.Metadata}, nil
}

func showMetadata(q *request) (int, any, error) {
	s, err := q.share()
	if err != nil {
		return 0, nil, err
	}
	key := q.pathValue("key")
	value, ok := s.Metadata[key]
	if !ok {
		return 0, nil, abaca.Errorf(abaca.NotFound, "Share %s has no metadata %q.", s.ID, key)
	}
	return http.StatusOK, object{"meta": object{key: value}}, nil
}

func mergeMetadata(q *request) (int, any, error)   { return q.setMetadata(false) }
func replaceMetadata(q *request) (int, any, error) { return q.setMetadata(true) }

func (q *request) setMetadata(replace bool) (int, any, error) {
	body, present, err := q.decode()
	if err != nil {
		return 0, nil, err
	}
	outer, _ := body.(object)
	inner, ok := outer["metadata"].(object)
	if !present || !ok {
		return 0, nil, abaca.Errorf(abaca.Invalid, "The request's body needs an object %q.", "metadata")
	}
	entries, err := metadata(inner)
	if err != nil {
		return 0, nil, err
	}
	if _, err := q.writableShare(); err != nil {
		return 0, nil, err
	}
	merged, err := q.Manager.SetShareMetadata(q.Context(), q.caller, q.shareID(), entries, replace)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"metadata": merged}, nil
}

func deleteMetadata(q *request) (int, any, error) {
	if _, err := q.writableShare(); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, q.Manager.DeleteShareMetadata(q.Context(), q.caller, q.shareID(), q.pathValue("key"))
}
