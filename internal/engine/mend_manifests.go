package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"

	"abaca"
)

// Kopia keeps many manifests in one content, and reads none of them when one content is damaged. So each finished
// snapshot's manifest has a copy beside the repository, sealed since it tells of a tenant's files:
//
//	<project>/snapshots/<id>     the manifest
//	<project>/manifests.mending  is there while lost manifests are put back, so that a crash does not end that
//	<project>/manifests.lost     says that some perhaps were not, since copies were lost too; nothing is collected while it is there
//
// A copy is written when the manifest is durable, and removed before the manifest is deleted: it never brings back what was deleted.
const (
	copiesDir        = "snapshots"
	mendingManifests = "manifests.mending"
	lostManifests    = "manifests.lost"
)

func manifestCopy(id string) string { return copiesDir + "/" + dirName(abaca.ProjectID(id)) }

// sealing is what a manifest's copy is bound to besides the key: its project and its name.
func sealing(project abaca.ProjectID, name string) []byte {
	return []byte("abaca manifest\x00" + string(project) + "\x00" + name)
}

// copyManifest keeps a finished snapshot's manifest.
func (e *Engine) copyManifest(ctx context.Context, r *repository, m *snapshot.Manifest) error {
	name := manifestCopy(m.Tags[tagID])
	there, err := r.annex.has(ctx, name)
	if there {
		return nil // a finished snapshot does not change
	}
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(m)
	}
	if err == nil {
		err = r.annex.put(ctx, name, seal(r.seal, sealVersion, raw, sealing(r.project, path.Base(name))))
	}
	return wrap("keeping a copy of the manifest", err)
}

// dropCopy removes the copy of a manifest that is about to be deleted.
func (r *repository) dropCopy(ctx context.Context, id string) error {
	return wrap("removing the copy of the manifest", r.annex.remove(ctx, manifestCopy(id)))
}

// refresh makes visible what others have written, and mends what keeps the snapshots from being listed.
func (e *Engine) refresh(ctx context.Context, r *repository) error {
	err := r.kopia.Refresh(ctx)
	if err != nil && ctx.Err() == nil {
		password, perr := e.password(ctx, r)
		if perr == nil {
			_, perr = e.mend(ctx, r, password)
		}
		if err = errors.Join(err, perr); perr == nil {
			err = r.kopia.Refresh(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("refreshing the repository: %w", err)
	}
	mending, err := r.annex.has(ctx, mendingManifests)
	if err != nil {
		return fmt.Errorf("looking whether manifests are mended: %w", err)
	}
	err = listable(ctx, r.kopia)
	if err == nil && !mending || err != nil && ending(ctx, err) != nil {
		return err
	}
	if merr := e.mendManifests(ctx, r); merr != nil {
		return errors.Join(err, merr)
	}
	return listable(ctx, r.kopia)
}

// listable fails if a manifest cannot be read, whichever it is.
func listable(ctx context.Context, r repo.Repository) error {
	_, err := r.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	return wrap("listing the snapshots", err)
}

// mendManifests takes contents of manifests that cannot be read out of the index, and puts back their snapshots from the copies.
func (e *Engine) mendManifests(ctx context.Context, r *repository) error {
	ctx, release, err := r.annex.exclude(ctx, true)
	if err != nil {
		return fmt.Errorf("locking out maintenance: %w", err)
	}
	defer release()
	damaged, err := r.damagedManifests(ctx)
	if err != nil {
		return wrap("looking for damaged manifests", err)
	}
	if mending, err := r.annex.has(ctx, mendingManifests); err != nil || len(damaged) == 0 && !mending {
		return wrap("looking whether manifests are mended", err)
	}
	// From here to the end maintenance would collect what the lost ones refer to.
	if err := r.annex.put(ctx, mendingManifests, nil); err != nil {
		return fmt.Errorf("noting that manifests are mended: %w", err)
	}
	err = repo.DirectWriteSession(ctx, r.kopia, repo.WriteSessionOptions{Purpose: "drop manifests"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		for _, id := range damaged {
			if err := w.ContentManager().DeleteContent(ctx, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("taking damaged manifests out of the index: %w", err)
	}
	back, complete, err := e.putBack(ctx, r)
	if err != nil {
		return fmt.Errorf("putting back manifests: %w", err)
	}
	r.log.Warn("damaged manifests were put back from their copies", "contents", len(damaged), "snapshots", back, "complete", complete)
	if !complete {
		const text = "Manifests of backups were damaged, and not all had copies. What they refer to is kept until this file is removed.\n"
		if err := r.annex.put(ctx, lostManifests, []byte(text)); err != nil {
			return fmt.Errorf("noting lost manifests: %w", err)
		}
	}
	return wrap("noting that manifests are mended", r.annex.remove(ctx, mendingManifests))
}

// damagedManifests returns the contents of manifests that cannot be read.
func (r *repository) damagedManifests(ctx context.Context) (damaged []content.ID, err error) {
	reader := r.kopia.ContentReader()
	all := content.IterateOptions{Range: index.PrefixRange(manifest.ContentPrefix)}
	err = reader.IterateContents(ctx, all, func(i content.Info) error {
		if _, err := reader.GetContent(ctx, i.ContentID); err != nil {
			if end := ending(ctx, err); end != nil {
				return end
			}
			r.log.Error("manifests are damaged", "content", i.ContentID, "pack", i.PackBlobID, "error", err)
			damaged = append(damaged, i.ContentID)
		}
		return nil
	})
	return damaged, err
}

// putBack writes the manifests again that have a copy and are missing. It is complete if there are copies, and all can be read.
func (e *Engine) putBack(ctx context.Context, r *repository) (n int, complete bool, err error) {
	copies, err := r.annex.list(ctx, copiesDir)
	if err != nil {
		return 0, false, err
	}
	complete = len(copies) > 0
	err = repo.WriteSession(ctx, r.kopia, repo.WriteSessionOptions{Purpose: "put back manifests"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		for _, name := range copies {
			m, err := e.readCopy(ctx, r, name)
			if err != nil {
				r.log.Error("the copy of a manifest cannot be used", "name", name, "error", err)
				complete = false
				continue
			}
			done, _, err := finished(ctx, w, m.Tags[tagID])
			if err != nil {
				return err
			}
			if done != nil {
				continue
			}
			if _, err := snapshot.SaveSnapshot(ctx, w, m); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, complete, err
}

func (e *Engine) readCopy(ctx context.Context, r *repository, name string) (*snapshot.Manifest, error) {
	sealed, err := r.annex.read(ctx, copiesDir+"/"+name)
	if err != nil {
		return nil, err
	}
	raw, err := unseal(r.seal, sealVersion, sealed, sealing(r.project, name))
	if err != nil { // before, copies were sealed with the master key
		raw, err = e.keys.unseal(sealed, sealing(r.project, name))
	}
	if err != nil {
		return nil, err
	}
	m := new(snapshot.Manifest)
	return m, json.Unmarshal(raw, m)
}
