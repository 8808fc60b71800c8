package api

// A Route is what a request is told apart by.
type Route struct{ Method, Path, Action string }

// Routes lists every route, for tests that have to know them all.
func Routes() []Route {
	var list []Route
	for _, r := range table {
		list = append(list, Route{r.method, r.path, r.action})
	}
	return list
}
