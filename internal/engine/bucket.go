package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/s3"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"abaca"
)

// A Bucket is where repositories are instead of a directory: in a server that speaks S3, and honours conditional writes (If-None-Match
// and If-Match), since these alone keep two processes from making two keys.
type Bucket struct {
	Endpoint  string // host[:port]
	Region    string // empty: as the server says
	Name      string
	Prefix    string // what the names of all objects begin with; empty, or ending with a slash
	PlainHTTP bool   // without TLS: everything is encrypted, but who listens sees names, and can take what is put away
	RootCA    []byte // certificates in PEM that the server's is verified by; nil: those of the system

	AccessKeyID, SecretAccessKey, SessionToken string
}

// String names the bucket, without credentials.
func (b Bucket) String() string { return "s3://" + b.Name + "/" + b.Prefix }

// open returns the storage of what lies below a prefix of the bucket.
func (b *Bucket) open(ctx context.Context, prefix string) (blob.Storage, error) {
	return s3.New(ctx, &s3.Options{
		BucketName: b.Name, Prefix: b.Prefix + prefix, Endpoint: b.Endpoint, Region: b.Region, DoNotUseTLS: b.PlainHTTP, RootCA: b.RootCA,
		AccessKeyID: b.AccessKeyID, SecretAccessKey: b.SecretAccessKey, SessionToken: b.SessionToken,
	}, false)
}

// client returns a client for what Kopia's storage cannot do.
func (b *Bucket) client() (*minio.Client, error) {
	if b.Name == "" || b.AccessKeyID == "" || b.SecretAccessKey == "" {
		return nil, errors.New("a bucket needs a name and credentials")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if len(b.RootCA) > 0 {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(b.RootCA) {
			return nil, errors.New("the certificates of the S3 server cannot be read")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	client, err := minio.New(b.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(b.AccessKeyID, b.SecretAccessKey, b.SessionToken), Secure: !b.PlainHTTP, Region: b.Region,
		Transport: transport, MaxRetries: 1, // patience.go tries again
	})
	return client, wrap("making a client of the S3 server", err)
}

// A bucketAnnex keeps everything as objects.
type bucketAnnex struct {
	client *minio.Client
	bucket string
	prefix string // of one repository's objects, ending with a slash
	leases *leases
}

func (a bucketAnnex) read(ctx context.Context, name string) ([]byte, error) {
	content, _, err := a.get(ctx, name)
	return content, err
}

// get returns an object and its tag, which differs for different contents.
func (a bucketAnnex) get(ctx context.Context, name string) (content []byte, tag string, err error) {
	o, err := a.client.GetObject(ctx, a.bucket, a.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, "", missing(err)
	}
	defer o.Close()
	if content, err = io.ReadAll(o); err != nil {
		return nil, "", missing(err)
	}
	about, err := o.Stat()
	return content, about.ETag, missing(err)
}

// missing turns the error for an object that is not there into fs.ErrNotExist, and that for one which is there into fs.ErrExist.
func missing(err error) error {
	switch answer := answerOf(err); {
	case answer.Code == minio.NoSuchKey:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case answer.StatusCode == http.StatusPreconditionFailed, answer.StatusCode == http.StatusConflict:
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	return err
}

func (a bucketAnnex) put(ctx context.Context, name string, content []byte) error {
	_, err := a.write(ctx, name, content, minio.PutObjectOptions{})
	return err
}

func (a bucketAnnex) write(ctx context.Context, name string, content []byte, options minio.PutObjectOptions) (tag string, err error) {
	options.ContentType, options.DisableMultipart, options.SendContentMd5 = "application/octet-stream", true, true
	info, err := a.client.PutObject(ctx, a.bucket, a.prefix+name, bytes.NewReader(content), int64(len(content)), options)
	return info.ETag, missing(err)
}

// create asks twice, since a server that does not honour the condition would let both of two processes succeed.
func (a bucketAnnex) create(ctx context.Context, name string, content []byte) error {
	if _, err := a.writeNew(ctx, name, content); err != nil {
		return err
	}
	if _, err := a.writeNew(ctx, name, content); !errors.Is(err, fs.ErrExist) {
		if err == nil {
			err = fmt.Errorf("the S3 server ignores If-None-Match, so that two processes could make two keys (%w)", abaca.ErrPermanent)
		}
		return err
	}
	return nil
}

func (a bucketAnnex) writeNew(ctx context.Context, name string, content []byte) (tag string, err error) {
	var options minio.PutObjectOptions
	options.SetMatchETagExcept("*")
	return a.write(ctx, name, content, options)
}

func (a bucketAnnex) remove(ctx context.Context, name string) error {
	return ignoreMissing(missing(a.client.RemoveObject(ctx, a.bucket, a.prefix+name, minio.RemoveObjectOptions{})))
}

func (a bucketAnnex) list(ctx context.Context, dir string) (names []string, err error) {
	prefix := a.prefix + dir + "/"
	for o := range a.client.ListObjects(ctx, a.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, o.Err
		}
		names = append(names, strings.TrimPrefix(o.Key, prefix))
	}
	return names, context.Cause(ctx)
}

// A lease in a bucket is an object whose holder writes it anew every leaseBeat. Who sees one unchanged for leaseLife, by the own clock, takes
// it over; the tag of what was seen is the condition of that write, so that one of several does.
const (
	leaseName = "maintenance.lease"
	leaseLife = 90 * time.Second
	leaseBeat = leaseLife / 6
)

// leases remember what leases of others were seen, and since when.
type leases struct {
	mu   sync.Mutex
	seen map[string]seenLease
}

type seenLease struct {
	tag   string
	since time.Time
}

// stale reports whether a lease has been seen as it is for a whole life.
func (l *leases) stale(name, tag string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.seen[name]; s.tag != tag {
		l.seen[name] = seenLease{tag, time.Now()}
		return false
	}
	return time.Since(l.seen[name].since) > leaseLife
}

func (a bucketAnnex) exclude(ctx context.Context, wait bool) (context.Context, func(), error) {
	for {
		tag, err := a.takeLease(ctx)
		if err == nil {
			held, release := a.holdLease(ctx, tag)
			return held, release, nil
		}
		if !wait || !errors.Is(err, errExcluded) {
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// nobody is what stands in a lease that was given back.
const nobody = "nobody"

func (a bucketAnnex) takeLease(ctx context.Context) (tag string, err error) {
	mine := []byte(rand.Text())
	if tag, err = a.writeNew(ctx, leaseName, mine); !errors.Is(err, fs.ErrExist) {
		return tag, err
	}
	there, tag, err := a.get(ctx, leaseName)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errExcluded // some servers refuse a write while another one is under way
	}
	if err != nil {
		return "", err
	}
	if string(there) != nobody && !a.leases.stale(a.prefix, tag) {
		return "", errExcluded
	}
	tag, err = a.replace(ctx, tag, mine)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return "", errExcluded
	}
	return tag, err
}

func (a bucketAnnex) replace(ctx context.Context, tag string, content []byte) (string, error) {
	var options minio.PutObjectOptions
	options.SetMatchETag(tag)
	return a.write(ctx, leaseName, content, options)
}

// holdLease beats until it is released. The context ends when the lease may be somebody else's.
func (a bucketAnnex) holdLease(ctx context.Context, tag string) (context.Context, func()) {
	held, lose := context.WithCancelCause(ctx)
	released, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(leaseBeat)
		defer tick.Stop()
		latest := time.Now()
		for {
			select {
			case <-released:
				stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseBeat)
				_, _ = a.replace(stop, tag, []byte(nobody)) // or it passes by itself
				cancel()
				return
			case <-tick.C:
			}
			began := time.Now()
			beat, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseBeat)
			next, err := a.replace(beat, tag, []byte(rand.Text()))
			cancel()
			switch {
			case err == nil:
				tag, latest = next, began
			case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), time.Since(latest) > leaseLife/2:
				lose(errExcluded)
				return
			}
		}
	}()
	return held, sync.OnceFunc(func() { close(released); <-stopped; lose(nil) })
}
