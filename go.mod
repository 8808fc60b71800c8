module abaca

go 1.26
