package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/kopia/kopia/repo/blob"
)

// Kopia opens a repository through a registry of storage types, by name and from a file. abaca registers one type
// that takes the storage from the context instead, so that a storage can be any Go value.
type storageKey struct{}

// storageType and storageOptions are what stands in the connection file.
const storageType = "abaca"

type storageOptions struct{}

func withStorage(ctx context.Context, st blob.Storage) context.Context {
	return context.WithValue(ctx, storageKey{}, st)
}

func storageFromContext(ctx context.Context, _ *storageOptions, _ bool) (blob.Storage, error) {
	st, ok := ctx.Value(storageKey{}).(blob.Storage)
	if !ok {
		return nil, errors.New("abaca's repositories are opened by abaca; connect to their storage as a filesystem instead")
	}
	return st, nil
}

// registerWithKopia tells Kopia of this package's storage type and its faster codec, once per process, because
// Kopia's registries are plain maps.
var registerWithKopia = sync.OnceFunc(func() {
	blob.AddSupportedStorage(storageType, storageOptions{}, storageFromContext)
	registerCodec()
})
