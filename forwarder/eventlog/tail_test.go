package eventlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTail_LosesAndRepeatsNoLineWhateverHappensToTheFiles(t *testing.T) {
	temp := t.TempDir
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(temp(), "db.log")
		file := NewFile(path, nil, Limits{MaxSize: rapid.Int64Range(1, 200).Draw(t, "size"), MaxRotated: 1000})
		tail := newTail(path)
		defer file.Close()
		defer tail.Close()
		var want, got []string
		readNew := func(*rapid.T) {
			lines, err := tail.Read()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, lines...)
			if !slices.Equal(got, want) {
				t.Fatalf("read   %q\nwritten %q", got, want)
			}
		}
		readNew(t)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(*rapid.T) {
				line := fmt.Sprintf("line %d", len(want))
				fmt.Fprintln(file, line)
				want = append(want, line)
			},
			"read": readNew,
			"remove": func(t *rapid.T) { // a file that has been read
				readNew(t)
				_ = os.Remove(rotatedName(path, rapid.IntRange(0, 3).Draw(t, "which")))
			},
			"truncate": func(t *rapid.T) {
				readNew(t)
				if exists(path) && os.Truncate(path, 0) == nil {
					readNew(t)
				}
			},
			"part": func(t *rapid.T) { // a line without a line end is not read yet
				readNew(t)
				whole := appendTo(t, path, "a part ")
				readNew(t)
				whole += appendTo(t, path, "and the rest\n")
				want = append(want, strings.TrimSuffix(whole, "\n"))
			},
		})
		readNew(t)
	})
}

// appendTo appends to the file as another process does.
func appendTo(t *rapid.T, path, text string) string {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTail_RotationUnderLoadLosesAndRepeatsNoLine(t *testing.T) {
	const writers, each = 4, 1500
	path := filepath.Join(t.TempDir(), "db.log")
	file := NewFile(path, nil, Limits{MaxSize: 2000, MaxRotated: 1000})
	defer file.Close()
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				fmt.Fprintf(file, "%d %d\n", w, i)
			}
		})
	}
	defer writing.Wait()
	tail := newTail(path)
	defer tail.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	next := make([]int, writers)
	count := 0
	err := FollowDir(ctx, filepath.Dir(path), func() error {
		lines, err := tail.Read()
		for _, line := range lines {
			var w, i int
			if _, err := fmt.Sscanf(line, "%d %d", &w, &i); err != nil || next[w] != i {
				return fmt.Errorf("writer %d's next line is %d, but %q was read: %w", w, next[w], line, err)
			}
			next[w]++
			count++
		}
		if count == writers*each {
			cancel()
		}
		return err
	})
	if err != nil || count != writers*each {
		t.Fatalf("read %d of %d lines: %v", count, writers*each, err)
	}
}

func TestFollowDir_FindsTheFirstLineOfADirectoryCreatedLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	path := filepath.Join(dir, "db.log")
	file, tail := NewFile(path, nil, Limits{}), newTail(path)
	defer file.Close()
	defer tail.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var got []string
	calls := 0
	err := FollowDir(ctx, dir, func() error {
		if calls++; calls == 1 {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			fmt.Fprintln(file, "first")
		}
		lines, err := tail.Read()
		if got = append(got, lines...); calls > 1 && len(got) > 0 {
			cancel()
		}
		return err
	})
	if err != nil || !slices.Equal(got, []string{"first"}) {
		t.Errorf("read %q, %v", got, err)
	}
}
