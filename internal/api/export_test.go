package api

// Routes lists the method and path of every route, for tests that have to know them all.
func Routes() [][2]string {
	var list [][2]string
	for _, r := range table {
		list = append(list, [2]string{r.method, r.path})
	}
	return list
}
