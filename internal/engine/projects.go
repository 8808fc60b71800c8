package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"

	"abaca"
)

// Projects lists the projects that have a repository, sorted.
func (e *Engine) Projects(ctx context.Context) (projects []abaca.ProjectID, err error) {
	names, err := result(ctx, e.patience, e.placeNames)
	if err != nil {
		return nil, markStorage(fmt.Errorf("listing the repositories: %w", err))
	}
	for _, name := range names {
		project, err := e.projectAt(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a place that has just been made, or was shredded
		}
		if err != nil {
			return nil, fmt.Errorf("finding out whose repository is in %s: %w", name, err)
		}
		projects = append(projects, project)
	}
	slices.Sort(projects)
	return projects, nil
}

// placeNames lists what the places of all projects are called.
func (e *Engine) placeNames(ctx context.Context) (names []string, err error) {
	if e.config.Bucket == nil {
		entries, err := os.ReadDir(e.config.Root)
		for _, entry := range entries {
			if entry.IsDir() {
				names = append(names, entry.Name())
			}
		}
		return names, err
	}
	prefix := e.config.Bucket.Prefix
	for o := range e.client.ListObjects(ctx, e.config.Bucket.Name, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), "/"); ok {
			names = append(names, name)
		}
	}
	return names, context.Cause(ctx)
}

// projectAt returns whose place has this name. One without a key is fs.ErrNotExist.
func (e *Engine) projectAt(ctx context.Context, name string) (abaca.ProjectID, error) {
	annex := e.annexAt(name)
	if there, err := annex.has(ctx, secretFile); err != nil || !there {
		return "", errors.Join(err, fs.ErrNotExist)
	}
	if !strings.HasPrefix(name, hashedName) {
		return projectOf(name)
	}
	id, err := annex.read(ctx, projectFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no %s beside it", projectFile)
	}
	if err == nil && dirName(abaca.ProjectID(id)) != name {
		err = fmt.Errorf("what %s says is not so", projectFile)
	}
	return abaca.ProjectID(id), err
}

// projectOf is the other way of dirName.
func projectOf(name string) (abaca.ProjectID, error) {
	var b strings.Builder
	for rest := name; rest != ""; {
		if rest[0] != '%' {
			b.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		var c byte
		if _, err := fmt.Sscanf(rest[:min(3, len(rest))], "%%%02x", &c); err != nil {
			return "", fmt.Errorf("%q is not the name of a project's directory", name)
		}
		b.WriteByte(c)
		rest = rest[3:]
	}
	if project := abaca.ProjectID(b.String()); dirName(project) == name {
		return project, nil
	}
	return "", fmt.Errorf("%q is not the name of a project's directory", name)
}

// Rewrap has the first of the master keys alone open a project's password, and what else was sealed with a master key follow from
// the password. It changes nothing of what is saved, and may run beside everything. It returns whether there was anything to change.
func (e *Engine) Rewrap(ctx context.Context, project abaca.ProjectID) (changed bool, err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	annex := e.annexOf(project)
	ctx, done, err := annex.exclude(ctx, true) // or a key that is being shredded would come back
	if err != nil {
		return false, fmt.Errorf("locking out maintenance of project %s: %w", project, err)
	}
	defer done()
	r := &repository{project: project, annex: annex, log: e.config.Log.With("project_id", project)}
	wrapped, err := annex.read(ctx, secretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, markStorage(fmt.Errorf("reading the key of project %s: %w", project, err))
	}
	password, err := e.keys.unwrap(project, wrapped)
	if err != nil {
		return false, fmt.Errorf("reading the key of project %s: %w", project, err)
	}
	if r.seal, err = notesCipher(password); err != nil {
		return false, err
	}
	if changed, err = e.resealCopies(ctx, r); err != nil {
		return false, fmt.Errorf("sealing the copies of manifests of project %s: %w", project, err)
	}
	release, err := e.keys.renew()
	if err != nil {
		return false, err
	}
	defer release()
	if e.keys.current(project, wrapped) {
		return changed, nil
	}
	if err := annex.put(ctx, secretFile, e.keys.wrap(project, password)); err != nil {
		return false, markStorage(fmt.Errorf("writing the key of project %s: %w", project, err))
	}
	return true, nil
}

// resealCopies seals those copies of manifests with the project's own key that an earlier version has sealed with the master key.
func (e *Engine) resealCopies(ctx context.Context, r *repository) (changed bool, err error) {
	names, err := r.annex.list(ctx, copiesDir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		sealed, err := r.annex.read(ctx, copiesDir+"/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		if err != nil {
			return changed, err
		}
		if len(sealed) > 0 && sealed[0] == sealVersion {
			continue
		}
		plain, err := e.keys.unseal(sealed, sealing(r.project, name))
		if err != nil {
			r.log.Error("the copy of a manifest cannot be used", "name", name, "error", err)
			continue
		}
		if err := r.annex.put(ctx, copiesDir+"/"+name, seal(r.seal, sealVersion, plain, sealing(r.project, name))); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// Opens reports whether the first of the master keys opens a project's password.
func (e *Engine) Opens(ctx context.Context, project abaca.ProjectID) (bool, error) {
	wrapped, err := e.annexOf(project).read(ctx, secretFile)
	if err != nil {
		return false, markStorage(fmt.Errorf("reading the key of project %s: %w", project, err))
	}
	return e.keys.current(project, wrapped), nil
}

// shreddedFile is what Shred leaves behind. It says that what lies beside it without a key is rubbish, which somebody may have gone on to
// write, and not what has lost its key by accident.
const shreddedFile = "shredded"

// Shred destroys what a project has saved for good: the key first, without which nothing that is left, here or in a copy of the
// blobs, can be read; then everything else. It may be repeated, and what is saved afterwards has a new key. Copies of the wrapped key
// elsewhere are beyond its reach. A Save that is under way fails.
func (e *Engine) Shred(ctx context.Context, project abaca.ProjectID) (err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	if project == "" {
		return errors.New("a repository without a project")
	}
	annex := e.annexOf(project)
	ctx, done, err := annex.exclude(ctx, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nor is its directory there
	}
	if err != nil {
		return fmt.Errorf("locking out maintenance of project %s: %w", project, err)
	}
	defer done()
	if err := annex.put(ctx, shreddedFile, nil); err != nil {
		return markStorage(fmt.Errorf("noting that project %s is shredded: %w", project, err))
	}
	if err := annex.remove(ctx, secretFile); err != nil {
		return markStorage(fmt.Errorf("destroying the key of project %s: %w", project, err))
	}
	e.pool.discard(ctx, project, nil)
	return e.empty(ctx, project)
}

// clearShredded makes room for a new repository where one was shredded.
func (e *Engine) clearShredded(ctx context.Context, project abaca.ProjectID) error {
	annex := e.annexOf(project)
	if shredded, err := annex.has(ctx, shreddedFile); err != nil || !shredded {
		return markStorage(err)
	}
	ctx, done, err := annex.exclude(ctx, true)
	if err != nil {
		return err
	}
	defer done()
	keyed, err := annex.has(ctx, secretFile)
	if err == nil && !keyed {
		err = e.empty(ctx, project)
	}
	if err == nil {
		err = annex.remove(ctx, shreddedFile)
	}
	return markStorage(err)
}

// empty removes everything of a project's but shreddedFile and what keeps others from being at it too.
func (e *Engine) empty(ctx context.Context, project abaca.ProjectID) (err error) {
	if e.config.Bucket != nil {
		err = e.emptyBucket(ctx, dirName(project)+"/")
	}
	if err == nil {
		err = e.patience.run(ctx, func(context.Context) error { return emptyDir(filepath.Join(e.config.Root, dirName(project))) })
	}
	return wrap(fmt.Sprintf("removing what project %s had saved", project), markStorage(err))
}

func isKept(name string) bool {
	return name == shreddedFile || name == exclusionFile || name == leaseName
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if err == nil && !isKept(entry.Name()) {
			err = os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// emptyBucket removes the objects below a prefix of the bucket's.
func (e *Engine) emptyBucket(ctx context.Context, prefix string) error {
	b := e.config.Bucket
	prefix = b.Prefix + prefix
	var names []string
	for o := range e.client.ListObjects(ctx, b.Name, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if !isKept(strings.TrimPrefix(o.Key, prefix)) {
			names = append(names, o.Key)
		}
	}
	for _, name := range names {
		err := e.patience.run(ctx, func(ctx context.Context) error {
			return ignoreMissing(missing(e.client.RemoveObject(ctx, b.Name, name, minio.RemoveObjectOptions{})))
		})
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// errShredded says that a project's key is no longer the one that its repository was opened with.
var errShredded = errors.New("the project's key was destroyed meanwhile")

// keyed fails if the repository's key is not there any more, or another: what would be written with the one of before, nobody could read.
func (e *Engine) keyed(ctx context.Context, r *repository) error {
	password, err := e.password(ctx, r)
	switch {
	case errors.Is(err, errNoRepository), err == nil && password != r.password:
		return errShredded
	case errors.Is(err, errWrongKey):
		r.log.Error("the project's key cannot be read any more; what is open stays of use until it is closed", "error", err)
		return nil
	}
	return err
}

// acquire returns a project's repository, open with the key of now, and a function that gives it back.
func (e *Engine) acquire(ctx context.Context, project abaca.ProjectID, d demand) (*repository, func(), error) {
	for again := false; ; again = true {
		r, release, err := e.pool.acquire(ctx, project, d)
		if err != nil {
			return nil, nil, err
		}
		if err = e.keyed(ctx, r); err == nil {
			return r, release, nil
		}
		if errors.Is(err, errShredded) {
			e.pool.discard(ctx, project, r)
		}
		release()
		if again || !errors.Is(err, errShredded) {
			return nil, nil, err
		}
	}
}
