package lockstate

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// State of a project that does not exist any more is removed by itself, but only if that is certain. A disk may be unmounted, a
// branch without the config checked out, a network be down: what seems to be gone comes back. So the absence must have been
// observed on several days, over a week in which nothing used the project, on the machine where it was last used. Records of what the user has allowed are
// not part of the state.
const (
	minAbsence      = 7 * 24 * time.Hour // between the first observation, and the last use, and the removal
	minObservations = 3                  // of the absence, the one before the removal included
	// observationInterval is the least time between two sweeps, and between two observations that count.
	observationInterval = 20 * time.Hour
)

const (
	projectsName  = "projects"
	absenceName   = "absent"     // in a state directory: the observations
	lastSweepName = "last-sweep" // in StateHome: its time is that of the last sweep
)

// absence records that a project was seen to be absent.
type absence struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count int       `json:"count"`
}

// observe counts an observation. A record that is not possible, because the clock has changed, begins again.
func (a *absence) observe(now time.Time) {
	switch {
	case a.Count <= 0 || a.First.After(now) || a.Last.After(now) || a.Last.Before(a.First):
		*a = absence{now, now, 1}
	case now.Sub(a.Last) >= observationInterval:
		a.Last = now
		a.Count++
	}
}

// isConfirmed reports whether the project is gone for good.
func (a *absence) isConfirmed(now, lastUsed time.Time) bool {
	return a.Count >= minObservations && now.Sub(a.First) >= minAbsence && now.Sub(lastUsed) >= minAbsence
}

// SweepVanished removes the state directories of projects that have vanished, calls onRemoved with the config of each, and records the absence of
// those of which that is not certain yet. It does nothing if a sweep was made within observationInterval. Like ScanDirs, it may hang.
func SweepVanished(now time.Time, onRemoved func(config string)) error {
	home, err := StateHome()
	if err != nil {
		return err
	}
	swept := filepath.Join(home, lastSweepName)
	if info, err := os.Stat(swept); err == nil && !info.ModTime().After(now) && now.Sub(info.ModTime()) < observationInterval {
		return nil
	}
	if err := replaceFile(swept, nil); err != nil {
		return err
	}
	if err := os.Chtimes(swept, now, now); err != nil {
		return err
	}
	dirs, err := ScanDirs()
	for _, dir := range dirs {
		err = errors.Join(err, dir.sweep(now, onRemoved))
	}
	return err
}

// sweep records an observation of the directory, and removes it if the project is gone for good.
func (s ScannedDir) sweep(now time.Time, onRemoved func(config string)) error {
	if s.Kind == DirUsed || s.Kind == DirIdle {
		if err := os.Remove(s.path(absenceName)); err != nil && !isAbsent(err) {
			return err
		}
		return nil
	}
	if s.Kind != DirVanished || !s.wasLastUsedHere() {
		return nil
	}
	var record absence
	if data, err := readIfRegular(s.path(absenceName)); err != nil {
		return err
	} else if json.Unmarshal(data, &record) != nil {
		record = absence{}
	}
	record.observe(now)
	if !record.isConfirmed(now, s.LastUsed) {
		data, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if err := s.replaceFile(absenceName, data); err != nil && !isAbsent(err) {
			return err
		}
		return nil
	}
	isRemoved := false
	err := s.removeIf(false, func() bool { // nothing has used it since it was scanned
		isRemoved = now.Sub(lastWritten(s.Path)) >= minAbsence
		return isRemoved
	})
	if _, isHeld := errors.AsType[*HeldError](err); isHeld {
		return nil
	}
	if isRemoved && err == nil {
		onRemoved(s.Config)
	}
	return err
}

// wasLastUsedHere reports whether the project was last used on this machine and in this mount namespace. A state of an older version does not say.
func (s ScannedDir) wasLastUsedHere() bool {
	st, err := s.Read()
	return err == nil && st.HostID != "" && st.HostID == ownHostID()
}
