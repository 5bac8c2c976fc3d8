package lockstate

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// The state of a deleted project is removed automatically, but only if the deletion is certain. A disk may be unmounted, a
// branch without the config checked out, a network be down: what seems to be gone comes back. So the absence must have been
// observed on several days, over a week in which nothing used the project, on the machine where it was last used. Records of what the user has allowed are
// not part of the state. A directory in which nothing was ever recorded is removed by the same rules.
const (
	minPrunableTime = 7 * 24 * time.Hour // between the first observation, and the last use, and the removal
	minObservations = 3                  // of a prunable directory, the one before the removal included
	// observationInterval is the least time between two runs of PruneDirs, and between two observations that count.
	observationInterval = 20 * time.Hour
)

const (
	projectsName     = "projects"
	observationsName = "absent"     // in a state directory: the observations; named so by earlier releases
	lastPruneName    = "last-sweep" // in StateHome: its time is that of the last run of PruneDirs; named so by earlier releases
)

// observations records that a directory was seen to be prunable.
type observations struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count int       `json:"count"`
}

// add counts an observation. A record that is not possible, because the clock has changed, begins again.
func (o *observations) add(now time.Time) {
	switch {
	case o.Count <= 0 || o.First.After(now) || o.Last.After(now) || o.Last.Before(o.First):
		*o = observations{now, now, 1}
	case now.Sub(o.Last) >= observationInterval:
		o.Last = now
		o.Count++
	}
}

// isEnough reports whether the directory may be removed.
func (o *observations) isEnough(now, lastUsed time.Time) bool {
	return o.Count >= minObservations && now.Sub(o.First) >= minPrunableTime && now.Sub(lastUsed) >= minPrunableTime
}

// PruneDirs removes the state directories of projects that do not exist any more, and those that were never used, and calls onRemoved with each. It
// records an observation of those that may be needed again. It does nothing if it has run within observationInterval. Like ScanDirs, it may hang.
func PruneDirs(now time.Time, onRemoved func(ScannedDir)) error {
	home, err := StateHome()
	if err != nil {
		return err
	}
	lastPrune := filepath.Join(home, lastPruneName)
	if info, err := os.Stat(lastPrune); err == nil && !info.ModTime().After(now) && now.Sub(info.ModTime()) < observationInterval {
		return nil
	}
	if err := replaceFile(lastPrune, nil); err != nil {
		return err
	}
	if err := os.Chtimes(lastPrune, now, now); err != nil {
		return err
	}
	dirs, err := ScanDirs()
	for _, dir := range dirs {
		err = errors.Join(err, dir.prune(now, onRemoved))
	}
	return err
}

// prune records an observation of the directory, and removes it if it was observed often enough.
func (s ScannedDir) prune(now time.Time, onRemoved func(ScannedDir)) error {
	if s.Kind == DirUsed || s.Kind == DirIdle {
		if err := os.Remove(s.path(observationsName)); err != nil && !isAbsent(err) {
			return err
		}
		return nil
	}
	if !s.isPrunable() {
		return nil
	}
	var seen observations
	if data, err := readIfRegular(s.path(observationsName)); err != nil {
		return err
	} else if json.Unmarshal(data, &seen) != nil {
		seen = observations{}
	}
	seen.add(now)
	if !seen.isEnough(now, s.LastUsed) {
		return s.recordObservations(seen)
	}
	isRemoved := false
	err := s.removeIf(false, func() bool { // nothing has used it since it was scanned
		isRemoved = now.Sub(lastWritten(s.Path)) >= minPrunableTime && (s.Kind != DirUnused || isUnused(s.Path))
		return isRemoved
	})
	if _, isHeld := errors.AsType[*HeldError](err); isHeld {
		return nil
	}
	if isRemoved && err == nil {
		onRemoved(s)
	}
	return err
}

func (s ScannedDir) recordObservations(seen observations) error {
	data, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	if err := s.replaceFile(observationsName, data); err != nil && !isAbsent(err) {
		return err
	}
	return nil
}

// isPrunable reports whether the directory may be removed if it is observed to stay as it is: nothing was ever recorded in it, or its project does not
// exist any more and was last used on this machine and in this mount namespace. A state of an older version does not say where.
func (s ScannedDir) isPrunable() bool {
	if s.Kind != DirOrphaned {
		return s.Kind == DirUnused
	}
	st, err := s.Read()
	return err == nil && st.HostID != "" && st.HostID == ownHostID()
}
